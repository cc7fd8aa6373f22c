"""The one that is asked what a model costs, with processes of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
from onnx_models import tiny_artifact

from nas.errors import ArtifactError, UnsupportedError
from nas.measure import measurer as module
from nas.measure.clock import Policy
from nas.measure.environment import environment_id
from nas.measure.latency import OVERHEAD_BOUND
from nas.measure.measurer import Measurer
from nas.outcome import How
from nas.target import Target, usable_cores

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
SHORT = Policy(warmup_ms=0, minimum_samples=20, minimum_ms=0, maximum_ms=1000)

pytestmark = pytest.mark.usefixtures("own_lease")


@pytest.fixture(scope="module")
def measurer(own_lease: None) -> Iterator[Measurer]:
    with Measurer(SHORT) as measurer:
        yield measurer


@pytest.mark.parametrize("batch", [1, 4, 8])
def test_latency_is_measured_with_its_samples(measurer: Measurer, batch: int) -> None:
    target = Target("onnxruntime", "cpu", 1, batch)
    quantity, samples = measurer.measure(tiny_artifact(), target, IMAGES)
    assert quantity.key == f"latency_ms@onnxruntime-cpu-1t-b{batch}"
    assert (quantity.unit, quantity.how) == ("ms", How.MEASURED)
    assert quantity.environment_id == measurer.environment_id(target)
    assert quantity.low is not None
    assert quantity.high is not None
    assert 0 < quantity.low <= quantity.value <= quantity.high
    assert (samples.dtype, len(samples)) == (np.float32, quantity.detail["samples"])
    assert quantity.value == pytest.approx(float(np.median(samples)), rel=1e-6)
    assert (quantity.detail["batch"], quantity.detail["threads"]) == (batch, 1)
    overhead = quantity.detail["overhead_ms"]
    assert isinstance(overhead, float)
    assert quantity.detail["overhead_bound"] is (quantity.value < OVERHEAD_BOUND * overhead)


def test_the_fingerprint_is_of_machine_and_runtime(measurer: Measurer) -> None:
    found = measurer.environment(TARGET)
    assert found["onnxruntime"][0].isdigit()
    assert measurer.environment_id(TARGET) == environment_id(measurer.machine, found)


def test_one_process_serves_a_runtime_and_thread_count(measurer: Measurer) -> None:
    one, eight, two = (Target("onnxruntime", "cpu", threads, batch) for threads, batch in ((1, 1), (1, 8), (2, 1)))
    assert measurer.process(one) is measurer.process(eight)
    assert measurer.process(two) is not measurer.process(one)
    assert measurer.process(two).threads == 2


def test_closing_ends_every_process() -> None:
    targets = [Target("onnxruntime", "cpu", threads, 1) for threads in range(1, min(2, usable_cores()) + 1)]
    with Measurer(SHORT) as measurer:
        for target in targets:
            measurer.environment(target)
        pids = [measurer.process(target).pid for target in targets]
        assert len({os.getpid(), *pids}) == 1 + len(targets)
    for pid in pids:
        assert pid is not None
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    assert all(measurer.process(target).pid is None for target in targets)


def test_the_time_limit_is_the_processes() -> None:
    with Measurer(SHORT, timeout_seconds=7) as measurer:
        assert measurer.process(TARGET).timeout_seconds == 7


def test_outputs_are_the_models(measurer: Measurer, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(1).integers(0, 256, (100, 4, 4, 1), dtype=np.uint8)
    whole = measurer.outputs(tiny_artifact(), TARGET, images)
    flat = images.reshape(100, 16).astype(np.float64) @ np.linspace(-1, 1, 48).reshape(16, 3)
    expected = np.exp(flat - flat.max(axis=1, keepdims=True))
    np.testing.assert_allclose(whole, expected / expected.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "part_bytes", "parts"),
    [(256, 2**27, [100]), (7, 16 * 30, [28, 28, 28, 16]), (64, 16, [64, 36]), (1, 16 * 60, [60, 40])],
)
def test_many_images_go_in_parts_of_whole_batches(
    measurer: Measurer, monkeypatch: pytest.MonkeyPatch, batch: int, part_bytes: int, parts: list[int]
) -> None:
    images = np.random.default_rng(1).integers(0, 256, (100, 4, 4, 1), dtype=np.uint8)
    whole = measurer.outputs(tiny_artifact(), TARGET, images, batch)
    sent: list[int] = []
    process = measurer.process(TARGET)
    ask = process.ask
    monkeypatch.setattr(module, "PART_BYTES", part_bytes)
    monkeypatch.setattr(process, "ask", lambda request: (sent.append(len(request.images)), ask(request))[1])
    np.testing.assert_array_equal(measurer.outputs(tiny_artifact(), TARGET, images, batch), whole)
    assert sent == parts


def test_turns_give_samples_of_every_model_and_round(measurer: Measurer) -> None:
    turn = Policy(warmup_ms=0, minimum_samples=8, minimum_ms=0, maximum_ms=1000)
    turns = measurer.turns([tiny_artifact(3), tiny_artifact(5)], TARGET, IMAGES, rounds=3, turn=turn)
    assert [[len(samples) for samples in taken] for taken in turns.samples_ns] == [[8] * 3] * 2
    assert len(turns.troubles) == 3


def test_wrong_models_and_images_are_explained(measurer: Measurer) -> None:
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot load the model"):
        measurer.measure(b"no model", TARGET, IMAGES)
    with pytest.raises(ArtifactError, match="Got invalid dimensions"):
        measurer.measure(tiny_artifact(), TARGET, IMAGES[:, :2])
    with pytest.raises(ValueError, match="at least one image"):
        measurer.measure(tiny_artifact(), TARGET, IMAGES[:0])
    with pytest.raises(ValueError, match="no outputs without images"):
        measurer.outputs(tiny_artifact(), TARGET, IMAGES[:0])


def test_more_threads_than_cores_are_unsupported_and_start_nothing() -> None:
    target = Target("onnxruntime", "cpu", usable_cores() + 1, 1)
    with Measurer(SHORT) as measurer:
        for ask in (
            lambda: measurer.environment_id(target),
            lambda: measurer.measure(tiny_artifact(), target, IMAGES),
            lambda: measurer.outputs(tiny_artifact(), target, IMAGES),
            lambda: measurer.turns([tiny_artifact()], target, IMAGES),
        ):
            with pytest.raises(UnsupportedError, match="threads, but this process may use"):
                ask()
        assert measurer.process(target).pid is None
