"""The artifact: the same function as the network, data as it is in, one plain file that stock ONNX Runtime loads."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_networks import SPACES, normalised, sampled_network
from torch import Tensor, nn

from nas.artifact import INPUT_NAME, OUTPUT_NAME, InputSpec, open_session, probabilities
from nas.compress.bits.body import Bits, prepare
from nas.compress.bits.pack import pack
from nas.compress.bits.qdq import Calibration, quantise_layers, quantise_weights
from nas.compress.export import OPSET, attach_front_end, export_body, input_quantisation, opset_of
from nas.data.normalise import Normalisation, normalisation_of
from nas.errors import UnsupportedError

HEIGHT, WIDTH = 16, 12


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_images(spec: InputSpec, count: int = 9) -> np.ndarray:
    """Random data as an artifact takes it; the channels of floats differ in mean and spread."""
    rng = np.random.default_rng(0)
    if spec.dtype == "uint8":
        return rng.integers(0, 256, (count, *spec.shape), dtype=np.uint8)
    channels = spec.channels_first[0]
    per_channel = (1, 1, 1, channels) if spec.layout == "NHWC" else (1, channels, 1, 1)
    offset = np.linspace(-5, 100, channels).reshape(per_channel)
    spread = np.linspace(0.1, 20, channels).reshape(per_channel)
    return (rng.normal(size=(count, *spec.shape)) * spread + offset).astype(np.float32)


def spec_of(dtype: str, layout: str, channels: int) -> InputSpec:
    shape = (HEIGHT, WIDTH, channels) if layout == "NHWC" else (channels, HEIGHT, WIDTH)
    return InputSpec(dtype, shape, layout)


def expected(network: nn.Module, images: np.ndarray, spec: InputSpec, normalisation: Normalisation) -> np.ndarray:
    """Probabilities from the network itself, on data normalised by numpy in double precision."""
    shape = (1, 1, 1, -1) if spec.layout == "NHWC" else (1, -1, 1, 1)
    mean, std = (np.reshape(part, shape) for part in (normalisation.mean, normalisation.std))
    with torch.no_grad():
        logits = network(torch.from_numpy(np.ascontiguousarray(normalised(images, mean, std, spec.layout))))
    return torch.softmax(logits, 1).numpy()


def artifact_of(network: nn.Module, spec: InputSpec) -> bytes:
    body = export_body(network, spec.channels_first)
    return attach_front_end(body, spec, normalisation_of(make_images(spec), spec))


# --- the same function


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "layout"), [("uint8", "NHWC"), ("uint8", "NCHW"), ("float32", "NHWC"), ("float32", "NCHW")]
)
@pytest.mark.parametrize("space", sorted(SPACES))
def test_the_artifact_is_the_network_with_normalisation_and_softmax(
    space: str, dtype: str, layout: str, channels: int
) -> None:
    spec = spec_of(dtype, layout, channels)
    network = sampled_network(space, spec.channels_first)
    images = make_images(spec)
    wanted = expected(network, images, spec, normalisation_of(images, spec))
    assert wanted.std(0).max() > 1e-3, "the images must make a difference, or parity says nothing"
    session = open_session(artifact_of(network, spec))
    np.testing.assert_allclose(probabilities(session, images), wanted, atol=1e-4)
    for count in (1, 4):  # the batch is free
        np.testing.assert_allclose(probabilities(session, images[:count]), wanted[:count], atol=1e-4)
    assert probabilities(session, images).dtype == np.float32
    np.testing.assert_allclose(probabilities(session, images).sum(1), 1, rtol=1e-5)


def test_pixels_are_normalised_as_in_training_at_every_value() -> None:
    """A network that passes the pixel on: the artifact's probabilities show the normalised value."""

    class Pass(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    spec = InputSpec("uint8", (1, 2, 1))
    pairs = np.stack([np.arange(256), np.full(256, 100)], 1).astype(np.uint8).reshape(256, 1, 2, 1)
    normalisation = Normalisation((117.0,), (46.5,))
    result = probabilities(open_session(attach_front_end(export_body(Pass(), (1, 1, 2)), spec, normalisation)), pairs)
    odds = np.log(result[:, 0] / result[:, 1])
    np.testing.assert_allclose(odds, (np.arange(256) - 100) / 46.5, atol=1e-4)


@pytest.mark.parametrize("mean", [(117.5, 117.5), (117.0, 30.25), (-3.0, -3.0), (300.0, 300.0)])
def test_pixels_are_normalised_as_given_where_one_dequantisation_cannot_do_it(mean: tuple[float, float]) -> None:
    spec = InputSpec("uint8", (1, 1, 2))
    pairs = np.stack([np.arange(256), np.full(256, 100)], 1).astype(np.uint8).reshape(256, 1, 1, 2)
    body = export_body(nn.Flatten(), (2, 1, 1))
    artifact = attach_front_end(body, spec, Normalisation(mean, (46.5, 20.1)))
    result = probabilities(open_session(artifact), pairs)
    odds = np.log(result[:, 0] / result[:, 1])
    np.testing.assert_allclose(odds, (np.arange(256) - mean[0]) / 46.5 - (100 - mean[1]) / 20.1, atol=1e-4)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (255.0, 3.7), (33.0, 78.56)])
def test_input_quantisation_is_the_normalisation(mean: float, std: float) -> None:
    scale, zero_point = input_quantisation(Normalisation((mean,) * 3, (std,) * 3))
    pixels = np.arange(256)
    assert isinstance(zero_point, int)
    np.testing.assert_allclose((pixels - zero_point) * scale, (pixels - mean) / std, rtol=1e-6, atol=1e-6)


# --- the file


@pytest.fixture(params=sorted(SPACES))
def network(request: pytest.FixtureRequest) -> nn.Module:
    return sampled_network(request.param, (3, HEIGHT, WIDTH))


SPEC = InputSpec("uint8", (HEIGHT, WIDTH, 3))


def test_batch_norm_is_folded_and_pooling_is_a_pooling_operator(network: nn.Module) -> None:
    graph = onnx.load_from_string(artifact_of(network, SPEC)).graph
    operators = {node.op_type for node in graph.node}
    assert "BatchNormalization" not in operators
    assert "ReduceMean" not in operators, "it would stay float when quantised"
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    assert [node.op_type for node in graph.node].count("Conv") == convolutions
    weights = sum(np.prod(tensor.dims) for tensor in graph.initializer if len(tensor.dims) > 1)
    assert weights == sum(p.numel() for p in network.parameters() if p.dim() > 1)


def test_the_file_says_what_goes_in_and_out(network: nn.Module) -> None:
    model = onnx.load_from_string(artifact_of(network, SPEC))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert OPSET == 17
    [image], [result] = model.graph.input, model.graph.output
    assert (image.name, result.name) == (INPUT_NAME, OUTPUT_NAME)
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dimensions = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert dimensions == ["batch", HEIGHT, WIDTH, 3]
    session = open_session(artifact_of(network, SPEC))
    assert [(i.name, i.type) for i in session.get_inputs()] == [("images", "tensor(uint8)")]
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("probabilities", "tensor(float)", ["batch", 7])
    ]


def test_the_file_is_whole_and_holds_no_trace_of_the_source(network: nn.Module) -> None:
    content = artifact_of(network, SPEC)
    model = onnx.load_from_string(content)
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert not model.metadata_props
    assert not model.doc_string
    assert not model.graph.doc_string
    assert not model.graph.value_info
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert (model.producer_name, model.producer_version) == ("nas", "")
    for tensor in model.graph.initializer:
        tensor.raw_data = b""  # weights may spell anything
    text = model.SerializeToString()
    for word in (".py", "site-packages", "torch", "/home", "/tmp", "pkl"):
        assert word.encode() not in text, word
    operators = {node.op_type for node in model.graph.node}
    kinds = {type(module).__name__ for module in network.modules()} | {"_WithProbabilities"}
    kinds = {kind for kind in kinds if not any(kind in operator for operator in operators)}
    assert "BatchNorm2d" in kinds or "Sequential" in kinds
    assert not [kind for kind in kinds if kind.encode() in text]


def test_stock_onnxruntime_loads_it_by_its_defaults(network: nn.Module, tmp_path: object) -> None:
    path = f"{tmp_path}/model.onnx"
    with open(path, "wb") as file:
        file.write(artifact_of(network, SPEC))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_providers() == ["CPUExecutionProvider"]
    [result] = session.run(None, {"images": make_images(SPEC)})
    assert result.shape == (9, 7)


def test_exporting_again_gives_the_same_bytes_whatever_the_memory_layout(network: nn.Module) -> None:
    first = artifact_of(network, SPEC)
    assert artifact_of(network, SPEC) == first
    assert artifact_of(copy.deepcopy(network).to(memory_format=torch.channels_last), SPEC) == first
    with torch.no_grad():
        network.classifier.bias[0] += 1e-3  # type: ignore[union-attr, operator]
    assert artifact_of(network, SPEC) != first


def test_exporting_leaves_the_weights_as_they_are(network: nn.Module) -> None:
    before = copy.deepcopy(network.state_dict())
    export_body(network, (3, HEIGHT, WIDTH))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_network_in_training_mode_is_exported_as_it_serves() -> None:
    network = sampled_network("convnet", (3, HEIGHT, WIDTH))
    first = artifact_of(network, SPEC)
    assert artifact_of(network.train(), SPEC) == first


@pytest.mark.parametrize(("bits", "opset"), [((8, 32), 17), ((4, 32), 21), ((4, 8), 21)])
@pytest.mark.parametrize(("dtype", "layout"), [("uint8", "NHWC"), ("uint8", "NCHW"), ("float32", "NHWC")])
def test_quantised_weights_are_packed_and_the_file_is_as_plain(
    bits: tuple[int, int], opset: int, dtype: str, layout: str
) -> None:
    spec = spec_of(dtype, layout, 3)
    network = sampled_network("convnet", spec.channels_first)
    images = make_images(spec, 64)
    normalisation = normalisation_of(images, spec)
    body = prepare(export_body(network, spec.channels_first))
    each = dict.fromkeys([node.name for node in onnx.load_from_string(body).graph.node], Bits(*bits))
    quantised = quantise_weights(body, each)
    if each and bits[1] == 8:
        shape = (1, 1, 1, -1) if layout == "NHWC" else (1, -1, 1, 1)
        mean, std = (np.reshape(part, shape) for part in (normalisation.mean, normalisation.std))
        pixels = input_quantisation(normalisation) if dtype == "uint8" else None
        calibration = Calibration(normalised(images, mean, std, layout), pixels=pixels)
        quantised = quantise_layers(quantised, each, calibration)
    content = attach_front_end(quantised, spec, normalisation)
    assert content == attach_front_end(pack(quantised), spec, normalisation)
    model = onnx.load_from_string(content)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert opset_of(content) == opset
    constants = {tensor.name for tensor in model.graph.initializer}
    decoders = [node for node in model.graph.node if constants.issuperset(node.input)]
    assert decoders
    assert not any(node.name for node in decoders), "names are for layers"
    assert not model.graph.value_info
    assert len({tensor.name for tensor in model.graph.initializer}) == len(model.graph.initializer)
    wanted = expected(network, images, spec, normalisation)
    got = probabilities(open_session(content), images)
    assert np.abs(got - wanted).max() < (0.03 if bits[0] == 8 else 0.4)
    assert np.abs(got - wanted).mean() < (0.005 if bits[0] == 8 else 0.06)


def test_an_operator_that_cannot_be_exported_is_refused_in_one_line_with_its_layer(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Bessel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x).flatten(1)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.Sequential(nn.Conv2d(1, 1, 1), Bessel())

        def forward(self, x: Tensor) -> Tensor:
            return self.parts(x)  # type: ignore[no-any-return]

    message = r"^the network cannot be exported at layer 'parts\.1': [^\n]*bessel_j0[^\n]*write special_bessel_j0 with"
    with pytest.raises(UnsupportedError, match=message):
        export_body(Whole(), (1, 2, 2))
    assert capfd.readouterr() == ("", ""), "the exporter keeps its graph to itself"
