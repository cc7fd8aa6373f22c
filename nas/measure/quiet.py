"""Whether anything else ran while a latency was taken: the machine's pace, its load, and the clock of its cores.

The samples of a window cannot tell: what slows all of them alike makes them scatter no more. So the machine is looked
at before and after, by what Linux counts for itself (the processor time of all that ran, the time that we waited for a
core) and by the times that fixed pieces of arithmetic take.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas.measure.pace import SLOWED_DOWN, Pace
from nas.target import affinity

# Others' processor time during a window, in cores: beyond it memory, caches and the clock are shared with somebody.
BUSY_CORES = 0.25
# Others' processor time on the very cores that are measured on, as a share of the window; ticks are 10 ms apart.
BUSY_SAME_CORES = 0.10
# Share of the window that we waited for a core that another process had.
WAITED = 0.02
# Relative change of the cores' clock frequency, where it is told.
FREQUENCY_CHANGE = 0.05

_PROC = Path("/proc")
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Counters:
    """What the system counts, at one moment; None or empty where it does not say.

    Args:
        seconds: The time, monotonic.
        own_seconds: Processor time of this process, all threads.
        core_seconds: Processor time that each core has given to anybody (other virtual machines included), by core.
        waited_seconds: How long this thread was ready to run and did not.
        mhz: Clock frequency of the first core that is measured on.
    """

    seconds: float
    own_seconds: float
    core_seconds: Mapping[int, float]
    waited_seconds: float | None = None
    mhz: float | None = None


@dataclass(frozen=True)
class Look:
    """One look at the machine: counters, the pace, counters again, so that the look itself is in no window."""

    before: Counters
    slowdown: float
    after: Counters


@dataclass(frozen=True)
class Busy:
    """Processor time of others on some cores, as the system counts it: in ticks, so that of each core at most one may
    be somebody's or nobody's. So little is taken for none, without which a short window would always look disturbed.

    Args:
        seconds: How much it was.
        elapsed: In how many seconds.
        cores: On how many cores.
    """

    seconds: float
    elapsed: float
    cores: int

    @property
    def busy(self) -> float:
        """How many of the cores that kept busy."""
        return self.seconds / self.elapsed if self.seconds > self.cores / _TICKS_PER_SECOND else 0.0


@dataclass(frozen=True)
class Surroundings:
    """What happened on the machine during one window.

    Args:
        slowdown: How many times slower the machine was than at its best, the larger of before and after.
        busy_cores: Cores' worth of processor time that others used, on all cores that we may use.
        busy_same_cores: The same on the cores that are measured on, as a share of them.
        waited: Share of the window that we waited for a core.
        mhz: Clock frequency afterwards.
        mhz_change: Its relative change.
        all_cores: What ``busy_cores`` is of, so that it can be told of several windows together.
        same_cores: What ``busy_same_cores`` is of.
    """

    slowdown: float = 1.0
    busy_cores: float | None = None
    busy_same_cores: float | None = None
    waited: float | None = None
    mhz: float | None = None
    mhz_change: float | None = None
    all_cores: Busy | None = field(default=None, repr=False, compare=False)
    same_cores: Busy | None = field(default=None, repr=False, compare=False)

    @property
    def troubles(self) -> tuple[str, ...]:
        """Names of the thresholds that were exceeded: ``pace``, ``load``, ``same core``, ``waited``, ``frequency``."""
        limits = (
            ("pace", self.slowdown, SLOWED_DOWN),
            ("load", self.busy_cores, BUSY_CORES),
            ("same core", self.busy_same_cores, BUSY_SAME_CORES),
            ("waited", self.waited, WAITED),
            ("frequency", self.mhz_change, FREQUENCY_CHANGE),
        )
        return tuple(name for name, value, limit in limits if value is not None and value > limit)


class Watch:
    """Looks at the machine.

    Args:
        pace: How many times slower than at its best the machine is at the moment.
        root: Where the system's counters lie.
    """

    def __init__(self, pace: Callable[[], float] | None = None, root: Path = _PROC) -> None:
        self.pace = pace or Pace()
        self.root = root
        self.usable = affinity()

    def look(self) -> Look:
        """Looks now; takes 2 to 4 ms."""
        before = self._counters()
        slowdown = self.pace()
        return Look(before, slowdown, self._counters())

    def between(self, first: Look, second: Look) -> Surroundings:
        """What happened from one look to the next, on the cores that this process is kept on."""
        begin, end = first.after, second.before
        elapsed = end.seconds - begin.seconds
        slowdown = max(first.slowdown, second.slowdown)
        if elapsed <= 0:
            return Surroundings(slowdown)
        own = end.own_seconds - begin.own_seconds
        same = affinity()
        waited = None
        if begin.waited_seconds is not None and end.waited_seconds is not None:
            waited = (end.waited_seconds - begin.waited_seconds) / elapsed
        change = abs(end.mhz / begin.mhz - 1) if begin.mhz and end.mhz else None
        everywhere, here = (_others(begin, end, cores, own, elapsed) for cores in (self.usable, same))
        return Surroundings(
            slowdown,
            busy_cores=None if everywhere is None else everywhere.busy,
            # Our own threads are kept on these cores, so all of our time was spent there.
            busy_same_cores=None if here is None else here.busy / here.cores,
            waited=waited,
            mhz=end.mhz,
            mhz_change=change,
            all_cores=everywhere,
            same_cores=here,
        )

    def _counters(self) -> Counters:
        return Counters(
            time.monotonic(),
            time.process_time(),
            core_seconds(self.root),
            _waited_seconds(self.root),
            _mhz(self.root, min(affinity(), default=0)),
        )


def core_seconds(root: Path = _PROC) -> dict[int, float]:
    """Processor time that each core has given to anybody so far, in seconds; empty where the system does not say.

    From ``/proc/stat``: user, nice, system, interrupts and stolen time; guests' time is in user time already.
    """
    seconds: dict[int, float] = {}
    try:
        lines = (root / "stat").read_text().splitlines()
    except OSError:
        return {}
    for line in lines:
        words = line.split()
        if len(words) > 8 and (core := words[0].removeprefix("cpu")).isdigit():
            user, nice, system, _idle, _waiting, irq, softirq, steal = (int(number) for number in words[1:9])
            seconds[int(core)] = (user + nice + system + irq + softirq + steal) / _TICKS_PER_SECOND
    return seconds


def joined(parts: Sequence[Surroundings]) -> Surroundings:
    """What happened during several windows that are taken as one: the worst of each, and of all together how busy the
    machine was and how far its clock drifted, which short windows are too short to tell."""
    clocks = [part.mhz for part in parts if part.mhz]
    changes = [part.mhz_change for part in parts if part.mhz_change is not None]
    everywhere, here = (_together([getattr(part, name) for part in parts]) for name in ("all_cores", "same_cores"))

    def worst(name: str) -> float | None:
        return max((value for part in parts if (value := getattr(part, name)) is not None), default=None)

    return Surroundings(
        max(part.slowdown for part in parts),
        busy_cores=worst("busy_cores") if everywhere is None else everywhere.busy,
        busy_same_cores=worst("busy_same_cores") if here is None else here.busy / here.cores,
        waited=worst("waited"),
        mhz=clocks[-1] if clocks else None,
        mhz_change=max([*changes, max(clocks) / min(clocks) - 1]) if clocks else max(changes, default=None),
        all_cores=everywhere,
        same_cores=here,
    )


def _together(parts: Sequence[Busy | None]) -> Busy | None:
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    return Busy(sum(part.seconds for part in known), sum(part.elapsed for part in known), known[0].cores)


def _others(begin: Counters, end: Counters, cores: Collection[int], own: float, elapsed: float) -> Busy | None:
    """Processor time that others used on some cores; None where the system does not say."""
    shared = [core for core in cores if core in begin.core_seconds and core in end.core_seconds]
    if not shared or not any(end.core_seconds.values()):
        return None
    busy = sum(end.core_seconds[core] - begin.core_seconds[core] for core in shared) - own
    return Busy(busy, elapsed, len(shared))


def _waited_seconds(root: Path) -> float | None:
    """``/proc/thread-self/schedstat``: time on a core, time waiting for one, in nanoseconds, and time slices."""
    try:
        return int((root / "thread-self" / "schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def _mhz(root: Path, core: int) -> float | None:
    """From ``/proc/cpuinfo``, up to the core's own lines: where there are many cores the rest takes milliseconds."""
    number = None
    try:
        with (root / "cpuinfo").open() as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == "processor":
                    number = int(value)
                elif name.strip() == "cpu MHz" and number == core:
                    return float(value)
    except (OSError, ValueError):
        return None
    return None
