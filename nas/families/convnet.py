"""Plain convolutional networks: a stem, stages of standard or separable convolutions, pooling where it is chosen."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from torch import nn

from nas.families.blocks import FeatureMap, Network, convolution, separable
from nas.families.outline import Columns, Outlines
from nas.families.registry import Architecture, each_stage, one_of, register, whole

MOST_STAGES = 4
MOST_DEPTH = 3


def _outline(choices: Columns, networks: Outlines) -> None:
    networks.stem(choices)
    for number in range(1, MOST_STAGES + 1):
        stage, there = f"stage{number}", choices["stages"] >= number
        is_separable, pooling = choices[f"{stage}.conv"] == "separable", choices[f"{stage}.pooling"]
        kernel, width = choices[f"{stage}.kernel"], choices[f"{stage}.width"]
        for index in range(MOST_DEPTH):
            here = there & (choices[f"{stage}.depth"] > index)
            stride = np.where((pooling == "stride") & (index == 0), 2, 1)
            networks.convolve(here & is_separable, networks.channels, kernel, stride, depthwise=True)
            pointwise = is_separable.astype(bool)
            networks.convolve(here, width, np.where(pointwise, 1, kernel), np.where(pointwise, 1, stride))
        networks.pool(there & ((pooling == "max") | (pooling == "average")))
    networks.average(choices["head.pooling"] == "average")
    networks.flatten()
    networks.linear(choices["head.hidden"] > 0, choices["head.hidden"])


@register(
    "convnet",
    whole("stem.width"),
    one_of("stem.kernel", 3, 5, default=3),
    one_of("stem.stride", 1, 2, default=1),
    whole("stages", 1, MOST_STAGES),
    *each_stage(
        "stages",
        "stage",
        MOST_STAGES,
        one_of("conv", "standard", "separable"),
        one_of("kernel", 3, 5, default=3),
        whole("width"),
        whole("depth", 1, MOST_DEPTH, default=1),
        one_of("pooling", "max", "average", "stride", "none"),
    ),
    one_of("head.pooling", "average", "flatten", default="average"),
    whole("head.hidden", 0),
    outline=_outline,
)
def build_convnet(architecture: Architecture, shape: FeatureMap, classes: int) -> nn.Module:
    """Stem, stages, head.

    A stage is ``depth`` convolutions of one kernel and width. With pooling ``max`` or ``average`` a 2×2 window
    follows them; with ``stride`` the first one takes steps of two; with ``none`` the stage keeps the map's size. The
    head averages each channel over the whole map (``average``) or keeps every position (``flatten``), and has a
    hidden layer of ``head.hidden`` units unless that is 0.
    """
    width, kernel, stride = (architecture.whole(f"stem.{part}") for part in ("width", "kernel", "stride"))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(*convolution(shape.channels, width, kernel, stride))
    shape = shape.convolved("stem", width, kernel, stride)
    for number in range(1, architecture.whole("stages") + 1):
        layers[f"stage{number}"], shape = _stage(architecture, f"stage{number}", shape)
    head, features = _head(architecture, shape)
    return Network(nn.Sequential(layers), head, nn.Linear(features, classes))


def _stage(architecture: Architecture, stage: str, shape: FeatureMap) -> tuple[nn.Sequential, FeatureMap]:
    block = separable if architecture.text(f"{stage}.conv") == "separable" else convolution
    kernel, width = architecture.whole(f"{stage}.kernel"), architecture.whole(f"{stage}.width")
    pooling = architecture.text(f"{stage}.pooling")
    layers: list[nn.Module] = []
    for index in range(architecture.whole(f"{stage}.depth")):
        stride = 2 if pooling == "stride" and index == 0 else 1
        layers += block(shape.channels, width, kernel, stride)
        shape = shape.convolved(stage, width, kernel, stride)
    if pooling in ("max", "average"):
        layers.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
        shape = shape.pooled(stage, pooling)
    return nn.Sequential(*layers), shape


def _head(architecture: Architecture, shape: FeatureMap) -> tuple[nn.Sequential, int]:
    """The head and the number of features that it gives to the classifier."""
    flatten = architecture.text("head.pooling") == "flatten"
    features = shape.features if flatten else shape.channels
    layers: list[nn.Module] = [nn.Flatten()] if flatten else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    hidden = architecture.whole("head.hidden")
    if hidden:
        layers += [nn.Linear(features, hidden), nn.ReLU()]
    return nn.Sequential(*layers), hidden or features
