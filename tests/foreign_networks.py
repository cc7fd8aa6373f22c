"""Networks as other people write them, in the style of torchvision: what ``nas compress`` has to take as it is.

Residual basic blocks with a downsampling shortcut (He et al., arXiv:1512.03385), inverted residuals with ReLU6 (Sandler
et al., arXiv:1801.04381). This file is also what the tests name as a person's own: it imports nothing of the project.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is projected where the shape changes."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """A stem, four stages of basic blocks, global average, ``fc``.

    Args:
        depths: Blocks in each stage.
        classes: Outputs.
        width: Channels of the first stage; each later one has twice as many.
        stem: ``"imagenet"`` (7×7, stride 2, max pooling) or ``"small"`` (3×3) for images of about 32×32.
        channels: Of the input.
    """

    def __init__(
        self, depths: tuple[int, ...], classes: int, width: int = 64, stem: str = "imagenet", channels: int = 3
    ) -> None:
        super().__init__()
        small = stem == "small"
        self.conv1 = nn.Conv2d(channels, width, 3 if small else 7, 1 if small else 2, 1 if small else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        before = width
        for number, depth in enumerate(depths, start=1):
            after = width * 2 ** (number - 1)
            blocks = [BasicBlock(before, after, 1 if number == 1 else 2)]
            blocks += [BasicBlock(after, after) for _ in range(depth - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            before = after
        self.stages = len(depths)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(1, self.stages + 1):
            x = getattr(self, f"layer{number}")(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.fc(x)


def resnet18(classes: int = 1000, width: int = 64, stem: str = "imagenet", channels: int = 3) -> ResNet:
    """ResNet-18, as torchvision has it with the default arguments."""
    return ResNet((2, 2, 2, 2), classes, width, stem, channels)


def tiny_resnet(classes: int = 10, width: int = 8, channels: int = 1) -> ResNet:
    """The same kind of network, small enough for a test."""
    return ResNet((1, 1), classes, width, "small", channels)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; with a shortcut where the shape stays."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = before * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += _conv_bn_relu6(before, hidden, 1)
        layers += _conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden)
        layers += [nn.Conv2d(hidden, after, 1, bias=False), nn.BatchNorm2d(after)]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


def _conv_bn_relu6(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU6(inplace=True),
    ]


def _multiple_of_8(value: float) -> int:
    """The nearest multiple of 8, at least 8, and not more than a tenth below."""
    nearest = max(8, int(value + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * value else nearest


class MobileNetV2(nn.Module):
    """A stem, inverted residuals, a last 1×1 convolution, global average, dropout and a linear layer.

    Args:
        settings: (expansion, channels, blocks, stride) of each stage.
        classes: Outputs.
        width: What all channels are multiplied by; rounded to multiples of 8.
        last: Channels before the classifier, multiplied only by a width above 1.
        stem_stride: 2 for large images, 1 for small ones.
        channels: Of the input.
    """

    def __init__(
        self,
        settings: tuple[tuple[int, int, int, int], ...],
        classes: int,
        width: float = 1.0,
        last: int = 1280,
        stem_stride: int = 2,
        channels: int = 3,
    ) -> None:
        super().__init__()
        before = _multiple_of_8(32 * width)
        features = _conv_bn_relu6(channels, before, 3, stem_stride)
        for expansion, filters, blocks, stride in settings:
            after = _multiple_of_8(filters * width)
            for block in range(blocks):
                features.append(InvertedResidual(before, after, stride if block == 0 else 1, expansion))
                before = after
        last = _multiple_of_8(last * max(1.0, width))
        features += _conv_bn_relu6(before, last, 1)
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = nn.functional.adaptive_avg_pool2d(x, (1, 1))
        x = torch.flatten(x, 1)
        return self.classifier(x)


SETTINGS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
)  # fmt: skip
SMALL_IMAGE_SETTINGS = (
    (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
)  # fmt: skip


def mobilenet_v2(classes: int = 1000, width: float = 1.0, channels: int = 3) -> MobileNetV2:
    """MobileNetV2, as torchvision has it with the default arguments."""
    return MobileNetV2(SETTINGS, classes, width, channels=channels)


def mobilenet_v2_small_images(classes: int = 10, width: float = 1.0, last: int = 1280) -> MobileNetV2:
    """The same blocks with fewer strides, as is usual for images of 32×32."""
    return MobileNetV2(SMALL_IMAGE_SETTINGS, classes, width, last, stem_stride=1)


def tiny_mobilenet(classes: int = 10, channels: int = 1) -> MobileNetV2:
    """The same kind of network, small enough for a test."""
    return MobileNetV2(((1, 16, 1, 1), (2, 16, 2, 2)), classes, 0.5, 32, stem_stride=1, channels=channels)


class WithAuxiliaryOutput(nn.Module):
    """Gives logits and, in training alone or always, those of an auxiliary head and features beside them.

    Args:
        form: ``"tuple"``, ``"list"``, ``"dict"`` or ``"training"`` (a tuple in training, else logits alone).
    """

    def __init__(self, form: str, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.form = form
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.fc = nn.Linear(16, classes)
        self.auxiliary = nn.Linear(16, classes)
        self.unused = nn.Conv2d(channels, 32, 3)

    def forward(self, x: Tensor) -> object:
        features = self.body(x)
        logits, other = self.fc(features), self.auxiliary(features)
        if self.form == "dict":
            return {"features": features, "out": logits, "aux": other, "map": self.unused(x)}
        if self.form == "list":
            return [logits, other]
        if self.form == "tuple" or self.training:
            return logits, (other, features)
        return logits


def with_auxiliary_output(form: str, classes: int = 10, channels: int = 1) -> WithAuxiliaryOutput:
    return WithAuxiliaryOutput(form, classes, channels)
