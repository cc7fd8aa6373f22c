"""Designs as vectors and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import SurrogateError
from nas.surrogate.encode import Column, Encoding

COLUMNS = (
    Column("op", values=("none", "skip", "conv")),
    Column("kernel", values=(1, 3, 5, 7), ordered=True),
    Column("flag", values=(False, True)),
    Column("mixed", values=(1, True, "1", None), conditional=True),
    Column("width", low=8, high=512, log=True, conditional=True),
    Column("ratio", low=0.0, high=0.9),
)
ENCODING = Encoding(COLUMNS)


def rows() -> st.SearchStrategy[dict[str, Any]]:
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for column in COLUMNS:
        if column.values is not None:
            parts[column.name] = st.sampled_from(column.values)
        else:
            parts[column.name] = st.floats(column.low, column.high)
    always = {column.name: parts[column.name] for column in COLUMNS if not column.conditional}
    return st.fixed_dictionaries(always, optional={name: parts[name] for name in parts if name not in always})


@given(st.lists(rows(), min_size=1, max_size=5))
def test_what_was_encoded_is_decoded(given_rows: list[dict[str, Any]]) -> None:
    encoded = ENCODING.encode(given_rows)
    assert encoded.shape == (len(given_rows), ENCODING.width)
    assert ((encoded >= 0) & (encoded <= 1 + 1e-12)).all()
    for row, back in zip(given_rows, ENCODING.decode(encoded), strict=True):
        assert row.keys() == back.keys()
        for name, value in row.items():
            if isinstance(value, float):
                assert back[name] == pytest.approx(value, rel=1e-9, abs=1e-9)
            else:
                assert back[name] == value
                assert type(back[name]) is type(value)


def test_values_that_are_equal_in_python_but_not_in_kind_stay_apart() -> None:
    encoded = ENCODING.encode([{"mixed": 1}, {"mixed": True}, {"mixed": "1"}])
    assert len(np.unique(encoded, axis=0)) == 3


def test_nan_is_a_value_like_any_other() -> None:
    encoding = Encoding([Column("x", values=(math.nan, 1.0))])
    assert encoding.encode([{"x": float("nan")}, {"x": 1.0}]).tolist() == [[1, 0], [0, 1]]


def test_an_inactive_choice_is_neither_of_its_values() -> None:
    encoding = Encoding([Column("op", values=("a", "b"), conditional=True), Column("n", conditional=True)])
    assert encoding.encode([{}, {"op": "b", "n": 0.25}]).tolist() == [[0, 0, 0, 0.5, 0], [0, 1, 1, 0.25, 1]]
    assert encoding.groups.tolist() == [0, 0, 0, 1, 1]


def test_columns_with_the_same_values_share_their_kinds() -> None:
    columns = [Column("a", values=("x", "y")), Column("b", values=("x", "y")), Column("c", values=("x", "z"))]
    kinds = Encoding(columns).kinds.tolist()
    assert kinds[:2] == kinds[2:4]
    assert not set(kinds[:2]) & set(kinds[4:])


def test_a_range_of_one_number_lies_in_the_middle() -> None:
    assert Encoding([Column("x", low=3, high=3)]).encode([{"x": 3}]).tolist() == [[0.5]]


def test_a_strange_value_is_named_with_the_valid_ones() -> None:
    with pytest.raises(
        SurrogateError, match=r"column 'op' has no value 'pool'; valid: 'none', 'skip', 'conv'"
    ) as caught:
        ENCODING.encode([{"op": "conv"}, {"op": "pool"}])
    assert caught.value.hint == "the search goes on with its plain sampler"
