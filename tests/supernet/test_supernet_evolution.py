"""The evolution over a supernet, with an accuracy by formula: the front that it finds, how it is spread, its limits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_networks import SPACES
from supernet_spaces import CONVNET_SIZES, supernet_of

from nas.design import Design
from nas.front import non_dominated
from nas.supernet import Member, Ranker, Supernet, inherited_fronts
from nas.supernet.evolution import crossed, mutated, spread


class ByFormula:
    """A ranker whose accuracies follow from the choices: every stage's width and depth help, less and less."""

    def __init__(self, supernet: Supernet) -> None:
        self.supernet = supernet
        self.judged: list[Design] = []

    def accuracy(self, design: Design) -> float:
        self.judged.append(design)
        values = design.architecture
        worth = sum(float(value) ** 0.5 for name, value in values.items() if name.endswith("width"))
        worth += sum(float(value) for name, value in values.items() if name.endswith(("depth", "kernel")))
        worth += 3 * sum(value == "max" for value in values.values())
        return round(1 - float(np.exp(-worth / 20)), 6)


def cost(designs: Sequence[Design]) -> np.ndarray:
    """Multiply-adds, roughly."""
    return np.array([costs_one(design) for design in designs])


def costs_one(design: Design) -> float:
    values = design.architecture
    total, before = 0.0, float(values["stem.width"])
    for stage in ("stage1", "stage2"):
        if f"{stage}.width" in values:
            width, kernel, depth = (float(values[f"{stage}.{part}"]) for part in ("width", "kernel", "depth"))
            separable = values[f"{stage}.conv"] == "separable"
            total += depth * before * (kernel**2 + width if separable else kernel**2 * width)
            before = width
    return total + before * (float(values["head.hidden"]) + 10)


def evolved(by: ByFormula, **options: object) -> list[Member]:
    return inherited_fronts(cast(Ranker, by), cost, **options)[0]  # type: ignore[arg-type]


def test_finds_the_whole_front_of_a_space_that_it_can_judge_completely() -> None:
    by = ByFormula(supernet_of(CONVNET_SIZES))
    found = evolved(by, size=100, judged=1000)
    designs = list(CONVNET_SIZES.designs())
    assert len(by.judged) == len(designs) == 128
    points = np.array([[by.accuracy(design), costs_one(design)] for design in designs])
    best = {tuple(point) for point in points[non_dominated(points, (True, False))]}
    assert {(member.accuracy, member.cost) for member in found} == best
    assert [member.cost for member in found] == sorted(member.cost for member in found)


def test_where_the_front_is_short_those_from_behind_it_follow() -> None:
    by = ByFormula(supernet_of(CONVNET_SIZES))
    front = evolved(by, size=128, judged=1000)
    size = len(front) + 3
    fronts = inherited_fronts(cast(Ranker, by), cost, size=size, judged=1000)
    assert fronts[0] == front
    assert sum(map(len, fronts)) == size
    second = np.array([[member.accuracy, member.cost] for member in fronts[1]])
    beaten = [any(m.accuracy >= accuracy and m.cost <= spent for m in front) for accuracy, spent in second]
    assert all(beaten)
    assert non_dominated(second, (True, False)).all()
    designs = [member.design for own in fronts for member in own]
    assert len(set(designs)) == size


def test_finds_more_than_chance_does_with_as_many_judged() -> None:
    supernet = supernet_of(SPACES["convnet-small"])
    rng = random.Random(0)
    by_chance = [supernet.draw(rng) for _ in range(140)]
    by = ByFormula(supernet)
    found = evolved(by, size=140, judged=140)
    assert len(by.judged) == len(set(by.judged)) == 140
    everything = [(m.accuracy, m.cost) for m in found] + [(by.accuracy(d), costs_one(d)) for d in by_chance]
    kept = non_dominated(np.array(everything), (True, False))
    assert kept[: len(found)].sum() > 2 * kept[len(found) :].sum()


def test_is_the_same_with_the_same_seed_and_keeps_what_it_is_given() -> None:
    supernet = supernet_of(SPACES["convnet-small"])
    first = supernet.draw(random.Random(9))
    runs = [ByFormula(supernet) for _ in range(3)]
    for by, seed in zip(runs, (1, 1, 2), strict=True):
        evolved(by, size=5, judged=70, first=[Design("convnet", first.architecture, {"weight_bits": 8})], seed=seed)
    assert runs[0].judged == runs[1].judged != runs[2].judged
    assert first in runs[0].judged
    assert {supernet.largest, supernet.smallest} <= set(runs[0].judged)


def test_ends_when_it_is_told_to() -> None:
    by, counts = ByFormula(supernet_of(SPACES["convnet-small"])), list[int]()
    evolved(by, size=5, judged=1000, on_progress=counts.append, stop=lambda: len(counts) == 2)
    assert counts == [96, 128]
    assert len(by.judged) == 128


def test_bad_costs_and_sizes_are_refused() -> None:
    by = ByFormula(supernet_of(CONVNET_SIZES))
    for bad in (lambda designs: np.zeros(len(designs)), lambda designs: np.ones(1)):
        with pytest.raises(ValueError, match="finite numbers greater than 0"):
            inherited_fronts(cast(Ranker, by), bad, 3)
    with pytest.raises(ValueError, match="'size' and 'judged' must be at least 1"):
        evolved(by, size=0)


def test_children_lie_in_the_space_and_take_after_their_parents() -> None:
    space, rng = SPACES["convnet-small"], random.Random(0)
    changes = []
    for _ in range(200):
        one, other = (Design("convnet", space.sample(rng).architecture, {}) for _ in range(2))
        child = crossed(space, one, other, rng)
        for name, value in child.architecture.items():
            values = [p.architecture[name] for p in (one, other) if name in p.architecture]
            assert value in (values or space.by_name[name].values)
        mutant = mutated(space, one, rng)
        assert space.design({**mutant.architecture, **space.flat(space.sample(rng)), **mutant.architecture})
        changes.append(sum(mutant.architecture.get(n) != v for n, v in one.architecture.items()))
    assert 0.5 < sum(changes) / len(changes) < 3


# --- spreading


def members(points: Sequence[tuple[float, float]]) -> list[Member]:
    return [Member(Design("convnet", {"number": n}, {}), accuracy, cost) for n, (accuracy, cost) in enumerate(points)]


def test_spread_is_even_along_the_front() -> None:
    """Costs in steps of 2 and accuracies in equal steps: a straight line, of which every second is taken."""
    front = members([(0.1 * n, 2.0**n) for n in range(9)])
    assert [m.cost for m in spread(front, 5)] == [1, 4, 16, 64, 256]
    assert [m.cost for m in spread(list(reversed(front)), 2)] == [1, 256]
    assert [m.cost for m in spread(front, 1)] == [256]
    assert spread(front, 9) == spread(front, 90) == front


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1e-3, 1e3)), min_size=1, max_size=30), st.integers(1, 30))
def test_spread_takes_different_members_with_both_ends(points: list[tuple[float, float]], size: int) -> None:
    everything = members(points)
    kept = non_dominated(np.array(points), (True, False))
    front = [member for member, good in zip(everything, kept, strict=True) if good]
    chosen = spread(front, size)
    distinct = {(m.accuracy, m.cost) for m in front}
    assert len({(m.accuracy, m.cost) for m in chosen}) == len(chosen) == min(size, len(distinct))
    assert max(m.accuracy for m in front) == chosen[-1].accuracy
    if size > 1:
        assert min(m.cost for m in front) == chosen[0].cost
