"""The machine's pace, with an injected clock."""

from __future__ import annotations

import itertools

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

    pace = Pace(work, clock)
    assert [pace(), pace(), pace(), pace()] == [1.0, 1.5, 1.0, 2.0]
    assert len(ticks) == 4 * RUNS


def test_a_single_late_run_does_not_count() -> None:
    durations = itertools.chain([100] * RUNS, [100] * (RUNS - 1), [10_000])
    now = 0

    def work() -> None:
        nonlocal now
        now += next(durations)

    pace = Pace(work, lambda: now)
    assert [pace(), pace()] == [1.0, 1.0]


def test_the_real_one_is_at_least_its_best() -> None:
    pace = Pace()
    assert pace() == 1.0
    assert pace() >= 1.0
    assert pytest.approx(1.1) == SLOWED_DOWN
