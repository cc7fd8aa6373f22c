from __future__ import annotations

import itertools

import pytest
import torch

from nas.errors import UnsupportedError
from nas.measure.platform import (
    CACHE_BYTES,
    CONV_CHANNELS,
    CONV_KERNEL,
    CONV_SIZE,
    MATMUL_SIZE,
    MEMORY_BYTES,
    Platform,
    calibrate,
    estimated_ms,
)
from nas.target import usable_cores

MS = 1_000_000


def test_speeds_are_operations_over_the_median_time() -> None:
    ticks = itertools.count(0, 2 * MS)  # whatever is run between two readings takes 2 ms
    platform = calibrate(1, seconds=0.2, clock=lambda: next(ticks))
    assert platform.threads == 1
    assert platform.flops_per_second_matmul == pytest.approx(2 * MATMUL_SIZE**3 / 0.002)
    convolution = 2 * CONV_SIZE**2 * CONV_CHANNELS**2 * CONV_KERNEL**2
    assert platform.flops_per_second_conv == pytest.approx(convolution / 0.002)
    assert not platform.unstable


def test_bytes_and_integers_are_counted_likewise() -> None:
    ticks = itertools.count(0, 2 * MS)
    platform = calibrate(1, seconds=0.2, clock=lambda: next(ticks))
    assert platform.int8_ops_per_second == pytest.approx(2 * MATMUL_SIZE**3 / 0.002)
    assert platform.bytes_per_second_cache == pytest.approx(2 * CACHE_BYTES / 0.002)  # read and written
    assert platform.bytes_per_second_memory == pytest.approx(2 * MEMORY_BYTES / 0.002)


def test_what_fits_in_the_cache_is_moved_at_its_speed() -> None:
    platform = Platform(1e9, 1e9, 1, bytes_per_second_cache=4e10, bytes_per_second_memory=1e10)
    assert platform.bytes_per_second(2 * CACHE_BYTES) == 4e10
    assert platform.bytes_per_second(2 * CACHE_BYTES + 1) == 1e10


def test_disturbed_calibration_says_so() -> None:
    steps = itertools.accumulate(itertools.cycle([0, 2 * MS, 0, 3 * MS]))
    assert calibrate(1, seconds=0.2, clock=lambda: next(steps)).unstable


def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    calibrate(1, seconds=0.001)
    assert torch.get_num_threads() == before


def test_more_threads_than_cores_are_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="threads, but this process may use"):
        calibrate(usable_cores() + 1)


def test_textbook_estimate_of_the_article() -> None:
    estimate = estimated_ms(1_059_880, 1e9)
    assert estimate == pytest.approx(1.05988)
    assert round(estimate) == 1
