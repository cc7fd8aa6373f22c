"""How a network wants its tensors to lie in memory: channels last, which is faster, unless its forward forbids it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# An attribute of the network, so that copies of it keep it.
_ATTRIBUTE = "needs_contiguous"


def keep_contiguous(network: nn.Module) -> None:
    """Notes that the network runs on contiguous tensors alone, such as where its forward says ``x.view(…)``."""
    setattr(network, _ATTRIBUTE, True)


def layout_of(network: nn.Module) -> torch.memory_format:
    """The memory format that the network trains and runs in."""
    return torch.contiguous_format if getattr(network, _ATTRIBUTE, False) else torch.channels_last


def laid_out(images: Tensor, network: nn.Module) -> Tensor:
    """Images (N×C×H×W) as the network wants them to lie."""
    layout = layout_of(network)
    if layout is torch.contiguous_format:
        # A copy, since images of one channel count as contiguous in either layout, and convolutions hand theirs on.
        return images.clone(memory_format=layout)
    return images.contiguous(memory_format=layout)
