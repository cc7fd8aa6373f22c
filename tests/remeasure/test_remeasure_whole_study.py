"""A whole study measured anew: what it says afterwards, who serves, what survives an interruption, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_measurer import (
    ORT1,
    ORT2,
    OV1,
    PLACE,
    FakeMeasurer,
    latencies_of,
    make_dataset,
    measured_study,
    model,
    one_hot,
    records_on_disk,
)
from fakes import LATENCY, make_recipe, make_record

from nas.errors import ArtifactError, StudyError, UnsupportedError
from nas.measurements import Measurements, read_measurements
from nas.outcome import How, Outcome, Quantity
from nas.recipe import Recipe
from nas.record import write_record
from nas.remeasure import measure_all, whole_study
from nas.store import sha256_bytes
from nas.study import Study
from nas.target import Target

TRIALS = {0: (0.80, 0.5), 1: (0.85, 0.1), 2: (0.90, 0.2), 3: (0.95, 0.4)}
DATASET = make_dataset()
MEMORY = ("optuna.sqlite3", "optuna.sqlite3-wal", "optuna.sqlite3-shm")


def again(study: Study, measurer: FakeMeasurer, *targets: str) -> Measurements:
    return measure_all(study, [Target.parse(name) for name in targets], measurer, DATASET)


def reopened(study: Study) -> Study:
    return Study.open(study.folder.path)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    study = measured_study(tmp_path / "study", TRIALS)
    for name in MEMORY:
        (study.folder.path / name).write_text("what the sampler remembers")
    return study


# --- moving to another machine ---------------------------------------------------------------------------------------


def test_every_trial_gets_the_new_machines_numbers(study: Study) -> None:
    measurer = FakeMeasurer("b", {ORT1: 0.5})
    found = again(study, measurer)
    assert measurer.log == [("measure", number, ORT1) for number in TRIALS]
    moved = reopened(study)
    assert [record.value(LATENCY) for record in moved.records] == [0.25, 0.05, 0.1, 0.2]
    assert {q.environment_id for r in moved.records for q in r.quantities if q.key == LATENCY} == {"b-onnxruntime"}
    assert all(record.environment == found.environment for record in moved.records)
    assert moved.records[0].environment["cpu"] == "CPU b"
    assert moved.records[0].environment["runtimes"] == {ORT1: {"onnxruntime": "1.0"}}
    assert [record.value("accuracy") for record in moved.records] == [0.8, 0.85, 0.9, 0.95]
    assert records_on_disk(study.folder) == study.as_told  # the records themselves are never overwritten


def test_the_front_is_told_anew(study: Study) -> None:
    assert [record.number for record in study.front] == [1, 2, 3]

    class Slow(FakeMeasurer):
        """Where trial 2 is slower than trial 3."""

        def latency(self, content: bytes, target: Target) -> tuple[int, float]:
            number, ms = super().latency(content, target)
            return number, 0.6 if number == 2 else ms

    again(study, Slow("b"))
    assert [record.number for record in reopened(study).front] == [1, 3]


def test_raw_samples_of_all_lie_beside_it(study: Study) -> None:
    found = again(study, FakeMeasurer("b"))
    assert read_measurements(study.folder.measurements) == [found]
    (latency,) = found.quantities[2]
    assert latency.samples_ref == "measurements/0001.npz"
    with np.load(study.folder.path / "measurements/0001.npz") as arrays:
        assert sorted(arrays.files) == [f"{number:05d} {ORT1}" for number in TRIALS]
        assert arrays[f"00002 {ORT1}"].tolist() == pytest.approx([0.198, 0.2, 0.202])


@pytest.mark.parametrize(("machine", "targets", "forgotten"), [
    ("b", (), True),
    ("a", (), False),  # the same environment: what the sampler knows still holds
    ("b", (ORT2,), False),  # a target that the sampler never heard of
])  # fmt: skip
def test_the_samplers_memory_goes_only_where_its_numbers_no_longer_hold(
    study: Study, machine: str, targets: tuple[str, ...], forgotten: bool
) -> None:
    again(study, FakeMeasurer(machine), *targets)
    left = [name for name in MEMORY if (study.folder.path / name).exists()]
    assert left == ([] if forgotten else list(MEMORY))


def test_the_memory_goes_before_the_numbers_come(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies in between leaves the old numbers, and a memory that is made again from them."""

    def dies(*args: object) -> None:
        raise SystemExit

    monkeypatch.setattr(whole_study, "write_measurements", dies)
    with pytest.raises(SystemExit):
        again(study, FakeMeasurer("b"))
    assert not study.folder.storage.exists()
    assert reopened(study).as_told == study.as_told


def test_what_was_timed_in_turns_before_no_longer_counts(study: Study) -> None:
    from nas.remeasure import time_front

    time_front(study, FakeMeasurer(factors={ORT1: 0.9}), DATASET.validation.images)
    assert reopened(study).record(1).value(LATENCY) == pytest.approx(0.09)
    again(reopened(study), FakeMeasurer())  # on the same machine
    assert reopened(study).record(1).value(LATENCY) == 0.1
    assert reopened(study).in_turns == {}


def test_trials_that_were_not_measured_stay_as_they_are(study: Study) -> None:
    failed = make_record(9, outcome=Outcome.FAILED)
    write_record(study.folder.trials, failed)
    found = again(reopened(study), FakeMeasurer("b"))
    assert sorted(found.quantities) == [0, 1, 2, 3]
    assert reopened(study).record(9) == failed


# --- more targets ----------------------------------------------------------------------------------------------------


def test_another_target_is_added_to_the_trials(study: Study) -> None:
    again(study, FakeMeasurer("b", {ORT2: 3.0}), ORT2)
    after = reopened(study)
    assert after.record(1).value(f"latency_ms@{ORT2}") == pytest.approx(0.3)
    assert after.record(1).value(LATENCY) == 0.1
    assert after.record(1).environment["cpu"] == "CPU a"
    assert [record.number for record in after.front] == [1, 2, 3]  # of one machine still


def test_another_target_may_refuse_an_artifact(study: Study) -> None:
    found = again(study, FakeMeasurer(refused=[(2, OV1)]), OV1)
    assert found.quantities[2] == ()
    assert reopened(study).record(2) == study.record(2)


def test_a_target_named_twice_is_measured_once(study: Study) -> None:
    measurer = FakeMeasurer()
    again(study, measurer, ORT2, ORT2)
    assert len(measurer.log) == len(TRIALS)


# --- places ----------------------------------------------------------------------------------------------------------


def place_recipe(*targets: str, **changes: object) -> Recipe:
    return make_recipe(objectives=["accuracy", f"latency_ms@{PLACE}"], targets=list(targets), **changes)


def test_threads_are_chosen_anew_without_scoring(tmp_path: Path) -> None:
    study = measured_study(tmp_path / "study", TRIALS, recipe=place_recipe(ORT1, ORT2))
    measurer = FakeMeasurer("b", {ORT2: 0.5})
    again(study, measurer)
    place = reopened(study).record(1).quantity(f"latency_ms@{PLACE}")
    assert place is not None
    assert (place.value, place.detail["served_by"]) == (0.05, ORT2)
    assert place.environment_id == "b-onnxruntime"
    assert not any(entry[0] == "outputs" for entry in measurer.log)
    assert reopened(study).record(1).value("accuracy") == 0.85


def places_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """ONNX Runtime serves; the file makes no error there, whatever its content says."""
    monkeypatch.setattr("nas.serving.open_session", lambda content, threads: content)
    monkeypatch.setattr("nas.serving.probabilities", lambda session, images: one_hot(DATASET.validation.labels))
    return measured_study(folder / "study", TRIALS, FakeMeasurer(factors={OV1: 2.0}), place_recipe(ORT1, OV1))


def test_another_runtime_that_serves_gives_the_accuracy_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.serving.WRONG_BY", 0.2)
    study = places_study(tmp_path, monkeypatch)
    scored = FakeMeasurer("b", {OV1: 0.5}, outputs=lambda *_: one_hot(DATASET.validation.labels, wrong=1))
    again(study, scored)
    record = reopened(study).record(1)
    place = record.quantity(f"latency_ms@{PLACE}")
    assert place is not None
    assert place.detail["served_by"] == OV1
    assert record.value("accuracy") == pytest.approx(5 / 6)
    assert record.value("balanced_accuracy") == pytest.approx(5 / 6)
    assert record.value("size_bytes") == len(model(1, 0.1))


def test_a_runtime_that_computes_something_else_does_not_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = places_study(tmp_path, monkeypatch)
    wrong = FakeMeasurer("b", {OV1: 0.5}, outputs=lambda *_: one_hot(DATASET.validation.labels, wrong=3))
    again(study, wrong)
    record = reopened(study).record(1)
    place = record.quantity(f"latency_ms@{PLACE}")
    assert place is not None
    assert (place.detail["served_by"], place.value) == (ORT1, 0.1)
    assert record.value("accuracy") == 0.85  # as the study had it
    assert record.value(f"latency_ms@{OV1}") == 0.05


def test_a_runtime_that_no_longer_loads_the_artifact_leaves_no_number_of_the_old_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = places_study(tmp_path, monkeypatch)
    again(study, FakeMeasurer("b", {OV1: 2.0}, refused=[(1, OV1)]))
    moved = reopened(study)
    assert moved.record(1).quantity(f"latency_ms@{OV1}") is None
    assert [record.number for record in moved.front] == [1, 2, 3]


def test_where_no_target_of_a_place_loads_the_artifact_the_trial_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = places_study(tmp_path, monkeypatch)
    with pytest.raises(ArtifactError, match=r"^trial 1: none of the targets at cpu-b1 can serve the artifact"):
        again(study, FakeMeasurer("b", refused=[(1, OV1), (1, ORT1)]))


def test_the_network_before_compression_is_that_of_the_target_that_serves_now(tmp_path: Path) -> None:
    recipe = place_recipe(ORT1, ORT2)
    study = measured_study(tmp_path / "study", {1: (0.9, 0.1)}, recipe=recipe)

    def uncompressed(value: float, target: str) -> Quantity:
        return Quantity("uncompressed_latency_ms", value, "ms", How.MEASURED, target, environment_id="a-onnxruntime")

    more = (uncompressed(0.3, ORT1), uncompressed(0.2, ORT2), uncompressed(0.3, PLACE))
    record = study.record(1)
    write_record(study.folder.trials, replace(record, quantities=(*record.quantities, *more)))
    again(reopened(study), FakeMeasurer(factors={ORT2: 0.5}))
    assert reopened(study).record(1).value(f"uncompressed_latency_ms@{PLACE}") == 0.2


@pytest.mark.parametrize("targets", [(ORT1,), (ORT2, OV1)])
def test_targets_that_compete_for_a_place_are_not_torn_apart(tmp_path: Path, targets: tuple[str, ...]) -> None:
    study = measured_study(tmp_path / "study", TRIALS, recipe=place_recipe(ORT1, OV1))
    measurer = FakeMeasurer()
    left_out = OV1 if ORT1 in targets else ORT1
    with pytest.raises(StudyError, match=rf"cpu-b1 is served by the fastest of several .*: {left_out} is left out"):
        again(study, measurer, *targets)
    assert measurer.log == []


# --- load time and memory --------------------------------------------------------------------------------------------


def test_load_time_and_memory_where_the_recipe_asks_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bytes, str, str]] = []

    def startup(self: FakeMeasurer, path: Path, target: Target, images: np.ndarray) -> tuple[Quantity, Quantity]:
        fingerprint = self.environment_id(target)
        asked.append((path.read_bytes(), target.name, fingerprint))
        common = {"target": target.name, "environment_id": fingerprint}
        return (
            Quantity("load_ms", 5.0, "ms", How.MEASURED, **common),
            Quantity("peak_memory_bytes", 1e6, "bytes", How.MEASURED, **common),
        )

    monkeypatch.setattr(FakeMeasurer, "startup", startup)
    recipe = make_recipe(constraints=[f"load_ms@{ORT1} <= 50"])
    study = measured_study(tmp_path / "plain", {1: (0.9, 0.1)})
    asking = measured_study(tmp_path / "asking", {1: (0.9, 0.1)})
    record = asking.record(1)
    load = Quantity("load_ms", 9.0, "ms", How.MEASURED, ORT1, environment_id="a-onnxruntime")
    write_record(asking.folder.trials, replace(record, quantities=(*record.quantities, load)))
    again(study, FakeMeasurer("b"))
    assert asked == []
    again(Study(asking.folder, recipe, [replace(record, quantities=(*record.quantities, load))]), FakeMeasurer("b"))
    assert asked == [(model(1, 0.1), ORT1, "b-onnxruntime")]
    assert reopened(asking).record(1).value(f"load_ms@{ORT1}") == 5.0
    assert reopened(asking).record(1).value(f"peak_memory_bytes@{ORT1}") == 1e6


# --- interruptions ---------------------------------------------------------------------------------------------------


def interrupted(study: Study, at: int, machine: str = "b") -> None:
    measurer = FakeMeasurer(machine)
    measurer.interrupt_at = at
    with pytest.raises(KeyboardInterrupt):
        again(study, measurer)


def test_an_interruption_leaves_the_study_as_it_was_and_the_next_start_goes_on(study: Study) -> None:
    interrupted(study, at=2)
    assert reopened(study).as_told == study.as_told
    assert study.folder.storage.exists()
    measurer = FakeMeasurer("b", {ORT1: 0.5})
    found = again(reopened(study), measurer)
    assert measurer.log == [("measure", 2, ORT1), ("measure", 3, ORT1)]
    assert {number: items[0].value for number, items in found.quantities.items()} == {0: 0.5, 1: 0.1, 2: 0.1, 3: 0.2}
    assert sorted(path.name for path in study.folder.measurements.iterdir()) == ["0001.json", "0001.npz"]
    with np.load(study.folder.measurements / "0001.npz") as arrays:
        assert len(arrays.files) == len(TRIALS)


def test_what_another_environment_left_is_thrown_away(study: Study) -> None:
    interrupted(study, at=2)
    measurer = FakeMeasurer("c")
    again(study, measurer)
    assert [entry[1] for entry in measurer.log] == [0, 1, 2, 3]


def test_what_was_begun_on_other_targets_is_thrown_away(study: Study) -> None:
    interrupted(study, at=2)
    measurer = FakeMeasurer("b")
    again(study, measurer, ORT1, ORT2)
    assert [entry[1:] for entry in measurer.log] == [(n, t) for n in TRIALS for t in (ORT1, ORT2)]


@pytest.mark.parametrize("damage", ["00001.json", "00001.npz", "measured-in.json"])
@pytest.mark.parametrize("how", ["torn", "gone"])
def test_a_damaged_file_costs_its_measurement_again_and_nothing_else(study: Study, damage: str, how: str) -> None:
    interrupted(study, at=3)
    path = study.folder.measurements / "unfinished" / damage
    if how == "torn":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    measurer = FakeMeasurer("b")
    again(study, measurer)
    assert [entry[1] for entry in measurer.log] == ([0, 1, 2, 3] if damage == "measured-in.json" else [1, 3])


def test_a_trial_that_came_in_between_is_measured_too(study: Study) -> None:
    interrupted(study, at=3, machine="a")
    content = model(5, 0.05)
    study.store.put("artifact-00005", content, {})
    record = make_record(5, 0.7, artifact_sha256=sha256_bytes(content))
    latency = tuple(latencies_of(content, FakeMeasurer(), study.recipe))
    kept = tuple(quantity for quantity in record.quantities if quantity.name != "latency_ms")
    write_record(study.folder.trials, replace(record, quantities=(*kept, *latency)))
    found = again(reopened(study), FakeMeasurer())
    assert sorted(found.quantities) == [0, 1, 2, 3, 5]


def test_progress_tells_how_many_are_done(study: Study) -> None:
    heard: list[tuple[int, int]] = []
    measure_all(study, [], FakeMeasurer(), DATASET, lambda done, of: heard.append((done, of)))
    assert heard == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_missing_artifacts_are_listed_before_anything_is_measured(study: Study) -> None:
    for number in (1, 3):
        study.store.blob_path(str(study.record(number).artifact_sha256)).unlink()
    measurer = FakeMeasurer("b")
    message = r"the artifacts of 2 trials are gone from .*cache: 1, 3 \(where the study was made, 'nas search' makes"
    with pytest.raises(StudyError, match=message) as refused:
        again(study, measurer)
    assert "trials/00001.json" in refused.value.hint
    assert measurer.log == []
    assert study.folder.storage.exists()


def test_a_form_that_no_trial_has_is_refused(study: Study) -> None:
    message = r"torch-cpu-1t-b1 wants the model in the form 'torch', in which .* holds none \(it is made by a search"
    with pytest.raises(StudyError, match=message):
        again(study, FakeMeasurer(), "torch-cpu-1t-b1")


def test_a_target_that_cannot_be_measured_here_is_told_before_anything_is(study: Study) -> None:
    measurer = FakeMeasurer(absent=[OV1])
    with pytest.raises(UnsupportedError, match=r"OpenVINO is not installed \(pip install 'nas-front\[openvino\]'\)"):
        again(study, measurer, ORT1, OV1)
    assert measurer.log == []


def test_an_artifact_that_the_studys_target_refuses_is_named(study: Study) -> None:
    with pytest.raises(ArtifactError, match=r"^trial 2: the model has an operator that is not known \(leave it out\)"):
        again(study, FakeMeasurer("b", refused=[(2, ORT1)]))


def test_a_study_without_latency_needs_a_target(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", "macs"])
    study = measured_study(tmp_path / "study", TRIALS, recipe=recipe)
    with pytest.raises(StudyError, match=r"asks for no latency, .* \(name a target: --target onnxruntime-cpu-1t-b1\)"):
        again(study, FakeMeasurer())
    again(study, FakeMeasurer(), ORT1)
    assert reopened(study).record(1).value(LATENCY) == 0.1


def test_a_study_without_measured_trials_has_nothing_to_measure(tmp_path: Path) -> None:
    study = measured_study(tmp_path / "study", {})
    with pytest.raises(StudyError, match=r"no trial of .*study was measured, so there is none to measure again"):
        again(study, FakeMeasurer())


def test_an_unfinished_measurement_is_no_measurement(study: Study) -> None:
    interrupted(study, at=2)
    assert read_measurements(study.folder.measurements) == []
    header = json.loads((study.folder.measurements / "unfinished" / "measured-in.json").read_text())
    assert header == {ORT1: "b-onnxruntime"}
