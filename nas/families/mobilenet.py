"""Mobile networks of inverted residuals (MobileNetV2, arXiv:1801.04381; hard-swish and gates as in V3, 1905.02244)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from nas.families.blocks import Activation, FeatureMap, Network, SqueezeExcite, averaged, convolution
from nas.families.outline import Columns, Outlines
from nas.families.registry import Architecture, each_stage, one_of, register, whole

MOST_STAGES, MOST_DEPTH = 4, 4
ACTIVATIONS: dict[str, Activation] = {"relu6": nn.ReLU6, "hardswish": nn.Hardswish}


class InvertedResidual(nn.Module):
    """Expands by a pointwise convolution, filters depthwise, projects back without an activation.

    The input is added where the block keeps shape and width. An expansion of 1 has no first convolution.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        kernel: Side of the depthwise kernel.
        stride: Stride of the depthwise convolution.
        expansion: Expanded channels by input channel.
        squeeze_excite: Whether a gate scales the expanded channels after the depthwise convolution.
        activation: Makes the activation after all convolutions but the last.
    """

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        stride: int,
        expansion: int,
        squeeze_excite: bool,
        activation: Activation,
    ) -> None:
        super().__init__()
        expanded = before * expansion
        layers = convolution(before, expanded, 1, activation=activation) if expansion > 1 else []
        layers += convolution(expanded, expanded, kernel, stride, groups=expanded, activation=activation)
        if squeeze_excite:
            layers.append(SqueezeExcite(expanded))
        layers += convolution(expanded, after, 1, activation=None)
        self.body = nn.Sequential(*layers)
        self.adds_input = stride == 1 and before == after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        filtered: torch.Tensor = self.body(x)
        return x + filtered if self.adds_input else filtered


def _outline(choices: Columns, networks: Outlines) -> None:
    networks.stem(choices)
    for number in range(1, MOST_STAGES + 1):
        stage, there = f"stage{number}", choices["stages"] >= number
        width, kernel, expansion = (choices[f"{stage}.{part}"] for part in ("width", "kernel", "expansion"))
        for index in range(MOST_DEPTH):
            here = there & (choices[f"{stage}.depth"] > index)
            networks.convolve(here & (expansion > 1), networks.channels * expansion, 1)
            networks.convolve(
                here, networks.channels, kernel, choices[f"{stage}.stride"] if index == 0 else 1, depthwise=True
            )
            networks.gate(here & choices[f"{stage}.squeeze_excite"].astype(bool))
            networks.convolve(here, width, 1, writes=2)
    networks.convolve(choices["head.width"] > 0, choices["head.width"], 1)
    networks.average(networks.everywhere)
    networks.flatten()


@register(
    "mobilenet",
    one_of("activation", *ACTIVATIONS, default="relu6"),
    whole("stem.width"),
    one_of("stem.kernel", 3, 5, default=3),
    one_of("stem.stride", 1, 2, default=1),
    whole("stages", 1, MOST_STAGES),
    *each_stage(
        "stages",
        "stage",
        MOST_STAGES,
        whole("expansion", 1, 8),
        one_of("kernel", 3, 5),
        whole("width"),
        whole("depth", 1, MOST_DEPTH),
        one_of("stride", 1, 2),
        one_of("squeeze_excite", False, True, default=False),
    ),
    whole("head.width", 0, default=0),
    outline=_outline,
)
def build_mobilenet(architecture: Architecture, shape: FeatureMap, classes: int) -> nn.Module:
    """Stem, stages of ``depth`` inverted residuals whose first one strides, an optional pointwise convolution of
    ``head.width`` channels (0: none), each channel's average, classifier.
    """
    activation = ACTIVATIONS[architecture.text("activation")]
    width, kernel, stride = (architecture.whole(f"stem.{part}") for part in ("width", "kernel", "stride"))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(*convolution(shape.channels, width, kernel, stride, activation=activation))
    shape = shape.convolved("stem", width, kernel, stride)
    for number in range(1, architecture.whole("stages") + 1):
        layers[f"stage{number}"], shape = _stage(architecture, f"stage{number}", shape, activation)
    last = architecture.whole("head.width")
    if last:
        layers["last"] = nn.Sequential(*convolution(shape.channels, last, 1, activation=activation))
    return Network(nn.Sequential(layers), averaged(), nn.Linear(last or shape.channels, classes))


def _stage(
    architecture: Architecture, stage: str, shape: FeatureMap, activation: Activation
) -> tuple[nn.Sequential, FeatureMap]:
    width, kernel, expansion = (architecture.whole(f"{stage}.{part}") for part in ("width", "kernel", "expansion"))
    gate = architecture.flag(f"{stage}.squeeze_excite")
    blocks: list[nn.Module] = []
    for index in range(architecture.whole(f"{stage}.depth")):
        stride = architecture.whole(f"{stage}.stride") if index == 0 else 1
        blocks.append(InvertedResidual(shape.channels, width, kernel, stride, expansion, gate, activation))
        shape = shape.convolved(stage, width, kernel, stride)
    return nn.Sequential(*blocks), shape
