"""A line of blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.watch.sparkline import BLOCKS, sparkline


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 5, ""),
        ([3.0], 5, "▁"),
        ([2.0, 2.0, 2.0], 5, "▁▁▁"),
        ([0.0, 1.0], 5, "▁█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 4, "▁▃▆█"),
        ([5, 0, 7], 1, "▁"),
    ],
)
def test_known_lines(values: list[float], width: int, line: str) -> None:
    assert sparkline(values, width) == line


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(1, 60))
def test_it_fits_and_ends_with_the_last_value(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    assert set(line) <= set(BLOCKS)
    if values[-1] == max(values) > min(values) and len(line) > 1 and set(line) != {BLOCKS[0]}:
        assert line[-1] == BLOCKS[-1]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=200), st.integers(1, 60))
def test_what_only_grows_is_drawn_growing(values: list[float], width: int) -> None:
    heights = [BLOCKS.index(block) for block in sparkline(sorted(values), width)]
    assert heights == sorted(heights)
