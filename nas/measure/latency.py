"""Latency of a loaded model: windows of samples, a look at the machine around each, and the verdict on them.

This is what the measuring process (``nas.measure.server``) does; whoever wants a latency asks ``nas.measure.measurer``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from nas.measure.clock import NANOSECONDS_PER_MS, Clock, Policy, Summary, sample_timed, summarise
from nas.measure.quiet import Look, Surroundings
from nas.measure.runtimes.base import Session
from nas.outcome import How, Quantity
from nas.target import Target

# How whoever needs a latency is given it: (file, target, images as the artifact takes them) → (``latency_ms``, raw
# samples in ms).
Measure = Callable[[bytes, Target, np.ndarray], tuple[Quantity, np.ndarray]]

# A disturbed window is taken again, so often in all: neighbours on a shared machine come and go, and a second look
# costs less than a wrong number.
MAXIMUM_WINDOWS = 3
# Windows are taken in parts of so long, as a neighbour on the same core may come and go ten times a second: what was
# not disturbed of them counts, where it makes this share of a window at least. Each part ends with a look at the
# machine, which takes a twentieth of it.
PART_MS = 30.0
ENOUGH_UNDISTURBED = 0.25

# A design whose latency is within so many times that of a model that computes nothing is bound by the cost of a call.
OVERHEAD_BOUND = 3.0


class Watcher(Protocol):
    """Looks at the machine around a window; ``nas.measure.quiet.Watch`` is the real one."""

    def look(self) -> Look: ...

    def between(self, first: Look, second: Look) -> Surroundings: ...


@dataclass(frozen=True)
class Window:
    """Samples taken in one go, or in several undisturbed parts, in nanoseconds, and what else the machine did."""

    samples_ns: np.ndarray
    summary: Summary
    surroundings: Surroundings

    @property
    def troubles(self) -> tuple[str, ...]:
        """Names of all thresholds that were exceeded, of the samples and of the machine."""
        return (*self.summary.troubles, *self.surroundings.troubles)

    @property
    def _badness(self) -> tuple[bool, float, float]:
        spread = self.summary.iqr_ms / self.summary.median_ms
        return bool(self.troubles), round(self.surroundings.slowdown, 1), spread


@dataclass(frozen=True)
class Reading:
    """A latency as it was taken.

    Args:
        target: What on.
        window: The least disturbed parts.
        windows: How many times as many were taken.
        threads: Threads of an operator as the runtime says; None on a GPU.
        cores: The cores that the process was kept on; empty where it was not.
        overhead_ms: Median of a model that computes nothing, in the same process; None where it was not measured.
        detail: What the runtime tells of itself.
        calm: Whether anything was undisturbed, so that waiting for more of it is not in vain.
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

    Parts of a window are taken until enough of them are undisturbed to make a whole one, or as many as make
    ``most_windows``. Then the undisturbed ones count, or, where they are too few, the least disturbed that make one.

    Args:
        session: The model.
        target: What it was loaded for.
        images: One batch as the artifact takes it.
        policy: When a window is whole.
        watch: Looks at the machine around each part.
        clock: Gives nanoseconds, monotonic.
        alone: Held while samples are taken, not while the call is made ready: the machine's lease, the pinned cores.
        most_windows: As many whole windows are taken at most.

    Raises:
        ArtifactError: The model does not take these images.
    """
    timed = session.timed(session.call(images), clock)
    part = replace(policy, minimum_ms=min(PART_MS, policy.minimum_ms))
    parts: list[Window] = []
    with alone or nullcontext():
        before = watch.look()
        while not (_whole(parts, policy, most_windows) or _whole([p for p in parts if not p.troubles], policy)):
            samples_ns = sample_timed(timed, replace(part, warmup_ms=0.0) if parts else part)
            after = watch.look()
            parts.append(Window(samples_ns, summarise(samples_ns, target.batch), watch.between(before, after)))
            before = after
    calm = [p for p in parts if not p.troubles]
    kept = calm if _whole(calm, policy, ENOUGH_UNDISTURBED) else _least_disturbed(parts, policy)
    again = (times for times in range(most_windows, 2, -1) if _whole(parts, policy, times))
    windows = 1 if len(kept) == len(parts) else next(again, 2)
    return Reading(target, _joined(kept, target.batch), windows, session.threads, calm=bool(calm))


def _least_disturbed(parts: Sequence[Window], policy: Policy) -> list[Window]:
    """Those that make one window, in the order taken."""
    kept: list[int] = []
    for place in sorted(range(len(parts)), key=lambda place: parts[place]._badness):
        if not _whole([parts[place] for place in kept], policy):
            kept.append(place)
    return [parts[place] for place in sorted(kept)]


def _milliseconds(parts: Sequence[Window]) -> float:
    return sum(float(part.samples_ns.sum()) for part in parts) / NANOSECONDS_PER_MS


def _whole(parts: Sequence[Window], policy: Policy, times: float = 1) -> bool:
    """Whether parts take as long as so many windows, and have the samples of one for each begun."""
    taken, spent = sum(len(part.samples_ns) for part in parts), _milliseconds(parts)
    enough = taken >= math.ceil(times) * policy.minimum_samples or spent >= times * policy.maximum_ms
    return bool(parts) and spent >= times * policy.minimum_ms and enough


def _joined(parts: Sequence[Window], batch: int) -> Window:
    """Parts as one window: all samples, and of what the machine did the worst."""
    if len(parts) == 1:
        return parts[0]
    samples_ns = np.concatenate([part.samples_ns for part in parts])
    worst = {
        name: max((value for part in parts if (value := getattr(part.surroundings, name)) is not None), default=None)
        for name in ("busy_cores", "busy_same_cores", "waited", "mhz", "mhz_change")
    }
    slowdown = max(part.surroundings.slowdown for part in parts)
    return Window(samples_ns, summarise(samples_ns, batch), Surroundings(slowdown, **worst))


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
