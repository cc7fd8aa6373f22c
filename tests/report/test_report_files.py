"""front.csv and front.json hold what the records hold."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from pathlib import Path

import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study

from nas.design import Design
from nas.errors import StudyError
from nas.front import hypervolume, knee
from nas.outcome import Outcome, Quantity, Realisation
from nas.report import files
from nas.report.files import front_csv, front_json, write_front_files
from nas.study import Study


def make_study(folder: Path) -> Study:
    records = [make_record(n, 0.5 + 0.05 * n, 0.01 * 2**n, environment={"cpu": "a"}) for n in range(6)]
    records[2] = dataclasses.replace(records[2], labels={"weight_bits": Realisation.SIMULATED})
    return write_study(folder / "digits", [*records, make_record(6, outcome=Outcome.FAILED)])


def test_csv_has_a_row_for_each_member_with_its_numbers(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    written, _ = write_front_files(study)
    rows = list(csv.DictReader(written.read_text().splitlines()))
    assert [int(row["trial"]) for row in rows] == [record.number for record in study.front]
    for row, record in zip(rows, study.front, strict=True):
        for key in ("accuracy", "flops", "macs", "params", "size_bytes", LATENCY):
            assert float(row[key]) == record.value(key)
        latency = record.quantity(LATENCY)
        assert latency is not None
        assert float(row[f"latency_ms_low@{TARGET}"]) == latency.low
        assert float(row[f"latency_ms_high@{TARGET}"]) == latency.high
        assert float(row[f"latency_ms_iqr@{TARGET}"]) == latency.detail["iqr"]
        assert row[f"latency_unstable@{TARGET}"] == "false"
        assert float(row[f"fps@{TARGET}"]) == pytest.approx(1000 / latency.value)
        assert float(row["test_accuracy"]) == record.value("accuracy")
        assert row["test_accuracy_low"] == ""
        assert row["design_sha256"] == record.design.digest
        assert row["simulated"] == ("weight_bits" if record.number == 2 else "")
        assert row["unsupported"] == ""
    assert [row["trial"] for row in rows if row["knee"] == "true"] == [
        str(knee(study.front, study.recipe.parsed_objectives).number)
    ]


def test_counts_are_written_whole(tmp_path: Path) -> None:
    row = next(csv.DictReader(front_csv(make_study(tmp_path)).splitlines()))
    assert row["params"].isdigit()
    assert row["size_bytes"].isdigit()


def test_columns_do_not_depend_on_what_the_front_has(tmp_path: Path) -> None:
    empty = front_csv(write_study(tmp_path / "empty", []))
    assert empty.splitlines() == [front_csv(make_study(tmp_path)).splitlines()[0]]


def test_every_column_is_documented(tmp_path: Path) -> None:
    documented = files.__doc__
    assert documented is not None
    text = documented.replace(TARGET, "TARGET")
    for column in front_csv(make_study(tmp_path)).splitlines()[0].split(","):
        name, at, _ = column.partition("@")
        plain = name.removesuffix("_low").removesuffix("_high") + ("@TARGET" if at else "")
        assert f"``{plain}``" in text or f"``{name}@TARGET``" in text, column


def test_every_target_has_its_columns(tmp_path: Path) -> None:
    recipe = make_recipe(targets=["onnxruntime-cpu-2t-b16"])
    heading = front_csv(write_study(tmp_path / "two", [make_record(0)], recipe)).splitlines()[0]
    for target in (TARGET, "onnxruntime-cpu-2t-b16"):
        assert f"latency_ms@{target}" in heading
        assert f"peak_memory_bytes@{target}" in heading


def test_json_holds_the_study_and_every_quantity(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    _, written = write_front_files(study)
    data = json.loads(written.read_text())
    objectives = study.recipe.parsed_objectives
    assert data["version"] == 1
    assert data["study"] == "digits"
    assert data["recipe"]["space"] == "convnet"
    assert [o["key"] for o in data["objectives"]] == ["accuracy", LATENCY]
    assert [o["direction"] for o in data["objectives"]] == ["maximize", "minimize"]
    assert study.reference is not None
    assert data["reference"] == dict(zip(study.reference.objectives, study.reference.values, strict=True))
    assert data["hypervolume"] == pytest.approx(hypervolume(study.records, study.reference, objectives))
    assert data["trials"] == {"total": 7, "feasible": 6, "measured": 6, "failed": 1}
    assert data["environments"] == [{"cpu": "a"}]
    assert [member["trial"] for member in data["members"]] == [record.number for record in study.front]
    for member, record in zip(data["members"], study.front, strict=True):
        assert Design.from_json(member["design"]) == record.design
        assert {key: item["value"] for key, item in member["quantities"].items()} == {
            quantity.key: quantity.value for quantity in record.quantities
        }
        for item in member["quantities"].values():
            assert {"low", "high", "how", "unit"} <= item.keys()
            assert Quantity.from_json(item) == record.quantity(Quantity.from_json(item).key)
        assert member["labels"] == {name: str(label) for name, label in record.labels.items()}
        assert member["test_scores"]["test_accuracy"]["value"] == record.value("accuracy")


def test_json_of_a_study_without_front(tmp_path: Path) -> None:
    data = json.loads(front_json(write_study(tmp_path / "none", [make_record(0, outcome=Outcome.FAILED)])))
    assert data["members"] == []
    assert data["reference"] is None
    assert data["hypervolume"] is None
    assert data["knee"] is None


def test_gains_and_the_baseline_are_there(tmp_path: Path) -> None:
    records = [
        make_record(0, 0.5, 0.4, origin="baseline"),
        make_record(1, 0.8, 0.1, uncompressed=(0.25, 3e6)),
        make_record(2, 0.9, 0.2),
    ]
    study = write_study(tmp_path / "study", records)
    rows = list(csv.DictReader(front_csv(study).splitlines()))
    assert [(row["trial"], row["on_front"], row["baseline"]) for row in rows] == [
        ("1", "true", "false"),
        ("2", "true", "false"),
        ("0", "false", "true"),
    ]
    assert [float(row[f"speed_up@{TARGET}"]) for row in rows] == [4, 2, 1]
    assert [row["mac_gain"] for row in rows] == ["3.0", "", ""]
    assert [row[f"latency_gain@{TARGET}"] for row in rows] == ["2.5", "", ""]
    assert [row["compressed_size_bytes"] for row in rows] == ["30001", "30002", "30000"]
    data = json.loads(front_json(study))
    assert [member["trial"] for member in data["members"]] == [1, 2]
    assert data["members"][0]["mac_gain"] == 3
    assert data["members"][0]["latency_gain"] == {TARGET: 2.5}
    assert data["members"][1]["latency_gain"] == {TARGET: None}
    assert data["members"][1]["speed_up"] == {TARGET: 2}
    assert data["baseline"]["trial"] == 0
    assert data["baseline"]["quantities"]["accuracy"]["value"] == 0.5


def test_without_a_baseline_there_is_none(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    assert json.loads(front_json(study))["baseline"] is None
    assert {row[f"speed_up@{TARGET}"] for row in csv.DictReader(front_csv(study).splitlines())} == {""}


def test_writing_again_replaces_and_leaves_nothing_aside(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    before = {path: path.read_bytes() for path in write_front_files(study)}
    assert {path: path.read_bytes() for path in write_front_files(study)} == before
    assert not list(study.folder.path.glob(".front*"))


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    study.folder.front_csv.mkdir()
    (study.folder.front_csv / "in the way").touch()
    with pytest.raises(StudyError, match=r"front\.csv cannot be written: .*make its folder writable"):
        write_front_files(study)


def test_a_folder_whose_name_is_no_text_is_spelled_with_its_bytes(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    study = make_study(tmp_path)
    study.folder.path.rename(folder)
    study = Study.open(folder)
    assert study.name == r"caf\xe9"
    _, written = write_front_files(study)
    assert json.loads(written.read_bytes())["study"] == r"caf\xe9"


def test_half_characters_are_spelled_out() -> None:
    assert files.encoded("a\udce9\u00e9") == b"a\\udce9\xc3\xa9"


def test_what_is_known_of_a_latency_timed_in_turns_at_a_place(tmp_path: Path) -> None:
    record = make_record(1)
    detail = {"in_turns": True, "ambiguous_with": "3,7", "overhead_bound": True, "served_by": TARGET}
    latency = next(q for q in record.quantities if q.name == "latency_ms")
    place = dataclasses.replace(latency, target="cpu-b1", detail={**latency.detail, **detail})
    recipe = make_recipe(objectives=["accuracy", "latency_ms@cpu-b1"], targets=[TARGET])
    study = write_study(
        tmp_path / "study", [dataclasses.replace(record, quantities=(*record.quantities, place))], recipe
    )
    (row,) = csv.DictReader(io.StringIO(front_csv(study)))
    assert row["latency_in_turns@cpu-b1"] == row["latency_overhead_bound@cpu-b1"] == "true"
    assert row["latency_ambiguous_with@cpu-b1"] == "3;7"
    assert row["served_by@cpu-b1"] == TARGET
    assert row[f"latency_in_turns@{TARGET}"] == row[f"latency_overhead_bound@{TARGET}"] == "false"
    assert row[f"latency_ambiguous_with@{TARGET}"] == ""
    assert f"served_by@{TARGET}" not in row
