"""Designs of which many differ in one choice alone, for tests of what each choice buys."""

from __future__ import annotations

import random

from nas.design import Design
from nas.space import SearchSpace


def neighbours(space: SearchSpace, count: int, rng: random.Random) -> list[Design]:
    """So many different designs: one at random, and each other made of an earlier one by another value of a choice."""
    designs = [space.sample(rng)]
    while len(designs) < count:
        values = space.flat(rng.choice(designs))
        choice = rng.choice(space.choices)
        neighbour = space.design(values | {choice.name: rng.choice(choice.values)})
        designs += [neighbour] if neighbour not in designs else []
    return designs
