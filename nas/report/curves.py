"""A stage's curve, such as the loss of every epoch, as the page draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_POINTS = 60
LEFT_OUT = ("seconds", "epoch")


def curve_of(detail: Mapping[str, Any]) -> dict[str, list[float]] | None:
    """The stage's curve: name → values, one an epoch, thinned where there are very many; None where it has none.

    Args:
        detail: A stage's detail; its ``curve`` is a list with a mapping of names to numbers for each epoch.
    """
    rows = detail.get("curve")
    if not isinstance(rows, list) or len(rows) < 2 or not all(isinstance(row, Mapping) for row in rows):
        return None
    names = [name for name in rows[0] if name not in LEFT_OUT and all(_is_number(row.get(name)) for row in rows)]
    kept = _thinned(rows)
    return {name: [float(f"{row[name]:.4g}") for row in kept] for name in names} or None


def _thinned(rows: Sequence[Any]) -> Sequence[Any]:
    """Not more than ``MOST_POINTS`` of them, evenly spaced, the first and the last among them."""
    if len(rows) <= MOST_POINTS:
        return rows
    return [rows[round(at * (len(rows) - 1) / (MOST_POINTS - 1))] for at in range(MOST_POINTS)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
