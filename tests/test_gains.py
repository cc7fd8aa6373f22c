"""What a trial gains over the baseline and over the network that it was pruned from, in numbers and in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study

from nas.gains import (
    Comparison,
    baseline_of,
    compare,
    finalists,
    gain_words,
    latency_gain,
    mac_gain,
    overhead_bound,
    speed_up,
)
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.study import Study

OTHER_TARGET = "onnxruntime-cpu-2t-b1"


def make_study(folder: Path, *records: TrialRecord, **recipe) -> Study:
    return write_study(folder / "study", list(records), make_recipe(**recipe))


# --- the baseline ----------------------------------------------------------------------------------------------------


def test_the_baseline_is_the_measured_trial_of_that_origin(tmp_path: Path) -> None:
    failed = make_record(1, outcome=Outcome.FAILED, origin="baseline")
    study = make_study(tmp_path, make_record(0), failed, make_record(2, origin="baseline"), make_record(3))
    baseline = baseline_of(study)
    assert baseline is not None
    assert baseline.number == 2


def test_a_study_without_a_measured_baseline_compares_nothing(tmp_path: Path) -> None:
    study = make_study(tmp_path, make_record(0), make_record(1, outcome=Outcome.FAILED, origin="baseline"))
    assert baseline_of(study) is None
    assert compare(study, study.records[0], TARGET) is None


@pytest.mark.parametrize(
    ("accuracy", "latency_ms", "words", "ratio"),
    [
        (0.946, 0.0435, "2.3× faster than the baseline, 0.4 points less accurate (validation)", 0.1 / 0.0435),
        (0.96, 0.2, "2.0× slower than the baseline, 1 point more accurate (validation)", 0.5),
        (0.95, 0.1, "as fast as the baseline, as accurate (validation)", 1.0),
        (0.95, 0.098, "as fast as the baseline, as accurate (validation)", 0.1 / 0.098),
        (0.949999, 0.001, "100× faster than the baseline, 0.0001 points less accurate (validation)", 100.0),
    ],
)
def test_a_trial_beside_the_baseline(
    tmp_path: Path, accuracy: float, latency_ms: float, words: str, ratio: float
) -> None:
    study = make_study(tmp_path, make_record(0, 0.95, 0.1, origin="baseline"), make_record(1, accuracy, latency_ms))
    compared = compare(study, study.record(1), TARGET)
    assert compared is not None
    assert (compared.trial, compared.words) == (0, words)
    assert compared.speed_up == pytest.approx(ratio)
    assert compared.accuracy_difference == pytest.approx(accuracy - 0.95)


def test_the_baseline_beside_itself(tmp_path: Path) -> None:
    study = make_study(tmp_path, make_record(0, origin="baseline"))
    assert compare(study, study.record(0), TARGET) == Comparison(0, "the baseline itself", 1.0, 0.0)


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ("macs", "2.0× fewer MACs than the baseline"),
        ("params", "as many parameters as the baseline"),
        ("size_bytes", "as much file size as the baseline"),
    ],
)
def test_without_latency_the_first_cost_is_compared(tmp_path: Path, cost: str, words: str) -> None:
    records = make_record(0, 0.9, 0.2, origin="baseline"), make_record(1, 0.8, 0.1)
    study = make_study(tmp_path, *records, objectives=["accuracy", cost])
    compared = compare(study, study.record(1), None)
    assert compared is not None
    assert compared.words == f"{words}, 10 points less accurate (validation)"
    assert compared.speed_up is None


def test_a_cost_of_nothing_is_told_and_not_divided_by(tmp_path: Path) -> None:
    free = make_record(1, 0.9)
    free = replace(free, quantities=tuple(replace(q, value=0) if q.name == "macs" else q for q in free.quantities))
    study = make_study(tmp_path, make_record(0, origin="baseline"), free, objectives=["accuracy", "macs"])
    compared = compare(study, study.record(1), None)
    assert compared is not None
    assert compared.words == "MACs 0, the baseline's 1.00 M, as accurate (validation)"


def test_balanced_accuracy_where_it_is_the_only_quality(tmp_path: Path) -> None:
    other = make_record(1, 0.9)
    lowered = (replace(q, value=0.85) if q.name == "balanced_accuracy" else q for q in other.quantities)
    records = make_record(0, 0.9, origin="baseline"), replace(other, quantities=tuple(lowered))
    study = make_study(tmp_path, *records, objectives=["balanced_accuracy", LATENCY])
    compared = compare(study, study.record(1), TARGET)
    assert compared is not None
    assert compared.accuracy_difference == pytest.approx(-0.05)


def test_a_comparison_survives_json() -> None:
    for compared in (Comparison(3, "in words", 2.5, -0.004), Comparison(0, "", None, 0.0)):
        assert Comparison.from_json(json.loads(json.dumps(compared.to_json()))) == compared


# --- the network before compression ----------------------------------------------------------------------------------


def test_gains_are_ratios_of_before_to_after() -> None:
    record = make_record(1, latency_ms=0.1, uncompressed=(0.21, 3.9e6))  # which has a million multiply-adds
    assert mac_gain(record) == pytest.approx(3.9)
    assert latency_gain(record, TARGET) == pytest.approx(2.1)
    assert latency_gain(record, OTHER_TARGET) is None
    assert latency_gain(record, None) is None
    assert speed_up(record, make_record(0, latency_ms=0.3), TARGET) == pytest.approx(3)


def test_a_trial_that_was_not_pruned_has_none() -> None:
    record = make_record(1)
    assert mac_gain(record) is None
    assert latency_gain(record, TARGET) is None
    assert gain_words(record, TARGET) == ""


@pytest.mark.parametrize(
    ("uncompressed", "words"),
    [
        ((0.21, 3.9e6), "MACs 3.9× fewer, 2.1× faster than uncompressed"),
        ((0.1, 3.9e6), "MACs 3.9× fewer, but no faster than uncompressed"),
        ((0.08, 1.3e6), "MACs 1.3× fewer, but 1.2× slower than uncompressed"),
        ((0.103, 1.3e6), "MACs 1.3× fewer, but no faster than uncompressed"),  # 1.0 to two digits
        ((0.3, 1e6), "MACs no fewer, 3.0× faster than uncompressed"),
    ],
)
def test_gains_in_words_say_where_fewer_multiply_adds_save_no_time(
    uncompressed: tuple[float, float], words: str
) -> None:
    assert gain_words(make_record(1, latency_ms=0.1, uncompressed=uncompressed), TARGET) == words


def test_without_a_latency_there_the_count_alone() -> None:
    record = make_record(1, latency_ms=0.1, uncompressed=(0.2, 4e6))
    assert gain_words(record, OTHER_TARGET) == "MACs 4.0× fewer than uncompressed"


def test_latencies_of_two_machines_are_no_gain() -> None:
    record = make_record(1, latency_ms=0.1, uncompressed=(0.2, 4e6))
    moved = tuple(replace(q, environment_id="b") if q.key == LATENCY else q for q in record.quantities)
    assert latency_gain(replace(record, quantities=moved), TARGET) is None


# --- bound by the cost of a call -------------------------------------------------------------------------------------


def bound(record: TrialRecord, is_bound: bool = True) -> TrialRecord:
    """The record, its latency within 3 times that of a call that computes nothing."""
    quantities = (
        replace(q, detail={**q.detail, "overhead_bound": is_bound}) if q.key == LATENCY else q
        for q in record.quantities
    )
    return replace(record, quantities=tuple(quantities))


def test_who_is_bound_by_the_cost_of_a_call() -> None:
    assert overhead_bound(bound(make_record(1)), TARGET)
    assert not overhead_bound(bound(make_record(1), False), TARGET)
    assert not overhead_bound(make_record(1), TARGET)
    assert not overhead_bound(bound(make_record(1)), OTHER_TARGET)


def test_no_gain_in_time_is_told_of_what_is_bound() -> None:
    pruned = make_record(1, latency_ms=0.1, uncompressed=(0.21, 3.9e6))
    assert gain_words(bound(pruned), TARGET) == "MACs 3.9× fewer than uncompressed; overhead-bound"
    without = replace(pruned, quantities=tuple(q for q in pruned.quantities if q.name != "macs"))
    assert gain_words(bound(without), TARGET) == "overhead-bound"
    assert gain_words(bound(make_record(1)), TARGET) == "", "nothing was pruned"


@pytest.mark.parametrize("baseline_too", [False, True])
def test_what_is_bound_is_not_called_faster_than_the_baseline(tmp_path: Path, baseline_too: bool) -> None:
    baseline = bound(make_record(0, 0.95, 0.03, origin="baseline"), baseline_too)
    study = make_study(tmp_path, baseline, bound(make_record(1, 0.95, 0.012)))
    compared = compare(study, study.record(1), TARGET)
    assert compared is not None
    assert compared.words == "overhead-bound (0.0120 ms, the baseline's 0.0300 ms), as accurate (validation)"
    assert compared.speed_up == pytest.approx(2.5)


def test_slower_than_a_bound_baseline_is_slower(tmp_path: Path) -> None:
    study = make_study(tmp_path, bound(make_record(0, 0.9, 0.01, origin="baseline")), make_record(1, 0.95, 0.04))
    compared = compare(study, study.record(1), TARGET)
    assert compared is not None
    assert compared.words.startswith("4.0× slower than the baseline")


# --- who is confirmed in the end -------------------------------------------------------------------------------------


def test_finalists_are_the_front_and_the_baseline_wherever_that_is(tmp_path: Path) -> None:
    records = [make_record(0, 0.5, 0.4, origin="baseline"), make_record(1, 0.8, 0.1), make_record(2, 0.9, 0.2)]
    study = make_study(tmp_path, *records, make_record(3, 0.7, 0.3))
    assert [record.number for record in finalists(study)] == [1, 2, 0]
    on_front = make_study(tmp_path / "b", make_record(0, 0.99, 0.4, origin="baseline"), *records[1:])
    assert [record.number for record in finalists(on_front)] == [1, 2, 0]
    without = make_study(tmp_path / "c", *records[1:])
    assert [record.number for record in finalists(without)] == [1, 2]
