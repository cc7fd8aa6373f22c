"""Multilayer perceptrons: the image as one vector, through rectified linear layers."""

from __future__ import annotations

from torch import nn

from nas.families.blocks import FeatureMap, Network
from nas.families.outline import Columns, Outlines
from nas.families.registry import Architecture, each_stage, one_of, register, whole

MOST_LAYERS = 4


def _outline(choices: Columns, networks: Outlines) -> None:
    networks.pool(choices["input.pooling"] > 1, choices["input.pooling"])
    networks.flatten()
    for number in range(1, MOST_LAYERS + 1):
        networks.linear(choices["layers"] >= number, choices[f"layer{number}.width"])


@register(
    "mlp",
    one_of("input.pooling", 1, 2, 4, default=1),
    whole("layers", 1, MOST_LAYERS),
    *each_stage("layers", "layer", MOST_LAYERS, whole("width")),
    outline=_outline,
)
def build_mlp(architecture: Architecture, shape: FeatureMap, classes: int) -> nn.Module:
    """The image, averaged over windows of ``input.pooling`` pixels a side (1: as it is), flattened; ``layers`` linear
    layers with rectifiers; classifier.
    """
    window = architecture.whole("input.pooling")
    features: list[nn.Module] = []
    if window > 1:
        features.append(nn.AvgPool2d(window))
        shape = shape.pooled("input", "average", window)
    features.append(nn.Flatten())
    before = shape.features
    head: list[nn.Module] = []
    for number in range(1, architecture.whole("layers") + 1):
        width = architecture.whole(f"layer{number}.width")
        head += [nn.Linear(before, width), nn.ReLU()]
        before = width
    return Network(nn.Sequential(*features), nn.Sequential(*head), nn.Linear(before, classes))
