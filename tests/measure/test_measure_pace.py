"""The machine's pace, with an injected clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from nas.measure.pace import RUNS, SLOWED_DOWN, Pace


def test_the_pace_is_relative_to_the_best_so_far() -> None:
    durations = itertools.chain([100] * RUNS, [150] * RUNS, [50] * RUNS, [100] * RUNS)
    now = 0
    ticks: list[int] = []

    def clock() -> int:
        return now

    def work() -> None:
        nonlocal now
        now += next(durations)
        ticks.append(now)

    pace = Pace([work], clock)
    assert [pace(), pace(), pace(), pace()] == [1.0, 1.5, 1.0, 2.0]
    assert len(ticks) == 4 * RUNS


def test_of_several_works_that_counts_which_is_slowed_down_most() -> None:
    now = 0
    durations = {"steps": 100, "product": 40}

    def work(name: str) -> Callable[[], None]:
        def run() -> None:
            nonlocal now
            now += durations[name]

        return run

    pace = Pace([work("product"), work("steps")], lambda: now)
    assert pace() == 1.0
    durations["steps"] = 175
    assert pace() == 1.75
    durations["product"] = 80
    assert pace() == 2.0


def test_a_single_late_run_does_not_count() -> None:
    durations = itertools.chain([100] * RUNS, [100] * (RUNS - 1), [10_000])
    now = 0

    def work() -> None:
        nonlocal now
        now += next(durations)

    pace = Pace([work], lambda: now)
    assert [pace(), pace()] == [1.0, 1.0]


def test_the_real_one_is_at_least_its_best() -> None:
    pace = Pace()
    assert pace() == 1.0
    assert pace() >= 1.0
    assert pytest.approx(1.1) == SLOWED_DOWN


def test_looking_for_a_while_finds_the_best() -> None:
    durations = itertools.chain([175] * RUNS, itertools.repeat(100))
    now = 0

    def work() -> None:
        nonlocal now
        now += next(durations)

    pace = Pace([work], lambda: now)
    pace.settle(0.01)
    assert list(pace.best) == [100]
