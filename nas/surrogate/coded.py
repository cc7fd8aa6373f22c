"""Thousands of values of a few kinds, each by its place among the different ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, overload

import numpy as np

from nas.surrogate.encode import value_key

ABSENT = -1


class Coded(Sequence[Any]):
    """N values, of which some may be absent (None).

    Args:
        different: The values that occur; whether each occurs once does not matter.
        places: For each of the N its place among them; ``ABSENT`` where there is none.
    """

    def __init__(self, different: Sequence[Any], places: np.ndarray) -> None:
        self.different = list(different)
        self.places = places

    @classmethod
    def of(cls, values: Sequence[Any]) -> Coded:
        """Values as they are, or coded already."""
        if isinstance(values, Coded):
            return values
        known: dict[Any, int] = {}
        different: list[Any] = []
        places = np.empty(len(values), dtype=int)
        for at, value in enumerate(values):
            key = (value.__class__, value_key(value))
            if value is not None and key not in known:
                known[key] = len(different)
                different.append(value)
            places[at] = ABSENT if value is None else known[key]
        return cls(different, places)

    @classmethod
    def absent(cls, count: int) -> Coded:
        """So many, of which none is there."""
        return cls((), np.full(count, ABSENT))

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Coded: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Coded(self.different, self.places[index])
        place = self.places[index]
        return None if place == ABSENT else self.different[place]

    def __iter__(self) -> Iterator[Any]:
        values = [*self.different, None]  # a place of -1 is the last
        return (values[place] for place in self.places.tolist())

    def mapped(self, function: Callable[[Any], Any]) -> Coded:
        """What a function makes of each."""
        return Coded([function(value) for value in self.different], self.places)

    def among(self, allowed: Collection[Any]) -> np.ndarray:
        """Which of them are among some, as a mask; the absent are not."""
        allowed_ones = np.array([*(value in allowed for value in self.different), False])
        return np.asarray(allowed_ones[self.places])

    def where(self, kept: np.ndarray) -> Coded:
        """The same, absent where a mask says so."""
        return Coded(self.different, np.where(kept, self.places, ABSENT))

    def filled(self, absent: Any) -> np.ndarray:
        """As an array, with what stands for the absent: of float64 where all are numbers, else of objects."""
        values = [*self.different, absent]
        numbers = all(isinstance(value, int | float) for value in values)
        return np.asarray(np.array(values, dtype=float if numbers else object)[self.places])
