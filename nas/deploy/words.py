"""Numbers, limits and comparisons as a person reads them, for the reasons of a choice and a deployment's README."""

from __future__ import annotations

import math

from nas.measure.target import Target
from nas.objectives import Constraint, Objective
from nas.outcome import Quantity

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
PREFIXES = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


def number(value: float, digits: int = 4) -> str:
    """A number in plain notation, rounded to so many significant digits: ``0.02134``, ``21.3``, ``1200``."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    text = f"{round(value, places):.{max(0, places)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount(name: str, value: float) -> str:
    """The value of the quantity of that name, with its unit: ``97.22 %``, ``0.0213 ms``, ``45.1 kB``, ``1.06 M``."""
    kind = Objective(name.removeprefix("test_")).kind
    if kind.maximise:
        return f"{100 * value:.2f} %"
    if kind.unit == "ms":
        return f"{number(value)} ms"
    suffix = "B" if kind.unit == "bytes" else ""
    factor, prefix = next(((f, p) for f, p in PREFIXES if value >= 0.99995 * f), (1, ""))
    return f"{number(value / factor)} {prefix}{suffix}".rstrip()


def gap(name: str, difference: float) -> str:
    """A difference of two values, never rounded to nothing: ``0.3 points``, ``0.002 ms``, ``120 B``."""
    kind = Objective(name).kind
    if not kind.maximise:
        return amount(name, difference)
    points = number(100 * difference, 3)
    return f"{points} point{'' if points == '1' else 's'}"


def change(name: str, old: float, new: float) -> str:
    """How a value differs from another, with a sign: points for an accuracy, per cent for a cost."""
    if Objective(name).maximise:
        return f"{100 * (new - old):+.2f} points".replace("-", "−")
    return f"{100 * (new / old - 1):+.1f} %".replace("-", "−") if old else f"from {amount(name, old)}"


def plain_name(objective: Objective) -> str:
    """What a quantity is called, without unit or target: ``latency``, ``validation accuracy``."""
    return objective.kind.title.partition(" (")[0]


def limit(constraint: Constraint) -> str:
    """A limit as a person writes it: ``latency at most 0.03 ms``, ``validation accuracy at least 97.00 %``."""
    bound = "at most" if constraint.at_most else "at least"
    name = constraint.quantity.name
    value = f"{number(100 * constraint.limit, 6)} %" if constraint.quantity.maximise else amount(name, constraint.limit)
    return f"{plain_name(constraint.quantity)} {bound} {value}"


def miss(constraint: Constraint, value: float) -> str:
    """By how much a value misses a limit: ``0.002 ms too much``, ``0.3 points short``."""
    difference = gap(constraint.quantity.name, abs(value - constraint.limit))
    return f"{difference} too much" if constraint.at_most else f"{difference} short"


def superlative(objective: Objective) -> str:
    """The best in an objective: ``fastest``, ``most accurate``, ``lowest in FLOPs``."""
    if objective.name in BEST:
        return BEST[objective.name]
    return f"{'highest' if objective.maximise else 'lowest'} in {plain_name(objective)}"


def target(name: str) -> str:
    """A target in words: ``onnxruntime, cpu, 1 thread, batch 1``."""
    parsed = Target.parse(name)
    threads = f"{parsed.threads} thread{'' if parsed.threads == 1 else 's'}"
    return f"{parsed.runtime}, {parsed.device}, {threads}, batch {parsed.batch}"


def listing(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def interval(quantity: Quantity) -> str:
    """The value of a quantity, with its 95 % interval where it has one."""
    text = amount(quantity.name, quantity.value)
    if quantity.low is None or quantity.high is None:
        return text
    return f"{text} ({amount(quantity.name, quantity.low)} to {amount(quantity.name, quantity.high)})"
