"""The canonical form of a quantised body: integers on their grids, activations by their bits, node by node."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
import torch
from quantised_networks import (
    GREY,
    PIXELS,
    SHAPE,
    artifact_of,
    calibration_images,
    initializers,
    make_pixels,
    node_names,
    outputs,
    quantise,
    staged_body,
)
from small_networks import sampled_network
from torch import Tensor, nn

from nas.artifact import InputSpec, open_session, probabilities
from nas.compress.bits.body import Bits, name_nodes, prepare, weighted
from nas.compress.bits.pack import FOUR_BIT
from nas.compress.bits.qdq import QUANTISED, Calibration, quantise_layers, quantise_weights
from nas.compress.export import BODY_INPUT, attach_front_end, export_body, input_quantisation
from nas.data.normalise import Normalisation
from nas.errors import UnsupportedError


def graph_of(content: bytes) -> onnx.GraphProto:
    return onnx.load_from_string(content).graph


def activation_types(content: bytes) -> dict[str, np.dtype[np.generic]]:
    """The integer type that each activation is quantised to, by the name of what is quantised."""
    graph, arrays = graph_of(content), initializers(content)
    return {node.input[0]: arrays[node.input[2]].dtype for node in graph.node if node.op_type == "QuantizeLinear"}


# --- preparation


def test_every_node_has_a_name_of_its_own_in_its_layer() -> None:
    """Hard-swish is taken apart into nodes without names."""
    body = export_body(sampled_network("mobilenet", SHAPE), SHAPE)
    names = node_names(prepare(body))
    assert all(names)
    assert len(set(names)) == len(names)
    parts = [name for name in names if name.endswith(("HardSigmoid", "/Mul"))]
    assert any("/model/features/stem/" in name for name in parts)
    assert all(name.startswith("/model/") for name in parts)
    nameless = onnx.load_from_string(body)
    for node in nameless.graph.node:
        node.name = ""
    assert len(set(node_names(name_nodes(nameless.SerializeToString())))) == len(nameless.graph.node)


def test_layers_are_those_with_a_weight_of_their_own() -> None:
    layers = weighted(graph_of(staged_body()))
    assert [name.rpartition("/")[2] for name in layers] == ["Conv", "Conv", "Conv", "Gemm"]
    assert [tuple(tensor.dims)[:2] for _, tensor in layers.values()] == [(16, 3), (16, 16), (16, 16), (5, 16)]


# --- weights


@pytest.mark.parametrize("activation_bits", [8, 16, 32])
@pytest.mark.parametrize(("weight_bits", "largest"), [(8, 127), (4, 7)])
def test_weights_are_int8_on_their_own_grid(weight_bits: int, largest: int, activation_bits: int) -> None:
    body = staged_body()
    quantised = quantise(body, (weight_bits, activation_bits))
    arrays, floats = initializers(quantised), initializers(body)
    for _, tensor in weighted(graph_of(body)).values():
        integers = arrays[f"{tensor.name}{QUANTISED}{FOUR_BIT if weight_bits == 4 else ''}"]
        scale = arrays[f"{tensor.name}_scale"].reshape(-1, *[1] * (integers.ndim - 1))
        assert integers.dtype == np.int8
        assert scale.size == len(integers), "one scale for each output channel"
        assert not arrays[f"{tensor.name}_zero_point"].any()
        peaks = np.abs(integers.astype(int)).reshape(len(integers), -1).max(1)
        assert (peaks == largest).all(), "one scale for each output channel: each uses the whole range"
        weights = floats[tensor.name]
        inside = np.abs(weights) <= largest * scale
        assert (np.abs(integers * scale - weights) <= 0.501 * scale)[inside].all()
        if weight_bits == 8:
            assert inside.mean() > 0.98  # the peak may lie a rounding error outside
    marked = sum(name.endswith(FOUR_BIT) for name in arrays)
    assert marked == (4 if weight_bits == 4 else 0)


@pytest.mark.parametrize(("reduce_range", "largest"), [(False, 127), (True, 64)])
def test_weights_use_8_bits_or_7_where_products_saturate(reduce_range: bool, largest: int) -> None:
    arrays = initializers(quantise(staged_body(), (8, 8), reduce_range=reduce_range))
    weights = [
        array for name, array in arrays.items() if name.endswith(QUANTISED) and "Conv" in name and array.ndim == 4
    ]
    assert len(weights) == 3
    assert {int(np.abs(tensor.astype(int)).max()) for tensor in weights} == {largest}


@pytest.mark.parametrize("weight_bits", [8, 4])
def test_biases_are_int32_steps_of_input_and_weight(weight_bits: int) -> None:
    body = staged_body()
    quantised = quantise(body, (weight_bits, 8))
    arrays, floats = initializers(quantised), initializers(body)
    for node, tensor in weighted(graph_of(body)).values():
        bias, scale = arrays[f"{node.input[2]}{QUANTISED}"], arrays[f"{node.input[2]}{QUANTISED}_scale"]
        assert bias.dtype == np.int32
        assert (scale / arrays[f"{tensor.name}_scale"]).std() < 1e-6, "the scale of the weights times one of the input"
        np.testing.assert_allclose(bias * scale, floats[node.input[2]], atol=0.51 * scale.max())


@pytest.mark.parametrize("activation_bits", [8, 32])
def test_weights_of_zero_stay_zero_and_do_no_harm(activation_bits: int) -> None:
    network = sampled_network("mlp", SHAPE)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.weight[0] = 0
    body = export_body(network, SHAPE)
    for bits in (8, 4):
        got = outputs(artifact_of(quantise(body, (bits, activation_bits))))
        assert np.abs(got - outputs(artifact_of(body))).max() < (0.05 if bits == 8 else 0.3)


# --- activations


def test_activations_are_8_bits_and_the_pixels_as_they_are() -> None:
    quantised = quantise(staged_body(), (8, 8), highest=40)
    types = activation_types(quantised)
    assert set(types.values()) == {np.dtype(np.uint8)}
    arrays, node = initializers(quantised), graph_of(quantised).node
    [first] = [each for each in node if each.op_type == "QuantizeLinear" and each.input[0] == BODY_INPUT]
    scale, zero_point = input_quantisation(GREY)
    assert arrays[first.input[1]] == np.float32(scale)
    assert arrays[first.input[2]] == zero_point, "although calibration saw a part of the range of pixels only"


def test_activations_of_16_bits_are_nearly_exact() -> None:
    body = staged_body()
    types = activation_types(quantise(body, (8, 16)))
    assert types.pop(BODY_INPUT) == np.uint8, "pixels are 8 bits whatever was asked for"
    assert set(types.values()) == {np.dtype(np.uint16)}
    weights_only = outputs(artifact_of(quantise(body, (8, 32))))
    errors = [np.abs(outputs(artifact_of(quantise(body, (8, bits)))) - weights_only).max() for bits in (16, 8)]
    assert errors[0] < 2e-4
    assert errors[1] > 5 * errors[0]


def test_between_8_and_16_bits_lie_8_so_that_the_former_run_in_integers() -> None:
    types = activation_types(quantise(staged_body(), {"stem": (8, 8), "": (8, 16)}))
    [stem] = [kind for name, kind in types.items() if "stem" in name]
    assert stem == np.uint8
    del types[BODY_INPUT]
    assert {kind for name, kind in types.items() if "stem" not in name} == {np.dtype(np.uint16)}
    types = activation_types(quantise(staged_body(), {"classifier": (8, 8), "": (8, 16)}))
    assert {name for name, kind in types.items() if kind == np.uint8 and name != BODY_INPUT} == {
        "/model/Flatten_output_0",
        "/model/pool/GlobalAveragePool_output_0",
        "/model/classifier/Gemm_output_0",
    }, "what the last layer reads, with all that shares its grid"


def test_layers_without_integers_are_left_alone() -> None:
    body = staged_body()
    quantised = quantise(body, {"stage2": (32, 32), "": (8, 8)})
    arrays, floats = initializers(quantised), initializers(body)
    [(_, tensor)] = [layer for name, layer in weighted(graph_of(body)).items() if "stage2" in name]
    np.testing.assert_array_equal(arrays[tensor.name], floats[tensor.name])
    assert len(weighted(graph_of(quantised))) == 1


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_calibrations_differ_and_repeat(method: str) -> None:
    body = staged_body()
    assert quantise(body, (8, 8), method) == quantise(body, (8, 8), method)
    assert quantise(body, (8, 8), method) != quantise(body, (8, 8), "minmax")
    difference = np.abs(outputs(artifact_of(quantise(body, (8, 8), method))) - outputs(artifact_of(body)))
    assert difference.max() < 0.1


@pytest.mark.parametrize("bits", [(8, 8), (4, 8), (8, 16), (4, 32)])
def test_quantising_again_gives_the_same_bytes(bits: tuple[int, int]) -> None:
    assert quantise(staged_body(), bits) == quantise(staged_body(), bits)


def test_float_data_is_quantised_by_its_own_range() -> None:
    """Arrays that are no pixels, each channel with its own unit: normalised in floats, then as close as int8 gets."""
    torch.manual_seed(0)
    network = sampled_network("convnet", (2, 8, 8))
    spec = InputSpec("float32", (2, 8, 8), "NCHW")
    mean, std = np.array([1000.0, -0.5]), np.array([300.0, 0.01])
    images = np.random.default_rng(0).normal(size=(64, 2, 8, 8)).astype(np.float32)
    raw = (images * std.reshape(1, 2, 1, 1) + mean.reshape(1, 2, 1, 1)).astype(np.float32)
    normalisation = Normalisation(tuple(mean.tolist()), tuple(std.tolist()))
    body = prepare(export_body(network, (2, 8, 8)))
    quantised = quantise_layers(body, dict.fromkeys(node_names(body), Bits(8, 8)), Calibration(images))
    wanted, got = (
        probabilities(open_session(attach_front_end(each, spec, normalisation)), raw) for each in (body, quantised)
    )
    assert np.abs(got - wanted).max() < 0.1
    assert np.abs(got - wanted).mean() < 0.02


@pytest.mark.parametrize("space", ["convnet", "mlp", "mobilenet"])
def test_constant_images_do_no_harm_but_to_accuracy(space: str) -> None:
    body = prepare(export_body(sampled_network(space, SHAPE), SHAPE))
    images = np.zeros((4, *SHAPE), np.float32)
    bits = dict.fromkeys(node_names(body), Bits(8, 8))
    quantised = quantise_layers(body, bits, Calibration(images, "entropy", input_quantisation(GREY)))
    result = probabilities(open_session(attach_front_end(quantised, PIXELS, GREY)), make_pixels())
    np.testing.assert_allclose(result.sum(1), 1, rtol=1e-4)


# --- errors


class Tied(nn.Module):
    """Uses one linear layer twice, once by another name, and a product with a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3 * 16 * 12, 8)
        self.stage1 = nn.Sequential(nn.Linear(8, 8))
        self.stage2 = nn.Sequential(self.stage1[0])
        self.matrix = nn.Parameter(torch.randn(8, 5) * torch.logspace(-1, 1, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.flatten(1)))
        return torch.relu(self.stage2(torch.relu(self.stage1(x)))) @ self.matrix


@pytest.mark.parametrize("bits", [(8, 8), (4, 32), (4, 8)])
def test_a_shared_weight_is_stored_once_and_a_matrix_scaled_by_column(bits: tuple[int, int]) -> None:
    torch.manual_seed(0)
    body = export_body(Tied(), SHAPE)
    quantised = quantise(body, bits)
    integers = [array for array in initializers(quantised).values() if array.dtype == np.int8 and array.ndim == 2]
    assert sorted(array.shape for array in integers) == [(8, 5), (8, 8), (8, 576)]
    scales = [array.shape for name, array in initializers(quantised).items() if name == "model.matrix_scale"]
    assert scales == [(5,)]
    wanted, got = outputs(artifact_of(body)), outputs(artifact_of(quantised))
    assert np.abs(got - wanted).max() < (0.05 if bits[0] == 8 else 0.3)


@pytest.mark.parametrize("other", [(4, 8), (32, 32)])
def test_a_shared_weight_cannot_have_two_kinds_of_bits(other: tuple[int, int]) -> None:
    body = export_body(Tied(), SHAPE)
    with pytest.raises(
        UnsupportedError,
        match=r"^layers 'stage1.0' and 'stage2.stage1.0' share one weight, which cannot have both \d+ and \d+ bits",
    ):
        quantise(body, {"stage2": other, "": (8, 8)})


def test_images_of_another_shape_are_refused_with_both_shapes() -> None:
    body = prepare(staged_body())
    bits = dict.fromkeys(node_names(body), Bits(8, 8))
    with pytest.raises(UnsupportedError, match=r"calibration images are 1×28×28 .*the network takes 3×16×12 \(cali"):
        quantise_layers(body, bits, Calibration(np.zeros((4, 1, 28, 28), np.float32)))
    with pytest.raises(UnsupportedError, match="there are no calibration images"):
        quantise_layers(body, bits, Calibration(np.zeros((0, *SHAPE), np.float32)))


def test_what_is_no_network_is_refused_in_one_line() -> None:
    with pytest.raises(UnsupportedError, match=r"^the network cannot be quantised: [^\n]+\(set weight_bits to 32\)$"):
        prepare(b"no model")


def test_what_the_quantiser_refuses_names_the_layer_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no quantisation parameters for /model/stage1/stage1.0/Conv_output_0\nat all")

    monkeypatch.setattr("nas.compress.bits.qdq.quantize_static", refuse)
    with pytest.raises(
        UnsupportedError,
        match=r"^the network cannot be quantised at layer 'stage1.0': no quantisation .* at all "
        r"\(give it full precision: 'stage1.0.weight_bits': 32 and 'stage1.0.activation_bits': 32\)$",
    ):
        quantise(staged_body(), (8, 8))


def test_the_quantisers_advice_stays_off_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, handlers = root.level, list(root.handlers)
    root.setLevel(logging.INFO)
    try:
        for method in ("minmax", "entropy"):
            quantise(staged_body(), (4, 8), method)
        assert (root.level, root.handlers) == (logging.INFO, handlers)
    finally:
        root.setLevel(before)
    assert capfd.readouterr() == ("", "")


def test_weights_alone_need_no_images() -> None:
    body = staged_body()
    quantised = quantise_weights(body, dict.fromkeys(node_names(body), Bits(8, 32)))
    assert not activation_types(quantised)
    assert calibration_images(make_pixels(2)).shape == (2, *SHAPE)
