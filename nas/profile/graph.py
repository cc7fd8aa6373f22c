"""Operations and parameters of an ONNX file, by the same definition as ``nas.measure.complexity``.

Multiply-adds of Conv, ConvTranspose, Gemm and MatMul, and of their integer forms, from the shapes that ONNX infers;
inside a QDQ graph these nodes are the same, only their inputs come dequantised. Of activations see
``nas.profile.memory``.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx.inliner
from onnx import TensorProto

from nas.errors import ArtifactError
from nas.measure.complexity import FLOPS_PER_MAC, Complexity, LayerComplexity
from nas.profile.memory import Shape, graph_memory

# Input positions of the first factor and the weight.
_CONVOLUTIONS = {"Conv": (0, 1), "ConvTranspose": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3)}
_PRODUCTS = {"Gemm": (0, 1), "MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}

# Input positions of the parameters, where not every floating-point constant is one (or one is an integer).
_PARAMETERS = {
    "BatchNormalization": (1, 2),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "MatMulInteger": (1,),
    "QLinearMatMul": (3,),
    "QuantizeLinear": (),
    "DequantizeLinear": (),
    "Resize": (),
    "Upsample": (),
}

# Conversions between number formats: not rows of their own.
_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_MOVES_DATA = frozenset(
    {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Concat", "Split", "Slice", "Shape", "Size"}
    | {"Gather", "Cast", "Expand", "Pad", "Dropout", "Tile", "ConstantOfShape", "DepthToSpace", "SpaceToDepth"}
)
_MULTIPLIES = re.compile(r"Conv|Gemm|MatMul|Einsum|LSTM|GRU|RNN|Attention|^If$|^Loop$|^Scan$")

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})


def parse_onnx(content: bytes, source: str) -> onnx.ModelProto:
    """Reads an ONNX file; ``source`` names it in messages.

    Raises:
        ArtifactError: It is no ONNX model.
    """
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's decode error, which has different homes in different versions
        raise ArtifactError(f"{source} is no ONNX file") from error
    if not model.graph.node:
        raise ArtifactError(f"{source} is no ONNX file, or one without a single operator")
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def input_shapes(model: onnx.ModelProto, batch: int) -> dict[str, Shape]:
    """The shape of each input that a caller gives, with a free first dimension set to the batch, other free ones to 1.

    Raises:
        ArtifactError: An input is no tensor, has no shape, or has an empty dimension; or the file fixes another batch.
    """
    initializers = {item.name for item in model.graph.initializer}
    shapes: dict[str, Shape] = {}
    for item in model.graph.input:
        if item.name in initializers:
            continue
        if not item.type.HasField("tensor_type") or not item.type.tensor_type.HasField("shape"):
            raise ArtifactError(
                f"input '{item.name}' has no shape, so nothing can be counted or timed",
                "export the model with the shapes of its inputs",
            )
        dimensions = item.type.tensor_type.shape.dim
        shape = tuple(
            dimension.dim_value if dimension.HasField("dim_value") else batch if position == 0 else 1
            for position, dimension in enumerate(dimensions)
        )
        if any(size < 1 for size in shape):
            raise ArtifactError(f"input '{item.name}' has an empty dimension: {'×'.join(map(str, shape))}")
        shapes[item.name] = shape
    return shapes


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """The batch that the file's first input fixes, or None where it is free (or there is no dimension for it)."""
    initializers = {item.name for item in model.graph.initializer}
    first = next((item for item in model.graph.input if item.name not in initializers), None)
    dimensions = first.type.tensor_type.shape.dim if first is not None else []
    return dimensions[0].dim_value if len(dimensions) > 1 and dimensions[0].HasField("dim_value") else None


def count_onnx(model: onnx.ModelProto) -> Complexity:
    """Multiply-adds, parameters and activations of an ONNX graph, per node and in total.

    Free dimensions are set to 1, so the numbers are those of one image; where the file fixes its batch they are those
    of that batch, and a note says so. Parameters are the elements of the floating-point constants (dequantised or
    looked up in a codebook where they are stored so) that nodes take; of one shared by several nodes, at the first.

    Raises:
        ArtifactError: The inputs have no shapes, or setting free dimensions to 1 leaves nothing to compute.
    """
    graph = _Graph.of(model)
    memory = graph_memory(model.graph, graph.shapes, graph.types, graph.leaves)
    layers: list[LayerComplexity] = []
    uncounted: dict[str, list[str]] = defaultdict(list)
    conv_macs = 0
    for node in model.graph.node:
        if graph.is_constant(node):
            continue
        name = node.name or node.output[0]
        macs = graph.macs(node)
        if macs is None and node.op_type not in _MOVES_DATA:
            uncounted[node.op_type].append(name)
        if node.op_type in _CONVOLUTIONS:
            conv_macs += macs or 0
        if node.op_type not in _CONVERSIONS:
            layers.append(
                LayerComplexity(
                    name=name,
                    kind=node.op_type,
                    output_shape=graph.shapes.get(node.output[0]) or (),
                    params=graph.take_parameters(node),
                    macs=macs or 0,
                    flops=FLOPS_PER_MAC * (macs or 0),
                    activation_bytes=sum(memory.sizes[output] for output in node.output if output),
                    bytes_moved=memory.moved[node.output[0]],
                )
            )
    missed = [kind for kind in uncounted if _MULTIPLIES.search(kind)]
    if missed and (free := _free_dimensions(model)):
        raise ArtifactError(
            f"with free dimensions ({', '.join(free)}) set to 1 the shapes of {', '.join(missed)} cannot be found",
            "export the model with these dimensions fixed",
        )
    macs = sum(layer.macs for layer in layers)
    return Complexity(
        macs=macs,
        flops=FLOPS_PER_MAC * macs,
        conv_macs=conv_macs,
        params=sum(layer.params for layer in layers),
        peak_activation_bytes=memory.peak_bytes,
        bytes_moved=sum(memory.moved[node.output[0]] for node in model.graph.node if not graph.is_constant(node)),
        layers=tuple(layers),
        uncounted=tuple(f"{kind}: {', '.join(names)}" for kind, names in uncounted.items()),
        notes=tuple(_notes(model, missed, memory.unknown)),
    )


def _notes(model: onnx.ModelProto, missed: Sequence[str], unknown: Sequence[str]) -> Iterator[str]:
    """What a reader of the counts should know: operators without a count, values without a size, a fixed batch."""
    yield from (f"'{kind}' may do multiply-adds that were not counted; the real total is larger" for kind in missed)
    if unknown:
        yield f"the size of {', '.join(unknown)} is unknown; activations take more than was counted"
    if (batch := fixed_batch(model)) not in (None, 1):
        yield f"the file fixes its batch at {batch}: operations and activations are those of {batch} images"


@dataclass
class _Graph:
    """What is known of a graph's tensors.

    Args:
        shapes: By name; None where it could not be inferred.
        types: Element types by name.
        leaves: For each constant the initializers that it is made from.
        taken: Constants whose parameters were counted, as sets of leaves.
    """

    shapes: Mapping[str, Shape | None]
    types: Mapping[str, int]
    leaves: dict[str, frozenset[str]]
    taken: set[frozenset[str]]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _Graph:
        shaped = _infer(model)
        shapes: dict[str, Shape | None] = {}
        types: dict[str, int] = {}
        for item in (*shaped.graph.input, *shaped.graph.value_info):
            shapes[item.name] = _shape_of(item)
            types[item.name] = item.type.tensor_type.elem_type
        leaves: dict[str, frozenset[str]] = {}
        for initializer in model.graph.initializer:
            shapes[initializer.name] = tuple(initializer.dims)
            leaves[initializer.name] = frozenset({initializer.name})
            types[initializer.name] = initializer.data_type
        for node in model.graph.node:
            inputs = [name for name in node.input if name]
            if node.op_type == "Constant":
                leaves[node.output[0]] = frozenset(node.output)
            elif inputs and all(name in leaves for name in inputs):
                made_from = frozenset().union(*(leaves[name] for name in inputs))
                leaves.update(dict.fromkeys(node.output, made_from))
        return cls(shapes, types, leaves, set())

    def is_constant(self, node: onnx.NodeProto) -> bool:
        """Whether a node only prepares weights, which a runtime does once when it loads the file."""
        return node.output[0] in self.leaves

    def macs(self, node: onnx.NodeProto) -> int | None:
        """Multiply-adds of a node; None where its operator is not counted, or the shapes are unknown."""
        places = _CONVOLUTIONS.get(node.op_type) or _PRODUCTS.get(node.op_type)
        if places is None or node.domain not in ("", "ai.onnx"):
            return None
        left, right = (self.shapes.get(node.input[place]) for place in places)
        output = self.shapes.get(node.output[0])
        if left is None or right is None or output is None:
            return None
        if node.op_type == "ConvTranspose":
            return math.prod(left) * math.prod(right[1:])
        if node.op_type in _CONVOLUTIONS:
            return math.prod(output) * math.prod(right[1:])
        transposed = any(item.name == "transA" and item.i for item in node.attribute)
        return math.prod(output) * left[0 if transposed else -1]

    def take_parameters(self, node: onnx.NodeProto) -> int:
        """Elements of a node's parameters, of those that no earlier node took."""
        if node.op_type in _PARAMETERS:
            names = [node.input[place] for place in _PARAMETERS[node.op_type] if place < len(node.input)]
        else:
            # A scalar is a setting (the bounds of Clip), not a parameter.
            names = [name for name in node.input if self.types.get(name) in _FLOATS and self.shapes.get(name)]
        total = 0
        for name in names:
            made_from = self.leaves.get(name)
            if made_from is not None and made_from not in self.taken:
                self.taken.add(made_from)
                total += math.prod(self.shapes.get(name) or ())
        return total


def _infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with concrete inputs and the shapes that follow from them; what the file said of shapes is dropped."""
    shaped = onnx.ModelProto()
    shaped.CopyFrom(model)
    for name, shape in input_shapes(model, 1).items():
        item = next(item for item in shaped.graph.input if item.name == name)
        for dimension, size in zip(item.type.tensor_type.shape.dim, shape, strict=True):
            dimension.dim_value = size
    del shaped.graph.value_info[:]
    del shaped.graph.output[:]
    try:
        return onnx.shape_inference.infer_shapes(shaped, data_prop=True)
    except Exception as error:  # onnx raises its own and built-in kinds
        raise ArtifactError(
            f"the shapes inside the model cannot be found: {' '.join(str(error).split())[:300]}"
        ) from error


def _shape_of(item: onnx.ValueInfoProto) -> Shape | None:
    """A tensor's shape; None where it is unknown, or where nothing is left (inference goes on below 1)."""
    if not item.type.tensor_type.HasField("shape"):
        return None
    shape = tuple(dimension.dim_value for dimension in item.type.tensor_type.shape.dim)
    return shape if all(size >= 1 for size in shape) else None


def _free_dimensions(model: onnx.ModelProto) -> list[str]:
    """Names of the free dimensions after the first, as far as they have names."""
    initializers = {item.name for item in model.graph.initializer}
    inputs: Iterable[onnx.ValueInfoProto] = (item for item in model.graph.input if item.name not in initializers)
    return [
        dimension.dim_param or f"{item.name}[{position}]"
        for item in inputs
        for position, dimension in enumerate(item.type.tensor_type.shape.dim)
        if position and not dimension.HasField("dim_value")
    ]
