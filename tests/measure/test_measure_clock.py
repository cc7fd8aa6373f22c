from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest

from nas.measure.clock import FEWEST_SAMPLES, Policy, median_interval_rank, sample, summarise

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
    begins = 2  # of the warm-up and of the window
    assert fake.readings == begins + 2 * fake.runs


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
    assert (summary.low_ms, summary.high_ms) == (40.0, 61.0)  # ranks 40 and 61 of 100, as tables have them
    assert summary.samples == 100
    assert summary.fps == pytest.approx(4000 / 50.5)
    assert summary.unstable


@pytest.mark.parametrize(
    ("samples_ms", "unstable"),
    [
        pytest.param([1.0] * 100, False, id="constant"),
        pytest.param([1.0] * 96 + [50.0] * 4, False, id="a few outliers"),
        pytest.param([0.96, 1.04] * 50, False, id="range of 8 %"),
        pytest.param([0.94, 1.06] * 50, True, id="range of 12 %"),
        pytest.param([1.0] * 50 + [1.04] * 50, False, id="drift of 4 %"),
        pytest.param([1.0] * 50 + [1.07] * 50, True, id="drift of 7 %"),
        pytest.param([1.07] * 50 + [1.0] * 50, True, id="drift the other way"),
    ],
)
def test_unstable_is_said_of_wide_or_drifting_samples(samples_ms: list[float], unstable: bool) -> None:
    assert summarise(np.array(samples_ms) * MS, 1).unstable is unstable


@pytest.mark.parametrize("count", [*range(6, 120), 1000, 1001])
def test_interval_rank_is_the_largest_with_95_percent(count: int) -> None:
    def misses(rank: int) -> float:
        return 2 * sum(math.comb(count, below) for below in range(rank)) / 2**count

    rank = median_interval_rank(count)
    assert rank >= 1
    assert misses(rank) <= 0.05 < misses(rank + 1)


def test_interval_rank_of_very_many_samples_follows_the_normal_approximation() -> None:
    count = 100_000
    assert median_interval_rank(count) == pytest.approx(count / 2 - 1.96 * math.sqrt(count) / 2, abs=2)


def test_interval_covers_the_true_median_of_a_skewed_distribution() -> None:
    generator = np.random.default_rng(0)
    windows = generator.exponential(MS, (2000, 51))
    summaries = [summarise(window, 1) for window in windows]
    covered = np.mean([summary.low_ms <= math.log(2) <= summary.high_ms for summary in summaries])
    assert 0.94 < covered < 0.98


def test_too_few_samples_or_too_coarse_a_clock_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 6 samples, but got 5"):
        summarise(np.ones(5), 1)
    with pytest.raises(ValueError, match="too coarse"):
        summarise(np.zeros(6), 1)
