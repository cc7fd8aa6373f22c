"""Designs as vectors: choices as columns of numbers that regressions can work with, and back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.errors import SurrogateError

# Where the number of an inactive choice is placed: in the middle, equally far from both ends.
MIDDLE = 0.5


def value_key(value: Any) -> Any:
    """What tells values apart: True is not 1, and NaN is NaN."""
    if value is True or value is False:
        return repr(value), bool
    return repr(value) if value != value else value


@dataclass(frozen=True)
class Column:
    """One choice.

    Args:
        name: Its name in rows.
        values: What it may be; None for a range of numbers.
        low: Lower end of a range.
        high: Upper end of a range.
        log: Whether a range is logarithmic.
        ordered: Whether neighbours among the values are alike; a range always is.
        conditional: Whether rows may lack it.
        costless: Whether no cost depends on it, as on how a network is trained.
    """

    name: str
    values: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    ordered: bool = False
    conditional: bool = False
    costless: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it takes one number from 0 to 1; else one for each value, of which one is 1."""
        return self.values is None or (self.ordered and len(self.values) > 2)

    @property
    def width(self) -> int:
        """How many numbers it takes: its own, and whether it is active where that is not always so."""
        own = 1 if self.is_number else len(self.values or ())
        return own + (1 if self.conditional else 0)

    def positions(self, given: Sequence[Any]) -> np.ndarray:
        """Where values lie, as N float64: the place in the list of values, or from 0 to 1 in a range.

        Raises:
            SurrogateError: A value is not among the column's.
        """
        if self.values is None:
            return self._in_range(np.array(given, dtype=float))
        places = {value_key(value): place for place, value in enumerate(self.values)}
        try:
            if self._plain and bool not in set(map(type, given)):  # these need no key of their own, which takes long
                return np.array(list(map(places.__getitem__, given)), dtype=float)
            return np.array([places[value_key(value)] for value in given], dtype=float)
        except KeyError:
            strange = next(value for value in given if value_key(value) not in places)
            valid = ", ".join(repr(value) for value in self.values)
            raise SurrogateError(
                f"column '{self.name}' has no value {strange!r}; valid: {valid}",
                "the search goes on with its plain sampler",
            ) from None

    @property
    def _plain(self) -> bool:
        """Whether its values are their own keys."""
        return all(value_key(value) is value for value in self.values or ())

    def _in_range(self, numbers: np.ndarray) -> np.ndarray:
        if not self.high > self.low:
            return np.full(len(numbers), MIDDLE)
        if self.log:
            numbers = np.log(numbers)
        low, high = (math.log(end) if self.log else float(end) for end in (self.low, self.high))
        return np.asarray((numbers - low) / (high - low))

    def value_at(self, position: float) -> Any:
        """The value at a position; the inverse of ``positions``."""
        if self.values is not None:
            return self.values[min(len(self.values) - 1, max(0, round(position)))]
        at = min(1.0, max(0.0, position))
        if self.log and self.high > self.low:
            return min(self.high, max(self.low, math.exp(math.log(self.low) * (1 - at) + math.log(self.high) * at)))
        return min(self.high, max(self.low, self.low * (1 - at) + self.high * at))


class Encoding:
    """Encodes rows of one set of columns.

    Args:
        columns: The choices, each with a name of its own.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.width = sum(column.width for column in columns)
        ends = np.cumsum([0, *(column.width for column in columns)])
        self._slices = [slice(int(first), int(last)) for first, last in itertools.pairwise(ends)]

    @property
    def groups(self) -> np.ndarray:
        """For each of the D numbers which column it belongs to, D integers."""
        return np.repeat(np.arange(len(self.columns)), [column.width for column in self.columns])

    @property
    def costly(self) -> np.ndarray:
        """For each of the D numbers whether costs may depend on it."""
        return np.repeat([not column.costless for column in self.columns], [column.width for column in self.columns])

    @property
    def kinds(self) -> np.ndarray:
        """For each of the D numbers what it stands for, D integers: columns that offer the same values share them.

        Six edges that each take one of five operations have five kinds, not thirty.
        """
        known: dict[Any, int] = {}
        labels: list[Any] = []
        for column in self.columns:
            values = None if column.values is None else tuple(value_key(value) for value in column.values)
            own: list[Any] = ["number" if values is None else (values, "number")]
            if not column.is_number:
                own = [(values, place) for place in range(len(values or ()))]
            labels += [*own, *(["active"] if column.conditional else [])]
        return np.array([known.setdefault(label, len(known)) for label in labels], dtype=int)

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """N rows as N×D numbers; a name that is missing in a row is a choice that is not active there.

        Raises:
            SurrogateError: A value is not among its column's.
        """
        return self.encode_positions(self.positions(rows))

    def positions(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Positions of every column's values, N×columns; NaN where the choice is not active."""
        positions = np.full((len(rows), len(self.columns)), np.nan)
        for index, column in enumerate(self.columns):
            present = [at for at, row in enumerate(rows) if column.name in row]
            if present:
                positions[present, index] = column.positions([rows[at][column.name] for at in present])
        return positions

    def encode_positions(self, positions: np.ndarray) -> np.ndarray:
        """N×columns positions as N×D numbers."""
        encoded = np.zeros((len(positions), self.width))
        for index, (column, own) in enumerate(zip(self.columns, self._slices, strict=True)):
            at = positions[:, index]
            active = ~np.isnan(at)
            if column.is_number:
                last = 1.0 if column.values is None else max(1.0, len(column.values) - 1.0)
                encoded[:, own.start] = np.where(active, at / last, MIDDLE)
            else:
                rows = np.flatnonzero(active)
                encoded[rows, own.start + at[rows].astype(int)] = 1.0
            if column.conditional:
                encoded[:, own.stop - 1] = active
        return encoded

    def decode(self, encoded: np.ndarray) -> list[dict[str, Any]]:
        """The rows that N×D numbers stand for, or are closest to."""
        rows: list[dict[str, Any]] = [{} for _ in encoded]
        for column, own in zip(self.columns, self._slices, strict=True):
            for row, numbers in zip(rows, encoded[:, own], strict=True):
                if column.conditional and numbers[-1] < 0.5:
                    continue
                if column.is_number:
                    last = 1.0 if column.values is None else max(1.0, len(column.values) - 1.0)
                    row[column.name] = column.value_at(float(numbers[0]) * last)
                else:
                    row[column.name] = column.value_at(int(np.argmax(numbers[: len(column.values or ())])))
        return rows
