"""The measuring process itself, a real one: what it answers, and what is told from within."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx_models import make_model, tiny_artifact

from nas.errors import ArtifactError, UnsupportedError
from nas.lease import PATIENCE_S
from nas.measure import process as module
from nas.measure.clock import Policy
from nas.measure.latency import Reading
from nas.measure.process import MeasuringProcess, child_environment
from nas.measure.protocol import Describe, Measure, Outputs
from nas.target import Target, usable_cores

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
DESCRIBE = Describe(TARGET)
IMAGES = np.zeros((4, 4, 4, 1), np.uint8)
SHORT = Policy(warmup_ms=0, minimum_samples=6, minimum_ms=0, maximum_ms=1000)

pytestmark = pytest.mark.usefixtures("own_lease")


def measure(content: bytes = b"", images: np.ndarray = IMAGES[:1], target: Target = TARGET) -> Measure:
    return Measure(content or tiny_artifact(), target, images, SHORT)


def pid_of(process: MeasuringProcess) -> int:
    """The process's number, once it is up."""
    process.ask(DESCRIBE)
    assert process.pid is not None
    return process.pid


def test_a_latency_and_outputs_come_from_the_process(process: MeasuringProcess) -> None:
    reading = process.ask(measure())
    assert isinstance(reading, Reading)
    assert reading.samples_ms.min() > 0
    outputs = process.ask(Outputs(tiny_artifact(), TARGET, IMAGES, 3))
    np.testing.assert_allclose(outputs.sum(axis=1), np.ones(4), rtol=1e-6)
    assert process.pid not in (None, os.getpid())


def test_the_process_stays_up(process: MeasuringProcess) -> None:
    pid = pid_of(process)
    process.ask(measure())
    assert pid_of(process) == pid


def test_waiting_for_others_is_not_counted_as_hanging(
    process: MeasuringProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    class Recording:
        """A queue that keeps how long its reader was ready to wait."""

        def __init__(self) -> None:
            self.queue: SimpleQueue[Any] = SimpleQueue()
            self.put = self.queue.put

        def get(self, timeout: float) -> Any:
            waited.append(timeout)
            return self.queue.get(timeout=timeout)

        __class_getitem__ = classmethod(lambda cls, _: cls)

    monkeypatch.setattr(module, "SimpleQueue", Recording)
    process.timeout_seconds = 100
    process.ask(Measure(tiny_artifact(), TARGET, IMAGES[:1], SHORT, overhead=False))
    assert waited == [100, 100, PATIENCE_S + 60, 100]


def test_threads_are_answered_one_after_the_other(process: MeasuringProcess) -> None:
    outputs: dict[int, np.ndarray] = {}

    def ask(value: int) -> None:
        images = np.full((50, 4, 4, 1), value, np.uint8)
        outputs[value] = process.ask(Outputs(tiny_artifact(), TARGET, images, 7))

    threads = [threading.Thread(target=ask, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for value in range(6):
        expected = process.ask(Outputs(tiny_artifact(), TARGET, np.full((1, 4, 4, 1), value, np.uint8), 1))
        np.testing.assert_allclose(outputs[value], np.repeat(expected, 50, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (measure(b"no model"), "ONNX Runtime cannot load the model"),
        (measure(images=IMAGES[:1].astype(np.float32)), "the model cannot be run: .*Unexpected input data type"),
        (measure(images=IMAGES[:1, :2]), "the model cannot be run: .*Got invalid dimensions"),
        (Outputs(tiny_artifact(), TARGET, IMAGES[:, :2], 3), "the model cannot be run: .*Got invalid dimensions"),
    ],
)
def test_what_is_wrong_with_a_model_is_told_and_the_process_stays(
    process: MeasuringProcess, request_: Measure | Outputs, message: str
) -> None:
    pid = pid_of(process)
    with pytest.raises(ArtifactError, match=message):
        process.ask(request_)
    assert pid_of(process) == pid


def test_what_this_machine_has_not_is_unsupported(process: MeasuringProcess) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has it")
    with pytest.raises(UnsupportedError, match="CUDAExecutionProvider") as caught:
        process.ask(Describe(Target.parse("onnxruntime-cuda-b1")))
    assert "onnxruntime-gpu" in caught.value.hint


def test_a_bug_in_it_is_a_bug_here_and_shows_where(process: MeasuringProcess) -> None:
    policy: Any = "no policy"
    pid = pid_of(process)
    with pytest.raises(RuntimeError, match=r"(?s)met a bug:.*Traceback.*latency\.py.*AttributeError"):
        process.ask(Measure(tiny_artifact(), TARGET, IMAGES[:1], policy, overhead=False))
    assert pid_of(process) == pid


def test_a_request_that_cannot_be_sent_is_a_bug_here(process: MeasuringProcess) -> None:
    nonsense: Any = lambda: None  # noqa: E731
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        process.ask(Measure(nonsense, TARGET, IMAGES[:1], SHORT))
    process.ask(DESCRIBE)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system has no /proc")
def test_torch_is_not_loaded_for_another_runtime(process: MeasuringProcess) -> None:
    process.ask(measure())
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "libtorch" not in maps


@pytest.mark.parametrize("threads", range(1, min(usable_cores(), 4) + 1))
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_and_batches_are_the_targets(threads: int, batch: int) -> None:
    target = Target("onnxruntime", "cpu", threads, batch)
    process = MeasuringProcess(threads)
    try:
        reading = process.ask(measure(images=IMAGES[:batch], target=target))
    finally:
        process.close()
    assert (reading.target, reading.threads) == (target, threads)
    assert len(reading.cores) == threads
    assert reading.quantity().detail["batch"] == batch


@pytest.mark.parametrize(("threads", "expected"), [(1, "1"), (4, "4"), (None, "9")])
def test_libraries_threads_are_the_targets(monkeypatch: pytest.MonkeyPatch, threads: int | None, expected: str) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "9")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    found = child_environment(threads)
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == expected
    assert found["OPENBLAS_NUM_THREADS"] == "1"
    assert found["PYTHONPATH"].split(os.pathsep)[1:] == ["/somewhere"]


def test_a_large_model_and_many_images_pass(process: MeasuringProcess) -> None:
    """Far more than the connection holds, both ways at once."""
    from onnx import helper

    weight = np.ones((16, 300_000), np.float32)  # 19 MB
    node = helper.make_node("MatMul", ["images", "weight"], ["probabilities"])
    content = make_model([node], {"weight": weight}, ["n", 16])
    outputs = process.ask(Outputs(content, TARGET, np.ones((20, 16), np.float32), 8))
    assert outputs.shape == (20, 300_000)
    assert outputs.min() == outputs.max() == 16
    many = process.ask(Outputs(tiny_artifact(), TARGET, np.zeros((10_000, 4, 4, 1), np.uint8), 256))
    assert many.shape == (10_000, 3)
