"""What a choice buys by regression: right where choices act independently, silent where it knows too little."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import numpy as np
import pytest
from fakes import LATENCY, make_recipe, make_record

from nas.design import Design
from nas.record import TrialRecord
from nas.report.adjusted import Adjusted, Regression, adjusted
from nas.report.effect import quantities_of
from nas.space import load_space


def trials(count: int, noise: float = 0.03) -> list[TrialRecord]:
    """Random designs: separable first stages take 0.6 of the time and lose half a point, a second stage doubles it."""
    rng, space = random.Random(0), load_space("convnet-small")
    records = []
    for number in range(count):
        design = space.sample(rng)
        separable = design.architecture["stage1.conv"] == "separable"
        stages, width = design.architecture["stages"], design.architecture["stem.width"]
        assert isinstance(stages, int)
        assert isinstance(width, int)
        latency = 0.01 * width * stages * (0.6 if separable else 1) * (2 if design.step("weight_bits") == 4 else 1)
        accuracy = 0.8 - 0.005 * separable + 0.002 * width + rng.gauss(0, 0.002)
        records.append(make_record(number, accuracy, latency * rng.lognormvariate(0, noise), design=design))
    return records


def estimated(records: Sequence[TrialRecord], wanted: Sequence[str]) -> Regression:
    return adjusted(records, quantities_of(records, make_recipe().parsed_objectives), wanted)


def row(found: Regression, choice: str, value: object) -> Adjusted:
    (one,) = [one for one in found.rows if one.choice == choice and one.value == value]
    return one


@pytest.fixture(scope="module")
def found() -> Regression:
    return estimated(trials(300), ["stage1.conv", "stages", "stem.width", "weight_bits", "stem.kernel"])


@pytest.mark.parametrize(
    ("choice", "value", "other", "ratio", "points"),
    [
        ("stage1.conv", "separable", "standard", 0.6, -0.005),
        ("stages", 1, 2, 0.5, 0.0),
        ("stem.width", 8, 32, 0.25, -0.048),
        ("stem.width", 16, 32, 0.5, -0.032),
        ("weight_bits", 4, 32, 2.0, 0.0),  # of compression what leaves it out is replaced, though it is faster
        ("weight_bits", 8, 32, 1.0, 0.0),
    ],
)
def test_known_effects_are_found(
    found: Regression, choice: str, value: object, other: object, ratio: float, points: float
) -> None:
    one = row(found, choice, value)
    assert one.other == other
    latency, accuracy = one.effect(LATENCY), one.effect("accuracy")
    assert latency is not None
    assert accuracy is not None
    assert latency.value == pytest.approx(ratio, rel=0.04)
    assert latency.low is not None
    assert latency.high is not None
    assert latency.low <= latency.value <= latency.high
    assert accuracy.value == pytest.approx(points, abs=0.002)


def test_what_is_not_explained_is_not_told(found: Regression) -> None:
    """The size of these trials follows from their numbers alone."""
    assert found.explained["time"] > 0.9
    assert found.explained["size"] < 0.5
    assert all(one.effect("size_bytes") is None for one in found.rows)
    assert "% in time" in found.summary


def test_every_estimate_says_that_it_is_adjusted(found: Regression) -> None:
    assert all(one.words.endswith(", adjusted") for one in found.rows)
    assert row(found, "stem.width", 8).words.startswith("stem width, 8 for 32: −75 % time (−7")


def test_what_saves_most_comes_first(found: Regression) -> None:
    values = [one.effects[0].value for one in found.rows]
    assert values == sorted(values)


def test_too_few_trials_give_no_estimates() -> None:
    found = estimated(trials(40), ["stage1.conv"])
    assert found.rows == ()
    assert found.summary == found.why_not
    assert found.why_not.startswith("40 measured trials: too few for adjusted estimates, which need ")


def test_noise_gives_no_estimates() -> None:
    rng = np.random.default_rng(0)
    records = [
        make_record(n, rng.uniform(0.5, 0.9), rng.uniform(0.1, 1), design=record.design)
        for n, record in enumerate(trials(200))
    ]
    found = estimated([with_one_size(record) for record in records], ["stage1.conv"])
    assert found.rows == ()
    assert found.why_not == "The regression explains too little of the differences between trials."


def with_one_size(record: TrialRecord) -> TrialRecord:
    quantities = tuple(one for one in record.quantities if one.name != "size_bytes")
    return TrialRecord(**{**vars(record), "quantities": quantities})


def test_nothing_is_computed_where_nothing_is_wanted() -> None:
    assert estimated(trials(5), []) == Regression((), {})
    assert Regression((), {}).summary == ""


def test_trials_that_measure_alike_have_no_effects() -> None:
    design = [Design("convnet", {"a": n % 2}, {}) for n in range(20)]
    records = [with_one_size(make_record(n, 0.9, 0.1, design=one)) for n, one in enumerate(design)]
    assert estimated(records, ["a"]).why_not == "Nothing that is measured differs between the trials."


def test_a_value_of_few_trials_is_left_out() -> None:
    design = [Design("convnet", {"a": "rare" if n < 4 else "xy"[n % 2]}, {}) for n in range(40)]
    records = [make_record(n, 0.9, 0.1 * (1 + n % 2), design=one) for n, one in enumerate(design)]
    assert {value for one in estimated(records, ["a"]).rows for value in (one.value, one.other)} == {"x", "y"}


def test_the_same_trials_give_the_same_numbers() -> None:
    records = trials(150)
    assert estimated(records, ["stage1.conv"]) == estimated(records, ["stage1.conv"])


def test_estimates_are_json(found: Regression) -> None:
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert all(one["adjusted"] for one in data["rows"])
    assert data["rows"][0]["effects"][0]["key"] == LATENCY
