"""An accuracy over training seeds: its mean, with an interval that knows of seeds and of images.

Such a number has two sources of chance. Training again from another seed gives another network: Student's t over the
seeds. Other images would give another share: Wilson's interval at the mean; all seeds see the same images, so that more
seeds do not narrow it. The two are combined as the interval of a sum of independent parts is, by the squares of the
distances from the mean (MOVER: Zou and Donner, Statistics in Medicine 27, 2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.outcome import Quantity
from nas.scoring import wilson_interval


@dataclass(frozen=True)
class Spread:
    """A share over training seeds.

    Args:
        mean: Over the seeds.
        low: Lower end of the 95 % interval of the mean, by seeds and images together.
        high: Its upper end.
        seeds: How many; of one seed the interval is that of the images alone.
        deviation: Standard deviation between seeds; None for one.
        samples: On how many images each was scored.
    """

    mean: float
    low: float
    high: float
    seeds: int
    deviation: float | None
    samples: int

    @property
    def half_width(self) -> float:
        """The longer half of the interval, for ``±``."""
        return max(self.mean - self.low, self.high - self.mean)


def spread(scores: Sequence[Quantity]) -> Spread:
    """The mean of accuracies over training seeds, with its 95 % interval by seeds and images.

    Args:
        scores: One for each seed, all of the same images (``samples`` in their detail); at least one.
    """
    values = [score.value for score in scores]
    samples = int(scores[0].detail["samples"])
    count, mean = len(values), math.fsum(values) / len(values)
    right = round(mean * samples)
    low, high = wilson_interval(right, samples)
    below, above = right / samples - low, high - right / samples
    if count == 1:
        return Spread(mean, max(0.0, mean - below), min(1.0, mean + above), 1, None, samples)
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    by_seeds = float(t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    low, high = mean - math.hypot(below, by_seeds), mean + math.hypot(above, by_seeds)
    return Spread(mean, max(0.0, low), min(1.0, high), count, deviation, samples)
