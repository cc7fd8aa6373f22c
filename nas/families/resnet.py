"""Residual networks of basic blocks (arXiv:1512.03385) with projection shortcuts where shape or width change."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from nas.families.blocks import FeatureMap, Network, averaged, convolution
from nas.families.outline import Columns, Outlines
from nas.families.registry import Architecture, each_stage, one_of, register, whole

MOST_STAGES, MOST_DEPTH = 4, 4
KERNEL = 3


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut around them; rectified after they are added.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        stride: Stride of the first convolution and of the shortcut's.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolution(before, after, KERNEL, stride), *convolution(after, after, KERNEL, activation=None)
        )
        changes = stride != 1 or before != after
        self.shortcut = (
            nn.Sequential(*convolution(before, after, 1, stride, activation=None)) if changes else nn.Identity()
        )
        self.activation = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rectified: torch.Tensor = self.activation(self.body(x) + self.shortcut(x))
        return rectified


def _outline(choices: Columns, networks: Outlines) -> None:
    networks.stem(choices)
    networks.pool(choices["stem.pooling"] == "max")
    for number in range(1, MOST_STAGES + 1):
        stage, there = f"stage{number}", choices["stages"] >= number
        width = choices[f"{stage}.width"]
        for index in range(MOST_DEPTH):
            here = there & (choices[f"{stage}.depth"] > index)
            stride = choices[f"{stage}.stride"] if index == 0 else np.ones(len(there))
            before = networks.kept
            changes = here & ((stride != 1) | (networks.channels != width))
            networks.convolve(here, width, KERNEL, stride)
            networks.convolve(here, width, KERNEL, writes=2)
            _shortcut(networks, changes, before)
            networks.write(here & ~changes)  # an identity
            networks.write(here)  # the activation after the sum
    networks.average(networks.everywhere)
    networks.flatten()


def _shortcut(networks: Outlines, where: np.ndarray, before: np.ndarray) -> None:
    """Adds the pointwise convolution around a block, from so many channels to what the block came to."""
    networks.compute(where, before * networks.kept, networks.height * networks.width)
    networks.write(where, 2)


@register(
    "resnet",
    whole("stem.width"),
    one_of("stem.kernel", 3, 5, 7, default=3),
    one_of("stem.stride", 1, 2, default=1),
    one_of("stem.pooling", "max", "none", default="none"),
    whole("stages", 1, MOST_STAGES),
    *each_stage("stages", "stage", MOST_STAGES, whole("width"), whole("depth", 1, MOST_DEPTH), one_of("stride", 1, 2)),
    outline=_outline,
)
def build_resnet(architecture: Architecture, shape: FeatureMap, classes: int) -> nn.Module:
    """Stem with optional max pooling, stages of ``depth`` basic blocks whose first one strides, each channel's
    average, classifier.
    """
    width, kernel, stride = (architecture.whole(f"stem.{part}") for part in ("width", "kernel", "stride"))
    stem = convolution(shape.channels, width, kernel, stride)
    shape = shape.convolved("stem", width, kernel, stride)
    if architecture.text("stem.pooling") == "max":
        stem.append(nn.MaxPool2d(2))
        shape = shape.pooled("stem", "max")
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(*stem))
    for number in range(1, architecture.whole("stages") + 1):
        layers[f"stage{number}"], shape = _stage(architecture, f"stage{number}", shape)
    return Network(nn.Sequential(layers), averaged(), nn.Linear(shape.channels, classes))


def _stage(architecture: Architecture, stage: str, shape: FeatureMap) -> tuple[nn.Sequential, FeatureMap]:
    width = architecture.whole(f"{stage}.width")
    blocks: list[nn.Module] = []
    for index in range(architecture.whole(f"{stage}.depth")):
        stride = architecture.whole(f"{stage}.stride") if index == 0 else 1
        blocks.append(BasicBlock(shape.channels, width, stride))
        shape = shape.convolved(stage, width, KERNEL, stride)
    return nn.Sequential(*blocks), shape
