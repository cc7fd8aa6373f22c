"""Early stopping with several objectives: asynchronous successive halving on dominance.

A training is judged at rungs, after epochs in geometric steps. At each rung the trials that came so far are put in an
order: by non-dominated rank (Deb et al., NSGA-II, 2002), within a rank by how much hypervolume a trial adds. Only the
first 1 / ``reduction`` of them may go on, and whatever nothing beats, so that the ends of the front, which few designs
come near, are not thinned out. Whoever arrives is judged against those that are there already, without waiting for
more (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020; with several
objectives Schmucker et al., "Multi-objective Asynchronous Successive Halving", 2021). A trial that was stopped and
comes to stand among the first later, as more arrive behind it, is promoted: its training goes on from its checkpoint.
When a search does so is for its guide to say: at once as long as nothing else tells what is worth its time.

Costs are known before the training, so that a trial is judged by them from its first rung on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.front import non_dominated
from nas.search.table import Table

# The objectives of trials by their numbers.
Points = Mapping[int, Sequence[float]] | Table

# The reference of the contributions: so much of each objective's range beyond its worst value, so that the extremes
# have a finite share too.
MARGIN = 0.1


@dataclass(frozen=True)
class Standing:
    """Where a trial stands at a rung: its place (1 is the best) among how many, and whether it goes on."""

    place: int
    among: int
    goes_on: bool


def in_order(points: np.ndarray, maximise: Sequence[bool], most: int | None = None) -> np.ndarray:
    """Indices of N×M points, the best first: by non-dominated rank, then by hypervolume contribution, then as given.

    Contributions are taken within a rank, on axes scaled to the range of all points, with a reference ``MARGIN`` of it
    beyond the worst. Where only the first ``most`` are of interest, within the ranks after them the order is as given.
    """
    import moocore

    if len(points) == 0:
        return np.zeros(0, dtype=int)
    gains = points * np.where(maximise, 1.0, -1.0)
    low, high = gains.min(axis=0), gains.max(axis=0)
    scaled = (gains - low) / np.where(high > low, high - low, 1.0)
    ranks = np.asarray(moocore.pareto_rank(scaled, maximise=True))
    contributions = np.zeros(len(points))
    names, counts = np.unique(ranks, return_counts=True)
    for rank in names[np.cumsum(counts) - counts < (len(points) if most is None else most)]:
        members = ranks == rank
        contributions[members] = moocore.hv_contributions(
            scaled[members], ref=[-MARGIN] * points.shape[1], maximise=True
        )
    return np.asarray(np.lexsort((np.arange(len(points)), -contributions, ranks)))


def survivors(count: int, reduction: int) -> int:
    """How many of so many trials at a rung go on at least: 1 / ``reduction``, but one."""
    return max(1, count // reduction)


def standing(number: int, others: Points, maximise: Sequence[bool], reduction: int, logs: Sequence[bool]) -> Standing:
    """Where a trial stands at a rung.

    Args:
        number: The trial's; it stands among the others.
        others: The objectives of every trial that came to the rung, by number.
        maximise: For each objective whether more is better.
        reduction: One in so many goes on, and whoever nothing beats.
        logs: Which objectives are compared by their logarithm, as latencies are.

    Returns:
        Its place. While fewer trials than ``reduction`` are there, there is nothing to judge by, and all go on.
    """
    order, most = _ordered(others, maximise, reduction, logs)
    place = order.index(number) + 1
    return Standing(place, len(order), len(order) < reduction or place <= most)


def promotable(
    stopped: Sequence[int],
    others: Points,
    maximise: Sequence[bool],
    reduction: int,
    logs: Sequence[bool],
) -> list[int]:
    """Trials that were stopped at a rung and would go on now, the best first; arguments as for ``standing``."""
    order, most = _ordered(others, maximise, reduction, logs, whole=False)
    waiting = set(stopped)
    return [number for number in order[:most] if number in waiting] if len(order) >= reduction else []


def best_of(numbers: Sequence[int], others: Points, maximise: Sequence[bool], logs: Sequence[bool]) -> int | None:
    """Of some trials at a rung the best; None where none of them is there. Arguments as for ``standing``."""
    waiting = set(numbers)
    return next((number for number in _ordered(others, maximise, 1, logs)[0] if number in waiting), None)


def _ordered(
    others: Points,
    maximise: Sequence[bool],
    reduction: int,
    logs: Sequence[bool],
    whole: bool = True,
) -> tuple[list[int], int]:
    """Trials at a rung, the best first, and how many of them go on: one in so many, and all that nothing beats.

    Without ``whole`` the order of the others may be any.
    """
    table = others if isinstance(others, Table) else Table.of(others, len(logs))
    numbers = table.trials
    points = _axes(table.rows(numbers), logs)
    most = max(survivors(len(numbers), reduction), int(non_dominated(points, maximise).sum()))
    return numbers[in_order(points, maximise, None if whole else most)].tolist(), most


def _axes(points: np.ndarray, logs: Sequence[bool]) -> np.ndarray:
    for column, log in enumerate(logs):
        if log:
            points[:, column] = np.log(np.maximum(points[:, column], 1e-12))
    return points
