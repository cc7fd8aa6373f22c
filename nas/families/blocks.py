"""Building blocks that several families share, and the feature map that is followed while a network is put together.

Convolutions keep the map's size (zero padding of half the kernel) unless they stride. Each is followed by batch
normalisation, has no bias of its own, and is a plain module, so that it folds, prunes, quantises and is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from nas.errors import InfeasibleDesignError

Activation = Callable[[], nn.Module]

_HINT = "use fewer stages or strides, less pooling, smaller kernels or larger images"


@dataclass(frozen=True)
class FeatureMap:
    """The shape of what a layer passes on: channels, height, width. Knows what can still be done with it."""

    channels: int
    height: int
    width: int

    @property
    def size(self) -> str:
        return f"{self.height}×{self.width}"

    @property
    def features(self) -> int:
        """Numbers in one map: what a flattened map gives to a linear layer."""
        return self.channels * self.height * self.width

    def convolved(self, where: str, channels: int, kernel: int, stride: int = 1) -> FeatureMap:
        """The map after a padded convolution.

        Args:
            where: The stage, for the message.
            channels: Channels after it.
            kernel: Side of the square kernel, odd.
            stride: 1 or 2.

        Raises:
            InfeasibleDesignError: A stride has nothing to step over, or the kernel's rim would lie on padding at every
                position, so that its weights could never matter.
        """
        if kernel // 2 >= max(self.height, self.width):
            raise InfeasibleDesignError(
                f"{where}: a {kernel}×{kernel} convolution reaches past its whole feature map of {self.size}", _HINT
            )
        if stride > 1 and min(self.height, self.width) < stride:
            raise InfeasibleDesignError(
                f"{where}: a convolution of stride {stride} shrinks its feature map of {self.size} to nothing", _HINT
            )
        return FeatureMap(channels, -(-self.height // stride), -(-self.width // stride))

    def pooled(self, where: str, kind: str, window: int = 2) -> FeatureMap:
        """The map after pooling by a window that does not overlap; a rest at the border is dropped.

        Raises:
            InfeasibleDesignError: The window does not fit into the map.
        """
        if min(self.height, self.width) < window:
            raise InfeasibleDesignError(
                f"{where}: {kind} pooling of {window}×{window} shrinks its feature map of {self.size} to nothing", _HINT
            )
        return replace(self, height=self.height // window, width=self.width // window)


def convolution(
    before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, activation: Activation | None = nn.ReLU
) -> list[nn.Module]:
    """Convolution, batch normalisation and, unless None, an activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
    ]
    return [*layers, activation()] if activation else layers


def separable(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A depthwise convolution and a pointwise one, each normalised and rectified (MobileNet, arXiv:1704.04861)."""
    return [*convolution(before, before, kernel, stride, groups=before), *convolution(before, after, 1)]


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channels' averages (arXiv:1709.01507; gate as in MobileNetV3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, channels // 4 // 8 * 8)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = x * self.gate(x)
        return scaled


class Network(nn.Module):
    """Features, head, classifier: what every family here builds. Maps N×C×H×W to N×classes logits.

    Args:
        features: Layers on feature maps.
        head: From the last feature map to a vector: pooling, flattening, hidden layers.
        classifier: The last layer; the one that pruning must leave its outputs.
    """

    def __init__(self, features: nn.Module, head: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.head(self.features(x)))
        return logits


def averaged() -> nn.Sequential:
    """The head that takes each channel's average."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def initialise(network: nn.Module) -> None:
    """He initialisation by fan-in (arXiv:1502.01852) of convolutions and linear layers, biases zero.

    By fan-in, since torch takes the fan-out of a depthwise convolution for that of a full one. The classifier, which
    no rectifier follows, gets the gain of a linear layer.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            gain: Literal["linear", "relu"] = "linear" if name == "classifier" else "relu"
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity=gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
