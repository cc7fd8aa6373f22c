"""What designs cost to train against each other, before any trial has told: by what their networks compute.

Small networks are bound by memory: nearly all of a training's step goes by with the values that layers write. On a CPU
with matrix units a multiply-add takes about a 25th of what a written value does, forwards and backwards (convnets on
28×28 images, one core, bfloat16).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nas.design import Design
from nas.errors import NasError
from nas.families.layout import laid_out

MACS_PER_VALUE = 25.0

# Relative seconds of N designs' trainings; infinite of one that cannot be built.
RoughCosts = Callable[[Sequence[Design]], np.ndarray]


def rough_costs(build: Callable[[Design], nn.Module], input_shape: tuple[int, int, int]) -> RoughCosts:
    """Costs by a forward of one image through the untrained network.

    Args:
        build: Gives a design's network.
        input_shape: Channels, height, width.
    """
    found: dict[str, float] = {}

    def costs(designs: Sequence[Design]) -> np.ndarray:
        for design in designs:
            if design.architecture_digest not in found:
                try:
                    found[design.architecture_digest] = work(build(design), input_shape)
                except NasError:
                    found[design.architecture_digest] = float("inf")
        return np.array([found[design.architecture_digest] for design in designs])

    return costs


def work(network: nn.Module, input_shape: tuple[int, int, int]) -> float:
    """Values that the network's layers write for one image, and its multiply-adds in units of them."""
    written = 0.0

    def see(layer: nn.Module, _: object, output: object) -> None:
        nonlocal written
        if isinstance(output, Tensor):
            written += output.numel()
            if isinstance(layer, nn.Conv2d | nn.Linear):
                # Each weight is used once for each position of the map.
                written += layer.weight.numel() * output.numel() / output.shape[1] / MACS_PER_VALUE

    layers = [module for module in network.modules() if not any(True for _ in module.children())]
    hooks = [layer.register_forward_hook(see) for layer in layers]
    try:
        with torch.no_grad():
            network.eval()(laid_out(torch.zeros(1, *input_shape), network))
    finally:
        for hook in hooks:
            hook.remove()
    return written
