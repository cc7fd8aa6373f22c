"""A line of numbers as a line of blocks."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Values in order as blocks of eight heights: the lowest for the smallest, the highest for the largest.

    Where there are more values than room each block stands for the last of an equal share of them, so that the line
    ends with the last value. Equal values are all the lowest.

    Args:
        values: Finite numbers.
        width: The most blocks, at least 1.
    """
    count = min(width, len(values))
    shown = [values[(index + 1) * len(values) // count - 1] for index in range(count)]
    if not shown:
        return ""
    low, extent = min(shown), max(shown) - min(shown)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round(top * (value - low) / extent) if extent > 0 else 0] for value in shown)
