"""Layers and pooling of an ONNX graph in torch: builders for ``nas.compress.graph.operators``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional

from nas.compress.graph.node import Node, Run

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED: Mapping[int, Run] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAX_POOLS = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE_POOLS: Mapping[int, Run] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _pads(node: Node, dimensions: int) -> list[int]:
    """Padding as ONNX has it: the beginning of each dimension, then the end of each."""
    kind = node.attributes.get("auto_pad", b"NOTSET")
    if kind not in (b"NOTSET", b"VALID"):
        raise node.unsupported(f"auto_pad {kind.decode()} is not known here")
    return node.numbers("pads") or [0] * (2 * dimensions)


def _split_pads(pads: Sequence[int]) -> tuple[list[int], list[int] | None]:
    """Padding on both sides alike, as torch's layers take it, and what must be padded before (as ``pad`` takes it)."""
    half = len(pads) // 2
    begin, end = list(pads[:half]), list(pads[half:])
    if begin == end:
        return begin, None
    return [0] * half, [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]


def convolution(node: Node) -> Run:
    shape = node.numbers("kernel_shape")
    if shape is None or len(shape) not in _CONVOLUTIONS:
        raise node.unsupported(f"kernel_shape is {shape}")
    run, ones = _CONVOLUTIONS[len(shape)], [1] * len(shape)
    stride, dilation = node.numbers("strides") or ones, node.numbers("dilations") or ones
    groups = int(node.attributes.get("group", 1))
    padding, before = _split_pads(_pads(node, len(shape)))

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if before is not None:
            x = functional.pad(x, before)
        return run(x, weight, bias, stride, padding, dilation, groups)

    return convolve


def transposed_convolution(node: Node) -> Run:
    shape = node.numbers("kernel_shape")
    if shape is None or len(shape) not in _TRANSPOSED or "output_shape" in node.attributes:
        raise node.unsupported(f"kernel_shape is {shape}, output_shape {node.numbers('output_shape')}")
    run, ones = _TRANSPOSED[len(shape)], [1] * len(shape)
    stride, dilation = node.numbers("strides") or ones, node.numbers("dilations") or ones
    groups, extra = int(node.attributes.get("group", 1)), node.numbers("output_padding") or [0] * len(shape)
    padding, before = _split_pads(_pads(node, len(shape)))
    if before is not None:
        raise node.unsupported("its padding differs from side to side")

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        result: Tensor = run(x, weight, bias, stride, padding, extra, groups, dilation)
        return result

    return convolve


def gemm(node: Node) -> Run:
    alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    turn_a, turn_b = (bool(node.attributes.get(name, 0)) for name in ("transA", "transB"))

    def multiply(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a = a.t() if turn_a else a
        b = b if turn_b else b.t()  # as ``linear`` wants it
        if alpha == beta == 1 and (c is None or c.ndim == 1):
            return functional.linear(a, b, c)
        product = alpha * functional.linear(a, b)
        return product if c is None else product + beta * c

    return multiply


def batch_norm(node: Node) -> Run:
    epsilon = float(node.attributes.get("epsilon", 1e-5))

    def normalise(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return functional.batch_norm(x, mean, variance, scale, shift, training=False, eps=epsilon)

    return normalise


def layer_norm(node: Node) -> Run:
    axis, epsilon = int(node.attributes.get("axis", -1)), float(node.attributes.get("epsilon", 1e-5))

    def normalise(x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
        return functional.layer_norm(x, x.shape[axis:], scale, shift, epsilon)

    return normalise


def max_pool(node: Node) -> Run:
    kernel = node.numbers("kernel_shape") or []
    if len(kernel) not in _MAX_POOLS or node.outputs > 1:
        raise node.unsupported("only pooling of 1 to 3 dimensions with one output is known here")
    run, ones = _MAX_POOLS[len(kernel)], [1] * len(kernel)
    stride, dilation = node.numbers("strides") or ones, node.numbers("dilations") or ones
    padding, before = _split_pads(_pads(node, len(kernel)))
    ceil = bool(node.attributes.get("ceil_mode", 0))

    def pool(x: Tensor) -> Tensor:
        if before is not None:
            x = functional.pad(x, before, value=-math.inf)
        result: Tensor = run(x, kernel, stride, padding, dilation, ceil)
        return result

    return pool


def average_pool(node: Node) -> Run:
    kernel = node.numbers("kernel_shape") or []
    if len(kernel) not in _AVERAGE_POOLS or set(node.numbers("dilations") or [1]) != {1}:
        raise node.unsupported("only pooling of 1 to 3 dimensions without dilations is known here")
    run, stride = _AVERAGE_POOLS[len(kernel)], node.numbers("strides") or [1] * len(kernel)
    padding, before = _split_pads(_pads(node, len(kernel)))
    ceil, counts = bool(node.attributes.get("ceil_mode", 0)), bool(node.attributes.get("count_include_pad", 0))
    if before is not None and (ceil or not counts):
        raise node.unsupported("its padding differs from side to side")

    def pool(x: Tensor) -> Tensor:
        if before is not None:
            x = functional.pad(x, before)
        result: Tensor = run(x, kernel, stride, padding, ceil, counts)
        return result

    return pool


def global_average(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


def reduce_mean(node: Node) -> Run:
    axes, keep = node.numbers("axes", 1), bool(node.attributes.get("keepdims", 1))
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return lambda x, *_: x
    return lambda x, *_: x.mean(axes or tuple(range(x.ndim)), keepdim=keep)
