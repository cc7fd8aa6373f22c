"""Telling apart: against closed forms, against simulation, and which of a tie is taken."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fakes import LATENCY, TARGET, make_record

from nas.objectives import Objective
from nas.outcome import How, Quantity
from nas.record import TrialRecord
from nas.scoring import wilson_interval
from nas.ties import smallest_of_tied, tied_with, told_apart

ACCURACY, COST = Objective("accuracy"), Objective("latency_ms", TARGET)


def number(value: float, low: float | None = None, high: float | None = None) -> Quantity:
    return Quantity("accuracy", value, "1", How.MEASURED, low=low, high=high)


def record_of(trial: int, accuracy: float, latency_ms: float, size: int) -> TrialRecord:
    """Accuracy ± 1 point, latency ± 2 %."""
    record = make_record(trial, accuracy, latency_ms)
    return replace(
        record, quantities=tuple(replace(q, value=size) if q.name == "size_bytes" else q for q in record.quantities)
    )


def test_the_arms_that_face_each_other_count_and_no_others() -> None:
    # 3² + 4² = 5²: a difference of 5 is just reached, whatever lies on the outer sides.
    lower = number(0.0, -100.0, 4.0)
    assert not told_apart(number(5.0, 2.0, 100.0), lower)
    assert told_apart(number(5.001, 2.001, 100.0), lower)
    assert told_apart(lower, number(5.001, 2.001, 100.0))


def test_intervals_that_overlap_may_still_be_told_apart() -> None:
    first, second = number(0.90, 0.89, 0.91), number(0.918, 0.908, 0.928)
    assert first.high is not None
    assert second.low is not None
    assert first.high > second.low
    assert told_apart(first, second)


def test_without_intervals_only_equals_are_tied() -> None:
    assert not told_apart(number(0.9), number(0.9))
    assert told_apart(number(0.9), number(0.9000001))


def test_a_spread_of_seeds_widens_what_cannot_be_told_apart() -> None:
    first, second = number(0.90), number(0.93)
    just_enough = 0.03 / (1.959964 * math.sqrt(2))
    assert told_apart(first, second)
    assert told_apart(first, second, 0.99 * just_enough)
    assert not told_apart(first, second, 1.01 * just_enough)
    with pytest.raises(ValueError, match="must be at least 0, but got -1"):
        told_apart(first, second, -1)


def test_equal_designs_are_told_apart_as_seldom_as_95_per_cent_say() -> None:
    """Two samples of one true share are called different in about one case of twenty."""
    generator, images = np.random.default_rng(0), 400

    def scored(hits: int) -> Quantity:
        return number(hits / images, *wilson_interval(hits, images))

    pairs = generator.binomial(images, 0.9, (2000, 2))
    wrong = sum(told_apart(scored(int(a)), scored(int(b))) for a, b in pairs)
    assert 0.02 < wrong / 2000 < 0.07


def test_tied_needs_both_figures() -> None:
    here = record_of(0, 0.90, 0.0200, 50_000)
    others = [
        here,
        record_of(1, 0.905, 0.0202, 1),  # alike in both
        record_of(2, 0.905, 0.0300, 1),  # slower
        record_of(3, 0.95, 0.0202, 1),  # more accurate
        replace(record_of(4, 0.905, 0.0202, 1), quantities=()),
    ]
    assert [record.number for record in tied_with(here, others, ACCURACY, COST)] == [1]
    assert [record.number for record in tied_with(here, others, ACCURACY, COST, spread=0.05)] == [1, 3]


def test_of_a_tie_the_smallest_file_then_the_leader_then_the_lower_number() -> None:
    leader = record_of(5, 0.90, 0.0200, 40_000)
    smaller, equal = record_of(7, 0.895, 0.0201, 30_000), record_of(1, 0.895, 0.0201, 40_000)
    tiny_but_slow = record_of(2, 0.90, 0.1, 10)
    assert smallest_of_tied(leader, [leader, smaller, equal, tiny_but_slow], ACCURACY, COST) is smaller
    assert smallest_of_tied(leader, [equal, leader, tiny_but_slow], ACCURACY, COST) is leader
    twin = replace(smaller, number=6)
    assert smallest_of_tied(leader, [leader, smaller, twin], ACCURACY, COST) is twin
    bare = replace(smaller, quantities=tuple(q for q in smaller.quantities if q.name != "size_bytes"))
    assert smallest_of_tied(leader, [leader, bare], ACCURACY, COST) is leader
    assert leader.value(LATENCY) == 0.02
