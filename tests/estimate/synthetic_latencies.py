"""Kernels and networks whose latency a known formula gives: what a predictor has to find out."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from nas.estimate.kernels import Kernel
from nas.estimate.measurements import NETWORK, Measurement
from nas.measure.platform import Platform

PLATFORM = Platform(4e9, 1e9, 1, int8_ops_per_second=8e9, bytes_per_second_cache=4e10, bytes_per_second_memory=1e10)
CALL_MS = 0.004


def convolution(
    channels: int, pixels: int, depth: int, dtype: str = "float", form: str = "dense", stride: int = 1
) -> Kernel:
    """A convolution of 3×3, or 1×1 where its form is pointwise, on so many pixels."""
    outputs = channels * pixels
    taps = 1 if form == "pointwise" else 9
    size = 4 if dtype == "float" else 1
    inputs = depth // taps * pixels * stride
    return Kernel(
        operator="test:Conv",
        form=form,
        dtype=dtype,
        inputs=inputs,
        outputs=outputs,
        rows=pixels,
        channels=channels,
        depth=depth,
        taps=taps,
        stride=stride,
        width=math.isqrt(pixels),
        weights=channels * depth,
        moved_bytes=size * (inputs + outputs + channels * depth),
    )


def softmax(classes: int = 10) -> Kernel:
    """A kernel without multiply-adds."""
    return Kernel(":Softmax", "", "float", classes, classes, 1, 1, 0, 1, 1, 1, 0, 8 * classes)


def cost_ms(kernel: Kernel) -> float:
    """What a kernel takes: a start, then whole blocks of 16 channels, faster for integers; small maps are slower."""
    if not kernel.depth:
        return 0.001 + 1e-6 * kernel.outputs
    blocks = 16 * math.ceil(kernel.channels / 16)
    speed = 4e7 if kernel.dtype == "uint8" else 1e7
    penalty = 1.5 if kernel.width < 10 else 1.0
    return 0.002 + penalty * blocks * kernel.depth * kernel.rows / speed


def latency_ms(network: tuple[Kernel, ...]) -> float:
    """The cost of the call and of all kernels."""
    return CALL_MS + sum(cost_ms(kernel) for kernel in network)


def networks(count: int, seed: int = 0) -> list[tuple[Kernel, ...]]:
    """Random networks of 2 to 5 convolutions and a softmax."""
    generator = random.Random(seed)
    return [_network(generator) for _ in range(count)]


def _network(generator: random.Random) -> tuple[Kernel, ...]:
    dtype = generator.choice(["float", "uint8"])
    found = []
    for _ in range(generator.randint(2, 5)):
        form = generator.choice(["dense", "pointwise"])
        depth = generator.choice([8, 16, 24, 32]) * (9 if form == "dense" else 1)
        found.append(
            convolution(generator.choice([8, 12, 16, 24, 32, 48]), generator.choice([49, 196, 784]), depth, dtype, form)
        )
    return (*found, softmax())


def measurement(network: tuple[Kernel, ...], number: int, factor: float = 1.0, **changes: object) -> Measurement:
    """A network as it was measured, by the formula."""
    ms = factor * latency_ms(network)
    flops = sum(2 * kernel.macs for kernel in network)
    found = Measurement(NETWORK, "network", f"{number * 2654435761 % 2**32:08x}", ms, ms, ms, False, flops, network)
    return replace(found, **changes)  # type: ignore[arg-type]
