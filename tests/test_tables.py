"""Complete tables of designs: how they are read and asked, how the one on digits is made, and that it is whole."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks import digits_table
from benchmarks.tables import Table, describe, digits_space, nas_bench_201, read_table
from benchmarks.tables import digits_table as read_digits
from rich.console import Console

from nas.choice import Choice
from nas.errors import NasError
from nas.measure.clock import Policy
from nas.measure.measurer import Measurer
from nas.outcome import How, Quantity
from nas.space import load_space
from nas.store import Store
from nas.target import Target

COLUMNS = (
    Choice("width", "architecture", (8, 16)),
    Choice("ratio", "compression", (0.0, 0.5)),
    Choice("steps", "compression", (1, 3), {"ratio": (0.5,)}),
    Choice("aware", "compression", (False, True), {"steps": (3,)}),
)
HEADER = "width,ratio,steps,aware,accuracy,latency_ms"
LINES = ("8,0,,,0.7,1", "16,0,,,0.9,4", "8,0.5,1,,0.6,2", "8,0.5,3,true,0.9,3", "8,0.5,3,false,,0.5")


def read(folder: Path, *lines: str, header: str = HEADER) -> Table:
    path = folder / "table.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return read_table(path, "small", COLUMNS)


def test_a_line_is_a_design_of_its_active_choices_and_its_values(tmp_path: Path) -> None:
    table = read(tmp_path, *LINES)
    assert len(table) == 5
    assert [dict(row) for row in table.rows[1:4]] == [
        {"width": 16, "ratio": 0.0},
        {"width": 8, "ratio": 0.5, "steps": 1},
        {"width": 8, "ratio": 0.5, "steps": 3, "aware": True},
    ]
    assert isinstance(table.rows[0]["ratio"], float)  # the choice's own spelling, not the cell's
    assert table.rows[4]["aware"] is False
    np.testing.assert_array_equal(
        table.points(["latency_ms", "accuracy"]), [[1, 0.7], [4, 0.9], [2, 0.6], [3, 0.9], [0.5, np.nan]]
    )


def test_a_design_is_found_by_its_choices_whatever_their_order(tmp_path: Path) -> None:
    table = read(tmp_path, *LINES)
    for number, row in enumerate(table.rows):
        assert table.find(dict(reversed(row.items()))) == number
    with pytest.raises(NasError, match="has no design"):
        table.find({"width": 16, "ratio": 0.5, "steps": 1})
    with pytest.raises(NasError, match=r"'wdth'.*did you mean 'width'"):
        table.find({"wdth": 8, "ratio": 0.0})


def test_the_front_is_what_no_design_beats_and_leaves_out_what_is_unknown(tmp_path: Path) -> None:
    table = read(tmp_path, *LINES)
    assert list(table.front(["accuracy", "latency_ms"], [True, False])) == [0, 3]  # 4 is the fastest, but not scored
    with pytest.raises(NasError, match="did you mean 'accuracy'"):
        table.front(["acuracy", "latency_ms"], [True, False])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("8,0,1,,0.7,1", r"line 2: 'steps' is inactive and must be empty, but got '1'"),
        ("8,0.5,,,0.7,1", r"line 2: 'steps' must have a value, but got ''"),
        ("8,0.25,,,0.7,1", r"line 2: choice 'ratio' must be one of .*, but got 0.25"),
        ("8,0,,,high,1", r"line 2: 'accuracy' must be a number, but got 'high'"),
        ("8,0,,,0.7", r"line 2 must have 6 cells, but has 5"),
    ],
)
def test_a_line_that_is_no_design_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(NasError, match=message):
        read(tmp_path, line)


def test_a_design_that_stands_twice_a_missing_column_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NasError, match="line 4 is the design of line 2 again"):
        read(tmp_path, LINES[0], LINES[1], "8,0.0,,,0.8,2")
    with pytest.raises(NasError, match=r"no column 'width'.*columns: wide, ratio"):
        read(tmp_path, *LINES, header=HEADER.replace("width", "wide"))
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(b"width,ratio\n" * 50)[:-9])
    with pytest.raises(NasError, match=r"torn\.csv\.gz cannot be read"):
        read_table(tmp_path / "torn.csv.gz", "torn", COLUMNS)


def test_cells_of_nas_bench_201_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv.gz"
    header = "arch_idx,op0,op1,op2,op3,op4,op5,cifar10_val_accuracy,latency_ms_raspi4"
    first = "0,avg_pool_3x3,nor_conv_1x1,skip_connect,nor_conv_1x1,skip_connect,skip_connect,81.9827,10.48198"
    second = "1,nor_conv_3x3,nor_conv_3x3,none,skip_connect,nor_conv_3x3,skip_connect,90.7693,54.7774"
    path.write_bytes(gzip.compress("\n".join([header, first, second]).encode()))
    table = nas_bench_201(path)
    assert dict(table.rows[1])["op2"] == "none"
    assert list(table.values) == ["cifar10_val_accuracy", "latency_ms_raspi4"]
    assert list(table.front(["cifar10_val_accuracy", "latency_ms_raspi4"], [True, False])) == [0, 1]
    assert "  front of cifar10_val_accuracy and latency_ms_raspi4: 2 designs" in describe(table)


def test_the_digits_table_holds_every_design_of_its_space_with_every_value() -> None:
    table, space = read_digits(), digits_space()
    assert [dict(row) for row in table.rows] == [
        {choice.name: ({**d.architecture, **d.compression})[choice.name] for choice in space.choices
         if choice.name in d.architecture or choice.name in d.compression}
        for d in space.designs()
    ]  # fmt: skip
    assert tuple(table.values) == digits_table.MEASURED
    assert not any(np.isnan(values).any() for values in table.values.values())


def test_values_of_the_digits_table_hang_together() -> None:
    """What must hold whatever the machine: counts follow from the choices, and accuracy is a share of the images."""
    table = read_digits()
    accuracy = table.values["accuracy"] * 539
    np.testing.assert_allclose(accuracy, accuracy.round(), atol=0.01)
    assert min(values.min() for name, values in table.values.items() if name != "unstable") > 0
    architecture = [column.name for column in table.columns if column.group == "architecture"]
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, row in enumerate(table.rows):
        groups.setdefault(tuple(row.get(name) for name in architecture), []).append(number)
    for numbers in groups.values():
        for rung in ("rung_accuracy_2", "rung_accuracy_7", "train_seconds"):
            assert len(set(table.values[rung][numbers])) == 1
        rows = {(table.rows[n]["pruning_ratio"], table.rows[n]["weight_bits"]): n for n in numbers}
        for ratio in (0.0, 0.25, 0.5, 0.75):
            of_bits = [rows[ratio, bits] for bits in (4, 8, 32)]
            assert len(set(table.values["flops"][of_bits])) == 1
            small, middle, large = table.values["size_bytes"][of_bits]
            if large > 30_000:  # in a smaller file scales and the graph take more than bits save
                assert small < middle < large / 2
        flops = [table.values["flops"][rows[ratio, 32]] for ratio in (0.0, 0.25, 0.5, 0.75)]
        assert flops == sorted(flops, reverse=True)
        assert flops[-1] < flops[0]


def test_on_the_digits_table_accuracy_latency_and_size_pull_in_different_directions() -> None:
    """Else a search on it would show nothing: one objective would decide the others."""
    table = read_digits()
    front = table.front(["accuracy", "latency_ms"], [True, False])
    assert 10 <= len(front) <= 0.05 * len(table)
    chosen = [table.rows[number] for number in front]
    assert len({row["weight_bits"] for row in chosen}) > 1
    assert len({row["pruning_ratio"] for row in chosen}) > 1
    assert np.ptp(table.values["accuracy"][front]) > 0.1
    latencies = table.values["latency_ms"][front]
    assert latencies.max() > 2 * latencies.min()


# The maker of the table, on two designs and few epochs.

TINY = """
family: convnet
architecture:
  stem.width: [8]
  stem.stride: [2]
  stages: [1]
  stage1.conv: [separable]
  stage1.width: [8]
  stage1.pooling: [max]
  head.pooling: [average]
  head.hidden: [0]
compression:
  pruning_ratio: [0.0, 0.5]
  pruning_rounding: {values: [4], when: {pruning_ratio: [0.5]}}
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a table of two designs that train for two epochs."""
    space = tmp_path / "tiny.yaml"
    space.write_text(TINY)
    monkeypatch.setattr(digits_table, "SPACE", space)
    monkeypatch.setattr(digits_table, "EPOCHS", 2)
    monkeypatch.setattr(digits_table, "FINETUNE_EPOCHS", 1)
    monkeypatch.setattr(digits_table, "RUNGS", (1, 2))
    return tmp_path


QUIET = Console(quiet=True)


def test_made_rows_are_whole_and_a_design_costs_what_it_would_by_itself(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits_table, "MEASURED", ("accuracy", "rung_accuracy_2", "latency_ms", "train_seconds"))
    digits_table.make(tiny, QUIET)
    first, second = rows = digits_table.Lines(tiny / "rows.jsonl").read()
    assert first["accuracy"] == first["rung_accuracy_2"]  # the uncompressed network, after as many epochs
    assert first["train_seconds"] == second["train_seconds"] > 0  # shared, and so in both
    assert second["compress_seconds"] > first["compress_seconds"]  # it is pruned and trained on beside its export
    assert second["flops"] < first["flops"]

    digits_table.make(tiny, QUIET)  # nothing is left to do
    assert digits_table.Lines(tiny / "rows.jsonl").read() == rows

    (tiny / "rows.jsonl").unlink()  # killed before any row was kept, and before the costs were: made once more
    (tiny / "stages.jsonl").unlink()
    digits_table.make(tiny, QUIET)
    again = digits_table.Lines(tiny / "rows.jsonl").read()
    same = ("design", "artifact", "accuracy", "test_accuracy", "rung_accuracy_1", "size_bytes", "flops")
    assert [[row[name] for name in same] for row in again] == [[row[name] for name in same] for row in rows]
    assert again[0]["train_seconds"] > 0

    with pytest.raises(SystemExit, match="was not timed yet"):
        digits_table.write(tiny, tiny / "table.csv.gz", QUIET)
    for row, latency in zip(again, (0.5, 0.25), strict=True):
        reading = {"artifact": row["artifact"], "latency_ms": latency, "unstable": False, "seconds": 0.1}
        digits_table.Lines(tiny / "latencies.jsonl").add([reading])
    digits_table.write(tiny, tiny / "table.csv.gz", QUIET)
    table = read_table(tiny / "table.csv.gz", "tiny", load_space(str(tiny / "tiny.yaml")).choices)
    assert list(table.values["latency_ms"]) == [0.5, 0.25]
    np.testing.assert_allclose(table.values["accuracy"], [row["accuracy"] for row in again], rtol=1e-4)


def test_a_line_that_was_torn_off_is_dropped_before_the_next_is_added(tmp_path: Path) -> None:
    lines = digits_table.Lines(tmp_path / "rows.jsonl")
    assert lines.read() == []
    lines.add([{"a": 1}, {"a": 2}])
    with lines.path.open("ab") as file:
        file.write(b'{"a": 3')
    assert lines.read() == [{"a": 1}, {"a": 2}]
    lines.add([{"a": 4}])
    assert [json.loads(line) for line in lines.path.read_text().splitlines()] == [{"a": 1}, {"a": 2}, {"a": 4}]


def test_a_latency_is_the_median_of_undisturbed_readings_or_the_fastest_of_the_disturbed(tmp_path: Path) -> None:
    readings = [("a", 1.0, False), ("a", 5.0, True), ("a", 2.0, False), ("b", 3.0, True), ("b", 2.5, True)]
    digits_table.Lines(tmp_path / "latencies.jsonl").add(
        [{"artifact": name, "latency_ms": ms, "unstable": bad, "seconds": 0.1} for name, ms, bad in readings]
    )
    found = digits_table.latencies(tmp_path)
    assert found["a"] == {"latency_ms": 1.5, "unstable": 0.0, "seconds": 0.1}
    assert found["b"] == {"latency_ms": 2.5, "unstable": 1.0, "seconds": 0.1}


class Timer(Measurer):
    """Gives an artifact's first byte as its latency, disturbed as often as a test says."""

    machine_name = "one"

    def __init__(self, disturbed: dict[bytes, int]) -> None:
        self.disturbed = disturbed
        self.timed: list[bytes] = []

    def __call__(self, policy: Policy) -> Timer:
        return self

    def close(self) -> None:
        pass

    def environment_id(self, target: Target) -> str:
        return self.machine_name

    def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        self.timed.append(content)
        left = self.disturbed.get(content, 0)
        self.disturbed[content] = left - 1
        detail = {"unstable": left > 0, "slowdown": 1.0}
        return Quantity("latency_ms", float(content[0]), "ms", How.MEASURED, detail=detail), np.zeros(0)


def test_what_was_disturbed_is_timed_again_and_all_of_it_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "cache", digits_table.STORE_BYTES)
    contents = [b"1", b"2", b"3"]
    entries = [store.put(f"design-{content.decode()}", content, {}) for content in contents]
    digits_table.Lines(tmp_path / "rows.jsonl").add([{"artifact": entry.sha256} for entry in (*entries, entries[0])])
    monkeypatch.setattr(digits_table, "Measurer", timer := Timer({b"2": 2}))
    counts = []
    for anew in (False, False, False, False, True):
        before = len(timer.timed)
        digits_table.measure(tmp_path, anew, QUIET)
        counts.append(len(timer.timed) - before)
    assert counts == [3, 1, 1, 0, 3]  # one file of two designs is timed once; the disturbed one until it is not
    assert len(digits_table.Lines(tmp_path / "latencies-1.jsonl").read()) == 5
    assert digits_table.latencies(tmp_path)[entries[1].sha256]["latency_ms"] == float(ord("2"))

    timer.machine_name = "another"
    with pytest.raises(SystemExit, match="of another machine"):
        digits_table.measure(tmp_path, False, QUIET)
    digits_table.measure(tmp_path, True, QUIET)
    assert {line["environment"] for line in digits_table.Lines(tmp_path / "latencies.jsonl").read()} == {"another"}


def test_cells_keep_five_digits_and_say_what_is_true_or_absent() -> None:
    spelled = [digits_table.cell(value) for value in (None, True, False, 8, 0.25, 1.0, 0.123456789, 416768.0, "max")]
    assert spelled == ["", "true", "false", "8", "0.25", "1", "0.12346", "416768", "max"]


def test_the_deviation_between_two_seeds_is_pooled_over_pairs() -> None:
    assert digits_table.deviation([(0.9, 0.92), (0.5, 0.5)]) == "0.0100 (2 architectures)"  # √((0.02² / 2 + 0) / 2)
    assert digits_table.deviation([]) == "there are none"
