"""Two or more studies against each other: hypervolumes against one reference, who covers whom, who is ahead where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from nas.errors import StudyError
from nas.front import Reference, hypervolume, values_of
from nas.objectives import Objective
from nas.outcome import Quantity
from nas.record import TrialRecord
from nas.report.comparable import labels, notes_on_recipes, obstacles, shared_objectives
from nas.study import Study


@dataclass(frozen=True)
class Contender:
    """A study in a comparison.

    Args:
        label: What it is called.
        study: The study.
        front: Its feasible trials that no other of its own beats in the shared objectives, cheapest first.
        volume: Its hypervolume against the common reference, 0 to 1.
    """

    label: str
    study: Study
    front: tuple[TrialRecord, ...]
    volume: float


@dataclass(frozen=True)
class Lead:
    """A range of costs over which the same study is ahead in quality, among designs that cost no more.

    Args:
        low: Where it begins, in the cost's unit.
        high: Where it ends: another study is ahead from there on; None for the last range.
        leader: Position of the study that is ahead; None where the best are level.
        least: By how much it is ahead of the next best at least, in the quality's unit; None where no other study has
            a design that cheap.
        most: By how much at most; likewise.
        clear: The share of the steps in the range where the 95 % intervals of the two qualities do not overlap, 0 to 1.
    """

    low: float
    high: float | None
    leader: int | None
    least: float | None
    most: float | None
    clear: float


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Args:
        contenders: The studies, in the order given.
        objectives: Those that all share, the only ones compared.
        reference: Of all hypervolumes.
        warnings: Why numbers may not be comparable; empty unless a person asked for it all the same.
        notes: What a reader should know besides.
    """

    contenders: tuple[Contender, ...]
    objectives: tuple[Objective, ...]
    reference: Reference
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def quality(self) -> Objective:
        """The first shared objective of which more is better."""
        return next(o for o in self.objectives if o.maximise)

    @property
    def cost(self) -> Objective:
        """The first shared objective of which less is better."""
        return next(o for o in self.objectives if not o.maximise)

    @cached_property
    def points(self) -> list[np.ndarray]:
        """For each study the N×M values of its front in the shared objectives, signed so that more is better."""
        signs = np.array([1.0 if o.maximise else -1.0 for o in self.objectives])
        return [signs * values_of(contender.front, self.objectives) for contender in self.contenders]

    def covered(self, by: int, of: int) -> int:
        """How many of a front's members a study has a design for that is at least as good in every objective.

        Divided by the front's length it is the coverage C(by, of) of E. Zitzler and L. Thiele, "Multiobjective
        Evolutionary Algorithms: A Comparative Case Study and the Strength Pareto Approach", IEEE Transactions on
        Evolutionary Computation 3(4), 1999.
        """
        ahead = (self.points[by][:, None, :] >= self.points[of][None, :, :]).all(axis=2)
        return int(ahead.any(axis=0).sum())

    def short_of(self, one: int, other: int) -> float | None:
        """How much better every design of a front would have to be, on all axes, to cover another front.

        The additive epsilon indicator (E. Zitzler et al., "Performance Assessment of Multiobjective Optimizers", IEEE
        Transactions on Evolutionary Computation 7(2), 2003) on the axes from reference (0) to ideal (1); 0 or less
        where it covers the other already. None where a front is empty.
        """
        fronts = [self.contenders[index].front for index in (one, other)]
        if not all(fronts):
            return None
        import moocore

        mine, theirs = (self.reference.normalise(values_of(front, self.objectives)) for front in fronts)
        return float(moocore.epsilon_additive(mine, ref=theirs, maximise=True))

    @cached_property
    def leads(self) -> list[Lead]:
        """Who is ahead in quality over which range of costs, from the cheapest design on."""
        return find_leads([contender.front for contender in self.contenders], self.cost, self.quality)

    def shares_ahead(self) -> list[float]:
        """For each study the share of the range of costs, on a logarithmic axis where costs have one, that it leads.

        The range is from the cheapest design of all fronts to the dearest; what lies beyond it has no end.
        """
        costs = [record.value(self.cost.key) for contender in self.contenders for record in contender.front]
        low, high = min(costs, default=0.0), max(costs, default=0.0)
        totals = [0.0] * len(self.contenders)
        logarithmic = self.cost.kind.log_axis and low > 0
        scale = math.log if logarithmic else float
        for lead in self.leads:
            end = high if lead.high is None else lead.high
            if lead.leader is not None and high > low:
                totals[lead.leader] += (scale(end) - scale(lead.low)) / (scale(high) - scale(low))
        return totals


def compare(studies: Sequence[Study], anyway: bool = False) -> Comparison:
    """Compares studies by the objectives that they share.

    Args:
        studies: Two to eight.
        anyway: Also where data or machines differ; what differs then stands in the warnings.

    Raises:
        StudyError: They cannot be compared, and the message names what differs; or nothing was measured.
    """
    names = labels([study.folder.path for study in studies])
    objectives, notes = shared_objectives(studies, names)
    found = obstacles(studies, names, objectives)
    if found and not anyway:
        what, hint = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise StudyError(f"not comparable: {what}{more}", f"{hint}; or add --anyway")
    notes += notes_on_recipes(studies, names)
    reference = _common_reference(studies, objectives)
    contenders = []
    for study, name in zip(studies, names, strict=True):
        front = study.front_in(objectives)
        if not front:
            notes.append(f"there is no front in {name}: no trial of it was measured and meets the constraints.")
        volume = hypervolume(study.records, reference, objectives, study.recipe.parsed_constraints)
        contenders.append(Contender(name, study, tuple(front), volume))
    if not any(contender.front for contender in contenders):
        raise StudyError("none of these studies has a front to compare", "run the searches first")
    return Comparison(tuple(contenders), objectives, reference, tuple(what for what, _ in found), tuple(notes))


def _common_reference(studies: Sequence[Study], objectives: Sequence[Objective]) -> Reference:
    """The worst of the studies' own references in each objective, so that all that counts in one counts here."""
    own = [dict(zip(s.reference.objectives, s.reference.values, strict=True)) for s in studies if s.reference]
    if not own:
        raise StudyError("none of these studies has a measured trial", "run the searches first")
    values = [(min if o.maximise else max)(reference[o.key] for reference in own) for o in objectives]
    return Reference(tuple(o.key for o in objectives), tuple(values))


def find_leads(fronts: Sequence[Sequence[TrialRecord]], cost: Objective, quality: Objective) -> list[Lead]:
    """Who is ahead over which range of costs: see ``Lead``. Neighbouring steps of one leader are joined."""
    steps = sorted({record.value(cost.key) for front in fronts for record in front})
    single = [_step(fronts, low, high, cost, quality) for low, high in pairwise([*steps, None]) if low is not None]
    joined: list[list[Lead]] = []
    for lead in single:
        last = joined[-1][-1] if joined else None
        if last is not None and (last.leader, last.least is None) == (lead.leader, lead.least is None):
            joined[-1].append(lead)
        else:
            joined.append([lead])
    return [_joined(leads) for leads in joined]


def _joined(leads: Sequence[Lead]) -> Lead:
    least = [lead.least for lead in leads if lead.least is not None]
    most = [lead.most for lead in leads if lead.most is not None]
    clear = sum(lead.clear for lead in leads) / len(leads)
    first, last = leads[0], leads[-1]
    return Lead(first.low, last.high, first.leader, min(least, default=None), max(most, default=None), clear)


def _step(
    fronts: Sequence[Sequence[TrialRecord]], low: float, high: float | None, cost: Objective, quality: Objective
) -> Lead:
    """Who is ahead between two neighbouring costs, of the designs that cost at most the lower one."""
    best: list[tuple[int, Quantity]] = []
    for index, front in enumerate(fronts):
        quantities = [q for r in front if r.value(cost.key) <= low and (q := r.quantity(quality.key)) is not None]
        if quantities:
            best.append((index, max(quantities, key=lambda quantity: quantity.value)))
    best.sort(key=lambda item: -item[1].value)
    leader, ahead = best[0]
    if len(best) == 1:
        return Lead(low, high, leader, None, None, 1.0)
    behind = best[1][1]
    difference = ahead.value - behind.value
    ends = (ahead.value if ahead.low is None else ahead.low, behind.value if behind.high is None else behind.high)
    clear = float(ends[0] > ends[1])
    return Lead(low, high, leader if difference > 0 else None, difference, difference, clear)
