"""What is asked of a study's front: limits, the two figures that decide, and which trial the rule takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.deploy.preference import First, Preference, Weights, figure_of, gain_of
from nas.deploy.service import P95, ServiceFigure
from nas.errors import StudyError
from nas.front import knee as knee_of
from nas.objectives import Constraint, Objective
from nas.record import TrialRecord
from nas.study import Study
from nas.target import Place
from nas.ties import smallest_of_tied
from nas.wording import display, plain_name

FASTEST = "fastest"
CHEAPEST = "cheapest"  # the same where the study measures no latency: least of its first cost, such as FLOPs
MOST_ACCURATE = "most accurate"
KNEE = "knee"
WEIGHED = "weighed"
IN_ORDER = "in order"  # the best in one figure, then among those near it the best in the next


@dataclass(frozen=True)
class Question:
    """What is asked of a study: the limits as constraints, the two figures that decide, and what is preferred.

    Args:
        study: The study.
        bounds: The limits.
        quality: The accuracy that counts.
        cost: The latency, or the study's first cost where it has none.
        rule: Which trial is taken.
        preference: Of the rules ``weighed`` and ``in order``.
        spread: Standard deviation of the quality between training seeds, where it is known.
    """

    study: Study
    bounds: tuple[Constraint, ...]
    quality: Objective
    cost: Objective
    rule: str
    preference: Preference | None = None
    spread: float | None = None

    def able(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Those that were measured where the latency is asked for: a target that a recipe only lists may be unable to
        run a trial.
        """
        return [record for record in records if self.cost.target is None or record.quantity(self.cost.key)]

    def figure(self, name: str) -> Objective:
        """The figure that a preference names."""
        return figure_of(name, self.quality, self.cost.target)

    @property
    def order(self) -> tuple[Objective, Objective]:
        """What comes first and next where the rule is ``in order``."""
        assert isinstance(self.preference, First)  # which that rule comes with
        first = self.figure(self.preference.name)
        if self.preference.then is not None:
            return first, self.figure(self.preference.then)
        return first, self.cost if first.maximise else self.quality

    def score(self, record: TrialRecord) -> float:
        """The weighed sum of a trial's figures where the rule is ``weighed``; more is better."""
        assert isinstance(self.preference, Weights)
        figures = [(self.figure(name), weight) for name, weight in self.preference.items]
        return sum(weight * gain_of(figure, value_of(record, figure)) for figure, weight in figures)


@dataclass(frozen=True)
class Taken:
    """What a rule takes: the trial, and the one whose numbers lead, which is another where the two cannot be told
    apart and the trial's file is smaller.
    """

    record: TrialRecord
    leader: TrialRecord


def take(question: Question, candidates: Sequence[TrialRecord]) -> Taken:
    """What the rule takes of several: of those that cannot be told apart from the best, the smallest file."""
    pool = near_the_first(question, candidates)
    leader = best(question, pool)
    chosen = smallest_of_tied(leader, pool, question.quality, question.cost, question.spread)
    return Taken(chosen, leader)


def near_the_first(question: Question, candidates: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Of several those that are near enough to the best in what comes first; all of them under any other rule."""
    if not isinstance(question.preference, First):
        return list(candidates)
    first, _ = question.order
    values = [value_of(record, first) for record in candidates]
    top = max(values) if first.maximise else min(values)
    allowed = (question.preference.allows(first, value, top) for value in values)
    return [record for record, near in zip(candidates, allowed, strict=True) if near]


def best(question: Question, candidates: Sequence[TrialRecord]) -> TrialRecord:
    """What leads by the rule as the numbers stand: by its figure, then the smaller file, then the other figure, then
    the number.
    """
    size = Objective("size_bytes")
    if question.rule == KNEE:
        objectives = question.study.recipe.parsed_objectives
        at_knee = [record.value(o.key) for record in [knee_of(candidates, objectives)] for o in objectives]
        equals = [record for record in candidates if [record.value(o.key) for o in objectives] == at_knee]
        return min(equals, key=lambda record: (value_of(record, size), record.number))

    def rank(record: TrialRecord) -> tuple[float, float, float, int]:
        first, last = _ranked_by(question, record)
        return first, value_of(record, size), last, record.number

    return min(near_the_first(question, candidates), key=rank)


def _ranked_by(question: Question, record: TrialRecord) -> tuple[float, float]:
    """What counts before a file's size and after it; less is better."""
    loss, cost = -value_of(record, question.quality), value_of(record, question.cost)
    if question.rule == WEIGHED:
        return -round(question.score(record), 9), loss  # so that equal sums stay equal
    if question.rule == IN_ORDER:
        first, then = question.order
        signs = [-1 if figure.maximise else 1 for figure in (first, then)]
        return signs[1] * value_of(record, then), signs[0] * value_of(record, first)
    return (loss, cost) if question.rule == MOST_ACCURATE else (cost, loss)


def value_of(record: TrialRecord, quantity: Objective) -> float:
    """A trial's number.

    Raises:
        StudyError: It has none, so that nothing can be decided by it.
    """
    if isinstance(quantity, ServiceFigure):
        return _service_value(record, quantity)
    try:
        return record.value(quantity.key)
    except KeyError:
        raise StudyError(
            f"trial {record.number} was measured without '{quantity.key}', so it cannot be chosen by it",
            "search again with --fresh",
        ) from None


def _service_value(record: TrialRecord, figure: ServiceFigure) -> float:
    value = figure.read(record)
    if value is None:
        what = "the 95th percentile of its latency" if figure.name == P95 else "its latency"
        is_place = Place.parse(str(figure.target)) is not None
        again = "nas measure STUDY" if is_place else f"nas measure STUDY --target {figure.target}"
        raise StudyError(
            f"{what} on '{figure.target}' is not known of trial {record.number}, so it cannot be chosen by it",
            f"'{again}' measures it again, and keeps it",
        )
    return value


def meets(record: TrialRecord, bounds: Sequence[Constraint]) -> bool:
    """Whether a trial keeps every limit."""
    return all(bound.violation(value_of(record, bound.quantity)) <= 0 for bound in bounds)


def figure(quantity: Objective, record: TrialRecord) -> str:
    """``validation accuracy 97.22 %``, ``0.0213 ms``, ``12.1 k FLOPs``."""
    text = display(quantity.name, value_of(record, quantity))
    if quantity.name in ("latency_ms", "size_bytes"):
        return text
    name = plain_name(quantity.key)
    counted = quantity.kind.unit in ("FLOP", "MAC") or quantity.name == "params"
    return f"{text} {name}" if counted else f"{name} {text}"
