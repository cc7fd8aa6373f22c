"""Structured channel pruning: whole channels go, so that the network that remains is smaller and truly faster.

Coupled layers are found by torch-pruning's dependency graph (Fang et al., DepGraph, CVPR 2023); within each group
the channels with the smallest L1 norm go (Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017).
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import nn

from nas.compress.technique import Account, NetworkTechnique, Tools
from nas.design import Design
from nas.errors import UnsupportedError
from nas.outcome import Realisation

# Vector units work in blocks of eight channels, so widths are rounded to this where the layer is wide enough.
CHANNEL_MULTIPLE = 8
WIDE_ENOUGH = 32
# No layer is left with fewer channels than these (or than it had): a bottleneck that narrow destroys the network.
MINIMUM_CHANNELS = 8
MINIMUM_SHARE = 0.25


@dataclass(frozen=True)
class Pruned:
    """A pruned copy of a network.

    Args:
        model: The smaller network, in evaluation mode.
        history: What was removed, JSON that ``replay`` takes.
        widths: Output channels of each convolution and linear layer, before and after: ``{"stage1.0": [32, 16]}``.
    """

    model: nn.Module
    history: list[Any]
    widths: dict[str, list[int]]


def channels_to_keep(width: int, ratio: float) -> int:
    """How many of ``width`` channels stay when about ``ratio`` of them are to go.

    Rounded to the nearest multiple of 8 from 32 channels on, of 4 below; never under 8 channels nor a quarter, which
    is rounded up. A ratio of 0 keeps all, whatever the width.
    """
    if ratio == 0:
        return width
    multiple = CHANNEL_MULTIPLE if width >= WIDE_ENOUGH else CHANNEL_MULTIPLE // 2
    wanted = multiple * round(width * (1 - ratio) / multiple)
    least = multiple * math.ceil(width * MINIMUM_SHARE / multiple)
    return min(width, max(wanted, MINIMUM_CHANNELS, least))


def prune(model: nn.Module, ratio: float, input_shape: tuple[int, int, int]) -> Pruned:
    """Removes about ``ratio`` of each layer's output channels, except the classes.

    Args:
        model: The trained network, whose last layer is ``model.classifier``; not changed.
        ratio: Share of channels to remove, 0 to less than 1.
        input_shape: (C, H, W).

    Raises:
        UnsupportedError: The network cannot be traced, or does not run once pruned.
    """
    smaller = _prunable_copy(model)
    before = _widths(smaller)
    graph = _dependency_graph(smaller, input_shape)
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=1)
    for group in graph.get_all_groups(ignored_layers=[smaller.classifier], root_module_types=[nn.Conv2d, nn.Linear]):
        scores = importance(group)
        surplus = len(scores) - channels_to_keep(len(scores), ratio)
        if surplus > 0:
            # Stable, so that equal scores give the same channels everywhere.
            indices = torch.sort(scores, stable=True).indices[:surplus].tolist()
            # Not group.prune(indices), which writes the whole layer into the history as well.
            root = group[0].dep
            graph.get_pruning_group(root.target.module, root.handler, indices).prune()
    _check_runs(smaller, input_shape)
    after = _widths(smaller)
    return Pruned(smaller, graph.pruning_history(), {name: [before[name], after[name]] for name in before})


def replay(model: nn.Module, history: list[Any], input_shape: tuple[int, int, int]) -> nn.Module:
    """A copy of ``model`` with the channels removed that ``history`` names; its weights are those of ``model``."""
    smaller = _prunable_copy(model)
    _dependency_graph(smaller, input_shape).load_pruning_history(history)
    _check_runs(smaller, input_shape)
    return smaller


def _prunable_copy(model: nn.Module) -> nn.Module:
    smaller = copy.deepcopy(model).cpu().eval()
    for parameter in smaller.parameters():
        parameter.requires_grad_(True)  # torch-pruning silently leaves frozen parameters alone
    return smaller


def _dependency_graph(model: nn.Module, input_shape: tuple[int, int, int]) -> torch_pruning.DependencyGraph:
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch_pruning.DependencyGraph().build_dependency(model, example_inputs=torch.zeros(1, *input_shape))
        except Exception as error:  # tracing raises whatever the network's forward raises
            raise UnsupportedError(f"the network cannot be traced for pruning: {_one_line(error)}") from error


def _check_runs(model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    try:
        with torch.no_grad():
            model(torch.zeros(1, *input_shape))
    except Exception as error:
        raise UnsupportedError(
            f"the network does not run after pruning: {_one_line(error)}",
            "its forward relies on a number of channels; set pruning_ratio to 0",
        ) from error


def _widths(model: nn.Module) -> dict[str, int]:
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear))
    return {name: int(module.weight.shape[0]) for name, module in layers}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@dataclass(frozen=True)
class PruneConfig:
    """Which share of the channels goes."""

    ratio: float


class Prune(NetworkTechnique[PruneConfig]):
    """Structured pruning."""

    name = "prune"
    choices = ("pruning_ratio", "pruning_criterion", "pruning_steps", "pruning_rounding")
    version = 1
    packages = ("torch-pruning",)

    def config(self, design: Design) -> PruneConfig | None:
        ratio = float(design.step("pruning_ratio"))
        return PruneConfig(ratio) if ratio else None

    def apply(self, network: nn.Module, config: PruneConfig, tools: Tools) -> tuple[nn.Module, dict[str, Any]]:
        pruned = prune(network, config.ratio, tools.input_shape)
        return pruned.model, {"history": pruned.history, "widths": pruned.widths}

    def restore(self, network: nn.Module, detail: Mapping[str, Any], tools: Tools) -> nn.Module:
        return replay(network, detail["history"], tools.input_shape)

    def account(self, config: PruneConfig, detail: Mapping[str, Any]) -> Account:
        """Unsupported where every layer was too narrow to lose a channel."""
        before, after = (sum(pair[position] for pair in detail["widths"].values()) for position in (0, 1))
        label = Realisation.REALISED if after < before else Realisation.UNSUPPORTED
        note = f"pruning kept {after} of {before} output channels, the classes among them"
        return Account({"pruning_ratio": label}, (note,))
