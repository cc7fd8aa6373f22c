"""Inner evolution: which of very many designs promise most, where a prediction costs next to nothing.

Multi-objective evolution as in NSGA-II (Deb et al., 2002): parents by non-dominated rank and crowding, children by
crossover and mutation. What designs are is the caller's business: they are rows of an array, of numbers or of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = np.ndarray
# N rows → N×M promises, more is better.
Promise = Callable[[Rows], np.ndarray]


@dataclass(frozen=True)
class Operators:
    """How designs are made; each gets a random generator and returns as many rows as it is asked for, or was given.

    Args:
        sample: A number of new rows.
        mutate: Rows changed a little.
        cross: Children of two equally long arrays of parents, one for each pair.
    """

    sample: Callable[[int, np.random.Generator], Rows]
    mutate: Callable[[Rows, np.random.Generator], Rows]
    cross: Callable[[Rows, Rows, np.random.Generator], Rows]


@dataclass(frozen=True)
class Evolved:
    """The best rows that were found, most promising first, with their promises; ``judged`` counts all predictions."""

    rows: Rows
    promises: np.ndarray
    judged: int


def evolve(
    operators: Operators,
    promise: Promise,
    rng: np.random.Generator,
    *,
    first: Rows | None = None,
    population: int = 500,
    generations: int = 20,
    key: Callable[[Rows], Any] | None = None,
) -> Evolved:
    """Evolves designs.

    Args:
        operators: How designs are made.
        promise: What they are judged by.
        rng: The only source of chance.
        first: Rows to begin with; the others of the first generation are sampled.
        population: How many survive a generation, and how many children are born in it.
        generations: How often children are born.
        key: Of N rows, N×B bytes or numbers by which equal designs are known; without it the rows themselves.
    """
    rows = operators.sample(population, rng)
    if first is not None and len(first):
        rows = np.concatenate([first, rows])
    labels = _labels(rows, key)
    kept = _first_of_each(labels)
    rows, labels = rows[kept], [labels[place] for place in kept]
    promises = promise(rows)
    judged = len(rows)
    fittest = ranked(promises)[:population]
    for _ in range(generations):
        rows, promises, labels = rows[fittest], promises[fittest], [labels[place] for place in fittest]
        mothers, fathers = (_tournament(len(rows), population, rng) for _ in range(2))
        children = operators.mutate(operators.cross(rows[mothers], rows[fathers], rng), rng)
        born = _labels(children, key)
        kept = _first_of_each([*labels, *born])
        new = kept[kept >= len(rows)] - len(rows)  # all parents differ, and stand first
        if len(new):
            judged += len(new)
            rows, promises = (
                np.concatenate([rows, children[new]]),
                np.concatenate([promises, promise(children[new])]),
            )
            labels += [born[place] for place in new]
        fittest = ranked(promises)[:population]
    return Evolved(rows[fittest], promises[fittest], judged)


def ranked(promises: np.ndarray) -> np.ndarray:
    """Rows of N×M promises from most to least promising: by non-dominated rank, then by how alone they stand."""
    import moocore

    ranks = np.asarray(moocore.pareto_rank(promises, maximise=True))
    return np.asarray(np.lexsort((-_crowding(promises, ranks), ranks)))


def _crowding(promises: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """How far apart the neighbours of the same rank are, summed over the objectives; infinite at the ends."""
    crowding = np.zeros(len(promises))
    extent = np.ptp(promises, axis=0)
    for column in range(promises.shape[1]):
        order = np.lexsort((promises[:, column], ranks))
        values, own = promises[order, column], ranks[order]
        between = np.full(len(values), np.inf)
        if len(values) > 2:
            inner = (own[:-2] == own[1:-1]) & (own[2:] == own[1:-1])
            between[1:-1] = np.where(inner, (values[2:] - values[:-2]) / (extent[column] or 1.0), np.inf)
        crowding[order] += between
    return crowding


def _tournament(size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places of parents; of two at random the earlier, since rows are sorted."""
    return np.asarray(rng.integers(size, size=(2, count)).min(axis=0))


def _labels(rows: Rows, key: Callable[[Rows], Any] | None) -> list[Any]:
    """What equal rows are known by, one for each."""
    labels = rows if key is None else key(rows)
    if isinstance(labels, np.ndarray) and labels.dtype != object:
        packed = np.ascontiguousarray(labels).reshape(len(labels), -1)
        return [row.tobytes() for row in packed]
    return list(labels)


def _first_of_each(labels: Sequence[Any]) -> np.ndarray:
    """Places of the rows that no earlier row equals, ascending."""
    seen: dict[Any, int] = {}
    for place, label in enumerate(labels):
        seen.setdefault(label, place)
    return np.array(list(seen.values()), dtype=int)
