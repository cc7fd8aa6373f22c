"""Structured channel pruning: whole channels go, so that the network that remains is smaller and truly faster.

Coupled layers are found by torch-pruning's dependency graph (Fang et al., DepGraph, CVPR 2023): layers that are added,
multiplied or depthwise share their channels, so these can only go together. Within each such group the channels that a
criterion (``nas.compress.importance``) scores lowest go. How many depends on the group's ratio: the smallest one that
is asked for any layer whose *output channels* are in it, so that no stage loses more than was asked for it. The layers
that give the logits keep their outputs.

In several steps (``pruning_steps``) the kept share shrinks geometrically, to (1 − ratio)^(i / steps) after step i: each
step takes the same share of what is left, so that the fine-tuning after it has an equally hard cut to mend.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from nas.compress.coupling import cut, dependency_graph, equal_parts, groups, output_names
from nas.compress.finetune import split_epochs
from nas.compress.importance import Criterion, Magnitude, criterion_of
from nas.compress.layers import forward, output_layers, weighted_layers
from nas.compress.stages import check_stages, stage_of
from nas.compress.technique import Account, NetworkTechnique, Tools
from nas.compress.widths import CHANNEL_MULTIPLE, channels_to_keep
from nas.design import Design
from nas.errors import UnsupportedError
from nas.lease import working
from nas.outcome import Realisation

MOST_NAMES = 4  # in a note


@dataclass(frozen=True)
class Pruned:
    """A pruned copy of a network.

    Args:
        model: The smaller network, in evaluation mode.
        history: What was removed, JSON that ``replay`` takes.
        widths: Output channels of each convolution and linear layer, before and after: ``{"stage1.0": [32, 16]}``.
        left: Layers that were to lose channels and could not, and why; those that were too narrow aside.
        judged_by_l1: Layers to which the criterion did not apply, so that L1 decided.
    """

    model: nn.Module
    history: list[Any]
    widths: dict[str, list[int]]
    left: dict[str, str] = field(default_factory=dict)
    judged_by_l1: tuple[str, ...] = ()


def prune(
    model: nn.Module,
    ratio: float,
    input_shape: tuple[int, int, int],
    *,
    stages: Mapping[str, float] = MappingProxyType({}),
    criterion: Criterion | None = None,
    rounding: int = CHANNEL_MULTIPLE,
    steps: int = 1,
    between: Callable[[nn.Module, int], None] | None = None,
) -> Pruned:
    """Removes about ``ratio`` of each layer's output channels, except those of the layers that give the logits.

    Args:
        model: A trained classifier, of any kind; not changed.
        ratio: Share of channels to remove, 0 to less than 1.
        input_shape: (C, H, W).
        stages: Other ratios, for the layers of single stages (see ``nas.compress.stages``).
        criterion: What decides which channels go, for this network alone; the L1 norm by default.
        rounding: What widths are a multiple of, see ``channels_to_keep``.
        steps: In how many steps, see above.
        between: Called after each step but the last, with the network (which it may train, in place) and the step's
            number from 1.

    Raises:
        UnsupportedError: A stage that the network does not have; the network cannot be traced, or does not run once
            pruned. The message names the layer.
    """
    cuts = _Cuts(_prunable_copy(model), ratio, stages, rounding, input_shape)
    judge = criterion or Magnitude(1)
    for step in range(1, steps + 1):
        with working():  # a measurement in another process waits for it
            judge.prepare(cuts.model)
            cuts.make(judge, step / steps)
        if step < steps and between is not None:
            between(cuts.model, step)
            cuts.model.zero_grad(set_to_none=True)
    after = _widths(cuts.model)
    return Pruned(
        cuts.model,
        cuts.graph.pruning_history(),
        {name: [width, after[name]] for name, width in cuts.before.items()},
        cuts.left,
        tuple(dict.fromkeys(cuts.names[layer] for layer in judge.without_basis)),
    )


def replay(model: nn.Module, history: list[Any], input_shape: tuple[int, int, int]) -> nn.Module:
    """A copy of ``model`` with the channels removed that ``history`` names; its weights are those of ``model``."""
    smaller = _prunable_copy(model)
    classes = _classes(smaller, input_shape)
    dependency_graph(smaller, input_shape).load_pruning_history(history)
    _check(smaller, input_shape, classes)
    return smaller


class _Cuts:
    """Removes channels of one network, in place, and keeps account of it; the arguments are those of ``prune``."""

    def __init__(
        self,
        model: nn.Module,
        ratio: float,
        stages: Mapping[str, float],
        rounding: int,
        input_shape: tuple[int, int, int],
    ) -> None:
        layers = weighted_layers(model)
        check_stages(stages, layers)
        self.model, self.rounding, self.input_shape = model, rounding, input_shape
        self.names: dict[nn.Module, str] = {layer: name for name, layer in layers.items()}
        self.ratios = {name: stages.get(stage_of(name, stages) or "", ratio) for name in layers}
        self.protected = output_layers(model, input_shape)
        self.classes = _classes(model, input_shape)
        self.graph = dependency_graph(model, input_shape)
        self.before = _widths(model)
        self.left = {
            name: "does not lead to the logits in autograd's graph"
            for layer, name in self.names.items()
            if layer not in self.graph.module2node and self.ratios[name]
        }

    def make(self, judge: Criterion, share: float) -> None:
        """Prunes every group to the width that it has after a share of the way, 1 being the end."""
        for group in groups(self.graph, self.protected):
            root = self.names[group[0].dep.layer]
            ratio = min(self.ratios[name] for name in output_names(self.graph, group, self.names))
            so_far = ratio if share == 1 else 1 - (1 - ratio) ** share
            keep = channels_to_keep(self.before[root], so_far, self.rounding)
            if keep < len(group[0].idxs):
                try:
                    parts = equal_parts(self.graph, group)
                except UnsupportedError as error:
                    self.left[root] = error.message
                    continue
                surplus = len(group[0].idxs) - math.ceil(keep / parts) * parts
                if surplus > 0:
                    cut(self.graph, group, _weakest(judge.scores(group), surplus, parts), root)
        self.model.zero_grad(set_to_none=True)
        _check(self.model, self.input_shape, self.classes)


def _weakest(scores: torch.Tensor, surplus: int, parts: int) -> list[int]:
    """The channels with the lowest scores, ``surplus`` of them: at the same places in each of so many equal parts."""
    size = len(scores) // parts
    # Stable, so that equal scores give the same channels everywhere.
    places = torch.sort(scores.view(parts, size).sum(0), stable=True).indices[: surplus // parts]
    return [part * size + int(place) for part in range(parts) for place in places]


def _prunable_copy(model: nn.Module) -> nn.Module:
    smaller = copy.deepcopy(model).cpu().eval()
    for parameter in smaller.parameters():
        parameter.requires_grad_(True)  # torch-pruning silently leaves frozen parameters alone
    return smaller


def _widths(model: nn.Module) -> dict[str, int]:
    return {name: int(layer.weight.shape[0]) for name, layer in weighted_layers(model).items()}


@torch.no_grad()
def _classes(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    return forward(model, input_shape, "the network does not run on an image of zeros").shape[1]


@torch.no_grad()
def _check(model: nn.Module, input_shape: tuple[int, int, int], classes: int) -> None:
    """Makes sure that a pruned network still runs and gives as many logits as before."""
    failure = "the network does not run after pruning"
    hint = (
        "its forward relies on a number of channels: write it without, as x.flatten(1) or x.mean((2, 3)), or leave "
        "layers as they are with a ratio of 0, such as '{before}.pruning_ratio'"
    )
    found = forward(model, input_shape, failure, hint).shape[1]
    if found != classes:
        raise UnsupportedError(f"{failure}: it gives {found} logits, not {classes}", "set pruning_ratio to 0")


@dataclass(frozen=True)
class PruneConfig:
    """Which channels go.

    Args:
        ratio: The share of channels that goes, where a stage has no ratio of its own.
        stages: Those ratios: (stage, ratio).
        criterion: What decides which go.
        steps: In how many steps.
        rounding: What widths are a multiple of.
    """

    ratio: float
    stages: tuple[tuple[str, float], ...] = ()
    criterion: str = "l1"
    steps: int = 1
    rounding: int = CHANNEL_MULTIPLE


class Prune(NetworkTechnique[PruneConfig]):
    """Structured pruning."""

    name = "prune"
    choices = ("pruning_ratio", "pruning_criterion", "pruning_steps", "pruning_rounding")
    version = 1
    packages = ("torch-pruning",)

    def config(self, design: Design) -> PruneConfig | None:
        own = [stage for stage in design.stages if f"{stage}.pruning_ratio" in design.compression]
        config = PruneConfig(
            float(design.step("pruning_ratio")),
            tuple((stage, float(design.step("pruning_ratio", stage))) for stage in own),
            str(design.step("pruning_criterion")),
            int(design.step("pruning_steps")),
            int(design.step("pruning_rounding")),
        )
        return config if config.ratio or any(ratio for _, ratio in config.stages) else None

    def trains(self, config: PruneConfig) -> bool:
        """Between steps only: Taylor's gradients depend on data, seed and numerics, which are in every key."""
        return config.steps > 1

    def untrained(self, config: PruneConfig) -> PruneConfig:
        """At once: the widths are the same."""
        return replace(config, steps=1)

    def apply(self, network: nn.Module, config: PruneConfig, tools: Tools) -> tuple[nn.Module, dict[str, Any]]:
        epochs, _ = split_epochs(tools.epochs, config.steps)
        curve: list[dict[str, Any]] = []

        def between(model: nn.Module, step: int) -> None:
            done = config.steps - 1
            watched = replace(tools, progress=lambda share: tools.progress((step - 1 + share) / done))
            curve.extend(watched.finetune(model, epochs))

        pruned = prune(
            network,
            config.ratio,
            tools.input_shape,
            stages=dict(config.stages),
            criterion=criterion_of(config.criterion, tools),
            rounding=config.rounding,
            steps=config.steps,
            between=between,
        )
        return pruned.model, {
            "history": pruned.history,
            "widths": pruned.widths,
            "left": pruned.left,
            "judged_by_l1": list(pruned.judged_by_l1),
            "curve": curve,
        }

    def restore(self, network: nn.Module, detail: Mapping[str, Any], tools: Tools) -> nn.Module:
        return replay(network, detail["history"], tools.input_shape)

    def account(self, config: PruneConfig, detail: Mapping[str, Any]) -> Account:
        """A label for the network's ratio and for each stage's: unsupported where no layer of it lost a channel."""
        ratios = {stage: ratio for stage, ratio in ((None, config.ratio), *config.stages) if ratio}
        stages = [stage for stage, _ in config.stages]
        realised = {stage_of(name, stages) for name, (before, after) in detail["widths"].items() if after < before}
        labels = {
            "pruning_ratio" if stage is None else f"{stage}.pruning_ratio": (
                Realisation.REALISED if stage in realised else Realisation.UNSUPPORTED
            )
            for stage in ratios
        }
        return Account(labels, tuple(_notes(config, detail)))


def _notes(config: PruneConfig, detail: Mapping[str, Any]) -> Iterable[str]:
    before, after = (sum(pair[position] for pair in detail["widths"].values()) for position in (0, 1))
    yield f"pruning kept {after} of {before} output channels, the classes among them"
    if detail["judged_by_l1"]:
        basis = "batch norm" if config.criterion == "bn_scale" else "basis"
        yield f"pruning judged {_listed(detail['judged_by_l1'])} by L1 instead of {config.criterion}: no {basis} there"
    for reason in dict.fromkeys(detail["left"].values()):
        layers = [name for name, other in detail["left"].items() if other == reason]
        yield f"pruning left {_listed(layers)} as it was: it {reason}"


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
