"""What a comparison of searches comes to: hypervolume over wall time, time to a share of the best front, a picture.

Accuracy and latency of a search's trials are *scores*: of single trainings among many, on the data that chose them, so
that the best of them are too good to be true. What a search is worth is told by its front trained again: a person who
stops after t seconds trains the front of that moment again, the member first that adds most to it and so on, each of
which costs its seconds, and has what comes of each of them as soon as it is done. Everything here is arithmetic on
numbers, without a clock; see ``search_efficiency.py`` for where they are from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import moocore
import numpy as np

from nas.front import most_telling_first, non_dominated

RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Axes:
    """The box in which fronts are compared.

    Accuracy counts linearly from ``least_accuracy``. Latency counts by its logarithm: 0 at ``slowest_ms``, 1 at
    ``fastest_ms``, no more below. The hypervolume is the area that a front dominates, in units of accuracy: at most
    1 − ``least_accuracy``. A design at ``least_accuracy`` or at ``slowest_ms``, or worse, dominates nothing.
    """

    least_accuracy: float = 0.5
    fastest_ms: float = 0.01
    slowest_ms: float = 1.0

    def gains(self, points: np.ndarray) -> np.ndarray:
        """N×2 points (accuracy, latency in ms) as N×2 gains on the two axes, 0 or more; more is better."""
        accuracy = np.maximum(points[:, 0] - self.least_accuracy, 0.0)
        share = np.log(self.slowest_ms / points[:, 1]) / np.log(self.slowest_ms / self.fastest_ms)
        return np.stack([accuracy, np.clip(share, 0.0, 1.0)], axis=1)

    def hypervolume(self, points: np.ndarray) -> float:
        """The area that N×2 points (accuracy, latency in ms) dominate; 0 of none."""
        gains = self.gains(points)
        if not gains.all(axis=1).any():
            return 0.0
        return float(moocore.hypervolume(gains, ref=[0.0, 0.0], maximise=True))

    def words(self) -> str:
        return (
            f"accuracy from {self.least_accuracy:g}, latency on a logarithmic axis from {self.slowest_ms:g} to "
            f"{self.fastest_ms:g} ms"
        )


@dataclass(frozen=True)
class Scored:
    """A trial that gave a network.

    Args:
        seconds: When it was finished, from the start of its search.
        design: Its design's digest.
        accuracy: As the search saw it.
        latency_ms: Likewise.
    """

    seconds: float
    design: str
    accuracy: float
    latency_ms: float


@dataclass(frozen=True)
class Front:
    """The front of a search from some moment on.

    Args:
        seconds: The moment.
        members: Its designs, in the order in which each adds most to those before it.
        volume: Its hypervolume by the search's own scores.
    """

    seconds: float
    members: tuple[str, ...]
    volume: float


def fronts(trials: Sequence[Scored], axes: Axes, horizon: float) -> list[Front]:
    """Every front that a search had, one after the other, up to a horizon in seconds.

    Trials that dominate nothing of the box are no members. A search's own scores decide, which is all that it has.
    """
    found: list[Front] = []
    points: dict[str, tuple[float, float]] = {}
    for trial in sorted(trials, key=lambda trial: trial.seconds):
        point = (trial.accuracy, trial.latency_ms)
        if trial.seconds > horizon or not axes.gains(np.array([point])).all():
            continue
        points[f"{len(points)} {trial.design}"] = point  # one design may have been scored twice
        values = np.array(list(points.values()))
        keep = non_dominated(values, [True, False])
        points = {name: point for (name, point), kept in zip(points.items(), keep, strict=True) if kept}
        ordered = [list(points)[place] for place in most_telling_first(axes.gains(np.array(list(points.values()))))]
        members = tuple(dict.fromkeys(name.split(" ", 1)[1] for name in ordered))
        if not found or members != found[-1].members:
            found.append(Front(trial.seconds, members, axes.hypervolume(np.array(list(points.values())))))
        points = {f"{place} {name.split(' ', 1)[1]}": point for place, (name, point) in enumerate(points.items())}
    return found


def at_checkpoints(found: Sequence[Front], count: int) -> list[Front]:
    """The fronts in force at so many moments, in equal steps of the time's logarithm, from the first front's to the
    last's; all of them where ``count`` is 0.

    So that less has to be trained again: what a front was worth between two checkpoints is not known, and a search's
    times come out later by one step at most.
    """
    if not count or len(found) <= count:
        return list(found)
    moments = np.geomspace(max(found[0].seconds, 1e-9), max(found[-1].seconds, 1e-9), count)
    moments[-1] = found[-1].seconds  # not a rounding error earlier
    started = np.array([front.seconds for front in found])
    places = np.searchsorted(started, moments, side="right") - 1
    return [found[place] for place in sorted({max(0, int(place)) for place in places})]


@dataclass(frozen=True)
class Again:
    """A design trained again.

    Args:
        accuracy: Of the new network.
        latency_ms: Of the new file, timed in turns with all others.
        stages: The seconds of each stage of its making, by the stage's key: designs that share a stage share its key.
    """

    accuracy: float
    latency_ms: float
    stages: Mapping[str, float]


Trained = Mapping[str, Again | None]  # by design; None where that failed


@dataclass(frozen=True)
class Curve:
    """How good what one has is, by wall time: N seconds, ascending, and N hypervolumes, each from its moment on."""

    seconds: np.ndarray
    volumes: np.ndarray

    def at(self, moments: np.ndarray) -> np.ndarray:
        """The hypervolume at given moments; 0 before the first."""
        places = np.searchsorted(self.seconds, moments, side="right")
        return np.concatenate([[0.0], self.volumes])[places]

    @property
    def last(self) -> float:
        """The hypervolume at the end; 0 where nothing was found."""
        return float(self.volumes[-1]) if len(self.volumes) else 0.0


def as_scored(found: Sequence[Front]) -> Curve:
    """Hypervolume by the search's own scores."""
    return Curve(np.array([front.seconds for front in found]), np.array([front.volume for front in found]))


def as_trained_again(found: Sequence[Front], trained: Trained, axes: Axes, with_cost: bool = True) -> Curve:
    """The best hypervolume that a person can have had by each moment who trains a front again, member by member.

    Args:
        found: The fronts that may be trained again.
        trained: What comes of each member; one that failed counts for nothing, and its cost is not known.
        axes: The box.
        with_cost: Whether training again takes time: a stage that several members share is paid for once.
    """
    ends, volumes = [], []
    for front in found:
        members = [again for name in front.members if (again := trained[name]) is not None]
        for count in range(1, len(members) + 1):
            ends.append(front.seconds + (cost(members[:count]) if with_cost else 0.0))
            volumes.append(axes.hypervolume(points_of(members[:count])))
    order = np.argsort(ends, kind="stable")
    return Curve(np.array(ends)[order], np.maximum.accumulate(np.array(volumes)[order]) if volumes else np.zeros(0))


def cost(members: Sequence[Again]) -> float:
    """Seconds of training these again, each shared stage once."""
    stages: dict[str, float] = {}
    for member in members:
        stages |= member.stages
    return sum(stages.values())


def points_of(members: Sequence[Again]) -> np.ndarray:
    """N×2: accuracy and latency in ms."""
    return np.array([(member.accuracy, member.latency_ms) for member in members]).reshape(-1, 2)


@dataclass(frozen=True)
class Reached:
    """When a target was reached; where it was not (``censored``), how long the search went on without: the time is at
    least that."""

    seconds: float
    censored: bool = False


def time_to(curve: Curve, target: float, horizon: float) -> Reached:
    """The first moment at which a curve is at the target.

    Args:
        curve: Of one search.
        target: A hypervolume.
        horizon: For how many seconds the search went on.
    """
    places = np.flatnonzero(curve.volumes >= target)
    return Reached(float(curve.seconds[places].min())) if len(places) else Reached(horizon, censored=True)


Bound = Literal["", "at most", "at least", "not known"]


@dataclass(frozen=True)
class Estimate:
    """A geometric mean with its bootstrap interval (``LEVEL``), and what censoring makes of it.

    ``bound`` is empty where the number stands for itself; ``at most`` and ``at least`` where the true one can only be
    smaller or larger; ``not known`` where censored times stand on both sides of a ratio.
    """

    value: float
    low: float
    high: float
    bound: Bound = ""

    def words(self, digits: int = 3) -> str:
        if self.bound == "not known":
            return "not known: neither side always reached it"
        number = f"{self.value:.{digits}g} ({self.low:.{digits}g} to {self.high:.{digits}g})"
        return f"{self.bound} {number}" if self.bound else number


def mean_time(times: Sequence[Reached], rng: np.random.Generator) -> Estimate:
    """The geometric mean of times, a lower bound where one of them is."""
    bound: Bound = "at least" if any(time.censored for time in times) else ""
    return _geometric(np.log([time.seconds for time in times]), rng, bound)


def ratio(ours: Sequence[Reached], others: Sequence[Reached], rng: np.random.Generator) -> Estimate:
    """How many times the others' time ours is: the geometric mean of the ratios of pairs of one seed each.

    Where the others did not reach the target the ratio is at most what their lower bound gives; where ours did not, at
    least.

    Raises:
        ValueError: They are no pairs.
    """
    if len(ours) != len(others) or not ours:
        raise ValueError(f"ratios need pairs, but got {len(ours)} times of ours and {len(others)} of the others")
    censored = (any(time.censored for time in ours), any(time.censored for time in others))
    bounds: dict[tuple[bool, bool], Bound] = {
        (False, False): "",
        (False, True): "at most",
        (True, False): "at least",
        (True, True): "not known",
    }
    logs = np.log([time.seconds for time in ours]) - np.log([time.seconds for time in others])
    return _geometric(logs, rng, bounds[censored])


def _geometric(logs: np.ndarray, rng: np.random.Generator, bound: Bound) -> Estimate:
    """Mean and percentile bootstrap (Efron, 1979) of logarithms, as numbers again."""
    drawn = logs[rng.integers(0, len(logs), (RESAMPLES, len(logs)))].mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high)), bound)


@dataclass(frozen=True)
class Band:
    """Several searches of one kind over wall time: the median, and from the worst to the best of them."""

    seconds: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def band(curves: Sequence[Curve], moments: np.ndarray) -> Band:
    """What searches of one kind had at given moments."""
    volumes = np.stack([curve.at(moments) for curve in curves])
    return Band(moments, np.median(volumes, axis=0), volumes.min(axis=0), volumes.max(axis=0))


def spread_labels(heights: Sequence[float], least: float) -> list[float]:
    """Heights moved apart until neighbours are at least ``least`` apart, each as little as that takes on average."""
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    groups: list[list[int]] = []
    for place in order:
        groups.append([place])
        while len(groups) > 1 and _bottom(groups[-1], heights, least) - _top(groups[-2], heights, least) < least:
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = [0.0] * len(heights)
    for group in groups:
        for rank, place in enumerate(group):
            moved[place] = _bottom(group, heights, least) + rank * least
    return moved


def _bottom(group: Sequence[int], heights: Sequence[float], least: float) -> float:
    return float(np.mean([heights[place] for place in group])) - least * (len(group) - 1) / 2


def _top(group: Sequence[int], heights: Sequence[float], least: float) -> float:
    return _bottom(group, heights, least) + least * (len(group) - 1)
