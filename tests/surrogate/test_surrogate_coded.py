"""Values coded by their place among the different ones."""

from __future__ import annotations

import numpy as np

from nas.surrogate.coded import Coded

GIVEN = [8, None, True, 8, "max", 1, 8.5, None]


def test_coded_values_are_the_values() -> None:
    coded = Coded.of(GIVEN)
    assert list(coded) == GIVEN
    assert [type(value) for value in coded] == [type(value) for value in GIVEN], "True is not 1"
    assert [coded[place] for place in range(len(coded))] == GIVEN
    assert list(coded[2:5]) == GIVEN[2:5]
    assert len(coded) == 8
    assert len(coded.different) == 5
    assert Coded.of(coded) is coded
    assert list(Coded.absent(2)) == [None, None]


def test_what_is_done_to_all_is_done_to_the_different_ones() -> None:
    calls = []

    def shown(value: object) -> str:
        calls.append(value)
        return str(value)

    mapped = Coded.of([3, 3, 3, None, 4]).mapped(shown)
    assert list(mapped) == ["3", "3", "3", None, "4"]
    assert calls == [3, 4]


def test_some_are_left_out() -> None:
    coded = Coded.of([1, 2, None, 3, 1])
    assert coded.among((1, 3)).tolist() == [True, False, False, True, True]
    kept = coded.where(np.array([True, True, True, False, False]))
    assert list(kept) == [1, 2, None, None, None]
    assert kept.filled(0).tolist() == [1.0, 2.0, 0.0, 0.0, 0.0]
    assert kept.filled(0).dtype == float
    words = Coded.of(["a", None]).filled("b")
    assert words.tolist() == ["a", "b"]
    assert words.dtype == object
