"""What a terminal shows of a choice, and that importing the package is cheap."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import make_design, make_recipe, make_record, write_study
from rich.console import Console
from served_fakes import OPENVINO, TORCH, make_served

from nas.deploy import Choice, Limits, choose, render_choice
from nas.describe import describe
from nas.outcome import How, Quantity, Realisation
from nas.study import Study


def shown(choice: Choice, study: Study, **options: object) -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(render_choice(choice, study, **options))  # type: ignore[arg-type]
    return capture.get()


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "study", [make_record(0, 0.9, 0.01), make_record(1, 0.95, 0.02)])


def test_design_reason_and_numbers(study: Study) -> None:
    choice = choose(study, Limits(max_latency_ms=0.05))
    lines = [" ".join(line.split()) for line in shown(choice, study).splitlines()]
    assert " ".join(lines).startswith(choice.why)
    assert f"design {describe(choice.record.design)}" in lines
    assert "validation accuracy 95.00 % (94.00 to 96.00)" in lines
    assert "test accuracy 95.00 %" in lines
    assert "latency 0.0200 ms (0.0196 to 0.0204), ONNX Runtime, CPU, 1 thread, batch 1" in lines
    assert "file size 40.0 kB" in lines
    assert "compression pruning ratio realised, weight bits realised" in lines
    assert not any(line.startswith(("baseline", "against", "pruning")) for line in lines)


def compressed_study(folder: Path) -> Study:
    design = make_design(pruning_ratio=0.5, **{"stage1.weight_bits": 8})
    labels = {"pruning_ratio": Realisation.UNSUPPORTED, "stage1.weight_bits": Realisation.SIMULATED}
    trial = make_record(1, 0.91, 0.1, design=design, uncompressed=(0.2, 4e6), labels=labels)
    return write_study(folder / "study", [make_record(0, 0.95, 0.4, origin="baseline"), trial])


def test_gains_and_labels_per_choice(tmp_path: Path) -> None:
    study = compressed_study(tmp_path)
    lines = [" ".join(line.split()) for line in shown(choose(study, Limits(min_accuracy=0.9)), study).splitlines()]
    assert "against trial 0 4.0× faster than the baseline, 4 points less accurate (validation)" in lines
    assert "pruning MACs 4.0× fewer, 2.0× faster than uncompressed" in lines
    assert (
        "compression pruning ratio unsupported (without effect on this network and target), "
        "stage1 weight bits simulated (saves size, not time)"
    ) in lines


def test_the_baseline_is_said_to_be_it(tmp_path: Path) -> None:
    study = compressed_study(tmp_path)
    lines = [" ".join(line.split()) for line in shown(choose(study, Limits(min_accuracy=0.94)), study).splitlines()]
    assert "baseline the baseline itself" in lines


def test_the_latency_that_counted_comes_first(tmp_path: Path) -> None:
    other = "onnxruntime-cpu-2t-b8"
    record = make_record(0, quantities=(Quantity("latency_ms", 0.7, "ms", How.MEASURED, target=other),))
    study = write_study(tmp_path / "study", [record], make_recipe(targets=[other]))
    for target, first in ((None, "0.100 ms"), (other, "0.700 ms")):
        text = shown(choose(study, Limits(target=target)), study)
        latencies = [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("latency")]
        assert len(latencies) == 2
        assert latencies[0].startswith(first)


def rows_of(study: Study, **limits: Any) -> list[str]:
    text = shown(choose(study, Limits(max_latency_ms=0.5, **limits)), study)
    return [" ".join(line.split()) for line in text.splitlines()]


def test_at_a_place_all_targets_are_listed_and_who_serves_is_marked_first(tmp_path: Path) -> None:
    lines = rows_of(make_served(tmp_path / "birds", OPENVINO).study)
    assert [line for line in lines if line.startswith("latency")] == [
        "latency 0.0100 ms (0.00980 to 0.0102), OpenVINO, CPU, 1 thread, batch 1 ← serves cpu-b1",
        "latency 0.0200 ms (0.0196 to 0.0204), ONNX Runtime, CPU, 1 thread, batch 1",
        "latency 0.0200 ms (0.0196 to 0.0204), torch, CPU, 1 thread, batch 1",
    ]
    assert not any(", by " in line for line in lines if line.startswith(("validation", "test", "balanced")))


def test_a_target_beside_those_that_serve_shows_its_file_and_whose_the_accuracy_is(tmp_path: Path) -> None:
    lines = rows_of(make_served(tmp_path / "birds", OPENVINO).study, target=TORCH)
    assert [line.partition("), ")[2] for line in lines if line.startswith("latency")] == [
        "torch, CPU, 1 thread, batch 1 ← this one",
        "ONNX Runtime, CPU, 1 thread, batch 1",
        "OpenVINO, CPU, 1 thread, batch 1 ← serves cpu-b1",
    ]
    scores = [line for line in lines if line.startswith(("validation", "test", "balanced"))]
    assert len(scores) == 4
    assert all(line.endswith("), by OpenVINO") for line in scores)
    assert f"file size {len(b'program 1')} B" in lines
    assert "compression weight bits unsupported (without effect on this network and target)" in lines


def test_test_accuracy_that_is_not_there_is_not_invented(study: Study) -> None:
    study.folder.test_scores.unlink()
    opened = Study.open(study.folder.path)
    choice = choose(opened, Limits())
    assert "not scored yet" in shown(choice, opened)
    scores = {"test_accuracy": Quantity("test_accuracy", 0.875, "1", How.MEASURED)}
    assert "87.50 %" in shown(choice, opened, test_scores=scores)


def test_names_are_no_markup(study: Study) -> None:
    choice = choose(study, Limits())
    odd = Quantity("test_[/x]", 0.5, "1", How.MEASURED)
    record = replace(choice.record, labels={"[/y]": Realisation.REALISED})
    study.folder.test_scores.unlink()
    opened = Study.open(study.folder.path)
    text = shown(replace(choice, why="[red]not a colour[/red]", record=record), opened, test_scores={"odd": odd})
    for part in ("[red]not a colour[/red]", "test [/x]", "[/y] realised"):
        assert part in text


def test_importing_is_cheap() -> None:
    heavy = ("torch", "optuna", "onnx", "onnxruntime", "PIL", "rich", "matplotlib", "plotly", "sklearn", "pandas")
    script = f"import sys, nas.deploy; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
