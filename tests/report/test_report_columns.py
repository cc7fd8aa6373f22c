"""The columns of the front's numbers, and what they are of."""

from __future__ import annotations

from pathlib import Path

from fakes import LATENCY, TARGET, make_recipe, make_record, write_study

from nas.report.columns import latency_targets


def test_the_objectives_targets_come_first(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", LATENCY], targets=["onnxruntime-cpu-2t-b1", TARGET])
    study = write_study(tmp_path / "study", [make_record(0)], recipe)
    assert latency_targets(study) == [TARGET, "onnxruntime-cpu-2t-b1"]
