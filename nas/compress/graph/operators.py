"""The ONNX operators that ``nas.compress.graph.network`` executes in torch, one line each in ``OPERATORS``.

A builder looks at a node once, reads its attributes and constant inputs, and gives the function that runs it on the
node's inputs in their order. What it gives holds no tensors, so that a network of such functions can be copied and
moved. Meaning and defaults are those of the ONNX operator documentation, opsets 17 to 21.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from nas.compress.graph.layers import (
    average_pool,
    batch_norm,
    convolution,
    gemm,
    global_average,
    layer_norm,
    max_pool,
    reduce_mean,
    transposed_convolution,
)  # fmt: skip
from nas.compress.graph.node import Node, Run

_TYPES: Mapping[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.BOOL: torch.bool,
}


def build(node: Node) -> Run:
    """The function that runs a node.

    Raises:
        UnsupportedError: The operator, or one of its options, is not known here.
    """
    builder = OPERATORS.get(node.operator)
    if builder is None:
        raise node.unsupported()
    return builder(node)


def _plain(function: Run) -> Callable[[Node], Run]:
    """The builder of an operator without options."""
    return lambda node: function


# --- activations and arithmetic


def _clip(node: Node) -> Run:
    low, high = node.constant(1), node.constant(2)
    bounds = [None if bound is None else float(bound.item()) for bound in (low, high)]
    if bounds == [None, None]:
        return lambda x, *_: x
    return lambda x, *_: x.clamp(*bounds)


def _hard_sigmoid(node: Node) -> Run:
    slope, offset = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
    if math.isclose(slope, 1 / 6, rel_tol=1e-6) and offset == 0.5:
        return functional.hardsigmoid
    return lambda x: (slope * x + offset).clamp(0, 1)


def _leaky_relu(node: Node) -> Run:
    slope = float(node.attributes.get("alpha", 0.01))
    return lambda x: functional.leaky_relu(x, slope)


def _elu(node: Node) -> Run:
    alpha = float(node.attributes.get("alpha", 1.0))
    return lambda x: functional.elu(x, alpha)


def _gelu(node: Node) -> Run:
    kind = node.attributes.get("approximate", b"none").decode()
    return lambda x: functional.gelu(x, approximate=kind)


def _softmax(node: Node) -> Run:
    axis = int(node.attributes.get("axis", -1))
    return lambda x: torch.softmax(x, axis)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _cast(node: Node) -> Run:
    kind = int(node.attributes["to"])
    if kind == TensorProto.FLOAT16:  # rounded to half precision; the arithmetic stays in the precision of training
        return lambda x: x.half().float()
    if kind not in _TYPES:
        raise node.unsupported(f"it casts to {TensorProto.DataType.Name(kind)}")
    dtype = _TYPES[kind]
    return lambda x: x.to(dtype)


# --- shapes


def _flatten(node: Node) -> Run:
    axis = int(node.attributes.get("axis", 1))
    if axis == 1:
        return lambda x: x.flatten(1)
    return lambda x: x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _reshape(node: Node) -> Run:
    copies_zero = not node.attributes.get("allowzero", 0)
    fixed = [int(size) for size in node.constants[1]] if 1 in node.constants else None

    def reshape(x: Tensor, shape: Tensor) -> Tensor:
        sizes = shape.tolist() if fixed is None else fixed
        return x.reshape([x.shape[i] if size == 0 and copies_zero else size for i, size in enumerate(sizes)])

    return reshape


def _transpose(node: Node) -> Run:
    order = node.numbers("perm")
    return lambda x: x.permute(order or tuple(reversed(range(x.ndim))))


def _concatenate(node: Node) -> Run:
    axis = int(node.attributes["axis"])
    return lambda *parts: torch.cat(parts, axis)


def _split(node: Node) -> Run:
    axis, sizes = int(node.attributes.get("axis", 0)), node.numbers("split", 1)

    def split(x: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return torch.split(x, sizes if sizes is not None else -(-x.shape[axis] // node.outputs), axis)

    return split


def _squeeze(node: Node) -> Run:
    axes = node.numbers("axes", 1)
    return lambda x, *_: x.squeeze() if axes is None else x.squeeze(axes)


def _unsqueeze(node: Node) -> Run:
    axes = node.numbers("axes", 1) or []

    def unsqueeze(x: Tensor, *_: Tensor) -> Tensor:
        for axis in sorted(axis + x.ndim + len(axes) if axis < 0 else axis for axis in axes):
            x = x.unsqueeze(axis)
        return x

    return unsqueeze


def _shape(node: Node) -> Run:
    chosen = slice(node.attributes.get("start"), node.attributes.get("end"))
    return lambda x: torch.tensor(x.shape[chosen], dtype=torch.int64)


def _gather(node: Node) -> Run:
    axis = int(node.attributes.get("axis", 0))

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        flat = indices.reshape(-1).to(x.device)
        taken = x.index_select(axis, torch.where(flat < 0, flat + x.shape[axis], flat))
        begin = axis % x.ndim
        return taken.reshape((*x.shape[:begin], *indices.shape, *x.shape[begin + 1 :]))

    return gather


def _slice(node: Node) -> Run:
    def cut(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
        index = [slice(None)] * x.ndim
        every = [None] * len(starts) if steps is None else steps.tolist()
        for at, axis in enumerate(range(len(starts)) if axes is None else axes.tolist()):
            index[axis] = slice(int(starts[at]), int(ends[at]), every[at])
        return x[tuple(index)]

    return cut


def _pad(node: Node) -> Run:
    pads, value, mode = (
        node.numbers("pads", 1) or [],
        node.constant(2),
        node.attributes.get("mode", b"constant").decode(),
    )
    if mode != "constant" or node.constant(3) is not None:
        raise node.unsupported(f"padding by mode '{mode}' or of named axes is not known here")
    half = len(pads) // 2
    sides = [side for i in reversed(range(half)) for side in (pads[i], pads[half + i])]
    fill = 0.0 if value is None else float(value.item())
    return lambda x, *_: functional.pad(x, sides, value=fill)


OPERATORS: Mapping[str, Callable[[Node], Run]] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concatenate,
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "Div": _plain(_divide),
    "Elu": _elu,
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": gemm,
    "GlobalAveragePool": _plain(global_average),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(functional.hardswish),
    "Identity": _plain(lambda x: x),
    "LayerNormalization": layer_norm,
    "LeakyRelu": _leaky_relu,
    "MatMul": _plain(torch.matmul),
    "Max": _plain(lambda first, *others: functools.reduce(torch.maximum, others, first)),
    "MaxPool": max_pool,
    "Min": _plain(lambda first, *others: functools.reduce(torch.minimum, others, first)),
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Pad": _pad,
    "Pow": _plain(torch.pow),
    "ReduceMean": reduce_mean,
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
