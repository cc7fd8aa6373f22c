"""Torch's own counter of operations, beside ptflops', over the same operators: where they agree, and where not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import NasError

# ptflops and torch's counter disagreeing by more than this share is worth a warning.
CROSS_CHECK_TOLERANCE = 0.02


@contextlib.contextmanager
def unfused(network: nn.Module) -> Iterator[None]:
    """Has torch run attention and recurrent layers as the matrix products that they are made of.

    Of the fused operators neither counter knows those on a CPU; the products both count.
    """
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _plain_recurrence(network):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)


@contextlib.contextmanager
def _plain_recurrence(network: nn.Module) -> Iterator[None]:
    """Without the libraries that fuse recurrent layers; only where there are any, since convolutions need them more."""
    if not any(isinstance(module, nn.RNNBase) for module in network.modules()):
        yield
        return
    onednn = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mkldnn.enabled = onednn


def counted_by_torch(network: nn.Module, image: torch.Tensor) -> dict[str, int]:
    """FLOPs by operator (``addmm``), of those operators that torch's FlopCounterMode counts.

    Also the first run of the network, so that its errors are seen as they are.

    Raises:
        NasError: The network cannot be run on the image; errors of this package pass through.
    """
    try:
        with FlopCounterMode(display=False) as counter:
            network(image)
    except NasError:
        raise
    except Exception as error:
        shape = "×".join(str(size) for size in image.shape)
        raise NasError(f"the network cannot be run on an input of {shape}: {' '.join(str(error).split())}") from error
    counted = counter.get_flop_counts().get("Global", {})
    return {operator.__name__: int(flops) for operator, flops in counted.items()}


def disagreements(ours: Mapping[str, int], checked_flops: Mapping[str, int]) -> Iterator[str]:
    """What the counters do not agree on, in words: the sum over the operators that both count, those that one does not.

    Args:
        ours: FLOPs by operator, by ptflops.
        checked_flops: FLOPs by operator, by torch.
    """
    total = sum(ours.values())
    shared = ours.keys() & checked_flops.keys()
    flops, checked = (sum(counts[name] for name in shared) for counts in (ours, checked_flops))
    difference = abs(flops - checked)
    if difference > CROSS_CHECK_TOLERANCE * max(flops, checked):
        yield (
            f"ptflops counts {flops:,} FLOPs but torch's FlopCounterMode {checked:,}, "
            f"{100 * difference / max(flops, checked):.1f} % apart"
        )
    for name, number in checked_flops.items():
        if name not in ours and number:
            yield (
                f"torch's FlopCounterMode counts {number:,} FLOPs of '{name.strip('_')}', which ptflops does not: "
                f"the total is {total:,} FLOPs without it, {total + number:,} with it"
            )
    for name, number in ours.items():
        if name not in checked_flops and number:
            yield (
                f"ptflops counts {number:,} FLOPs of '{name.strip('_')}', which torch's FlopCounterMode does not: "
                f"the total is {total:,} FLOPs with it, {total - number:,} without it"
            )
