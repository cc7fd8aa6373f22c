"""What was not possible in a study, and why: designs that failed, that fit no network, that break a limit.

Trials that ended for one reason say so in messages that differ in numbers alone ("reaches past its feature map of 2",
"… of 4"); these are one row. What the search gave up of its own accord, screened out or stopped, is not here, and
neither are duplicates.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from nas.compression import split_name
from nas.design import Value
from nas.objectives import Constraint
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.report.effect import value_words
from nas.study import Study, counted
from nas.wording import choice_words, constraint_words, listing, percent, plural

NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?")
GAP = "…"
LIMIT = "limit"  # the kind of measured trials that break a constraint
# A value that all trials of a row have is worth telling where at most this share of all trials has it.
RARE_SHARE, FEWEST_SHARING, MOST_SHARED = 0.5, 3, 2
LONGEST_PATTERN = 300

# What to do, by the kind of a reason (see ``nas.evaluate``).
ADVICE = {
    "shape": "Such designs do not fit the images and cost no training. To have fewer of them, take stages, strides, "
    "pooling or large kernels out of the space, or use larger images.",
    "constraint": "They break a limit before anything is trained, so they cost next to nothing. Relax the constraint "
    "if what is left is too little.",
    "diverged": "Lower training.learning_rate in the recipe, or train in float32.",
    "unsupported": "'nas doctor' shows what this machine and its packages can do; take the choice or target out, or "
    "install what is missing.",
    "measuring": "Not the design's fault: free the machine, look at 'nas doctor', and run the same search again.",
    "memory": "Not enough memory: run fewer workers, smaller batches, or take the largest widths out of the space.",
    "disk": "Free space on the disk, or lower cache_limit_mb in the recipe; then run the same search again.",
    "worker": "The process that evaluated it died. A crash (SIGSEGV, SIGABRT) is the design's or a library's; SIGKILL "
    "mostly means that memory ran out: run fewer workers, or take the largest widths out of the space.",
    "time": "It took longer than workers.minutes in the recipe allows: raise that, or take what is dear out.",
    "refused": "The message says which rule was broken and how to mend it.",
    "error": "An error that nothing foresaw, maybe in the runtime or here: its traceback lies in the study's folder "
    "'failures'. If it comes back with other designs, report it.",
    LIMIT: "They stay in the list, outside the front. Relax the constraint, or let the space offer cheaper designs.",
}
OTHER_ADVICE = "The message says what is known; a traceback, where there is one, lies in the folder 'failures'."


@dataclass(frozen=True)
class NotPossible:
    """Trials that came to nothing in one way.

    Args:
        outcome: ``failed`` or ``infeasible``; ``measured`` where a constraint is broken.
        kind: The reason's kind, such as ``shape``; ``limit`` where a constraint is broken.
        pattern: What their messages have in common, with … for what differs.
        count: How many there are.
        trial: The first of them.
        message: Its whole message.
        advice: What to do about it.
        transient: Whether another attempt might succeed.
        shared: Values that all of them have and few other trials, such as ``stem stride 2``; at most two.
    """

    outcome: str
    kind: str
    pattern: str
    count: int
    trial: int
    message: str
    advice: str
    transient: bool = False
    shared: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """``12 trials infeasible (shape): …``."""
        shared = f"; all have {listing(self.shared)}" if self.shared else ""
        return f"{plural(self.count, 'trial')} {self.outcome} ({self.kind}): {self.pattern}{shared}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "shared": list(self.shared), "words": self.words}


def not_possible(study: Study) -> list[NotPossible]:
    """Everything that came to nothing, the most frequent first."""
    groups: dict[tuple[str, str, str], list[TrialRecord]] = {}
    for record in study.records:
        if record.reason is not None and record.outcome in (Outcome.INFEASIBLE, Outcome.FAILED):
            key = str(record.outcome), record.reason.kind, NUMBER.sub(GAP, _one_line(record.reason.message))
            groups.setdefault(key, []).append(record)
    frequent = _value_counts(counted(study.records))
    found = [_row(group, len(study.counted), frequent) for group in groups.values()]
    for constraint in study.recipe.parsed_constraints:
        broken = [r for r in study.measured if constraint.violation(r.value(constraint.quantity.key)) > 0]
        if broken:
            found.append(_broken(constraint, broken))
    return sorted(found, key=lambda row: (-row.count, row.trial))


def not_possible_summary(study: Study) -> str:
    """How much of the search came to nothing, in a sentence; empty where nothing did."""
    outcomes = Counter(record.outcome for record in study.records)
    broken = len(study.measured) - sum(r.feasible(study.recipe.parsed_constraints) for r in study.measured)
    parts = [
        f"{number:,} {words}"
        for number, words in (
            (outcomes[Outcome.INFEASIBLE], "infeasible"),
            (outcomes[Outcome.FAILED], "failed"),
            (broken, "measured, but outside a limit"),
        )
        if number
    ]
    return f"Of {plural(len(study.records), 'trial')}: {listing(parts)}." if parts else ""


def _row(group: Sequence[TrialRecord], trials: int, frequent: Counter[tuple[str, Value]]) -> NotPossible:
    first = group[0]
    assert first.reason is not None  # only such are grouped
    messages = [record.reason.message for record in group if record.reason is not None]
    kind = first.reason.kind
    return NotPossible(
        str(first.outcome),
        kind,
        _pattern(messages),
        len(group),
        first.number,
        _one_line(first.reason.message),
        ADVICE.get(kind, OTHER_ADVICE),
        any(record.reason.transient for record in group if record.reason is not None),
        _shared(group, trials, frequent),
    )


def _broken(constraint: Constraint, records: Sequence[TrialRecord]) -> NotPossible:
    """The measured trials that break a constraint, with how far."""
    missed = {record.number: constraint.violation(record.value(constraint.quantity.key)) for record in records}
    nearest = min(missed, key=lambda number: (missed[number], number))
    pattern = f"{constraint_words(constraint)}: missed by {percent(median(missed.values()), 0)} % in the median"
    message = f"nearest to it, misses it by {percent(missed[nearest], 1)} %"
    return NotPossible(str(Outcome.MEASURED), LIMIT, pattern, len(records), nearest, message, ADVICE[LIMIT])


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _pattern(messages: Sequence[str]) -> str:
    """What messages that differ in numbers alone have in common: a number where all agree, … where not."""
    lines = [_one_line(message) for message in messages]
    numbers = iter(list(zip(*(NUMBER.findall(line) for line in lines), strict=True)))

    def common(_: re.Match[str]) -> str:
        found = next(numbers)
        return found[0] if len(set(found)) == 1 else GAP

    text = NUMBER.sub(common, lines[0])
    return text if len(text) <= LONGEST_PATTERN else text[: LONGEST_PATTERN - 1] + GAP


def _value_counts(records: Sequence[TrialRecord]) -> Counter[tuple[str, Value]]:
    """How many trials have each value of each choice."""
    return Counter(item for record in records for item in _values(record))


def _values(record: TrialRecord) -> list[tuple[str, Value]]:
    return [*record.design.architecture.items(), *record.design.compression.items()]


def _shared(group: Sequence[TrialRecord], trials: int, frequent: Counter[tuple[str, Value]]) -> tuple[str, ...]:
    """The rarest values that all trials of a group have, in words."""
    if len(group) < FEWEST_SHARING:
        return ()
    own = _value_counts(group)
    common = [item for item, count in own.items() if count == len(group) and frequent[item] <= RARE_SHARE * trials]
    rarest = sorted(common, key=lambda item: (frequent[item], item[0]))[:MOST_SHARED]
    return tuple(f"{choice_words(name)} {value_words(split_name(name)[1], value)}" for name, value in rarest)
