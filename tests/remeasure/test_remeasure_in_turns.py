"""The finalists in turns: who is timed where, what the rounds say, who cannot be told apart, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_measurer import ORT1, ORT2, OV1, PLACE, FakeMeasurer, measured_study
from fakes import LATENCY, make_recipe

from nas.errors import StudyError
from nas.measure.clock import bootstrap_interval
from nas.measurements import Measurements, ambiguous_with, read_measurements
from nas.outcome import Quantity
from nas.record import write_record
from nas.remeasure import time_front
from nas.study import Study

IMAGES = np.zeros((3, 2, 2, 1), np.uint8)
# The baseline is dominated; 1, 2 and 3 are the front.
TRIALS = {0: (0.80, 0.5), 1: (0.85, 0.1), 2: (0.90, 0.2), 3: (0.95, 0.4), 4: (0.70, 0.3)}


def timed(study: Study, measurer: FakeMeasurer, **options: int) -> Measurements:
    found = time_front(study, measurer, IMAGES, **options)
    assert found is not None
    return found


def of(found: Measurements, number: int, key: str = LATENCY) -> Quantity:
    return next(quantity for quantity in found.quantities[number] if quantity.key == key)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return measured_study(tmp_path / "study", TRIALS)


def test_the_front_and_the_baseline_are_timed_together_in_four_fresh_processes(study: Study) -> None:
    measurer = FakeMeasurer()
    found = timed(study, measurer)
    assert measurer.log == [("anew", ORT1), ("turns", [1, 2, 3, 0], ORT1, 5)] * 4
    assert sorted(found.quantities) == [0, 1, 2, 3]
    assert {number: of(found, number).value for number in found.quantities} == {0: 0.5, 1: 0.1, 2: 0.2, 3: 0.4}


def test_a_latency_is_the_median_of_the_rounds_medians_with_the_bootstrap_over_rounds(study: Study) -> None:
    noise = {1: (1.0, 1.02, 1.04, 0.9, 1.01)}
    quantity = of(timed(study, FakeMeasurer(noise=noise), rounds=20), 1)
    medians = 0.1 * np.array(noise[1] * 4)
    low, high = bootstrap_interval(medians, blocks=20)  # the passes are all alike, so their interval is the narrower
    assert quantity.value == pytest.approx(0.101)
    assert (quantity.low, quantity.high) == (pytest.approx(low), pytest.approx(high))
    samples = np.repeat(medians, 4)
    assert quantity.detail["p95"] == pytest.approx(np.percentile(samples, 95))
    assert quantity.detail["iqr"] == pytest.approx(np.subtract(*np.percentile(samples, [75, 25])))
    assert quantity.detail["samples"] == 80
    assert (quantity.detail["rounds"], quantity.detail["processes"]) == (20, 4)
    assert quantity.detail["in_turns"] is True
    assert quantity.detail["fps"] == pytest.approx(1000 / 0.101)
    assert quantity.environment_id == "a-onnxruntime"
    assert "threads" in quantity.detail  # as it was known before


@pytest.mark.parametrize(
    ("overhead_ms", "bound"), [(0.034, {0: False, 1: True, 2: False}), (0.07, {0: False, 1: True, 2: True})]
)
def test_what_a_call_costs_is_carried_over_and_judged_anew(
    tmp_path: Path, overhead_ms: float, bound: dict[int, bool]
) -> None:
    before = FakeMeasurer(detail={"overhead_ms": overhead_ms, "overhead_bound": False, "cores": "1"})
    found = timed(measured_study(tmp_path / "study", TRIALS, before), FakeMeasurer())
    assert {number: of(found, number).detail["overhead_bound"] for number in bound} == bound
    assert of(found, 1).detail["cores"] == "1"


@pytest.mark.parametrize(
    ("troubles", "why"),
    [
        ([()], None),
        ([("load",), (), (), (), ()], None),
        ([("load",), ("pace", "load"), (), ()], "load, pace"),
    ],
)
def test_more_than_a_quarter_of_disturbed_rounds_is_unstable(
    study: Study, troubles: list[tuple[str, ...]], why: str | None
) -> None:
    detail = of(timed(study, FakeMeasurer(troubles=troubles)), 2).detail
    assert detail["unstable"] is (why is not None)
    assert detail.get("why_unstable") == why


def test_members_whose_intervals_overlap_name_each_other(tmp_path: Path) -> None:
    trials = {1: (0.85, 0.1), 2: (0.90, 0.1018), 3: (0.95, 0.1035), 5: (0.99, 0.2)}
    study = measured_study(tmp_path / "study", trials)
    wide = (0.99, 1.01)  # so that 1 and 2 overlap, and 2 and 3, but not 1 and 3
    found = timed(study, FakeMeasurer(noise=dict.fromkeys(trials, wide)))
    assert {number: ambiguous_with(of(found, number)) for number in trials} == {1: (2,), 2: (1, 3), 3: (2,), 5: ()}
    assert of(found, 2).detail["ambiguous_with"] == "1,3"


def test_what_lies_on_the_disk_is_what_was_returned_and_the_samples_beside_it(study: Study) -> None:
    found = timed(study, FakeMeasurer(), rounds=3)
    folder = study.folder.measurements
    assert read_measurements(folder) == [found]
    assert json.loads((folder / "0001.json").read_text())["kind"] == "front"
    assert of(found, 1).samples_ref == "measurements/0001.npz"
    with np.load(study.folder.path / "measurements/0001.npz") as arrays:
        assert arrays[f"00001 {ORT1}"].tolist() == pytest.approx([0.1] * 12)
        assert arrays[f"00001 {ORT1}"].dtype == np.float32
        assert arrays[f"00001 {ORT1} rounds"].tolist() == [4, 4, 4]
    assert found.environment == {**FakeMeasurer().machine, "runtimes": {ORT1: {"onnxruntime": "1.0"}}}


def test_the_studys_records_have_the_new_numbers_and_the_front_stays(study: Study) -> None:
    timed(study, FakeMeasurer(factors={ORT1: 0.5}))
    again = Study.open(study.folder.path)
    assert [record.number for record in again.front] == [1, 2, 3]
    assert [record.value(LATENCY) for record in again.front] == [0.05, 0.1, 0.2]
    assert again.record(0).value(LATENCY) == 0.25
    assert again.record(4).value(LATENCY) == 0.3  # which had no turn


# --- several targets and places --------------------------------------------------------------------------------------


def place_recipe(**changes: object):
    return make_recipe(objectives=["accuracy", f"latency_ms@{PLACE}"], targets=[ORT1, OV1], **changes)


@pytest.fixture
def served(tmp_path: Path) -> Study:
    """OpenVINO serves all but trial 2, which it does not load."""
    measurer = FakeMeasurer(factors={OV1: 0.8}, refused=[(2, OV1)])
    return measured_study(tmp_path / "study", TRIALS, measurer, place_recipe())


def test_each_is_timed_where_it_is_served_and_the_groups_alternate(served: Study) -> None:
    measurer = FakeMeasurer(factors={OV1: 0.8})
    found = timed(served, measurer)
    one_pass = [("anew", OV1), ("turns", [1, 3, 0], OV1, 5), ("anew", ORT1), ("turns", [2], ORT1, 5)]
    assert measurer.log == one_pass * 4
    place = of(found, 1, f"latency_ms@{PLACE}")
    assert (place.value, place.detail["served_by"], place.detail["rounds"]) == (pytest.approx(0.08), OV1, 20)
    assert of(found, 2, f"latency_ms@{PLACE}").detail["served_by"] == ORT1
    assert {quantity.key for quantity in found.quantities[1]} == {f"latency_ms@{PLACE}", f"latency_ms@{OV1}"}


def test_at_a_place_members_of_different_runtimes_may_be_ambiguous(tmp_path: Path) -> None:
    trials = {1: (0.85, 0.1), 2: (0.90, 0.0801)}
    before = FakeMeasurer(factors={OV1: 0.8}, refused=[(2, OV1)])
    study = measured_study(tmp_path / "study", trials, before, place_recipe())
    wide = dict.fromkeys(trials, (0.98, 1.0, 1.02))
    found = timed(study, FakeMeasurer(factors={OV1: 0.8}, noise=wide))
    assert ambiguous_with(of(found, 1, f"latency_ms@{PLACE}")) == (2,)
    assert ambiguous_with(of(found, 1, f"latency_ms@{OV1}")) == ()


@pytest.mark.parametrize("rounds", [1, 3, 6])
def test_rounds_are_shared_among_the_passes_and_none_is_lost(served: Study, rounds: int) -> None:
    measurer = FakeMeasurer(factors={OV1: 0.8})
    assert of(timed(served, measurer, rounds=rounds), 1, f"latency_ms@{OV1}").detail["rounds"] == rounds


def test_two_targets_as_two_objectives(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", LATENCY, f"latency_ms@{ORT2}"])
    measurer = FakeMeasurer(factors={ORT2: 2.0})
    study = measured_study(tmp_path / "study", TRIALS, measurer, recipe)
    found = timed(study, FakeMeasurer(factors={ORT2: 2.0}))
    assert {q.key: q.value for q in found.quantities[1]} == {LATENCY: 0.1, f"latency_ms@{ORT2}": 0.2}


def test_progress_goes_up_to_one(served: Study) -> None:
    heard: list[float] = []
    time_front(served, FakeMeasurer(factors={OV1: 0.8}), IMAGES, heard.append)
    assert heard == [0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1]


# --- what is left out and refused ------------------------------------------------------------------------------------


def test_members_whose_files_are_gone_are_left_out(study: Study) -> None:
    study.store.blob_path(str(study.record(2).artifact_sha256)).unlink()
    assert sorted(timed(study, FakeMeasurer()).quantities) == [0, 1, 3]


def test_nothing_to_time_is_no_error(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", "macs"])
    study = measured_study(tmp_path / "study", {1: (0.9, 0.1)}, recipe=recipe)
    assert time_front(study, FakeMeasurer(), IMAGES) is None
    assert not study.folder.measurements.exists()


@pytest.mark.parametrize("known", [True, False])
def test_another_machine_is_refused_with_the_way_out(study: Study, known: bool) -> None:
    if not known:
        for record in study.records:
            bare = tuple(replace(quantity, environment_id=None) for quantity in record.quantities)
            write_record(study.folder.trials, replace(record, quantities=bare))
        study = Study.open(study.folder.path)
    there = "a-onnxruntime" if known else "unknown"
    message = (
        rf"another environment \({there}\) than this \(b-onnxruntime, {ORT1}\), so its front cannot be timed here "
        rf"\(measure all of it here: nas measure {study.folder.path}\)"
    )
    measurer = FakeMeasurer("b")
    with pytest.raises(StudyError, match=message):
        time_front(study, measurer, IMAGES)
    assert measurer.log == []
    assert not study.folder.measurements.exists()
