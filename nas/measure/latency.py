"""Latency of a loaded model, as it was read and as it is told.

This is what the measuring process (``nas.measure.server``) does; whoever wants a latency asks ``nas.measure.measurer``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nas.measure.clock import NANOSECONDS_PER_MS, Clock, Policy
from nas.measure.runtimes.base import Session
from nas.measure.window import MAXIMUM_WINDOWS, Watcher, Window, take_window
from nas.outcome import How, Quantity
from nas.target import Target

# How whoever needs a latency is given it: (file, target, images as the artifact takes them) → (``latency_ms``, raw
# samples in ms).
Measure = Callable[[bytes, Target, np.ndarray], tuple[Quantity, np.ndarray]]

# A design whose latency is within so many times that of a model that computes nothing is bound by the cost of a call.
OVERHEAD_BOUND = 3.0


@dataclass(frozen=True)
class Reading:
    """A latency as it was taken.

    Args:
        target: What on.
        window: What counts of the samples.
        windows: How many windows' time sampling took.
        threads: Threads of an operator as the runtime says; None on a GPU.
        cores: The cores that the process was kept on; empty where it was not.
        overhead_ms: Median of a model that computes nothing, in the same process; None where it was not measured.
        detail: What the runtime tells of itself.
        calm: Whether anything was undisturbed (see ``take_window``); known where it was read, which alone asks.
    """

    target: Target
    window: Window
    windows: int
    threads: int | None
    cores: tuple[int, ...] = ()
    overhead_ms: float | None = None
    detail: dict[str, float | int | str | bool] = field(default_factory=dict)
    calm: bool = True

    @property
    def samples_ms(self) -> np.ndarray:
        """The raw samples in ms (float32), in the order taken."""
        return (self.window.samples_ns / NANOSECONDS_PER_MS).astype(np.float32)

    def quantity(self, environment_id: str | None = None) -> Quantity:
        """``latency_ms``: median and 95 % interval; the rest is in its detail."""
        summary, around = self.window.summary, self.window.surroundings
        detail: dict[str, Any] = {
            "p95": summary.p95_ms,
            "iqr": summary.iqr_ms,
            "samples": summary.samples,
            "unstable": bool(self.window.troubles),
            "fps": summary.fps,
            "batch": self.target.batch,
            "windows": self.windows,
            "slowdown": round(around.slowdown, 3),
        }
        if self.window.troubles:
            detail["why_unstable"] = ", ".join(self.window.troubles)
        for name in ("busy_cores", "busy_same_cores", "waited", "mhz"):
            if (value := getattr(around, name)) is not None:
                detail[name] = round(value, 4)
        if self.threads is not None:
            detail["threads"] = self.threads
        if self.cores:
            detail["cores"] = ",".join(str(core) for core in self.cores)
        if self.overhead_ms is not None:
            detail["overhead_ms"] = self.overhead_ms
            detail["overhead_bound"] = summary.median_ms < OVERHEAD_BOUND * self.overhead_ms
        return Quantity(
            "latency_ms",
            summary.median_ms,
            "ms",
            How.MEASURED,
            target=self.target.name,
            low=summary.low_ms,
            high=summary.high_ms,
            environment_id=environment_id,
            detail=detail | self.detail,
        )


def batch_of(images: np.ndarray, batch: int) -> np.ndarray:
    """So many images, over again where there are fewer, as one array in memory.

    Raises:
        ValueError: There is none.
    """
    if len(images) == 0:
        raise ValueError("measuring a latency needs at least one image, but got none")
    return np.ascontiguousarray(images[np.arange(batch) % len(images)])


def read_latency(
    session: Session,
    target: Target,
    images: np.ndarray,
    policy: Policy,
    watch: Watcher,
    clock: Clock = time.perf_counter_ns,
    alone: AbstractContextManager[object] | None = None,
    most_windows: int = MAXIMUM_WINDOWS,
) -> Reading:
    """Times one call of a loaded model, on images that are ready.

    Args:
        session: The model.
        target: What it was loaded for.
        images: One batch as the artifact takes it.
        policy: When a window is whole.
        watch: Looks at the machine, see ``take_window``.
        clock: Gives nanoseconds, monotonic.
        alone: Held while samples are taken, not while the call is made ready: the machine's lease, the pinned cores.
        most_windows: As many windows are taken at most until one is undisturbed.

    Raises:
        ArtifactError: The model does not take these images.
    """
    timed = session.timed(session.call(images), clock)
    with alone or nullcontext():
        taken = take_window(timed, policy, watch, target.batch, most_windows)
    return Reading(target, taken.window, taken.windows, session.threads, calm=taken.calm)


def cores_for(threads: int | None, usable: Collection[int]) -> tuple[int, ...]:
    """The cores that so many threads are kept on: the last ones, as the first serve most interrupts."""
    return tuple(sorted(usable)[-threads:]) if threads else tuple(sorted(usable))


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Keeps every thread of this process on some cores, and lets them go afterwards.

    Threads of a runtime's pool have an affinity of their own, so each is set. Where the system has none (macOS,
    Windows), nothing is pinned.
    """
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    _pin_all(set(cores))
    try:
        yield
    finally:
        _pin_all(before)


def _pin_all(cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)
    try:
        threads = [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return
    for thread in threads:
        try:
            os.sched_setaffinity(thread, cores)
        except OSError:  # it has ended meanwhile
            continue
