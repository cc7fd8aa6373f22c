"""Quantisation: as accurate as the float network, in integers where it says so, else smaller and no slower."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from small_networks import ARCHITECTURES, ONE_THREAD, SPACES, digits, normalised, sampled_network, training_data
from torch import Tensor, nn

from nas.artifact import InputSpec, open_session, probabilities
from nas.compress import quantise
from nas.compress.export import attach_front_end, export_body, input_quantisation
from nas.compress.quantise import quantise_body, quantise_weights, runs_in_int8
from nas.data.normalise import Normalisation
from nas.errors import UnsupportedError
from nas.families import build
from nas.outcome import Realisation
from nas.recipe import TrainingConfig
from nas.train import TrainingData, seeded, train

SHAPE = (3, 16, 12)
PIXELS = InputSpec("uint8", (16, 12, 3))
GREY = Normalisation((119.0,) * 3, (71.3,) * 3)
INTEGER_KERNELS = {"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger"}
# What may lie between uint8 pixels and the first integer kernel: nothing that computes.
MOVES = {"Transpose", "Flatten", "Reshape"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_pixels(count: int = 32, spec: InputSpec = PIXELS, highest: int = 255) -> np.ndarray:
    """Smooth random images: quantisation must not look better, nor worse, than on real ones."""
    rng = np.random.default_rng(0)
    height, width, channels = spec.shape
    coarse = rng.integers(0, highest + 1, (count, 4, 3, channels)).astype(np.uint8)
    return coarse.repeat(-(-height // 4), 1).repeat(-(-width // 3), 2)[:, :height, :width]


def calibration(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(normalised(pixels, GREY.mean[0], GREY.std[0], "NHWC"))


def int8_artifact(body: bytes, reduce_range: bool = False, highest: int = 255) -> bytes:
    quantised = quantise_body(body, calibration(make_pixels(highest=highest)), input_quantisation(GREY), reduce_range)
    return attach_front_end(quantised, PIXELS, GREY)


def optimised(artifact: bytes, folder: object) -> onnx.GraphProto:
    """The graph that ONNX Runtime makes of an artifact."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{folder}/optimised.onnx"
    options.log_severity_level = 3
    onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath).graph


def up_to_first_weights(graph: onnx.GraphProto) -> list[str]:
    """Operators from the input on to the first convolution or linear layer, which ends the list."""
    name, operators = graph.input[0].name, []
    while True:
        [node] = [node for node in graph.node if name in node.input]
        operators.append(node.op_type)
        if len(node.input) > 1 and node.op_type not in ("QuantizeLinear", "DequantizeLinear", "QLinearAveragePool"):
            return operators
        name = node.output[0]


# --- accuracy, on networks that were trained


@dataclass(frozen=True)
class Trained:
    body: bytes
    data: TrainingData
    images: np.ndarray
    labels: np.ndarray

    def accuracy(self, body: bytes) -> float:
        """Of the artifact that the body becomes, on validation digits."""
        artifact = attach_front_end(body, digits().input, self.data.normalisation)
        return float((probabilities(open_session(artifact), self.images).argmax(1) == self.labels).mean())

    def quantised(self, reduce_range: bool = False) -> bytes:
        images = self.data.normalise(self.data.images[:128]).contiguous().numpy()
        return quantise_body(self.body, images, input_quantisation(self.data.normalisation), reduce_range)


@functools.cache
def trained(family: str) -> Trained:
    data, validation = training_data(digits(600)), digits(600).validation
    with seeded(0, 1) as generator:
        model = build(family, ARCHITECTURES[family], (1, 8, 8), 10)
        config = TrainingConfig(batch_size=50, learning_rate=6e-3)
        train(model, data, config, ONE_THREAD, 8, config.learning_rate, generator)
    return Trained(export_body(model, (1, 8, 8)), data, validation.images, validation.labels)


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_int8_is_nearly_as_accurate_as_float(family: str) -> None:
    network = trained(family)
    float_accuracy = network.accuracy(network.body)
    assert float_accuracy > 0.85
    assert network.accuracy(network.quantised()) > float_accuracy - 0.03
    assert network.accuracy(network.quantised(reduce_range=True)) > float_accuracy - 0.04
    assert network.accuracy(quantise_weights(network.body)) > float_accuracy - 0.015


# --- in integers, or not


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("space", sorted(SPACES))
def test_every_convolution_and_linear_layer_runs_in_an_integer_kernel(space: str, seed: int, tmp_path: object) -> None:
    network = sampled_network(space, SHAPE, seed=seed)
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())
    artifact = int8_artifact(export_body(network, SHAPE))
    label, operators = runs_in_int8(artifact)
    assert label is Realisation.REALISED
    assert sum(operators.get(name, 0) for name in INTEGER_KERNELS) == layers
    names = [node.op_type for node in optimised(artifact, tmp_path).node]
    assert operators == {name: names.count(name) for name in sorted(set(names))}
    # What is left in floats: probabilities, the gates' and hard-swish's sigmoid, average pooling of pixels.
    rest = {name for name in operators if "Q" not in name and name not in MOVES | {"DequantizeLinear", "NhwcMaxPool"}}
    assert rest <= {"Softmax", "HardSigmoid", "AveragePool"}
    assert "AveragePool" not in rest or space == "mlp"


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_float_and_weight_only_artifacts_are_not_called_int8(family: str) -> None:
    body = trained(family).body
    for same in (body, quantise_weights(body)):
        label, operators = runs_in_int8(attach_front_end(same, digits().input, trained(family).data.normalisation))
        assert label is Realisation.SIMULATED
        assert not INTEGER_KERNELS & operators.keys()


@pytest.mark.parametrize("left", ["Conv", "Gemm"])
def test_one_kind_of_layer_left_in_float_is_enough_to_be_simulated(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained("convnet")
    monkeypatch.setattr(quantise, "LEFT_FLOAT", ("Softmax", left))
    label, operators = runs_in_int8(attach_front_end(network.quantised(), digits().input, network.data.normalisation))
    assert label is Realisation.SIMULATED
    assert INTEGER_KERNELS & operators.keys(), "the other kind is quantised"


@pytest.mark.parametrize("highest", [255, 40])
@pytest.mark.parametrize("space", sorted(SPACES))
def test_pixels_go_into_the_first_integer_kernel_as_they_are(space: str, highest: int, tmp_path: object) -> None:
    """Also where calibration saw a part of the range of pixels only."""
    network = sampled_network(space, SHAPE)
    artifact = int8_artifact(export_body(network, SHAPE), highest=highest)
    *before, first = up_to_first_weights(optimised(artifact, tmp_path))
    assert first in INTEGER_KERNELS
    assert set(before) <= MOVES
    scale, zero_point = input_quantisation(GREY)
    graph = onnx.load_from_string(artifact).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    assert graph.node[0].op_type == "Transpose"
    [decoder] = [node for node in graph.node if graph.node[0].output[0] in node.input]
    assert decoder.op_type == "DequantizeLinear"
    readers = [node.op_type for node in graph.node if decoder.output[0] in node.input]
    assert readers in (["Conv"], ["Flatten"]), "nothing quantises them again"
    assert float(tensors[decoder.input[1]]) == np.float32(scale)
    assert int(tensors[decoder.input[2]]) == zero_point


def test_average_pooling_of_pixels_stays_float() -> None:
    """ONNX Runtime's integer average pooling takes twice as long as turning the pixels into floats and back."""
    torch.manual_seed(0)
    network = build("mlp", {"input.pooling": 2, "layers": 1, "layer1.width": 16}, SHAPE, 5).eval()
    label, operators = runs_in_int8(int8_artifact(export_body(network, SHAPE)))
    assert label is Realisation.REALISED
    assert operators["AveragePool"] == 1
    assert operators["QGemm"] == 2


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("family", ["convnet", "mlp"])
def test_float_data_is_quantised_by_its_own_range(family: str, layout: str) -> None:
    """Arrays that are no pixels, each channel with its own unit: normalised in floats, then as close as int8 gets."""
    torch.manual_seed(0)
    network = build(family, ARCHITECTURES[family], (2, 8, 8), 5).eval()
    spec = InputSpec("float32", (8, 8, 2) if layout == "NHWC" else (2, 8, 8), layout)
    mean, std = np.array([1000.0, -0.5]), np.array([300.0, 0.01])
    images = np.random.default_rng(0).normal(size=(64, 2, 8, 8)).astype(np.float32)
    raw = (images * std.reshape(1, 2, 1, 1) + mean.reshape(1, 2, 1, 1)).astype(np.float32)
    raw = np.ascontiguousarray(raw.transpose(0, 2, 3, 1)) if layout == "NHWC" else raw
    normalisation = Normalisation(tuple(mean.tolist()), tuple(std.tolist()))
    body = export_body(network, (2, 8, 8))
    plain, quantised = (
        attach_front_end(b, spec, normalisation) for b in (body, quantise_body(body, images, None, False))
    )
    assert runs_in_int8(quantised)[0] is Realisation.REALISED
    wanted, got = (probabilities(open_session(artifact), raw) for artifact in (plain, quantised))
    assert np.abs(got - wanted).max() < 0.1
    assert np.abs(got - wanted).mean() < 0.02


# --- the integers


def int8_weights(body: bytes) -> list[np.ndarray]:
    tensors = (numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(body).graph.initializer)
    return [tensor for tensor in tensors if tensor.dtype == np.int8 and tensor.ndim > 1]


@pytest.mark.parametrize(("reduce_range", "largest"), [(False, 127), (True, 64)])
def test_weights_use_8_bits_or_7_where_products_saturate(reduce_range: bool, largest: int) -> None:
    weights = int8_weights(trained("convnet").quantised(reduce_range))
    assert len(weights) == 3
    for tensor in weights:
        peaks = np.abs(tensor.astype(int)).reshape(len(tensor), -1).max(1)
        assert peaks.max() <= largest
        assert (peaks >= largest - 1).all(), "one scale for each output channel: each uses the whole range"


def test_the_probabilities_are_not_rounded_to_8_bits() -> None:
    network = trained("convnet")
    artifact = attach_front_end(network.quantised(), digits().input, network.data.normalisation)
    result = probabilities(open_session(artifact), network.images)
    assert len(np.unique(result)) > 300
    np.testing.assert_allclose(result.sum(1), 1, rtol=1e-5)


def test_quantising_again_gives_the_same_bytes() -> None:
    network = trained("mobilenet")
    assert network.quantised() == network.quantised()
    assert quantise_weights(network.body) == quantise_weights(network.body)


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_constant_calibration_images_do_no_harm_but_to_accuracy(family: str) -> None:
    network = trained(family)
    same = np.zeros((16, 1, 8, 8), np.float32)
    quantised = quantise_body(network.body, same, input_quantisation(network.data.normalisation), False)
    artifact = attach_front_end(quantised, digits().input, network.data.normalisation)
    result = probabilities(open_session(artifact), network.images)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result.sum(1), 1, rtol=1e-4)


def test_the_quantised_artifact_is_as_plain_as_the_float_one() -> None:
    artifact = int8_artifact(export_body(sampled_network("convnet", SHAPE), SHAPE))
    model = onnx.load_from_string(artifact)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert not model.metadata_props
    assert not model.graph.value_info
    assert (model.producer_name, model.producer_version) == ("nas", "")
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(b"/tmp" in node.SerializeToString() for node in model.graph.node)


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_the_quantised_file_is_smaller_and_not_made_of_names(family: str) -> None:
    """Even of networks this small, the mobile one of narrow layers and many conversions included."""
    network = trained(family)
    plain, small = (
        attach_front_end(body, digits().input, network.data.normalisation)
        for body in (network.body, network.quantised())
    )
    assert len(small) < 0.85 * len(plain)
    model = onnx.load_from_string(small)
    layers = [node for node in model.graph.node if "Quantize" not in node.op_type and "quantize" not in node.op_type]
    assert all(node.name for node in layers), "layers can be told by their names"
    assert len({node.name for node in layers}) == len(layers)
    names = [name for node in model.graph.node for name in (*node.input, *node.output, node.name)]
    assert sum(len(name) for name in names) < 0.4 * len(small)


def test_the_quantisers_advice_stays_off_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, handlers = root.level, list(root.handlers)
    root.setLevel(logging.INFO)
    try:
        trained("mlp").quantised()
        runs_in_int8(trained("mlp").body)
        assert (root.level, root.handlers) == (logging.INFO, handlers)
    finally:
        root.setLevel(before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("body", [b"no model", None])
def test_what_cannot_be_quantised_is_refused_in_one_line(body: bytes | None) -> None:
    wrong_size = np.zeros((4, 1, 9, 9), np.float32)
    with pytest.raises(UnsupportedError, match=r"^the network cannot be quantised: [^\n]+\(set weight_bits to 32\)$"):
        quantise_body(body or trained("mlp").body, wrong_size, None, False)


# --- weights only


def test_weight_only_is_a_quarter_of_the_file_and_the_same_graph_once_loaded(tmp_path: object) -> None:
    torch.manual_seed(0)
    architecture = ARCHITECTURES["convnet"] | {"stem.width": 64, "stage1.width": 128, "head.hidden": 64}
    body = export_body(build("convnet", architecture, SHAPE, 7), SHAPE)
    plain, small = (attach_front_end(b, PIXELS, GREY) for b in (body, quantise_weights(body)))
    assert 0.25 < len(small) / len(plain) < 0.27
    operators = [[(n.domain, n.op_type) for n in optimised(content, tmp_path).node] for content in (plain, small)]
    assert sorted(operators[0]) == sorted(operators[1]), "no Cast or Mul of weights is left"


@pytest.mark.parametrize("space", sorted(SPACES))
def test_weight_only_rounds_every_weight_to_the_nearest_of_its_channels_steps(space: str) -> None:
    network = sampled_network(space, SHAPE)
    model = onnx.load_from_string(quantise_weights(export_body(network, SHAPE)))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    originals = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load_from_string(export_body(network, SHAPE)).graph.initializer
    }
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())
    decoded = {name.removesuffix("_int8"): array for name, array in tensors.items() if name.endswith("_int8")}
    assert len(decoded) == layers
    for name, integers in decoded.items():
        scale, original = tensors[f"{name}_scale"], originals[name]
        assert name not in tensors, "the float weights are gone"
        assert integers.dtype == np.int8
        assert scale.size == len(original), "one scale for each output channel"
        assert (np.abs(integers * scale - original) <= scale * 0.501).all()


class Tied(nn.Module):
    """Uses one linear layer twice, and a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(8, 8)
        self.matrix = nn.Parameter(torch.randn(8, 5) * torch.logspace(-2, 2, 5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shared(torch.relu(self.shared(x.flatten(1))))) @ self.matrix / 100


def test_weight_only_stores_shared_weights_once_and_scales_matrices_by_column() -> None:
    torch.manual_seed(0)
    body = export_body(Tied(), (2, 2, 2))
    small = quantise_weights(body)
    model = onnx.load_from_string(small)
    assert sorted(array.shape for array in int8_weights(small)) == [(8, 5), (8, 8)]
    scales = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("_scale")]
    assert sorted(scale.shape for scale in scales) == [(1, 5), (8, 1)]
    spec, normalisation = InputSpec("float32", (2, 2, 2)), Normalisation((0.0,) * 2, (1.0,) * 2)
    images = np.random.default_rng(0).normal(size=(20, 2, 2, 2)).astype(np.float32)
    wanted, got = (probabilities(open_session(attach_front_end(b, spec, normalisation)), images) for b in (body, small))
    np.testing.assert_allclose(got, wanted, atol=0.02)


def test_weights_of_zero_survive() -> None:
    network = sampled_network("mlp", SHAPE)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.weight[0] = 0
    small = attach_front_end(quantise_weights(export_body(network, SHAPE)), PIXELS, GREY)
    assert np.isfinite(probabilities(open_session(small), make_pixels())).all()
