"""What a compression technique is: a config read from a design, and a handler that carries it out.

There are two kinds, after what they work on. A ``NetworkTechnique`` changes the trained torch network: it prunes
channels, zeroes weights, trains on. A ``GraphTechnique`` changes the ONNX body that was exported from it: it shares or
quantises weights, and may train them further there (``nas.compress.graph``), on the very grid that the file stores.

A technique lies in a file of its own and is listed in ``nas.compress.registry``; its choices stand in
``nas.compression``. ``tests/compress/test_compress_contract.py`` holds what every technique owes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from torch import nn

from nas.design import Design
from nas.outcome import Realisation
from nas.recipe_sections import TrainingConfig
from nas.train import Distillation, Numerics, TrainingData, seeded, train

CALIBRATION_IMAGES = 256

Config = TypeVar("Config")


def _unwatched(share: float) -> None:
    """The progress of whoever does not watch."""


@dataclass(frozen=True)
class Tools:
    """What techniques work with: data, options, training.

    Args:
        data: The training split.
        input_shape: (C, H, W) of one image.
        training: The recipe's training section.
        epochs: How many epochs fine-tuning may take (the budget's ``finetune_epochs``).
        numerics: Device, precision and threads.
        seed: The trial's seed.
        pixels: Scale and zero point of the input where images go in as they are, as bytes.
        reduce_range: Whether int8 weights use 7 bits, for CPUs whose int8 products saturate.
        teach: Gives what a student learns from, where the design asks for it; computed when it is first needed.
        progress: Hears the share done, 0 to 1.
    """

    data: TrainingData
    input_shape: tuple[int, int, int]
    training: TrainingConfig
    epochs: int
    numerics: Numerics
    seed: int
    pixels: tuple[float, int] | None = None
    reduce_range: bool = False
    teach: Callable[[], Distillation] | None = None
    progress: Callable[[float], None] = _unwatched

    @cached_property
    def calibration(self) -> np.ndarray:
        """Normalised training images (N×C×H×W, float32) that show the range of activations."""
        images = self.data.normalise(self.data.images[:CALIBRATION_IMAGES]).cpu().contiguous()
        return np.asarray(images.numpy())

    def finetune(
        self,
        model: nn.Module,
        epochs: int,
        learning_rate: float | None = None,
        after_step: Callable[[], None] | None = None,
        parameters: Sequence[nn.Parameter] | None = None,
    ) -> list[dict[str, Any]]:
        """Trains a network in place for some epochs, with the teacher's help where the design asks for it.

        Args:
            model: Gives logits; left in evaluation mode, on the CPU.
            epochs: How many.
            learning_rate: The peak; the recipe's ``finetune_learning_rate`` by default.
            after_step: Called after each step of the optimiser, such as to put zeros back.
            parameters: What is trained; all parameters by default.

        Returns:
            The curve, see ``nas.train.train``.
        """
        rate = self.training.finetune_learning_rate if learning_rate is None else learning_rate
        distillation = self.teach() if self.teach is not None else None
        with seeded(self.seed, self.numerics.threads) as generator:
            curve = train(
                model, self.data, self.training, self.numerics, epochs, rate, generator, distillation,
                on_epoch=lambda done, of: self.progress(done / of), after_step=after_step, parameters=parameters,
            )  # fmt: skip
        model.cpu()
        return curve


@dataclass(frozen=True)
class Account:
    """What a technique did, for the record: a label for each choice that it carried out, and notes in words."""

    labels: Mapping[str, Realisation] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Technique(ABC, Generic[Config]):
    """What both kinds have in common.

    ``name`` is its stage in records and keys, ``choices`` the compression choices that it reads, ``version`` changes
    when its code changes what it produces, ``packages`` are those whose versions its results depend on. ``Config`` is
    a frozen dataclass of JSON values: two designs with equal configs get the same treatment.
    """

    name: ClassVar[str]
    choices: ClassVar[tuple[str, ...]]
    version: ClassVar[int]
    packages: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def config(self, design: Design) -> Config | None:
        """The technique's settings; None where the design leaves it out.

        Raises:
            UnsupportedError: The settings cannot be carried out.
        """

    def trains(self, config: Config) -> bool:
        """Whether training options, epochs, seed and teacher are part of the result's key."""
        return False

    def untrained(self, config: Config) -> Config | None:
        """The config with the same effect on what is stored as far as it is had without training; None for nothing."""
        return None if self.trains(config) else config

    def looked_at(self, tools: Tools) -> Mapping[str, Any]:
        """What else of the tools the result depends on, as JSON."""
        return {}


class NetworkTechnique(Technique[Config]):
    """Works on the trained torch network."""

    @abstractmethod
    def apply(self, network: nn.Module, config: Config, tools: Tools) -> tuple[nn.Module, dict[str, Any]]:
        """The changed network, in evaluation mode on the CPU, and what is worth knowing of it, as JSON.

        ``network`` itself is not changed. The detail is kept with the weights and handed to ``restore``.

        Raises:
            UnsupportedError: It cannot be done to this network; the message names the layer and the remedy.
        """

    def restore(self, network: nn.Module, detail: Mapping[str, Any], tools: Tools) -> nn.Module:
        """A network of the structure that ``apply`` gave, made from the one that it was given; weights follow."""
        return network

    @abstractmethod
    def account(self, config: Config, detail: Mapping[str, Any]) -> Account:
        """Labels and notes for the record."""


class GraphTechnique(Technique[Config]):
    """Works on the exported ONNX body: normalised N×C×H×W float32 in, class probabilities out."""

    @abstractmethod
    def apply(self, body: bytes, config: Config, tools: Tools) -> tuple[bytes, dict[str, Any]]:
        """The changed body, and what is worth knowing of it, as JSON.

        Raises:
            UnsupportedError: It cannot be done to this network; the message names the layer and the remedy.
        """

    @abstractmethod
    def account(self, config: Config, detail: Mapping[str, Any], artifact: bytes) -> Account:
        """Labels and notes for the record; what runs how is read off the runtime's own graph of the artifact."""
