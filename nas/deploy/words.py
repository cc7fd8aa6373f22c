"""Comparisons as a person reads them, for the reasons of a choice: by how much, which way, enough or not."""

from __future__ import annotations

from nas.objectives import Constraint, Objective
from nas.wording import digits_apart, display, plain_name, significant

BEST = {
    "latency_ms": "fastest",
    "size_bytes": "smallest",
    "accuracy": "most accurate",
    "balanced_accuracy": "most accurate",
}
ENOUGH = {
    "latency_ms": "fast enough",
    "size_bytes": "small enough",
    "accuracy": "accurate enough",
    "balanced_accuracy": "accurate enough",
}


def gap(name: str, difference: float) -> str:
    """A difference of two values, never rounded to nothing: ``0.3 points``, ``0.002 ms``, ``120 B``."""
    if not Objective(name).maximise:
        return display(name, difference, zeros=False)
    points = significant(100 * difference, zeros=False)
    return f"{points} point{'' if points == '1' else 's'}"


def change(name: str, old: float, new: float) -> str:
    """How a value differs from another, with a sign: points for an accuracy, per cent for a cost."""
    if Objective(name).maximise:
        return f"{100 * (new - old):+.2f} points".replace("-", "−")
    return f"{100 * (new / old - 1):+.1f} %".replace("-", "−") if old else f"from {display(name, old)}"


def miss(constraint: Constraint, value: float) -> str:
    """By how much a value misses a limit: ``0.002 ms too much``, ``0.3 points short``.

    Of a cost so far above its limit that the difference reads like the value itself: ``1,090 times the limit``.
    """
    name = constraint.quantity.name
    difference = gap(name, abs(value - constraint.limit))
    if not constraint.at_most:
        return f"{difference} short"
    if difference == display(name, value, zeros=False):
        return f"{float(significant(value / constraint.limit)):,.0f} times the limit"
    return f"{difference} too much"


def value_and_miss(constraint: Constraint, value: float) -> str:
    """A value that misses a limit, with digits enough to tell it from that: ``0.0302 ms, 0.0002 ms too much``."""
    name = constraint.quantity.name
    return f"{display(name, value, digits_apart(name, value, constraint.limit))}, {miss(constraint, value)}"


def superlative(objective: Objective) -> str:
    """The best in an objective: ``fastest``, ``most accurate``, ``lowest in FLOPs``."""
    if objective.name in BEST:
        return BEST[objective.name]
    return f"{'highest' if objective.maximise else 'lowest'} in {plain_name(objective.key)}"
