"""Searching a supernet: which architectures are best for their cost, as far as inherited accuracies tell.

An evolution on two objectives: parents come from the best fronts so far (non-dominated sorting, K. Deb et al., "A fast
and elitist multiobjective genetic algorithm: NSGA-II", IEEE TEVC 6, 2002), children mix two parents choice by choice
and change some choices, and a tenth of each generation is drawn at random. Whatever was ever judged stays in the
archive, from which the front is taken in the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nas.choice import Choice
from nas.design import Design, Value
from nas.space import SearchSpace
from nas.supernet.ranking import Ranker
from nas.supernet.shared import architecture_of

# What designs cost, such as multiply-adds or a predicted latency: N numbers greater than 0 for N designs.
Cost = Callable[[Sequence[Design]], np.ndarray]

START = 64
GENERATION = 32
# Parents are the best fronts that together have so many members.
PARENTS = 24
_RANDOM_SHARE = 0.1
# How often a design is made again that is known already or does not fit, before its generation goes without.
_TRIES = 50
_MAXIMISE = (True, False)


@dataclass(frozen=True)
class Member:
    """An architecture, the accuracy of its network with inherited weights, and what it costs."""

    design: Design
    accuracy: float
    cost: float


def inherited_fronts(
    ranker: Ranker,
    cost: Cost,
    size: int,
    judged: int = 1000,
    first: Iterable[Design] = (),
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[list[Member]]:
    """Evolves architectures and gives members of their front, evenly spread over it, cheapest first.

    Where the front has fewer than are wanted, members of the next front follow as another list, and so on.

    Args:
        ranker: Judges them.
        cost: What they cost; less is better.
        size: How many are wanted, of all fronts together.
        judged: How many architectures are judged, those of ``first`` included; fewer where the space has no more.
        first: Designs to begin with, beside the largest and the smallest; those that do not fit are left out.
        seed: Of all random choices.
        on_progress: Called after each generation with how many are judged.
        stop: Asked after each generation whether to end early.

    Raises:
        ValueError: ``size`` or ``judged`` is not positive, or a cost is not a finite number greater than 0.
    """
    if min(size, judged) < 1:
        raise ValueError(f"'size' and 'judged' must be at least 1, but got {size} and {judged}")
    archive = _Archive(ranker, cost)
    supernet, rng = ranker.supernet, random.Random(f"{seed} evolution")
    start = [design for design in map(architecture_of, first) if supernet.fits(design)]
    begin = [supernet.largest, supernet.smallest, *start]
    archive.judge(dict.fromkeys(begin), judged)
    archive.judge(_new(archive, min(START, judged) - len(archive.members), lambda: supernet.draw(rng)), judged)
    while len(archive.members) < judged and not stop():
        parents = archive.best()

        def child(parents: Sequence[Design] = parents) -> Design:
            if rng.random() < _RANDOM_SHARE:
                return supernet.draw(rng)
            return mutated(supernet.space, crossed(supernet.space, rng.choice(parents), rng.choice(parents), rng), rng)

        children = _new(archive, GENERATION, child)
        if not children:
            break
        archive.judge(children, judged)
        if on_progress is not None:
            on_progress(len(archive.members))
    return archive.fronts(size)


class _Archive:
    """All architectures that were judged, by their design, and how good and how dear they are."""

    def __init__(self, ranker: Ranker, cost: Cost) -> None:
        self.ranker, self.cost = ranker, cost
        self.members: dict[Design, Member] = {}

    def judge(self, designs: Iterable[Design], most: int) -> None:
        """Adds designs, none of which is there yet, until there are so many."""
        taken = list(designs)[: most - len(self.members)]
        if not taken:
            return
        costs = np.asarray(self.cost(taken), dtype=float)
        if costs.shape != (len(taken),) or not (np.isfinite(costs).all() and (costs > 0).all()):
            raise ValueError(f"costs must be {len(taken)} finite numbers greater than 0, but got {costs}")
        for design, value in zip(taken, costs, strict=True):
            self.members[design] = Member(design, self.ranker.accuracy(design), float(value))

    def fronts(self, size: int) -> list[list[Member]]:
        """Those that none dominates, then those that only these dominate, and so on, until there are so many."""
        ranks = self._ranks()
        found: list[list[Member]] = []
        for rank in np.unique(ranks).tolist():
            own = [member for member, at in zip(self.members.values(), ranks, strict=True) if at == rank]
            found.append(spread(own, size))
            size -= len(found[-1])
            if size < 1:
                break
        return found

    def best(self) -> list[Design]:
        """The designs of the first fronts, whole fronts so that all of their extent takes part."""
        ranks = self._ranks()
        last = np.sort(ranks)[min(PARENTS, len(ranks)) - 1]
        return [member.design for member, rank in zip(self.members.values(), ranks, strict=True) if rank <= last]

    def _ranks(self) -> np.ndarray:
        """By how many fronts each is dominated."""
        import moocore

        members = list(self.members.values())
        return np.asarray(moocore.pareto_rank(_points(members), maximise=list(_MAXIMISE)))


def _new(archive: _Archive, count: int, make: Callable[[], Design]) -> list[Design]:
    """Up to so many different designs that fit and are not in the archive."""
    made: dict[Design, None] = {}
    for _ in range(_TRIES * max(0, count)):
        if len(made) == count:
            break
        design = make()
        if design not in archive.members and archive.ranker.supernet.fits(design):
            made[design] = None
    return list(made)


def crossed(space: SearchSpace, one: Design, other: Design, rng: random.Random) -> Design:
    """Each choice from either parent at random; one that neither has, at random."""

    def pick(choice: Choice) -> Value:
        values = [p.architecture[choice.name] for p in (one, other) if choice.name in p.architecture]
        return rng.choice(values) if values else rng.choice(choice.values)

    return architecture_of(space.choose(pick))


def mutated(space: SearchSpace, design: Design, rng: random.Random) -> Design:
    """Each choice anew with a chance of 1 in the number of the design's choices, numbers mostly to a neighbour; at
    least one choice; where that opens others, these at random."""
    names = list(design.architecture)
    changed = {name for name in names if rng.random() < 1 / len(names)} or {rng.choice(names)}

    def pick(choice: Choice) -> Value:
        if choice.name not in design.architecture:
            return rng.choice(choice.values)
        own = design.architecture[choice.name]
        return _other(choice, own, rng) if choice.name in changed else own

    return architecture_of(space.choose(pick))


def _other(choice: Choice, own: Value, rng: random.Random) -> Value:
    at = choice.values.index(own)
    if choice.ordered and rng.random() < 0.7:
        return choice.values[min(len(choice.values) - 1, max(0, at + rng.choice((-1, 1))))]
    return rng.choice(choice.values)


def spread(front: Sequence[Member], size: int) -> list[Member]:
    """Members evenly spread over a front, its ends among them, cheapest first.

    Evenly along the line through all members in the plane of log cost and accuracy, both scaled to the front's extent;
    of members of equal cost and accuracy one stands for all.

    Args:
        front: None dominates another; not empty.
        size: How many are wanted; with 1 the most accurate.
    """
    distinct = {(member.cost, member.accuracy): member for member in reversed(front)}
    members = sorted(distinct.values(), key=lambda member: member.cost)
    if size >= len(members):
        return members
    if size == 1:
        return [members[-1]]
    axes = np.stack([np.log([m.cost for m in members]), [m.accuracy for m in members]], axis=1)
    axes = (axes - axes.min(axis=0)) / np.maximum(np.ptp(axes, axis=0), 1e-12)
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(axes, axis=0), axis=1))])
    chosen: list[int] = []
    for number, wanted in enumerate(np.linspace(0, along[-1], size)):
        # Each takes the nearest that leaves enough for those before and after it.
        low = chosen[-1] + 1 if chosen else 0
        high = len(members) - (size - number - 1)
        chosen.append(low + int(np.abs(along[low:high] - wanted).argmin()))
    return [members[number] for number in chosen]


def _points(members: Sequence[Member]) -> np.ndarray:
    return np.array([[member.accuracy, member.cost] for member in members]).reshape(len(members), 2)
