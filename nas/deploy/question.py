"""What is asked of a study's front: limits, the two figures that decide, and which trial the rule takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.errors import StudyError
from nas.front import knee as knee_of
from nas.objectives import Constraint, Objective
from nas.record import TrialRecord
from nas.study import Study
from nas.wording import display, plain_name

FASTEST = "fastest"
CHEAPEST = "cheapest"  # the same where the study measures no latency: least of its first cost, such as FLOPs
MOST_ACCURATE = "most accurate"
KNEE = "knee"


@dataclass(frozen=True)
class Question:
    """What is asked of a study: the limits as constraints, and the two figures that decide."""

    study: Study
    bounds: tuple[Constraint, ...]
    quality: Objective
    cost: Objective
    rule: str

    def able(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Those that were measured where the latency is asked for: a target that a recipe only lists may be unable to
        run a trial.
        """
        return [record for record in records if self.cost.target is None or record.quantity(self.cost.key)]


def best(question: Question, candidates: Sequence[TrialRecord]) -> TrialRecord:
    """What the rule takes of several: by its figure, then the smaller file, then the other figure, then the number."""
    size = Objective("size_bytes")
    if question.rule == KNEE:
        objectives = question.study.recipe.parsed_objectives
        at_knee = [record.value(o.key) for record in [knee_of(candidates, objectives)] for o in objectives]
        equals = [record for record in candidates if [record.value(o.key) for o in objectives] == at_knee]
        return min(equals, key=lambda record: (value_of(record, size), record.number))

    def rank(record: TrialRecord) -> tuple[float, float, float, int]:
        loss, cost = -value_of(record, question.quality), value_of(record, question.cost)
        first, last = (loss, cost) if question.rule == MOST_ACCURATE else (cost, loss)
        return first, value_of(record, size), last, record.number

    return min(candidates, key=rank)


def value_of(record: TrialRecord, quantity: Objective) -> float:
    """A trial's number.

    Raises:
        StudyError: It has none, so that nothing can be decided by it.
    """
    try:
        return record.value(quantity.key)
    except KeyError:
        raise StudyError(
            f"trial {record.number} was measured without '{quantity.key}', so it cannot be chosen by it",
            "search again with --fresh",
        ) from None


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
