"""Latencies taken after the search: how they are kept, read, and put in the place of a record's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import LATENCY, TARGET, make_record

from nas.errors import StudyError
from nas.measurements import (
    Kind,
    Measurements,
    ambiguous_with,
    environments,
    in_turns,
    measured_anew,
    read_measurements,
    timed_in_turns,
    write_measurements,
)
from nas.outcome import How, Outcome, Quantity
from nas.record import TrialRecord

OTHER = "openvino-cpu-1t-b1"


def latency(value: float, environment: str | None = "b", target: str = TARGET, **detail: Any) -> Quantity:
    return Quantity("latency_ms", value, "ms", How.MEASURED, target, environment_id=environment, detail=detail)


def taken(kind: Kind, quantities: dict[int, list[Quantity]], machine: str = "b", *targets: str) -> Measurements:
    environment = {"cpu": machine, "runtimes": {name: {} for name in targets or (TARGET,)}}
    return Measurements(kind, "2026-01-01T00:00:00+00:00", {n: tuple(q) for n, q in quantities.items()}, environment)


def record(number: int, value: float, environment: str = "a", **fields: Any) -> TrialRecord:
    found = make_record(number, 0.9, value, environment={"cpu": environment}, **fields)
    quantities = (replace(q, environment_id=environment) if q.name == "latency_ms" else q for q in found.quantities)
    return replace(found, quantities=tuple(quantities))


def latencies(records: list[TrialRecord]) -> list[float]:
    return [item.value(LATENCY) for item in records]


# --- on the disk -----------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_in_the_order_taken(tmp_path: Path) -> None:
    sets = [taken("all", {0: [latency(0.1)]}), taken("front", {1: [latency(0.2, in_turns=True)]})]
    for measurements in sets:
        assert write_measurements(tmp_path / "measurements", measurements) == measurements
    assert read_measurements(tmp_path / "measurements") == sets
    assert sorted(path.name for path in (tmp_path / "measurements").iterdir()) == ["0001.json", "0002.json"]


def test_samples_lie_beside_it_and_latencies_say_where(tmp_path: Path) -> None:
    memory = Quantity("peak_memory_bytes", 1.0, "bytes", How.MEASURED, TARGET)
    samples = {f"00003 {TARGET}": np.array([0.1, 0.2], np.float32)}
    written = write_measurements(tmp_path / "measurements", taken("all", {3: [latency(0.1), memory]}), samples)
    assert [q.samples_ref for q in written.quantities[3]] == ["measurements/0001.npz", None]
    assert read_measurements(tmp_path / "measurements") == [written]
    with np.load(tmp_path / "measurements/0001.npz") as arrays:
        assert arrays[f"00003 {TARGET}"].tolist() == samples[f"00003 {TARGET}"].tolist()


def test_numbers_go_on_after_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "0007.json").write_text("{}")
    write_measurements(tmp_path, taken("all", {}))
    assert (tmp_path / "0008.json").is_file()


def test_nothing_measured_later_is_no_error(tmp_path: Path) -> None:
    assert read_measurements(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("kind"), "'kind' is missing"),
        (lambda data: data.update(version=2), "the version of measurements must be 1, but got 2"),
        (lambda data: data.update(kind="some"), "'kind' must be all or front, but got 'some'"),
        (lambda data: data.update(quantities=[]), "attribute"),
        (lambda data: data.update(quantities={"x": []}), "invalid literal"),
        (lambda data: data.update(environment=3), "not iterable"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: Any, message: str) -> None:
    write_measurements(tmp_path, taken("all", {0: [latency(0.1)]}))
    path = tmp_path / "0001.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(StudyError, match=rf"{path} cannot be read: .*{message}.*\(delete it; 'nas measure'"):
        read_measurements(tmp_path)


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    write_measurements(tmp_path, taken("all", {0: [latency(0.1)]}))
    (tmp_path / "0001.json").write_text('{"version": 1')
    with pytest.raises(StudyError, match=r"0001\.json cannot be read"):
        read_measurements(tmp_path)


# --- measured anew ---------------------------------------------------------------------------------------------------


def test_the_last_set_that_has_a_trial_gives_its_numbers() -> None:
    records = [record(0, 0.1), record(1, 0.2), record(2, 0.3)]
    sets = [taken("all", {0: [latency(1.0)], 1: [latency(2.0)]}), taken("all", {0: [latency(10.0, "c")]}, "c")]
    found = measured_anew(records, sets)
    assert latencies(found) == [10.0, 2.0, 0.3]
    assert [item.environment["cpu"] for item in found] == ["c", "b", "a"]
    assert found[2] is records[2]
    assert found[0].value("accuracy") == 0.9


def test_the_fronts_turns_do_not_replace_a_record() -> None:
    records = [record(0, 0.1)]
    assert measured_anew(records, [taken("front", {0: [latency(1.0)]})]) == records


def test_only_measured_trials_are_measured_anew() -> None:
    failed = make_record(0, outcome=Outcome.FAILED)
    assert measured_anew([failed], [taken("all", {0: [latency(1.0)]})]) == [failed]


def test_a_new_target_leaves_the_trials_environment() -> None:
    (found,) = measured_anew([record(0, 0.1)], [taken("all", {0: [latency(1.0, target=OTHER)]}, "b", OTHER)])
    assert (found.value(LATENCY), found.value(f"latency_ms@{OTHER}"), found.environment["cpu"]) == (0.1, 1.0, "a")


def test_a_number_goes_where_its_target_no_longer_runs_the_artifact() -> None:
    first = taken("all", {0: [latency(0.5, "a", OTHER)]}, "a", OTHER)
    second = taken("all", {0: [latency(1.0)]}, "b", TARGET, OTHER)
    (found,) = measured_anew([record(0, 0.1)], [first, second])
    assert found.quantity(f"latency_ms@{OTHER}") is None
    assert found.value(LATENCY) == 1.0


# --- in turns --------------------------------------------------------------------------------------------------------


def test_the_last_turns_stand_in_for_the_members() -> None:
    records = [record(0, 0.1), record(1, 0.2)]
    sets = [
        taken("front", {0: [latency(0.11, "a")], 1: [latency(0.22, "a")]}),
        taken("front", {0: [latency(0.12, "a")]}),
    ]
    found = timed_in_turns(records, sets)
    assert {number: item.value(LATENCY) for number, item in found.items()} == {0: 0.12}
    assert found[0].environment == {"cpu": "a"}


@pytest.mark.parametrize(
    ("environment", "counts"), [("a", True), ("b", False), (None, False)], ids=["same", "other", "unknown"]
)
def test_turns_on_another_machine_do_not_count(environment: str | None, counts: bool) -> None:
    found = timed_in_turns([record(0, 0.1)], [taken("front", {0: [latency(0.2, environment)]})])
    assert bool(found) is counts


def test_turns_of_a_target_that_the_record_lacks_do_not_count() -> None:
    assert timed_in_turns([record(0, 0.1)], [taken("front", {0: [latency(0.2, "a", OTHER)]})]) == {}


def test_what_was_measured_after_the_turns_is_newer() -> None:
    records = [record(0, 0.1), record(1, 0.2)]
    turns = taken("front", {0: [latency(0.11, "a")], 1: [latency(0.21, "a")]})
    assert list(timed_in_turns(records, [turns, taken("all", {0: [latency(0.1, "a")]})])) == [1]
    assert list(timed_in_turns(records, [taken("all", {0: [latency(0.1, "a")]}), turns])) == [0, 1]


def test_without_turns_there_are_none() -> None:
    assert timed_in_turns([record(0, 0.1)], [taken("all", {0: [latency(0.2, "a")]})]) == {}
    assert timed_in_turns([record(0, 0.1)], []) == {}


def test_who_cannot_be_told_apart() -> None:
    assert ambiguous_with(latency(0.1, ambiguous_with="3,12")) == (3, 12)
    assert ambiguous_with(latency(0.1)) == ()
    assert in_turns(latency(0.1, in_turns=True))
    assert not in_turns(latency(0.1))


def test_environments_by_fingerprint() -> None:
    failed = make_record(3, outcome=Outcome.FAILED)
    records = [record(0, 0.1), record(1, 0.2, "b"), record(2, 0.3), failed, make_record(4)]
    assert environments(records, LATENCY) == {"a": [0, 2], "b": [1]}
    assert environments(records, "accuracy") == {}
