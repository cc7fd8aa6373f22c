"""Comparisons as a person reads them, for the reasons of a choice: by how much, which way, enough or not."""

from __future__ import annotations

from nas.deploy.service import FPS, P95, kind_of
from nas.objectives import Constraint, Objective
from nas.wording import DIGITS, LIMIT_DIGITS, MOST_DIGITS, digits_apart, display, plain_name, significant

BEST = {
    "latency_ms": "fastest",
    P95: "fastest in 95 % of calls",
    FPS: "fastest",
    "size_bytes": "smallest",
    "accuracy": "most accurate",
    "balanced_accuracy": "most accurate",
}
ENOUGH = {
    "latency_ms": "fast enough",
    P95: "fast enough in 95 % of calls",
    FPS: "fast enough",
    "size_bytes": "small enough",
    "accuracy": "accurate enough",
    "balanced_accuracy": "accurate enough",
}


def shown(name: str, value: float, digits: int = DIGITS, zeros: bool = True) -> str:
    """``nas.wording.display``, of service figures too: ``2.10 ms``, ``62,100 fps``."""
    if name == FPS:
        number = significant(value, digits, zeros)
        whole, point, rest = number.partition(".")
        return f"{int(whole):,}{point}{rest} fps"
    return display("latency_ms" if name == P95 else name, value, digits, zeros)


def called(quantity: Objective) -> str:
    """``nas.wording.plain_name``, of service figures too: ``throughput``."""
    if quantity.name in (P95, FPS):
        return kind_of(quantity.name).title.partition(" (")[0]
    return plain_name(quantity.key)


def limit(constraint: Constraint) -> str:
    """A limit as a person writes it, of service figures too: ``throughput at least 500 fps``."""
    bound = "at most" if constraint.at_most else "at least"
    value = shown(constraint.quantity.name, constraint.limit, LIMIT_DIGITS, zeros=False)
    return f"{called(constraint.quantity)} {bound} {value}"


def gap(name: str, difference: float) -> str:
    """A difference of two values, never rounded to nothing: ``0.3 points``, ``0.002 ms``, ``120 B``, ``80 fps``."""
    if name == FPS or not kind_of(name).maximise:
        return shown(name, difference, zeros=False)
    points = significant(100 * difference, zeros=False)
    return f"{points} point{'' if points == '1' else 's'}"


def change(name: str, old: float, new: float) -> str:
    """How a value differs from another, with a sign: points for an accuracy, per cent for a cost."""
    if name != FPS and kind_of(name).maximise:
        return f"{100 * (new - old):+.2f} points".replace("-", "−")
    return f"{100 * (new / old - 1):+.1f} %".replace("-", "−") if old else f"from {shown(name, old)}"


def miss(constraint: Constraint, value: float) -> str:
    """By how much a value misses a limit: ``0.002 ms too much``, ``0.3 points short``.

    Of a cost so far above its limit that the difference reads like the value itself: ``1,090 times the limit``.
    """
    name = constraint.quantity.name
    difference = gap(name, abs(value - constraint.limit))
    if not constraint.at_most:
        return f"{difference} short"
    if difference == shown(name, value, zeros=False):
        return f"{float(significant(value / constraint.limit)):,.0f} times the limit"
    return f"{difference} too much"


def value_and_miss(constraint: Constraint, value: float) -> str:
    """A value that misses a limit, with digits enough to tell it from that: ``0.0302 ms, 0.0002 ms too much``."""
    name = constraint.quantity.name
    if name == FPS:
        apart = (n for n in range(DIGITS, MOST_DIGITS) if shown(name, value, n) != shown(name, constraint.limit, n))
        digits = next(apart, MOST_DIGITS)
    else:
        digits = digits_apart("latency_ms" if name == P95 else name, value, constraint.limit)
    return f"{shown(name, value, digits)}, {miss(constraint, value)}"


def superlative(objective: Objective) -> str:
    """The best in an objective: ``fastest``, ``most accurate``, ``lowest in FLOPs``."""
    if objective.name in BEST:
        return BEST[objective.name]
    return f"{'highest' if objective.maximise else 'lowest'} in {plain_name(objective.key)}"
