"""The roofline estimate: each kernel takes as long as its arithmetic or the bytes that it moves, whichever is longer.

S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52, 2009; here kernel by kernel, and added up, since kernels run one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from nas.estimate.kernels import Kernel
from nas.measure.platform import Platform

OPERATIONS_PER_MAC = 2


def peak(kernel: Kernel, platform: Platform) -> float:
    """Operations per second that the machine reached on products of the kernel's type; for floats the faster of two."""
    if kernel.is_integer:
        return platform.int8_ops_per_second
    return max(platform.flops_per_second_matmul, platform.flops_per_second_conv)


def kernel_ms(kernel: Kernel, platform: Platform) -> float:
    """The least time that a kernel can take, in milliseconds."""
    computing = OPERATIONS_PER_MAC * kernel.macs / peak(kernel, platform)
    moving = kernel.moved_bytes / platform.bytes_per_second(kernel.moved_bytes)
    return 1000 * max(computing, moving)


def roofline_ms(kernels: Iterable[Kernel], platform: Platform) -> float:
    """The least time that a call can take, in milliseconds; the cost of the calls themselves is not in it."""
    return sum(kernel_ms(kernel, platform) for kernel in kernels)
