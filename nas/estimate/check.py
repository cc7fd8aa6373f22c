"""How far an estimate is from the clock, on networks that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TOLERANCE = 0.10
# Networks are split into so many parts; each is predicted by what was learned from the others.
FOLDS = 5


@dataclass(frozen=True)
class Check:
    """An estimate held against measured latencies.

    Args:
        name: Of the estimate: ``predicted_ms``.
        networks: How many were compared.
        median_error: Median of |estimate / measured − 1|.
        within: Share of them with an error of at most ``TOLERANCE``.
        tau: Kendall's τ-b of estimated and measured latency.
        spearman: Spearman's ρ of the two.
        disturbed: How many of the measurements were disturbed, so that some of the error is theirs.
    """

    name: str
    networks: int
    median_error: float
    within: float
    tau: float
    spearman: float
    disturbed: int = 0


def check(name: str, estimated: Sequence[float], measured: Sequence[float], disturbed: int = 0) -> Check:
    """Compares estimates with measurements, in the same order.

    Raises:
        ValueError: There are fewer than two, or their numbers differ.
    """
    from scipy.stats import kendalltau, spearmanr

    if len(estimated) != len(measured) or len(measured) < 2:
        raise ValueError(f"a check needs at least 2 pairs, but got {len(estimated)} and {len(measured)} values")
    errors = np.abs(np.asarray(estimated) / np.asarray(measured) - 1)
    same = len(set(estimated)) == 1 or len(set(measured)) == 1  # then there is no order to agree on
    return Check(
        name=name,
        networks=len(measured),
        median_error=float(np.median(errors)),
        within=float((errors <= TOLERANCE).mean()),
        tau=0.0 if same else float(kendalltau(estimated, measured).statistic),
        spearman=0.0 if same else float(spearmanr(estimated, measured).statistic),
        disturbed=disturbed,
    )


def fold_of(sha256: str) -> int:
    """The part that an artifact belongs to: the same one whatever is measured beside it."""
    return int(sha256[:8], 16) % FOLDS
