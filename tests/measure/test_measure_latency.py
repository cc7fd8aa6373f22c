from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from onnx import helper
from onnx_models import make_model, tiny_artifact

from nas.errors import ArtifactError, UnsupportedError
from nas.measure.clock import Policy
from nas.measure.latency import MAXIMUM_WINDOWS, measure_latency, single_core
from nas.measure.target import Target, usable_cores
from nas.outcome import How

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
SHORT = Policy(warmup_ms=0, minimum_samples=20, minimum_ms=0, maximum_ms=1000)
MS = 1_000_000

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")


def scripted_clock(steps_ms: Iterable[float]) -> Callable[[], int]:
    """A clock that each reading finds so much later than the one before."""
    readings = itertools.accumulate(round(step * MS) for step in steps_ms)
    return lambda: next(readings)


def steady_pace() -> float:
    """A machine that is always at its best."""
    return 1.0


def calls(*durations_ms: float) -> list[float]:
    """Steps of a warm-up or a window: one to its beginning, then one to each call's start and one to its end."""
    return [0.0, *itertools.chain.from_iterable((0.0, duration) for duration in durations_ms)]


@pytest.mark.parametrize("batch", [1, 4, 8])
def test_latency_is_the_median_with_its_statistics(batch: int) -> None:
    target = Target("onnxruntime", "cpu", 1, batch)
    clock = scripted_clock([*calls(9), *calls(*[2.0, 2.02, 2.04, 2.06] * 5)])
    quantity, samples = measure_latency(tiny_artifact(), target, IMAGES, SHORT, "abc", clock, steady_pace)
    assert quantity.key == f"latency_ms@onnxruntime-cpu-1t-b{batch}"
    assert (quantity.unit, quantity.how, quantity.environment_id) == ("ms", How.MEASURED, "abc")
    assert quantity.value == pytest.approx(2.03)
    assert (quantity.low, quantity.high) == (pytest.approx(2.02), pytest.approx(2.04))
    assert quantity.detail["fps"] == pytest.approx(1000 * batch / 2.03)
    assert quantity.detail["batch"] == batch
    assert (quantity.detail["samples"], quantity.detail["windows"]) == (20, 1)
    assert quantity.detail["unstable"] is False
    assert quantity.detail["iqr"] == pytest.approx(0.03)
    assert quantity.detail["p95"] == pytest.approx(2.06)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, [2.0, 2.02, 2.04, 2.06] * 5, rtol=1e-6)


def test_numbers_are_plain_python_so_that_json_holds_them() -> None:
    quantity, _ = measure_latency(tiny_artifact(), TARGET, IMAGES, SHORT)
    assert {type(value) for value in quantity.detail.values()} <= {float, int, bool}
    assert type(quantity.value) is type(quantity.low) is type(quantity.high) is float
    assert quantity.low <= quantity.value <= quantity.high  # type: ignore[operator]


def test_disturbed_window_is_taken_again_and_the_steadier_kept() -> None:
    disturbed, steady = [1.0] * 10 + [2.0] * 10, [1.0] * 20
    clock = scripted_clock([*calls(1), *calls(*disturbed), *calls(1), *calls(*steady)])
    quantity, samples = measure_latency(tiny_artifact(), TARGET, IMAGES, SHORT, clock=clock, pace=steady_pace)
    assert (quantity.value, quantity.detail["windows"], quantity.detail["unstable"]) == (1.0, 2, False)
    assert samples.tolist() == steady


def test_unsteady_machine_is_not_waited_for() -> None:
    worse, bad = [1.0] * 10 + [2.0] * 10, [1.0] * 10 + [1.5] * 10
    clock = scripted_clock([*calls(1), *calls(*worse), *calls(1), *calls(*bad), *calls(1), *calls(*worse)])
    quantity, samples = measure_latency(tiny_artifact(), TARGET, IMAGES, SHORT, clock=clock, pace=steady_pace)
    assert (quantity.detail["windows"], quantity.detail["unstable"]) == (MAXIMUM_WINDOWS, True)
    assert samples.tolist() == bad


def test_a_window_on_a_slowed_machine_is_taken_again() -> None:
    """All samples alike, and twice too slow: only the pace tells."""
    slow, right = [2.0] * 20, [1.0] * 20
    clock = scripted_clock([*calls(2), *calls(*slow), *calls(2), *calls(*slow), *calls(1), *calls(*right)])
    paces = iter([1.9, 2.0, 1.0, 1.0])
    quantity, samples = measure_latency(tiny_artifact(), TARGET, IMAGES, SHORT, clock=clock, pace=lambda: next(paces))
    assert (quantity.value, quantity.detail["windows"], quantity.detail["unstable"]) == (1.0, 3, False)
    assert quantity.detail["slowdown"] == 1.0
    assert samples.tolist() == right


def test_a_machine_that_stays_slow_is_said_to_be() -> None:
    clock = scripted_clock([*calls(2), *calls(*[2.0] * 20)] * MAXIMUM_WINDOWS)
    paces = iter([1.5, 1.5, 1.3, 1.5])
    quantity, _ = measure_latency(tiny_artifact(), TARGET, IMAGES, SHORT, clock=clock, pace=lambda: next(paces))
    assert quantity.detail["unstable"] is True
    assert quantity.detail["slowdown"] == 1.5
    assert quantity.detail["windows"] == MAXIMUM_WINDOWS


def test_fewer_images_than_the_batch_are_used_over_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[np.ndarray] = []

    class Input:
        name = "images"

    class Session:
        def get_inputs(self) -> list[type[Input]]:
            return [Input]

        def run(self, outputs: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            given.append(feeds["images"])
            return []

    monkeypatch.setattr("nas.measure.latency.open_session", lambda content, threads: Session())
    measure_latency(b"", Target("onnxruntime", "cpu", 1, 3), IMAGES[:2], SHORT)
    np.testing.assert_array_equal(given[0], IMAGES[[0, 1, 0]])
    assert given[0].dtype == np.uint8


@needs_affinity
def test_single_thread_is_kept_on_one_core_and_let_go() -> None:
    before = os.sched_getaffinity(0)
    with single_core(1):
        assert os.sched_getaffinity(0) == {max(before)}
    assert os.sched_getaffinity(0) == before
    with single_core(2):
        assert os.sched_getaffinity(0) == before


@needs_affinity
def test_core_is_let_go_when_the_model_fails() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ArtifactError, match="the model cannot be run"):
        measure_latency(tiny_artifact(), TARGET, IMAGES.astype(np.float32), SHORT)
    assert os.sched_getaffinity(0) == before


def test_wrong_images_and_models_are_explained() -> None:
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot load the model"):
        measure_latency(b"no model", TARGET, IMAGES, SHORT)
    with pytest.raises(ArtifactError, match=r"the model cannot be run: .*Got invalid dimensions"):
        measure_latency(tiny_artifact(), TARGET, IMAGES[:, :2], SHORT)
    with pytest.raises(ValueError, match="at least one image"):
        measure_latency(tiny_artifact(), TARGET, IMAGES[:0], SHORT)
    constant = make_model(
        [helper.make_node("RandomNormal", [], ["probabilities"], shape=[1])], {"images": np.zeros(1, np.float32)}, [1]
    )
    with pytest.raises(ArtifactError, match="the model must have one input"):
        measure_latency(constant, TARGET, IMAGES, SHORT)


def test_more_threads_than_cores_are_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="threads, but this process may use"):
        measure_latency(tiny_artifact(), Target("onnxruntime", "cpu", usable_cores() + 1, 1), IMAGES, SHORT)
