"""What arithmetic this machine can do per second, measured: the divisor of the textbook estimate of inference time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from nas.measure.target import Target

# Large enough that arithmetic outweighs the call, small enough for a second-level cache: 34 and 58 million FLOPs.
MATMUL_SIZE = 256
CONV_CHANNELS = 64
CONV_SIZE = 28
CONV_KERNEL = 3

SHORTEST_RUNS = 5


@dataclass(frozen=True)
class Platform:
    """Measured speed of float32 arithmetic, in FLOP/s (1 multiply-add = 2 FLOPs).

    Args:
        flops_per_second_matmul: Of a square matrix product.
        flops_per_second_conv: Of a 3×3 convolution at batch 1.
        threads: Threads that both were measured with.
    """

    flops_per_second_matmul: float
    flops_per_second_conv: float
    threads: int


def estimated_ms(flops: float, flops_per_second: float) -> float:
    """The textbook estimate, inference time = FLOPs / FLOP/s, in milliseconds.

    It knows nothing of memory, of operators that do no multiply-adds, or of the cost of a call, so it screens and is
    never reported as a measurement.
    """
    return 1000 * flops / flops_per_second


def calibrate(
    threads: int, seconds: float = 1.0, clock: Callable[[], int] = time.perf_counter_ns
) -> Platform:
    """Measures the machine's float32 arithmetic with torch, as the median over half of the time each.

    Args:
        threads: Threads inside an operator.
        seconds: Time for both measurements together, at least ``SHORTEST_RUNS`` runs each.
        clock: Gives nanoseconds, monotonic.

    Raises:
        UnsupportedError: More threads than there are cores.
    """
    Target("onnxruntime", "cpu", threads, 1).check_cores()
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(MATMUL_SIZE, MATMUL_SIZE, generator=generator) for _ in range(2))
    image = torch.rand(1, CONV_CHANNELS, CONV_SIZE, CONV_SIZE, generator=generator)
    weight = torch.rand(CONV_CHANNELS, CONV_CHANNELS, CONV_KERNEL, CONV_KERNEL, generator=generator)
    image, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (image, weight))
    padding = CONV_KERNEL // 2
    matmul_flops = 2 * MATMUL_SIZE**3
    conv_flops = 2 * CONV_SIZE**2 * CONV_CHANNELS**2 * CONV_KERNEL**2
    with _torch_threads(threads), torch.inference_mode():
        matmul_ns = _median_ns(lambda: a @ b, seconds / 2, clock)
        conv_ns = _median_ns(lambda: torch.conv2d(image, weight, padding=padding), seconds / 2, clock)
    return Platform(1e9 * matmul_flops / matmul_ns, 1e9 * conv_flops / conv_ns, threads)


def _median_ns(run: Callable[[], object], seconds: float, clock: Callable[[], int]) -> float:
    """The median duration of a call, the first one left out."""
    run()
    deadline = clock() + int(seconds * 1e9)
    durations: list[int] = []
    while len(durations) < SHORTEST_RUNS or clock() < deadline:
        start = clock()
        run()
        durations.append(clock() - start)
    return float(statistics.median(durations))


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
