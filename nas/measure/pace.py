"""How fast the machine is at this moment, against the fastest it was seen: a check on every latency.

A core that is shared with others, a lowered clock, another virtual machine on the same processor: each slows all down
alike for a second or a minute, and the samples of such a time scatter no more than others. So the samples cannot tell;
a fixed piece of arithmetic beside them can.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from nas.measure.clock import Clock

# Side of the square matrices: some tens of microseconds in vector units and cache, as a small network's kernels.
MATRIX = 96
RUNS = 31

# A pace slower than the best by more than this is a disturbance: about ten times what quiet runs differ by.
SLOWED_DOWN = 1.10


def _arithmetic() -> Callable[[], object]:
    left = np.random.default_rng(0).standard_normal((MATRIX, MATRIX)).astype(np.float32)
    out = np.empty_like(left)
    return lambda: np.matmul(left, left, out=out)


class Pace:
    """Times a fixed piece of work, and remembers its best time.

    Args:
        work: What is timed; a product of two small matrices by default.
        clock: Gives nanoseconds, monotonic.
    """

    def __init__(self, work: Callable[[], object] | None = None, clock: Clock = time.perf_counter_ns) -> None:
        self.work = work or _arithmetic()
        self.clock = clock
        self.best = float("inf")

    def __call__(self) -> float:
        """How many times slower the machine is now than at its best so far; 1 at the first call. Takes 1 to 3 ms."""
        times = []
        for _ in range(RUNS):
            started = self.clock()
            self.work()
            times.append(self.clock() - started)
        now = float(statistics.median(times))
        self.best = min(self.best, now)
        return now / self.best
