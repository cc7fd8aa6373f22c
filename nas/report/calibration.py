"""How well a search foresaw: predictions beside what was measured, what screening cost, how a supernet ranks.

Whoever is screened out is never measured, so only those that were spared (evaluated all the same, drawn at random) tell
what screening loses. They are told apart from the others, which were trained because they promised much.

Reads records alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from nas.objectives import Constraint, Objective
from nas.outcome import Outcome, Quantity
from nas.proxies import INHERITED_ACCURACY, prediction, proxies, result
from nas.record import TRAINING, TrialRecord
from nas.report.agreement import kendall_tau
from nas.report.proxy_words import ACCURACY, level_of
from nas.scoring import Z_95, wilson_interval

# Of fewer trials than this nothing is concluded, though the numbers are told.
FEWEST = 10
# So many pairs are wanted before a supernet's order is trusted.
WANTED_PAIRS = 20
# Of the variance of Fisher's transform of Kendall's τ (Fieller, Hartley and Pearson, Biometrika 44, 1957).
VARIANCE, LOST = 0.437, 4
# Stages that train the float network, which all compressions of an architecture share.


@dataclass(frozen=True)
class Check:
    """What was foreseen of an objective of one trial, and what was measured."""

    record: TrialRecord
    predicted: Quantity
    measured: float

    @property
    def interval(self) -> tuple[float, float]:
        """The interval that was foreseen; the value twice where it had none."""
        value, low, high = self.predicted.value, self.predicted.low, self.predicted.high
        return value if low is None else low, value if high is None else high

    @property
    def inside(self) -> bool:
        """Whether what was measured lies in it."""
        low, high = self.interval
        return low <= self.measured <= high


@dataclass(frozen=True)
class Calibration:
    """Predictions of one objective against what was measured.

    Args:
        objective: What was foreseen.
        checks: One for each trial that was predicted and measured, by number.
    """

    objective: Objective
    checks: tuple[Check, ...]

    @cached_property
    def spared(self) -> Calibration:
        """The same of the trials that would have been screened out."""
        return replace(self, checks=tuple(check for check in self.checks if check.record.spared))

    @property
    def enough(self) -> bool:
        """Whether there are enough trials to conclude anything."""
        return len(self.checks) >= FEWEST

    @property
    def level(self) -> float:
        """The confidence that the intervals claim, 0 to 1; the mean where they claim several."""
        return float(np.mean([level_of(check.predicted) for check in self.checks]))

    @property
    def inside(self) -> int:
        """How many measured values lie in their intervals."""
        return sum(check.inside for check in self.checks)

    @property
    def coverage(self) -> tuple[float, float, float]:
        """The share that lies inside, with the ends of its 95 % interval (Wilson)."""
        return (self.inside / len(self.checks), *wilson_interval(self.inside, len(self.checks)))

    @property
    def error(self) -> float | None:
        """The median distance of predicted and measured: of a share itself, of a cost as a share of it.

        None where every measured cost is 0.
        """
        if self.objective.maximise:
            return float(np.median([abs(check.predicted.value - check.measured) for check in self.checks]))
        shares = [abs(check.predicted.value / check.measured - 1) for check in self.checks if check.measured > 0]
        return float(np.median(shares)) if shares else None

    @cached_property
    def tau(self) -> float | None:
        """Kendall's τ-b of predicted and measured; None where there is no order to compare."""
        return kendall_tau([check.predicted.value for check in self.checks], [check.measured for check in self.checks])


@dataclass(frozen=True)
class Screening:
    """What screening spared the search, and what it may have lost.

    Args:
        screened: How many trials were screened out.
        spared: Numbers of the trials that would have been, but were evaluated all the same.
        measured: Those of them that were evaluated to the end.
        on_front_then: Those of them that were on the front when they ended.
        on_front_now: Those of them that are on the front now.
        saved: Architectures that were screened out and never trained, each of which is a training saved.
        trained: Architectures that were trained, to the end or to a rung.
    """

    screened: int
    spared: tuple[int, ...]
    measured: tuple[int, ...]
    on_front_then: tuple[int, ...]
    on_front_now: tuple[int, ...]
    saved: int
    trained: int

    @property
    def share_saved(self) -> float:
        """Trainings saved of all that there would have been, 0 to 1."""
        return self.saved / (self.saved + self.trained) if self.saved else 0.0

    @property
    def enough(self) -> bool:
        """Whether enough were spared to conclude anything of those that were not."""
        return len(self.measured) >= FEWEST

    @property
    def lost(self) -> tuple[float, float, float] | None:
        """The share of spared trials that are on the front now, with the ends of its 95 % interval (Wilson).

        It estimates how many of those screened out would be. None where no spared trial was measured.
        """
        if not self.measured:
            return None
        there, count = len(self.on_front_now), len(self.measured)
        return (there / count, *wilson_interval(there, count))


@dataclass(frozen=True)
class InheritedRanking:
    """How inherited accuracies order networks, beside the accuracies that were measured once they were trained.

    Args:
        pairs: How many networks have both.
        tau: Kendall's τ-b; None where there are too few, or no order.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    pairs: int
    tau: float | None
    low: float = -1.0
    high: float = 1.0


def calibrations(records: Iterable[TrialRecord], objectives: Sequence[Objective]) -> list[Calibration]:
    """One for each objective of which a trial was both predicted and measured, in the order of the objectives."""
    measured = [record for record in records if record.outcome is Outcome.MEASURED]
    found = []
    for objective in objectives:
        checks = []
        for record in measured:
            predicted, value = prediction(record, objective), result(record, objective.key)
            if predicted is not None and value is not None:
                checks.append(Check(record, predicted, value))
        if checks:
            found.append(Calibration(objective, tuple(checks)))
    return found


def screening(
    records: Sequence[TrialRecord], objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> Screening | None:
    """What screening did; None where nothing was screened out or spared."""
    screened = [record for record in records if record.outcome is Outcome.SCREENED]
    spared = [record for record in records if record.spared]
    if not screened and not spared:
        return None
    measured = [record for record in spared if record.outcome is Outcome.MEASURED]
    then, now = _on_front(measured, records, objectives, constraints)
    trained = {record.design.architecture_digest for record in records if was_trained(record)}
    saved = {record.design.architecture_digest for record in screened} - trained
    return Screening(
        len(screened),
        tuple(record.number for record in spared),
        tuple(record.number for record in measured),
        then,
        now,
        len(saved),
        len(trained),
    )


def _on_front(
    chosen: Sequence[TrialRecord],
    records: Iterable[TrialRecord],
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Numbers of the chosen trials that no trial up to their own dominated, and of those that none dominates now."""
    feasible = [record for record in records if record.feasible(constraints)]
    numbers = np.array([record.number for record in feasible])
    signs = np.array([1.0 if objective.maximise else -1.0 for objective in objectives])
    gains = np.array([[r.value(o.key) for o in objectives] for r in feasible]).reshape(-1, len(signs)) * signs
    then, now = [], []
    for record in (record for record in chosen if record.feasible(constraints)):
        own = np.array([record.value(objective.key) for objective in objectives]) * signs
        beaten_by = numbers[(gains >= own).all(axis=1) & (gains > own).any(axis=1)]
        if not (beaten_by < record.number).any():
            then.append(record.number)
        if not len(beaten_by):
            now.append(record.number)
    return tuple(then), tuple(now)


def was_trained(record: TrialRecord) -> bool:
    """Whether a trial's float network was trained, to the end or to a rung, for it or for another before."""
    return any(stage.stage in TRAINING for stage in record.stages)


def inherited_ranking(records: Iterable[TrialRecord]) -> InheritedRanking | None:
    """How the supernet's accuracies rank the trials that came from it; None where no trial carries one.

    Of trials of one architecture, which inherit the same, the first that was measured counts.
    """
    carry = False
    pairs: dict[str, tuple[float, float]] = {}
    for record in records:
        inherited = next((q.value for q in proxies(record) if q.key == INHERITED_ACCURACY), None)
        if inherited is None or record.origin != "supernet":
            continue
        carry = True
        accuracy = result(record, ACCURACY) if record.outcome is Outcome.MEASURED else None
        if accuracy is not None:
            pairs.setdefault(record.design.architecture_digest, (inherited, accuracy))
    if not carry:
        return None
    tau = kendall_tau([one for one, _ in pairs.values()], [other for _, other in pairs.values()])
    if tau is None:
        return InheritedRanking(len(pairs), None)
    return InheritedRanking(len(pairs), tau, *tau_interval(tau, len(pairs)))


def tau_interval(tau: float, pairs: int) -> tuple[float, float]:
    """The 95 % interval of Kendall's τ over so many pairs, by Fisher's transform with variance 0.437 / (pairs − 4).

    Fieller, Hartley and Pearson, "Tests for rank correlation coefficients", Biometrika 44, 1957. The transform of a
    perfect order is infinite; it is taken for one in which one pair of neighbours is swapped.

    Raises:
        ValueError: There are fewer than 5 pairs.
    """
    if pairs <= LOST:
        raise ValueError(f"the interval of Kendall's τ needs at least {LOST + 1} pairs, but got {pairs}")
    most = 1 - 4 / (pairs * (pairs - 1))
    centre = math.atanh(min(max(tau, -most), most))
    half = Z_95 * math.sqrt(VARIANCE / (pairs - LOST))
    return min(tau, math.tanh(centre - half)), max(tau, math.tanh(centre + half))
