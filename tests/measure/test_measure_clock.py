from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from nas.measure.clock import FEWEST_SAMPLES, RESAMPLES, Policy, bootstrap_interval, sample, sample_timed, summarise

MS = 1_000_000


class FakeTime:
    """A clock and a call: each run of the call moves the clock on by the next of the scripted durations."""

    def __init__(self, durations_ns: Iterable[int]) -> None:
        self.now = 0
        self.runs = 0
        self.readings = 0
        self._durations = iter(durations_ns)

    def clock(self) -> int:
        self.readings += 1
        return self.now

    def run(self) -> None:
        self.runs += 1
        self.now += next(self._durations)


NO_WARMUP = 0.0


@pytest.mark.parametrize(
    ("duration_ns", "policy", "expected"),
    [
        pytest.param(MS, Policy(NO_WARMUP, 50, 10, 1000), 50, id="minimum count after minimum duration"),
        pytest.param(MS, Policy(NO_WARMUP, 50, 300, 1000), 300, id="minimum duration after minimum count"),
        pytest.param(100 * MS, Policy(NO_WARMUP, 50, 0, 1000), 10, id="maximum duration before minimum count"),
        pytest.param(1000 * MS, Policy(NO_WARMUP, 50, 0, 1000), FEWEST_SAMPLES, id="never too few for an interval"),
        pytest.param(MS // 10, Policy(NO_WARMUP, 6, 300, 1000), 3000, id="more than one block"),
    ],
)
def test_sampling_ends_when_count_and_duration_are_met(duration_ns: int, policy: Policy, expected: int) -> None:
    fake = FakeTime(itertools.repeat(duration_ns))
    samples = sample(fake.run, policy, fake.clock)
    assert len(samples) == expected
    assert set(samples.tolist()) == {duration_ns}


def test_samples_are_the_durations_in_order() -> None:
    script = list(range(1, 4002))
    fake = FakeTime(script)
    samples = sample(fake.run, Policy(NO_WARMUP, 4000, 0, 1000), fake.clock)
    assert samples.dtype == np.int64
    assert samples.tolist() == script[1:]  # the first run is the warm-up's


def test_warm_up_goes_on_until_two_blocks_agree() -> None:
    script = [*[10 * MS] * 10, *[5 * MS] * 10, *[5 * MS] * 10, *[4 * MS] * 1000]
    fake = FakeTime(script)
    samples = sample(fake.run, Policy(1000, 20, 0, 1000), fake.clock)
    assert fake.runs == 30 + 20
    assert set(samples.tolist()) == {4 * MS}


def test_warm_up_ignores_an_outlier_in_a_block() -> None:
    script = [*[5 * MS] * 19, 500 * MS, *[4 * MS] * 1000]
    fake = FakeTime(script)
    sample(fake.run, Policy(1000, 20, 0, 1000), fake.clock)
    assert fake.runs == 20 + 20


def test_warm_up_ends_at_its_limit() -> None:
    fake = FakeTime(MS * count for count in itertools.count(1))  # ever slower: 1, 2, 3, … ms
    samples = sample(fake.run, Policy(100, 20, 0, 1000), fake.clock)
    assert samples[0] == 15 * MS  # 1 + … + 14 = 105 ms is the first sum past 100


@pytest.mark.parametrize("was_on", [True, False])
def test_garbage_collector_is_off_meanwhile_and_as_before_afterwards(was_on: bool) -> None:
    seen: list[bool] = []
    fake = FakeTime(itertools.repeat(MS))

    def run() -> None:
        fake.run()
        seen.append(gc.isenabled())

    before = gc.isenabled()
    try:
        (gc.enable if was_on else gc.disable)()
        sample(run, Policy(NO_WARMUP, 6, 0, 10), fake.clock)
        assert gc.isenabled() is was_on
    finally:
        (gc.enable if before else gc.disable)()
    assert not any(seen)


def test_garbage_collector_is_restored_when_the_call_fails() -> None:
    def run() -> None:
        raise RuntimeError("the call fails")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="the call fails"):
        sample(run, Policy())
    assert gc.isenabled()


def test_clock_is_read_right_before_and_after_each_call() -> None:
    fake = FakeTime(itertools.repeat(MS))
    sample(fake.run, Policy(NO_WARMUP, 20, 0, 1000), fake.clock)
    assert fake.readings == 2 * fake.runs


def test_a_call_may_time_itself() -> None:
    """As on a GPU, whose own clock tells more: what it gives is taken, and the host's clock is not read."""
    script: Iterator[int] = iter(range(1, 1000))
    samples = sample_timed(lambda: next(script), Policy(NO_WARMUP, 10, 0, 1000))
    assert samples.tolist() == list(range(2, 12))


def test_durations_are_those_of_the_call_itself() -> None:
    calls = itertools.count()

    def timed() -> int:
        next(calls)
        return 7 * MS

    assert len(sample_timed(timed, Policy(21, 6, 63, 1000))) == 9
    assert next(calls) == 3 + 9  # 21 ms of warm-up, 63 ms of samples


def test_a_clock_that_stands_still_does_not_hang() -> None:
    with pytest.raises(ValueError, match="the clock is too coarse: 1024 calls took no time"):
        sample_timed(lambda: 0, Policy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"minimum_samples": 5}, "minimum_samples must be at least 6, but got 5"),
        ({"warmup_ms": -1.0}, "durations must be 0 or more"),
        ({"minimum_ms": 10.0, "maximum_ms": 9.0}, "maximum_ms must be at least minimum_ms"),
    ],
)
def test_impossible_policies_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(**arguments)  # type: ignore[arg-type]


def test_summary_of_known_samples() -> None:
    ordered = np.arange(1, 101) * MS
    samples = np.concatenate([ordered[::2], ordered[1::2]])
    summary = summarise(samples, batch=4)
    assert summary.median_ms == 50.5
    assert summary.p95_ms == pytest.approx(95.05)
    assert summary.iqr_ms == pytest.approx(49.5)
    assert (summary.low_ms, summary.high_ms) == bootstrap_interval(samples / MS)
    assert summary.samples == 100
    assert summary.fps == pytest.approx(4000 / 50.5)
    assert summary.troubles == ("spread",)


@pytest.mark.parametrize(
    ("samples_ms", "troubles"),
    [
        pytest.param([1.0] * 100, (), id="constant"),
        pytest.param([1.0] * 96 + [50.0] * 4, (), id="a few outliers"),
        pytest.param([0.96, 1.04] * 50, (), id="range of 8 %"),
        pytest.param([0.94, 1.06] * 50, ("spread",), id="range of 12 %"),
        pytest.param([1.0] * 50 + [1.04] * 50, (), id="drift of 4 %"),
        pytest.param([1.0] * 50 + [1.07] * 50, ("drift",), id="drift of 7 %"),
        pytest.param([1.07] * 50 + [1.0] * 50, ("drift",), id="drift the other way"),
        pytest.param([1.0] * 50 + [1.2] * 50, ("spread", "drift"), id="both"),
    ],
)
def test_exceeded_thresholds_are_named(samples_ms: list[float], troubles: tuple[str, ...]) -> None:
    summary = summarise(np.array(samples_ms) * MS, 1)
    assert summary.troubles == troubles
    assert summary.unstable is bool(troubles)


@pytest.mark.parametrize(
    ("samples", "interval"),
    [
        pytest.param([3.0] * 50, (3.0, 3.0), id="constant"),
        pytest.param([1.0, 2.0] * 500, (1.5, 1.5), id="two values, as often in every block"),
        pytest.param([1.0] * 550 + [9.0] * 450, (1.0, 9.0), id="two spells: which lasted longer is uncertain"),
        pytest.param([1.0, 9.0] * 450 + [1.0] * 100, (1.0, 1.0), id="the same values, mixed: it is certain"),
    ],
)
def test_intervals_of_known_samples(samples: list[float], interval: tuple[float, float]) -> None:
    assert bootstrap_interval(np.array(samples)) == interval


def by_resampling(samples: np.ndarray, number: int) -> tuple[float, float]:
    """The same bootstrap as one would write it down: blocks put together, and the median of each."""
    blocks = [samples[np.arange(len(samples)) * number // len(samples) == block] for block in range(number)]
    draws = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
    medians = [
        np.median(np.concatenate([blocks[i] for i, times in enumerate(draw) for _ in range(times)])) for draw in draws
    ]
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize(
    ("count", "number"),
    [(6, 6), (7, 7), (25, 25), (50, 25), (51, 25), (200, 34), (1000, 100), (1001, 100), (1024, 100)],
)
def test_the_interval_is_that_of_resampled_blocks(count: int, number: int) -> None:
    samples = np.random.default_rng(count).exponential(1.0, count)
    assert bootstrap_interval(samples) == pytest.approx(by_resampling(samples, number), rel=1e-12)


def test_rounded_samples_tie_and_give_the_same_interval_as_resampling() -> None:
    samples = np.random.default_rng(5).integers(100, 110, 400).astype(np.float64)
    assert bootstrap_interval(samples, 50) == by_resampling(samples, 50)


def test_the_same_samples_give_the_same_interval() -> None:
    samples = np.random.default_rng(1).exponential(1.0, 300)
    assert bootstrap_interval(samples) == bootstrap_interval(samples.copy())


@pytest.mark.parametrize("factor", [2.0, 1000.0])
def test_the_interval_scales_with_the_unit(factor: float) -> None:
    samples = np.random.default_rng(2).exponential(1.0, 300)
    low, high = bootstrap_interval(samples)
    assert bootstrap_interval(factor * samples) == pytest.approx((factor * low, factor * high))


def test_very_many_distinct_values_are_told_apart_finely_enough() -> None:
    """Where the grid of values is thinned, its step must be far below the interval's width."""
    samples = np.random.default_rng(3).permutation(np.arange(100_000, dtype=np.float64))
    low, high = bootstrap_interval(samples)
    expected = 1.96 * math.sqrt(100_000) / 2  # the normal approximation of the median's rank
    assert low == pytest.approx(50_000 - expected, abs=0.35 * expected)
    assert high == pytest.approx(50_000 + expected, abs=0.35 * expected)


def autocorrelated(generator: np.random.Generator, count: int, memory: float) -> np.ndarray:
    """Samples of which each resembles the one before (AR(1), the median is 10)."""
    noise = generator.standard_normal(count)
    values = np.empty(count)
    values[0] = noise[0] / math.sqrt(1 - memory**2)
    for i in range(1, count):
        values[i] = memory * values[i - 1] + noise[i]
    return 10 + values


@pytest.mark.parametrize("count", [50, 250])
def test_the_interval_covers_the_true_median_of_a_skewed_distribution(count: int) -> None:
    generator = np.random.default_rng(0)
    intervals = [bootstrap_interval(generator.exponential(1.0, count)) for _ in range(200)]
    covered = np.mean([low <= math.log(2) <= high for low, high in intervals])
    assert 0.90 < covered < 0.985


def test_blocks_make_the_interval_cover_where_neighbours_are_alike() -> None:
    generator = np.random.default_rng(0)
    series = [autocorrelated(generator, 400, 0.7) for _ in range(80)]

    def covered(blocks: int | None) -> float:
        intervals = [bootstrap_interval(samples, blocks) for samples in series]
        return float(np.mean([low <= 10 <= high for low, high in intervals]))

    assert covered(None) > 0.85
    assert covered(400) < 0.75  # samples drawn singly claim far more than they know


def test_too_few_samples_or_too_coarse_a_clock_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 6 samples, but got 5"):
        summarise(np.ones(5), 1)
    with pytest.raises(ValueError, match="too coarse"):
        summarise(np.zeros(6), 1)
