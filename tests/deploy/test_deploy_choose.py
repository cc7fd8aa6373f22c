"""Choosing: every rule, every combination of limits against brute force, ties, and what is said when nothing fits."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study

from nas.deploy import Choice, Limits, choose
from nas.errors import NasError, NothingFeasibleError, StudyError
from nas.front import knee
from nas.outcome import How, Outcome, Quantity
from nas.record import TrialRecord
from nas.study import Study

OTHER_TARGET = "onnxruntime-cpu-2t-b1"

# Number, accuracy, latency in ms, size in bytes. Trial 4 is dominated by trial 1, but is the smallest.
TRIALS = ((0, 0.90, 0.010, 30_000), (1, 0.95, 0.020, 50_000), (2, 0.97, 0.040, 40_000), (3, 0.98, 0.100, 90_000))
DOMINATED = (4, 0.94, 0.030, 10_000)


def record_of(number: int, accuracy: float, latency_ms: float, size: int, **fields: Any) -> TrialRecord:
    record = make_record(number, accuracy, latency_ms, **fields)
    quantities = (replace(q, value=size) if q.name == "size_bytes" else q for q in record.quantities)
    return replace(record, quantities=tuple(quantities))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study that most tests read and none changes."""
    return write_study(
        tmp_path_factory.mktemp("shared") / "study", [record_of(*trial) for trial in (*TRIALS, DOMINATED)]
    )


@pytest.mark.parametrize(
    ("limits", "rule", "number", "runner_up"),
    [
        (Limits(max_latency_ms=0.05), "most accurate", 2, 1),
        (Limits(max_size_bytes=60_000), "most accurate", 2, 1),
        (Limits(max_latency_ms=0.05, max_size_bytes=35_000), "most accurate", 0, None),
        (Limits(min_accuracy=0.94), "fastest", 1, 2),
        (Limits(min_accuracy=0.94, max_size_bytes=45_000), "fastest", 2, None),
        (Limits(min_accuracy=0.94, max_latency_ms=0.05), "fastest", 1, 2),
        (Limits(min_accuracy=0.95, max_latency_ms=0.020), "fastest", 1, None),
    ],
)
def test_each_rule(study: Study, limits: Limits, rule: str, number: int, runner_up: int | None) -> None:
    choice = choose(study, limits)
    assert (choice.rule, choice.record.number) == (rule, number)
    assert (choice.runner_up and choice.runner_up.number) == runner_up
    assert (choice.limits, choice.target) == (limits, TARGET)


def test_without_limits_it_is_the_knee(study: Study) -> None:
    choice = choose(study, Limits())
    assert choice.rule == "knee"
    assert choice.record == knee(study.front, study.recipe.parsed_objectives)


def test_the_knee_of_those_that_meet_the_limits(study: Study) -> None:
    choice = choose(study, Limits(min_accuracy=0.96), knee=True)
    able = [record for record in study.front if record.value("accuracy") >= 0.96]
    assert choice.record == knee(able, study.recipe.parsed_objectives)
    assert choice.rule == "knee"


GRID: dict[str, tuple[float | None, ...]] = {
    "max_latency_ms": (None, 0.005, 0.010, 0.035, 0.2),
    "min_accuracy": (None, 0.85, 0.95, 0.975, 0.99),
    "max_size_bytes": (None, 20_000, 40_000, 100_000),
}


@pytest.mark.parametrize("values", list(itertools.product(*GRID.values())))
def test_the_choice_meets_the_limits_and_none_that_does_is_better(study: Study, values: tuple[Any, ...]) -> None:
    limits = Limits(*values)
    latency, accuracy, size = (
        default if value is None else value for value, default in zip(values, (1e9, 0, 1e9), strict=True)
    )
    able = [t for t in TRIALS if t[1] >= accuracy and t[2] <= latency and t[3] <= size]
    if not able:
        with pytest.raises(NothingFeasibleError):
            choose(study, limits)
        return
    choice = choose(study, limits)
    assert choice.record.number in {t[0] for t in able}
    if choice.rule == "fastest":
        assert choice.record.value(LATENCY) == min(t[2] for t in able)
    elif choice.rule == "most accurate":
        assert choice.record.value("accuracy") == max(t[1] for t in able)


def test_of_a_tie_the_smaller_file(tmp_path: Path) -> None:
    records = [record_of(n, 0.95, 0.02, size) for n, size in enumerate((50_000, 30_000, 40_000))]
    study = write_study(tmp_path / "study", records)
    for limits in (Limits(), Limits(min_accuracy=0.9), Limits(max_latency_ms=1)):
        choice = choose(study, limits)
        assert choice.record.number == 1
        assert choice.runner_up is not None
        assert choice.runner_up.number == 2


def test_test_scores_do_not_decide(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", [record_of(*trial) for trial in TRIALS])
    before = choose(study, Limits(max_latency_ms=0.05)).record.number
    study.folder.test_scores.write_text(
        '{"0": [{"name": "test_accuracy", "value": 1.0, "unit": "1", "how": "measured"}]}'
    )
    assert choose(Study.open(study.folder.path), Limits(max_latency_ms=0.05)).record.number == before == 2


def test_another_target_decides_where_it_is_named(tmp_path: Path) -> None:
    recipe = make_recipe(targets=[OTHER_TARGET])
    other = [Quantity("latency_ms", value, "ms", How.MEASURED, target=OTHER_TARGET) for value in (0.3, 0.1, 0.2, 0.4)]
    records = [record_of(*trial, quantities=(q,)) for trial, q in zip(TRIALS, other, strict=True)]
    study = write_study(tmp_path / "study", records, recipe)
    assert choose(study, Limits(min_accuracy=0.85)).record.number == 0
    choice = choose(study, Limits(min_accuracy=0.85, target=OTHER_TARGET))
    assert (choice.record.number, choice.target) == (1, OTHER_TARGET)
    assert OTHER_TARGET in choice.why
    with pytest.raises(NothingFeasibleError, match=r"latency at most 0\.05 ms: the fastest, trial 1, has 0\.100 ms"):
        choose(study, Limits(max_latency_ms=0.05, target=OTHER_TARGET))


def test_an_unknown_target_is_refused_with_the_closest(study: Study) -> None:
    with pytest.raises(NasError, match=f"unknown target 'onnxruntime-cpu-1t-b2'; did you mean '{TARGET}'"):
        choose(study, Limits(target="onnxruntime-cpu-1t-b2"))


class TestWithoutLatency:
    @pytest.fixture
    def study(self, tmp_path: Path) -> Study:
        recipe = make_recipe(objectives=["accuracy", "flops"])
        return write_study(tmp_path / "study", [record_of(*trial) for trial in TRIALS], recipe)

    def test_a_latency_limit_is_refused(self, study: Study) -> None:
        with pytest.raises(NasError, match="a latency limit needs a latency objective"):
            choose(study, Limits(max_latency_ms=1))

    def test_the_first_cost_decides(self, study: Study) -> None:
        choice = choose(study, Limits(min_accuracy=0.94))
        assert (choice.rule, choice.record.number, choice.target) == ("cheapest", 1, None)
        assert "the lowest in FLOPs of the 3" in choice.why
        assert "400 k FLOPs" in choice.why

    def test_a_measured_target_may_be_named(self, tmp_path: Path) -> None:
        recipe = make_recipe(objectives=["accuracy", "flops"], targets=[TARGET])
        study = write_study(tmp_path / "other", [record_of(*trial) for trial in TRIALS], recipe)
        with pytest.raises(NasError, match=f"name one with --target: {TARGET}"):
            choose(study, Limits(max_latency_ms=0.05))
        assert choose(study, Limits(max_latency_ms=0.05, target=TARGET)).record.number == 2


def test_balanced_accuracy_counts_where_it_is_the_only_quality(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["balanced_accuracy", f"latency_ms@{TARGET}"])
    records = [record_of(*trial) for trial in TRIALS]
    lowered = [
        replace(r, quantities=tuple(replace(q, value=0.5) if q.name == "accuracy" else q for q in r.quantities))
        for r in records
    ]
    choice = choose(write_study(tmp_path / "study", lowered, recipe), Limits(min_accuracy=0.96))
    assert choice.record.number == 2
    assert "balanced validation accuracy 97.00 %" in choice.why


class TestWhy:
    def test_fastest(self, study: Study) -> None:
        assert choose(study, Limits(min_accuracy=0.94)).why == (
            "Trial 1 is the fastest of the 3 on the front with validation accuracy at least 94 %: "
            f"validation accuracy 95.00 % at 0.0200 ms ({TARGET}). "
            "The runner-up, trial 2, has validation accuracy 97.00 % (+2.00 points) at 0.0400 ms (+100.0 %)."
        )

    def test_most_accurate(self, study: Study) -> None:
        assert choose(study, Limits(max_latency_ms=0.05)).why == (
            "Trial 2 is the most accurate of the 3 on the front with latency at most 0.05 ms: "
            f"validation accuracy 97.00 % at 0.0400 ms ({TARGET}). "
            "The runner-up, trial 1, has validation accuracy 95.00 % (−2.00 points) at 0.0200 ms (−50.0 %)."
        )

    def test_the_only_one(self, study: Study) -> None:
        assert choose(study, Limits(min_accuracy=0.975)).why == (
            "Trial 3 is the only one on the front with validation accuracy at least 97.5 %: "
            f"validation accuracy 98.00 % at 0.100 ms ({TARGET})."
        )

    def test_knee(self, study: Study) -> None:
        choice = choose(study, Limits())
        assert choice.why.startswith(f"Trial {choice.record.number} is the knee of the 4 on the front, where a little")
        assert choice.runner_up is not None
        assert f"The runner-up, trial {choice.runner_up.number}, has" in choice.why


class TestNothingFeasible:
    def test_both_sides_are_named(self, study: Study) -> None:
        with pytest.raises(NothingFeasibleError) as caught:
            choose(study, Limits(max_latency_ms=0.015, min_accuracy=0.945))
        assert caught.value.exit_code == 1
        assert caught.value.message == (
            "no trial has validation accuracy at least 94.5 % and latency at most 0.015 ms: "
            "the most accurate that is fast enough, trial 0, has 90.00 %, 4.5 points short; "
            "the fastest that is accurate enough, trial 1, has 0.0200 ms, 0.005 ms too much"
        )

    @pytest.mark.parametrize(
        ("limits", "nearest"),
        [
            (Limits(max_latency_ms=0.004), r"the fastest, trial 0, has 0\.0100 ms, 0\.006 ms too much"),
            (Limits(min_accuracy=0.981), r"the most accurate, trial 3, has 98\.00 %, 0\.1 points short"),
            (Limits(max_size_bytes=9_990), r"the smallest, trial 4, has 10\.0 kB, 10 B too much"),
            (
                Limits(max_latency_ms=0.004, min_accuracy=0.99),
                r": the most accurate, trial 3, has 98\.00 %, 1 point short; the fastest, trial 0, has 0\.0100 ms",
            ),
        ],
    )
    def test_the_nearest(self, study: Study, limits: Limits, nearest: str) -> None:
        with pytest.raises(NothingFeasibleError, match=nearest):
            choose(study, limits)

    def test_where_each_limit_is_met_but_no_two_the_nearest_overall(self, tmp_path: Path) -> None:
        trials = ((0, 0.50, 0.010, 90_000), (1, 0.90, 0.020, 80_000), (2, 0.60, 0.030, 20_000))
        study = write_study(tmp_path / "study", [record_of(*trial) for trial in trials])
        # Relative to the limits they miss at worst by 2.0 (trial 0, size), 1.67 (1, size) and 1.0 (2, latency).
        nearest = r": the nearest, trial 2, has validation accuracy 25 points short and latency 0\.015 ms too much"
        with pytest.raises(NothingFeasibleError, match=nearest):
            choose(study, Limits(max_latency_ms=0.015, min_accuracy=0.85, max_size_bytes=30_000))

    def test_a_dominated_trial_that_meets_the_limits_is_named(self, study: Study) -> None:
        said = r"trial 4 has, but others dominate it: .* 94\.00 % at 0\.0300 ms"
        with pytest.raises(NothingFeasibleError, match=said):
            choose(study, Limits(max_size_bytes=20_000))

    def test_the_studys_own_constraints_count(self, tmp_path: Path) -> None:
        recipe = make_recipe(constraints=["accuracy >= 0.99", f"{LATENCY} <= 0.5"])
        study = write_study(tmp_path / "study", [record_of(*trial) for trial in TRIALS], recipe)
        with pytest.raises(
            NothingFeasibleError, match=r"validation accuracy at least 99 % and latency at most 0\.05 ms"
        ) as caught:
            choose(study, Limits(max_latency_ms=0.05))
        assert "0.5 ms" not in caught.value.message  # the stricter limit stands for both
        assert "trial 2, has 97.00 %, 2 points short" in caught.value.message

    @pytest.mark.parametrize(("count", "said"), [(0, "study was measured"), (2, "study was measured: 2 infeasible")])
    def test_nothing_measured(self, tmp_path: Path, count: int, said: str) -> None:
        records = [make_record(number, outcome=Outcome.INFEASIBLE) for number in range(count)]
        (tmp_path / "study" / "trials").mkdir(parents=True)  # what a search makes before its first trial
        with pytest.raises(NothingFeasibleError) as caught:
            choose(write_study(tmp_path / "study", records), Limits())
        assert caught.value.message.endswith(said)

    def test_the_study_is_left_alone(self, study: Study) -> None:
        before = {path: path.stat().st_mtime_ns for path in study.folder.path.rglob("*")}
        with pytest.raises(NothingFeasibleError):
            choose(study, Limits(min_accuracy=0.999))
        assert {path: path.stat().st_mtime_ns for path in study.folder.path.rglob("*")} == before


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_latency_ms": 0.0}, "max_latency_ms must be greater than 0, but got 0.0"),
        ({"max_latency_ms": float("nan")}, "max_latency_ms must be greater than 0, but got nan"),
        ({"max_latency_ms": float("inf")}, "max_latency_ms must be greater than 0, but got inf"),
        ({"max_size_bytes": -1}, "max_size_bytes must be greater than 0, but got -1"),
        ({"min_accuracy": -0.1}, "min_accuracy must be greater than 0, but got -0.1"),
        ({"min_accuracy": 97}, "min_accuracy must be at most 1, but got 97 .write it as a fraction, 0.97 for 97 %"),
    ],
)
def test_limits_that_mean_nothing_are_refused(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message):
        Limits(**limits)


def test_a_record_without_the_quantity_is_a_damaged_study(tmp_path: Path) -> None:
    record = make_record(0)
    bare = replace(record, quantities=tuple(q for q in record.quantities if q.name != "size_bytes"))
    study = write_study(tmp_path / "study", [bare])
    with pytest.raises(StudyError, match="trial 0 was measured without 'size_bytes'"):
        choose(study, Limits(max_size_bytes=1000))


def test_a_choice_is_a_value(study: Study) -> None:
    assert choose(study, Limits(min_accuracy=0.94)) == choose(study, Limits(min_accuracy=0.94))
    assert isinstance(choose(study, Limits()), Choice)
