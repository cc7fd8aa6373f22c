"""How reliable a search's ranking was: the accuracies that it went by against those of the same designs at full budget.

Kendall's τ-b and Spearman's ρ are 1 for the same order, 0 for none and −1 for the reverse. Their 95 % intervals are the
percentile bootstrap's over designs, and over each design's seeds. Of a handful of designs such an interval cannot be
wide enough where all agree, so beside it stands how often chance alone gives an order as far from none as this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.finalized.runs import Finalized

FEWEST_DESIGNS = 3
RESAMPLES = 999
# The ends of a bootstrap of which fewer resamples have a coefficient (of two different designs at least) say nothing.
FEWEST_RESAMPLES = 100


@dataclass(frozen=True)
class Coefficient:
    """A rank correlation with its 95 % interval, where there is one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Ranking:
    """How far designs come in the same order by the search's accuracy as by that at full budget.

    Args:
        name: Which accuracy at full budget: ``accuracy`` (validation) or ``test_accuracy``.
        designs: How many.
        kendall: Kendall's τ-b; None where ``why_not`` says why.
        spearman: Spearman's ρ.
        chance: How often designs in random order are as far from no order, either way, by τ.
        why_not: Why there is none, in words.
    """

    name: str
    designs: int
    kendall: Coefficient | None = None
    spearman: Coefficient | None = None
    chance: float | None = None
    why_not: str = ""


def rankings(searched: Mapping[int, float], found: Sequence[Finalized]) -> tuple[Ranking, Ranking]:
    """The search's validation accuracies against those at full budget, on validation and on test data.

    Args:
        searched: By trial the accuracy that the search found.
        found: The designs at full budget, all of them trained for as long.
    """
    cheap = [searched[done.trial] for done in found]
    validation = [[run.record.value("accuracy") for run in done.measured] for done in found]
    test = [[q.value for run in done.measured for q in run.test if q.name == "test_accuracy"] for done in found]
    return ranking("accuracy", cheap, validation), ranking("test_accuracy", cheap, test)


def ranking(name: str, cheap: Sequence[float], full: Sequence[Sequence[float]]) -> Ranking:
    """How far two orders of designs agree.

    Args:
        name: Of the accuracy at full budget.
        cheap: For each design the search's accuracy.
        full: For each design its accuracies at full budget, one for each seed.
    """
    count = len(cheap)
    if count < FEWEST_DESIGNS:
        are = "is 1" if count == 1 else f"are {count}"
        why_not = f"it takes at least {FEWEST_DESIGNS} designs at full budget, and there {are}"
        return Ranking(name, count, why_not=why_not)
    means = [math.fsum(values) / len(values) for values in full]
    for whose, values in (("the search", cheap), ("the final training", means)):
        if len(set(values)) == 1:
            return Ranking(name, count, why_not=f"{whose} found all {count} designs equally accurate")
    from scipy.stats import kendalltau

    first, second = _resamples(cheap, full)
    once = np.array([cheap]), np.array([means])
    return Ranking(
        name,
        count,
        _coefficient(_kendall(*once), _kendall(first, second)),
        _coefficient(_spearman(*once), _spearman(first, second)),
        float(kendalltau(cheap, means).pvalue),
    )


def _resamples(cheap: Sequence[float], full: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Designs drawn with replacement, each with the mean of seeds drawn with replacement; the same ones every time.

    Returns:
        The search's accuracies and those at full budget, each resamples × designs.
    """
    rng, count = np.random.default_rng(0), len(cheap)
    drawn = rng.integers(0, count, (RESAMPLES, count))
    means = np.empty((RESAMPLES, count))
    for design, values in enumerate(full):
        places = drawn == design
        seeds = rng.choice(np.asarray(values), (int(places.sum()), len(values)))
        means[places] = seeds.mean(axis=1)
    return np.asarray(cheap, float)[drawn], means


def _kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """τ-b of each row; NaN where all of one are the same. As scipy's ``kendalltau``, which takes one row at a time."""
    above = np.triu_indices(first.shape[1], 1)
    signs = [np.sign(values[:, above[0]] - values[:, above[1]]) for values in (first, second)]
    return _ratio((signs[0] * signs[1]).sum(axis=1), *(np.abs(sign).sum(axis=1) for sign in signs))


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """ρ of each row: the correlation of ranks; NaN where all of one are the same."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=1) for values in (first, second)]
    apart = [values - values.mean(axis=1, keepdims=True) for values in ranks]
    return _ratio((apart[0] * apart[1]).sum(axis=1), *((values**2).sum(axis=1) for values in apart))


def _ratio(shared: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    scale = np.sqrt(own * other)
    ratio: np.ndarray = np.divide(shared, scale, out=np.full(len(shared), np.nan), where=scale > 0)
    return ratio


def _coefficient(found: np.ndarray, resampled: np.ndarray) -> Coefficient:
    """With the interval of those resamples that have a coefficient, where they are enough."""
    value, defined = float(found[0]), resampled[np.isfinite(resampled)]
    if len(defined) < FEWEST_RESAMPLES:
        return Coefficient(value, None, None)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Coefficient(value, min(value, float(low)), max(value, float(high)))
