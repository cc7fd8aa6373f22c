"""Half precision: some layers, or only their weights, as float16 in the ONNX file.

What a node computes in is decided node by node, from the types that ONNX allows its inputs and outputs. (The converter
that comes with ONNX Runtime does whole graphs; where some nodes stay float32 it leaves casts behind each of them,
rounds the probabilities to float16 at the end, and does not keep the nodes in order.)
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nas.compress.bits.body import LEFT_FLOAT, serialised, weighted
from nas.compress.stages import path_of_node
from nas.errors import UnsupportedError

HALF = "_float16"
LARGEST_HALF = float(np.finfo(np.float16).max)


def halve_weights(body: bytes, nodes: Collection[str]) -> bytes:
    """Stores the weights of some layers as float16, with a cast to float32, which the runtime folds at load.

    Args:
        body: A body whose nodes have names.
        nodes: Names of the layers.

    Raises:
        UnsupportedError: A weight is beyond what float16 can hold.
    """
    if not nodes:
        return body
    model = onnx.load_from_string(body)
    graph = model.graph
    halved: dict[str, onnx.NodeProto] = {}
    for name, (_, tensor) in weighted(graph).items():
        if name in nodes and tensor.name not in halved and tensor.data_type == TensorProto.FLOAT:
            stored, weight = f"{tensor.name}{HALF}", tensor.name
            halved[weight] = helper.make_node("Cast", [stored], [weight], f"{weight}_Cast", to=TensorProto.FLOAT)
            tensor.CopyFrom(_as_half(tensor, stored, name))
    for position, node in enumerate(halved.values()):
        graph.node.insert(position, node)
    return serialised(model)


def compute_in_half(body: bytes, nodes: Collection[str]) -> bytes:
    """Lets some nodes compute in float16, with casts where values come from others or go to them.

    The softmax and operators that ONNX does not define for float16 stay float32, as do input and output.

    Args:
        body: A body whose nodes have names.
        nodes: Names of the nodes.

    Raises:
        UnsupportedError: A weight is beyond what float16 can hold.
    """
    if not nodes:
        return body
    model = onnx.load_from_string(body)
    halved = _Halved(onnx.shape_inference.infer_shapes(model).graph, nodes)
    graph = model.graph
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(halved.nodes)
    graph.initializer.extend(halved.initializers())
    return serialised(model)


class _Halved:
    """Goes through a graph's nodes in order and rewrites those that are to compute in float16."""

    def __init__(self, graph: onnx.GraphProto, chosen: Collection[str]) -> None:
        self.tensors = {tensor.name: tensor for tensor in graph.initializer} | _constants(graph)
        values = (*graph.input, *graph.value_info, *graph.output)
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        types |= {name: tensor.data_type for name, tensor in self.tensors.items()}
        self.floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
        self.results = {value.name for value in graph.output}
        self.in_half: dict[str, str] = {}  # values by their name, and the name of their float16 form
        self.without_float: set[str] = set()  # values that so far are there in float16 only
        self.new: dict[str, onnx.TensorProto] = {}
        self.nodes: list[onnx.NodeProto] = []
        for original in graph.node:
            if original.output[0] in self.tensors:
                continue
            node = onnx.NodeProto.FromString(original.SerializeToString())
            if node.name in chosen and node.op_type not in LEFT_FLOAT and not self.results.intersection(node.output):
                self._halve(node)
            else:
                node.input[:] = [self._float_form(name) for name in node.input]
                self.nodes.append(node)

    def initializers(self) -> list[onnx.TensorProto]:
        """Those that the nodes still use."""
        used = {name for node in self.nodes for name in node.input}
        return [tensor for name, tensor in (self.tensors | self.new).items() if name in used]

    def _halve(self, node: onnx.NodeProto) -> None:
        positions, outputs = _halvable(node)
        positions = [at for at in positions if at < len(node.input) and node.input[at] in self.floats]
        for at, name in enumerate(node.input):
            node.input[at] = self._half_form(name, node) if at in positions else self._float_form(name)
        if positions:
            for at in outputs:
                name = node.output[at]
                if name:
                    node.output[at] = self.in_half[name] = f"{name}{HALF}"
                    self.without_float.add(name)
        self.nodes.append(node)

    def _half_form(self, name: str, reader: onnx.NodeProto) -> str:
        if name not in self.in_half:
            self.in_half[name] = f"{name}{HALF}"
            if name in self.tensors:
                self.new[self.in_half[name]] = _as_half(self.tensors[name], self.in_half[name], reader.name)
            else:
                self.nodes.append(_cast(name, self.in_half[name], TensorProto.FLOAT16))
        return self.in_half[name]

    def _float_form(self, name: str) -> str:
        """The name under which a node that computes in float32 finds a value: its own."""
        if name in self.without_float:
            self.without_float.remove(name)
            self.nodes.append(_cast(self.in_half[name], name, TensorProto.FLOAT))
        return name


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The values of Constant nodes, such as the limits of a clip, as initializers."""
    found = {}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = onnx.TensorProto.FromString(node.attribute[0].t.SerializeToString())
            found[node.output[0]].name = node.output[0]
    return found


def _halvable(node: onnx.NodeProto) -> tuple[list[int], list[int]]:
    """Positions of the inputs that ONNX allows to be float16, and of the outputs that then are."""
    if node.domain or any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
        return [], []
    schema = onnx.defs.get_schema(node.op_type)
    halves = {c.type_param_str for c in schema.type_constraints if "tensor(float16)" in c.allowed_type_strs}

    def kinds(formal: list[onnx.defs.OpSchema.FormalParameter], count: int) -> list[str]:
        return [formal[min(at, len(formal) - 1)].type_str for at in range(count)]  # the last may stand for many

    inputs = kinds(list(schema.inputs), len(node.input))
    outputs = kinds(list(schema.outputs), len(node.output))
    return (
        [at for at, kind in enumerate(inputs) if kind in halves],
        [at for at, kind in enumerate(outputs) if kind in halves and kind in inputs],
    )


def _cast(name: str, into: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [into], to=kind)


def _as_half(tensor: onnx.TensorProto, name: str, node: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    if np.abs(values).max(initial=0) > LARGEST_HALF:
        raise UnsupportedError(
            f"layer '{path_of_node(node)}' has values beyond ±{LARGEST_HALF:.0f}, which float16 cannot hold",
            f"give it full precision: '{path_of_node(node)}.weight_bits': 32",
        )
    return numpy_helper.from_array(values.astype(np.float16), name)
