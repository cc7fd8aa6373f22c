"""All designs that a set of columns allows, as positions of their values: drawn, counted, changed, told apart.

Positions are N×columns float64, in the terms of ``Column.positions``. A *full* row gives every choice a position, the
*active* row has NaN where the choice plays no part; two designs are the same where their active rows are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.surrogate.activity import Activity, AskedActivity
from nas.surrogate.coded import Coded
from nas.surrogate.encode import Column, Encoding
from nas.surrogate.evolve import Operators

# Of a number with neighbours, a mutation goes to one of them so often, else anywhere.
STEP_SHARE = 0.5
# How far a step goes in a range without grid, as a deviation.
STEP = 0.1
DIGITS = 9
# How many neighbours one number of a design has at most.
NEIGHBOURS = 6


@dataclass(frozen=True)
class Axis:
    """One column with the positions that its values may take.

    Args:
        column: The choice.
        grid: Its positions, ascending; None where any from 0 to 1 may be.
        values: What stands for each position of the grid; None where the column is asked.
    """

    column: Column
    grid: np.ndarray | None
    values: tuple[Any, ...] | None = None

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Positions at random."""
        if self.grid is None:
            return rng.random(count)
        return self.grid[rng.integers(len(self.grid), size=count)]

    def change(self, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Other positions, of numbers often a near one."""
        anywhere = self.sample(len(positions), rng)
        if self.grid is None:
            near = np.clip(positions + STEP * rng.standard_normal(len(positions)), 0, 1)
        elif len(self.grid) == 1:
            return positions
        else:
            places = self.places(positions)
            shift = rng.integers(1, len(self.grid), size=len(positions))
            anywhere = self.grid[(places + shift) % len(self.grid)]
            step = np.where(rng.random(len(positions)) < 0.5, 1, -1)
            inside = (places + step >= 0) & (places + step < len(self.grid))
            near = self.grid[np.where(inside, places + step, places - step)]
        if not self.column.is_number:
            return anywhere
        return np.asarray(np.where(rng.random(len(positions)) < STEP_SHARE, near, anywhere))

    def others(self, position: float, rng: np.random.Generator) -> np.ndarray:
        """Positions beside one: all others of a few values, the nearest of many."""
        if self.grid is None:
            return np.clip(position + STEP * rng.standard_normal(NEIGHBOURS // 2), 0, 1)
        others = self.grid[np.abs(self.grid - position) > 10.0**-DIGITS]
        if self.column.is_number and len(others) > NEIGHBOURS:
            others = others[np.argsort(np.abs(others - position), kind="stable")[:NEIGHBOURS]]
        return others

    def places(self, positions: np.ndarray) -> np.ndarray:
        """Which of the grid's positions each of N is closest to."""
        assert self.grid is not None
        at = np.searchsorted(self.grid, positions).clip(0, len(self.grid) - 1)
        before = np.maximum(at - 1, 0)
        closer = np.abs(self.grid[before] - positions) < np.abs(self.grid[at] - positions)
        return np.where(closer, before, at)


class Domain:
    """The designs.

    Args:
        axes: One for each choice.
        activity: Which choices play a part in which designs.
    """

    def __init__(self, axes: Sequence[Axis], activity: Activity) -> None:
        self.axes = tuple(axes)
        self.activity = activity
        self.encoding = Encoding([axis.column for axis in axes])
        # Of choices without order the number of values; 0 for all others.
        self._sizes = np.array([0 if axis.column.is_number else len(axis.column.values or ()) for axis in axes])

    @property
    def size(self) -> float:
        """How many full rows there are; infinite where a range has no grid."""
        return math.prod(math.inf if axis.grid is None else len(axis.grid) for axis in self.axes)

    @property
    def label(self) -> str | None:
        """What tells it from other domains; None where that cannot be told."""
        if isinstance(self.activity, AskedActivity):
            return None
        grids = [None if axis.grid is None else axis.grid.tolist() for axis in self.axes]
        return repr((self.encoding.columns, self.activity.rules, grids))

    def all(self) -> np.ndarray:
        """Every design once, as full rows; only where ``size`` is finite."""
        grids = [axis.grid for axis in self.axes if axis.grid is not None]
        mesh = np.meshgrid(*grids, indexing="ij")
        return self.distinct(np.stack([each.ravel() for each in mesh], axis=1))

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Full rows at random."""
        return np.stack([axis.sample(count, rng) for axis in self.axes], axis=1)

    def mutate(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Each row with one or a few choices changed."""
        changed = rows.copy()
        chosen = rng.random(rows.shape) < 1 / rows.shape[1]
        untouched = np.flatnonzero(~chosen.any(axis=1))
        chosen[untouched, rng.integers(rows.shape[1], size=len(untouched))] = True
        named = np.flatnonzero(self._sizes > 1)
        sizes = self._sizes[named]
        others = (rows[:, named] + rng.integers(1, sizes, size=(len(rows), len(named)))) % sizes
        changed[:, named] = np.where(chosen[:, named], others, rows[:, named])
        for index in np.flatnonzero(self._sizes == 0):
            own = chosen[:, index]
            changed[own, index] = self.axes[index].change(rows[own, index], rng)
        return changed

    def cross(self, mothers: np.ndarray, fathers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Children that have each choice of one of their parents."""
        return np.where(rng.random(mothers.shape) < 0.5, mothers, fathers)

    def neighbours(self, rows: np.ndarray, rng: np.random.Generator, most: int) -> np.ndarray:
        """Rows that differ from one of the given in one choice; where there are more than ``most``, some at random."""
        found, count = [rows[:0]], 0
        for pair in rng.permutation(rows.size):
            row, index = rows[pair // rows.shape[1]], pair % rows.shape[1]
            others = self.axes[index].others(float(row[index]), rng)
            near = np.repeat(row[None, :], len(others), axis=0)
            near[:, index] = others
            found.append(near)
            count += len(near)
            if count >= most:
                break
        return np.asarray(np.concatenate(found)[:most])

    def operators(self) -> Operators:
        """How an evolution makes designs."""
        return Operators(self.sample, self.mutate, self.cross)

    def active(self, rows: np.ndarray) -> np.ndarray:
        """Full rows as active ones."""
        return np.where(self.activity.of(rows), rows, np.nan)

    def full(self, positions: np.ndarray) -> np.ndarray:
        """Active rows as full ones; choices that play no part get the first of their positions."""
        fill = np.array([0.5 if axis.grid is None else axis.grid[0] for axis in self.axes])
        return np.where(np.isnan(positions), fill, positions)

    def keys(self, rows: np.ndarray) -> list[bytes]:
        """By which designs are known as the same; of full rows."""
        return keys_of(self.active(rows))

    def distinct(self, rows: np.ndarray, known: Collection[bytes] = ()) -> np.ndarray:
        """The full rows without repetitions of the same design, and without designs of known keys."""
        seen: dict[bytes, int] = {}
        for place, key in enumerate(self.keys(rows)):
            if key not in known:
                seen.setdefault(key, place)
        return rows[list(seen.values())]

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Full rows as numbers for a surrogate."""
        return self.encoding.encode_positions(self.active(rows))

    def values(self, row: np.ndarray) -> Mapping[str, Any]:
        """The value of every choice of one full row."""
        return {axis.column.name: axis.column.value_at(float(at)) for axis, at in zip(self.axes, row, strict=True)}

    def columns(self, rows: np.ndarray) -> dict[str, Coded]:
        """The values of every choice in N full rows, by choice."""
        found = {}
        for axis, positions in zip(self.axes, rows.T, strict=True):
            if axis.values is not None:
                found[axis.column.name] = Coded(axis.values, axis.places(positions))
                continue
            different, places = np.unique(positions, return_inverse=True)
            found[axis.column.name] = Coded([axis.column.value_at(float(at)) for at in different], places)
        return found


def keys_of(positions: np.ndarray) -> list[bytes]:
    """Keys of active rows: equal up to rounding."""
    rounded = np.where(np.isnan(positions), -1.0, np.round(positions, DIGITS) + 0.0)
    return [row.tobytes() for row in np.ascontiguousarray(rounded)]
