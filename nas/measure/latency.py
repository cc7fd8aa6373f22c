"""Latency of an artifact on a target: the exported file, run by the runtime that would serve it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas.artifact import open_session
from nas.errors import ArtifactError, one_line
from nas.measure.clock import NANOSECONDS_PER_MS, Clock, Policy, Summary, sample, summarise
from nas.measure.pace import SLOWED_DOWN, Pace
from nas.measure.target import Target
from nas.outcome import How, Quantity

if TYPE_CHECKING:
    import onnxruntime

# A disturbed window is taken again, so often in all.
MAXIMUM_WINDOWS = 3

# Of this process: the best pace that it ever saw is what later ones are held against.
MACHINE_PACE = Pace()


def measure_latency(
    content: bytes,
    target: Target,
    images: np.ndarray,
    policy: Policy | None = None,
    environment_id: str | None = None,
    clock: Clock = time.perf_counter_ns,
    pace: Callable[[], float] = MACHINE_PACE,
) -> tuple[Quantity, np.ndarray]:
    """Times an artifact with one input on real images.

    What is timed is one call of the session as a deployment makes it: numpy arrays in, numpy arrays out, with all that
    the graph holds (normalisation included).

    Args:
        content: The ONNX file.
        target: Threads and batch to measure with.
        images: Inputs as the artifact takes them, N×…; the first ``target.batch`` are used, over again where N is less.
        policy: When to stop sampling; the default policy where None.
        environment_id: Fingerprint of the machine, stored with the number.
        clock: Gives nanoseconds, monotonic.
        pace: How many times slower than at its best the machine is at the moment.

    Returns:
        The quantity ``latency_ms`` (median and 95 % interval; in its detail p95, iqr, samples, unstable, fps, batch,
        windows and slowdown) and the raw samples in ms (float32), in the order taken.

    Raises:
        UnsupportedError: The target wants more threads than there are cores.
        ArtifactError: The model does not load, or does not take these images.
    """
    target.check_cores()
    if len(images) == 0:
        raise ValueError("measuring a latency needs at least one image, but got none")
    batch = np.ascontiguousarray(images[np.arange(target.batch) % len(images)])
    session = open_session(content, target.threads)
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ArtifactError(f"the model must have one input, but has {', '.join(item.name for item in inputs)}")
    return measure_session(session, {inputs[0].name: batch}, target, policy, environment_id, clock, pace)


def measure_session(
    session: onnxruntime.InferenceSession,
    feeds: Mapping[str, np.ndarray],
    target: Target,
    policy: Policy | None = None,
    environment_id: str | None = None,
    clock: Clock = time.perf_counter_ns,
    pace: Callable[[], float] = MACHINE_PACE,
) -> tuple[Quantity, np.ndarray]:
    """Times an open session on given inputs; otherwise as ``measure_latency``.

    The session is to be opened outside: threads that a library starts then must not inherit the one core.
    """
    inputs = dict(feeds)
    with single_core(target.threads):
        try:
            session.run(None, inputs)
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ArtifactError(f"the model cannot be run: {one_line(error, 300)}") from error
        windows = _windows(lambda: session.run(None, inputs), target, policy, clock, pace)
    best = min(windows, key=lambda window: (window.disturbed, round(window.slowdown, 1), window.spread))
    summary = best.summary
    quantity = Quantity(
        "latency_ms",
        summary.median_ms,
        "ms",
        How.MEASURED,
        target=target.name,
        low=summary.low_ms,
        high=summary.high_ms,
        environment_id=environment_id,
        detail={
            "p95": summary.p95_ms,
            "iqr": summary.iqr_ms,
            "samples": summary.samples,
            "unstable": best.disturbed,
            "fps": summary.fps,
            "batch": target.batch,
            "windows": len(windows),
            "slowdown": round(best.slowdown, 3),
        },
    )
    return quantity, (best.samples_ns / NANOSECONDS_PER_MS).astype(np.float32)


@dataclass(frozen=True)
class _Window:
    """Samples taken in one go, and how slow the machine was around them."""

    samples_ns: np.ndarray
    summary: Summary
    slowdown: float

    @property
    def spread(self) -> float:
        return self.summary.iqr_ms / self.summary.median_ms

    @property
    def disturbed(self) -> bool:
        return self.summary.unstable or self.slowdown > SLOWED_DOWN


def _windows(
    run: Callable[[], object], target: Target, policy: Policy | None, clock: Clock, pace: Callable[[], float]
) -> list[_Window]:
    """Samples one window, and more where that was disturbed.

    Neighbours on a shared machine come and go: a second look costs less than a wrong number.
    """
    windows: list[_Window] = []
    before = pace()
    while len(windows) < MAXIMUM_WINDOWS and (not windows or windows[-1].disturbed):
        samples_ns = sample(run, policy or Policy(), clock)
        after = pace()
        windows.append(_Window(samples_ns, summarise(samples_ns, target.batch), max(before, after)))
        before = after
    return windows


@contextmanager
def single_core(threads: int) -> Iterator[None]:
    """Keeps the calling thread on one core while a single-threaded target is measured, and lets it go afterwards.

    ONNX Runtime with one thread runs in the caller's. The last core is taken, as the first serves most interrupts.
    With more threads, and where the system has no affinity (macOS, Windows), nothing is pinned.
    """
    if threads != 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
