"""Numbers and names as a person reads them."""

from __future__ import annotations

import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study

from nas.objectives import Constraint
from nas.outcome import How, Quantity
from nas.report.numbers import (
    constraint_words,
    display,
    frames_per_second,
    human,
    latency_targets,
    plural,
    significant,
    target_words,
    title,
)


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.03124, 3, "0.0312"),
        (3.12, 3, "3.12"),
        (312.4, 3, "312"),
        (31249.0, 3, "31200"),
        (0.09996, 3, "0.100"),
        (9.996, 3, "10.0"),
        (0.0, 3, "0"),
        (-0.5, 2, "-0.50"),
        (2.71, 1, "3"),
    ],
)
def test_significant_digits(value: float, digits: int, expected: str) -> None:
    assert significant(value, digits) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_059_880, "", "1.06 M"),
        (45_100, "bytes", "45.1 kB"),
        (820, "bytes", "820 B"),
        (999, "", "999"),
        (999_700, "", "1.00 M"),
        (7, "", "7"),
        (0.5, "", "0.500"),
        (2.3e9, "", "2.30 G"),
        (4e12, "", "4.00 T"),
    ],
)
def test_human_units(value: float, unit: str, expected: str) -> None:
    assert human(value, unit) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accuracy", 0.98333, "98.33 %"),
        ("test_accuracy", 0.5, "50.00 %"),
        ("latency_ms", 0.03124, "0.0312 ms"),
        ("size_bytes", 45_100, "45.1 kB"),
        ("flops", 1_059_880, "1.06 M"),
        ("something_else", 12.34, "12.3"),
    ],
)
def test_display(name: str, value: float, expected: str) -> None:
    assert display(name, value) == expected


def test_targets_in_words() -> None:
    assert target_words(TARGET) == "ONNX Runtime, CPU, 1 thread, batch 1"
    assert target_words("onnxruntime-cpu-4t-b16") == "ONNX Runtime, CPU, 4 threads, batch 16"


def test_titles() -> None:
    assert title(LATENCY) == "latency (ms)"
    assert title("test_balanced_accuracy") == "test balanced accuracy"


def test_constraints_in_words() -> None:
    assert constraint_words(Constraint.parse("size_bytes <= 100000")) == "file size at most 100 kB"
    assert constraint_words(Constraint.parse("accuracy >= 0.9")) == "validation accuracy at least 90.00 %"


def test_frames_per_second_counts_the_batch() -> None:
    latency = Quantity("latency_ms", 4.0, "ms", How.MEASURED, target="onnxruntime-cpu-2t-b16")
    assert frames_per_second(latency) == pytest.approx(1000 * 16 / 4)
    with pytest.raises(ValueError, match="need a latency on a target, but got macs"):
        frames_per_second(Quantity("macs", 1.0, "MAC", How.COUNTED))


def test_the_objectives_targets_come_first(tmp_path) -> None:
    recipe = make_recipe(objectives=["accuracy", LATENCY], targets=["onnxruntime-cpu-2t-b1", TARGET])
    study = write_study(tmp_path / "study", [make_record(0)], recipe)
    assert latency_targets(study) == [TARGET, "onnxruntime-cpu-2t-b1"]


def test_plural() -> None:
    assert [plural(n, "trial") for n in (0, 1, 2000)] == ["0 trials", "1 trial", "2,000 trials"]
