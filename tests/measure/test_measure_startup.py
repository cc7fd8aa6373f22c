from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_models import tiny_artifact

from nas.errors import ArtifactError, UnsupportedError
from nas.measure.startup import PROCESSES, measure_startup
from nas.measure.target import Target, usable_cores
from nas.outcome import How

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
IMAGES = np.zeros((2, 4, 4, 1), np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_artifact())
    return path


def test_load_time_and_memory_of_a_fresh_process(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('a file of the caller passed for numpy')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    held = np.ones(200_000_000 // 8)  # 200 MB here must not show in the other process
    load, peak = measure_startup(model, TARGET, IMAGES, "abc")
    assert held.sum() > 0
    assert (load.key, peak.key) == (f"load_ms@{TARGET.name}", f"peak_memory_bytes@{TARGET.name}")
    assert (load.unit, peak.unit, load.how, peak.how) == ("ms", "bytes", How.MEASURED, How.MEASURED)
    assert load.environment_id == peak.environment_id == "abc"
    for quantity in (load, peak):
        assert quantity.detail["processes"] == PROCESSES
        assert 0 < quantity.detail["least"] <= quantity.value <= quantity.detail["largest"]  # type: ignore[operator]
    assert 10_000_000 < peak.detail["baseline_bytes"] < peak.value < 200_000_000  # type: ignore[operator]


def test_probe_imports_neither_torch_nor_the_rest_of_the_package() -> None:
    code = "import nas.measure.startup_probe, sys; print(sorted(m for m in sys.modules if m.split('.')[0] in HEAVY))"
    heavy = repr(("torch", "optuna", "onnx", "sklearn", "pydantic", "yaml"))
    done = subprocess.run(
        [sys.executable, "-c", code.replace("HEAVY", heavy)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_does_not_load_is_explained_in_one_line(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ArtifactError, match="failed: ONNX Runtime cannot load the model") as caught:
        measure_startup(broken, TARGET, IMAGES)
    assert "\n" not in str(caught.value)
    with pytest.raises(ArtifactError, match=r"there is no model file .*absent\.onnx"):
        measure_startup(tmp_path / "absent.onnx", TARGET, IMAGES)
    with pytest.raises(ArtifactError, match=r"failed: .*[Uu]nexpected input data type"):
        measure_startup(model, TARGET, IMAGES.astype(np.float32))


def test_time_limit_is_an_error(model: Path) -> None:
    with pytest.raises(ArtifactError, match=r"took longer than 0\.001 s"):
        measure_startup(model, TARGET, IMAGES, timeout_seconds=0.001)


def test_bad_requests_are_refused(model: Path) -> None:
    with pytest.raises(UnsupportedError, match="threads, but this process may use"):
        measure_startup(model, Target("onnxruntime", "cpu", usable_cores() + 1, 1), IMAGES)
    with pytest.raises(ValueError, match="at least one image"):
        measure_startup(model, TARGET, IMAGES[:0])
