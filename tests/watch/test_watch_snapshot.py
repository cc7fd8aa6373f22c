"""Reading a study again and again while it is written: what is half there, what appears, what goes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from fakes import LATENCY, TARGET, make_design, make_recipe, make_record, write_study

from nas.errors import StudyError
from nas.measurements import Measurements, write_measurements
from nas.outcome import How, Outcome, Quantity
from nas.record import TrialRecord, write_record
from nas.study import Study
from nas.watch import snapshot as snapshots
from nas.watch.running import Running, write_running
from nas.watch.snapshot import Reader

RECORDS = [make_record(0, 0.8, 0.1), make_record(1, 0.9, 0.2), make_record(2, outcome=Outcome.FAILED)]


def numbers(reader: Reader) -> list[int]:
    study = reader.read().study
    assert study is not None
    return [record.number for record in study.records]


def test_it_tells_what_the_study_itself_tells(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", RECORDS)
    seen = Reader(tmp_path / "s", clock=lambda: 12.0).read()
    assert seen.study is not None
    assert seen.study.records == study.records
    assert list(seen.front) == study.front
    assert [number for number, _ in seen.history] == [0, 1, 2]
    assert (seen.problem, seen.owner, seen.running, seen.time) == ("", None, None, 12.0)


def test_a_study_appears_with_its_records_one_by_one(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "s")
    assert reader.read().study is None
    assert reader.read().problem == f"there is no study in {tmp_path / 's'} yet"
    write_study(tmp_path / "s", [])
    assert numbers(reader) == []
    for count, record in enumerate(RECORDS, start=1):
        write_record(tmp_path / "s" / "trials", record)
        assert numbers(reader) == list(range(count))
    (tmp_path / "s" / "trials" / "00001.json").unlink()
    assert numbers(reader) == [0, 2]


def test_a_study_that_is_started_over_is_seen_anew(tmp_path: Path) -> None:
    write_study(tmp_path / "s", RECORDS)
    reader = Reader(tmp_path / "s")
    assert reader.read().study is not None
    for path in ("recipe.yaml", "trials/00000.json", "trials/00001.json", "trials/00002.json"):
        (tmp_path / "s" / path).unlink()
    (tmp_path / "s" / "trials").rmdir()
    assert reader.read().study is None
    write_study(tmp_path / "s", [make_record(0, 0.5)])
    study = reader.read().study
    assert study is not None
    assert [record.value("accuracy") for record in study.records] == [0.5]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 9}', "\xff"])
def test_a_record_that_is_half_there_is_left_out_counted_and_read_when_it_is_whole(tmp_path: Path, text: str) -> None:
    write_study(tmp_path / "s", RECORDS)
    path = tmp_path / "s" / "trials" / "00001.json"
    whole = path.read_bytes()
    path.write_text(text, encoding="latin-1")
    reader = Reader(tmp_path / "s")
    assert numbers(reader) == [0, 2]
    assert reader.read().problem == "1 of 3 records cannot be read"
    path.write_bytes(whole)
    assert numbers(reader) == [0, 1, 2]
    assert reader.read().problem == ""


def test_a_measured_record_without_an_objective_is_left_out(tmp_path: Path) -> None:
    lacking = TrialRecord(1, "asked", make_design(), Outcome.MEASURED, 0)
    write_study(tmp_path / "s", [RECORDS[0]])
    write_record(tmp_path / "s" / "trials", lacking)
    reader = Reader(tmp_path / "s")
    assert numbers(reader) == [0]
    assert reader.read().problem == "1 of 2 records cannot be read"


def test_a_recipe_that_is_half_there_is_waited_for(tmp_path: Path) -> None:
    write_study(tmp_path / "s", RECORDS)
    (tmp_path / "s" / "recipe.yaml").write_text("data: {sour")
    reader = Reader(tmp_path / "s")
    assert "is not valid YAML" in reader.read().problem
    (tmp_path / "s" / "recipe.yaml").write_text(yaml.safe_dump(make_recipe().to_json()))
    assert numbers(reader) == [0, 1, 2]


def latency(value: float, environment: str) -> Quantity:
    return Quantity("latency_ms", value, "ms", How.MEASURED, target=TARGET, environment_id=environment)


def test_a_study_of_two_machines_says_so_and_shows_the_rest(tmp_path: Path) -> None:
    records = []
    for number, machine in enumerate(("here", "there")):
        record = make_record(number).to_json()
        for quantity in record["quantities"]:
            if quantity["name"] == "latency_ms":
                quantity["environment_id"] = machine
        records.append(TrialRecord.from_json(record))
    write_study(tmp_path / "s", records)
    seen = Reader(tmp_path / "s").read()
    assert seen.study is not None
    assert seen.front == ()
    assert "measured in different environments" in seen.problem


def test_what_is_measured_later_is_seen(tmp_path: Path) -> None:
    write_study(tmp_path / "s", RECORDS)
    reader = Reader(tmp_path / "s")
    reader.read()
    later = Measurements("all", "2026-01-02T00:00:00Z", {0: (latency(0.7, "x"),), 1: (latency(0.8, "x"),)}, {})
    write_measurements(tmp_path / "s" / "measurements", later)
    study = reader.read().study
    assert study is not None
    assert [record.value(LATENCY) for record in study.measured] == [0.7, 0.8]
    (tmp_path / "s" / "measurements" / "0002.json").write_text("{")
    seen = reader.read()
    assert "0002.json cannot be read" in seen.problem
    assert seen.study is study, "what was seen last stays"


def test_only_what_changed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = snapshots._read
    monkeypatch.setattr(snapshots, "_read", lambda path: read.append(path.name) or real(path))
    write_study(tmp_path / "s", RECORDS[:2])
    reader = Reader(tmp_path / "s")
    reader.read()
    assert read == ["00000.json", "00001.json"]
    reader.read()
    write_record(tmp_path / "s" / "trials", RECORDS[2])
    reader.read()
    assert read == ["00000.json", "00001.json", "00002.json"]


def test_no_record_is_looked_for_while_the_same_trial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is to be quiet while a network is timed."""
    looked: list[Path] = []
    real = snapshots._listing
    monkeypatch.setattr(snapshots, "_listing", lambda path: looked.append(path) or real(path))
    folder = write_study(tmp_path / "s", RECORDS[:2]).folder
    reader = Reader(folder.path)
    with folder.claim():
        write_running(folder.path, Running(os.getpid(), 5.0, "train", 0.1, 2))
        reader.read()
        looked.clear()
        write_running(folder.path, Running(os.getpid(), 5.0, "measure", 0.0, 2))
        seen = reader.read()
        assert seen.running == Running(os.getpid(), 5.0, "measure", 0.0, 2)
        assert looked == []
        write_record(folder.trials, RECORDS[2])
        write_running(folder.path, Running(os.getpid(), 6.0))
        assert numbers(reader) == [0, 1, 2]


def test_what_a_killed_search_left_behind_says_nothing(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "s", RECORDS).folder
    write_running(folder.path, Running(os.getpid() + 1, 5.0, "train", 0.1, 2))
    assert Reader(folder.path).read().running is None, "nobody owns the study"
    with folder.claim():
        seen = Reader(folder.path).read()
        assert (seen.owner, seen.running) == (os.getpid(), None), "another process does"


def test_reading_leaves_the_folder_as_it_is(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "s", RECORDS).folder.path

    def state() -> dict[str, tuple[int, int]]:
        found = [folder, *folder.rglob("*")]
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}

    before = state()
    reader = Reader(folder)
    reader.read()
    reader.read()
    assert state() == before
    assert Reader(tmp_path / "none").read().study is None
    assert not (tmp_path / "none").exists()


def test_a_copied_record_counts_once(tmp_path: Path) -> None:
    write_study(tmp_path / "s", RECORDS)
    trials = tmp_path / "s" / "trials"
    (trials / "00007.json").write_text(json.dumps(json.loads((trials / "00000.json").read_text())))
    reader = Reader(tmp_path / "s")
    assert numbers(reader) == [0, 1, 2]
    assert isinstance(reader.read().study, Study)


def test_a_folder_that_may_not_be_read_is_no_empty_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path / "s", RECORDS)

    def refuse(folder: Path) -> None:  # the superuser may read anywhere
        raise PermissionError(13, "Permission denied", str(folder))

    reader = Reader(tmp_path / "s")
    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(StudyError, match=r"s/trials cannot be read: Permission denied \(make it readable\)"):
        reader.read()
