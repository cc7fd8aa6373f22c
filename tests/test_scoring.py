"""Accuracy, balanced accuracy and their intervals, against closed forms, scipy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.outcome import How, Quantity
from nas.scoring import Z_95, score, wilson_interval


def one_hot(predictions: np.ndarray, classes: int) -> np.ndarray:
    return (predictions[:, np.newaxis] == np.arange(classes)).astype(np.float32)


def scored(labels: list[int], predictions: list[int], classes: int) -> tuple[Quantity, Quantity]:
    return score(one_hot(np.array(predictions), classes), np.array(labels))


# --- Wilson's interval -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7, 100, 100000])
def test_the_ends_where_all_or_none_succeed(count: int) -> None:
    z2 = Z_95**2
    assert wilson_interval(0, count) == pytest.approx((0.0, z2 / (count + z2)), abs=1e-15)
    assert wilson_interval(count, count) == pytest.approx((count / (count + z2), 1.0))


@pytest.mark.parametrize(
    ("successes", "count"), [(0, 5), (1, 10), (7, 9), (50, 100), (983, 1000), (3, 3), (59321, 60000)]
)
def test_against_scipy(successes: int, count: int) -> None:
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, count) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(st.integers(1, 10**6).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_share_lies_inside_and_the_mirror_image_is_the_others(pair: tuple[int, int]) -> None:
    successes, count = pair
    low, high = wilson_interval(successes, count)
    assert 0 <= low <= successes / count <= high <= 1
    assert low < high
    assert wilson_interval(count - successes, count) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    # Both ends solve (p - share)² = z² p (1 - p) / count, which defines the interval.
    for end in (low, high):
        assert math.isclose(
            (end - successes / count) ** 2, Z_95**2 * end * (1 - end) / count, rel_tol=1e-6, abs_tol=1e-12
        )


# --- scores ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_against_scikit_learn(count: int, classes: int, seed: int) -> None:
    from sklearn.metrics import accuracy_score, recall_score

    generator = np.random.default_rng(seed)
    labels, outputs = generator.integers(0, classes, count), generator.random((count, classes))
    accuracy, balanced = score(outputs, labels)
    predictions = outputs.argmax(axis=1)
    assert accuracy.value == pytest.approx(accuracy_score(labels, predictions))
    present = np.unique(labels)
    assert balanced.value == pytest.approx(recall_score(labels, predictions, labels=present, average="macro"))
    for quantity in (accuracy, balanced):
        assert quantity.low is not None
        assert quantity.high is not None
        assert 0 <= quantity.low <= quantity.value <= quantity.high <= 1
        assert quantity.low < quantity.high


def test_quantities_say_what_they_are() -> None:
    for prefix in ("", "test_"):
        accuracy, balanced = score(one_hot(np.array([0, 1, 1]), 2), np.array([0, 1, 0]), prefix)
        assert (accuracy.name, balanced.name) == (f"{prefix}accuracy", f"{prefix}balanced_accuracy")
        for quantity in (accuracy, balanced):
            assert (quantity.unit, quantity.how, quantity.target) == ("1", How.MEASURED, None)
            assert quantity.detail == {"samples": 3}


def test_an_imbalanced_set_by_hand() -> None:
    accuracy, balanced = scored([0] * 8 + [1] * 2, [0] * 8 + [1, 0], classes=2)
    assert accuracy.value == pytest.approx(0.9)
    assert (accuracy.low, accuracy.high) == pytest.approx(wilson_interval(9, 10))
    assert balanced.value == pytest.approx((1.0 + 0.5) / 2)
    a_low, a_high = wilson_interval(8, 8)
    b_low, b_high = wilson_interval(1, 2)
    assert balanced.low == pytest.approx(0.75 - math.hypot(1 - a_low, 0.5 - b_low) / 2)
    assert balanced.high == pytest.approx(0.75 + math.hypot(1 - a_high, 0.5 - b_high) / 2)


@pytest.mark.parametrize(
    ("labels", "predictions", "classes"),
    [
        ([0, 0, 2, 2], [0, 2, 2, 2], 3),  # class 1 has no sample
        ([0, 0, 1, 1], [0, 2, 1, 1], 3),  # the last class has none, but is predicted
    ],
)
def test_a_class_without_samples_does_not_count(labels: list[int], predictions: list[int], classes: int) -> None:
    _, balanced = scored(labels, predictions, classes)
    assert balanced.value == pytest.approx((0.5 + 1.0) / 2)


def test_one_class_alone_has_the_interval_of_its_accuracy() -> None:
    accuracy, balanced = scored([1] * 10, [1] * 7 + [0] * 3, classes=2)
    assert (balanced.value, balanced.low, balanced.high) == pytest.approx((accuracy.value, accuracy.low, accuracy.high))


@pytest.mark.parametrize(("predictions", "value"), [([0, 1, 2], 1.0), ([1, 2, 0], 0.0)], ids=["perfect", "all wrong"])
def test_an_extreme_score_of_few_samples_is_not_certain(predictions: list[int], value: float) -> None:
    _, balanced = scored([0, 1, 2], predictions, classes=3)
    assert balanced.value == value
    assert balanced.low is not None
    assert balanced.high is not None
    assert balanced.high - balanced.low > 0.3


def test_the_balanced_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Three classes of 40, 60 and 100 samples with recalls 0.9, 0.7 and 0.97, 2,000 times, seeded."""
    generator = np.random.default_rng(1)
    counts, recalls = np.array([40, 60, 100]), np.array([0.9, 0.7, 0.97])
    labels = np.repeat(np.arange(3), counts)
    truth, covered, rounds = recalls.mean(), 0, 2000
    for _ in range(rounds):
        hit = generator.random(len(labels)) < recalls[labels]
        _, balanced = score(one_hot(np.where(hit, labels, (labels + 1) % 3), 3), labels)
        assert balanced.low is not None
        assert balanced.high is not None
        covered += balanced.low <= truth <= balanced.high
    assert 0.935 < covered / rounds < 0.975
