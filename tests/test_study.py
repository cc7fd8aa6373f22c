"""A study's folder: who owns it, what is refused before anything is written, and how it is read and cleared."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study

from nas.errors import StudyError
from nas.front import pareto_front
from nas.measurements import Kind, Measurements, write_measurements
from nas.outcome import How, Outcome, Quantity
from nas.recipe import load_recipe
from nas.record import TrialRecord, record_path, write_record
from nas.store import sha256_bytes
from nas.study import LOCK_FILE, Study, StudyFolder, check_one_machine

INPUTS = {"space": "a1", "data": "b2"}


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "study")


def tree(path: Path) -> dict[str, bytes | None]:
    """Every file's content, and None for folders: what must not change where something is refused."""
    found = {str(item.relative_to(path)): item.read_bytes() if item.is_file() else None for item in path.rglob("*")}
    found.pop(LOCK_FILE, None)
    return found


def started(folder: StudyFolder, **changes: Any) -> StudyFolder:
    with folder.claim():
        folder.start(make_recipe(**changes), INPUTS)
    return folder


# --- ownership -------------------------------------------------------------------------------------------------------


def test_claim_makes_the_folder_and_its_parents(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "a" / "b")
    with folder.claim():
        assert folder.path.is_dir()
    with folder.claim():  # and it can be claimed again
        pass


def test_a_second_claim_is_refused_and_names_the_owner(folder: StudyFolder) -> None:
    message = rf"another search is at work in {folder.path} \(process {os.getpid()}\)"
    with folder.claim(), pytest.raises(StudyError, match=message), StudyFolder(folder.path).claim():
        pytest.fail("two own the folder")


def test_a_claim_ends_with_its_block_however_it_ends(folder: StudyFolder) -> None:
    with pytest.raises(KeyboardInterrupt), folder.claim():
        raise KeyboardInterrupt
    with folder.claim():
        pass


@pytest.fixture
def owner(folder: StudyFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the folder until it is killed."""
    script = (
        "import sys, pathlib\nfrom nas.study import StudyFolder\n"
        "with StudyFolder(pathlib.Path(sys.argv[1])).claim():\n print('owned', flush=True)\n sys.stdin.read()"
    )
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script, str(folder.path)], **pipes) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "owned\n"
            yield process
        finally:
            process.kill()


def test_the_lock_of_another_process_holds_until_that_process_is_killed(
    folder: StudyFolder, owner: subprocess.Popen[str]
) -> None:
    with pytest.raises(StudyError, match=rf"another search is at work .*process {owner.pid}\b"), folder.claim():
        pytest.fail("two own the folder")
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    with folder.claim():
        assert (folder.path / LOCK_FILE).read_text() == str(os.getpid())


def test_an_owner_that_has_not_written_its_number_yet(folder: StudyFolder) -> None:
    folder.path.mkdir()
    with open(folder.path / LOCK_FILE, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StudyError, match=r"process unknown"), folder.claim():
            pytest.fail("two own the folder")


@pytest.mark.parametrize("stranger", ["notes.txt", "trials", ".git"])
def test_a_folder_that_holds_something_else_is_refused_and_left_alone(stranger: str, folder: StudyFolder) -> None:
    folder.path.mkdir()
    (folder.path / stranger).mkdir()
    with pytest.raises(StudyError, match=rf"{folder.path} exists and is no study \(name another"), folder.claim():
        pytest.fail("claimed a stranger's folder")
    assert [item.name for item in folder.path.iterdir()] == [stranger]


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path, message in (("file", "exists and is no study"), ("file/study", "cannot be written: Not a directory")):
        with pytest.raises(StudyError, match=message), StudyFolder(tmp_path / path).claim():
            pytest.fail("claimed a file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("what", ["pathlib.Path.mkdir", "pathlib.Path.exists", "builtins.open"])
def test_a_folder_that_cannot_be_written_is_refused(
    what: str, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(what, refuse)
    with pytest.raises(
        StudyError, match=rf"^the study folder {folder.path} cannot be written: Permission denied \(make it"
    ):
        folder.claim().__enter__()


def test_a_file_system_without_locks_is_refused(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StudyError, match="cannot be locked: No locks available"), folder.claim():
        pytest.fail("claimed without a lock")


# --- starting and going on -------------------------------------------------------------------------------------------


def test_start_writes_recipe_and_inputs(folder: StudyFolder) -> None:
    assert not folder.is_study()
    started(folder)
    assert folder.is_study()
    assert load_recipe(folder.recipe) == make_recipe()
    assert json.loads(folder.inputs.read_text()) == INPUTS
    assert Study.open(folder.path).records == []


def test_going_on_takes_the_new_budget_and_cache_size(folder: StudyFolder) -> None:
    started(folder)
    started(folder, budget={"minutes": 5, "epochs": 1}, cache_limit_mb=7)
    recipe = Study.open(folder.path).recipe
    assert (recipe.budget.trials, recipe.budget.minutes, recipe.cache_limit_mb) == (None, 5, 7)


def test_another_recipe_is_refused_with_the_difference_and_nothing_changes(folder: StudyFolder) -> None:
    started(folder)
    before = tree(folder.path)
    message = rf"{folder.path} holds a study of another recipe \(there, here\): budget.epochs: 1, 9; seed: 0, 3 \(name"
    with pytest.raises(StudyError, match=message):
        started(folder, seed=3, budget={"trials": 8, "epochs": 9})
    assert tree(folder.path) == before


@pytest.mark.parametrize("name", INPUTS)
def test_changed_space_or_data_is_refused(name: str, folder: StudyFolder) -> None:
    started(folder)
    before = tree(folder.path)
    with folder.claim(), pytest.raises(StudyError, match=rf"another recipe .*: {name}: changed since the study began"):
        folder.start(make_recipe(), INPUTS | {name: "other"})
    assert tree(folder.path) == before


@pytest.mark.parametrize("content", [b"[]", b"", b'{"space": ', b"\xff"])
def test_damaged_inputs_are_named(content: bytes, folder: StudyFolder) -> None:
    started(folder).inputs.write_bytes(content)
    with pytest.raises(StudyError, match=rf"{folder.inputs} cannot be read: .*delete it"):
        started(folder)
    folder.inputs.unlink()
    started(folder)
    assert json.loads(folder.inputs.read_text()) == INPUTS


@pytest.mark.parametrize("dies_at", range(7))
def test_a_process_that_dies_while_it_starts_leaves_a_folder_to_go_on_with(
    dies_at: int, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dies before each step that changes the folder: two renames (each after a look for its folder), three folders."""
    steps = iter(range(7))

    def dying(change: Any) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            if next(steps) == dies_at:
                raise SystemExit
            return change(*args, **options)

        return step

    with folder.claim():
        monkeypatch.setattr(os, "replace", dying(os.replace))
        monkeypatch.setattr(Path, "mkdir", dying(Path.mkdir))
        with pytest.raises(SystemExit):
            folder.start(make_recipe(), INPUTS)
        monkeypatch.undo()
    started(folder)
    assert json.loads(folder.inputs.read_text()) == INPUTS
    assert folder.trials.is_dir()


def test_a_recipe_half_written_by_a_killed_process_is_no_stranger(folder: StudyFolder) -> None:
    folder.path.mkdir()
    (folder.path / ".recipe.yaml.k3x.part").write_text("data: {sou")
    started(folder)
    assert folder.is_study()


def test_a_full_disk_while_starting_is_told(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with folder.claim():
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StudyError, match=rf"{folder.path} cannot be written: No space left on device"):
            folder.start(make_recipe(), INPUTS)


# --- clearing --------------------------------------------------------------------------------------------------------


def test_clear_removes_what_the_study_wrote_and_nothing_else(folder: StudyFolder, tmp_path: Path) -> None:
    started(folder)
    write_record(folder.trials, make_record(0))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("mine")
    (folder.path / "mine.txt").write_text("not the study's")
    folder.samples.rmdir()
    folder.samples.symlink_to(outside)
    for path in (folder.front_csv, folder.page, folder.storage, folder.path / "optuna.sqlite3-wal"):
        path.write_text("the study's")
    with folder.claim():
        folder.clear()
        assert sorted(item.name for item in folder.path.iterdir()) == [LOCK_FILE, "mine.txt"]
        (folder.path / "mine.txt").unlink()
        with pytest.raises(StudyError, match="another search"), StudyFolder(folder.path).claim():
            pytest.fail("the lock went with the rest")
        folder.start(make_recipe(seed=5), INPUTS)
    assert (outside / "precious.txt").read_text() == "mine"
    assert Study.open(folder.path).recipe.seed == 5


def test_clearing_that_is_broken_off_leaves_a_study_that_can_be_cleared(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(folder)
    write_record(folder.trials, make_record(0))

    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with folder.claim():
        monkeypatch.setattr(shutil, "rmtree", fail)
        with pytest.raises(StudyError, match=rf"{folder.path} cannot be cleared: .*Permission denied"):
            folder.clear()
        monkeypatch.undo()
    assert folder.is_study()
    with folder.claim():
        folder.clear()
    assert not folder.is_study()


# --- reading ---------------------------------------------------------------------------------------------------------

BLOB = b"an artifact"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two on the front, one dominated, one infeasible, one that breaks the constraint; artifacts of the first alone."""
    records = [
        make_record(0, 0.95, 0.4, artifact_sha256=sha256_bytes(BLOB), manifest={"class_names": ["a", "b", "c", "d"]}),
        make_record(1, 0.90, 0.1, artifact_sha256="0" * 64),
        make_record(2, 0.85, 0.2),
        make_record(3, outcome=Outcome.INFEASIBLE),
        make_record(4, 0.99, 0.9),
    ]
    study = write_study(tmp_path / "digits", records, make_recipe(constraints=[f"{LATENCY} <= 0.5"]))
    study.store.put("key", BLOB, {})
    return study


def test_open_reads_what_lies_there(study: Study) -> None:
    again = Study.open(study.folder.path)
    assert again.name == "digits"
    assert again.recipe == study.recipe
    assert again.records == study.records
    assert [record.number for record in again.measured] == [0, 1, 2, 4]


def test_the_front_is_of_feasible_trials_cheapest_first(study: Study) -> None:
    assert [record.number for record in study.front] == [1, 0]
    assert study.front == pareto_front(study.records, study.recipe.parsed_objectives, study.recipe.parsed_constraints)


def test_the_reference_is_of_the_first_measured_trial(study: Study) -> None:
    assert study.reference is not None
    assert dict(zip(study.reference.objectives, study.reference.values, strict=True)) == {
        "accuracy": 0.25,
        LATENCY: 4.0,
    }


def test_a_study_without_trials_has_no_front_and_no_reference(folder: StudyFolder) -> None:
    study = Study.open(started(folder).path)
    assert (study.front, study.measured, study.reference, study.test_scores) == ([], [], None, {})


def test_opening_needs_a_study(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StudyError, match=rf"there is no study in {path} \(run 'nas search RECIPE' first"):
            Study.open(path)


@pytest.mark.parametrize("content", ["", "data: [", "space: convnet\n"])
def test_a_damaged_recipe_is_named(content: str, study: Study) -> None:
    study.folder.recipe.write_text(content)
    message = rf"the study's own recipe is damaged: .*{re.escape(str(study.folder.recipe))}"
    with pytest.raises(StudyError, match=message):
        Study.open(study.folder.path)


def test_a_damaged_record_is_named(study: Study) -> None:
    record_path(study.folder.trials, 2).write_text("{")
    with pytest.raises(StudyError, match=r"trials/00002.json cannot be read"):
        Study.open(study.folder.path)


def test_a_record_by_its_number(study: Study) -> None:
    assert study.record(3) is study.records[3]
    with pytest.raises(StudyError, match=rf"no trial 5 in {study.folder.path} \(trials run from 0 to 4\)"):
        study.record(5)


def test_a_record_where_there_are_none(folder: StudyFolder) -> None:
    with pytest.raises(StudyError, match=r"there is no trial 0 in .*\(no trials yet\)"):
        Study.open(started(folder).path).record(0)


def test_test_scores_by_trial_and_name(study: Study) -> None:
    assert study.test_scores[1] == {"test_accuracy": Quantity("test_accuracy", 0.9, "1", How.MEASURED)}


@pytest.mark.parametrize(
    "content", ["", "[]", '{"x": []}', '{"1": 5}', '{"1": [{"name": "a"}]}', '{"1": [{"value": 1}]}']
)
def test_damaged_test_scores_are_named(content: str, study: Study) -> None:
    study.folder.test_scores.write_text(content)
    with pytest.raises(StudyError, match=rf"{study.folder.test_scores} cannot be read: .*delete it"):
        _ = Study.open(study.folder.path).test_scores


def test_the_artifact_is_checked_against_its_digest(study: Study) -> None:
    assert study.artifact(study.record(0)) == BLOB
    study.store.blob_path(sha256_bytes(BLOB)).write_bytes(b"changed")
    with pytest.raises(StudyError, match=r"the artifact of trial 0 is not in .*cache \(run the search again"):
        study.artifact(study.record(0))


@pytest.mark.parametrize("number", [1, 3], ids=["evicted", "never had one"])
def test_an_artifact_that_is_not_there(number: int, study: Study) -> None:
    with pytest.raises(StudyError, match=rf"the artifact of trial {number} is not in"):
        study.artifact(study.record(number))


def test_a_record_without_what_the_recipe_asks_for_is_named(study: Study) -> None:
    path = study.folder.trials / "00001.json"
    path.write_text(path.read_text().replace('"latency_ms"', '"latency_us"'))
    with pytest.raises(StudyError, match=r"00001\.json lacks latency_ms@.* \(move it out"):
        Study.open(study.folder.path)


def test_the_cache_has_the_recipes_limit(study: Study) -> None:
    assert study.store.limit_bytes == study.recipe.cache_limit_mb * 1_000_000


def test_a_study_can_be_moved(study: Study, tmp_path: Path) -> None:
    study.folder.path.rename(tmp_path / "moved")
    moved = Study.open(tmp_path / "moved")
    assert moved.name == "moved"
    assert moved.artifact(moved.record(0)) == BLOB
    assert yaml.safe_load(moved.folder.recipe.read_text())["space"] == "convnet"


# --- one machine -----------------------------------------------------------------------------------------------------


def on(record: TrialRecord, machine: str, *targets: str) -> TrialRecord:
    """The record with its latency, and that of further targets, measured on a machine."""
    latency = record.quantity(LATENCY)
    assert latency is not None
    found = [quantity for quantity in record.quantities if quantity is not latency]
    for target in (TARGET, *targets):
        fingerprint = f"{machine}-{target.partition('-')[0]}"
        found.append(replace(latency, target=target, environment_id=fingerprint))
    return replace(record, quantities=tuple(found), environment={"cpu": f"CPU {machine}", "cores": 4})


def test_a_front_of_one_machine(tmp_path: Path) -> None:
    records = [on(make_record(0, 0.9, 0.1), "a"), on(make_record(1, 0.95, 0.2), "a"), make_record(2, 0.99, 0.3)]
    assert [record.number for record in write_study(tmp_path / "study", records).front] == [0, 1, 2]


def test_two_machines_on_one_front_are_refused_with_the_trials_and_the_way_out(tmp_path: Path) -> None:
    records = [on(make_record(number, 0.9, 0.1), "a" if number in (0, 1, 2, 7) else "b") for number in range(8)]
    study = write_study(tmp_path / "study", records)
    message = (
        rf"^{LATENCY} of {study.folder.path} was measured in different environments, which cannot stand on one front: "
        r"trials 0 to 2, 7 on CPU a, 4 cores \(a-onnxruntime\); trials 3 to 6 on CPU b, 4 cores \(b-onnxruntime\) "
        rf"\(measure all again here: nas measure {study.folder.path}\)$"
    )
    with pytest.raises(StudyError, match=message):
        _ = study.front


def test_what_the_recipe_does_not_compare_may_be_from_anywhere(tmp_path: Path) -> None:
    records = [on(make_record(0), "a"), on(make_record(1), "b")]
    assert write_study(tmp_path / "study", records, make_recipe(objectives=["accuracy", "macs"])).front


def test_new_trials_of_another_machine_are_refused_before_they_are_made(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", [on(make_record(0), "a")])
    check_one_machine(study.folder, study.recipe, study.as_told, {TARGET: "a-onnxruntime"})
    check_one_machine(study.folder, study.recipe, [], {TARGET: "b-onnxruntime"})
    with pytest.raises(StudyError, match=r"trial 0 on CPU a, 4 cores .*; new trials here \(b-onnxruntime\)"):
        check_one_machine(study.folder, study.recipe, study.as_told, {TARGET: "b-onnxruntime"})


OTHER = "openvino-cpu-1t-b1"


def placed(record: TrialRecord, machine: str, server: str) -> TrialRecord:
    """The record measured on a machine on two targets, of which one serves at the place."""
    measured = on(record, machine, OTHER)
    latency = measured.quantity(f"latency_ms@{server}")
    assert latency is not None
    at_place = replace(latency, target="cpu-b1", detail={**latency.detail, "served_by": server})
    return replace(measured, quantities=(*measured.quantities, at_place))


@pytest.mark.parametrize(
    ("machine", "servers"), [("a", (TARGET, OTHER)), ("b", (TARGET, TARGET)), ("b", (TARGET, OTHER))]
)
def test_at_a_place_runtimes_may_differ_but_machines_may_not(
    tmp_path: Path, machine: str, servers: tuple[str, str]
) -> None:
    recipe = make_recipe(objectives=["accuracy", "latency_ms@cpu-b1"], targets=[TARGET, OTHER])
    first, second = make_record(0, 0.9, 0.1), make_record(1, 0.95, 0.2)
    study = write_study(
        tmp_path / "study", [placed(first, "a", servers[0]), placed(second, machine, servers[1])], recipe
    )
    if machine == "a":
        assert [record.number for record in study.front] == [0, 1]
    else:
        with pytest.raises(StudyError, match=r"trial 0 on CPU a, 4 cores .*; trial 1 on CPU b, 4 cores"):
            _ = study.front


# --- measured later --------------------------------------------------------------------------------------------------


def later(kind: Kind, values: dict[int, float], machine: str = "a") -> Measurements:
    quantities = {
        number: (
            Quantity("latency_ms", value, "ms", How.MEASURED, TARGET, environment_id=f"{machine}-onnxruntime",
                     detail={"in_turns": kind == "front"}),
        )
        for number, value in values.items()
    }  # fmt: skip
    return Measurements(kind, "", quantities, {"cpu": f"CPU {machine}", "cores": 4, "runtimes": {TARGET: {}}})


@pytest.fixture
def on_a(tmp_path: Path) -> Study:
    """Trials 0 and 1 on the front, 2 just behind."""
    trials = ((0.9, 0.10), (0.95, 0.2), (0.8, 0.11))
    return write_study(tmp_path / "study", [on(make_record(n, *values), "a") for n, values in enumerate(trials)])


def test_turns_give_values_and_decide_among_those_that_had_one(on_a: Study) -> None:
    write_measurements(on_a.folder.measurements, later("front", {0: 0.12, 1: 0.19}))
    study = Study.open(on_a.folder.path)
    assert [record.number for record in study.front] == [0, 1], "though trial 2 would now not be dominated"
    assert [record.value(LATENCY) for record in study.front] == [0.12, 0.19]
    assert [record.value(LATENCY) for record in study.records] == [0.12, 0.19, 0.11]
    assert [record.value(LATENCY) for record in study.as_told] == [0.1, 0.2, 0.11]
    assert sorted(study.in_turns) == [0, 1]


def test_the_front_is_sorted_by_what_is_shown(on_a: Study) -> None:
    write_measurements(on_a.folder.measurements, later("front", {0: 0.3, 1: 0.4}))
    write_record(on_a.folder.trials, on(make_record(3, 0.96, 0.35), "a"))
    assert [record.number for record in Study.open(on_a.folder.path).front] == [0, 3, 1]


def test_a_study_that_was_measured_anew_is_of_the_new_machine(on_a: Study) -> None:
    write_measurements(on_a.folder.measurements, later("all", {0: 0.5, 1: 0.4, 2: 0.6}, "b"))
    study = Study.open(on_a.folder.path)
    assert [record.number for record in study.front] == [1]
    assert study.record(0).environment["cpu"] == "CPU b"
    check_one_machine(study.folder, study.recipe, study.as_told, {TARGET: "b-onnxruntime"})


def test_a_study_of_which_only_a_part_was_measured_anew_is_mixed(on_a: Study) -> None:
    write_measurements(on_a.folder.measurements, later("all", {0: 0.5}, "b"))
    with pytest.raises(StudyError, match=r"trial 0 on CPU b, 4 cores .*; trials 1 to 2 on CPU a"):
        _ = Study.open(on_a.folder.path).front


def test_damaged_measurements_are_named(on_a: Study) -> None:
    write_measurements(on_a.folder.measurements, later("all", {0: 0.5}))
    (on_a.folder.measurements / "0001.json").write_text("{")
    with pytest.raises(StudyError, match=r"measurements/0001\.json cannot be read: .*delete it; 'nas measure'"):
        Study.open(on_a.folder.path)


def test_clearing_deletes_what_was_measured_later(on_a: Study) -> None:
    write_measurements(on_a.folder.measurements, later("all", {0: 0.5}))
    with on_a.folder.claim():
        on_a.folder.clear()
    assert not on_a.folder.measurements.exists()


def test_the_samplers_memory_can_be_forgotten(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    started(folder)
    names = [folder.storage.name + suffix for suffix in ("", "-wal", "-shm", "-journal")]
    for name in names[:3]:
        (folder.path / name).write_text("")
    folder.forget_sampler()
    assert not any((folder.path / name).exists() for name in names)
    folder.forget_sampler()  # there is none, and that is no error

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StudyError, match=rf"memory {folder.storage} cannot be deleted: Permission denied$"):
        folder.forget_sampler()
