"""The float network that a design's compression starts from: loaded, or trained, from random weights or another's.

A training may be asked for fewer epochs than the whole budget, as a rung of it. What comes before its decay is then
kept (stage ``trunk``), under a key of steps and not of the budget, and every longer training continues the longest
trunk that the cache holds. So a network trained for r and then for R epochs has the weights of one trained for R epochs
in one go, to the bit, and costs no more than the decay of the r epochs beside.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from nas.design import Design
from nas.errors import UnsupportedError
from nas.families import OwnNetwork, build
from nas.families.layout import layout_of
from nas.families.weights import inherit_weights, weights_in
from nas.own_module import FAMILY as OWN_MODULE
from nas.recipe import Recipe
from nas.stages import Stages, Trace
from nas.store import sha256_bytes
from nas.train import (
    Checkpoint,
    EpochCallback,
    Numerics,
    TrainingData,
    rung_epochs,
    seeded,
    steps_per_epoch,
    train,
    train_trunk,
    trunk_steps,
    whole_steps,
)


@dataclass(frozen=True)
class Start:
    """Weights that a training starts from, such as a supernet's.

    Args:
        weights: A safetensors file's content; names and shapes as in the network, where they overlap.
        name: What the record calls it.
    """

    weights: bytes = field(repr=False)
    name: str

    @property
    def sha256(self) -> str:
        return sha256_bytes(self.weights)


@dataclass(frozen=True)
class Relative:
    """A network that was trained for the whole budget, from weights that were inherited themselves."""

    design: Design
    inherits: Inherits | None = None


# What a training starts from instead of random weights alone: the trained network of a design (a ``Relative`` where
# that inherited too), or given weights.
Inherits = Design | Relative | Start


@dataclass(frozen=True)
class KeyedNetwork:
    """A network with the key of the stage that it came from."""

    model: nn.Module
    key: str


@dataclass(frozen=True)
class _Training:
    """What is trained: everything that a trunk depends on but its length.

    Args:
        model: Before its training, then in it.
        options: For the keys.
        generator: What the random numbers follow from.
        seed: The trial's.
    """

    model: nn.Module
    options: dict[str, Any]
    generator: torch.Generator
    seed: int


class FloatNetworks:
    """Loads or trains float networks for one recipe on one data set, with a cache.

    Args:
        recipe: Budget, training options.
        data: What networks train on.
        input_shape: (C, H, W).
        stages: The cache.
        numerics: On what and in which precision networks train.
        own: The network of designs of family ``module``.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: TrainingData,
        input_shape: tuple[int, int, int],
        stages: Stages,
        numerics: Numerics,
        own: OwnNetwork | None,
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.input_shape = input_shape
        self.stages = stages
        self.numerics = numerics
        self.own = own
        self.steps_per_epoch = steps_per_epoch(data, recipe.training)

    @property
    def loaded(self) -> nn.Module | None:
        """A person's own network that comes with its weights; None where networks are trained here."""
        return self.own.trained if self.own is not None else None

    def key(self, design: Design, seed: int, inherits: Inherits | None = None, epochs: float | None = None) -> str:
        """The key of a design's float network after a training of so many epochs, the whole budget by default.

        Designs of one architecture share it. What is inherited is part of it, by the key of the other training.
        """
        if self.own is not None and self.loaded is not None:
            return self.stages.key("load", "", 0, {"module": self.own.digest})
        options = self._options(design, seed, inherits) | {"epochs": epochs or self.recipe.budget.epochs}
        return self.stages.key("train", "", seed, options)

    def trained(
        self, design: Design, seed: int, trace: Trace, inherits: Inherits | None = None, epochs: float | None = None
    ) -> KeyedNetwork:
        """The float network, loaded or trained, on the CPU for evaluation.

        Args:
            design: What to train; its compression has no part in it.
            seed: Of weights, order, augmentation.
            trace: Notes the stages.
            inherits: What the training starts from instead of random weights alone.
            epochs: Of the training; of fewer than the whole budget, a rung's, the trunk is kept for a longer one.

        Raises:
            UnsupportedError: There is nothing to train, but epochs or something to inherit were given.
            ModuleError: Given weights are no safetensors file.
        """
        key = self.key(design, seed, inherits, epochs)
        if self.loaded is not None:
            self._check_untouched(inherits, epochs)
            return KeyedNetwork(ready(copy.deepcopy(self.loaded)), key)
        budget, config = epochs or self.recipe.budget.epochs, self.recipe.training
        with seeded(seed, self.numerics.threads) as generator:
            model = self._built(design)

            def compute() -> tuple[bytes, dict[str, Any]]:
                detail = self._inherit(model, seed, inherits, trace)
                training = _Training(model, self._options(design, seed, inherits), generator, seed)
                resume = self._trunk(training, budget, budget < self.recipe.budget.epochs, trace)
                curve = train(
                    model, self.data, config, self.numerics, budget, config.learning_rate, generator,
                    on_epoch=_shown("train", budget, trace), resume=resume,
                )  # fmt: skip
                return save_network(model), {"curve": curve, "epochs": budget - self._done(resume), **detail}

            entry = self.stages.cached("train", key, trace, compute)
        return KeyedNetwork(load_network(model, entry.blob), key)

    def untrained(self, design: Design, seed: int) -> nn.Module:
        """The network that a training would begin with; one that is loaded is what it is."""
        if self.loaded is not None:
            return ready(copy.deepcopy(self.loaded))
        with seeded(seed, self.numerics.threads):
            return ready(self._built(design))

    def _built(self, design: Design) -> nn.Module:
        """The design's network with random weights, drawn from torch's global generator."""
        if design.family == OWN_MODULE and self.own is not None:
            return self.own.build()
        return build(design.family, design.architecture, self.input_shape, self.data.classes)

    def _options(self, design: Design, seed: int, inherits: Inherits | None) -> dict[str, Any]:
        """All that a training depends on but its length, the data and the numeric policy."""
        options: dict[str, Any] = {
            "architecture": design.architecture_digest,
            "training": self.recipe.training.model_dump(mode="json"),
        }
        if self.own is not None:
            options["module"] = self.own.digest
        if isinstance(inherits, Start):
            options["inherits"] = {"weights": inherits.sha256}
        elif inherits is not None:
            parent = _relative(inherits)
            options["inherits"] = {"network": self.key(parent.design, seed, parent.inherits)}
        return options

    def _inherit(self, model: nn.Module, seed: int, inherits: Inherits | None, trace: Trace) -> dict[str, Any]:
        """Gives a new network what it inherits, and says how much that was; the relative's stages are its own."""
        if inherits is None:
            return {}
        if isinstance(inherits, Start):
            state = weights_in(inherits.weights, Path(f"{inherits.name}.safetensors"))
        else:
            parent = _relative(inherits)
            state = self.trained(parent.design, seed, Trace(trace.progress), parent.inherits).model.state_dict()
        return {"inherited": inherit_weights(model, state)}

    def _trunk(self, training: _Training, epochs: float, keep: bool, trace: Trace) -> Checkpoint | None:
        """Where a training of so many epochs goes on from; its own trunk is trained and kept first where that is asked
        for, unless there is none, as where all of a few steps are decay."""
        trunks = self._trunks(training, epochs)
        if not keep or not trunks:
            return self._longest(trunks, trace)
        (steps, key), shorter = trunks[0], trunks[1:]
        config = self.recipe.training

        def compute() -> tuple[bytes, dict[str, Any]]:
            resume = self._longest(shorter, trace)
            trunk = train_trunk(
                training.model, self.data, config, self.numerics, steps, config.learning_rate, training.generator,
                on_epoch=_shown("trunk", epochs, trace), resume=resume,
            )  # fmt: skip
            content, detail = trunk.to_entry()
            return content, detail | {"epochs": self._done(trunk) - self._done(resume)}

        entry = self.stages.cached("trunk", key, trace, compute)
        return Checkpoint.from_entry(entry.blob, entry.detail)

    def _done(self, checkpoint: Checkpoint | None) -> float:
        """After how many epochs a checkpoint was taken; 0 where there is none."""
        return 0.0 if checkpoint is None else checkpoint.step / self.steps_per_epoch

    def _trunks(self, training: _Training, epochs: float) -> list[tuple[int, str]]:
        """Steps and key of each trunk that a training of so many epochs can continue, the longest first."""
        rungs = rung_epochs(self.recipe.budget.epochs, self.recipe.guided.reduction, self.steps_per_epoch)
        budgets = {epochs, *(rung for rung in rungs if rung <= epochs), *range(1, int(epochs) + 1)}
        lengths = {trunk_steps(whole_steps(budget, self.steps_per_epoch)) for budget in budgets}
        return [
            (steps, self.stages.key("trunk", "", training.seed, training.options | {"steps": steps}))
            for steps in sorted(lengths - {0}, reverse=True)
        ]

    def _longest(self, trunks: Sequence[tuple[int, str]], trace: Trace) -> Checkpoint | None:
        """The first of these trunks that the cache holds."""
        for _, key in trunks:
            if (entry := self.stages.found("trunk", key, trace)) is not None:
                return Checkpoint.from_entry(entry.blob, entry.detail)
        return None

    def _check_untouched(self, inherits: Inherits | None, epochs: float | None) -> None:
        """Makes sure that nothing is asked of a network that is loaded but what it is."""
        if self.own is not None and (inherits is not None or epochs is not None):
            raise UnsupportedError(
                f"{self.own.module.label} comes with its weights: there is nothing to train in rungs or to inherit",
                "evaluate it to the end, or leave out the weights",
            )


def save_network(model: nn.Module) -> bytes:
    """A network's weights as a safetensors file."""
    # Clones, since layers may share a tensor, which the format refuses; each then gets the same values back.
    state = {name: tensor.cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(state)


def load_network(model: nn.Module, blob: bytes) -> nn.Module:
    """The network with the stored weights, on the CPU, for evaluation."""
    model.cpu().load_state_dict(safetensors.torch.load(blob))
    return ready(model)


def ready(model: nn.Module) -> nn.Module:
    """The network on the CPU, for evaluation.

    Always channels last: the memory layout decides the order of a convolution's sums, so a network from the cache must
    have that of one just trained, or a student of it would depend on what was cached.
    """
    return model.cpu().to(memory_format=layout_of(model)).eval()  # type: ignore[call-overload, no-any-return]


def _relative(inherits: Design | Relative) -> Relative:
    return inherits if isinstance(inherits, Relative) else Relative(inherits)


def _shown(stage: str, epochs: float, trace: Trace) -> EpochCallback:
    """What shows the epochs done as a stage's progress."""
    return lambda done, of: trace.progress(stage, done / epochs)
