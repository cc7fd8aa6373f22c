"""Axes on which an objective is nearly normal: as it is, its logarithm, or the logarithm of its gap to a bound.

Which one is chosen by the likelihood of the surrogate, so nobody has to say that an objective is an accuracy. On every
axis more is better, and what is far worse than the rest (networks that do not learn at all) is drawn in, for a few such
values would otherwise decide the fit of all others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Upper ends that a quality may have: of negated costs, of shares, of percentages.
BOUNDS = (0.0, 1.0, 100.0)
# A bound is an end of the scale only where the best value reaches this share of it.
NEAR = 0.02
# So many robust deviations below the median the drawing in begins.
TAIL = 2.0
# A gap to a bound counts as at least this share of the smallest gap that is not 0.
LEAST_GAP = 0.5


@dataclass(frozen=True)
class Warp:
    """A monotone map between an objective's own units and an axis where more is better.

    Args:
        kind: ``identity``, ``log`` (of a positive quality) or ``gap`` (minus the log of what is missing to ``bound``).
        sign: 1 where more is better, -1 where less is; a quality is sign × value.
        bound: Upper end of the quality, for kind ``gap``.
        least: Smallest positive number of which a logarithm is taken.
        middle: Median on the raw axis.
        spread: Robust deviation on the raw axis.
        centre: Mean after drawing in.
        scale: Deviation after drawing in.
        tail: So many robust deviations below the median the drawing in begins; infinity for none.
    """

    kind: str
    sign: float
    bound: float = 0.0
    least: float = 1e-12
    middle: float = 0.0
    spread: float = 1.0
    centre: float = 0.0
    scale: float = 1.0
    tail: float = TAIL

    def raw(self, values: np.ndarray) -> np.ndarray:
        """The raw axis: before drawing in and standardising."""
        quality = self.sign * np.asarray(values, dtype=float)
        if self.kind == "log":
            return np.asarray(np.log(np.maximum(quality, self.least)))
        if self.kind == "gap":
            return np.asarray(-np.log(np.maximum(self.bound - quality, self.least)))
        return quality

    def own(self, raw: np.ndarray) -> np.ndarray:
        """Own units of values on the raw axis."""
        with np.errstate(over="ignore"):
            if self.kind == "log":
                return np.asarray(self.sign * np.exp(raw))
            if self.kind == "gap":
                return np.asarray(self.sign * (self.bound - np.exp(-raw)))
        return np.asarray(self.sign * raw)

    def forth(self, values: np.ndarray) -> np.ndarray:
        """From own units to the axis."""
        z = (self.raw(values) - self.middle) / self.spread
        below = np.maximum(-self.tail - z, 0.0)
        return np.asarray((np.maximum(z, -self.tail) - np.log1p(below) - self.centre) / self.scale)

    def back(self, warped: np.ndarray) -> np.ndarray:
        """From the axis to own units; the inverse of ``forth``."""
        return self.own(self.raw_of(warped))

    def raw_of(self, warped: np.ndarray) -> np.ndarray:
        """From the axis to the raw axis."""
        z = np.asarray(warped) * self.scale + self.centre
        below = np.minimum(np.maximum(-self.tail - z, 0.0), 50.0)
        return np.asarray((np.maximum(z, -self.tail) - np.expm1(below)) * self.spread + self.middle)

    def slope(self, values: np.ndarray) -> np.ndarray:
        """How much the axis rises with a unit of quality, at values in own units."""
        quality = self.sign * np.asarray(values, dtype=float)
        slope = np.full(quality.shape, 1.0)
        if self.kind == "log":
            slope = 1 / np.maximum(quality, self.least)
        if self.kind == "gap":
            slope = 1 / np.maximum(self.bound - quality, self.least)
        z = (self.raw(values) - self.middle) / self.spread
        return np.asarray(slope / (self.spread * self.scale * (1 + np.maximum(-self.tail - z, 0.0))))


def candidates(values: np.ndarray, maximise: bool) -> list[Warp]:
    """The warps that values allow, each standardised on them.

    Args:
        values: N finite values in own units, not all equal.
        maximise: Whether more is better.
    """
    sign = 1.0 if maximise else -1.0
    quality = sign * values
    found = [Warp("identity", sign)]
    for bound in BOUNDS:
        gaps = bound - quality
        near = bound == 0 or (quality.min() >= 0 and quality.max() > NEAR * bound)
        if near and gaps.min() >= 0 and gaps.max() > 0:
            found.append(Warp("gap", sign, bound, least=LEAST_GAP * float(gaps[gaps > 0].min())))
    if quality.min() > 0:
        found.append(Warp("log", sign, least=LEAST_GAP * float(quality.min())))
    return [standardised(warp, values) for warp in found]


def of_sums(values: np.ndarray) -> Warp:
    """The logarithm of costs that are known to add up from what networks do, standardised on them.

    Nothing is drawn in: the slowest are no failures but the accurate end of the front, and the logarithm of such a sum
    is a cue, in which this axis is linear to its end. Drawn in it would be so for the many fast networks that a search
    measures first, and beyond them tell of times that are many times too long.

    Args:
        values: N positive costs, not all equal.
    """
    return standardised(Warp("gap", -1.0, least=LEAST_GAP * float(values.min()), tail=float("inf")), values)


def standardised(warp: Warp, values: np.ndarray) -> Warp:
    """The same kind of warp with middle, spread, centre and scale taken from values."""
    raw = warp.raw(values)
    middle = float(np.median(raw))
    low, high = np.percentile(raw, [25, 75])
    spread = max(float(high - low) / 1.349, 1e-3 * float(np.ptp(raw))) or 1.0
    first = replace(warp, middle=middle, spread=spread, centre=0.0, scale=1.0)
    drawn = first.forth(values)
    scale = float(drawn.std()) or 1.0
    return replace(first, centre=float(drawn.mean()), scale=scale)
