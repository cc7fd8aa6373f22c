"""The columns of the front's numbers, and what they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import LATENCY, TARGET, make_design, make_recipe, make_record, write_study

from nas.outcome import Realisation
from nas.report.columns import Column, front_notes, latency_targets, number_columns, table_rows
from nas.study import Study


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
