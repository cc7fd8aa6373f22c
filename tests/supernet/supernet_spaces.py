"""Small spaces and data that the tests of the supernet share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from small_networks import digits, training_data

from nas.design import Design, Value
from nas.space import SearchSpace, parse_space
from nas.supernet import Supernet
from nas.train import TrainingData

SHAPE = (1, 8, 8)
CLASSES = 10
IN_TWO = {"stages": [2]}


def make_space(family: str, architecture: dict[str, Any], **sections: Any) -> SearchSpace:
    return parse_space("tiny", {"family": family, "architecture": architecture, **sections}, Path())


# Every kind of convolution, pooling and head, with one and two stages.
CONVNET_KINDS = make_space(
    "convnet",
    {
        "stem.width": [8],
        "stages": [1, 2],
        "stage1.conv": ["standard", "separable"],
        "stage1.width": [8],
        "stage1.pooling": ["max", "average", "stride", "none"],
        "stage2.conv": {"values": ["separable"], "when": IN_TWO},
        "stage2.width": {"values": [12], "when": IN_TWO},
        "stage2.pooling": {"values": ["none"], "when": IN_TWO},
        "head.pooling": ["average", "flatten"],
        "head.hidden": [0, 8],
    },
)
# Every size: widths, kernels, depths, the stem's stride.
CONVNET_SIZES = make_space(
    "convnet",
    {
        "stem.width": [4, 8],
        "stem.kernel": [3, 5],
        "stem.stride": [1, 2],
        "stages": [1],
        "stage1.conv": ["standard", "separable"],
        "stage1.kernel": [3, 5],
        "stage1.width": [4, 8],
        "stage1.depth": [1, 2],
        "stage1.pooling": ["max"],
        "head.pooling": ["flatten"],
        "head.hidden": [8],
    },
)
MOBILENET_KINDS = make_space(
    "mobilenet",
    {
        "activation": ["relu6", "hardswish"],
        "stem.width": [8],
        "stages": [1, 2],
        "stage1.expansion": [1, 2],
        "stage1.kernel": [3],
        "stage1.width": [8],
        "stage1.depth": [1],
        "stage1.stride": [1, 2],
        "stage1.squeeze_excite": [False, True],
        "stage2.expansion": {"values": [2], "when": IN_TWO},
        "stage2.kernel": {"values": [3], "when": IN_TWO},
        "stage2.width": {"values": [12], "when": IN_TWO},
        "stage2.depth": {"values": [1], "when": IN_TWO},
        "stage2.stride": {"values": [1], "when": IN_TWO},
        "head.width": [0, 8],
    },
)
MOBILENET_SIZES = make_space(
    "mobilenet",
    {
        "activation": ["relu6"],
        "stem.width": [4, 48],
        "stem.kernel": [3, 5],
        "stages": [1],
        "stage1.expansion": [1, 2, 3],
        "stage1.kernel": [3, 5],
        "stage1.width": [4, 8],
        "stage1.depth": [1, 2],
        "stage1.stride": [1],
        "stage1.squeeze_excite": [True],
    },
)
TINY = {
    "convnet kinds": CONVNET_KINDS,
    "convnet sizes": CONVNET_SIZES,
    "mobilenet kinds": MOBILENET_KINDS,
    "mobilenet sizes": MOBILENET_SIZES,
}

# What trains in a moment and learns the digits.
LEARNS = make_space(
    "convnet",
    {
        "stem.width": [8, 16],
        "stages": [1],
        "stage1.conv": ["standard"],
        "stage1.width": [16, 32],
        "stage1.kernel": [3, 5],
        "stage1.pooling": ["max", "average"],
        "head.pooling": ["flatten"],
        "head.hidden": [0],
    },
    compression={"weight_bits": [32, 8]},
)

# Networks that differ in what they reach.
DIFFER = make_space(
    "convnet",
    {
        "stem.width": [2, 8, 16],
        "stages": [1],
        "stage1.conv": ["standard", "separable"],
        "stage1.width": [2, 8, 32],
        "stage1.pooling": ["max", "stride"],
        "head.pooling": ["average", "flatten"],
        "head.hidden": [0],
    },
)


def supernet_of(space: SearchSpace, seed: int = 0) -> Supernet:
    return Supernet(space, SHAPE, CLASSES, seed)


def with_random_tensors(supernet: Supernet, seed: int = 0) -> Supernet:
    """All shared tensors made and random, those too that start equal, so that no two parts of one are alike."""
    for design in supernet.space.designs():
        supernet.parameters(design)
    generator = torch.Generator().manual_seed(seed)
    for tensor in supernet.tensors.values():
        if tensor.unique().numel() == 1:
            tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return supernet


def changed(design: Design, **values: Value) -> Design:
    """The design with other values; ``stage1_width`` stands for ``stage1.width``."""
    named = {name.replace("_", ".", 1): value for name, value in values.items()}
    return Design(design.family, {**design.architecture, **named}, design.compression)


def both_splits(train: int = 300, validation: int = 200) -> tuple[TrainingData, TrainingData]:
    """Digits for training, and for validation with the same normalisation."""
    dataset = digits(train, validation)
    data = training_data(dataset)
    held_out = training_data(replace(dataset, train=dataset.validation))
    return data, replace(held_out, normalisation=data.normalisation)
