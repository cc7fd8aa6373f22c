"""The Pareto front of a study, its hypervolume against a stated reference, and its knee.

Everything here is mathematics on the values of records: plain dominance, without regard to how sure a value is.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from nas.objectives import Constraint, Objective
from nas.outcome import Outcome

COST_DECADES = 3  # how far below its reference a cost's axis reaches: a thousandth of it is the ideal
COST_MARGIN = 10  # a cost's reference is so many times the first measured trial's value


class Candidate(Protocol):
    """What a front needs to know of a trial; ``nas.record.TrialRecord`` is one."""

    @property
    def number(self) -> int: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def manifest(self) -> Mapping[str, Any]: ...
    def value(self, key: str) -> float: ...
    def feasible(self, constraints: Iterable[Constraint]) -> bool: ...


Trial = TypeVar("Trial", bound=Candidate)


def non_dominated(points: np.ndarray, maximise: Sequence[bool]) -> np.ndarray:
    """Which points no other point dominates.

    A point dominates another if it is at least as good in every objective and better in one. Equal points do not
    dominate each other, so all of them are kept.

    Args:
        points: N×M values, one row for each point; finite.
        maximise: For each of the M objectives whether more is better.

    Returns:
        N booleans.

    Raises:
        ValueError: The points are not N×M for M directions, or are not finite.
    """
    if points.ndim != 2 or points.shape[1] != len(maximise):
        raise ValueError(f"points must be N×{len(maximise)}, one column a direction, but got shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("points must be finite, but some are NaN or infinite")
    if len(points) == 0:
        return np.zeros(0, dtype=bool)
    import moocore

    return np.asarray(moocore.is_nondominated(points, maximise=list(maximise), keep_weakly=True), dtype=bool)


@dataclass(frozen=True)
class Reference:
    """The reference point of the hypervolume, and with it the scale of every axis.

    Each objective is brought to an axis on which 0 is the reference and 1 the ideal, and clipped to that range:

    - a quality (accuracy) runs linearly from its reference to 1: ``(value - reference) / (1 - reference)``;
    - a cost whose kind has ``log_axis`` runs on a logarithmic axis over three decades below its reference:
      ``log10(reference / value) / 3``, so that a thousandth of the reference is the ideal;
    - any other cost runs linearly from its reference down to 0: ``1 - value / reference``.

    The hypervolume is the share of the box [0, 1]^M that the front dominates, hence between 0 and 1. A point that is
    worse than the reference in one objective dominates nothing of the box.

    Args:
        objectives: The objectives' keys, in the recipe's order.
        values: The reference of each, in its own unit; a cost's is greater than 0, a quality's less than 1.
    """

    objectives: tuple[str, ...]
    values: tuple[float, ...]

    def normalise(self, points: np.ndarray) -> np.ndarray:
        """Brings N×M values in their own units to the axes described above; N×M between 0 and 1, more is better."""
        axes = np.empty(points.shape)
        for column, (key, reference) in enumerate(zip(self.objectives, self.values, strict=True)):
            values = points[:, column]
            kind = Objective.parse(key).kind
            if kind.maximise:
                axes[:, column] = (values - reference) / (1 - reference)
            elif kind.log_axis:
                floor = reference / 10.0 ** (COST_DECADES + 1)  # beyond the ideal; keeps a cost of 0 finite
                axes[:, column] = np.log10(reference / np.maximum(values, floor)) / COST_DECADES
            else:
                axes[:, column] = 1 - values / reference
        return np.clip(axes, 0.0, 1.0)


def reference_from(records: Iterable[Candidate], objectives: Sequence[Objective]) -> Reference | None:
    """The reference that a study's first measured trial (the one of the lowest number) fixes.

    For a cost it is ten times that trial's value (ten units where the value is 0); for an accuracy it is what guessing
    gives, 1 / number of classes as the trial's manifest names them, or 0 where it names none.

    Returns:
        The reference, or None where no trial was measured yet.
    """
    first = min((r for r in records if r.outcome is Outcome.MEASURED), key=lambda r: r.number, default=None)
    if first is None:
        return None
    classes = len(first.manifest.get("class_names", ()))
    guessing = 1 / classes if classes > 1 else 0.0
    values = (guessing if o.maximise else COST_MARGIN * (first.value(o.key) or 1.0) for o in objectives)
    return Reference(tuple(o.key for o in objectives), tuple(values))


def hypervolume(
    records: Iterable[Candidate],
    reference: Reference,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
) -> float:
    """The share of the box between reference and ideal that the feasible measured trials dominate, 0 to 1.

    Computed by moocore (Fonseca, Paquete and López-Ibáñez, "An improved dimension-sweep algorithm for the hypervolume
    indicator", CEC 2006, and its successors) on the axes that ``Reference`` describes.

    Raises:
        ValueError: The reference is of other objectives.
    """
    if reference.objectives != tuple(o.key for o in objectives):
        raise ValueError(
            f"the reference is of {', '.join(reference.objectives)}, not of {', '.join(o.key for o in objectives)}"
        )
    return _volume(reference.normalise(values_of([r for r in records if r.feasible(constraints)], objectives)))


def hypervolume_history(
    records: Iterable[Candidate],
    reference: Reference,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
) -> list[tuple[int, float]]:
    """How the hypervolume grew: for every trial, by number, the hypervolume of the trials up to and including it."""
    history: list[tuple[int, float]] = []
    volume = GrowingVolume(reference, objectives)
    for record in sorted(records, key=lambda r: r.number):
        if record.feasible(constraints):
            volume = volume.with_trial(record)
        history.append((record.number, volume.value))
    return history


class GrowingVolume:
    """The hypervolume of feasible trials, as more of them come.

    Args:
        reference: The reference.
        objectives: Of which it is one.
    """

    def __init__(self, reference: Reference, objectives: Sequence[Objective]) -> None:
        self.reference = reference
        self.objectives = objectives
        self.value = 0.0
        self._front = np.empty((0, len(objectives)))

    def with_trial(self, record: Candidate) -> GrowingVolume:
        """The hypervolume with another trial; itself where that adds nothing."""
        point = self.reference.normalise(values_of([record], self.objectives))
        if (self._front >= point).all(axis=1).any():  # the volume need not be computed
            return self
        grown = GrowingVolume(self.reference, self.objectives)
        joined = np.concatenate([self._front, point])
        grown._front = joined[non_dominated(joined, [True] * len(self.objectives))]
        grown.value = _volume(grown._front)
        return grown


def pareto_front(
    records: Iterable[Trial], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> list[Trial]:
    """The trials that were measured, meet every constraint, and that no other such trial dominates.

    Trials of equal values all stay. A duplicate is never on the front: the trial that it repeats is. Sorted by the
    first objective that is a cost, cheapest first; equals by number.
    """
    feasible = [record for record in records if record.feasible(constraints)]
    keep = non_dominated(values_of(feasible, objectives), [o.maximise for o in objectives])
    cost = next((o.key for o in objectives if not o.maximise), objectives[0].key)
    front = [record for record, kept in zip(feasible, keep, strict=True) if kept]
    return sorted(front, key=lambda record: (record.value(cost), record.number))


def most_telling_first(axes: np.ndarray) -> list[int]:
    """The order in which each point adds most hypervolume to those before it: the first few tell most of a front.

    Greedy, within 1 - 1/e of the best choice of so many at each length (Nemhauser, Wolsey and Fisher, "An analysis of
    approximations for maximizing submodular set functions", 1978). Of points that add as much the earlier comes first.

    Args:
        axes: N×M, all maximised, against the origin; see ``Reference.normalise``.
    """
    # What a point adds only shrinks as others are taken, so what it added once is a bound: few are looked at anew.
    waiting = [(-_volume(axes[[place]]), place, 0) for place in range(len(axes))]
    heapq.heapify(waiting)
    order: list[int] = []
    have = 0.0
    while waiting:
        adds, place, looked = heapq.heappop(waiting)
        if looked < len(order):
            heapq.heappush(waiting, (have - _volume(axes[[*order, place]]), place, len(order)))
            continue
        order.append(place)
        have -= adds
    return order


def added_volume(front: np.ndarray, points: np.ndarray) -> np.ndarray:
    """What each of N points alone would add to the hypervolume of a front.

    Args:
        front: K×M, all maximised, against the origin; see ``Reference.normalise``.
        points: N×M.
    """
    added = np.zeros(len(points))
    have = _volume(front)
    beaten = np.asarray((front[None, :, :] >= points[:, None, :]).all(axis=2))
    for place in np.flatnonzero(~beaten.any(axis=1)):
        added[place] = _volume(np.vstack([front, points[place]])) - have
    return added


def knee(front: Sequence[Trial], objectives: Sequence[Objective]) -> Trial:
    """The knee of a front: the member beyond which a little more of one objective costs much of another.

    Every objective is scaled to 0 (the front's worst) to 1 (its best), costs on a logarithmic axis where their kind
    has one. The knee is the member that lies farthest beyond the straight line (plane, with more than two objectives)
    through the points that are best in one objective and worst in the others, towards the ideal. See I. Das, "On
    characterizing the 'knee' of the Pareto curve based on Normal-Boundary Intersection", Structural Optimization 18,
    1999, and J. Branke et al., "Finding Knees in Multi-objective Optimization", PPSN VIII, 2004.

    Where members are equally far the one that is best in the first quality is taken, then the one of the lowest number.
    So of a front of two, or of one that bends inwards (whose ends lie on the line and all others behind it), it
    is the most accurate end; of a front of one, that one.

    Args:
        front: The members; not empty.
        objectives: The objectives that it is the front of.

    Raises:
        ValueError: The front is empty.
    """
    if not front:
        raise ValueError("an empty front has no knee")
    axes = np.stack([_scaled(np.array([r.value(o.key) for r in front]), o) for o in objectives], axis=1)
    # The line or plane is sum(axes) = 1. Rounding keeps members that are equally far equal.
    distance = np.round((axes.sum(axis=1) - 1) / math.sqrt(len(objectives)), 12)
    quality = next((o for o in objectives if o.maximise), objectives[0])
    sign = 1 if quality.maximise else -1
    ranked = zip(distance, front, strict=True)
    return max(ranked, key=lambda item: (item[0], sign * item[1].value(quality.key), -item[1].number))[1]


def values_of(records: Sequence[Candidate], objectives: Sequence[Objective]) -> np.ndarray:
    """N×M values of M objectives, in own units."""
    rows = [[record.value(o.key) for o in objectives] for record in records]
    return np.array(rows, dtype=float).reshape(len(records), len(objectives))


def _volume(axes: np.ndarray) -> float:
    """Hypervolume of N×M points in [0, 1]^M, all maximised, against the origin."""
    if len(axes) == 0:
        return 0.0
    import moocore

    return float(moocore.hypervolume(axes, ref=[0.0] * axes.shape[1], maximise=True))


def _scaled(values: np.ndarray, objective: Objective) -> np.ndarray:
    """One objective's values from 0 (worst) to 1 (best); all 0 where they are equal."""
    gains = values if objective.maximise else -values
    if objective.kind.log_axis and not objective.maximise and (values > 0).all():
        gains = -np.log10(values)
    extent = float(gains.max() - gains.min())
    return (gains - gains.min()) / extent if extent > 0 else np.zeros(len(values))
