"""Small ONNX models made by hand, for tests of what measures and profiles them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dimension = int | str | None


def make_model(
    nodes: Sequence[onnx.NodeProto],
    initializers: dict[str, np.ndarray],
    input_shape: Sequence[Dimension] | None,
    input_type: int = TensorProto.FLOAT,
    opset: int = 17,
) -> bytes:
    """A model of one input ``images`` and one output ``probabilities``, the output of the last node."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("images", input_type, input_shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def tiny_artifact(classes: int = 3) -> bytes:
    """4×4×1 uint8 images, batch free, to class probabilities: a cast, a 16-input linear layer and a softmax."""
    weight = np.linspace(-1, 1, 16 * classes, dtype=np.float32).reshape(16, classes)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"], name="classifier"),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    return make_model(nodes, {"weight": weight}, ["batch", 4, 4, 1], TensorProto.UINT8)


def article_network() -> bytes:
    """The worked example: 28×28×1, two valid 3×3 convolutions of 5 filters, linear layers of 128 and 10."""
    shapes = {"c1": (5, 1, 3, 3), "c2": (5, 5, 3, 3), "d1": (2880, 128), "d2": (128, 10)}
    biases = {"c1b": (5,), "c2b": (5,), "d1b": (128,), "d2b": (10,)}
    arrays = {name: np.full(shape, 0.01, np.float32) for name, shape in (shapes | biases).items()}
    nodes = [
        helper.make_node("Conv", ["images", "c1", "c1b"], ["a"], name="conv1"),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("Conv", ["b", "c2", "c2b"], ["c"], name="conv2"),
        helper.make_node("Relu", ["c"], ["d"], name="relu2"),
        helper.make_node("Flatten", ["d"], ["e"], name="flatten"),
        helper.make_node("Gemm", ["e", "d1", "d1b"], ["f"], name="dense1"),
        helper.make_node("Relu", ["f"], ["g"], name="relu3"),
        helper.make_node("Gemm", ["g", "d2", "d2b"], ["probabilities"], name="dense2"),
    ]
    return make_model(nodes, arrays, ["batch", 1, 28, 28])
