"""Axes on which objectives are about normal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.surrogate.warp import TAIL, Warp, candidates, of_sums

VALUES = st.lists(st.floats(0.001, 0.999), min_size=4, max_size=30, unique=True).map(np.array)


@given(VALUES, st.booleans(), st.sampled_from([1.0, 100.0, 3e4]))
def test_every_warp_is_undone_and_rises_with_quality(values: np.ndarray, maximise: bool, unit: float) -> None:
    values = np.sort(values) * unit
    for warp in candidates(values, maximise):
        warped = warp.forth(values)
        assert np.isfinite(warped).all()
        assert warp.back(warped) == pytest.approx(values, rel=1e-6, abs=1e-6 * unit)
        steps = np.diff(warped if maximise else warped[::-1])
        assert (steps >= 0).all()


@given(VALUES, st.booleans())
def test_slopes_are_those_of_the_axis(values: np.ndarray, maximise: bool) -> None:
    for warp in candidates(values, maximise):
        step = 1e-7
        rise = (warp.forth(values + step) - warp.forth(values - step)) / (2 * step)
        sign = 1 if maximise else -1
        away = np.abs((warp.raw(values) - warp.middle) / warp.spread + TAIL) > 1e-3  # no slope at the bend itself
        inside = (values > 2 * step) & (values < 1 - 2 * step) & away
        assert warp.slope(values)[inside] == pytest.approx(sign * rise[inside], rel=1e-3)


def kinds(values: list[float], maximise: bool) -> set[tuple[str, float]]:
    return {(warp.kind, warp.bound) for warp in candidates(np.array(values), maximise)}


def test_what_values_allow() -> None:
    assert kinds([0.1, 0.9, 0.95], True) == {("identity", 0), ("log", 0), ("gap", 1)}
    assert kinds([10, 90, 95], True) == {("identity", 0), ("log", 0), ("gap", 100)}
    assert kinds([3.5, 90, 950], False) == {("identity", 0), ("gap", 0)}
    assert kinds([-3, 0, 950], True) == {("identity", 0)}
    assert kinds([-3, -2, -1], True) == {("identity", 0), ("gap", 0)}


def test_a_value_on_its_bound_stays_finite() -> None:
    for warp in candidates(np.array([0.5, 0.9, 1.0]), True):
        assert np.isfinite(warp.forth(np.array([0.5, 1.0]))).all()


def test_a_tail_is_drawn_in() -> None:
    values = np.concatenate([np.linspace(90, 94, 40), [10.0, 11.0]])
    warp = next(warp for warp in candidates(values, True) if warp.kind == "identity")
    warped = warp.forth(values)
    assert warped[:40].max() - warped[:40].min() > 0.8  # not squeezed into a corner by the two failures
    assert warped[40] > -6
    assert warp.back(warped) == pytest.approx(values)


def test_of_sums_nothing_is_drawn_in() -> None:
    values = np.concatenate([np.linspace(0.0075, 0.008, 40), [0.05, 0.4]])
    warp = of_sums(values)
    far = np.array([0.005, 0.0077, 0.05, 5.0])
    assert np.diff(warp.forth(far)) / np.diff(np.log(far)) == pytest.approx(-1 / (warp.spread * warp.scale))
    assert warp.back(warp.forth(far)) == pytest.approx(far)
    assert warp.slope(far) == pytest.approx(1 / (far * warp.spread * warp.scale))
    assert warp.forth(values).mean() == pytest.approx(0, abs=1e-9)
    assert warp.forth(values).std() == pytest.approx(1)


def test_untouched_values_keep_their_warp() -> None:
    warp = Warp("identity", -1.0)
    assert warp.forth(np.array([2.0])).tolist() == [-2.0]
    assert warp.back(np.array([-2.0])).tolist() == [2.0]
