"""Choosing by preference: weights against brute force, one figure first, what is said, and what is refused."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study

from nas.deploy import Limits, choose
from nas.deploy.preference import First, Weights
from nas.errors import NasError
from nas.record import TrialRecord
from nas.study import Study

# Number, accuracy, latency in ms, size in bytes: all on the front, far from each other.
TRIALS = ((0, 0.90, 0.010, 80_000), (1, 0.95, 0.020, 20_000), (2, 0.97, 0.040, 40_000), (3, 0.98, 0.160, 10_000))


def record_of(number: int, accuracy: float, latency_ms: float, size: int) -> TrialRecord:
    record = make_record(number, accuracy, latency_ms)
    sized = tuple(replace(q, value=size) if q.name == "size_bytes" else q for q in record.quantities)
    return replace(record, quantities=sized)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("shared") / "study", [record_of(*trial) for trial in TRIALS])


@pytest.mark.parametrize("weights", list(itertools.product((0.5, 1, 4), (0.6, 1.1, 3, 8), (None, 2))))
def test_weights_take_the_best_sum_of_points_and_halvings(study: Study, weights: tuple[float, ...]) -> None:
    accuracy, latency, size = weights
    text = f"accuracy={accuracy},latency={latency}" + (f",size={size}" if size else "")
    sums = {
        number: accuracy * 100 * share - latency * math.log2(ms) - (size or 0) * math.log2(volume)
        for number, share, ms, volume in TRIALS
    }
    choice = choose(study, Limits(), preference=Weights.parse(text))
    assert choice.record.number == max(sums, key=lambda number: sums[number])
    assert choice.rule == "weighed"


def test_two_halvings_are_worth_a_point_where_the_weights_say_so(tmp_path: Path) -> None:
    """The example of the help: of accuracy=2,latency=1 a point outweighs less than two halvings, and no more."""
    for ratio, chosen in ((4.1, 0), (3.9, 1)):
        records = [record_of(0, 0.90, 0.1, 1000), record_of(1, 0.91, 0.1 * ratio, 1000)]
        records = [replace(r, quantities=tuple(replace(q, low=None, high=None) for q in r.quantities)) for r in records]
        study = write_study(tmp_path / str(chosen), records)
        assert choose(study, Limits(), preference=Weights.parse("accuracy=2,latency=1")).record.number == chosen


def test_of_equal_sums_the_smaller_file(study: Study) -> None:
    """From trial 2 to trial 3 a point is gained and two halvings are lost; trial 3 has the smaller file."""
    assert (
        choose(study, Limits(min_accuracy=0.96), preference=Weights.parse("accuracy=1,latency=0.5")).record.number == 3
    )


def test_limits_come_before_weights(study: Study) -> None:
    choice = choose(study, Limits(max_latency_ms=0.03), preference=Weights.parse("accuracy=100,latency=1"))
    assert choice.record.number == 1
    assert choice.why == (
        "Trial 1 is the best of the 2 on the front with latency at most 0.03 ms where a point of validation accuracy "
        f"counts 100 and a halving of latency counts 1: validation accuracy 95.00 % at 0.0200 ms ({TARGET}). The "
        "runner-up, trial 0, has validation accuracy 90.00 % (−5.00 points) at 0.0100 ms (−50.0 %), 500 behind by "
        "these weights."
    )


@pytest.mark.parametrize(
    ("first", "number"),
    [
        (First("accuracy"), 3),
        (First("accuracy", 1.0), 2),  # within a point of 98 %, to the digit
        (First("accuracy", 0.99), 3),
        (First("accuracy", 3), 1),
        (First("accuracy", 50), 0),
        (First("latency"), 0),
        (First("latency", 100), 1),
        (First("latency", 99.9), 0),
        (First("size", 100), 3),
        (First("size", 100, "latency"), 1),
        (First("size", 300, "latency"), 1),
        (First("accuracy", 3, "size"), 3),
        (First("p95", 300), 2),
        (First("flops", 100, "size"), 1),
    ],
)
def test_one_figure_first(study: Study, first: First, number: int) -> None:
    choice = choose(study, Limits(), preference=first)
    assert choice.record.number == number
    assert choice.rule == "in order"


def test_what_is_said_of_an_order(study: Study) -> None:
    assert choose(study, Limits(), preference=First("accuracy", 3)).why.startswith(
        "Trial 1 is the fastest of the 3 that come within 3 points of the most accurate of the 4 on the front "
        "(trial 3, 98.00 %): validation accuracy 95.00 %"
    )
    assert choose(study, Limits(), preference=First("accuracy", 0.5)).why.startswith(
        "Trial 3 is the most accurate of the 4 on the front, and no other comes within 0.5 points of it: "
    )
    assert choose(study, Limits(), preference=First("latency")).why.startswith(
        "Trial 0 is the fastest of the 4 on the front: validation accuracy 90.00 %"
    )


def test_another_quantity_is_named_in_the_runner_up(study: Study) -> None:
    why = choose(study, Limits(), preference=First("size", 100, "latency")).why
    assert "The runner-up, trial 3," in why
    assert why.endswith("file size 10.0 kB.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--weigh must read NAME=WEIGHT,…, but got ''"),
        ("accuracy", "--weigh must read"),
        ("=2", "--weigh must read"),
        ("acuracy=1", "unknown figure 'acuracy'; did you mean 'accuracy'"),
        ("accuracy=1,accuracy=2", "names 'accuracy' twice"),
        ("accuracy=much", "the weight of 'accuracy' must be a number, but got 'much'"),
        ("latency=0", "the weight of 'latency' must be greater than 0, but got 0"),
        ("latency=nan", "must be greater than 0, but got nan"),
        ("latency=inf", "must be greater than 0, but got inf"),
    ],
)
def test_weights_that_mean_nothing(text: str, message: str) -> None:
    with pytest.raises(NasError, match=message) as caught:
        Weights.parse(text)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("speed",), "--first: unknown figure 'speed'"),
        (("latency", 1.0, "speed"), "--then: unknown figure 'speed'"),
        (("latency", 1.0, "latency"), "--then must name another figure than --first"),
        (("latency", -1.0), "--within must be 0 or more, but got -1"),
        (("latency", math.nan), "--within must be 0 or more, but got nan"),
    ],
)
def test_orders_that_mean_nothing(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(NasError, match=message):
        First(*arguments)  # type: ignore[arg-type]


def test_the_knee_and_a_preference_exclude_each_other(study: Study) -> None:
    with pytest.raises(NasError, match="two ways to choose"):
        choose(study, Limits(), knee=True, preference=First("latency"))


def test_latency_needs_a_target_where_the_study_has_none(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", "flops"], targets=[TARGET])
    study = write_study(tmp_path / "s", [record_of(*trial) for trial in TRIALS], recipe)
    with pytest.raises(NasError, match="'latency' depends on what serves"):
        choose(study, Limits(), preference=Weights.parse("accuracy=1,latency=1"))
    assert choose(study, Limits(target=TARGET), preference=Weights.parse("accuracy=1,latency=9")).record.number == 0
    assert choose(study, Limits(), preference=Weights.parse("accuracy=1,flops=9")).record.number == 0


def test_a_cost_of_nothing_cannot_be_weighed(tmp_path: Path) -> None:
    record = make_record(0)
    free = tuple(replace(q, value=0) if q.name == "params" else q for q in record.quantities)
    study = write_study(tmp_path / "s", [replace(record, quantities=free), make_record(1, 0.95, 0.2)])
    with pytest.raises(NasError, match="'params' is 0 and cannot be weighed"):
        choose(study, Limits(), preference=Weights.parse("accuracy=1,params=1"))


def test_accuracy_means_the_studys_own(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["balanced_accuracy", LATENCY])
    study = write_study(tmp_path / "s", [record_of(*trial) for trial in TRIALS], recipe)
    assert "most accurate" in choose(study, Limits(), preference=First("accuracy")).why
