"""Load time and memory in fresh processes: on whichever runtime is here, in time, alone on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx_models import tiny_artifact

from nas.errors import ArtifactError, MeasureError, NasError, UnsupportedError
from nas.measure import startup, startup_probe
from nas.measure.runtimes.base import Missing
from nas.measure.startup import PROCESSES, measure_startup
from nas.outcome import How, Quantity
from nas.target import Target, usable_cores

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
OPENVINO = Target.parse("openvino-cpu-1t-b1")
TORCH = Target.parse("torch-cpu-1t-b1")
IMAGES = np.zeros((2, 4, 4, 1), np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_artifact())
    return path


def check(load: Quantity, peak: Quantity, target: Target) -> None:
    """What holds of the two quantities whatever the machine."""
    assert (load.key, peak.key) == (f"load_ms@{target.name}", f"peak_memory_bytes@{target.name}")
    assert (load.unit, peak.unit, load.how, peak.how) == ("ms", "bytes", How.MEASURED, How.MEASURED)
    for quantity in (load, peak):
        assert quantity.detail["processes"] == PROCESSES
        assert 0 < quantity.detail["least"] <= quantity.value <= quantity.detail["largest"]  # type: ignore[operator]
    assert 10_000_000 < peak.detail["baseline_bytes"] < peak.value < 400_000_000  # type: ignore[operator]


def test_load_time_and_memory_of_a_fresh_process(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('a file of the caller passed for numpy')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    held = np.ones(400_000_000 // 8)  # 400 MB here must not show in the other process
    load, peak = measure_startup(Path("model.onnx"), TARGET, IMAGES, "abc")
    assert held.sum() > 0
    check(load, peak, TARGET)
    assert load.environment_id == peak.environment_id == "abc"
    assert "device_peak_bytes" not in peak.detail


def test_the_content_of_a_model_is_as_good_as_its_file_on_another_runtime() -> None:
    try:
        load, peak = measure_startup(tiny_artifact(), OPENVINO, IMAGES)
    except UnsupportedError as missing:
        pytest.skip(missing.message)
    check(load, peak, OPENVINO)


# What a runtime's package loads is loaded before the clock starts; else its time would be called the model's.
LOADS = """
import sys
from pathlib import Path
import numpy as np
from nas.measure import startup_probe
from nas.target import Target
target = Target.parse(sys.argv[1])
images = np.zeros((1, 4, 4, 1), np.uint8)
runtime = startup_probe.prepared(target, images)
before = set(sys.modules)
result = startup_probe.first_output(runtime, Path(sys.argv[2]), images, target)
print()
print(sorted(set(sys.modules) - before), result["load_ms"] > 0)
"""
MAKES = """
import sys
from pathlib import Path
import numpy as np
from nas.measure.runtimes.registry import load_runtime
Path(sys.argv[2]).write_bytes(load_runtime(sys.argv[1]).identity(np.zeros((1, 4, 4, 1), np.uint8)))
"""


def run_code(code: str, *arguments: str) -> str:
    """The last line that a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if "UnsupportedError" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return "".join(done.stdout.splitlines()[-1:])


@pytest.mark.parametrize(
    "target", [TARGET, OPENVINO, pytest.param(TORCH, marks=pytest.mark.slow)], ids=lambda target: target.runtime
)
def test_the_clock_starts_when_packages_are_loaded(target: Target, tmp_path: Path) -> None:
    path = str(tmp_path / "model")
    run_code(MAKES, target.runtime, path)
    assert run_code(LOADS, target.name, path) == "[] True"


class NotHere:
    """A runtime whose package is missing."""

    def missing(self, target: Target) -> Missing:
        return Missing(f"{target.runtime} is not installed", "pip install it")


class Here:
    """A runtime that keeps a log of what is done with it."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def missing(self, target: Target) -> None:
        return None

    def identity(self, images: np.ndarray) -> bytes:
        return b"identity"

    def load(self, content: bytes, target: Target) -> Here:
        self.log.append(f"load {content.decode()} on {target.name}")
        return self

    def run(self, images: np.ndarray) -> None:
        self.log.append(f"run {images.shape}")

    def close(self) -> None:
        self.log.append("close")


@pytest.mark.parametrize(
    ("target", "warmed"),
    [
        ("onnxruntime-cpu-1t-b1", False),
        ("openvino-cpu-1t-b1", False),
        ("torch-cpu-1t-b1", True),
        ("inductor-cpu-1t-b1-bf16", True),
        ("torch-cuda-b1-fp16", True),
        ("onnxruntime-cuda-b1", True),
        ("tensorrt-cuda-b1", True),
    ],
)
def test_what_a_process_needs_once_is_there_before_the_clock_starts(
    target: str, warmed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    monkeypatch.setattr(startup_probe, "load_runtime", lambda name: Here(log))
    startup_probe.prepared(Target.parse(target), IMAGES)
    assert log == ([f"load identity on {target}", "run (2, 4, 4, 1)", "close"] if warmed else [])


def test_probe_imports_neither_torch_nor_the_rest_of_the_package() -> None:
    code = f"""
import sys
from nas.measure import startup_probe
from nas.target import Target
startup_probe.prepared(Target.parse("{TARGET.name}"), None)
heavy = {{"torch", "optuna", "onnx", "sklearn", "pydantic", "yaml", "openvino"}}
print(sorted(heavy & {{name.partition(".")[0] for name in sys.modules}}), "onnxruntime" in sys.modules)
"""
    assert run_code(code) == "[] True"


def test_what_does_not_load_is_explained_in_one_line(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(
        ArtifactError, match=r"broken\.onnx on onnxruntime.* failed: ONNX Runtime cannot load"
    ) as caught:
        measure_startup(broken, TARGET, IMAGES)
    assert "\n" not in str(caught.value)
    with pytest.raises(ArtifactError, match=r"there is no model file .*absent\.onnx"):
        measure_startup(tmp_path / "absent.onnx", TARGET, IMAGES)
    with pytest.raises(ArtifactError, match=r"failed: .*[Uu]nexpected input data type"):
        measure_startup(model, TARGET, IMAGES.astype(np.float32))


def test_time_limit_is_an_error(model: Path) -> None:
    with pytest.raises(ArtifactError, match=r"on onnxruntime-cpu-1t-b1 in a fresh process took longer than 0\.0001 s"):
        measure_startup(model, TARGET, IMAGES, timeout_seconds=0.0001)


def test_bad_requests_are_refused(model: Path) -> None:
    with pytest.raises(UnsupportedError, match="threads, but this process may use"):
        measure_startup(model, Target("onnxruntime", "cpu", usable_cores() + 1, 1), IMAGES)
    with pytest.raises(ValueError, match="at least one image"):
        measure_startup(model, TARGET, IMAGES[:0])


def test_the_batch_is_the_targets(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def probe(path: Path, images_path: Path, target: Target, seconds: float, what: str) -> dict[str, float]:
        seen.append(np.load(images_path))
        return {"load_ms": len(seen), "peak_memory_bytes": 7, "baseline_bytes": 5, "device_peak_bytes": 10 * len(seen)}

    monkeypatch.setattr(startup, "_probe", probe)
    images = np.arange(2 * 16, dtype=np.uint8).reshape(2, 4, 4, 1)
    load, peak = measure_startup(model, Target("torch", "cuda", None, 3, "fp16"), images)
    for batch in seen:
        np.testing.assert_array_equal(batch, images[[0, 1, 0]])
    assert (load.value, load.target, peak.value) == (2, "torch-cuda-b3-fp16", 7)
    assert peak.detail == {"baseline_bytes": 5, "device_peak_bytes": 20, "least": 7, "largest": 7, "processes": 3}


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ({"error": "UnsupportedError", "message": "no card", "hint": "get one"}, UnsupportedError, r"^no card \(get"),
        ({"error": "MeasureError", "message": "still trains", "hint": ""}, MeasureError, "^still trains$"),
        ({"error": "ArtifactError", "message": "no model", "hint": ""}, ArtifactError, "^it failed: no model$"),
    ],
)
def test_what_a_process_says_is_raised_here(answer: dict[str, str], kind: type[NasError], message: str) -> None:
    with pytest.raises(kind, match=message):
        startup._understood(f"a library's greeting\n{json.dumps(answer)}\n", "it failed")


@pytest.mark.parametrize(
    ("status", "errors", "message"),
    [
        (-11, "", "failed: it was ended by SIGSEGV"),
        (3, "", "failed: exit status 3"),
        (1, "Traceback …\nValueError: no\n", "failed: ValueError: no"),
    ],
)
def test_a_process_that_dies_says_why(
    status: int, errors: str, message: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = SimpleNamespace(returncode=status, stderr=errors, stdout="")
    monkeypatch.setattr(startup.subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(ArtifactError, match=message):
        measure_startup(model, TARGET, IMAGES)


def answer_of(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def arguments(model: Path, target: Target = TARGET) -> list[str]:
    images_path = model.with_suffix(".npy")
    np.save(images_path, IMAGES[: target.batch])
    return [str(model), str(images_path), target.name, "60"]


def test_a_missing_runtime_is_said(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup_probe, "load_runtime", lambda name: NotHere())
    startup_probe.main(arguments(model, OPENVINO))
    assert answer_of(capsys) == {
        "error": "UnsupportedError", "message": "openvino is not installed", "hint": "pip install it"
    }  # fmt: skip


def test_the_machine_is_ours_while_the_probe_is_timed(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    class Held:
        def __enter__(self) -> None:
            events.append("held")

        def __exit__(self, *_: object) -> None:
            events.append("free")

    monkeypatch.setattr(startup_probe, "measuring", Held)
    monkeypatch.setattr(startup_probe, "prepared", lambda *_: events.append("imported") or NotHere())
    monkeypatch.setattr(startup_probe, "first_output", lambda *_: events.append("timed") or {"load_ms": 1.0})
    monkeypatch.setattr(startup_probe, "_limit", lambda seconds: events.append(f"limit {seconds:g}"))
    startup_probe.main(arguments(model))
    assert answer_of(capsys) == {"load_ms": 1.0}
    assert events == ["imported", "held", "limit 60", "timed", "limit 0", "free"]


def test_a_machine_that_does_not_get_quiet_is_said(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken() -> None:
        raise MeasureError("process 7 still trains", "wait for it")

    monkeypatch.setattr(startup_probe, "measuring", taken)
    startup_probe.main(arguments(model))
    assert answer_of(capsys) == {
        "error": "MeasureError", "message": "process 7 still trains", "hint": "wait for it"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "initialised", "expected"),
    [("torch-cuda-b1", True, 123), ("torch-cuda-b1", False, None), ("torch-cpu-1t-b1", True, None)],
)
def test_the_devices_memory_is_told_where_torch_serves_on_it(
    target: str, initialised: bool, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = SimpleNamespace(is_initialized=lambda: initialised, max_memory_allocated=lambda: 123)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert startup_probe._device_peak_bytes(Target.parse(target)) == expected


def test_the_devices_memory_is_not_told_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert startup_probe._device_peak_bytes(Target.parse("tensorrt-cuda-b1")) is None
