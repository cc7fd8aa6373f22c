"""The small network that noise is measured on: always the same, so that machines and days may be compared."""

from __future__ import annotations

import numpy as np

SIDE = 28
OPSET = 17
IR_VERSION = 8
# Filters of its convolutions: as much work as a small design of the search spaces, some tens of microseconds.
WIDTHS = (16, 32)


def network_images() -> np.ndarray:
    """One image as the network takes it: 1×28×28×1, uint8."""
    return np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 1), dtype=np.uint8)


def small_network() -> bytes:
    """An ONNX file: uint8 images, N×28×28×1, through two convolutions to probabilities of 10 classes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    weights = {}
    for i, (before, after) in enumerate(zip((1, *WIDTHS), WIDTHS, strict=False)):
        weights[f"w{i}"] = random.standard_normal((after, before, 3, 3), dtype=np.float32) / (3 * before**0.5)
        nodes += [
            helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"y{i}"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"]),
        ]
    weights["classifier"] = random.standard_normal((WIDTHS[-1], 10), dtype=np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{len(WIDTHS)}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "classifier"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIDE, SIDE, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
