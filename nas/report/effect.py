"""How much two values of a choice differ in a quantity, over many pairs of trials, with an interval.

A cost is compared as a ratio, whose geometric mean over the pairs is told; accuracy as a difference. The 95 % interval
is the bootstrap's over settings (see ``nas.report.matched_pairs``), by percentiles that are widened for small samples
as T. Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69, 2015, proposes: else
an interval from five settings would hold the truth in about 85 of 100 cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from nas.compression import split_name
from nas.design import Value
from nas.objectives import Objective
from nas.record import TrialRecord
from nas.report.target_names import short_targets
from nas.wording import plain_name

FEWEST_SETTINGS = 3  # for an interval
RESAMPLES = 1000
CONFIDENCE = 0.95
SIZE = Objective("size_bytes")  # is told whether it is an objective or not
SHORT_NAMES = {"latency_ms": "time", "size_bytes": "size", "accuracy": "points"}

Compared = tuple[Objective, str, np.ndarray]


@dataclass(frozen=True)
class Effect:
    """How a quantity changes where one value is taken for another.

    Args:
        key: The quantity's key.
        title: Its short name: ``time``, ``size``, ``points``.
        relative: Whether it is a ratio; else a difference.
        maximise: Whether more is better.
        value: The ratio, greater than 0; or the difference, a fraction.
        low: Lower end of its 95 % interval; None where there are fewer than ``FEWEST_SETTINGS`` settings.
        high: Upper end.
    """

    key: str
    title: str
    relative: bool
    maximise: bool
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def worse(self) -> bool:
        """Whether the quantity gets worse."""
        change = self.value - (1 if self.relative else 0)
        return change < 0 if self.maximise else change > 0

    @property
    def clear(self) -> bool:
        """Whether the interval leaves no doubt about the direction."""
        neutral = 1.0 if self.relative else 0.0
        return self.low is not None and self.high is not None and not self.low <= neutral <= self.high

    @property
    def amount(self) -> str:
        """``−38 %``, ``+0.6``."""
        return self._amount(self.value) + (" %" if self.relative else "")

    @property
    def interval(self) -> str:
        """``−45 to −30``; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"{self._amount(self.low)} to {self._amount(self.high)}"

    @property
    def short_words(self) -> str:
        """``−38 % time``, ``+0.6 points``."""
        return f"{self.amount} {self.title}"

    @property
    def words(self) -> str:
        """``−38 % time (−45 to −30)``."""
        return f"{self.short_words} ({self.interval})" if self.interval else self.short_words

    def _amount(self, value: float) -> str:
        """In per cent or in points, whole from 10 on: few pairs bear no more digits."""
        return with_sign(100 * (value - 1) if self.relative else 100 * value)

    def turned(self) -> Effect:
        """The effect the other way round."""

        def turn(value: float) -> float:
            return 1 / value if self.relative else -value

        if self.low is None or self.high is None:
            return replace(self, value=turn(self.value))
        return replace(self, value=turn(self.value), low=turn(self.high), high=turn(self.low))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "clear": self.clear, "worse": self.worse, "amount": self.amount, "words": self.words}


def with_sign(number: float) -> str:
    """``−38``, ``+0.6``, ``0.0``."""
    text = f"{number:+.{0 if abs(number) >= 9.95 else 1}f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def value_words(choice: str, value: Value) -> str:
    """A value as a person reads it: yes and no, shares in per cent, other numbers without superfluous digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if choice in ("pruning_ratio", "sparsity"):
        return f"{100 * float(value):g} %"
    return f"{value:g}" if isinstance(value, float) else str(value)


def what_words(choice: str, value: Value, other: Value) -> str:
    """``separable for standard``, ``8 for 32``, ``50 % for 0 %``."""
    name = split_name(choice)[1]
    return f"{value_words(name, value)} for {value_words(name, other)}"


def quantities_of(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[Compared]:
    """What is compared, with its short name and N numbers, of costs their logarithms; NaN where a trial has none.

    The first cost leads, then the first that is to be large, then all others; the file's size is there in any case.
    """
    first = next(objective for objective in objectives if not objective.maximise)
    quality = next(objective for objective in objectives if objective.maximise)
    ordered = list(dict.fromkeys([first, quality, *objectives, SIZE]))
    targets = [objective.target for objective in ordered if objective.target]
    short = short_targets(list(dict.fromkeys(targets)))
    names = [objective.name for objective in ordered]
    found = []
    for objective in ordered:
        title = SHORT_NAMES.get(objective.name) or _title(objective)
        if objective.target and names.count(objective.name) > 1:
            title += f" on {short[objective.target]}"
        numbers = np.array([_number(record, objective) for record in records])
        if np.isfinite(numbers).any():
            found.append((objective, title, numbers))
    return found


def _title(objective: Objective) -> str:
    return f"points of {plain_name(objective.key)}" if objective.maximise else plain_name(objective.key)


def _number(record: TrialRecord, objective: Objective) -> float:
    quantity = record.quantity(objective.key)
    if quantity is None or (not objective.maximise and quantity.value <= 0):
        return math.nan
    return quantity.value if objective.maximise else math.log(quantity.value)


def effects_of(
    first: np.ndarray,
    second: np.ndarray,
    settings: np.ndarray,
    quantities: Sequence[Compared],
    rng: np.random.Generator,
) -> tuple[Effect, ...]:
    """The effects of what the first trials of pairs have instead of the second.

    Args:
        first: Places of the first trials of M pairs.
        second: Places of the second.
        settings: M numbers: pairs that share one are no independent evidence and are drawn together.
        quantities: See ``quantities_of``; one that no pair has is left out.
        rng: Draws.
    """
    found = []
    for objective, title, numbers in quantities:
        differences = numbers[first] - numbers[second]
        there = np.isfinite(differences)
        if there.any():
            ends = mean_interval(differences[there], settings[there], rng)
            values = [float(differences[there].mean()), *(ends or ())]
            told = values if objective.maximise else [math.exp(value) for value in values]
            found.append(Effect(objective.key, title, not objective.maximise, objective.maximise, *told))
    return tuple(found)


def mean_interval(numbers: np.ndarray, settings: np.ndarray, rng: np.random.Generator) -> tuple[float, float] | None:
    """The 95 % interval of a mean of M numbers, drawn over settings; None of fewer than ``FEWEST_SETTINGS``."""
    from scipy.special import ndtr, stdtrit

    own = np.unique(settings, return_inverse=True)[1].reshape(-1)
    count = int(own.max()) + 1
    if count < FEWEST_SETTINGS:
        return None
    sums, sizes = np.bincount(own, numbers), np.bincount(own)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    means = (drawn @ sums) / (drawn @ sizes)
    tail = float(ndtr(math.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - CONFIDENCE) / 2)))
    low, high = np.quantile(means, [tail, 1 - tail])
    return min(float(low), float(numbers.mean())), max(float(high), float(numbers.mean()))
