"""The clock: how a call is timed, and what its samples say.

A latency is a distribution. A call is warmed up until it no longer changes speed, then sampled until a minimum count
*and* a minimum duration are reached, with the garbage collector off; the raw samples are kept, and summarised by the
median, its interval, the 95th percentile and the interquartile range.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

Clock = Callable[[], int]

NANOSECONDS_PER_MS = 1_000_000

# Warm-up has settled when the medians of two neighbouring blocks of runs differ by at most this share.
WARMUP_BLOCK = 10
WARMUP_TOLERANCE = 0.02

# Fewer samples than this have no distribution-free 95 % interval of the median: 1 - 2 · 0.5^n >= 0.95 needs n >= 6.
FEWEST_SAMPLES = 6

# A window is called unstable when its interquartile range exceeds this share of the median ...
UNSTABLE_IQR = 0.10
# ... or when the medians of its first and second half lie further apart than this share of the whole median.
UNSTABLE_DRIFT = 0.05


@dataclass(frozen=True)
class Policy:
    """How long a call is sampled. The defaults take 0.3 to 0.5 s for a call of less than a millisecond.

    Args:
        warmup_ms: Longest warm-up; it ends earlier when the call has settled.
        minimum_samples: Sampling goes on at least until there are so many samples,
        minimum_ms: and at least for so long,
        maximum_ms: but no longer than this, unless ``FEWEST_SAMPLES`` are still missing.
    """

    warmup_ms: float = 100.0
    minimum_samples: int = 50
    minimum_ms: float = 300.0
    maximum_ms: float = 3000.0

    def __post_init__(self) -> None:
        if self.minimum_samples < FEWEST_SAMPLES:
            raise ValueError(f"minimum_samples must be at least {FEWEST_SAMPLES}, but got {self.minimum_samples}")
        if self.warmup_ms < 0 or self.minimum_ms < 0:
            raise ValueError(f"durations must be 0 or more, but got {self.warmup_ms} and {self.minimum_ms} ms")
        if self.maximum_ms < self.minimum_ms:
            raise ValueError(f"maximum_ms must be at least minimum_ms, but {self.maximum_ms} < {self.minimum_ms}")


@dataclass(frozen=True)
class Summary:
    """What the samples of one window say.

    Args:
        median_ms: The median.
        low_ms: Lower end of the median's 95 % interval.
        high_ms: Upper end of it.
        p95_ms: The 95th percentile.
        iqr_ms: The interquartile range.
        samples: How many samples there are.
        unstable: Whether the window was disturbed: ``UNSTABLE_IQR`` or ``UNSTABLE_DRIFT`` was exceeded.
        fps: Images per second at the median: 1000 · batch / median_ms.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    p95_ms: float
    iqr_ms: float
    samples: int
    unstable: bool
    fps: float


def sample(run: Callable[[], object], policy: Policy, clock: Clock = time.perf_counter_ns) -> np.ndarray:
    """Times a call over and over and returns its durations in nanoseconds (int64), in the order taken.

    The warm-up runs the call at least once; it ends when two neighbouring blocks of ``WARMUP_BLOCK`` runs have medians
    at most ``WARMUP_TOLERANCE`` apart, or at ``policy.warmup_ms``. The garbage collector is off throughout and is
    afterwards as it was. Between two clock readings there is nothing but the call.

    Args:
        run: The call, without arguments.
        policy: When to stop.
        clock: Gives nanoseconds, monotonic.
    """
    with _garbage_collector_off():
        _warm_up(run, policy, clock)
        return _sample_window(run, policy, clock)


def summarise(samples_ns: np.ndarray, batch: int) -> Summary:
    """Median, interval, percentiles and verdict of one window's samples.

    Args:
        samples_ns: Durations in nanoseconds, in the order taken, at least ``FEWEST_SAMPLES``.
        batch: Images in one call.
    """
    if len(samples_ns) < FEWEST_SAMPLES:
        raise ValueError(f"a summary needs at least {FEWEST_SAMPLES} samples, but got {len(samples_ns)}")
    samples_ms = np.asarray(samples_ns, dtype=np.float64) / NANOSECONDS_PER_MS
    first, median, third, p95 = (float(value) for value in np.percentile(samples_ms, [25, 50, 75, 95]))
    if median <= 0:
        raise ValueError("the clock is too coarse: the median of the samples is 0")
    ordered = np.sort(samples_ms)
    rank = median_interval_rank(len(ordered))
    half = len(samples_ms) // 2
    drift = abs(float(np.median(samples_ms[:half]) - np.median(samples_ms[half:])))
    return Summary(
        median_ms=median,
        low_ms=float(ordered[rank - 1]),
        high_ms=float(ordered[len(ordered) - rank]),
        p95_ms=p95,
        iqr_ms=third - first,
        samples=len(samples_ms),
        unstable=third - first > UNSTABLE_IQR * median or drift > UNSTABLE_DRIFT * median,
        fps=1000 * batch / median,
    )


def median_interval_rank(count: int) -> int:
    """The rank r for which the r-th smallest and r-th largest of n samples enclose the median in 95 % of cases.

    Distribution-free and exact: the number of samples below the median is binomial (n, 1/2), so the two miss it with
    probability 2 · P(X < r); r is the largest rank for which that is at most 5 % (H. A. David and H. N. Nagaraja,
    Order Statistics, 3rd edition, section 7.1). It takes the samples for independent, so it speaks of the scatter
    within a window, not of what changes between windows; drift is what ``Summary.unstable`` looks for.

    Args:
        count: Number of samples, at least ``FEWEST_SAMPLES``.
    """
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    log_binomials = log_factorials[count] - log_factorials - log_factorials[::-1]
    below = np.cumsum(np.exp(log_binomials - count * np.log(2.0)))
    # below[k] is P(X <= k) = P(X < k + 1), so the ranks that qualify are 1 .. number of entries up to 2.5 %.
    return int(np.searchsorted(below, 0.025, side="right"))


def _warm_up(run: Callable[[], object], policy: Policy, clock: Clock) -> None:
    deadline = clock() + policy.warmup_ms * NANOSECONDS_PER_MS
    previous: float | None = None
    while True:
        durations: list[int] = []
        for _ in range(WARMUP_BLOCK):
            start = clock()
            run()
            end = clock()
            durations.append(end - start)
            if end >= deadline:
                return
        current = statistics.median(durations)
        if previous is not None and abs(current - previous) <= WARMUP_TOLERANCE * previous:
            return
        previous = current


def _sample_window(run: Callable[[], object], policy: Policy, clock: Clock) -> np.ndarray:
    """Samples in blocks that are allocated before they are filled, so that nothing is allocated between samples."""
    begin = clock()
    enough = begin + policy.minimum_ms * NANOSECONDS_PER_MS
    too_long = begin + policy.maximum_ms * NANOSECONDS_PER_MS
    blocks: list[np.ndarray] = []
    taken = 0
    while True:
        block = np.zeros(max(policy.minimum_samples, 1024), dtype=np.int64)
        blocks.append(block)
        for i in range(len(block)):
            start = clock()
            run()
            end = clock()
            block[i] = end - start
            taken += 1
            if end >= enough and (taken >= policy.minimum_samples or (end >= too_long and taken >= FEWEST_SAMPLES)):
                return np.concatenate(blocks)[:taken]


@contextmanager
def _garbage_collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
