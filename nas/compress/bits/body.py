"""An exported body before quantisation: its nodes by name, its layers, and the bits that each is to have."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import onnx
from onnxruntime.quantization.shape_inference import quant_pre_process

from nas.errors import UnsupportedError, one_line

# Softmax gives the probabilities, whose small values 8 bits would erase.
LEFT_FLOAT = ("Softmax",)
# What has weights, most of them, and takes most of the time.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Bits(NamedTuple):
    """Bits of a layer's weights, and of the activations that it reads."""

    weights: int
    activations: int

    @property
    def in_integers(self) -> bool:
        """Whether both are integers, so that a runtime may compute the layer in integers."""
        return self.weights in (8, 4) and self.activations in (16, 8)


def prepare(body: bytes) -> bytes:
    """A float body as ``nas.compress.bits.qdq`` wants it: simplified, with shapes, and with a name for each node.

    Raises:
        UnsupportedError: ONNX Runtime cannot read it.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = str(Path(folder) / "prepared.onnx")
        try:
            quant_pre_process(onnx.load_from_string(body), path, skip_symbolic_shape=True)
        except Exception as error:  # its passes raise whatever they raise
            raise UnsupportedError(
                f"the network cannot be quantised: {one_line(error)}", "set weight_bits to 32"
            ) from error
        model = onnx.load(path)
    _name_nodes(model.graph)
    return serialised(model)


def name_nodes(body: bytes) -> bytes:
    """A body with a name for each node."""
    model = onnx.load_from_string(body)
    _name_nodes(model.graph)
    return serialised(model)


def weighted(graph: onnx.GraphProto) -> dict[str, tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Convolutions, linear layers and products with a matrix that have a weight of their own, by node name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:  # the exporter hands weights that are equal to all but the first by an Identity
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return {
        node.name: (node, tensors[node.input[1]])
        for node in graph.node
        if node.op_type in LAYERS and node.input[1] in tensors and len(tensors[node.input[1]].dims) > 1
    }


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Names nodes that have no name, such as the parts of an inlined HardSwish, after the layer that they belong to."""
    readers = {name: node for node in reversed(graph.node) for name in node.input}
    taken = {node.name for node in graph.node}
    for node in reversed(graph.node):
        if node.name:
            continue
        output = node.output[0]
        reader = readers.get(output)
        origin = output if output.startswith("/") or reader is None else reader.name
        wanted = name = f"{origin.rpartition('/')[0]}/{node.op_type}"
        number = 1
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        node.name = name
        taken.add(name)


def serialised(model: onnx.ModelProto) -> bytes:
    """A model as bytes, the same for the same model."""
    return bytes(model.SerializeToString(deterministic=True))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the quantiser's advice, which is followed here, off the terminal."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
