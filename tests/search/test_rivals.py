"""What else there was to do, and how much of a promise is left after a look."""

from __future__ import annotations

import pytest

from nas.search.rivals import LATEST, MOST, MOST_KEPT, PRIOR, Rivals


def test_what_else_there_was_is_known_of_the_latest() -> None:
    rivals = Rivals()
    assert rivals.of("a") is None
    for number in range(MOST + 1):
        rivals.chosen(str(number), 2.0, float(number))
    assert (rivals.of("0"), rivals.of("1"), rivals.of(str(MOST))) == (None, 1.0, MOST)


def test_looks_tell_how_much_of_a_promise_is_left() -> None:
    rivals = Rivals()
    assert rivals.kept == 1.0
    for worth in (1.0, 0.0):
        rivals.chosen("a", 2.0, 0.5)
        rivals.looked("a", worth)
    assert rivals.kept == pytest.approx((PRIOR + 0.5) / (PRIOR + 2))
    for _ in range(LATEST):
        rivals.looked("a", 1.0)
    assert rivals.kept == pytest.approx((PRIOR + 0.5 * LATEST) / (PRIOR + LATEST)), "the latest alone"


def test_a_promise_of_nothing_tells_nothing_and_none_counts_for_more_than_it_was() -> None:
    rivals = Rivals()
    rivals.chosen("a", 0.0, 0.0)
    rivals.looked("a", 1.0)
    assert rivals.kept == 1.0
    rivals.chosen("a", 1e-9, 0.0)
    rivals.looked("a", 1.0)
    assert rivals.kept == 1.0, f"it counts as {MOST_KEPT}"
    rivals.chosen("a", 1.0, 0.0)
    rivals.looked("a", 0.5)
    assert rivals.kept == 1.0, "on the whole"
