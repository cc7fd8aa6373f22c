from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic_latencies import PLATFORM, convolution, softmax

from nas.estimate.roofline import kernel_ms, peak, roofline_ms


def test_arithmetic_decides_where_it_takes_longer() -> None:
    kernel = convolution(channels=16, pixels=100, depth=144)  # 230,400 multiply-adds
    assert kernel_ms(kernel, PLATFORM) == pytest.approx(1000 * 2 * 230_400 / 4e9)


def test_bytes_decide_where_they_take_longer() -> None:
    kernel = softmax(classes=10_000)
    assert kernel_ms(kernel, PLATFORM) == pytest.approx(1000 * 80_000 / 4e10)
    large = replace(kernel, moved_bytes=10**7)  # fits into no cache
    assert kernel_ms(large, PLATFORM) == pytest.approx(1000 * 10**7 / 1e10)


def test_integers_have_a_peak_of_their_own() -> None:
    assert peak(convolution(16, 100, 144, "uint8"), PLATFORM) == 8e9
    assert peak(convolution(16, 100, 144), PLATFORM) == 4e9
    assert peak(convolution(16, 100, 144), replace(PLATFORM, flops_per_second_conv=6e9)) == 6e9


def test_kernels_run_one_after_the_other() -> None:
    kernels = [convolution(16, 100, 144), convolution(16, 100, 144, "uint8"), softmax()]
    assert roofline_ms(kernels, PLATFORM) == pytest.approx(sum(kernel_ms(kernel, PLATFORM) for kernel in kernels))
    assert roofline_ms([], PLATFORM) == 0
