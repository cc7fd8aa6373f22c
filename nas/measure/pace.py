"""How fast the machine is at this moment, against the fastest it was seen: a check on every latency.

A core that is shared with others, a lowered clock, another virtual machine on the same processor: each slows all down
alike for a second or a minute, and the samples of such a time scatter no more than others. So the samples cannot tell;
fixed pieces of arithmetic beside them can. There are two of them, as not all work is slowed down alike: beside a
neighbour on the same core an interpreter's steps were seen to take 1.75 times as long, products of matrices 1.15 times,
and small networks, which are made of both, 1.5 times.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from nas.measure.clock import Clock

# Side of the square matrices: some tens of microseconds in vector units and cache, as a small network's kernels.
MATRIX = 96
# Steps of a loop: some tens of microseconds of what an interpreter or a runtime does between kernels.
LOOP = 400
RUNS = 31

# A pace slower than the best by more than this is a disturbance: about ten times what quiet runs differ by.
SLOWED_DOWN = 1.10


def _product() -> Callable[[], object]:
    left = np.random.default_rng(0).standard_normal((MATRIX, MATRIX)).astype(np.float32)
    out = np.empty_like(left)
    return lambda: np.matmul(left, left, out=out)


def _steps() -> int:
    total = 0
    for number in range(LOOP):
        total += number * number
    return total


class Pace:
    """Times fixed pieces of work, and remembers the best time of each.

    Args:
        works: What is timed; a product of two small matrices and a loop by default.
        clock: Gives nanoseconds, monotonic.
    """

    def __init__(self, works: Sequence[Callable[[], object]] = (), clock: Clock = time.perf_counter_ns) -> None:
        self.works = tuple(works) or (_product(), _steps)
        self.clock = clock
        self.best = [float("inf")] * len(self.works)

    def settle(self, seconds: float) -> None:
        """Looks for so long, so that the best is not that of a slow spell; on the clock of the process."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self()

    def __call__(self) -> float:
        """How many times slower the machine is now than at its best so far, of what is slowed down most; 1 at the
        first call. Takes 2 to 4 ms."""
        slowdowns = []
        for place, work in enumerate(self.works):
            times = []
            for _ in range(RUNS):
                started = self.clock()
                work()
                times.append(self.clock() - started)
            now = float(statistics.median(times))
            self.best[place] = min(self.best[place], now)
            slowdowns.append(now / self.best[place])
        return max(slowdowns)
