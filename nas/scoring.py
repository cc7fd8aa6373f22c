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
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def score(probabilities: np.ndarray, labels: np.ndarray, prefix: str = "") -> tuple[Quantity, Quantity]:
    """Accuracy and balanced accuracy (the mean of the classes' recalls) of one scored data set.

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
    recalls = np.bincount(labels, weights=correct)[present] / counts[present]
    # The variance of a mean of independent proportions; normal, so rough where a class has few samples.
    half = Z_95 * math.sqrt(float((recalls * (1 - recalls) / counts[present]).sum())) / len(recalls)
    mean = float(recalls.mean())
    balanced = Quantity(
        f"{prefix}balanced_accuracy",
        mean,
        "1",
        How.MEASURED,
        low=max(0.0, mean - half),
        high=min(1.0, mean + half),
        detail=size,
    )
    return accuracy, balanced
