"""How well inherited accuracies rank true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# With fewer designs there is nothing to rank.
LEAST_DESIGNS = 3
RESAMPLES = 2000


@dataclass(frozen=True)
class RankAgreement:
    """Kendall's τ-b of two rankings: 1 for the same order, 0 for none, −1 for the reverse.

    Args:
        tau: The share of pairs of designs that both order alike, less the share that they order differently, corrected
            for ties (M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945).
        designs: How many were ranked.
        pairs: Pairs of them: ``designs`` · (``designs`` − 1) / 2.
        low: Lower end of the 95 % interval: the 2.5th percentile over designs drawn anew with replacement (B. Efron,
            "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979).
        high: Its upper end.
    """

    tau: float
    designs: int
    pairs: int
    low: float
    high: float


def rank_agreement(inherited: Sequence[float], true: Sequence[float], seed: int = 0) -> RankAgreement | None:
    """How well inherited accuracies rank true ones of the same designs.

    Args:
        inherited: One for each design.
        true: Of the same designs, in the same order.
        seed: Of the resampling.

    Returns:
        None with fewer than 3 designs, or where all of one ranking are equal.

    Raises:
        ValueError: There are not as many of one as of the other.
    """
    if len(inherited) != len(true):
        raise ValueError(f"one inherited accuracy for each true one, but got {len(inherited)} and {len(true)}")
    count = len(true)
    if count < LEAST_DESIGNS:
        return None
    orders = [np.sign(np.subtract.outer(np.asarray(values), np.asarray(values))) for values in (inherited, true)]
    everything = np.arange(count)
    tau = _tau(orders, everything)
    if tau is None:
        return None
    rng = np.random.default_rng(seed)
    drawn = [_tau(orders, rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    # A sample of equal designs alone, which ranks nothing, is left out.
    low, high = np.percentile([value for value in drawn if value is not None], (2.5, 97.5))
    return RankAgreement(tau, count, count * (count - 1) // 2, float(low), float(high))


def _tau(orders: Sequence[np.ndarray], chosen: np.ndarray) -> float | None:
    """τ-b of the chosen designs, from the signs of all pairs' differences (n×n) in both rankings."""
    first, second = (order[np.ix_(chosen, chosen)] for order in orders)
    scale = np.sqrt(np.square(first).sum() * np.square(second).sum())
    return float((first * second).sum() / scale) if scale > 0 else None
