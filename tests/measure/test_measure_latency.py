"""Latency of a loaded model, with a session, a clock and a look at the machine that the test decides."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from fake_measuring import MS, FakeSession, FakeWatch, milliseconds

from nas.measure.clock import Policy, timed_by
from nas.measure.latency import (
    OVERHEAD_BOUND,
    Reading,
    batch_of,
    cores_for,
    pinned,
    read_latency,
)
from nas.measure.quiet import Surroundings
from nas.measure.window import MAXIMUM_WINDOWS, MOST_PARTS, PART_MS
from nas.outcome import How
from nas.target import Target

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
SHORT = Policy(warmup_ms=0, minimum_samples=20, minimum_ms=0, maximum_ms=1000)

QUIET = Surroundings()
BUSY = Surroundings(busy_cores=1.0)

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")


def read(watch: FakeWatch, *durations_ms: float, target: Target = TARGET) -> Reading:
    return read_latency(FakeSession(durations=milliseconds(*durations_ms)), target, IMAGES[:1], SHORT, watch)


def window(*durations_ms: float) -> list[float]:
    """Durations of one window: the warm-up's one call, and twenty that are kept."""
    assert 20 % len(durations_ms) == 0
    return [durations_ms[0], *durations_ms * (20 // len(durations_ms))]


@pytest.mark.parametrize("batch", [1, 4, 8])
def test_latency_is_the_median_with_its_statistics(batch: int) -> None:
    target = replace(TARGET, batch=batch)
    reading = read(FakeWatch(), *window(2.0, 2.02, 2.04, 2.06), target=target)
    quantity = reading.quantity("abc")
    assert quantity.key == f"latency_ms@onnxruntime-cpu-1t-b{batch}"
    assert (quantity.unit, quantity.how, quantity.environment_id) == ("ms", How.MEASURED, "abc")
    assert quantity.value == pytest.approx(2.03)
    assert quantity.low is not None
    assert quantity.high is not None
    assert 2.0 <= quantity.low <= 2.03 <= quantity.high <= 2.06
    detail = quantity.detail
    assert detail["fps"] == pytest.approx(1000 * batch / 2.03)
    assert (detail["batch"], detail["threads"]) == (batch, 1)
    assert (detail["samples"], detail["windows"], detail["unstable"]) == (20, 1, False)
    assert detail["iqr"] == pytest.approx(0.03)
    assert detail["p95"] == pytest.approx(2.06)
    assert reading.samples_ms.dtype == np.float32
    np.testing.assert_allclose(reading.samples_ms, [2.0, 2.02, 2.04, 2.06] * 5, rtol=1e-6)


def test_what_was_seen_of_the_machine_is_kept() -> None:
    around = Surroundings(1.0123456, 0.2, 0.04, 0.01, 2600.0, 0.001)
    reading = replace(read(FakeWatch(around), 1.0), cores=(2, 3), detail={"provider": "a runtime's own word"})
    detail = reading.quantity().detail
    assert detail["slowdown"] == 1.012
    assert (detail["busy_cores"], detail["busy_same_cores"], detail["waited"]) == (0.2, 0.04, 0.01)
    assert detail["mhz"] == 2600.0
    assert detail["cores"] == "2,3"
    assert detail["provider"] == "a runtime's own word"
    assert not {"why_unstable", "overhead_ms", "overhead_bound"} & set(detail)


def test_what_is_not_known_is_left_out() -> None:
    session = FakeSession(threads=None)
    target = Target("torch", "cuda", None, 1)
    detail = read_latency(session, target, IMAGES[:1], SHORT, FakeWatch()).quantity().detail
    assert not {"busy_cores", "busy_same_cores", "waited", "mhz", "threads", "cores"} & set(detail)


def test_numbers_are_plain_python_so_that_json_holds_them() -> None:
    around = Surroundings(1.0, 0.2, 0.04, 0.01, 2600.0, 0.001)
    quantity = replace(read(FakeWatch(around), 1.0), cores=(1,), overhead_ms=0.01).quantity()
    assert {type(value) for value in quantity.detail.values()} <= {float, int, bool, str}
    assert type(quantity.value) is type(quantity.low) is type(quantity.high) is float


def test_a_quiet_window_is_enough() -> None:
    watch = FakeWatch(QUIET)
    assert read(watch, 1.0).windows == 1
    assert watch.looks == 2


def test_disturbed_window_is_taken_again_and_the_steadier_kept() -> None:
    disturbed, steady = [1.0] * 10 + [2.0] * 10, [1.0] * 20
    reading = read(FakeWatch(), *window(*disturbed), *window(*steady))
    quantity = reading.quantity()
    assert (quantity.value, quantity.detail["windows"], quantity.detail["unstable"]) == (1.0, 2, False)
    assert reading.samples_ms.tolist() == steady


def test_window_beside_others_is_taken_again_though_its_samples_are_steady() -> None:
    """All samples alike, and twice too slow: only a look at the machine tells."""
    reading = read(FakeWatch(BUSY, BUSY, QUIET), *window(2.0), *window(2.0), *window(1.0))
    quantity = reading.quantity()
    assert (quantity.value, quantity.detail["windows"], quantity.detail["unstable"]) == (1.0, 3, False)
    assert reading.window.surroundings == QUIET


def read_parts(watch: FakeWatch, *durations_ms: float) -> Reading:
    """Of windows of three parts, each of so many calls as take its time and one that does not count."""
    policy = replace(SHORT, minimum_ms=3 * PART_MS)
    calls = [
        duration for duration in durations_ms for _ in range(1 + max(policy.minimum_samples, int(PART_MS / duration)))
    ]
    return read_latency(FakeSession(durations=milliseconds(*calls)), TARGET, IMAGES[:1], policy, watch)


def test_a_neighbour_that_comes_and_goes_spoils_only_the_parts_beside_it() -> None:
    reading = read_parts(FakeWatch(QUIET, BUSY, QUIET, BUSY, QUIET), 1.0, 1.5, 1.0, 1.5, 1.0)
    assert set(reading.samples_ms.tolist()) == {1.0}
    assert len(reading.samples_ms) == 3 * PART_MS
    assert (reading.windows, reading.window.troubles, reading.window.surroundings) == (2, (), QUIET)


def test_a_quiet_machine_is_read_in_parts_as_long_as_a_window() -> None:
    watch = FakeWatch(QUIET)
    reading = read_parts(watch, *[1.0] * 9)
    assert (reading.windows, len(reading.samples_ms), watch.looks) == (1, 3 * PART_MS, 4)


def test_what_is_undisturbed_counts_alone_though_it_is_no_whole_window() -> None:
    slow = Surroundings(1.5)
    reading = read_parts(FakeWatch(slow, slow, QUIET, *[slow] * 6), 1.5, 1.5, 1.0, *[1.5] * 6)
    assert reading.samples_ms.tolist() == [1.0] * 30
    assert (reading.window.troubles, reading.windows, reading.calm) == ((), MAXIMUM_WINDOWS, True)


def test_where_nothing_is_undisturbed_what_is_least_so_counts() -> None:
    slow, slower = Surroundings(1.25), Surroundings(1.5)
    reading = read_parts(FakeWatch(slower, slow, slower, slow, *[slower] * 5), 1.5, 1.25, 1.5, 1.25, *[1.5] * 5)
    assert reading.samples_ms.tolist() == [1.25] * 24, "as much as would be enough if it were undisturbed"
    assert reading.window.surroundings.slowdown == 1.25
    assert reading.window.troubles == ("pace",)
    assert (reading.windows, reading.calm) == (MAXIMUM_WINDOWS, False)


def test_parts_that_are_steady_each_but_drift_together_are_taken_again() -> None:
    reading = read_parts(FakeWatch(QUIET), 1.0, 1.0, 1.25, *[1.25] * 6)
    assert reading.window.troubles == ("spread", "drift")
    assert reading.windows == MAXIMUM_WINDOWS
    steady = read_parts(FakeWatch(QUIET), 1.0, 1.03, 1.0, 1.03, 1.0, 1.03)
    assert (steady.window.troubles, steady.windows) == ((), 1)


@pytest.mark.parametrize("call_ms", [30.0, 2000.0])
def test_a_slow_call_is_taken_again_as_often(call_ms: float) -> None:
    session = FakeSession(durations=milliseconds(*[call_ms] * 1000))
    reading = read_latency(session, TARGET, IMAGES[:1], Policy(warmup_ms=0), FakeWatch(BUSY))
    assert (reading.windows, reading.calm) == (MAXIMUM_WINDOWS, False)


def test_a_long_window_has_no_more_parts_than_tell_something() -> None:
    watch = FakeWatch(QUIET)
    policy = Policy(warmup_ms=0, minimum_ms=60_000, maximum_ms=600_000)
    reading = read_latency(FakeSession(durations=milliseconds(*[1.0] * 70_000)), TARGET, IMAGES[:1], policy, watch)
    assert (len(reading.samples_ms), watch.looks) == (60_000, 1 + MOST_PARTS)


def test_a_slow_call_is_read_in_one_go() -> None:
    reading = read_parts(FakeWatch(QUIET), *[30.0] * 3)
    assert (len(reading.samples_ms), reading.windows) == (20, 1)


def test_unsteady_machine_is_not_waited_for() -> None:
    worse, bad = [1.0] * 10 + [2.0] * 10, [1.0] * 10 + [1.5] * 10
    watch = FakeWatch()
    reading = read(watch, *window(*worse), *window(*bad), *window(*worse))
    quantity = reading.quantity()
    assert (quantity.detail["windows"], quantity.detail["unstable"]) == (MAXIMUM_WINDOWS, True)
    assert watch.looks == MAXIMUM_WINDOWS + 1
    assert quantity.detail["why_unstable"] == "spread, drift"
    assert reading.samples_ms.tolist() == bad


def test_of_disturbed_windows_the_one_on_the_faster_machine_is_kept() -> None:
    """Pace before scatter: a slow spell scatters less than a fast one beside a neighbour."""
    slow, slower, fast = (replace(BUSY, slowdown=pace) for pace in (1.5, 1.9, 1.0))
    reading = read(FakeWatch(slow, fast, slower), *window(1.5), *window(0.98, 1.02), *window(1.9))
    quantity = reading.quantity()
    assert quantity.value == pytest.approx(1.0)
    assert (quantity.detail["slowdown"], quantity.detail["why_unstable"]) == (1.0, "load")


def test_a_machine_that_stays_slow_is_said_to_be() -> None:
    detail = read(FakeWatch(replace(BUSY, slowdown=1.5)), 2.0).quantity().detail
    assert (detail["unstable"], detail["slowdown"], detail["why_unstable"]) == (True, 1.5, "pace, load")


@pytest.mark.parametrize(
    ("overhead_ms", "bound"),
    [(1.0 / OVERHEAD_BOUND + 0.01, True), (1.0 / OVERHEAD_BOUND - 0.01, False), (5.0, True)],
)
def test_a_model_near_the_cost_of_a_call_is_bound_by_it(overhead_ms: float, bound: bool) -> None:
    detail = replace(read(FakeWatch(), 1.0), overhead_ms=overhead_ms).quantity().detail
    assert (detail["overhead_ms"], detail["overhead_bound"]) == (overhead_ms, bound)


def test_the_clock_is_the_sessions_to_use() -> None:
    class Timed(FakeSession):
        timed = staticmethod(timed_by)  # type: ignore[assignment]

    readings = iter(range(0, 10_000 * MS, 3 * MS))
    reading = read_latency(Timed(), TARGET, IMAGES[:1], SHORT, FakeWatch(), clock=lambda: next(readings))
    assert set(reading.samples_ms.tolist()) == {3.0}


def test_the_call_is_made_ready_before_the_machine_is_taken() -> None:
    """A model that compiles for a minute must not keep others from the machine meanwhile."""
    log: list[str] = []

    @contextmanager
    def alone() -> Iterator[None]:
        log.append("alone")
        yield
        log.append("others again")

    read_latency(FakeSession("m", log=log), TARGET, IMAGES[:1], SHORT, FakeWatch(BUSY), alone=alone())
    assert log[:2] == ["prepare m", "alone"]
    assert set(log[2:-1]) == {"time m"}
    assert len(log[2:-1]) == MAXIMUM_WINDOWS * 21
    assert log[-1] == "others again"


def test_fewer_images_than_the_batch_are_used_over_again() -> None:
    np.testing.assert_array_equal(batch_of(IMAGES[:2], 3), IMAGES[[0, 1, 0]])
    np.testing.assert_array_equal(batch_of(IMAGES, 2), IMAGES[:2])
    turned = batch_of(IMAGES.transpose(0, 3, 1, 2), 4)
    assert turned.flags.c_contiguous
    assert turned.dtype == np.uint8
    with pytest.raises(ValueError, match="at least one image, but got none"):
        batch_of(IMAGES[:0], 1)


@pytest.mark.parametrize(
    ("threads", "usable", "cores"),
    [(1, {0, 1, 2, 3}, (3,)), (2, {7, 0, 3}, (3, 7)), (3, {0, 1}, (0, 1)), (None, {1, 0}, (0, 1))],
)
def test_threads_are_kept_on_the_last_cores(threads: int | None, usable: set[int], cores: tuple[int, ...]) -> None:
    assert cores_for(threads, usable) == cores


@needs_affinity
def test_every_thread_is_kept_on_the_cores_and_let_go() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    started, end = threading.Event(), threading.Event()
    numbers: list[int] = []

    def pool_thread() -> None:
        numbers.append(threading.get_native_id())
        started.set()
        end.wait()

    thread = threading.Thread(target=pool_thread)
    thread.start()
    try:
        assert started.wait(30)
        with pinned((core,)):
            assert os.sched_getaffinity(0) == {core}
            assert os.sched_getaffinity(numbers[0]) == {core}
        assert os.sched_getaffinity(0) == os.sched_getaffinity(numbers[0]) == before
        with pinned(()):
            assert os.sched_getaffinity(0) == before
    finally:
        end.set()
        thread.join()


@needs_affinity
def test_cores_are_let_go_when_the_model_fails() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), pinned((max(before),)):
        _ = 1 / 0
    assert os.sched_getaffinity(0) == before
