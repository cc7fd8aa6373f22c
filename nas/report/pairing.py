"""Pairs of trials whose designs differ in one choice alone, and in what hangs on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nas.design import Value
from nas.record import TrialRecord

BLOCK = 1000  # trials that are compared with all others at a time
# stage2.conv: a part of which there are several, its number, what is chosen of it.
NUMBERED = re.compile(r"([^.\d]+)\d+\.(.+)", re.DOTALL)


@dataclass(frozen=True)
class Pairs:
    """M pairs of trials: the places of the two, and that of the choice that they differ in."""

    first: np.ndarray
    second: np.ndarray
    choice: np.ndarray

    def of(self, choices: Sequence[int]) -> Pairs:
        kept = np.isin(self.choice, choices)
        return Pairs(self.first[kept], self.second[kept], self.choice[kept])


@dataclass(frozen=True)
class Coded:
    """Designs as numbers.

    Args:
        names: All choices, in alphabetical order.
        values: The values of each that occur.
        codes: N×C, the place of the design's value among them; −1 where it has not the choice.
    """

    names: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    codes: np.ndarray

    @classmethod
    def of(cls, records: Sequence[TrialRecord]) -> Coded:
        rows = [{**record.design.architecture, **record.design.compression} for record in records]
        places: dict[str, dict[Value, int]] = {name: {} for name in sorted({name for row in rows for name in row})}
        for row in rows:
            for name, value in row.items():
                places[name].setdefault(value, len(places[name]))
        codes = [[own[row[name]] if name in row else -1 for name, own in places.items()] for row in rows]
        values = tuple(tuple(own) for own in places.values())
        return cls(tuple(places), values, np.array(codes, dtype=np.int32).reshape(len(rows), len(places)))

    def pairs(self) -> Pairs:
        """Every pair of trials of which all choices that both have agree but for one."""
        columns = [self.codes[:, [place]] == np.arange(len(values)) for place, values in enumerate(self.values)]
        onehot = np.concatenate([np.zeros((len(self.codes), 1), dtype=bool), *columns], axis=1).astype(np.float32)
        has = (self.codes >= 0).astype(np.float32)
        found = []
        for start in range(0, len(self.codes), BLOCK):
            block = slice(start, start + BLOCK)
            differ = np.rint(has[block] @ has.T - onehot[block] @ onehot.T)
            first, second = np.nonzero(np.triu(differ == 1, k=start + 1))
            found.append(np.stack([first + start, second], axis=1))
        both = np.concatenate(found) if found else np.zeros((0, 2), dtype=int)
        one, other = self.codes[both[:, 0]], self.codes[both[:, 1]]
        choice = ((one != other) & (one >= 0) & (other >= 0)).argmax(axis=1) if len(both) else np.zeros(0, dtype=int)
        return Pairs(both[:, 0], both[:, 1], choice)

    def settings(self, pairs: Pairs) -> np.ndarray:
        """For each of M pairs the number of its setting: the choice, and all else that both trials have."""
        one, other = self.codes[pairs.first], self.codes[pairs.second]
        shared = np.where((one >= 0) & (one == other), one, -1)
        keys = np.concatenate([pairs.choice[:, None], shared], axis=1)
        return np.asarray(np.unique(keys, axis=0, return_inverse=True)[1]).reshape(-1)

    def dependents(self, pairs: Pairs) -> tuple[str, ...]:
        """The choices that only one trial of some pair has."""
        lone = ((self.codes[pairs.first] >= 0) != (self.codes[pairs.second] >= 0)).any(axis=0)
        return tuple(name for name, is_lone in zip(self.names, lone, strict=True) if is_lone)


def groups(names: Sequence[str], choices: np.ndarray) -> Iterator[tuple[tuple[int, ...], str | None]]:
    """Choices that are compared together: each by itself, and the same one of several stages, with its pooled name."""
    pooled: dict[str, list[int]] = {}
    for place in sorted(set(choices.tolist())):
        yield (place,), None
        if (numbered := NUMBERED.fullmatch(names[place])) is not None:
            pooled.setdefault(".".join(numbered.groups()), []).append(place)
    yield from ((tuple(places), name) for name, places in pooled.items() if len(places) > 1)
