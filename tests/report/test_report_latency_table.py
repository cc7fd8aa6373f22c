"""Latencies as a table: at eighty characters, with marks that are explained, and nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.console import Console

from nas.outcome import How, Quantity
from nas.report.latency_table import Row, latency_table, overlapping

ORT1, OV1 = "onnxruntime-cpu-1t-b1", "openvino-cpu-1t-b1"


def latency(value: float = 0.25, **detail: float | bool | str) -> Quantity:
    known = {"p95": 1.1 * value, "iqr": 0.015 * value, "samples": 400, "unstable": False}
    return Quantity("latency_ms", value, "ms", How.MEASURED, ORT1, 0.999 * value, 1.002 * value, detail=known | detail)


def startup() -> tuple[Quantity, Quantity]:
    load = Quantity("load_ms", 9.153, "ms", How.MEASURED, ORT1)
    return load, Quantity("peak_memory_bytes", 68_040_000, "bytes", How.MEASURED, ORT1)


def printed(what: str, rows: Sequence[Row], width: int = 80) -> list[str]:
    console = Console(width=width, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        console.print(latency_table(what, rows))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_files_table_says_everything_within_eighty_characters() -> None:
    lines = printed("Target", [Row(ORT1, latency(0.00954), *startup()), Row(OV1, latency(12.3), *startup())])
    assert lines[0].split() == ["Target", "ms", "95", "%", "interval", "p95", "IQR", "Load", "Memory"]
    assert lines[1].split() == [
        ORT1, "0.00954", "0.00953–0.00956", "0.0105", "1.5", "%", "9.15", "ms", "68.0", "MB"
    ]  # fmt: skip
    assert lines[2].split()[0] == OV1
    assert len(lines) == 3, "nothing is wrong, so there are no notes"
    assert max(map(len, lines)) <= 80


def test_a_long_name_is_folded_and_not_cut() -> None:
    name = "onnxruntime-cuda-b1024-fp16"
    lines = printed("Target", [Row(name, latency(), *startup())])
    assert max(map(len, lines)) <= 80
    assert "".join(line.split()[0] for line in lines[1:]) == name


def test_trials_have_no_columns_for_what_was_not_measured() -> None:
    lines = printed("Trial", [Row("12", latency())])
    assert lines[0].split() == ["Trial", "ms", "95", "%", "interval", "p95", "IQR"]
    assert lines[1].split() == ["12", "0.250", "0.2497–0.2505", "0.275", "1.5", "%"]


def test_marks_are_explained_with_the_rows_that_have_them() -> None:
    rows = [
        Row("3", latency(0.010, overhead_bound=True, overhead_ms=0.005), overlaps=("7",)),
        Row("7", latency(0.0101, overhead_bound=True, overhead_ms=0.005, unstable=True), overlaps=("3", "9")),
        Row("9", latency(0.0102, unstable=True, why_unstable="load, pace"), overlaps=("7",)),
        Row("20", latency(0.2)),
    ]
    lines = printed("Trial", rows)
    assert [line.split()[1] for line in lines[1:5]] == ["0.0100≈°", "0.0101≈°~", "0.0102≈~", "0.200"]
    assert lines[5:] == [
        "≈ intervals overlap: 3 and 7, 7 and 9",
        "° overhead-bound, within 3 times of a call that computes nothing (0.00500 ms): 3",
        "and 7",
        "~ unstable while it was measured: 7 (spread), 9 (load, pace)",
    ]


def test_what_a_call_costs_where_it_differs() -> None:
    rows = [Row(str(n), latency(0.01, overhead_bound=True, overhead_ms=cost)) for n, cost in enumerate((0.004, 0.011))]
    assert any("(0.00400 to 0.0110 ms): 0 and 1" in line for line in printed("Trial", rows, 120))


@pytest.mark.parametrize(
    ("members", "pairs"),
    [
        ({}, []),
        ({"1": (), "2": ()}, []),
        ({"1": ("2",), "2": ("1",)}, [("1", "2")]),
        ({"5": ("1", "2"), "1": ("5",), "2": ("5",)}, [("5", "1"), ("5", "2")]),
        ({"1": ("9",)}, []),  # which is no row
    ],
)
def test_every_pair_once(members: dict[str, tuple[str, ...]], pairs: list[tuple[str, str]]) -> None:
    assert overlapping(members) == pairs
