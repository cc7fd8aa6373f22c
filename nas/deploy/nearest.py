"""What is said where no trial meets the limits: which comes nearest on every side, and by how much it misses."""

from __future__ import annotations

from collections.abc import Sequence

from nas.deploy import words
from nas.deploy.question import Question, best, figure, meets, value_of
from nas.errors import NothingFeasibleError
from nas.objectives import Constraint, Objective
from nas.record import TrialRecord
from nas.wording import listing


def nothing_meets(question: Question) -> NothingFeasibleError:
    """Says that nothing meets the limits, and what comes nearest on every side."""
    study, measured = question.study, question.able(question.study.measured)
    own = study.recipe.parsed_constraints
    off_front = [record for record in measured if record.feasible(own) and meets(record, question.bounds)]
    asked = listing([words.limit(bound) for bound in question.bounds])
    if off_front:
        # Possible only where a limit is on what the study does not optimise.
        other = best(question, off_front)
        return NothingFeasibleError(
            f"no trial on the front has {asked}; trial {other.number} has, but others dominate it: "
            f"{figure(question.quality, other)} at {figure(question.cost, other)}",
            "search with that quantity as an objective or a constraint",
        )
    everything = _strictest([*own, *question.bounds])
    asked = listing([words.limit(bound) for bound in everything])
    sides = [side for bound in everything if (side := _nearest(measured, bound, everything))]
    return NothingFeasibleError(
        f"no trial has {asked}: {'; '.join(sides) or _nearest_overall(measured, everything)}",
        "loosen a limit, or let the search go on",
    )


def _strictest(bounds: Sequence[Constraint]) -> list[Constraint]:
    """Of several limits on the same side of the same quantity only the strictest."""
    kept: dict[tuple[Objective, bool], Constraint] = {}
    for bound in bounds:
        key = (bound.quantity, bound.at_most)
        if key not in kept or kept[key].violation(bound.limit) < 0:  # the new limit lies inside the old
            kept[key] = bound
    return list(kept.values())


def _nearest(records: Sequence[TrialRecord], bound: Constraint, bounds: Sequence[Constraint]) -> str:
    """The trial that misses this limit by least and meets all others, in words.

    Where none meets all others it is the best of all by this limit; empty where that one does not miss it.
    """
    others = [other for other in bounds if other is not bound]
    able = [record for record in records if meets(record, others)]
    if not able:
        others, able = [], list(records)
    nearest = min(able, key=lambda record: (bound.violation(value_of(record, bound.quantity)), record.number))
    value = value_of(nearest, bound.quantity)
    if bound.violation(value) <= 0:
        return ""
    fine = [words.ENOUGH.get(other.quantity.name, f"within {words.limit(other)}") for other in others]
    that = f" that is {listing(list(dict.fromkeys(fine)))}" if fine else ""
    name = f"the {words.superlative(bound.quantity)}{that}, trial {nearest.number},"
    return f"{name} has {words.value_and_miss(bound, value)}"


def _nearest_overall(records: Sequence[TrialRecord], bounds: Sequence[Constraint]) -> str:
    """The trial whose worst relative miss is least, in words."""

    def worst(record: TrialRecord) -> float:
        return max(bound.violation(value_of(record, bound.quantity)) for bound in bounds)

    nearest = min(records, key=lambda record: (worst(record), record.number))
    missed = [b for b in bounds if b.violation(value_of(nearest, b.quantity)) > 0]
    misses = [f"{words.called(b.quantity)} {words.miss(b, value_of(nearest, b.quantity))}" for b in missed]
    return f"the nearest, trial {nearest.number}, has {listing(misses)}"
