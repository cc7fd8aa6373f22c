"""Average pooling as a convolution: the same numbers, where and only where it is one."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
import torch
from integer_products import exact_integers
from onnx import TensorProto, helper
from onnx_models import make_model
from quantised_networks import SHAPE, artifact_of, node_names, outputs, quantise, staged_body
from torch import nn

from nas.artifact import open_session
from nas.compress.bits.body import prepare
from nas.compress.bits.pooling import is_pooling, pooling_as_convolution
from nas.compress.export import export_body

IMAGES = np.random.default_rng(0).normal(size=(3, 4, 9, 8)).astype(np.float32)


def pooling_model(count: int = 2, channels: int | None = 4, **attributes: object) -> onnx.ModelProto:
    """Rectifies the image, then pools it ``count`` times."""
    names = ["rectified", *(f"pooled{number}" for number in range(1, count)), "probabilities"]
    nodes = [helper.make_node("Relu", ["images"], ["rectified"], "relu")]
    for number, (source, target) in enumerate(itertools.pairwise(names), start=1):
        nodes.append(helper.make_node("AveragePool", [source], [target], f"pool{number}/AveragePool", **attributes))
    model = onnx.load_from_string(make_model(nodes, {}, ["batch", 4, 9, 8]))
    for name in names[:-1]:
        shape = ["batch", channels, None, None]
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model


def result(model: onnx.ModelProto) -> np.ndarray:
    return np.asarray(open_session(model.SerializeToString()).run(None, {"images": IMAGES})[0])


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0]},
    ],
    ids=str,
)
def test_the_convolution_gives_what_pooling_gave(attributes: dict[str, object]) -> None:
    model = pooling_model(**attributes)
    wanted = result(model)
    weights = pooling_as_convolution(model.graph, ["pool1/AveragePool", "pool2/AveragePool"])
    window = attributes["kernel_shape"]
    assert isinstance(window, list)
    assert list(weights.values()) == [1 / (window[0] * window[1])] * 2
    assert [node.op_type for node in model.graph.node] == ["Relu", "Conv", "Conv"]
    assert [node.name for node in model.graph.node if is_pooling(node)] == ["pool1/AveragePool", "pool2/AveragePool"]
    np.testing.assert_allclose(result(model), wanted, atol=1e-6)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},  # the average leaves padding out
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},  # windows hang over the edge
        {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [2, 2], "channels": None},
    ],
    ids=str,
)
def test_what_is_no_convolution_stays_pooling(attributes: dict[str, object]) -> None:
    model = pooling_model(**attributes)  # type: ignore[arg-type]
    before = model.SerializeToString()
    assert pooling_as_convolution(model.graph, ["pool1/AveragePool", "pool2/AveragePool"]) == {}
    assert model.SerializeToString() == before


def test_only_the_nodes_that_are_named_change() -> None:
    model = pooling_model(kernel_shape=[2, 2])
    pooling_as_convolution(model.graph, ["pool2/AveragePool"])
    assert [node.op_type for node in model.graph.node] == ["Relu", "AveragePool", "Conv"]


@pytest.mark.parametrize("weight_bits", [8, 4])
def test_in_a_network_of_integers_the_window_is_exact(weight_bits: int) -> None:
    quantised = onnx.load_from_string(quantise(staged_body(), (weight_bits, 8)))
    [pooling] = [node for node in quantised.graph.node if is_pooling(node)]
    [decoder] = [node for node in quantised.graph.node if pooling.input[1] in node.output]
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantised.graph.initializer}
    integers, scale = arrays[decoder.input[0]], arrays[decoder.input[1]]
    assert scale.shape == (), "one for all channels"
    assert (integers == 127).all(), "8 bits, whatever the layers have"
    np.testing.assert_allclose(integers * scale, 0.25, rtol=1e-6)


@pytest.mark.parametrize("activation_bits", [16, 32])
def test_networks_that_compute_in_floats_keep_their_pooling(activation_bits: int) -> None:
    quantised = onnx.load_from_string(quantise(staged_body(), (8, activation_bits)))
    assert [node.op_type for node in quantised.graph.node].count("AveragePool") == 1


@exact_integers
def test_pooling_of_pixels_stays_as_it_is() -> None:
    """Floats are faster for it than integers, in either form."""

    class PooledFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AvgPool2d(2)
            self.classifier = nn.Linear(3 * 8 * 6, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(self.pool(x).flatten(1))

    torch.manual_seed(0)
    body = export_body(PooledFirst().eval(), SHAPE)
    quantised = quantise(body, (8, 8))
    assert [node.op_type for node in onnx.load_from_string(quantised).graph.node].count("AveragePool") == 1
    assert np.abs(outputs(artifact_of(quantised)) - outputs(artifact_of(body))).max() < 0.05
    assert "/model/pool/AveragePool" in node_names(prepare(body))
