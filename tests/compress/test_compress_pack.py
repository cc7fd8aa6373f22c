"""The stored form: as many bytes as the bits say, loaded by stock ONNX Runtime as the same function, at its speed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from integer_products import exact_integers
from onnx import TensorProto, helper
from onnx_models import make_model
from quantised_networks import (
    GREY,
    PIXELS,
    SHAPE,
    artifact_of,
    edited,
    initializers,
    outputs,
    quantise,
    staged_body,
)
from small_networks import ARCHITECTURES
from torch import nn

from nas.artifact import open_session, probabilities
from nas.compress.bits.pack import FOUR_BIT, keep_floats_float, nibbles, pack, with_small_integers
from nas.compress.export import attach_front_end, export_body
from nas.errors import UnsupportedError
from nas.families import build

QUANTISED = [(8, 8), (8, 16), (8, 32), (4, 8), (4, 16), (4, 32)]


def optimised(artifact: bytes, folder: object) -> onnx.GraphProto:
    """The graph that ONNX Runtime makes of an artifact."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{folder}/optimised.onnx"
    options.log_severity_level = 3
    onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath).graph


def logits(body: bytes) -> np.ndarray:
    """What goes into the softmax of a body, on random normalised images: finer than probabilities."""

    def end_early(graph: onnx.GraphProto) -> None:
        graph.output[0].name = graph.node[-1].input[0]
        del graph.node[-1]

    session = open_session(edited(body, end_early))
    images = np.random.default_rng(0).normal(size=(32, *SHAPE)).astype(np.float32)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


# --- bytes


def test_two_integers_lie_in_a_byte_the_first_in_its_lower_half() -> None:
    assert nibbles(np.array([1, 2, -1, -8, 7], np.int8)) == bytes([0x21, 0x8F, 0x07])
    assert nibbles(np.zeros((3, 3), np.int8)) == bytes(5)


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (5, 3), (1, 1)])
def test_nibbles_are_onnxs_own_int4(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(-8, 8, shape).astype(np.int8)
    tensor = helper.make_tensor("w", TensorProto.INT4, shape, nibbles(values), raw=True)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor).astype(np.int8), values)


@pytest.mark.parametrize(("bits", "per_weight"), [((8, 8), 1), ((8, 32), 1), ((4, 8), 0.5), ((4, 32), 0.5)])
def test_weights_take_the_bytes_that_their_bits_say(bits: tuple[int, int], per_weight: float) -> None:
    body = staged_body()
    weights = sum(array.size for array in initializers(body).values() if array.ndim > 1)
    model = onnx.load_from_string(pack(quantise(body, bits)))
    kind = TensorProto.INT8 if bits[0] == 8 else TensorProto.INT4
    stored = [tensor for tensor in model.graph.initializer if tensor.data_type == kind and len(tensor.dims) > 1]
    window = 0 if bits[1] == 32 or bits[0] == 4 else 16 * 2 * 2  # average pooling as a convolution, always 8 bits
    assert sum(len(tensor.raw_data) for tensor in stored) == weights * per_weight + window
    assert not [tensor for tensor in model.graph.initializer if tensor.data_type == 1 and np.prod(tensor.dims) > 100]


def test_a_network_of_some_size_takes_an_eighth_and_a_quarter_of_its_float_file() -> None:
    torch.manual_seed(0)
    architecture = ARCHITECTURES["convnet"] | {"stem.width": 64, "stage1.width": 128, "head.hidden": 64}
    body = export_body(build("convnet", architecture, SHAPE, 7).eval(), SHAPE)
    plain = len(artifact_of(body))
    for bits, share in (((8, 8), 0.25), ((8, 32), 0.25), ((4, 8), 0.125), ((4, 32), 0.125)):
        size = len(artifact_of(quantise(body, bits)))
        assert share * plain < size < share * plain + 8000, bits


def test_equal_constants_are_stored_once() -> None:
    body = quantise(staged_body(), (8, 8))
    arrays = list(initializers(pack(body)).values())
    spellings = {(array.dtype, array.shape, array.tobytes()) for array in arrays}
    assert len(spellings) == len(arrays) < len(initializers(body))


# --- the same function


@pytest.mark.parametrize("bits", QUANTISED)
def test_the_stored_form_computes_what_the_canonical_does(bits: tuple[int, int]) -> None:
    """Exactly where the runtime computes in integers, up to the order of roundings where it has floats."""
    body = quantise(staged_body(), bits)
    stored = pack(body)
    assert stored != body
    exact = bits[1] != 32
    np.testing.assert_allclose(logits(stored), logits(body), rtol=0, atol=0 if exact else 2e-5)


@pytest.mark.parametrize(
    "mix",
    [
        {"stage1": (32, 32), "": (8, 8)},
        {"stage1": (8, 32), "": (4, 8)},
        {"stage2": (4, 8), "": (8, 32)},
        {"stem": (4, 16), "stage2": (16, 16), "": (8, 8)},
        {"stem": (16, 32), "": (4, 8)},
        {"classifier": (32, 32), "": (4, 32)},
    ],
    ids=str,
)
def test_mixed_stages_compute_what_their_canonical_form_does_unoptimised(mix: dict[str, tuple[int, int]]) -> None:
    """The reference is the canonical body run without optimisation, node by node as it is written."""
    body = quantise(staged_body(), mix)
    session = onnxruntime.SessionOptions()
    session.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = onnxruntime.InferenceSession(body, session, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).normal(size=(32, *SHAPE)).astype(np.float32)
    [wanted] = reference.run(None, {reference.get_inputs()[0].name: images})
    got = probabilities(open_session(edited(pack(body), keep_floats_float)), images)
    # One step of an 8-bit activation may round the other way where floats are summed in another order.
    assert np.abs(got - wanted).max() < 0.02
    assert np.abs(got - wanted).mean() < 0.002


# --- at its speed


@pytest.mark.parametrize("bits", [(8, 32), (4, 32), (16, 32)])
def test_weights_alone_leave_the_graph_of_the_float_file_once_loaded(bits: tuple[int, int], tmp_path: object) -> None:
    body = staged_body()
    plain, small = (optimised(artifact_of(each), tmp_path) for each in (body, quantise(body, bits)))
    operators = [Counter((node.domain, node.op_type) for node in graph.node) for graph in (plain, small)]
    assert operators[0] == operators[1], "no Cast or Mul of weights is left"


def test_4_bits_leave_the_graph_of_8_once_loaded(tmp_path: object) -> None:
    eight, four = (optimised(artifact_of(quantise(staged_body(), (bits, 8))), tmp_path) for bits in (8, 4))
    operators = [Counter((node.domain, node.op_type) for node in graph.node) for graph in (eight, four)]
    assert operators[0] == operators[1]
    assert operators[1]["com.microsoft", "QLinearConv"] == 4


@pytest.mark.parametrize(("stage", "bits"), [("stage2", (32, 32)), ("stage2", (16, 32)), ("stem", (32, 32))])
def test_a_float_stage_between_quantised_ones_stays_float(stage: str, bits: tuple[int, int], tmp_path: object) -> None:
    """Left to itself ONNX Runtime rounds its weights to 8 bits, with one scale for all of them."""
    artifact = artifact_of(quantise(staged_body(), {stage: bits, "": (8, 8)}))
    kernels = Counter(node.op_type for node in optimised(artifact, tmp_path).node)
    assert kernels["Conv"] == 1
    assert kernels["QLinearConv"] == 3
    hiding = [node for node in onnx.load_from_string(artifact).graph.node if node.op_type == "Max"]
    assert len(hiding) == 1

    def uncover(graph: onnx.GraphProto) -> None:
        for position, node in enumerate(graph.node):
            if node.op_type == "Max":
                graph.node[position + 1].input[0] = node.input[0]
        graph.node.remove(next(node for node in graph.node if node.op_type == "Max"))

    exposed = Counter(node.op_type for node in optimised(edited(artifact, uncover), tmp_path).node)
    assert exposed["Conv"] == 0, "or the Max is no longer needed"


# --- the form of the file


@pytest.mark.parametrize(("bits", "opset"), [((8, 8), 17), ((8, 32), 17), ((16, 16), 17), ((4, 8), 21), ((8, 16), 21)])
def test_only_what_needs_a_later_opset_has_one(bits: tuple[int, int], opset: int) -> None:
    model = onnx.load_from_string(artifact_of(quantise(staged_body(), bits)))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version == (10 if opset == 21 else 8)
    onnx.checker.check_model(model, full_check=True)


def test_a_float_body_is_left_as_it_is() -> None:
    assert pack(staged_body()) is staged_body()


def test_a_stored_body_is_left_as_it_is() -> None:
    stored = pack(quantise(staged_body(), (4, 32)))
    assert pack(stored) is stored
    integers = pack(quantise(staged_body(), (4, 8)))
    assert outputs(attach_front_end(integers, PIXELS, GREY)).shape == (32, 5)
    assert not any(name.endswith(FOUR_BIT) for name in initializers(integers))


def test_an_operator_without_a_form_in_the_later_opset_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no adapter for /model/stage2/stage2.0/Conv")

    monkeypatch.setattr("nas.compress.bits.pack.version_converter.convert_version", refuse)
    with pytest.raises(
        UnsupportedError,
        match=r"^the network has no form in opset 21 at layer 'stage2.0': no adapter .*'stage2.0.weight_",
    ):
        pack(quantise(staged_body(), (4, 8)))


def test_a_model_in_a_later_opset_stays_there() -> None:
    node = helper.make_node("Relu", ["images"], ["probabilities"])
    for opset, after in ((17, 21), (21, 21), (22, 22)):
        model = with_small_integers(onnx.load_from_string(make_model([node], {}, ["batch", 3], opset=opset)))
        assert [entry.version for entry in model.opset_import if entry.domain == ""] == [after]


@exact_integers
def test_transposed_convolutions_and_groups_are_packed_too() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grouped = nn.Conv2d(3, 12, 3, groups=3)
            self.up = nn.ConvTranspose2d(12, 6, 2, stride=2, groups=2)
            self.classifier = nn.Linear(6, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(torch.relu(self.up(torch.relu(self.grouped(x)))).amax((2, 3)))

    torch.manual_seed(0)
    body = export_body(Decoder().eval(), SHAPE)
    for bits in QUANTISED:
        difference = np.abs(outputs(artifact_of(quantise(body, bits))) - outputs(artifact_of(body)))
        assert difference.max() < (0.02 if bits[0] == 8 else 0.2), bits
