"""What a search foresaw and what it saved, in words: lines for the terminal, rows and sentences for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nas.report.agreement import signed
from nas.report.calibration import (
    FEWEST,
    WANTED_PAIRS,
    Calibration,
    InheritedRanking,
    Screening,
    calibrations,
    inherited_ranking,
    screening,
)
from nas.report.savings import savings
from nas.study import Study
from nas.wording import listing, percent, plain_name, plural, significant

NONE = "–"
# Named one by one; of more spared trials the number is told.
MOST_NAMED = 8


@dataclass(frozen=True)
class ForesightRow:
    """One line of the page's table.

    Args:
        what: The objective, with its target.
        trials: Which trials, and how many.
        inside: How many lie in their intervals, with the share and its 95 % interval.
        error: The median error.
        tau: Kendall's τ.
    """

    what: str
    trials: str
    inside: str
    error: str
    tau: str


@dataclass(frozen=True)
class Foresight:
    """How well a study's search foresaw, as far as it did.

    Args:
        calibrations: One for each objective that was foreseen.
        screening: What screening did.
        ranking: How a supernet ranks.
    """

    calibrations: tuple[Calibration, ...]
    screening: Screening | None
    ranking: InheritedRanking | None

    @classmethod
    def of(cls, study: Study) -> Foresight:
        """What the records of a study tell."""
        recipe = study.recipe
        objectives, constraints = recipe.parsed_objectives, recipe.parsed_constraints
        return cls(
            tuple(calibrations(study.as_told, objectives)),
            screening(study.as_told, objectives, constraints),
            inherited_ranking(study.as_told),
        )

    def __bool__(self) -> bool:
        """Whether anything was foreseen."""
        return bool(self.calibrations) or self.screening is not None or self.ranking is not None

    @property
    def rows(self) -> list[ForesightRow]:
        """For each objective all trials, and the spared ones where there are any."""
        rows = []
        for calibration in self.calibrations:
            rows.append(_row(self._name(calibration), "all", calibration))
            if calibration.spared.checks:
                rows.append(_row("", "spared", calibration.spared))
        return rows

    @property
    def sentences(self) -> list[str]:
        """What the numbers mean, for the page: of the intervals, of screening, of a supernet's order."""
        found = [f"{self._name(calibration)}: {_verdict(calibration)}" for calibration in self.calibrations]
        if self.screening is not None:
            found += [_screened_words(self.screening), _lost_words(self.screening)]
        if self.ranking is not None:
            found.append(rank_line(self.ranking))
        return [f"{words[0].upper()}{words[1:]}." for words in found if words]

    @property
    def lines(self) -> Iterator[str]:
        """The same for the terminal, a line each."""
        for calibration in self.calibrations:
            yield f"Foreseen: {self._name(calibration)} of {_calibration_words(calibration)}."
        if self.screening is not None:
            said = [_screened_words(self.screening), _lost_words(self.screening)]
            yield f"Screening: {'; '.join(words for words in said if words)}."
        if self.ranking is not None:
            yield f"Supernet: {rank_line(self.ranking)}."

    def _name(self, calibration: Calibration) -> str:
        """What was foreseen, with its target where several have the same name."""
        name = plain_name(calibration.objective.key)
        alike = [other for other in self.calibrations if other.objective.name == calibration.objective.name]
        return f"{name} on {calibration.objective.target}" if len(alike) > 1 else name


def search_lines(study: Study) -> list[str]:
    """What ``nas report`` says of a search: how well it foresaw, where the time went, what was not trained."""
    spent = savings(study.as_told, study.recipe.budget.epochs)
    lines = list(Foresight.of(study).lines)
    if spent.parts_words:
        lines.append(f"Time: {spent.parts_words}.")
    if spent.epochs_words:
        lines.append(f"Training: {spent.epochs_words}.")
    return lines


def rank_line(ranking: InheritedRanking) -> str:
    """How inherited accuracies rank measured ones, with the number of networks and whether that is enough."""
    what = "inherited and measured accuracy"
    few = ranking.pairs < WANTED_PAIRS
    wanted = f"at least {WANTED_PAIRS} are wanted"
    if ranking.tau is None:
        return f"no Kendall's τ of {what} can be told from {plural(ranking.pairs, 'network')}; {wanted}"
    ends = f"95 % interval {signed(ranking.low)} to {signed(ranking.high)}"
    said = f"Kendall's τ of {what} is {signed(ranking.tau)} over {plural(ranking.pairs, 'network')} ({ends})"
    return f"{said}; {wanted}" if few else said


def _row(what: str, which: str, calibration: Calibration) -> ForesightRow:
    return ForesightRow(
        what,
        f"{which} {len(calibration.checks):,}",
        _coverage_words(calibration),
        _error_words(calibration) or NONE,
        NONE if calibration.tau is None else signed(calibration.tau),
    )


def _coverage_words(calibration: Calibration) -> str:
    """``31 of 34: 91 % (77 to 97)``."""
    share, low, high = (percent(value, 0) for value in calibration.coverage)
    return f"{calibration.inside:,} of {len(calibration.checks):,}: {share} % ({low} to {high})"


def _error_words(calibration: Calibration) -> str:
    error = calibration.error
    if error is None:
        return ""
    if calibration.objective.maximise:
        points = significant(100 * error, 2, zeros=False)
        return f"{points} point{'' if points == '1' else 's'}"
    return f"{significant(100 * error, 2, zeros=False)} %"


def _calibration_words(calibration: Calibration) -> str:
    """``34 trials, 90 % intervals held in 31 of 34: 91 % (77 to 97), off by 0.52 points in the median``."""
    parts = [
        plural(len(calibration.checks), "trial"),
        f"{_level(calibration)} % intervals held in {_coverage_words(calibration)}",
    ]
    if error := _error_words(calibration):
        parts.append(f"off by {error} in the median")
    if calibration.tau is not None:
        parts.append(f"Kendall's τ {signed(calibration.tau)}")
    if not calibration.enough:
        parts.append("too few trials to tell")
    return ", ".join(parts)


def _verdict(calibration: Calibration) -> str:
    """Whether the intervals promised what they held."""
    level = _level(calibration)
    if not calibration.enough:
        number = plural(len(calibration.checks), "trial")
        return f"{number} with a prediction, too few to tell how good it is (at least {FEWEST} are needed)"
    _, low, high = calibration.coverage
    if high < calibration.level:
        return f"the {level} % intervals were too narrow, the search was surer than it should have been"
    if low > calibration.level:
        return f"the {level} % intervals were wider than they needed to be"
    return f"nothing speaks against the {level} % of the intervals"


def _level(calibration: Calibration) -> str:
    return percent(calibration.level, 1, zeros=False)


def _screened_words(done: Screening) -> str:
    """``52 trials were screened out: 40 of 95 trainings saved (42 %)``."""
    said = f"{plural(done.screened, 'trial')} {'was' if done.screened == 1 else 'were'} screened out"
    if not done.saved:
        return said
    share = percent(done.share_saved, 0)
    return f"{said}, which saved {done.saved:,} of {plural(done.saved + done.trained, 'training')} ({share} %)"


def _lost_words(done: Screening) -> str:
    """What became of the spared trials: how many would have been missed, then and now, and with which certainty."""
    if not done.spared:
        return "none was spared, so nothing tells what screening loses"
    spared = f"{plural(len(done.spared), 'trial')} {'was' if len(done.spared) == 1 else 'were'} spared"
    if done.lost is None:
        return f"{spared}, of which none was measured yet"
    if len(done.measured) < len(done.spared):
        spared += f" and {len(done.measured):,} of them measured"
    joined = _front_words(done.on_front_then, "reached the front at the time")
    stayed = _front_words(done.on_front_now, "on it now")
    if not done.on_front_then and not done.on_front_now:
        joined, stayed = "none reached the front, at the time or by now", ""
    sure = "too few to tell what screening loses"
    if done.enough:
        share, low, high = (percent(value, 0) for value in done.lost)
        sure = f"so of those screened out {share} % would be on the front (95 % interval {low} to {high})"
    return f"{spared}: {', '.join(filter(None, [joined, stayed]))}; {sure}"


def _front_words(numbers: Sequence[int], what: str) -> str:
    """``trials 12 and 40 reached the front``; of many only how many."""
    if not numbers:
        return f"none {what}"
    if len(numbers) > MOST_NAMED:
        return f"{len(numbers):,} {what}"
    named = listing([str(number) for number in numbers])
    return f"trial{'' if len(numbers) == 1 else 's'} {named} {what}"
