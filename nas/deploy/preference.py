"""What a person prefers where limits alone do not decide: weights, or one figure first and then the next.

Figures of different units are put on one scale by what a person would say of them: an accuracy counts in points (1
point is one hundredth), anything that costs counts in halvings (its binary logarithm: from 2 ms to 1 ms is one, from
1 ms to 0.5 ms another). So ``accuracy=2,latency=1`` says that a point of accuracy is worth as much as two halvings of
latency. What is added up has no unit, and only differences of it mean anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nas.deploy.service import P95, ServiceFigure
from nas.errors import NasError, unknown_name
from nas.objectives import KINDS, Objective

# What the figures that most people want are called on the command line.
SHORT_NAMES = ("accuracy", "latency", "p95", "size")

# Of a figure its value in one trial.
ValueOf = Callable[[Objective], float]


@dataclass(frozen=True)
class Weights:
    """How much each figure counts: a point of an accuracy, or a halving of a cost.

    Args:
        items: Names with weights, each greater than 0.
    """

    items: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, text: str) -> Weights:
        """Reads ``accuracy=2,latency=1``.

        Raises:
            NasError: Not of that form, an unknown or repeated name, or a weight that is no positive number.
        """
        items: dict[str, float] = {}
        for part in text.split(","):
            name, sign, number = (word.strip() for word in part.partition("="))
            if not sign or not name:
                raise NasError(f"--weigh must read NAME=WEIGHT,…, but got '{text}'", "such as accuracy=2,latency=1")
            check_name("--weigh", name)
            if name in items:
                raise NasError(f"--weigh names '{name}' twice: '{text}'", "give each figure one weight")
            items[name] = _positive(number, name)
        return cls(tuple(items.items()))


@dataclass(frozen=True)
class First:
    """The best in one figure; then, among those that are not worse than so much, the best in the next.

    Args:
        name: What comes first.
        within: How much worse than the best another may be: points of an accuracy, per cent of a cost.
        then: What comes next; None for the latency where an accuracy is first, else for the accuracy.
    """

    name: str
    within: float = 0.0
    then: str | None = None

    def __post_init__(self) -> None:
        check_name("--first", self.name)
        if self.then is not None:
            check_name("--then", self.then)
            if self.then == self.name:
                raise NasError(f"--then must name another figure than --first, but both are '{self.name}'")
        if not (math.isfinite(self.within) and self.within >= 0):
            raise NasError(f"--within must be 0 or more, but got {self.within}", "points of accuracy, or per cent")

    def allows(self, figure: Objective, value: float, best: float) -> bool:
        """Whether a value is not worse than the best one by more than is allowed; rounding of both is forgiven."""
        if figure.maximise:
            return 100 * (best - value) <= self.within + 1e-9
        return value <= best * (1 + self.within / 100) * (1 + 1e-12)


Preference = Weights | First


def check_name(option: str, name: str) -> None:
    """Refuses the name of a figure that there is not.

    Raises:
        NasError: There is none; names the closest.
    """
    if name not in SHORT_NAMES and name not in KINDS:
        # Longer names are for who knows them; the short ones are what a person should be told.
        valid = SHORT_NAMES if len(name) < 4 else {*SHORT_NAMES, *KINDS}
        raise NasError(f"{option}: {unknown_name('figure', name, valid)}")


def figure_of(name: str, quality: Objective, target: str | None) -> Objective:
    """The figure that a name means in a study.

    Args:
        name: A short name, or that of a quantity.
        quality: The study's accuracy, which ``accuracy`` means.
        target: What latencies are read at.

    Raises:
        NasError: It needs a target, and there is none.
    """
    if name == "accuracy":
        return quality
    if name == "size":
        return Objective("size_bytes")
    plain = {"latency": "latency_ms", "p95": P95}.get(name, name)
    if plain != P95 and not KINDS[plain].needs_target:
        return Objective(plain)
    if target is None:
        raise NasError(
            f"'{name}' depends on what serves, and this study's objectives name no latency",
            "name a target with --target, or another figure",
        )
    return ServiceFigure(plain, target) if plain == P95 else Objective(plain, target)


def gain_of(figure: Objective, value: float) -> float:
    """A value on the scale of weights: points of an accuracy, halvings of a cost.

    Raises:
        NasError: A cost of 0 or less, which has no halving.
    """
    if figure.maximise:
        return 100 * value
    if value <= 0:
        raise NasError(f"'{figure.key}' is {value:g} and cannot be weighed, as a cost counts by its halvings")
    return -math.log2(value)


def _positive(number: str, name: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        raise NasError(f"--weigh: the weight of '{name}' must be a number, but got '{number}'") from None
    if not (math.isfinite(weight) and weight > 0):
        raise NasError(
            f"--weigh: the weight of '{name}' must be greater than 0, but got {number}", "leave out what does not count"
        )
    return weight
