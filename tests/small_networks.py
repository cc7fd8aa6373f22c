"""Small data, designs and networks that the tests of training, compression and evaluation share."""

from __future__ import annotations

import functools
import random
from typing import Any

import numpy as np
import torch
from torch import nn

from nas import data
from nas.data.dataset import Dataset
from nas.data.normalise import normalisation_of
from nas.design import Design, Value
from nas.errors import InfeasibleDesignError
from nas.families import build
from nas.recipe import Recipe, parse_recipe
from nas.recipe_sections import DataConfig
from nas.space import list_spaces
from nas.train import Numerics, TrainingData

SPACES = {space.name: space for space in list_spaces()}
ONE_THREAD = Numerics("cpu", "float32", 1)

# One small architecture of each family, for 8×8 images.
ARCHITECTURES: dict[str, dict[str, Value]] = {
    "convnet": {
        "stem.width": 16,
        "stages": 1,
        "stage1.conv": "standard",
        "stage1.kernel": 3,
        "stage1.width": 32,
        "stage1.depth": 1,
        "stage1.pooling": "max",
        "head.pooling": "flatten",
        "head.hidden": 0,
    },
    "mlp": {"layers": 1, "layer1.width": 64},
    "mobilenet": {
        "activation": "hardswish",
        "stem.width": 16,
        "stages": 1,
        "stage1.expansion": 2,
        "stage1.kernel": 3,
        "stage1.width": 16,
        "stage1.depth": 2,
        "stage1.stride": 2,
        "stage1.squeeze_excite": True,
        "head.width": 64,
    },
    "resnet": {"stem.width": 16, "stages": 1, "stage1.width": 32, "stage1.depth": 1, "stage1.stride": 2},
}


def make_design(family: str = "convnet", architecture: dict[str, Value] | None = None, **compression: Value) -> Design:
    """A small design of a family; ``architecture`` replaces single choices."""
    return Design(family, ARCHITECTURES[family] | (architecture or {}), compression)


def make_recipe(
    epochs: int = 2, finetune_epochs: int = 1, training: dict[str, Any] | None = None, **keys: Any
) -> Recipe:
    """A recipe on the digits with a training of a moment; ``training`` and keywords replace single keys."""
    data = {
        "data": {"source": "digits"},
        "space": "convnet-small",
        "budget": {"trials": 1, "epochs": epochs, "finetune_epochs": finetune_epochs},
        "training": {"batch_size": 50, "learning_rate": 4e-3, "threads": 1, "precision": "float32"} | (training or {}),
    }
    return parse_recipe(data | keys, "a test's recipe")


def sampled_network(space: str, shape: tuple[int, int, int], classes: int = 7, seed: int = 0) -> nn.Module:
    """The network of a random design of a shipped space, in evaluation mode, as if it had been trained: its batch
    norms have statistics and scales of their own, so that folding them makes a difference."""
    rng = random.Random(f"{space} {shape} {seed}")
    for _ in range(50):
        design = SPACES[space].sample(rng)
        torch.manual_seed(seed)
        try:
            network = build(design.family, design.architecture, shape, classes)
        except InfeasibleDesignError:
            continue
        return with_statistics(network)
    raise AssertionError(f"no design of {space} fits {shape}")


def with_statistics(network: nn.Module) -> nn.Module:
    """The network with random statistics, scales and offsets in its batch norms, in evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                assert tensor is not None
                tensor.uniform_(low, high)
    return network.eval()


@functools.cache
def digits(train: int = 300, validation: int = 200) -> Dataset:
    """A part of the embedded digits."""
    return data.load(DataConfig(source="digits", train_limit=train, validation_limit=validation))


def training_data(dataset: Dataset) -> TrainingData:
    """The training split as networks take it."""
    images, labels = dataset.train.images, dataset.train.labels
    normalisation = normalisation_of(images, dataset.input)
    classes = len(dataset.class_names)
    return TrainingData.from_arrays(images, labels, classes, dataset.input.layout, normalisation, "cpu")


def normalised(images: np.ndarray, mean: float | np.ndarray, std: float | np.ndarray, layout: str) -> np.ndarray:
    """(x − mean) / std in double precision, channels first, float32."""
    pixels = (images.astype(np.float64) - mean) / std
    return (pixels.transpose(0, 3, 1, 2) if layout == "NHWC" else pixels).astype(np.float32)
