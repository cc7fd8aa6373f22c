"""What ONNX Runtime runs of an artifact, kernel by kernel: the features of roofline and predictor.

The file's own nodes say little of the time: convolution and activation are fused, a layer in the QDQ form becomes one
integer kernel, layouts are changed in between, channels are padded to a block. All that stands in the graph that the
runtime optimised for this machine. Shapes of operators of its own, which ONNX cannot infer, it tells itself while it
runs the graph once. The durations that it tells with them are not used: an estimate measures nothing of its network.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from nas.errors import ArtifactError, one_line

_EVENT = re.compile(r"(?P<node>.*)_kernel_time")
_CONVOLUTION = re.compile(r"Conv")
_PRODUCT = re.compile(r"Gemm|MatMul")
_RECURRENT = re.compile(r"LSTM|GRU|RNN")
# Channels that ONNX Runtime's blocked float kernels take at a time; a layer with fewer inputs runs on another kernel.
BLOCK = 16

# By their names in ONNX Runtime, where it calls a type otherwise than numpy.
_TYPES = {"float": "float32", "double": "float64"}
_FEEDABLE = ("float16", "float32", "float64", "bool", *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)))
_BYTES = {"float16": 2, "bfloat16": 2, "float": 4, "double": 8, "bool": 1, "string": 8}


@dataclass(frozen=True)
class Kernel:
    """One operator as the runtime runs it.

    Args:
        operator: Its domain and name: ``com.microsoft:QLinearConv``.
        form: Which kind of it, where kinds take different kernels: ``depthwise``, ``grouped``, ``pointwise``,
            ``dense``, ``narrow`` (few input channels), ``product``, ``recurrent``; empty for all others.
        dtype: Of its first input, as ONNX Runtime calls it: ``float``, ``uint8``.
        inputs: Elements of all inputs that are no constants.
        outputs: Elements of all outputs.
        rows: Positions that weights are applied at: pixels put out, rows of a product; 1 without weights.
        channels: Channels put out, or columns of a product; 1 without weights.
        depth: Multiply-adds for each element put out; 0 where there is no product.
        taps: Size of the window, or 1.
        stride: Product of the strides, or 1.
        width: Last spatial dimension put out, or 1.
        weights: Elements of its largest constant.
        moved_bytes: Bytes of all inputs, outputs and constants, each once.
    """

    operator: str
    form: str
    dtype: str
    inputs: int
    outputs: int
    rows: int
    channels: int
    depth: int
    taps: int
    stride: int
    width: int
    weights: int
    moved_bytes: int

    @property
    def kind(self) -> str:
        """What it is: kernels of one kind share a cost function."""
        return f"{self.operator}:{self.form}:{self.dtype}"

    @property
    def is_integer(self) -> bool:
        """Whether it computes in 8-bit integers."""
        return self.dtype in ("uint8", "int8")

    @property
    def macs(self) -> int:
        """Multiply-adds as the kernel does them, padded channels included."""
        return self.outputs * self.depth

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Kernel:
        """Reads what ``to_json`` wrote.

        Raises:
            TypeError: A field is missing, unknown or of another type.
        """
        kernel = cls(**data)
        for name, value in asdict(kernel).items():
            kind = str if name in ("operator", "form", "dtype") else int
            if not isinstance(value, kind) or isinstance(value, bool):
                raise TypeError(f"'{name}' of a kernel cannot be {value!r}")
        return kernel


def kernels_of(content: bytes, batch: int = 1) -> tuple[Kernel, ...]:
    """The kernels that run for one call of an artifact, in their order.

    Args:
        content: The ONNX file.
        batch: Images in the call, where the file leaves that free.

    Raises:
        ArtifactError: It is no ONNX file, or the runtime refuses it.
    """
    events, graph = _run_once(_with_names(content), batch)
    nodes = {node.name: node for node in graph.node}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    return tuple(_kernel(name, told, nodes.get(name), constants) for name, told in events)


def _with_names(content: bytes) -> bytes:
    """The model with a name of its own for each node, by which graph and events find together."""
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's decode error, which has different homes in different versions
        raise ArtifactError("the model is no ONNX file") from error
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    named: bytes = model.SerializeToString()
    return named


def _run_once(content: bytes, batch: int) -> tuple[list[tuple[str, Mapping[str, Any]]], onnx.GraphProto]:
    """What the runtime tells of each kernel as it runs the graph (name and properties), and the optimised graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # a model that is refused says so in the exception
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            session.run(None, {item.name: _zeros(item.type, item.shape, batch) for item in session.get_inputs()})
        except ArtifactError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ArtifactError(f"ONNX Runtime cannot run the model: {one_line(error, 300)}") from error
        events = json.loads(Path(session.end_profiling()).read_text())
        graph = onnx.load(str(optimised)).graph
    found = [(_EVENT.fullmatch(event["name"]), event) for event in events if event.get("cat") == "Node"]
    return [(match["node"], event["args"]) for match, event in found if match is not None], graph


def _zeros(kind: str, shape: Sequence[int | str | None], batch: int) -> np.ndarray:
    """An input of zeros; the first free dimension is the batch, others are 1."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    if _TYPES.get(name, name) not in _FEEDABLE:
        raise ArtifactError(f"the model has an input of type {kind}, which no estimate is made for")
    sizes = [size if isinstance(size, int) else batch if place == 0 else 1 for place, size in enumerate(shape)]
    return np.zeros(sizes, _TYPES.get(name, name))


def _kernel(
    name: str,
    told: Mapping[str, Any],
    node: onnx.NodeProto | None,
    constants: Mapping[str, onnx.TensorProto],
) -> Kernel:
    """A kernel from what the runtime told of it and, where it stands there, its node of the optimised graph."""
    operator = f"{node.domain if node is not None else ''}:{told['op_name']}"
    inputs, outputs = list(_tensors(told["input_type_shape"])), list(_tensors(told["output_type_shape"]))
    held = [constants[value] for value in node.input if value in constants] if node is not None else []
    weight = max((tuple(tensor.dims) for tensor in held), key=math.prod, default=())
    dtype, first = inputs[0] if inputs else ("", ())
    out = outputs[0][1] if outputs else ()
    attributes = _attributes(node) if node is not None else {}
    # The runtime leaves constants out that it packed for itself, and lists the others among the inputs.
    shapes = [tuple(tensor.dims) for tensor in held]
    activations = [(kind, shape) for kind, shape in inputs if shape not in shapes or shape == first]
    constant_bytes = sum(_size_of(tensor) for tensor in held)
    moved = constant_bytes + sum(math.prod(shape) * _width_of(kind) for kind, shape in [*activations, *outputs])
    form, rows, channels, depth, taps = _product(told["op_name"], weight, first, out, attributes)
    return Kernel(
        operator=operator,
        form=form,
        dtype=dtype,
        inputs=sum(math.prod(shape) for _, shape in activations),
        outputs=sum(math.prod(shape) for _, shape in outputs),
        rows=rows,
        channels=channels,
        depth=depth,
        taps=taps,
        stride=math.prod(attributes.get("strides", ())),
        width=(out[-2] if attributes.get("channels_last") else out[-1]) if len(out) > 2 else 1,
        weights=math.prod(weight) if weight else 0,
        moved_bytes=moved,
    )


def _tensors(described: Sequence[Mapping[str, Sequence[int]]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Type and shape of each tensor, from ``[{"float": [1, 8, 14, 14]}, …]``."""
    for item in described:
        for kind, shape in item.items():
            yield kind, tuple(shape)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    wanted = ("group", "strides", "channels_last", "kernel_shape")
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute if item.name in wanted}


def _product(
    operator: str,
    weight: tuple[int, ...],
    first: tuple[int, ...],
    out: tuple[int, ...],
    attributes: Mapping[str, Any],
) -> tuple[str, int, int, int, int]:
    """Form, rows, channels, depth and taps of a kernel that multiplies and adds; of others the neutral ones."""
    elements = max(1, math.prod(out))
    if _CONVOLUTION.search(operator) and len(weight) > 2:
        taps, groups = math.prod(weight[2:]), attributes.get("group", 1)
        transposed = "Transpose" in operator
        channels = out[-1] if attributes.get("channels_last") else out[1]
        depth = math.prod(weight[1:])
        if transposed:  # each element taken in is spread over several put out
            depth = max(1, math.prod(first) * depth // elements)
        return _form(weight, first, groups, attributes), elements // channels, channels, depth, taps
    if _RECURRENT.search(operator) and weight and out:
        # Two matrices, of the input and of the state, are about as large as the larger one twice.
        return "recurrent", math.prod(first[:2]), out[-1], 2 * math.prod(weight) // out[-1], 1
    if _PRODUCT.search(operator) and out:
        columns = out[-1]
        depth = math.prod(weight) // columns if len(weight) > 1 else first[-1] if first else 1
        return "product", elements // columns, columns, max(1, depth), 1
    return "", 1, 1, 0, math.prod(attributes.get("kernel_shape", ()))


def _form(weight: tuple[int, ...], first: tuple[int, ...], groups: int, attributes: Mapping[str, Any]) -> str:
    """Which kind of a convolution."""
    if groups > 1:
        return "depthwise" if weight[1] == 1 else "grouped"
    if math.prod(weight[2:]) == 1:
        return "pointwise"
    channels = first[-1] if attributes.get("channels_last") else first[1]
    return "narrow" if channels < BLOCK else "dense"


def _width_of(kind: str) -> int:
    """Bytes of an element of a type by its name in ONNX Runtime."""
    bits = re.search(r"\d+$", kind)  # of integers: int8, uint16
    return _BYTES[kind] if kind in _BYTES else max(1, int(bits[0]) // 8) if bits else 1


def _size_of(tensor: onnx.TensorProto) -> int:
    """Bytes of a constant's values."""
    bits = int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8)
    if tensor.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        bits = 4
    return int(math.prod(tensor.dims) * bits + 7) // 8
