"""The arithmetic of comparing searches: fronts over time, what training them again gives and costs, bounds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from benchmarks.efficiency_analysis import (
    Again,
    Axes,
    Curve,
    Front,
    Reached,
    Scored,
    as_scored,
    as_trained_again,
    at_checkpoints,
    band,
    cost,
    fronts,
    mean_time,
    ratio,
    spread_labels,
    time_to,
)
from benchmarks.plain_loop import Grid, check_supported
from hypothesis import given
from hypothesis import strategies as st

from nas.choice import Choice
from nas.errors import NasError
from nas.space import SearchSpace

AXES = Axes(least_accuracy=0.5, fastest_ms=0.01, slowest_ms=1.0)


def test_the_box_counts_accuracy_linearly_and_latency_by_its_logarithm() -> None:
    assert AXES.hypervolume(np.array([(0.9, 0.1)])) == pytest.approx(0.4 * 0.5)
    assert AXES.hypervolume(np.array([(0.9, 0.1), (0.7, 0.01)])) == pytest.approx(0.4 * 0.5 + 0.2 * 0.5)
    assert AXES.hypervolume(np.array([(1.0, 0.001)])) == pytest.approx(0.5)  # no more for less than the fastest


@pytest.mark.parametrize("point", [(0.5, 0.1), (0.4, 0.1), (0.9, 1.0), (0.9, 3.0)])
def test_what_is_no_better_than_the_reference_dominates_nothing(point: tuple[float, float]) -> None:
    assert AXES.hypervolume(np.array([point])) == 0.0
    assert AXES.hypervolume(np.array([point, (0.9, 0.1)])) == pytest.approx(0.2)


def test_of_nothing_the_hypervolume_is_none() -> None:
    assert AXES.hypervolume(np.zeros((0, 2))) == 0.0


@given(st.lists(st.tuples(st.floats(0.3, 1.0), st.floats(0.005, 3.0)), max_size=12))
def test_the_hypervolume_is_the_area_under_the_steps(points: list[tuple[float, float]]) -> None:
    """Against a sum over strips of latency, an independent way to have it."""
    edges = sorted({0.01, 1.0, *(min(max(latency, 0.01), 1.0) for _, latency in points)})
    area = 0.0
    for left, right in itertools.pairwise(edges):
        best = max((accuracy - 0.5 for accuracy, latency in points if latency <= left), default=0.0)
        area += max(best, 0.0) * math.log(right / left) / math.log(100)
    assert AXES.hypervolume(np.array(points).reshape(-1, 2)) == pytest.approx(area, abs=1e-9)


def test_a_front_is_noted_when_it_changes_and_only_up_to_the_horizon() -> None:
    trials = [
        Scored(10, "a", 0.8, 0.1),
        Scored(20, "worse", 0.7, 0.2),
        Scored(25, "too slow", 0.99, 2.0),
        Scored(30, "b", 0.9, 0.3),
        Scored(40, "c", 0.95, 0.1),
        Scored(50, "late", 0.99, 0.05),
    ]
    found = fronts(trials, AXES, horizon=45)
    assert [(front.seconds, front.members) for front in found] == [(10, ("a",)), (30, ("a", "b")), (40, ("c",))]
    assert [front.volume for front in found] == pytest.approx(
        [AXES.hypervolume(np.array(p)) for p in ([(0.8, 0.1)], [(0.8, 0.1), (0.9, 0.3)], [(0.95, 0.1)])]
    )


def test_a_design_that_was_scored_twice_is_one_member() -> None:
    found = fronts([Scored(1, "a", 0.8, 0.1), Scored(2, "a", 0.9, 0.2), Scored(3, "b", 0.7, 0.05)], AXES, 10)
    assert found[-1].members == ("a", "b")


def test_the_member_that_adds_most_comes_first() -> None:
    found = fronts([Scored(1, "fast", 0.6, 0.01), Scored(2, "good", 0.9, 0.02), Scored(3, "best", 0.91, 0.1)], AXES, 10)
    assert found[-1].members == ("good", "fast", "best")


def test_checkpoints_keep_the_front_in_force_and_the_last() -> None:
    found = [Front(float(second), (str(second),), 0.1) for second in (1, 2, 3, 50, 99, 100)]
    assert [front.seconds for front in at_checkpoints(found, 3)] == [1, 3, 100]  # at 1, 10 and 100 s
    assert at_checkpoints(found, 0) == found == at_checkpoints(found, 6)
    assert at_checkpoints([], 3) == []


SHARED = {
    "a": Again(0.8, 0.1, {"train": 5.0, "export a": 1.0}),
    "b": Again(0.9, 0.3, {"train": 5.0, "export b": 2.0}),  # another compression of the same network
    "c": Again(0.95, 0.1, {"train c": 30.0}),
}


def test_a_shared_stage_is_paid_for_once() -> None:
    assert cost([SHARED["a"], SHARED["b"]]) == 8.0
    assert cost([]) == 0.0


def test_training_again_takes_its_time_and_what_one_has_never_gets_worse() -> None:
    found = [Front(10, ("a", "b"), 0.4), Front(15, ("c",), 0.5), Front(20, ("a",), 0.1)]
    curve = as_trained_again(found, SHARED, AXES)
    assert curve.seconds.tolist() == [16, 18, 26, 45]  # the front of a alone is trained before that of c is
    alone, both = (AXES.hypervolume(np.array(points)) for points in ([(0.8, 0.1)], [(0.8, 0.1), (0.9, 0.3)]))
    assert curve.volumes.tolist() == pytest.approx([alone, both, both, AXES.hypervolume(np.array([(0.95, 0.1)]))])
    assert as_trained_again(found, SHARED, AXES, with_cost=False).at(np.array([9, 10, 15])).tolist() == pytest.approx(
        [0, both, AXES.hypervolume(np.array([(0.95, 0.1)]))]
    )


def test_a_member_that_cannot_be_trained_again_counts_for_nothing() -> None:
    curve = as_trained_again([Front(10, ("a", "gone"), 0.4)], {"a": SHARED["a"], "gone": None}, AXES)
    assert curve.volumes.tolist() == pytest.approx([AXES.hypervolume(np.array([(0.8, 0.1)]))])


def test_a_search_that_found_nothing_has_nothing_and_never_arrives() -> None:
    for curve in (as_scored([]), as_trained_again([], {}, AXES)):
        assert curve.last == 0.0
        assert curve.at(np.array([1.0, 100.0])).tolist() == [0.0, 0.0]
        assert time_to(curve, 0.1, 900) == Reached(900, censored=True)


def test_a_curve_holds_from_its_moment_on() -> None:
    curve = Curve(np.array([10.0, 20.0]), np.array([0.1, 0.3]))
    assert curve.at(np.array([9.9, 10.0, 19.9, 20.0, 99.0])).tolist() == [0.0, 0.1, 0.1, 0.3, 0.3]


def test_the_time_to_a_target_is_the_first_and_the_horizon_where_there_is_none() -> None:
    curve = Curve(np.array([10.0, 20.0, 30.0]), np.array([0.1, 0.3, 0.3]))
    assert time_to(curve, 0.3, 900) == Reached(20.0)
    assert time_to(curve, 0.31, 900) == Reached(900, censored=True)


@pytest.mark.parametrize(
    ("ours", "others", "bound"),
    [(False, False, ""), (False, True, "at most"), (True, False, "at least"), (True, True, "not known")],
)
def test_a_censored_time_makes_the_ratio_a_bound(ours: bool, others: bool, bound: str) -> None:
    found = ratio([Reached(10, ours), Reached(40)], [Reached(100, others), Reached(100)], np.random.default_rng(0))
    assert found.bound == bound
    assert found.value == pytest.approx(0.2)  # the geometric mean of 0.1 and 0.4
    assert (found.low, found.high) == pytest.approx((0.1, 0.4))  # of two seeds: one of them twice
    assert found.words().startswith(bound)


def test_the_interval_of_equal_ratios_is_that_ratio_and_noise_widens_it() -> None:
    rng = np.random.default_rng(0)
    equal = ratio([Reached(10), Reached(30)], [Reached(100), Reached(300)], rng)
    assert (equal.low, equal.value, equal.high) == pytest.approx((0.1, 0.1, 0.1))
    logs = rng.normal(0, 0.5, 400)
    found = mean_time([Reached(float(time)) for time in np.exp(3 + logs)], rng)
    assert np.log(found.high / found.low) == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(400), rel=0.15)


def test_ratios_need_pairs() -> None:
    with pytest.raises(ValueError, match="1 times of ours and 2 of the others"):
        ratio([Reached(1)], [Reached(1), Reached(2)], np.random.default_rng(0))


def test_a_band_is_the_median_between_the_worst_and_the_best() -> None:
    curves = [Curve(np.array([second]), np.array([volume])) for second, volume in ((1.0, 0.1), (2.0, 0.4), (3.0, 0.2))]
    found = band(curves, np.array([0.5, 2.5, 4.0]))
    assert found.median.tolist() == [0.0, 0.1, 0.2]
    assert found.low.tolist() == [0.0, 0.0, 0.1]
    assert found.high.tolist() == [0.0, 0.4, 0.4]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_labels_keep_their_order_and_their_distance(heights: list[float]) -> None:
    moved = spread_labels(heights, 0.1)
    order = sorted(range(len(heights)), key=heights.__getitem__)
    assert all(moved[b] - moved[a] >= 0.1 - 1e-9 for a, b in itertools.pairwise(order))
    assert sum(moved) == pytest.approx(sum(heights))  # none is pushed further than its neighbours


def test_labels_that_do_not_meet_stay() -> None:
    assert spread_labels([0.9, 0.1, 0.5], 0.1) == pytest.approx([0.9, 0.1, 0.5])


def test_the_plain_loop_refuses_what_it_does_not_carry_out() -> None:
    space = SearchSpace("small", "convnet", "", (Choice("weight_sharing", "compression", ("none", "kmeans")),))
    with pytest.raises(NasError, match="does not carry out weight_sharing"):
        check_supported(space)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_plain_loops_grid_has_so_many_levels_and_passes_gradients(bits: int) -> None:
    import torch

    weight = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rounded = Grid(bits)(weight)
    steps = rounded.detach() / rounded.detach().abs().amax((1, 2, 3), keepdim=True) * (2 ** (bits - 1) - 1)
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert torch.allclose(rounded, weight, atol=float(weight.detach().abs().max()) / (2**bits - 2) + 1e-6)
    rounded.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))
