"""Outlines: what networks are made of without building them, against a forward through the built ones."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.compress.prune import prune
from nas.compress.widths import channels_left
from nas.errors import InfeasibleDesignError
from nas.families.registry import build, find_family
from nas.space import load_space

CLASSES, DRAWS = 7, 60
FACTS = (
    "macs",
    "vector_macs",
    "written",
    "weights",
    "layers",
    "poolings",
    "features",
    "last_channels",
    "last_positions",
)
POOLING = nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d
SPACES = ("convnet", "convnet-small", "mobilenet", "resnet", "mlp")


def seen(network: nn.Module, shape: tuple[int, int, int]) -> dict[str, float]:
    """The facts as a forward of one image shows them."""
    found = dict.fromkeys(FACTS, 0.0) | {"last_channels": 1.0, "last_positions": 1.0}

    def see(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        found["written"] += output.numel()
        if isinstance(layer, nn.Conv2d | nn.Linear):
            positions = output[0, 0].numel() if output.dim() == 4 else 1
            found["macs"] += layer.weight.numel() * positions
            found["vector_macs"] += layer.weight.numel() if positions == 1 else 0
            found["weights"] += layer.weight.numel()
            found["layers"] += 1
        found["poolings"] += isinstance(layer, POOLING)
        if isinstance(layer, nn.Linear):
            found["features"] = found["features"] or given[0].shape[1]
        if isinstance(layer, nn.Conv2d) and "gate" not in names[layer] and "shortcut" not in names[layer]:
            found["last_channels"], found["last_positions"] = output.shape[1], output[0, 0].numel()

    names = {module: name for name, module in network.named_modules()}
    for module in network.modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(see)
    with torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    return found


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 14)], ids=str)
@pytest.mark.parametrize("name", SPACES)
def test_outlines_tell_what_a_forward_through_the_built_network_shows(name: str, shape: tuple[int, int, int]) -> None:
    space, rng = load_space(name), random.Random(name)
    drawn = [space.sample(rng).architecture for _ in range(DRAWS)]
    columns = {choice: [a.get(choice) for a in drawn] for choice in {key for a in drawn for key in a}}
    outlines = find_family(space.family).outlines(columns, shape, CLASSES)
    built = 0
    for place, architecture in enumerate(drawn):
        try:
            network = build(space.family, architecture, shape, CLASSES)
        except InfeasibleDesignError:
            assert not outlines.possible[place], architecture
            continue
        assert outlines.possible[place], architecture
        expected = seen(network, shape)
        assert {fact: float(getattr(outlines, fact)[place]) for fact in FACTS} == expected, architecture
        built += 1
    assert built > DRAWS / 4


@pytest.mark.parametrize(("ratio", "rounding"), [(0.25, 8), (0.75, 8), (0.5, 1)])
@pytest.mark.parametrize("name", SPACES)
def test_outlines_of_pruned_networks_tell_what_a_forward_through_these_shows(
    name: str, ratio: float, rounding: int
) -> None:
    space, rng, shape = load_space(name), random.Random(name), (1, 28, 28)
    drawn = [space.sample(rng).architecture for _ in range(5)]
    columns = {choice: [a.get(choice) for a in drawn] for choice in {key for a in drawn for key in a}}
    family = find_family(space.family)
    outlines = family.outlines(columns, shape, CLASSES, lambda widths: channels_left(widths, ratio, rounding))
    whole = family.outlines(columns, shape, CLASSES)
    smaller = 0
    for place in np.flatnonzero(outlines.possible).tolist():
        pruned = prune(build(space.family, drawn[place], shape, CLASSES), ratio, shape, rounding=rounding)
        expected = seen(pruned.model, shape)
        assert {fact: float(getattr(outlines, fact)[place]) for fact in FACTS} == expected, drawn[place]
        smaller += bool(outlines.weights[place] < whole.weights[place])
    assert smaller >= 1


def test_absent_choices_stand_for_their_defaults() -> None:
    family = find_family("convnet")
    given = {"stem.width": [8, 8], "stages": [1, 1], "head.hidden": [0, 0], "stem.stride": [1, None]}
    stage = {"stage1.conv": ["standard"] * 2, "stage1.width": [8] * 2, "stage1.pooling": ["none"] * 2}
    outlines = family.outlines(given | stage, (1, 28, 28), 10)
    assert outlines.macs[0] == outlines.macs[1]
    assert np.isfinite(outlines.macs).all()
