"""Folding batch norm into the layer before it, on a graph of torch's own operators.

A batch norm in evaluation multiplies and shifts each channel by constants, and so do the layer's weights and bias
(Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018,
equation 14): one operator less to call for each.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

_aten = torch.ops.aten
_FUSE: dict[Any, Any] = {_aten.conv2d.default: fuse_conv_bn_weights, _aten.linear.default: fuse_linear_bn_weights}


class _Graph:
    """A graph and what it reads beside its inputs, by names of one part: ``head.0.weight`` → ``head_0_weight``."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.graph = module.graph
        self.attributes: dict[str, Any] = {}
        names: dict[str, str] = {}
        for node in self.graph.find_nodes(op="get_attr"):
            path = str(node.target)
            if path not in names:
                names[path] = self._add(path.replace(".", "_"), functools.reduce(getattr, path.split("."), module))
            node.target = names[path]

    def value(self, node: Any) -> Any:
        """The constant that an argument is; None where it is none."""
        return self.attributes[str(node.target)] if isinstance(node, fx.Node) and node.op == "get_attr" else None

    def constant(self, name: str, value: Tensor) -> fx.Node:
        """A new constant; the caller says where in the graph."""
        node: fx.Node = self.graph.create_node("get_attr", self._add(name, value))
        return node

    def _add(self, name: str, value: Any) -> str:
        """Keeps a value, under the name or, where it is taken, one like it."""
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        free = next(free for free in itertools.chain([name], numbered) if free not in self.attributes)
        self.attributes[free] = value.detach() if isinstance(value, Tensor) else value
        return free


def fold_batch_norms(module: fx.GraphModule) -> nn.Module:
    """The same function with each batch norm that follows a 2-D convolution or a linear layer folded into it.

    A batch norm stays where the layer's output has another use, or where it computes statistics of its own.

    Args:
        module: From ``ExportedProgram.module()``, of a network in evaluation mode.

    Returns:
        A module with the tensors that are still used, contiguous, without the checks of the export.
    """
    graph = _Graph(module)
    for node in list(graph.graph.nodes):
        if node.op == "call_module":  # the checks of what comes in, which the next export writes anew
            graph.graph.erase_node(node)
        elif node.target is _aten.batch_norm.default:
            _fold(graph, node)
    root = nn.Module()
    for node in graph.graph.find_nodes(op="get_attr"):
        value = graph.attributes[str(node.target)]
        if not node.users:
            graph.graph.erase_node(node)
        elif isinstance(value, Tensor):
            root.register_buffer(str(node.target), value.clone(memory_format=torch.contiguous_format))
        else:  # the branches of a decision
            setattr(root, str(node.target), value)
    return fx.GraphModule(root, graph.graph)


def _fold(graph: _Graph, norm: fx.Node) -> None:
    """Folds one batch norm, where it can be."""
    layer, weight, bias, mean, variance, training, _, epsilon, _ = norm.args
    if not isinstance(layer, fx.Node) or layer.target not in _FUSE or len(layer.users) != 1 or training:
        return
    layer_weight = graph.value(layer.args[1])
    constants = [graph.value(argument) for argument in (mean, variance)]
    if layer_weight is None or any(constant is None for constant in constants):
        return
    layer_bias = layer.args[2] if len(layer.args) > 2 else None
    fused = _FUSE[layer.target](
        layer_weight, graph.value(layer_bias), *constants, epsilon, graph.value(weight), graph.value(bias)
    )
    with graph.graph.inserting_before(layer):
        nodes = [
            graph.constant(f"{layer.name}_{kind}", value.detach())
            for kind, value in zip(("weight", "bias"), fused, strict=True)
        ]
    layer.args = (layer.args[0], *nodes, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    graph.graph.erase_node(norm)
