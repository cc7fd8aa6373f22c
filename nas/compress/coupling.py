"""Which layers lose channels together: torch-pruning's dependency graph, and what it does not look at itself.

A *group* is a list of (dependency, channel indices): for each of the root's channels what goes with it in each coupled
layer. Some layers restrict which of its channels may go: a grouped convolution and a group norm split their channels
into equal parts that must stay equal and lose the same places, attention keeps its heads, and what works on the
image itself keeps the image's channels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch_pruning
from torch import nn
from torch_pruning.ops import OPTYPE, TORCH_CONV, TORCH_LINEAR

from nas.errors import UnsupportedError, one_line

ROOTS = (nn.Conv2d, nn.Linear)


def dependency_graph(model: nn.Module, input_shape: tuple[int, int, int]) -> Any:
    """torch-pruning's graph of a network, whose groups can be pruned and whose history can be replayed.

    Raises:
        UnsupportedError: torch-pruning cannot follow the network.
    """
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of parameters outside of layers, which the check afterwards covers
        try:
            return torch_pruning.DependencyGraph().build_dependency(model, example_inputs=torch.zeros(1, *input_shape))
        except Exception as error:  # it raises whatever its graph walk meets
            raise UnsupportedError(
                f"the network cannot be traced for pruning: {one_line(error)}",
                "its forward must build logits with layers and torch functions only, or set pruning_ratio to 0",
            ) from error


def groups(graph: Any, protected: list[nn.Module]) -> Iterator[Any]:
    """The groups of the network as it is at that moment, each with all channels of its root.

    Lazily: a group that is taken after another was pruned sees the layers without what went with that one.

    Args:
        graph: From ``dependency_graph``.
        protected: Layers that keep their outputs; groups that hold one are left out.
    """
    yield from graph.get_all_groups(ignored_layers=protected, root_module_types=ROOTS)


def output_names(graph: Any, group: Any, names: Mapping[nn.Module, str]) -> list[str]:
    """The names of the convolutions and linear layers whose output channels are in a group."""
    return [
        names[dependency.layer]
        for dependency, _ in group
        if dependency.layer in names and graph.is_out_channel_pruning_fn(dependency.handler)
    ]


def equal_parts(graph: Any, group: Any) -> int:
    """Into how many equal parts a group's channels fall, each of which must lose the channels at the same places.

    1 where any channel may go.

    Raises:
        UnsupportedError: None may; the message says why, and is to be put after the layer's name.
    """
    parts, channels, modules = 1, len(group[0].idxs), set(graph.model.modules())
    for dependency, indices in group:
        layer, node = dependency.layer, dependency.target
        if isinstance(layer, nn.MultiheadAttention):
            raise UnsupportedError("is coupled to attention, whose heads share its channels")
        depthwise = node.type == OPTYPE.DEPTHWISE_CONV
        if depthwise and layer.in_channels != layer.groups:
            raise UnsupportedError("is coupled to a convolution that takes several input channels to one")
        keeps_channels = depthwise or not isinstance(layer, (TORCH_CONV, TORCH_LINEAR))
        if keeps_channels and not node.inputs and layer in modules:
            raise UnsupportedError("shares its channels with the image")
        split = 1 if depthwise else _parts_of(layer)
        if split > 1:
            outputs = graph.is_out_channel_pruning_fn(dependency.handler)
            whole = graph.get_out_channels(layer) if outputs else graph.get_in_channels(layer)
            if not len(indices) == whole == channels:
                raise UnsupportedError(f"is only a part of what a {type(layer).__name__} in {split} groups takes")
            parts = math.lcm(parts, split)
    return parts


def cut(graph: Any, group: Any, indices: list[int], name: str) -> None:
    """Removes channels of a group's root, and what goes with them.

    Raises:
        UnsupportedError: A coupled layer cannot lose them.
    """
    root = group[0].dep
    try:
        # Not group.prune(indices), which writes the whole layer into the history as well.
        graph.get_pruning_group(root.layer, root.handler, indices).prune()
    except Exception as error:  # torch-pruning asserts and indexes without errors of its own
        raise UnsupportedError(
            f"layer '{name}' cannot be pruned: {one_line(error)}", f"set its ratio, '{name}.pruning_ratio', to 0"
        ) from error


def _parts_of(layer: Any) -> int:
    if isinstance(layer, TORCH_CONV):
        return int(layer.groups)
    return layer.num_groups if isinstance(layer, nn.GroupNorm) else 1
