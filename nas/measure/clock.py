"""The clock: how a call is timed, and what its samples say.

A latency is a distribution. A call is warmed up until it no longer changes speed, then sampled until a minimum count
*and* a minimum duration are reached, with the garbage collector off; the raw samples are kept, and summarised by the
median, its bootstrap interval, the 95th percentile and the interquartile range.
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
# Makes one call and gives its duration in nanoseconds, by the host's clock or by the device's own.
Timed = Callable[[], int]

NANOSECONDS_PER_MS = 1_000_000

# Warm-up has settled when the medians of two neighbouring blocks of runs differ by at most this share.
WARMUP_BLOCK = 10
WARMUP_TOLERANCE = 0.02

# Fewer samples than this say nothing of their spread.
FEWEST_SAMPLES = 6

# A window is called unstable when its interquartile range exceeds this share of the median ("spread") ...
UNSTABLE_SPREAD = 0.10
# ... or when the medians of its first and second half lie further apart than this share of the median ("drift").
UNSTABLE_DRIFT = 0.05

# The bootstrap of the median: resamples, distinct values that are told apart, and blocks that a window is cut into.
RESAMPLES = 400
MOST_VALUES = 1024
FEWEST_BLOCKS, MOST_BLOCKS = 25, 100


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
        low_ms: Lower end of the median's 95 % interval, by the bootstrap.
        high_ms: Upper end of it.
        p95_ms: The 95th percentile.
        iqr_ms: The interquartile range.
        samples: How many samples there are.
        troubles: Names of the thresholds that were exceeded: ``spread`` (``UNSTABLE_SPREAD``), ``drift``
            (``UNSTABLE_DRIFT``).
        fps: Images per second at the median: 1000 · batch / median_ms.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    p95_ms: float
    iqr_ms: float
    samples: int
    troubles: tuple[str, ...]
    fps: float

    @property
    def unstable(self) -> bool:
        """Whether the samples themselves say that the window was disturbed."""
        return bool(self.troubles)


def timed_by(run: Callable[[], object], clock: Clock = time.perf_counter_ns) -> Timed:
    """A call timed by a clock of the host: between its two readings there is nothing but the call."""

    def timed() -> int:
        start = clock()
        run()
        return clock() - start

    return timed


def sample(run: Callable[[], object], policy: Policy, clock: Clock = time.perf_counter_ns) -> np.ndarray:
    """Times a call by a clock of the host over and over; see ``sample_timed``."""
    return sample_timed(timed_by(run, clock), policy)


def sample_timed(timed: Timed, policy: Policy) -> np.ndarray:
    """Makes a timed call over and over and returns its durations in nanoseconds (int64), in the order taken.

    The warm-up runs the call at least once; it ends when two neighbouring blocks of ``WARMUP_BLOCK`` runs have medians
    at most ``WARMUP_TOLERANCE`` apart, or at ``policy.warmup_ms``. The garbage collector is off throughout and is
    afterwards as it was. A policy's durations are those of the calls alone, added up.

    Args:
        timed: The call, which gives its own duration.
        policy: When to stop.

    Raises:
        ValueError: The clock is too coarse for the call: it gives nothing but 0.
    """
    with _garbage_collector_off():
        _warm_up(timed, policy)
        return _sample_window(timed, policy)


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
    low, high = bootstrap_interval(samples_ms)
    return Summary(
        median_ms=median,
        low_ms=min(low, median),
        high_ms=max(high, median),
        p95_ms=p95,
        iqr_ms=third - first,
        samples=len(samples_ms),
        troubles=troubles_of(samples_ms),
        fps=1000 * batch / median,
    )


def troubles_of(samples: np.ndarray) -> tuple[str, ...]:
    """Names of the thresholds that samples exceed, see ``Summary``: N durations of any unit, in the order taken."""
    first, median, third = (float(value) for value in np.percentile(samples, [25, 50, 75]))
    half = len(samples) // 2
    drift = abs(float(np.median(samples[:half]) - np.median(samples[half:])))
    troubles = {"spread": third - first > UNSTABLE_SPREAD * median, "drift": drift > UNSTABLE_DRIFT * median}
    return tuple(name for name, exceeded in troubles.items() if exceeded)


def bootstrap_interval(samples: np.ndarray, blocks: int | None = None) -> tuple[float, float]:
    """The 95 % interval of the median, by the percentile bootstrap over blocks of neighbouring samples.

    Neighbouring samples are alike (a timer tick, a cache that another call emptied), so blocks of them are drawn, not
    single ones, which would give an interval that is too narrow (the blocks do not overlap, as in E. Carlstein, The
    use of subseries values for estimating the variance of a general statistic from a stationary sequence, Annals of
    Statistics 14, 1986). The median of a resample is read off counts: one row for each block, one column for each
    distinct value, so that the cost does not grow with resamples · samples.

    Args:
        samples: Durations of one unit, in the order taken, at least ``FEWEST_SAMPLES``.
        blocks: How many blocks; by default as many as give blocks of the cube root of the number of samples, but
            ``FEWEST_BLOCKS`` to ``MOST_BLOCKS`` as far as there are samples.

    Returns:
        Lower and upper end, in the samples' unit. The same samples give the same interval.
    """
    count = len(samples)
    number = min(count, blocks or max(FEWEST_BLOCKS, min(MOST_BLOCKS, round(count ** (2 / 3)))))
    block_of = np.arange(count) * number // count
    # Where there are too many distinct values their quantiles stand for them, densely where the medians lie.
    grid = np.unique(samples)
    if len(grid) > MOST_VALUES:
        shares = np.concatenate([np.linspace(0, 1, MOST_VALUES // 2), np.linspace(0.4, 0.6, MOST_VALUES // 2)])
        grid = np.unique(np.quantile(samples, shares, method="nearest"))
    column = np.minimum(np.searchsorted(grid, samples), len(grid) - 1)
    counts = np.zeros((number, len(grid)))
    np.add.at(counts, (block_of, column), 1.0)
    drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
    below = np.cumsum(drawn @ counts, axis=1)
    half = below[:, -1:] / 2
    # The median of an even number of samples lies halfway between the two in the middle.
    lower, upper = grid[np.argmax(below >= half, axis=1)], grid[np.argmax(below > half, axis=1)]
    low, high = np.percentile((lower + upper) / 2, [2.5, 97.5])
    return float(low), float(high)


def _warm_up(timed: Timed, policy: Policy) -> None:
    left = policy.warmup_ms * NANOSECONDS_PER_MS
    previous: float | None = None
    while True:
        durations: list[int] = []
        for _ in range(WARMUP_BLOCK):
            durations.append(timed())
            left -= durations[-1]
            if left <= 0:
                return
        current = statistics.median(durations)
        if previous is not None and abs(current - previous) <= WARMUP_TOLERANCE * previous:
            return
        previous = current


def _sample_window(timed: Timed, policy: Policy) -> np.ndarray:
    """Samples in blocks that are allocated before they are filled, so that nothing is allocated between samples."""
    enough = policy.minimum_ms * NANOSECONDS_PER_MS
    too_long = policy.maximum_ms * NANOSECONDS_PER_MS
    blocks: list[np.ndarray] = []
    taken = elapsed = 0
    while True:
        block = np.zeros(max(policy.minimum_samples, 1024), dtype=np.int64)
        blocks.append(block)
        for i in range(len(block)):
            duration = timed()
            block[i] = duration
            taken += 1
            elapsed += duration
            if elapsed >= enough and (
                taken >= policy.minimum_samples or (elapsed >= too_long and taken >= FEWEST_SAMPLES)
            ):
                samples: np.ndarray = np.concatenate(blocks)[:taken]
                return samples
        if elapsed == 0:
            raise ValueError(f"the clock is too coarse: {taken} calls took no time")


@contextmanager
def _garbage_collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
