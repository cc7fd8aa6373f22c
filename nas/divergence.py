"""How much the values of a choice among the best trials differ from those among all: the Pearson divergence.

In closed form for choices that are compared value by value, of many samples of the trials at once, so that intervals
cost little. Equal to what Optuna's PED-ANOVA evaluator gives for a categorical parameter, which a test checks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Of the Parzen estimators, as Optuna has them: the prior's weight, and what keeps a density above zero.
PRIOR_WEIGHT, LEAST_DENSITY = 1.0, 1e-12
FEWEST_ACTIVE = 2  # trials that must have a choice for it to be compared
SHUFFLES = 1000


def best_of(losses: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """How often each trial is among the best, B×N, of samples that hold it so many times, B×N; ties are in together."""
    order = np.argsort(losses, kind="stable")
    enough = math.ceil(share * losses.size)
    last = np.argmax(np.cumsum(weights[:, order], axis=1) >= enough, axis=1)
    cutoffs = losses[order][last]
    return np.where(losses[None, :] <= cutoffs[:, None], weights, 0.0)


def by_chance(onehot: np.ndarray, best: int, level: float, rng: np.random.Generator) -> float:
    """What a divergence stays below with a probability of ``level`` where the best trials are drawn at random.

    Args:
        onehot: N×K, 1 where the trial has the value, a row of 0 where it has not the choice.
        best: How many trials are the best.
        level: 0 to 1.
        rng: Draws.
    """
    counts = onehot.sum(axis=0).astype(int)
    trials = len(onehot)
    drawn = rng.multivariate_hypergeometric([*counts, trials - counts.sum()], best, size=SHUFFLES)[:, :-1]
    sizes = np.array([float(trials)]), np.array([float(best)])
    found = _divergence(counts[None, :].astype(float), drawn.astype(float), *sizes)
    return float(np.quantile(found, level))


def divergences(onehots: Sequence[np.ndarray], weights: np.ndarray, best: np.ndarray) -> np.ndarray:
    """The divergence of every choice in many samples at once, B×C.

    Args:
        onehots: For each choice N×K, see ``by_chance``.
        weights: How many times each sample holds each trial, B×N.
        best: How many times each trial is among the sample's best, B×N.
    """
    sizes = weights.sum(axis=1), best.sum(axis=1)
    return np.stack([_divergence(weights @ onehot, best @ onehot, *sizes) for onehot in onehots], axis=1)


def _divergence(among_all: np.ndarray, among_best: np.ndarray, trials: np.ndarray, best: np.ndarray) -> np.ndarray:
    """The divergence of one choice in B samples: what Optuna's evaluator gives, in closed form.

    Args:
        among_all: How often each value occurs, B×K.
        among_best: How often among the best, B×K.
        trials: How many trials there are, B.
        best: How many of them are the best, B.
    """
    active, active_best = among_all.sum(axis=1), among_best.sum(axis=1)
    pdf_all, pdf_best = (_density(counts) + LEAST_DENSITY for counts in (among_all, among_best))
    pearson = (pdf_all * (pdf_best / pdf_all - 1) ** 2).sum(axis=1)
    regime = (active_best / best) ** 2 / np.maximum(active / trials, LEAST_DENSITY)
    counted = (active >= FEWEST_ACTIVE) & (active_best > 0)
    found: np.ndarray = np.where(counted, regime * pearson, 0.0) * (best / trials) ** 2
    return found


def _density(counts: np.ndarray) -> np.ndarray:
    """Parzen estimate over the K values of a choice from how often each occurs, B×K, with a uniform prior."""
    kinds = counts.shape[1]
    kernels = (counts > 0).sum(axis=1, keepdims=True) + 1
    background = PRIOR_WEIGHT / kernels
    mixed = (counts + counts.sum(axis=1, keepdims=True) * background) / (1 + kinds * background) + PRIOR_WEIGHT / kinds
    density: np.ndarray = mixed / (counts.sum(axis=1, keepdims=True) + PRIOR_WEIGHT)
    return density
