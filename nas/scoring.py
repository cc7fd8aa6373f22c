"""Accuracy with an interval, from an artifact's probabilities. Needs numpy and scikit-learn's definitions, no torch."""

from __future__ import annotations

import math

import numpy as np

from nas.outcome import How, Quantity

Z_95 = 1.959964


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (E. B. Wilson, JASA 22, 1927)."""
    share = successes / count
    centre = share + Z_95**2 / (2 * count)
    half = Z_95 * math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2))
    scale = 1 + Z_95**2 / count
    # Exactly, the share lies inside; rounding must not put it outside where the interval begins or ends with it.
    return min(share, max(0.0, (centre - half) / scale)), max(share, min(1.0, (centre + half) / scale))


def score(probabilities: np.ndarray, labels: np.ndarray, prefix: str = "") -> tuple[Quantity, Quantity]:
    """Accuracy and balanced accuracy (the mean of the classes' recalls) of one scored data set.

    Classes without a sample do not count. The interval of balanced accuracy combines the Wilson intervals of the
    recalls: each end's squared distance from the mean is the sum of the recalls' (Zou, Huang and Zhang, Computational
    Statistics & Data Analysis 53, 2009). A perfect score of few samples thus has an interval too.

    Args:
        probabilities: N×classes.
        labels: N class numbers.
        prefix: Put before the quantities' names, such as ``"test_"``.
    """
    correct = probabilities.argmax(1) == labels
    low, high = wilson_interval(int(correct.sum()), len(labels))
    size = {"samples": len(labels)}
    accuracy = Quantity(f"{prefix}accuracy", float(correct.mean()), "1", How.MEASURED, low=low, high=high, detail=size)
    counts = np.bincount(labels)
    present = counts > 0
    hits = np.bincount(labels, weights=correct)[present]
    recalls = hits / counts[present]
    ends = np.array([wilson_interval(int(k), int(n)) for k, n in zip(hits, counts[present], strict=True)])
    below, above = np.sqrt(np.square(ends - recalls[:, np.newaxis]).sum(axis=0)) / len(recalls)
    mean = float(recalls.mean())
    low, high = max(0.0, mean - float(below)), min(1.0, mean + float(above))
    balanced = Quantity(f"{prefix}balanced_accuracy", mean, "1", How.MEASURED, low=low, high=high, detail=size)
    return accuracy, balanced
