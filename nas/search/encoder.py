"""Designs as numbers for surrogates; each is read once, as a long search asks for the same thousands at every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.choice import Choice
from nas.compression import TRAINED_OTHERWISE, split_name
from nas.design import Design, Value
from nas.space import SearchSpace
from nas.surrogate.coded import Coded
from nas.surrogate.encode import Column, Encoding

# So many designs are remembered at most: a long study's trials and the fans that are judged beside them.
REMEMBERED = 40_000


def columns_of(space: SearchSpace) -> tuple[Column, ...]:
    """The space's choices as the surrogates see them; those of one value say nothing."""
    return tuple(
        Column(
            choice.name,
            values=choice.values,
            ordered=choice.ordered,
            conditional=bool(choice.when),
            costless=is_costless(choice),
        )
        for choice in space.choices
        if len(choice.values) > 1
    )


def is_costless(choice: Choice) -> bool:
    """Whether no cost of a design depends on a choice."""
    return choice.group == "compression" and split_name(choice.name)[1] in TRAINED_OTHERWISE


def row_of(design: Design) -> Mapping[str, Value]:
    """A design as a row: its active choices."""
    return {**design.architecture, **design.compression}


class Encoder:
    """Encodes the designs of one space.

    Args:
        space: What designs are of.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.encoding = Encoding(columns_of(space))
        self._places: dict[str, int] = {}
        self._positions = np.empty((0, len(self.encoding.columns)))
        self._last: tuple[list[str], np.ndarray] = [], self.encoding.encode([])

    def encode(self, designs: Sequence[Design]) -> np.ndarray:
        """N designs as N×D numbers, which are not to be changed: the same designs have the same array.

        Raises:
            SurrogateError: A value is not among its choice's.
        """
        digests = [design.digest for design in designs]
        if digests != self._last[0]:
            self._last = digests, self.encoding.encode_positions(self.positions(designs))
        return self._last[1]

    def positions(self, designs: Sequence[Design]) -> np.ndarray:
        """Where the choices of N designs lie, N×columns (see ``Column.positions``); NaN where one is not active.

        Raises:
            SurrogateError: A value is not among its choice's.
        """
        digests = [design.digest for design in designs]
        new = {digest: design for digest, design in zip(digests, designs, strict=True) if digest not in self._places}
        if new:
            if len(self._places) + len(new) > REMEMBERED:
                self._places.clear()
                new = dict(zip(digests, designs, strict=True))
            self._learn(new)
        return np.asarray(self._positions[[self._places[digest] for digest in digests]])

    def encode_columns(self, columns: Mapping[str, Coded]) -> np.ndarray:
        """The same of designs that are given by choice (see ``Parameters.columns``), which are not remembered."""
        own = [columns[column.name] for column in self.encoding.columns]
        positions = [
            # The last place is that of what is absent.
            np.append(column.positions(values.different), np.nan)[values.places]
            for column, values in zip(self.encoding.columns, own, strict=True)
        ]
        return self.encoding.encode_positions(np.stack(positions, axis=1))

    def _learn(self, designs: Mapping[str, Design]) -> None:
        """Remembers where the choices of designs lie, by digest."""
        positions = self.encoding.positions([row_of(design) for design in designs.values()])
        first = len(self._places)
        while len(self._positions) < first + len(positions):
            room = np.empty_like(self._positions) if len(self._positions) else np.empty((1024, positions.shape[1]))
            self._positions = np.concatenate([self._positions, room])
        self._positions[first : first + len(positions)] = positions
        self._places |= {digest: first + place for place, digest in enumerate(designs)}
