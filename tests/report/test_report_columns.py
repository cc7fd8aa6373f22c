"""The columns of the front's numbers, and what they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import LATENCY, TARGET, make_design, make_recipe, make_record, write_study
from rich.console import Console

from nas.outcome import Realisation
from nas.record import TrialRecord
from nas.report.columns import Column, front_notes, latency_targets, number_columns, table_rows
from nas.report.table import front_table
from nas.report.target_names import server_name, short_targets
from nas.study import Study
from nas.target import Target


def make_study(folder: Path, baseline_accuracy: float = 0.5, **recipe) -> Study:
    """A front of trials 1 and 2, the second pruned, and a baseline that is slower than both."""
    pruned = make_record(2, 0.9, 0.2, design=make_design(pruning_ratio=0.5), uncompressed=(0.4, 7e6))
    records = [make_record(0, baseline_accuracy, 0.4, origin="baseline"), make_record(1, 0.8, 0.1), pruned]
    return write_study(folder / "study", records, make_recipe(**recipe))


def column(study: Study, key: str, **options: bool) -> Column:
    return next(column for column in number_columns(study, **options) if column.key == key)


def test_the_objectives_targets_come_first(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", LATENCY], targets=["onnxruntime-cpu-2t-b1", TARGET])
    study = write_study(tmp_path / "study", [make_record(0)], recipe)
    assert latency_targets(study) == [TARGET, "onnxruntime-cpu-2t-b1"]


def test_a_baseline_off_the_front_is_the_last_row(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    assert [record.number for record in table_rows(study)] == [1, 2, 0]
    assert [record.number for record in study.front] == [1, 2]
    assert column(study, "").cells == ["1", "2", "base"]
    assert "base: trial 0, the baseline, beside the front and not on it; speeds are told against it." in (
        front_notes(study)
    )


def test_a_baseline_on_the_front_keeps_its_place(tmp_path: Path) -> None:
    study = make_study(tmp_path, baseline_accuracy=0.99)
    assert [record.number for record in table_rows(study)] == [1, 2, 0]
    assert study.front == table_rows(study)
    assert column(study, "").cells[-1] == "base"
    assert "base: trial 0, the baseline; speeds are told against it." in front_notes(study)


def test_speed_against_the_baseline(tmp_path: Path) -> None:
    speed = column(make_study(tmp_path), f"speed_up@{TARGET}")
    assert speed.cells == ["4.0×", "2.0×", "1.0×"]
    assert [speed.below(row) for row in range(3)] == ["4.0× faster than base", "2.0× faster than base", ""]


def test_no_speed_without_a_baseline_or_with_nothing_beside_it(tmp_path: Path) -> None:
    without = write_study(tmp_path / "without", [make_record(0), make_record(1, 0.99, 0.2)])
    alone = write_study(tmp_path / "alone", [make_record(0, origin="baseline")])
    for study in (without, alone):
        assert not any(column.key.startswith("speed_up") for column in number_columns(study))
    assert not any("baseline" in note for note in front_notes(without))


def test_the_gain_of_what_was_pruned_stands_beside_that_in_multiply_adds(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    gain = column(study, f"gain@{TARGET}")
    assert gain.cells == ["", "3.5, 2.0", ""]
    assert [gain.below(row) for row in range(3)] == ["", "MACs 3.5× fewer, 2.0× faster than uncompressed", ""]
    assert any(note.startswith("Gain over uncompressed: ") for note in front_notes(study))


def test_no_gain_where_nothing_was_pruned(tmp_path: Path) -> None:
    study = write_study(tmp_path / "plain", [make_record(0), make_record(4)])
    assert not any(column.key.startswith("gain") for column in number_columns(study))
    assert not any("uncompressed" in note for note in front_notes(study))


def test_several_targets_have_their_own(tmp_path: Path) -> None:
    columns = number_columns(make_study(tmp_path, targets=["onnxruntime-cpu-2t-b1"]))
    shown = [column for column in columns if column.key.startswith(("speed_up", "gain"))]
    assert [column.title for column in shown] == ["Speed 1t-b1", "Gain 1t-b1"]  # nothing was measured on the other
    assert shown[0].below(0) == "4.0× faster than base 1t-b1"


@pytest.mark.parametrize(
    ("compression", "recipe", "everything", "there"),
    [
        ({}, {}, False, False),
        ({"sparsity": 0.9}, {}, False, True),
        ({}, {"objectives": ["accuracy", "compressed_size_bytes"]}, False, True),
        ({}, {"constraints": ["compressed_size_bytes <= 1e6"]}, False, True),
        ({}, {}, True, True),
    ],
)
def test_the_size_of_the_compressed_file_where_it_tells_something(
    tmp_path: Path, compression: dict, recipe: dict, everything: bool, there: bool
) -> None:
    record = make_record(0, design=make_design(**compression))
    study = write_study(tmp_path / "study", [record], make_recipe(**recipe))
    found = [c for c in number_columns(study, everything) if c.key == "compressed_size_bytes"]
    assert [(c.title, c.unit, c.cells, c.below(0)) for c in found] == (
        [("Size", "zipped", ["30.0 kB"], "Size 30.0 kB zipped")] if there else []
    )


def test_labels_name_what_stages_have_and_also_the_baselines(tmp_path: Path) -> None:
    labels = {"stage2.weight_bits": Realisation.SIMULATED, "pruning_ratio": Realisation.UNSUPPORTED}
    baseline = replace(make_record(0, 0.5, 0.4, origin="baseline"), labels={"sparsity": Realisation.SIMULATED})
    study = write_study(tmp_path / "study", [baseline, replace(make_record(1, 0.8, 0.1), labels=labels)])
    notes = front_notes(study)
    assert "† sparsity, stage2.weight_bits: only simulated on this target: saves size, not time." in notes
    assert "‡ pruning_ratio: without effect, as the network or this target does not allow it." in notes
    assert column(study, "").cells == ["†‡1", "†base"]


def test_an_empty_front_has_no_rows(tmp_path: Path) -> None:
    study = make_study(tmp_path, constraints=[f"{LATENCY} <= 0.001"])
    assert table_rows(study) == []


# --- timed in turns, bound by the cost of a call, served at a place --------------------------------------------------


def with_latency(record: TrialRecord, key: str = LATENCY, **detail: float | str | bool) -> TrialRecord:
    """The record with more in the detail of its latency."""
    quantities = (replace(q, detail={**q.detail, **detail}) if q.key == key else q for q in record.quantities)
    return replace(record, quantities=tuple(quantities))


def in_turns_study(folder: Path, *overlaps: tuple[int, str]) -> Study:
    """A front of 1, 2 and 3 that was timed in turns; some name others that they cannot be told apart from."""
    named = dict(overlaps)
    records = []
    for number, (accuracy, latency_ms) in enumerate([(0.5, 0.9), (0.8, 0.1), (0.9, 0.2), (0.95, 0.3)]):
        record = with_latency(make_record(number, accuracy, latency_ms), in_turns=True)
        records.append(with_latency(record, ambiguous_with=named[number]) if number in named else record)
    return write_study(folder / "study", records)


def test_the_spread_of_what_was_timed_in_turns_is_its_interval(tmp_path: Path) -> None:
    study = in_turns_study(tmp_path)
    assert (column(study, LATENCY).unit, column(study, LATENCY).cells[0]) == ("ms ±CI/2", "0.100 ±2%")
    assert front_notes(study)[0].endswith("; ± half the 95 % interval; the front was timed in turns.")
    assert not any("≈" in note for note in front_notes(study))


def test_members_that_cannot_be_told_apart_are_marked_and_named(tmp_path: Path) -> None:
    study = in_turns_study(tmp_path, (1, "2"), (2, "1,3"), (3, "2"))
    assert column(study, LATENCY).cells == ["0.100 ±2%≈", "0.200 ±2%≈", "0.300 ±2%≈"]
    assert "≈ intervals overlap: trials 1 and 2; trials 2 and 3." in front_notes(study)


def test_a_trial_that_is_no_row_makes_nobody_ambiguous(tmp_path: Path) -> None:
    study = in_turns_study(tmp_path, (1, "0"), (2, "77"))
    assert column(study, LATENCY).cells == ["0.100 ±2%", "0.200 ±2%", "0.300 ±2%"]
    assert not any("≈" in note for note in front_notes(study))


def test_of_many_pairs_some_are_named(tmp_path: Path) -> None:
    numbers = range(1, 6)
    records = [
        with_latency(
            make_record(n, 0.9 + n / 100, 0.1 + n / 1000),
            in_turns=True,
            ambiguous_with=",".join(str(other) for other in numbers if other != n),
        )
        for n in numbers
    ]
    (note,) = (note for note in front_notes(write_study(tmp_path / "study", records)) if note.startswith("≈"))
    assert note.count(" and ") == 7
    assert note.endswith("; and 4 more pairs.")


def test_a_ratio_of_what_is_overhead_bound_is_no_gain(tmp_path: Path) -> None:
    pruned = make_record(1, 0.9, 0.02, design=make_design(pruning_ratio=0.5), uncompressed=(0.04, 7e5))
    records = [
        make_record(0, 0.95, 0.05, origin="baseline"),
        with_latency(pruned, overhead_bound=True, overhead_ms=0.01),
    ]
    study = write_study(tmp_path / "study", records)
    assert column(study, LATENCY).cells == ["0.0200 ±2%°", "0.0500 ±2%"]
    speed, gain = column(study, f"speed_up@{TARGET}"), column(study, f"gain@{TARGET}")
    assert (speed.cells, speed.below(0)) == (["(2.5×)", "1.0×"], "overhead-bound")
    assert (gain.cells[0], gain.below(0)) == ("3.5, (2.0)", "MACs 3.5× fewer than uncompressed; overhead-bound")
    assert (
        "° overhead-bound, within 3 times of a call that computes nothing (0.0100 ms): a ratio in parentheses is no "
        "gain of the network's."
    ) in front_notes(study)


OPENVINO = "openvino-cpu-1t-b1"


def served_study(folder: Path) -> Study:
    """A study at a place, where OpenVINO serves trial 1."""
    records = []
    for number, server in enumerate((TARGET, OPENVINO)):
        record = make_record(number, 0.8 + number / 10, 0.1 + number / 10)
        latency = record.quantity(LATENCY)
        assert latency is not None
        other = replace(latency, target=OPENVINO)
        place = replace(latency, target="cpu-b1", detail={**latency.detail, "served_by": server})
        records.append(replace(record, quantities=(*record.quantities, other, place)))
    recipe = make_recipe(objectives=["accuracy", "latency_ms@cpu-b1"], targets=[TARGET, OPENVINO])
    return write_study(folder / "study", records, recipe)


def test_at_a_place_it_is_told_who_serves(tmp_path: Path) -> None:
    study = served_study(tmp_path)
    assert latency_targets(study) == ["cpu-b1", TARGET, OPENVINO]
    assert column(study, "served_by@cpu-b1").cells == ["ort 1t", "openvino 1t"]
    assert column(study, "latency_ms@cpu-b1").title == "Latency cpu-b1"
    assert column(study, f"latency_ms@{OPENVINO}").title == "Latency openvino 1t-b1"
    assert column(study, "fps@cpu-b1").cells == ["10.0 k", "5.00 k"]
    assert not [c.key for c in number_columns(study) if c.key == f"fps@{OPENVINO}"], "which the recipe compares nowhere"
    assert front_notes(study)[0].startswith(
        "Latency: median on the fastest target, CPU, batch 1 (cpu-b1); ONNX Runtime, CPU,"
    )


def test_what_was_measured_on_other_targets_later_has_columns_too(tmp_path: Path) -> None:
    record = make_record(0)
    latency = record.quantity(LATENCY)
    assert latency is not None
    later = replace(latency, target=OPENVINO, value=0.7, low=0.69, high=0.71)
    study = write_study(tmp_path / "study", [replace(record, quantities=(*record.quantities, later))])
    assert latency_targets(study) == [TARGET, OPENVINO]
    assert column(study, f"latency_ms@{OPENVINO}").cells == ["0.700 ±0.3%"]
    assert column(study, f"latency_ms@{OPENVINO}").title == "Latency openvino"


@pytest.mark.parametrize(
    ("targets", "short"),
    [
        ([TARGET], ["1t-b1"]),
        ([TARGET, "onnxruntime-cpu-2t-b8"], ["1t-b1", "2t-b8"]),
        ([TARGET, OPENVINO], ["ort", "openvino"]),
        ([TARGET, "openvino-cpu-2t-b1"], ["ort 1t-b1", "openvino 2t-b1"]),
        (["torch-cuda-b1", "torch-cuda-b1-fp16"], ["b1", "b1-fp16"]),
        (["torch-cpu-1t-b1", "torch-cuda-b1-fp16"], ["torch 1t-b1", "torch cuda-b1-fp16"]),
        (["cpu-b1", TARGET], ["cpu-b1", "ort 1t-b1"]),
        (["cuda-b8", "cpu-b1", TARGET, "tensorrt-cuda-b8"], ["cuda-b8", "cpu-b1", "ort 1t-b1", "tensorrt cuda-b8"]),
        ([], []),
    ],
)
def test_what_tells_targets_apart(targets: list[str], short: list[str]) -> None:
    assert list(short_targets(targets).values()) == short


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (TARGET, "ort 1t"),
        ("openvino-cpu-2t-b1-bf16", "openvino 2t bf16"),
        ("torch-cuda-b8-fp16", "torch fp16"),
        ("tensorrt-cuda-b1", "tensorrt"),
    ],
)
def test_a_place_says_device_and_batch_of_what_serves_there(target: str, name: str) -> None:
    assert server_name(Target.parse(target)) == name


def test_the_objectives_of_a_place_fit_on_a_line_of_80(tmp_path: Path) -> None:
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(front_table(served_study(tmp_path)))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    heading = next(line for line in lines if line.startswith("Trial"))
    assert heading.split()[1:] == ["Accuracy", "Accuracy", "Latency", "cpu-b1", "fps", "cpu-b1", "Served", "by"]
    assert "Latency ort 1t-b1 0.100 ±2% (ms) · Latency openvino 1t-b1 0.100 ±2% (ms)" in " ".join(
        " ".join(lines).split()
    )
