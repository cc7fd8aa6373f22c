"""A dear baseline comes once others have taken their share of the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from fakes import make_recipe, make_record
from search_fakes import make_space

from nas.design import Design
from nas.record import StageResult, TrialRecord
from nas.search.opening import BASELINE_AFTER, BASELINE_MOST, GATHERING_MOST, Opening
from nas.search.samplers import STARTUP_TRIALS
from nas.space import SearchSpace

RATE = 2.0  # seconds of training for each unit of the rough cost


def cost(design: Design) -> float:
    return float(design.architecture["stem.width"])


def costs(designs: Sequence[Design]) -> np.ndarray:
    return np.array([cost(design) for design in designs])


def space_with(width: int) -> SearchSpace:
    space = make_space()
    return replace(space, baseline=space.design({**_SMALL, "stem.width": width}))


_SMALL = {
    "stages": 1,
    "stage1.conv": "standard",
    "pruning_ratio": 0.0,
    "weight_sharing": "none",
    "distillation": False,
}


def opening(width: int = 64, rough: object = costs, **budget: float) -> Opening:
    recipe = make_recipe(budget={**(budget or {"minutes": 10.0}), "epochs": 3})
    return Opening(space_with(width), recipe, rough)  # type: ignore[arg-type]


def trial(number: int, width: int = 8) -> TrialRecord:
    design = make_space().design({**_SMALL, "stem.width": width})
    stages = (StageResult("train", f"t{number}", RATE * width, False),)
    return replace(make_record(number, design=design), stages=stages, seconds=RATE * width)


def test_a_dear_baseline_waits_until_others_took_long_enough() -> None:
    deciding = opening(minutes=60.0)
    assert deciding.baseline_waits([])
    enough = int(np.ceil(BASELINE_AFTER * RATE * 64 / (RATE * 8)))
    records = [trial(number) for number in range(enough)]
    assert deciding.baseline_waits(records[:-1])
    assert not deciding.baseline_waits(records)


def test_one_that_would_take_much_of_the_budget_is_left_out() -> None:
    seconds = RATE * 64
    deciding = opening(minutes=seconds / 60 / (BASELINE_MOST - 0.05))
    tight = opening(minutes=seconds / 60 / (BASELINE_MOST + 0.05))
    records = [trial(number) for number in range(200)]
    assert not deciding.baseline_waits(records)
    assert not deciding.baseline_is_left_out(records)
    said: list[str] = []
    tight.say = said.append
    assert tight.baseline_waits(records), "however long the others took"
    assert tight.baseline_waits(records)
    assert len(said) == 1, "once"
    assert "left out" in said[0]
    assert tight.baseline_is_left_out(records)
    assert not tight.baseline_is_left_out([]), "nobody knows yet what it would take"


def test_once_it_was_tried_nothing_waits() -> None:
    assert not opening().baseline_waits([trial(0, width=64)])


@pytest.mark.parametrize(
    "case",
    [
        opening(width=8),  # no dearer than others
        opening(rough=None),  # nobody knows
        opening(trials=20),  # a trial is a trial, however long it takes
    ],
    ids=["cheap", "unknown", "trials"],
)
def test_else_it_comes_first(case: Opening) -> None:
    assert not case.baseline_waits([])


def test_where_nothing_can_be_trained_it_comes_after_some_tries() -> None:
    failed = [replace(trial(number), stages=()) for number in range(40)]
    assert opening().baseline_waits(failed[:3])
    assert not opening().baseline_waits(failed)


def test_networks_are_gathered_until_there_are_enough_or_a_share_of_the_budget_is_spent() -> None:
    deciding = opening(minutes=10.0)
    assert deciding.gathers([], 0)
    assert not deciding.gathers([], STARTUP_TRIALS)
    records = [replace(trial(number), seconds=GATHERING_MOST * 600.0 / 4) for number in range(4)]
    assert deciding.gathers(records[:3], 3)
    assert not deciding.gathers(records, 4)
    counting = opening(trials=20)
    assert counting.gathers(records[: int(GATHERING_MOST * 20) - 1], 3)
    assert not counting.gathers(records[: int(GATHERING_MOST * 20)], 4)
