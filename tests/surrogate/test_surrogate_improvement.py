"""Expected improvement of hypervolume, against draws."""

from __future__ import annotations

import moocore
import numpy as np
import pytest

from nas.surrogate.improvement import expected_improvement, gap_excess, hinge_excess, log_excess, normal_excess

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("excess", "draws"),
    [
        (lambda m, d: normal_excess(m, d), lambda x: x),
        (lambda m, d: gap_excess(m, d, 2.0), lambda x: 2.0 - np.exp(-x)),
        (lambda m, d: log_excess(m, d), np.exp),
    ],
    ids=["normal", "gap", "log"],
)
def test_excess_is_the_mean_over_draws(excess, draws) -> None:
    mean, deviation = np.array([-0.5, 0.0, 0.7]), np.array([0.2, 0.6, 1.0])
    thresholds = np.array([-1.0, 0.5, 1.2, 1.9])
    values = draws(mean[:, None] + deviation[:, None] * RNG.standard_normal((3, 200_000)))
    drawn = np.maximum(values[:, :, None] - thresholds, 0).mean(axis=1)
    assert excess(mean, deviation)(thresholds) == pytest.approx(drawn, abs=0.02)


def drawn_improvement(
    mean: np.ndarray, deviation: np.ndarray, front: np.ndarray, reference: np.ndarray, draws: int
) -> np.ndarray:
    measure = moocore.Hypervolume(ref=reference, maximise=True)
    before = measure(front) if len(front) else 0.0
    gains = []
    for own, spread in zip(mean, deviation, strict=True):
        points = own + spread * RNG.standard_normal((draws, len(own)))
        gains.append(np.mean([measure(np.vstack([front, point])) - before for point in points]))
    return np.array(gains)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_improvement_is_the_mean_over_draws(objectives: int) -> None:
    reference = np.full(objectives, -1.0)
    front = RNG.random((7, objectives))
    mean, deviation = RNG.random((4, objectives)), 0.1 + 0.4 * RNG.random((4, objectives))
    excesses = [normal_excess(mean[:, i], deviation[:, i]) for i in range(objectives)]
    exact = expected_improvement(excesses, front, reference)
    drawn = drawn_improvement(mean, deviation, front, reference, 4000)
    assert exact == pytest.approx(drawn, rel=0.15, abs=0.01)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_of_certain_values_it_is_what_they_add(objectives: int) -> None:
    reference = np.zeros(objectives)
    # Few different numbers, so that many are equal.
    front = RNG.integers(1, 5, size=(9, objectives)).astype(float)
    points = RNG.integers(0, 7, size=(30, objectives)).astype(float)
    measure = moocore.Hypervolume(ref=reference, maximise=True)
    gained = [measure(np.vstack([front, point])) - measure(front) for point in points]
    found = expected_improvement([hinge_excess(points[:, i]) for i in range(objectives)], front, reference)
    assert found == pytest.approx(np.array(gained), abs=1e-9)


def test_members_that_do_not_surpass_the_reference_change_nothing() -> None:
    excesses = [normal_excess(np.array([0.5, 2.0]), np.array([0.3, 0.3])) for _ in range(2)]
    reference = np.array([0.0, 0.0])
    inside = np.array([[1.0, 0.5]])
    outside = np.array([[5.0, 0.0], [-1.0, 9.0], [0.5, 0.5]])
    with_them = expected_improvement(excesses, np.vstack([inside, outside]), reference)
    assert with_them == pytest.approx(expected_improvement(excesses, inside, reference))
    assert (expected_improvement(excesses, np.zeros((0, 2)), reference) > with_them).all()


def test_extreme_predictions_stay_finite() -> None:
    mean, deviation = np.array([-1e6, -800.0, 0.0, 800.0]), np.array([0.0, 1e-12, 30.0, 1e-12])
    thresholds = np.array([-1e3, 0.0, 0.999])
    for excess in (
        normal_excess(mean, deviation),
        gap_excess(mean, deviation, 1.0),
        log_excess(mean[:3], deviation[:3]),
    ):
        found = excess(thresholds)
        assert np.isfinite(found).all()
        assert (found >= 0).all()
