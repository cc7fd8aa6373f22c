"""What arithmetic this machine can do per second, measured: the divisor of the textbook estimate of inference time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from nas.measure.clock import FEWEST_SAMPLES, Clock, Policy, sample, summarise
from nas.measure.target import Target

# Large enough that arithmetic outweighs the call, small enough for a second-level cache: 34 and 58 million FLOPs.
MATMUL_SIZE = 256
CONV_CHANNELS = 64
CONV_SIZE = 28
CONV_KERNEL = 3


@dataclass(frozen=True)
class Platform:
    """Measured speed of float32 arithmetic, in FLOP/s (1 multiply-add = 2 FLOPs).

    Args:
        flops_per_second_matmul: Of a square matrix product.
        flops_per_second_conv: Of a 3×3 convolution at batch 1.
        threads: Threads that both were measured with.
        unstable: Whether something else ran meanwhile, so that the speeds are too low (see ``nas.measure.clock``).
    """

    flops_per_second_matmul: float
    flops_per_second_conv: float
    threads: int
    unstable: bool = False


def estimated_ms(flops: float, flops_per_second: float) -> float:
    """The textbook estimate, inference time = FLOPs / FLOP/s, in milliseconds.

    It knows nothing of memory, of operators that do no multiply-adds, or of the cost of a call, so it screens and is
    never reported as a measurement.
    """
    return 1000 * flops / flops_per_second


def calibrate(threads: int, seconds: float = 1.0, clock: Clock = time.perf_counter_ns) -> Platform:
    """Measures the machine's float32 arithmetic with torch, half of the time each, as the medians.

    Args:
        threads: Threads inside an operator.
        seconds: Time for both measurements together, at least ``FEWEST_SAMPLES`` runs each.
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
    half_ms = 1000 * seconds / 2
    policy = Policy(warmup_ms=0.2 * half_ms, minimum_samples=FEWEST_SAMPLES, minimum_ms=0.8 * half_ms)
    matmul_flops = 2 * MATMUL_SIZE**3
    conv_flops = 2 * CONV_SIZE**2 * CONV_CHANNELS**2 * CONV_KERNEL**2
    with _torch_threads(threads), torch.inference_mode():
        matmul = summarise(sample(lambda: a @ b, policy, clock), 1)
        conv = summarise(sample(lambda: torch.conv2d(image, weight, padding=padding), policy, clock), 1)
    return Platform(
        flops_per_second_matmul=1000 * matmul_flops / matmul.median_ms,
        flops_per_second_conv=1000 * conv_flops / conv.median_ms,
        threads=threads,
        unstable=matmul.unstable or conv.unstable,
    )


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
