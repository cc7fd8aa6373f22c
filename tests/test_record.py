"""A record's JSON both ways and its file: whole or not there, and named where it is damaged."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from fakes import LATENCY, make_record
from hypothesis import given, settings
from strategies import records

from nas.errors import StudyError
from nas.objectives import Constraint
from nas.outcome import How, Outcome, Quantity, Realisation
from nas.record import VERSION, TrialRecord, read_records, record_path, write_record


@settings(deadline=None, max_examples=60)
@given(records)
def test_a_record_goes_through_json_unchanged(record: TrialRecord) -> None:
    assert TrialRecord.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False))) == record


@settings(deadline=None, max_examples=10)
@given(records)
def test_a_record_goes_through_its_file_unchanged(record: TrialRecord) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "trials"
        assert write_record(folder, record) == record_path(folder, record.number)
        assert read_records(folder) == [record]


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_goes_through_its_file_unchanged(outcome: Outcome, tmp_path: Path) -> None:
    record = make_record(3, outcome=outcome)
    write_record(tmp_path, record)
    (again,) = read_records(tmp_path)
    assert again == record
    assert again.outcome is outcome


def test_records_come_by_number_and_not_by_name(tmp_path: Path) -> None:
    numbers = [100000, 2, 99999, 10, 0]
    for number in numbers:
        write_record(tmp_path, make_record(number))
    assert [record.number for record in read_records(tmp_path)] == sorted(numbers)


def test_no_records_where_there_is_no_folder(tmp_path: Path) -> None:
    assert read_records(tmp_path / "trials") == []


def test_what_a_dead_writer_left_is_no_record(tmp_path: Path) -> None:
    write_record(tmp_path, make_record(0))
    (tmp_path / ".00001.json.x7f3.part").write_text('{"version": 1, "num')
    assert [record.number for record in read_records(tmp_path)] == [0]


def test_writing_again_replaces_the_record(tmp_path: Path) -> None:
    write_record(tmp_path, make_record(0, outcome=Outcome.FAILED))
    write_record(tmp_path, make_record(0, 0.8))
    assert [record.value("accuracy") for record in read_records(tmp_path)] == [0.8]


def test_a_record_that_holds_nan_is_not_written(tmp_path: Path) -> None:
    record = dataclasses.replace(make_record(0), seconds=math.nan)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_record(tmp_path, record)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", [None, 0, VERSION + 1, "1"])
def test_another_version_is_refused(version: object, tmp_path: Path) -> None:
    data = make_record(1).to_json() | {"version": version}
    with pytest.raises(StudyError, match=f"record's version must be {VERSION}, but got {version!r}"):
        TrialRecord.from_json(data)
    record_path(tmp_path, 1).write_text(json.dumps(data))
    with pytest.raises(StudyError, match=rf"{tmp_path}/00001.json cannot be read: .*version must be {VERSION}"):
        read_records(tmp_path)


WHOLE = json.dumps(make_record(1).to_json())


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"[]", b"null", b"7", WHOLE[: len(WHOLE) // 2].encode(), WHOLE.encode()[:-1], b"\0" * 64],
    ids=["empty", "binary", "list", "null", "number", "half", "all but a byte", "zeros"],
)
def test_a_torn_file_is_named(content: bytes, tmp_path: Path) -> None:
    write_record(tmp_path, make_record(0))
    record_path(tmp_path, 1).write_bytes(content)
    with pytest.raises(StudyError, match=rf"^the trial record {tmp_path}/00001.json cannot be read: .*move it out"):
        read_records(tmp_path)


# A record has a reason only where it was not measured, and older ones say nothing of what came later.
OPTIONAL = ("reason", "forms", "parent", "inherits", "epochs", "spared", "attempts", "peak_memory_bytes")


@pytest.mark.parametrize(
    "field", [field.name for field in dataclasses.fields(TrialRecord) if field.name not in OPTIONAL]
)
def test_a_file_that_lacks_a_field_is_named(field: str, tmp_path: Path) -> None:
    data = make_record(1).to_json()
    del data[field]
    record_path(tmp_path, 1).write_text(json.dumps(data))
    with pytest.raises(StudyError, match=rf"00001.json cannot be read: '{field}' is missing"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        *({field.name: [1]} for field in dataclasses.fields(TrialRecord) if field.name != "notes"),
        {"number": True},
        {"number": "1"},
        {"seed": 1.5},
        {"seconds": None},
        {"outcome": "done"},
        {"labels": {"weight_bits": "perhaps"}},
        {"reason": {"kind": "shape"}},
        {"design": {"version": 1, "family": "mlp"}},
        {"quantities": [{"name": "macs", "value": None, "unit": "MAC", "how": "counted"}]},
        {"stages": [{"stage": "train"}]},
        {"notes": 5},
    ],
    ids=str,
)
def test_a_file_with_a_field_of_another_type_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    record_path(tmp_path, 1).write_text(json.dumps(make_record(1).to_json() | change))
    with pytest.raises(StudyError, match=r"00001.json cannot be read: "):
        read_records(tmp_path)


def test_a_copy_under_another_name_does_not_count_a_trial_twice(tmp_path: Path) -> None:
    content = write_record(tmp_path, make_record(1)).read_bytes()
    (tmp_path / "00002.json").write_bytes(content)
    with pytest.raises(StudyError, match=r"00002.json cannot be read: it holds trial 1"):
        read_records(tmp_path)


def test_quantities_are_found_by_key() -> None:
    record = make_record(4, 0.9, 0.25)
    found = record.quantity(LATENCY)
    assert found is not None
    assert (found.value, record.value(LATENCY), record.value("accuracy")) == (0.25, 0.25, 0.9)
    assert record.quantity("latency_ms") is None
    with pytest.raises(KeyError, match="trial 4 has no quantity 'latency_ms'"):
        record.value("latency_ms")


@pytest.mark.parametrize(
    ("constraints", "feasible"),
    [
        ([], True),
        (["accuracy >= 0.9"], True),
        (["accuracy >= 0.91"], False),
        (["accuracy >= 0.9", f"{LATENCY} <= 0.2"], False),
        (["accuracy >= 0.9", f"{LATENCY} <= 0.25"], True),
    ],
)
def test_feasible_is_measured_and_within_every_limit(constraints: list[str], feasible: bool) -> None:
    parsed = [Constraint.parse(text) for text in constraints]
    assert make_record(0, 0.9, 0.25).feasible(parsed) is feasible


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.MEASURED])
def test_what_was_not_measured_is_not_feasible(outcome: Outcome) -> None:
    assert not dataclasses.replace(make_record(0), outcome=outcome).feasible([])


def test_json_holds_plain_values_alone() -> None:
    quantity = Quantity("load_ms", 3.0, "ms", How.MEASURED, target="t")
    data = make_record(1, quantities=(quantity,)).to_json()
    data = json.loads(json.dumps(data))
    assert data["outcome"] == "measured"
    assert data["labels"] == {"pruning_ratio": str(Realisation.REALISED), "weight_bits": "realised"}
    assert data["quantities"][-1] == {"name": "load_ms", "value": 3.0, "unit": "ms", "how": "measured", "target": "t"}


@pytest.mark.parametrize(
    ("parent", "inherits", "expected"),
    [(None, None, None), (3, None, 3), (None, "7", 7), (3, "7", 3), (None, "supernet", None)],
)
def test_a_trial_goes_on_from_another_by_its_network_or_by_its_weights(
    parent: int | None, inherits: str | None, expected: int | None
) -> None:
    assert make_record(9, parent=parent, inherits=inherits).goes_on_from == expected


def test_a_folder_of_records_that_may_not_be_read_is_no_empty_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(tmp_path, make_record(0))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the superuser may read anywhere
    with pytest.raises(StudyError, match=r"the trial records in .* cannot be read: Permission denied"):
        read_records(tmp_path)
    assert read_records(tmp_path / "none") == []
