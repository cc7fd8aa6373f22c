"""The small network that noise is measured on: always the same, so that machines and days may be compared."""

from __future__ import annotations

import numpy as np

SIDE = 28
OPSET = 17
IR_VERSION = 8
# Filters and strides of its convolutions: 5.6 million multiply-adds, a tenth of a millisecond on one core of today's.
# It is far more work than the call itself, and as short as the designs that noise is worst for.
LAYERS = ((32, 1), (64, 2), (64, 2))


def network_images() -> np.ndarray:
    """One image as the network takes it: 1×28×28×1, uint8."""
    return np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 1), dtype=np.uint8)


def small_network() -> bytes:
    """An ONNX file: uint8 images, N×28×28×1, through three convolutions to probabilities of 10 classes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    weights = {}
    before = 1
    for i, (after, stride) in enumerate(LAYERS):
        weights[f"w{i}"] = random.standard_normal((after, before, 3, 3), dtype=np.float32) / (3 * before**0.5)
        nodes += [
            helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"y{i}"], strides=[stride, stride], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"]),
        ]
        before = after
    weights["w0"] /= 255  # of pixels, so that no probability is so near 0 that its arithmetic is slow
    weights["classifier"] = random.standard_normal((before, 10), dtype=np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{len(LAYERS)}"], ["pooled"]),
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
