"""What this machine can compute and move per second, measured: the divisors of the textbook and roofline estimates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from nas.artifact import open_session
from nas.measure.clock import FEWEST_SAMPLES, Clock, Policy, sample, summarise
from nas.target import Target

# Large enough that arithmetic outweighs the call, small enough for a second-level cache: 34 and 58 million FLOPs.
MATMUL_SIZE = 256
CONV_CHANNELS = 64
CONV_SIZE = 28
CONV_KERNEL = 3
# Bytes of the array that is copied: well inside a second-level cache, and beyond any cache's last level.
CACHE_BYTES = 2**18
MEMORY_BYTES = 2**26


@dataclass(frozen=True)
class Platform:
    """Measured speeds of a machine; 1 multiply-add = 2 operations.

    Args:
        flops_per_second_matmul: FLOP/s of a square matrix product in float32.
        flops_per_second_conv: FLOP/s of a 3×3 convolution at batch 1 in float32.
        threads: Threads that all were measured with.
        unstable: Whether something else ran meanwhile, so that the speeds are too low (see ``nas.measure.clock``).
        int8_ops_per_second: Operations per second of a square matrix product of 8-bit integers; NaN if not measured.
        bytes_per_second_cache: Bytes read and written per second in a copy inside the cache; NaN if not measured.
        bytes_per_second_memory: Likewise in a copy too large for any cache.
    """

    flops_per_second_matmul: float
    flops_per_second_conv: float
    threads: int
    unstable: bool = False
    int8_ops_per_second: float = math.nan
    bytes_per_second_cache: float = math.nan
    bytes_per_second_memory: float = math.nan

    def bytes_per_second(self, moved: float) -> float:
        """The speed at which so many bytes are moved by one operator: the cache's while they fit in there."""
        return self.bytes_per_second_cache if moved <= 2 * CACHE_BYTES else self.bytes_per_second_memory


def estimated_ms(flops: float, flops_per_second: float) -> float:
    """The textbook estimate, inference time = FLOPs / FLOP/s, in milliseconds.

    It knows nothing of memory, of operators that do no multiply-adds, or of the cost of a call, so it screens and is
    never reported as a measurement.
    """
    return 1000 * flops / flops_per_second


def calibrate(threads: int, seconds: float = 1.0, clock: Clock = time.perf_counter_ns) -> Platform:
    """Measures the machine: float32 arithmetic and copies with torch, int8 products with ONNX Runtime, as medians.

    Args:
        threads: Threads inside an operator.
        seconds: Time for all measurements together, at least ``FEWEST_SAMPLES`` runs each.
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
    small, large = _copy(CACHE_BYTES), _copy(MEMORY_BYTES)
    matmul_operations = 2 * MATMUL_SIZE**3
    # Each: how much one run does, and the run.
    work: list[tuple[int, Callable[[], object]]] = [
        (matmul_operations, lambda: a @ b),
        (2 * CONV_SIZE**2 * CONV_CHANNELS**2 * CONV_KERNEL**2, lambda: torch.conv2d(image, weight, padding=padding)),
        (matmul_operations, _int8_product(threads)),
        (2 * CACHE_BYTES, small),  # read once and written once
        (2 * MEMORY_BYTES, large),
    ]
    share_ms = 1000 * seconds / len(work)
    policy = Policy(warmup_ms=0.2 * share_ms, minimum_samples=FEWEST_SAMPLES, minimum_ms=0.8 * share_ms)
    with _torch_threads(threads), torch.inference_mode():
        summaries = [summarise(sample(run, policy, clock), 1) for _, run in work]
    matmul, conv, int8, cache, memory = (
        1000 * amount / summary.median_ms for (amount, _), summary in zip(work, summaries, strict=True)
    )
    return Platform(
        flops_per_second_matmul=matmul,
        flops_per_second_conv=conv,
        threads=threads,
        unstable=any(summary.unstable for summary in summaries),
        int8_ops_per_second=int8,
        bytes_per_second_cache=cache,
        bytes_per_second_memory=memory,
    )


def _copy(size: int) -> Callable[[], object]:
    """Copies so many bytes."""
    source = torch.ones(size, dtype=torch.uint8)
    destination = torch.zeros_like(source)
    return lambda: destination.copy_(source)


def _int8_product(threads: int) -> Callable[[], object]:
    """A square product of uint8 activations and constant int8 weights, as ONNX Runtime's quantised layers are.

    The weights have 7 bits, so that no CPU's kernels saturate.
    """
    generator = np.random.default_rng(0)
    shape = (MATMUL_SIZE, MATMUL_SIZE)
    weights = numpy_helper.from_array(generator.integers(-64, 64, shape, dtype=np.int8), "weights")
    node = helper.make_node("MatMulInteger", ["activations", "weights"], ["product"])
    graph = helper.make_graph(
        [node],
        "int8_product",
        [helper.make_tensor_value_info("activations", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("product", TensorProto.INT32, shape)],
        [weights],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    session = open_session(model.SerializeToString(), threads)
    feeds = {"activations": generator.integers(0, 256, shape, dtype=np.uint8)}
    return lambda: session.run(None, feeds)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
