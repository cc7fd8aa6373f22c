"""Latencies that something disturbed to the end: surrogates believe them less, and are misled less."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import LATENCY, make_recipe, make_record
from search_fakes import FakeEvaluate, make_space
from test_predictor_sampler import cell, quick, run, study_of

from nas.evaluate import EvalRequest
from nas.objectives import Objective
from nas.outcome import Outcome, Quantity
from nas.record import TrialRecord
from nas.search.foreseen import DISTURBED, cost_and_spread
from nas.search.insight import Insight
from nas.search.knowledge import Knowledge
from nas.search.tally import Tally

RECIPE = make_recipe()
SPACE = make_space()


def with_latency(record: TrialRecord, factor: float, unstable: bool) -> TrialRecord:
    """The trial with its latency so many times as long."""

    def changed(quantity: Quantity) -> Quantity:
        if quantity.key != LATENCY:
            return quantity
        detail = {**quantity.detail, "unstable": unstable}
        return replace(quantity, value=factor * quantity.value, low=None, high=None, detail=detail)

    return replace(record, quantities=tuple(map(changed, record.quantities)))


def searched(count: int, seed: int = 0) -> list[TrialRecord]:
    """Measured trials of random designs."""
    draw, evaluate, records = random.Random(seed), FakeEvaluate(), list[TrialRecord]()
    while len(records) < count:
        design = SPACE.sample(draw)
        result = evaluate(EvalRequest(len(records), design, 0), None)  # type: ignore[arg-type]
        if result.outcome is Outcome.MEASURED and all(design.digest != record.design.digest for record in records):
            record = replace(make_record(len(records), design=design), quantities=result.quantities)
            records.append(replace(record, manifest=result.manifest))
    return records


def known(records: list[TrialRecord]) -> Knowledge:
    found = Insight(SPACE, RECIPE, ()).knowledge(records)
    assert found is not None
    return found


@pytest.mark.parametrize("key", [LATENCY, f"proxy_{LATENCY}"])
@pytest.mark.parametrize(("unstable", "share"), [(True, DISTURBED), (False, 0.0)])
def test_the_spread_of_a_cost_is_that_of_a_disturbed_one(key: str, unstable: bool, share: float) -> None:
    record = with_latency(searched(1)[0], 1.0, unstable)
    name = key.split("@")[0]
    record = replace(record, quantities=tuple(replace(q, name=name) for q in record.quantities if q.key == LATENCY))
    objective = Objective.parse(LATENCY)
    value = record.quantities[0].value
    assert cost_and_spread(record, objective, RECIPE) == (value, pytest.approx(share * value))
    assert all(map(math.isnan, cost_and_spread(replace(record, quantities=()), objective, RECIPE)))


def test_a_disturbed_latency_misleads_less() -> None:
    """Of several trials, each in turn twice as slow as it is: what is said of that design is nearer to the truth."""
    records, column = searched(24), [o.key for o in RECIPE.parsed_objectives].index(LATENCY)
    errors: dict[bool, list[float]] = {True: [], False: []}
    for place in range(5, 24, 6):
        truth = records[place].value(LATENCY)
        for unstable, found in errors.items():
            told = list(records)
            told[place] = with_latency(records[place], 2.0, unstable)
            knowledge = known(told)
            design = records[place].design
            middle, _ = knowledge.outlook.interval(knowledge.encoder.encode([design]), 0.0)
            found.append(abs(float(np.log(middle[0, column] / truth))))
    assert np.mean(errors[True]) < 0.7 * np.mean(errors[False])


def twice_timed(number: int, untrained: float, disturbed: bool = True) -> TrialRecord:
    """A measured trial whose untrained network took so many times as long."""
    record = with_latency(searched(1)[0], 1.0, disturbed)
    latency = next(quantity for quantity in record.quantities if quantity.key == LATENCY)
    before = replace(latency, name=f"proxy_{latency.name}", value=untrained * latency.value)
    return replace(record, number=number, quantities=(*record.quantities, before))


def test_how_far_off_disturbed_times_are_is_seen_on_networks_that_were_timed_twice() -> None:
    objectives = RECIPE.parsed_objectives
    column = [objective.key for objective in objectives].index(LATENCY)

    def disturbed(records: list[TrialRecord]) -> float:
        tally = Tally(RECIPE)
        tally.learn(records)
        assert tally.disturbed[1 - column] == pytest.approx(DISTURBED), "no other objective is a time"
        assert tally.spreads(np.array([records[0].number]))[0, column] == pytest.approx(
            tally.disturbed[column] * tally.uncertain.rows(np.array([records[0].number]))[0, column]
        )
        return float(tally.disturbed[column])

    assert disturbed([twice_timed(0, 1.1, disturbed=False)]) == pytest.approx(DISTURBED), "nothing was disturbed"
    assert disturbed([with_latency(searched(1)[0], 1.0, True)]) == pytest.approx(DISTURBED), "timed once"
    close = [twice_timed(number, math.exp((-1) ** number * 0.1)) for number in range(30)]
    # Both times are off, so that one is by a root of two less than what they differ by.
    assert disturbed(close) == pytest.approx(0.1 / math.sqrt(2), rel=0.3)
    assert disturbed(close[:1]) > disturbed(close[:5]) > disturbed(close)
    far = [twice_timed(number, math.exp((-1) ** number * 0.6)) for number in range(30)]
    assert disturbed(far) == pytest.approx(0.6 / math.sqrt(2), rel=0.1)


def test_a_trial_tells_its_own_spread_a_duplicate_that_of_what_it_repeats() -> None:
    records = searched(12)
    records[3] = with_latency(records[3], 1.5, True)
    records.append(replace(records[3], number=12, outcome=Outcome.DUPLICATE, duplicate_of=3, quantities=()))
    knowledge = known(records)
    column = [objective.key for objective in RECIPE.parsed_objectives].index(LATENCY)
    expected = [0.0, 0.0]
    expected[column] = DISTURBED * records[3].value(LATENCY)
    assert knowledge.spread_of(3) == pytest.approx(expected)
    assert knowledge.spread_of(12) == pytest.approx(expected)
    assert knowledge.spread_of(4) == (0.0, 0.0)
    assert knowledge.spread_of(5_000) == (0.0, 0.0), "one that nothing is known of"


def test_a_sampler_that_is_told_what_trials_scatter_by_proposes_other_designs() -> None:
    asked: list[int] = []

    def noise(trial: Any) -> tuple[float, float]:
        asked.append(trial.number)
        return (0.0, 5.0 if trial.number % 2 else float("nan"))

    plain, told = study_of(quick(seed=1, startup_trials=6)), study_of(quick(seed=1, startup_trials=6, noise=noise))
    assert run(plain, cell, 6) == run(told, cell, 6), "as long as chance proposes"
    asked.clear()
    others = run(plain, cell, 6), run(told, cell, 6)
    assert others[0][6:] != others[1][6:]
    assert set(asked) == set(range(11)), "of the trials that ended"
