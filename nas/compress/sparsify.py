"""Unstructured magnitude pruning: the smallest weights of each layer become zero (Han et al., NeurIPS 2015).

No kernel here skips zeros, so this saves no time and, by itself, no room: a file with many zeros is smaller once it is
*compressed*, for a download or a firmware image. Every convolution and linear layer loses the same share, except those
that give the logits, which pruning spares too. Uniform per layer, since one threshold for the whole network can empty
a layer of small weights altogether. The zeros stay through fine-tuning, and through quantisation on symmetric grids.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nas.compress.layers import output_layers, weighted_layers
from nas.compress.technique import Account, NetworkTechnique, Tools
from nas.design import Design
from nas.outcome import Realisation


def zero_smallest(weight: torch.Tensor, share: float) -> None:
    """Sets the ``share`` of a tensor's values that are nearest to zero to zero, in place; of equals the first ones."""
    count = math.floor(share * weight.numel() + 1e-9)  # 0.29 of 100 is 28.999…; never all of them
    flat = weight.detach().reshape(-1).clone()
    flat[torch.sort(flat.abs(), stable=True).indices[:count]] = 0
    with torch.no_grad():
        weight.copy_(flat.reshape(weight.shape))


def hold_zeros(model: nn.Module) -> Callable[[], None]:
    """Remembers which weights of convolutions and linear layers are zero; calling the result puts them back to zero.

    To be called after each step of an optimiser: its momentum and weight decay move weights whose gradient is masked.
    """
    weights = [layer.weight for layer in weighted_layers(model).values()]
    masks = [weight.detach() == 0 for weight in weights]

    @torch.no_grad()
    def restore() -> None:
        for position, weight in enumerate(weights):
            masks[position] = masks[position].to(weight.device)  # training may have moved the network
            weight.masked_fill_(masks[position], 0)

    return restore


@dataclass(frozen=True)
class SparsifyConfig:
    """Which share of each layer's weights becomes zero."""

    share: float


class Sparsify(NetworkTechnique[SparsifyConfig]):
    """Unstructured magnitude pruning."""

    name = "sparsify"
    choices = ("sparsity",)
    version = 1

    def config(self, design: Design) -> SparsifyConfig | None:
        share = float(design.step("sparsity"))
        return SparsifyConfig(share) if share else None

    def apply(self, network: nn.Module, config: SparsifyConfig, tools: Tools) -> tuple[nn.Module, dict[str, Any]]:
        sparse = copy.deepcopy(network).cpu().eval().requires_grad_(True)
        spared = output_layers(sparse, tools.input_shape)
        layers = weighted_layers(sparse)
        for layer in layers.values():
            if layer not in spared:
                zero_smallest(layer.weight, config.share)
        zeros = {name: [int((layer.weight == 0).sum()), layer.weight.numel()] for name, layer in layers.items()}
        return sparse, {"zeros": zeros}

    def account(self, config: SparsifyConfig, detail: Mapping[str, Any]) -> Account:
        """Simulated, since zeros are computed like any weight; unsupported where no layer may have any."""
        zeros, weights = (sum(pair[position] for pair in detail["zeros"].values()) for position in (0, 1))
        if not zeros:
            note = "sparsity set no weight to zero: each layer with weights gives the classes or has too few of them"
            return Account({"sparsity": Realisation.UNSUPPORTED}, (note,))
        note = (
            f"{100 * zeros / weights:.1f} % of the weights of convolutions and linear layers are zero, those of the "
            "classifier not; this saves no time, and room only where the file is compressed"
        )
        return Account({"sparsity": Realisation.SIMULATED}, (note,))
