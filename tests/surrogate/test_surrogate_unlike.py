"""How unlike designs are: by the choices that both have, and by what is known of them without a trial."""

from __future__ import annotations

import numpy as np
import pytest

from nas.surrogate.encode import Column, Encoding
from nas.surrogate.unlike import apart

STAGES = Column("stages", (1, 2, 3), ordered=True)
POOLING = Column("pooling", ("average", "flatten"))
WIDTHS = [Column(f"width{number}", (8, 16, 32, 64, 128), ordered=True, conditional=True) for number in (2, 3)]
COLUMNS = [STAGES, POOLING, *WIDTHS]


def positions(*rows: dict[str, object]) -> np.ndarray:
    return Encoding(COLUMNS).positions(rows)


def deep(pooling: str, *widths: int) -> dict[str, object]:
    return {"stages": 3, "pooling": pooling, "width2": widths[0], "width3": widths[1]}


def test_numbers_count_by_their_squares_and_names_by_whether_they_differ() -> None:
    tried = positions({"stages": 1, "pooling": "average"}, {"stages": 1, "pooling": "flatten"})
    ours = positions({"stages": 1, "pooling": "average"}, {"stages": 2, "pooling": "average"})
    # Means over two choices are 0, 0.5 and 0.125, 0.625; they are told against the mean of all four.
    assert apart(COLUMNS, ours, tried).tolist() == pytest.approx([0.0, 0.125 / 0.3125])


def test_what_only_one_of_two_designs_has_does_not_keep_them_apart() -> None:
    tried = positions(deep("average", 8, 8))
    flat, wide = {"stages": 1, "pooling": "flatten"}, deep("average", 128, 128)
    by_choices = apart(COLUMNS, positions(flat, deep("flatten", 8, 8), wide), tried)
    assert by_choices.argmax() == 0, "both of the two choices that it shares differ"
    assert by_choices.argmin() == 1, "one of four"


def test_designs_that_share_no_choice_are_as_unlike_as_can_be() -> None:
    columns = [Column(name, (1, 2), conditional=True) for name in "ab"]
    rows = Encoding(columns).positions([{"a": 1}, {"b": 1}, {"b": 2}])
    assert apart(columns, rows[1:], rows[:1]).tolist() == [1.0, 1.0]


def test_what_is_known_without_a_trial_counts_as_much_as_choices() -> None:
    tried = positions({"stages": 2, "pooling": "average"})
    ours = positions(*[{"stages": 3, "pooling": "average"}] * 3)
    cues = np.array([[0.0, 7.0], [1.0, 7.0], [5.0, 7.0]]), np.array([[0.0, 7.0]])
    found = apart(COLUMNS, ours, tried, cues, ["quality", "any"])
    assert found.tolist() == sorted(found.tolist())
    spread = np.std([0.0, 1.0, 5.0, 0.0])
    assert found[2] - found[0] == pytest.approx((5 / spread) ** 2 / 2 / 2), "one of two measures, by twice its variance"


def test_measures_that_differ_by_rounding_alone_say_nothing() -> None:
    tried, ours = (
        positions({"stages": 1, "pooling": "average"}),
        positions(deep("average", 8, 8), deep("flatten", 8, 8)),
    )
    third = np.full((2, 1), 0.1) * 3 - np.array([[0.0], [1e-16]])
    found = apart(COLUMNS, ours, tried, (third, np.array([[0.3]])), ["any"])
    assert found.tolist() == pytest.approx(apart(COLUMNS, ours, tried).tolist())


def test_amounts_that_only_costs_add_up_from_say_nothing_of_qualities() -> None:
    tried, ours = positions({"stages": 2, "pooling": "average"}), positions({"stages": 3, "pooling": "flatten"})
    cues = np.array([[100.0]]), np.array([[0.0]])
    assert apart(COLUMNS, ours, tried, cues, ["time"]).tolist() == apart(COLUMNS, ours, tried).tolist()


def test_what_is_not_known_is_as_the_mean_and_of_nothing_all_are_far() -> None:
    tried, ours = positions(deep("average", 8, 16)), positions(deep("flatten", 8, 16), deep("flatten", 8, 16))
    cues = np.array([[np.nan], [np.nan]]), np.array([[3.0]])
    assert np.isfinite(apart(COLUMNS, ours, tried, cues, ["any"])).all()
    assert apart(COLUMNS, ours, tried[:0]).tolist() == [np.inf, np.inf]
    assert apart(COLUMNS, ours[:0], tried).tolist() == []
