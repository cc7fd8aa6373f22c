"""The form in which a file stores weights: as few bytes as their bits say, decoded by standard operators.

A quantised body (``bits.qdq``) holds each weight as int8 behind a DequantizeLinear. What of that the runtime
folds when it loads a file, and what it hands to integer kernels, was found by trying (ONNX Runtime 1.32):

- a layer between quantised activations keeps its DequantizeLinear, by which the runtime knows the weight of an integer
  kernel; given floats it would round them to 8 bits by itself, with one scale for the whole weight;
- any other layer gets Cast and Mul, which are folded at load; a DequantizeLinear would be computed anew in every run;
- weights of 4 bits are stored as INT4, two in a byte, and cast to what the file would hold otherwise; the cast too is
  folded at load. INT4 needs opset 21, so only such files have it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from nas.compress.bits.body import LAYERS, serialised
from nas.compress.bits.grid import broadcast
from nas.compress.refusal import refused

# Ends the name of an initializer whose values, −7 to 7, are to be stored in 4 bits.
FOUR_BIT = "_int4"
OPSET_OF_SMALL_INTEGERS, IR_OF_SMALL_INTEGERS = 21, 10
EIGHT_BIT = (TensorProto.INT8, TensorProto.UINT8)
SIXTEEN_BIT = (TensorProto.INT16, TensorProto.UINT16)
# What the runtime lets an integer kernel do as well, or swaps with the quantisation that follows.
ABSORBED = ("Clip", "MaxPool", "Relu", "Transpose")


def pack(body: bytes) -> bytes:
    """Brings the weights of a body into their stored form; one without quantised weights stays as it is.

    Raises:
        UnsupportedError: An operator of the network has no form in the opset that 4-bit weights need.
    """
    model = onnx.load_from_string(body)
    if not any(_constant_decoders(model.graph)):
        return body
    if any(tensor.name.endswith(FOUR_BIT) for tensor in model.graph.initializer):
        model = with_small_integers(model)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    wiring, before = _Wiring(graph), list[onnx.NodeProto]()
    for node in list(_constant_decoders(graph)):
        if not wiring.meets_grids(node) and _is_symmetric(tensors, node):
            graph.node.remove(node)
            before += _as_floats(graph, tensors, node)
    for name in [name for name in tensors if name.endswith(FOUR_BIT)]:
        before = [*_in_nibbles(graph, tensors[name], before), *before]
    for position, node in enumerate(before):
        graph.node.insert(position, node)
    _store_equal_ones_once(graph)
    return serialised(model)


def with_small_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model in the first opset that has INT4 and 16-bit quantisation, or the one that it is in if that is later.

    Raises:
        UnsupportedError: An operator has no form there.
    """
    if any(entry.domain == "" and entry.version >= OPSET_OF_SMALL_INTEGERS for entry in model.opset_import):
        return model
    try:
        converted = version_converter.convert_version(model, OPSET_OF_SMALL_INTEGERS)
    except Exception as error:  # the converter raises whatever its adapters raise
        raise refused(f"the network has no form in opset {OPSET_OF_SMALL_INTEGERS}", error, model.graph) from error
    converted.ir_version = max(converted.ir_version, IR_OF_SMALL_INTEGERS)
    return converted


def keep_floats_float(graph: onnx.GraphProto) -> None:
    """Keeps ONNX Runtime from quantising float layers that stand between quantised activations, in place.

    Where a layer's input comes off a grid and its output goes onto one, the runtime rounds float weights to 8 bits,
    with one scale for all channels, and computes in integers: not what was asked for, and less accurate. A ``Max`` of a
    single value, which copies it, hides the grid, and is not optimised away.
    """
    wiring = _Wiring(graph)
    for position in reversed(range(len(graph.node))):
        node = graph.node[position]
        if node.op_type not in LAYERS or not wiring.is_dequantised(node.input[0]):
            continue
        weight = wiring.maker.get(node.input[1])
        if (weight is None or weight.op_type != "DequantizeLinear") and wiring.is_quantised(node.output[0]):
            hidden = f"{node.input[0]}_off_grid_{position}"
            graph.node.insert(position, helper.make_node("Max", [node.input[0]], [hidden], f"{node.name}/Max"))
            graph.node[position + 1].input[0] = hidden


def nibbles(integers: np.ndarray) -> bytes:
    """Integers of −8 to 7 as ONNX stores INT4: two in a byte, the first in its lower half."""
    flat = integers.astype(np.int8).reshape(-1)
    flat = np.append(flat, np.int8(0)) if flat.size % 2 else flat
    return ((flat[::2] & 15) | ((flat[1::2] & 15) << 4)).astype(np.uint8).tobytes()


def _constant_decoders(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The DequantizeLinear nodes of constants."""
    constants = {tensor.name for tensor in graph.initializer}
    return (node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants)


class _Wiring:
    """Who makes and who reads each value of a graph, as it was when this was made."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.maker = {output: node for node in graph.node for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)

    def is_dequantised(self, name: str, types: Collection[int] = EIGHT_BIT) -> bool:
        """Whether a value is an activation that comes off a grid of one of these types."""
        node = self.maker.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] in self.constants:
            return False
        zero_point = self.constants.get(node.input[2]) if len(node.input) > 2 else None
        return (TensorProto.UINT8 if zero_point is None else zero_point.data_type) in types

    def is_quantised(self, name: str, through: Collection[str] | None = None) -> bool:
        """Whether a value goes onto a grid before another layer reads it; by way of some operators, or of any."""
        return any(
            node.op_type == "QuantizeLinear"
            or (
                (node.op_type not in LAYERS if through is None else node.op_type in through)
                and any(self.is_quantised(output, through) for output in node.output)
            )
            for node in self.readers.get(name, ())
        )

    def meets_grids(self, decoder: onnx.NodeProto) -> bool:
        """Whether what a decoder gives is used between activations that are on grids: there the runtime has an
        integer kernel for it, or, with 16 bits, would make 8-bit weights of its own from floats."""
        readers = self.readers.get(decoder.output[0], [])
        through = [reader for node in readers if node.op_type == "Identity" for reader in self.readers[node.output[0]]]
        return any(
            any(self.is_dequantised(name, (*EIGHT_BIT, *SIXTEEN_BIT)) for name in node.input)
            and any(self.is_quantised(output, ABSORBED) for output in node.output)
            for node in (*readers, *through)
        )


def _is_symmetric(tensors: Mapping[str, TensorProto], decoder: onnx.NodeProto) -> bool:
    return len(decoder.input) < 3 or not numpy_helper.to_array(tensors[decoder.input[2]]).any()


def _as_floats(
    graph: onnx.GraphProto, tensors: Mapping[str, TensorProto], decoder: onnx.NodeProto
) -> list[onnx.NodeProto]:
    """What takes a decoder's place: Cast and Mul, or for a vector such as a bias, which saves nothing, the floats."""
    tensor, name = tensors[decoder.input[0]], decoder.output[0]
    scale = numpy_helper.to_array(tensors[decoder.input[1]])
    if len(tensor.dims) < 2:
        values = numpy_helper.to_array(tensor).astype(np.float64) * scale
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
        return []
    axis = next((attribute.i for attribute in decoder.attribute if attribute.name == "axis"), 1) % len(tensor.dims)
    steps = broadcast(scale, axis, len(tensor.dims)) if scale.size > 1 else scale.reshape(())
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(steps), f"{name}_step"))
    return [
        helper.make_node("Cast", [tensor.name], [f"{name}_whole"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_whole", f"{name}_step"], [name]),
    ]


def _in_nibbles(graph: onnx.GraphProto, tensor: TensorProto, casts: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Stores an int8 initializer in 4 bits; gives the cast that its readers then need, unless they cast already."""
    name = tensor.name
    data = nibbles(numpy_helper.to_array(tensor))
    readers = [node for node in (*graph.node, *casts) if name in node.input]
    is_cast_anyway = all(node.op_type == "Cast" for node in readers)
    stored = name if is_cast_anyway else f"{name}_packed"
    tensor.CopyFrom(helper.make_tensor(stored, TensorProto.INT4, list(tensor.dims), data, raw=True))
    return [] if is_cast_anyway else [helper.make_node("Cast", [stored], [name], to=TensorProto.INT8)]


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for position in reversed(range(len(graph.initializer))):
        if graph.initializer[position].name not in used:
            del graph.initializer[position]


def _store_equal_ones_once(graph: onnx.GraphProto) -> None:
    """Lets equal constants, such as the zero points of all weights of a width, be one."""
    first: dict[bytes, str] = {}
    instead: dict[str, str] = {}
    for tensor in graph.initializer:
        name, tensor.name = tensor.name, ""
        instead[name] = first.setdefault(tensor.SerializeToString(deterministic=True), name)
        tensor.name = name
    for node in graph.node:
        node.input[:] = [instead.get(name, name) for name in node.input]
    _drop_unused(graph)
