"""Where a search's time went, and what it did not spend: seconds by stage, trials by origin and outcome, epochs.

Reads records alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nas.describe import origin_words
from nas.outcome import Outcome
from nas.record import TRAINING, TrialRecord
from nas.report.calibration import was_trained
from nas.wording import listing, percent, plural

# What stages are for; one that is not here is told by its name.
PARTS = {
    **dict.fromkeys(TRAINING, "training"),
    **dict.fromkeys(("prune", "sparsify", "finetune", "teacher"), "pruning and fine-tuning"),
    **dict.fromkeys(("share", "quantise"), "quantising"),
    **dict.fromkeys(("measure", "startup", "compare"), "measuring time"),
    "export": "exporting",
    "score": "scoring",
}
REST = "choosing designs and the rest"
# Parts below this share of the time are told together.
LEAST_SHARE = 0.02
SMALL = "smaller parts"
# What a trial that broke a limit before it was trained says; a plain loop would have trained it.
CONSTRAINT = "constraint"


@dataclass(frozen=True)
class OriginRow:
    """The trials of one origin.

    Args:
        words: Where their designs came from.
        outcomes: How many ended in which way.
        seconds: What they took together.
    """

    words: str
    outcomes: Counter[Outcome]
    seconds: float

    @property
    def trials(self) -> int:
        return self.outcomes.total()


@dataclass(frozen=True)
class Savings:
    """What was spent, and what was not.

    Args:
        seconds: Of all trials together.
        parts: What they went into, the most first: words and seconds.
        rows: The trials by origin, the most frequent first.
        outcomes: The outcomes that occur, in the order of ``Outcome``.
        designs: How many designs a search would have trained that trains every one: measured, stopped in their
            training, screened out, or kept from training by a limit; each once.
        epochs: Epochs of float training that were carried out. Decay branches, which rungs need, count too.
        full_epochs: Epochs that training each of these designs in full would have taken.
    """

    seconds: float
    parts: tuple[tuple[str, float], ...]
    rows: tuple[OriginRow, ...]
    outcomes: tuple[Outcome, ...]
    designs: int
    epochs: float
    full_epochs: int

    @property
    def parts_words(self) -> str:
        """``training 61 %, measuring time 22 %, scoring 9 %``; empty where nothing took any time."""
        if self.seconds <= 0:
            return ""
        large = [(words, spent) for words, spent in self.parts if spent >= LEAST_SHARE * self.seconds]
        small = sum(spent for _, spent in self.parts) - sum(spent for _, spent in large)
        shares = [*large, *([(SMALL, small)] if small >= 0.005 * self.seconds else [])]
        return ", ".join(f"{words} {percent(spent / self.seconds, 0)} %" for words, spent in shares)

    @property
    def epochs_words(self) -> str:
        """``312 epochs were trained, 13 % of the 2,400 that training each of 120 designs in full would have taken``."""
        if not self.full_epochs:
            return ""
        share = percent(self.epochs / self.full_epochs, 0)
        full = f"training each of {plural(self.designs, 'design')} in full would have taken"
        return f"{_number(self.epochs)} epochs were trained, {share} % of the {self.full_epochs:,} that {full}"

    @property
    def outcome_words(self) -> str:
        """``40 measured, 12 stopped and 30 screened``; empty where there are no trials."""
        counts: Counter[Outcome] = Counter()
        for row in self.rows:
            counts += row.outcomes
        return listing([f"{counts[outcome]:,} {outcome}" for outcome in self.outcomes])


def savings(records: Sequence[TrialRecord], epochs: int) -> Savings:
    """What a study's trials spent and saved.

    Args:
        records: All of them.
        epochs: Of a whole training, as the recipe's budget has it.
    """
    parts = _parts(records)
    occurring = {record.outcome for record in records}
    trains = any(was_trained(record) for record in records)  # else the weights came with the network
    designs = {record.design.digest for record in records if trains and _worth_training(record)}
    return Savings(
        sum(parts.values()),
        tuple(sorted(parts.items(), key=lambda part: (-part[1], part[0]))),
        tuple(_rows(records)),
        tuple(outcome for outcome in Outcome if outcome in occurring),
        len(designs),
        sum(trained_epochs(record, records, epochs) for record in records),
        epochs * len(designs),
    )


def _parts(records: Iterable[TrialRecord]) -> dict[str, float]:
    """Seconds by what they were for; what no stage accounts for is the search's own."""
    parts: dict[str, float] = {}
    for record in records:
        rest = max(0.0, record.seconds - sum(stage.seconds for stage in record.stages))
        for words, spent in [(PARTS.get(s.stage, s.stage), s.seconds) for s in record.stages] + [(REST, rest)]:
            parts[words] = parts.get(words, 0.0) + spent
    return {words: spent for words, spent in parts.items() if spent > 0}


def _rows(records: Iterable[TrialRecord]) -> list[OriginRow]:
    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        groups.setdefault(record.origin, []).append(record)
    rows = [
        OriginRow(origin_words(origin), Counter(r.outcome for r in group), sum(r.seconds for r in group))
        for origin, group in groups.items()
    ]
    return sorted(rows, key=lambda row: -row.trials)


def _worth_training(record: TrialRecord) -> bool:
    """Whether a search that trains every design would have trained this one."""
    if record.outcome is Outcome.INFEASIBLE:
        return record.reason is not None and record.reason.kind == CONSTRAINT
    if record.outcome is Outcome.STOPPED:
        return record.epochs != 0  # else it only waits, as others are worth more
    return record.outcome in (Outcome.MEASURED, Outcome.SCREENED)


def trained_epochs(record: TrialRecord, records: Sequence[TrialRecord], epochs: int) -> float:
    """For how many epochs a trial's float network was trained now, what came from the cache not counted.

    As its stages say, which know of trunks and decay branches; where they do not, up to where it was stopped, or to
    the end, from where the trial that it goes on from had come.

    Args:
        record: The trial.
        records: All trials, among them the one that it goes on from.
        epochs: Of a whole training.
    """
    done = [stage for stage in record.stages if stage.stage in TRAINING and not stage.cached]
    if not done:
        return 0.0
    if all("epochs" in stage.detail for stage in done):
        return float(sum(stage.detail["epochs"] for stage in done))
    before = 0.0
    if record.origin == "promotion" and record.parent is not None:
        before = next((other.epochs or 0.0 for other in records if other.number == record.parent), 0)
    return float(max(0, (epochs if record.epochs is None else record.epochs) - before))


def _number(value: float) -> str:
    """A number of epochs, with a decimal only where it has one."""
    return f"{value:,.1f}".removesuffix(".0")
