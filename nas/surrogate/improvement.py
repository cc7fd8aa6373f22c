"""Expected hypervolume improvement of designs whose objectives are predicted as independent random variables.

The region that a front does not dominate is cut into boxes. What a design is expected to add to a box is a product, one
factor an objective: E[(Y - low)₊] - E[(Y - high)₊]. So all that is needed of an objective is its expected excess over
a few thresholds, which has a closed form for normal and for log-normal variables. See Emmerich, Deutz and Klinkenberg,
"Hypervolume-based expected improvement", CEC 2011, and Yang et al., "Efficient computation of expected hypervolume
improvement using box decomposition algorithms", Journal of Global Optimization 75, 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import ndtr

LEAST_DEVIATION = 1e-9
# E[(Y - t)₊] of N variables and K thresholds, as N×K.
Excess = Callable[[np.ndarray], np.ndarray]


def normal_excess(mean: np.ndarray, deviation: np.ndarray) -> Excess:
    """Of N normal variables."""
    deviation = np.maximum(deviation, LEAST_DEVIATION)[:, None]

    def excess(thresholds: np.ndarray) -> np.ndarray:
        over = mean[:, None] - thresholds[None, :]
        z = over / deviation
        return np.asarray(np.maximum(over * ndtr(z) + deviation * _density(z), 0.0))

    return excess


def hinge_excess(values: np.ndarray) -> Excess:
    """Of N values that are certain."""

    def excess(thresholds: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum(values[:, None] - thresholds[None, :].astype(values.dtype), 0))

    return excess


def gap_excess(mean: np.ndarray, deviation: np.ndarray, bound: float) -> Excess:
    """Of N variables Y = bound - exp(-X) with X normal: what is missing to a bound is log-normal."""
    deviation = np.maximum(deviation, LEAST_DEVIATION)[:, None]
    missing = np.exp(np.minimum(-mean[:, None] + deviation**2 / 2, 700.0))

    def excess(thresholds: np.ndarray) -> np.ndarray:
        room = np.maximum(bound - thresholds[None, :], np.finfo(float).tiny)
        z = (np.log(room) + mean[:, None]) / deviation
        return np.asarray(np.maximum(room * ndtr(z) - missing * ndtr(z - deviation), 0.0))

    return excess


def log_excess(mean: np.ndarray, deviation: np.ndarray) -> Excess:
    """Of N variables Y = exp(X) with X normal."""
    deviation = np.maximum(deviation, LEAST_DEVIATION)[:, None]
    middle = np.exp(np.minimum(mean[:, None] + deviation**2 / 2, 700.0))

    def excess(thresholds: np.ndarray) -> np.ndarray:
        least = np.maximum(thresholds[None, :], np.finfo(float).tiny)
        z = (mean[:, None] - np.log(least)) / deviation
        return np.asarray(np.maximum(middle * ndtr(z + deviation) - thresholds[None, :] * ndtr(z), 0.0))

    return excess


def expected_improvement(excesses: Sequence[Excess], front: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Expected gain of hypervolume for each of N candidates; all objectives are maximised.

    With one objective it is the expected improvement. Exact for any number of objectives; the number of boxes grows
    with the front's size to the power of objectives - 1.

    Args:
        excesses: For each of M objectives the expected excess of the candidates.
        front: K×M points; those that do not surpass the reference, or that others dominate, change nothing.
        reference: M values.
    """
    front = front[(front > reference).all(axis=1)]
    levels, grades, places = [], [], []
    for column, excess in enumerate(excesses):
        values, place = np.unique(
            np.concatenate([reference[column : column + 1], front[:, column]]), return_inverse=True
        )
        levels.append(values)
        grades.append(excess(values))
        places.append(place[1:])
    ranks = np.stack(places, axis=1) if len(front) else np.zeros((0, len(excesses)), dtype=int)
    return _gain(grades, ranks)


def _gain(grades: Sequence[np.ndarray], ranks: np.ndarray) -> np.ndarray:
    """The expected gain, the front given as ranks among each objective's thresholds, of which 0 is the reference.

    The last objective is cut into slabs between its thresholds. In a slab those points still stand that reach beyond
    it, and the gain there is that of one objective fewer.
    """
    last = grades[-1]
    if len(grades) == 1:
        return np.asarray(last[:, ranks.max() if len(ranks) else 0])
    if len(grades) == 2:
        return _gain_of_two(grades[0], last, ranks)
    heights = [0, *np.unique(ranks[:, -1])]
    gain = np.zeros(len(last))
    for low, high in zip(heights, [*heights[1:], None], strict=True):
        thickness = last[:, low] - (0 if high is None else last[:, high])
        standing = ranks[ranks[:, -1] > low, :-1]
        gain += thickness * _gain(grades[:-1], standing)
    return gain


def _gain_of_two(first: np.ndarray, second: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    # Sorted by the first objective, the second falls along the stair. Over each strip between two neighbours a new
    # point gains what it rises above the stair there.
    order = np.lexsort((ranks[:, 1], ranks[:, 0]))[::-1]
    stair: list[tuple[int, int]] = []
    for at, height in ranks[order]:
        if not stair or height > stair[-1][1]:
            stair.append((int(at), int(height)))
    stair.reverse()
    starts = [0, *(at for at, _ in stair)]
    heights = [*(height for _, height in stair), 0]
    over = first[:, starts]
    widths = over.copy()
    widths[:, :-1] -= over[:, 1:]
    return np.asarray(np.einsum("nk,nk->n", widths, second[:, heights]))


def _density(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * np.minimum(z * z, 1400.0)) / np.sqrt(2 * np.pi))
