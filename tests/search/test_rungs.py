"""Who goes on at a rung: an order by dominance, one in so many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.rungs import best_of, in_order, promotable, standing, survivors

MAXIMISE, LOGS = (True, False), (False, True)


def test_order_goes_by_rank_then_by_contribution() -> None:
    # Accuracy is to grow, latency to shrink. The first three dominate the others; of them the middle one fills most.
    points = np.array([[0.70, 1.0], [0.80, 2.0], [0.905, 9.9], [0.60, 3.0], [0.5, 11.0], [0.90, 9.0]])
    order = in_order(points, MAXIMISE).tolist()
    assert set(order[:4]) == {0, 1, 2, 5}
    assert order[4:] == [3, 4]
    assert order.index(1) < order.index(5), "the neighbours 2 and 5 share what they add"


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=12))
def test_nobody_stands_before_one_that_dominates_him(pairs: list[tuple[int, int]]) -> None:
    points = np.array(pairs, dtype=float)
    order = in_order(points, MAXIMISE).tolist()
    assert sorted(order) == list(range(len(pairs)))
    for early, one in enumerate(order):
        for other in order[early + 1 :]:
            better = points[other][0] >= points[one][0] and points[other][1] <= points[one][1]
            assert not (better and (points[other] != points[one]).any()), (points[other], points[one])


def test_one_in_three_goes_on() -> None:
    others = {n: (0.5 + n / 100, 1.0) for n in range(9)}
    standings = {n: standing(n, others, MAXIMISE, 3, LOGS) for n in others}
    assert [n for n, found in standings.items() if found.goes_on] == [6, 7, 8]
    assert standings[8].place == 1
    assert standings[0].place == standings[0].among == 9


def test_whoever_nothing_beats_goes_on_too() -> None:
    others: dict[int, tuple[float, float]] = {n: (0.5 + n / 100, 1.0 + n) for n in range(9)} | {9: (0.5, 20.0)}
    assert [n for n in others if standing(n, others, MAXIMISE, 3, LOGS).goes_on] == list(range(9))
    assert promotable([2, 9], others, MAXIMISE, 3, LOGS) == [2]


@pytest.mark.parametrize(("count", "reduction", "expected"), [(1, 3, 1), (3, 3, 1), (5, 2, 2), (9, 3, 3), (11, 3, 3)])
def test_survivors(count: int, reduction: int, expected: int) -> None:
    assert survivors(count, reduction) == expected


def test_while_few_are_there_all_go_on() -> None:
    others = {0: (0.9, 1.0), 1: (0.1, 9.0)}
    assert standing(1, others, MAXIMISE, 3, LOGS).goes_on
    assert promotable([1], others, MAXIMISE, 3, LOGS) == []


def test_who_was_stopped_is_promoted_when_worse_ones_arrive_behind_him() -> None:
    others: dict[int, tuple[float, float]] = {0: (0.9, 1.0), 1: (0.8, 1.0), 2: (0.7, 1.0)}
    assert not standing(1, others, MAXIMISE, 3, LOGS).goes_on
    assert promotable([1, 2], others, MAXIMISE, 3, LOGS) == []
    others |= {n: (0.3, 2.0 + n) for n in range(3, 6)}
    assert promotable([1, 2], others, MAXIMISE, 3, LOGS) == [1]


def test_a_latency_counts_by_its_logarithm() -> None:
    # 0.01, 0.1 and 1 ms are equally far apart: the one in the middle fills as much as can be filled.
    others = {0: (0.5, 0.01), 1: (0.75, 0.1), 2: (0.9, 1.0), 3: (0.91, 1.1), 4: (0.895, 0.95), 5: (0.4, 2.0)}
    assert standing(1, others, MAXIMISE, 6, LOGS).place == 1


def test_of_some_the_best_is_the_first_in_order() -> None:
    others = {0: (0.9, 1.0), 1: (0.8, 1.0), 2: (0.95, 0.9)}
    assert best_of([0, 1], others, MAXIMISE, LOGS) == 0
    assert best_of([1, 7], others, MAXIMISE, LOGS) == 1
    assert best_of([7], others, MAXIMISE, LOGS) is None
    assert best_of([], {}, MAXIMISE, LOGS) is None
