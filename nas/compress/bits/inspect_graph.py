"""What ONNX Runtime really runs of an artifact: the precision of each layer, read off the graph that it optimised.

The optimised graph names a kernel after the node that it was made of, or after what it puts out, with additions; and
an activation that follows a layer may be part of the layer's kernel. So a kernel's name is stripped of additions, and
where it is that of a value, that value is traced back through the artifact to the layer that it comes from.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto

from nas.compress.bits.body import LAYERS
from nas.compress.bits.pooling import is_pooling
from nas.errors import ArtifactError, one_line

INT8, FLOAT16, FLOAT32, UNKNOWN = "int8", "float16", "float32", "unknown"
INTEGER_KERNELS = (
    *("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"),
    *("QGemm", "QLinearConv", "QLinearMatMul"),
)
FLOAT_KERNELS = (
    *("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose"),
    *("Gemm", "FusedGemm", "MatMul", "FusedMatMul"),
)
# Layers too, which hold weights; the runtime computes them in floats, whatever their weights are stored in.
RECURRENT = ("LSTM", "GRU", "RNN")
# Weights of few bits in blocks, and activations either as floats or rounded to 8 bits on the way, at this level.
BLOCK_KERNEL, LEVEL_OF_INTEGERS = "MatMulNBits", 4
# What the runtime puts before and after a name when it makes one node of others.
ADDED_BEFORE = re.compile(r"^(fused |InsertedPrecisionFreeCast_)+")
ADDED_AFTER = re.compile(r"(_token_\d+|_nchwc)+$")


@dataclass(frozen=True)
class LayerRun:
    """How one layer of an artifact is run.

    Args:
        name: The artifact's node.
        kernel: The operator that the runtime runs for it; empty where it was not found.
        precision: ``int8``, ``float16`` or ``float32``, what it computes in; ``unknown`` where that was not found.
    """

    name: str
    kernel: str
    precision: str


@dataclass(frozen=True)
class Inspection:
    """What a runtime makes of an artifact.

    Args:
        layers: Its convolutions, linear and recurrent layers and products with a matrix, in their order.
        operators: How often each operator stands in the optimised graph.
    """

    layers: tuple[LayerRun, ...]
    operators: Mapping[str, int]


def inspect(artifact: bytes) -> Inspection:
    """Loads an artifact in ONNX Runtime on the CPU and reads off its optimised graph what runs how.

    Raises:
        ArtifactError: The runtime refuses it.
    """
    graph = optimised_graph(artifact)
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    origins = _Origins(onnx.load_from_string(artifact).graph)
    found: dict[str, LayerRun] = {}
    unnamed = set()
    for node in graph.node:
        if node.op_type not in (*INTEGER_KERNELS, *FLOAT_KERNELS, *RECURRENT, BLOCK_KERNEL):
            continue
        precision = _precision(node, types)
        name = origins.of(ADDED_AFTER.sub("", ADDED_BEFORE.sub("", node.name)))
        if name is None:
            unnamed.add(precision)
        else:
            found[name] = LayerRun(name, node.op_type, precision)
    # A layer that was not found is run by one of the kernels whose names say nothing: sure only where all are alike.
    rest = LayerRun("", "", unnamed.pop() if len(unnamed) == 1 else UNKNOWN)
    layers = tuple(found.get(name, replace(rest, name=name)) for name in origins.layers)
    return Inspection(layers, dict(sorted(Counter(node.op_type for node in graph.node).items())))


class _Origins:
    """Finds the layer of an artifact that a name in the optimised graph goes back to."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        constants = {tensor.name for tensor in graph.initializer} | {""}
        self.made_by: dict[str, onnx.NodeProto] = {}
        self.nodes: dict[str, onnx.NodeProto] = {}
        for node in graph.node:
            if constants.issuperset(node.input):  # decodes a weight
                constants.update(node.output)
            else:
                self.nodes[node.name] = node
                self.made_by |= dict.fromkeys(node.output, node)
        self.all = [node.name for node in self.nodes.values() if node.op_type in (*LAYERS, *RECURRENT)]
        self.layers = [name for name in self.all if not is_pooling(self.nodes[name])]

    def of(self, name: str) -> str | None:
        """The layer of that name, or the one layer that a value of that name comes from; None if it cannot be told."""
        if name in self.all:
            return name
        nodes, sources = [self.made_by[name]] if name in self.made_by else [], set()
        while nodes:
            node = nodes.pop()
            if node.op_type in (*LAYERS, *RECURRENT):
                sources.add(node.name)
            else:
                nodes += [self.made_by[value] for value in node.input if value in self.made_by]
        return sources.pop() if len(sources) == 1 else None


def _precision(kernel: onnx.NodeProto, types: Mapping[str, int]) -> str:
    """What a kernel computes in."""
    if kernel.op_type in INTEGER_KERNELS:
        return INT8
    if kernel.op_type == BLOCK_KERNEL:
        level = next((part.i for part in kernel.attribute if part.name == "accuracy_level"), 0)
        return INT8 if level == LEVEL_OF_INTEGERS else FLOAT32
    return FLOAT16 if types.get(kernel.input[1]) == TensorProto.FLOAT16 else FLOAT32


def optimised_graph(artifact: bytes) -> onnx.GraphProto:
    """The graph that ONNX Runtime makes of an artifact with its default options."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        try:
            onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ArtifactError(f"ONNX Runtime cannot load the model: {one_line(error)}") from error
        return onnx.load(options.optimized_model_filepath).graph
