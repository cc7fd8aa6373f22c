"""Average pooling as a convolution of equal weights, for networks that run in integers.

ONNX Runtime's integer average pooling is slow (two windows of 2×2 on 64 channels cost 80 of 263 µs), its depthwise
integer convolution fast, and the two compute the same: each channel by itself, every weight 1 / (k_h·k_w), which is a
step of an 8-bit grid exactly. Global average pooling gains nothing by it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

WEIGHT_SUFFIX = "_window"


def pooling_as_convolution(graph: onnx.GraphProto, nodes: Collection[str]) -> dict[str, float]:
    """Turns average pooling nodes of these names into depthwise convolutions, in place; node names stay.

    Left as they are: pooling of the network's input, for which floats are faster; windows that leave padding out of
    the average or hang over the edge, which are no convolution; and where the number of channels is not known.

    Returns:
        The weight, all of one value, of each new convolution, by the name of its initializer.
    """
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    weights: dict[str, float] = {}
    for node in graph.node:
        if node.op_type != "AveragePool" or node.name not in nodes:
            continue
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        dimensions = shapes.get(node.input[0], ())
        if len(dimensions) < 2 or not dimensions[1].dim_value or not _is_convolution(attributes):
            continue
        channels, window = dimensions[1].dim_value, tuple(attributes["kernel_shape"])
        name = f"{node.output[0]}{WEIGHT_SUFFIX}"
        weights[name] = float(1 / np.prod(window))
        graph.initializer.append(
            numpy_helper.from_array(np.full((channels, 1, *window), weights[name], np.float32), name)
        )
        kept = {key: attributes[key] for key in ("kernel_shape", "strides", "pads", "dilations") if key in attributes}
        node.op_type = "Conv"
        node.input.append(name)
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(key, value) for key, value in (kept | {"group": channels}).items())
    return weights


def is_pooling(node: onnx.NodeProto) -> bool:
    """Whether a node is pooling, be it in the form of a convolution: the name that it had stays."""
    return node.op_type == "Conv" and node.name.rpartition("/")[2].startswith("AveragePool")


def _is_convolution(attributes: Mapping[str, Any]) -> bool:
    padded = any(attributes.get("pads", ()))
    whole = attributes.get("auto_pad", b"NOTSET") == b"NOTSET" and not attributes.get("ceil_mode", 0)
    return whole and (not padded or bool(attributes.get("count_include_pad", 0)))
