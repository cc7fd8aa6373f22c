"""What the page's pictures are drawn from: places of trials that were given up, curves, time on the clock, picks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study

from nas.objectives import Objective
from nas.outcome import How, Outcome, Quantity
from nas.record import StageResult, TrialRecord
from nas.report.curves import MOST_POINTS, curve_of
from nas.report.guesses import guesses
from nas.report.picking import pick_data
from nas.report.time_spent import elapsed, ends
from nas.study import Study

OBJECTIVES = (Objective("accuracy"), Objective("latency_ms", TARGET))


def proxy(name: str, value: float, target: str | None = None) -> Quantity:
    return Quantity(name, value, "1", How.PROXY, target=target)


def test_a_stopped_trial_lies_where_its_last_rung_and_its_untrained_network_say() -> None:
    quantities = (
        proxy("predicted_accuracy", 0.99),
        proxy("rung_accuracy", 0.5, "epoch-2"),
        proxy("rung_accuracy", 0.7, "epoch-10"),
        proxy("predicted_latency_ms", 0.9, TARGET),
        proxy("proxy_latency_ms", 0.2, TARGET),
    )
    record = dataclasses.replace(make_record(0, outcome=Outcome.STOPPED), quantities=quantities)
    assert guesses(record, OBJECTIVES) == {
        "accuracy": (0.7, "at its last rung"),
        LATENCY: (0.2, "of the untrained network"),
    }


def test_what_was_foreseen_places_a_trial_where_nothing_else_does() -> None:
    record = dataclasses.replace(
        make_record(0, outcome=Outcome.SCREENED),
        quantities=(proxy("predicted_accuracy", 0.6), Quantity("size_bytes", 9, "bytes", How.MEASURED)),
    )
    wanted = (*OBJECTIVES, Objective("size_bytes"))
    assert guesses(record, wanted) == {"accuracy": (0.6, "foreseen"), "size_bytes": (9, "measured")}


@pytest.mark.parametrize("outcome", [Outcome.MEASURED, Outcome.DUPLICATE])
def test_what_has_numbers_of_its_own_is_never_guessed(outcome: Outcome) -> None:
    record = dataclasses.replace(make_record(0), outcome=outcome)
    assert guesses(record, OBJECTIVES) == {}


def test_curves_keep_their_ends_and_numbers_alone() -> None:
    rows = [{"epoch": n, "loss": 1 / (n + 1), "note": "x", "seconds": 1.0} for n in range(500)]
    curve = curve_of({"curve": rows})
    assert curve is not None
    assert list(curve) == ["loss"]
    assert len(curve["loss"]) == MOST_POINTS
    assert (curve["loss"][0], curve["loss"][-1]) == (1.0, 0.002)


@pytest.mark.parametrize("detail", [{}, {"curve": [{"loss": 1}]}, {"curve": [{"a": "b"}] * 3}, {"curve": 7}])
def test_without_two_epochs_of_numbers_there_is_no_curve(detail: dict) -> None:
    assert curve_of(detail) is None


def timed(number: int, started: str, seconds: float, stages: tuple[StageResult, ...] = ()) -> TrialRecord:
    record = make_record(number, started_at=f"2026-01-01T00:{started}Z")
    return dataclasses.replace(record, seconds=seconds, stages=stages)


def test_time_on_the_clock_tells_when_nothing_ran_and_what_the_cache_saved() -> None:
    done, found = StageResult("train", "k", 20.0, False), StageResult("train", "k", 0.5, True)
    records = [timed(0, "00:00", 20, (done,)), timed(1, "00:10", 15, (found,)), timed(2, "01:00", 5)]
    told = elapsed(records)
    assert (told.seconds, told.idle_seconds) == (65.0, 35.0)
    assert (told.saved_seconds, told.from_cache, told.stages) == (19.5, 1, 2)
    assert ends(records) == {0: 20.0, 1: 25.0, 2: 65.0}


def test_a_trial_that_ends_before_an_earlier_one_counts_when_both_have() -> None:
    assert ends([timed(1, "00:10", 5), timed(0, "00:00", 60)]) == {0: 60.0, 1: 60.0}


def test_trials_that_do_not_say_when_they_started_have_no_time() -> None:
    records = [make_record(0, started_at="")]
    assert ends(records) == {}
    assert elapsed(records).seconds == 0.0


def test_picks_hold_the_fronts_exact_numbers(tmp_path: Path) -> None:
    third = 1 / 3
    records = [make_record(0, 0.5, third / 100), make_record(1, 0.9, 0.1)]
    data = pick_data(write_study(tmp_path / "a b", records))
    assert data is not None
    assert data["command"] == f"nas pick '{tmp_path}/a b'"
    (question,) = data["questions"]
    assert (question["target"], question["cost"], question["latency"]) == (None, LATENCY, True)
    assert question["candidates"] == [[0, 0.5, third / 100, 40_000], [1, 0.9, 0.1, 40_001]]
    assert question["tied"] == [[], []]


def test_every_target_has_its_own_question(tmp_path: Path) -> None:
    other = "onnxruntime-cpu-2t-b1"
    later = Quantity("latency_ms", 3.0, "ms", How.MEASURED, target=other)
    data = pick_data(write_study(tmp_path / "two", [make_record(0, quantities=(later,))]))
    assert data is not None
    assert [question["target"] for question in data["questions"]] == [None, other]
    assert data["questions"][1]["candidates"] == [[0, 0.9, 3.0, 40_000]]


def test_a_spread_between_seeds_ties_more(tmp_path: Path) -> None:
    records = [make_record(0, 0.9, 0.1), make_record(1, 0.93, 0.1001)]
    study = write_study(tmp_path / "spread", records)
    ties = [pick_data(study, spread)["questions"][0]["tied"] for spread in (None, 0.1)]  # type: ignore[index]
    assert ties == [[[], []], [[1], [0]]]


def test_nothing_can_be_picked_where_a_number_that_decides_is_missing(tmp_path: Path) -> None:
    record = make_record(0)
    without = dataclasses.replace(record, quantities=tuple(q for q in record.quantities if q.name != "size_bytes"))
    assert pick_data(write_study(tmp_path / "a", [without])) is None
    assert pick_data(write_study(tmp_path / "b", [make_record(0, outcome=Outcome.FAILED)])) is None


def test_without_a_latency_the_first_cost_decides(tmp_path: Path) -> None:
    study: Study = write_study(
        tmp_path / "flops", [make_record(0)], make_recipe(objectives=["accuracy", "flops"], targets=[])
    )
    data = pick_data(study)
    assert data is not None
    assert (data["questions"][0]["cost"], data["questions"][0]["latency"]) == ("flops", False)
