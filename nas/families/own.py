"""Networks of a person's own family: what its function builds, checked against the data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from nas.design import Value
from nas.families.module import plain
from nas.families.outputs import drop_idle_layers, give_logits_alone
from nas.own_code import LoadedFunction


def build_own(
    function: LoadedFunction, architecture: Mapping[str, Value], input_shape: tuple[int, int, int], classes: int
) -> nn.Module:
    """Builds a network with the weights that the function draws from torch's global generator.

    Args:
        function: Takes the architecture as a dictionary, (C, H, W) of one image and the number of classes.
        architecture: Choices and their values.
        input_shape: (C, H, W) of one image.
        classes: The number of logits.

    Returns:
        A module that maps N×C×H×W float32 to N×classes logits.

    Raises:
        OwnCodeError: The function raised.
        ModuleError: It gave no network, or one that does not take such images or gives something else than logits.
        NasError: Whatever of these the function raised itself: InfeasibleDesignError for a design that cannot be.
    """
    made = function(dict(architecture), input_shape, classes)
    if not isinstance(made, nn.Module):
        raise function.refuse(f"must give an nn.Module, but gave {type(made).__name__}")
    network = plain(made, function.label)
    images = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    give_logits_alone(network, images, classes, function.label)
    drop_idle_layers(network, images)
    return network
