"""Which stages a network has, and that a choice for one reaches no other."""

from __future__ import annotations

import pytest
import torch
from small_networks import ARCHITECTURES
from torch import nn

from nas.compress.layers import weighted_layers
from nas.compress.stages import stage_of
from nas.compression import CHOICES, IDENTITY, conflict, split_name, stages_in, value_of
from nas.families import build
from nas.measure.complexity import count
from nas.sensitivity.parts import Part, compression_of, own_counts, single_layers, stages
from nas.sensitivity.result import SETTINGS


def network(family: str, **architecture: int | str) -> nn.Module:
    return build(family, ARCHITECTURES[family] | architecture, (1, 8, 8), 10)


class Block(nn.Module):
    """Two convolutions with a shortcut, named as in torchvision."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = torch.relu(x + self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return mixed


class Residual(nn.Module):
    """A residual network whose parts are named as in torchvision: its first layer is called as one in every block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.layer1 = nn.Sequential(Block(8))
        self.layer2 = nn.Sequential(Block(8))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.pool(self.layer2(self.layer1(self.conv1(x)))).flatten(1)
        logits: torch.Tensor = self.fc(features)
        return logits


class Wrapped(nn.Module):
    """A network in a network in a network."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"model": Residual()})


def sequential() -> nn.Module:
    """A trunk of numbered parts, as torchvision's MobileNets have, and a head."""
    trunk = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    return nn.Sequential(trunk, head)


NETWORKS = {
    "convnet": (network("convnet"), ["stem", "stage1", "classifier"]),
    "convnet with a head": (network("convnet", **{"head.hidden": 16}), ["stem", "stage1", "head", "classifier"]),
    "mobilenet": (network("mobilenet"), ["stem", "stage1", "last", "classifier"]),
    "resnet": (network("resnet"), ["stem", "stage1", "classifier"]),
    "small mlp": (network("mlp"), ["head", "classifier"]),
    "mlp": (network("mlp", layers=2, **{"layer2.width": 32}), ["head.0", "head.2", "classifier"]),
    "residual": (Residual(), ["conv1", "layer1", "layer2", "fc"]),
    "wrapped": (Wrapped(), [f"inner.model.{part}" for part in ("conv1", "layer1", "layer2", "fc")]),
    "sequential": (sequential(), ["0.0", "0.2", "1"]),
    "a single layer": (nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), ["1"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_are_the_parts_that_a_person_would_name(name: str) -> None:
    model, names = NETWORKS[name]
    assert [part.name for part in stages(model)] == names


@pytest.mark.parametrize("find", [stages, single_layers])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_lies_in_one_part(name: str, find) -> None:  # type: ignore[no-untyped-def]
    model, _ = NETWORKS[name]
    parts = find(model)
    held = [layer for part in parts for layer in part.layers]
    assert held == list(weighted_layers(model))
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        assert isinstance(model.get_submodule(part.path), nn.Module)


@pytest.mark.parametrize("find", [stages, single_layers])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_done_to_a_part_is_done_to_no_other(name: str, find) -> None:  # type: ignore[no-untyped-def]
    """Also where its name stands in the path of another's layer, as ``conv1`` in ``layer1.0.conv1``."""
    model, _ = NETWORKS[name]
    layers = list(weighted_layers(model))
    for part in find(model):
        for setting in SETTINGS:
            compression = compression_of(part, setting)
            assert conflict(compression) is None
            assert all(CHOICES[split_name(choice)[1]].per_stage for choice in compression)
            for layer in layers:
                stage = stage_of(layer, stages_in(compression))
                for choice in ("pruning_ratio", "weight_bits", "activation_bits"):
                    wanted = getattr(setting, choice) if layer in part.layers else IDENTITY[choice]
                    assert value_of(compression, choice, stage) == wanted, (part.name, layer, choice)


def test_own_counts_in_closed_form() -> None:
    """An 8×8 image through 3×3 convolutions of 1 → 8 and 8 → 8 channels, then 8 → 10; batch norm has 2·8 parameters."""
    model = Residual().eval()
    complexity = count(model, (1, 8, 8))
    counts = {part.name: own_counts(part, complexity) for part in stages(model)}
    block = (2 * 64 * 8 * 8 * 9, 2 * 8 * 8 * 9 + 16)
    assert counts == {"conv1": (64 * 8 * 9, 8 * 9), "layer1": block, "layer2": block, "fc": (80, 90)}
    assert sum(macs for macs, _ in counts.values()) == complexity.macs
    assert sum(params for _, params in counts.values()) == complexity.params
    assert own_counts(Part("conv", "layer1.0.conv", ()), complexity) == (0, 0), "a part of a name is none"
