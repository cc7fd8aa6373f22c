"""The ONNX file that computes nothing: what it costs to run is the cost of a call."""

from __future__ import annotations

import numpy as np

OPSET = 17
IR_VERSION = 8


def identity_onnx(images: np.ndarray) -> bytes:
    """A model of one Identity operator that takes a batch of such images, of any size, and gives it back."""
    import onnx
    from onnx import helper

    element = helper.np_dtype_to_tensor_dtype(images.dtype)
    shape = ["N", *images.shape[1:]]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["same"])],
        "identity",
        [helper.make_tensor_value_info("images", element, shape)],
        [helper.make_tensor_value_info("same", element, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
