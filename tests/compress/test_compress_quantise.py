"""Quantisation: accurate, in the bits that the design says, and called what the runtime really makes of it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from quantised_networks import GREY, SHAPE, artifact_of, edited, quantise
from small_networks import ARCHITECTURES, ONE_THREAD, digits, make_design, sampled_network, training_data

from nas.artifact import open_session, probabilities
from nas.compress.bits.inspect_graph import INTEGER_KERNELS, inspect
from nas.compress.export import attach_front_end, export_body, input_quantisation
from nas.compress.quantise import Quantise, QuantiseConfig, StageBits
from nas.compress.technique import Tools
from nas.compression import BITS
from nas.data.dataset import Dataset
from nas.design import Value
from nas.errors import UnsupportedError
from nas.families import build
from nas.outcome import Realisation
from nas.recipe_sections import TrainingConfig
from nas.train import TrainingData, seeded, train

REALISED, SIMULATED, UNSUPPORTED = Realisation.REALISED, Realisation.SIMULATED, Realisation.UNSUPPORTED
# What may lie between uint8 pixels and the first integer kernel: nothing that computes.
MOVES = {"Transpose", "Flatten", "Reshape"}
# Of weights in so many bits, how much accuracy may go on networks of this size without any training for it.
LOST = {16: 0.005, 8: 0.03, 4: 0.15}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Trained:
    """A float network as a pipeline would hand it to the technique."""

    body: bytes
    dataset: Dataset
    tools: Tools

    def artifact(self, body: bytes) -> bytes:
        return attach_front_end(body, self.dataset.input, self.tools.data.normalisation)

    def outputs(self, body: bytes) -> np.ndarray:
        """Of the artifact that a body becomes, on validation digits."""
        return probabilities(open_session(self.artifact(body)), self.dataset.validation.images)

    def accuracy(self, body: bytes) -> float:
        return float((self.outputs(body).argmax(1) == self.dataset.validation.labels).mean())

    def quantised(self, reduce_range: bool = False, **compression: Value) -> bytes:
        config = Quantise().config(make_design(**compression))
        assert config is not None
        return Quantise().apply(self.body, config, replace(self.tools, reduce_range=reduce_range))[0]

    def account(self, **compression: Value) -> tuple[dict[str, Realisation], tuple[str, ...]]:
        config = Quantise().config(make_design(**compression))
        assert config is not None
        body, detail = Quantise().apply(self.body, config, self.tools)
        account = Quantise().account(config, detail, self.artifact(body))
        return dict(account.labels), account.notes


@functools.cache
def trained(family: str) -> Trained:
    dataset = digits(600)
    data: TrainingData = training_data(dataset)
    config = TrainingConfig(batch_size=50, learning_rate=6e-3)
    with seeded(0, 1) as generator:
        model = build(family, ARCHITECTURES[family], (1, 8, 8), 10)
        train(model, data, config, ONE_THREAD, 8, config.learning_rate, generator)
    pixels = input_quantisation(data.normalisation)
    tools = Tools(data, (1, 8, 8), config, epochs=2, numerics=ONE_THREAD, seed=0, pixels=pixels)
    return Trained(export_body(model, (1, 8, 8)), dataset, tools)


# --- accuracy, on networks that were trained


@pytest.mark.parametrize("bits", [bits for bits in BITS if bits != (32, 32)], ids=str)
@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_every_family_in_every_bits_is_close_to_the_float_network(family: str, bits: tuple[int, int]) -> None:
    network = trained(family)
    float_accuracy = network.accuracy(network.body)
    assert float_accuracy > 0.85
    body = network.quantised(weight_bits=bits[0], activation_bits=bits[1])
    assert len(network.artifact(body)) < 0.85 * len(network.artifact(network.body))
    assert network.accuracy(body) > float_accuracy - LOST[bits[0]]
    kernels = {layer.precision for layer in inspect(network.artifact(body)).layers}
    assert kernels <= ({"int8"} if bits[1] == 8 else {"float32", "float16"} if bits == (16, 16) else {"float32"})
    difference = np.abs(network.outputs(body) - network.outputs(network.body)).mean()
    assert difference < {16: 5e-4, 8: 0.01, 4: 0.05}[bits[0]]


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_7_bits_where_products_saturate_are_nearly_as_good(family: str) -> None:
    network = trained(family)
    body = network.quantised(reduce_range=True, weight_bits=8, activation_bits=8)
    assert body != network.quantised(weight_bits=8, activation_bits=8)
    assert network.accuracy(body) > network.accuracy(network.body) - 0.04


@pytest.mark.parametrize("compression", [{"weight_bits": 4}, {"weight_bits": 4, "activation_bits": 8}], ids=str)
def test_training_on_the_grid_brings_4_bits_closer_and_stays_on_it(compression: dict[str, Value]) -> None:
    network = trained("convnet")
    before = network.quantised(**compression)
    after = network.quantised(quantisation_aware=True, **compression)

    def loss(body: bytes) -> float:
        right = network.outputs(body)[
            np.arange(len(network.dataset.validation.labels)), network.dataset.validation.labels
        ]
        return float(-np.log(right + 1e-6).mean())

    assert loss(after) < loss(before)
    assert len(network.artifact(after)) == len(network.artifact(before)), "the same form, other integers"
    weights = [
        numpy_helper.to_array(tensor)
        for tensor in onnx.load_from_string(after).graph.initializer
        if tensor.name.endswith("_int4")
    ]
    assert len(weights) == 3
    assert all(np.abs(tensor.astype(int)).max() <= 7 for tensor in weights)


def test_stages_of_half_precision_are_halved_after_training() -> None:
    """Half precision has no grid to train on, so training sees these stages as floats."""
    network = trained("convnet")
    own: dict[str, Value] = {"classifier.weight_bits": 16, "classifier.activation_bits": 16}
    body = network.quantised(weight_bits=4, activation_bits=8, quantisation_aware=True, **own)
    arrays = [numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(body).graph.initializer]
    assert sorted(array.shape for array in arrays if array.dtype == np.float16) == [(10,), (10, 512)]
    assert body != network.quantised(weight_bits=4, activation_bits=8, **own)
    assert network.accuracy(body) > network.accuracy(network.body) - 0.05


def test_the_curve_of_training_is_kept() -> None:
    network = trained("mlp")
    config = QuantiseConfig(8, 8, aware=True)
    _, detail = Quantise().apply(network.body, config, network.tools)
    assert len(detail["curve"]) == 2
    assert Quantise().trains(config)
    assert not Quantise().trains(QuantiseConfig(8, 8))
    assert Quantise().apply(network.body, QuantiseConfig(8, 8), network.tools)[1] == {}


def test_calibrations_give_different_files_of_the_same_accuracy() -> None:
    network = trained("mobilenet")
    bodies = [
        network.quantised(weight_bits=8, activation_bits=8, calibration=name) for name in ("minmax", "percentile")
    ]
    assert bodies[0] != bodies[1]
    for body in bodies:
        assert network.accuracy(body) > network.accuracy(network.body) - 0.03


def test_the_probabilities_are_not_rounded_to_8_bits() -> None:
    network = trained("convnet")
    for bits in ((8, 8), (16, 16)):
        result = network.outputs(network.quantised(weight_bits=bits[0], activation_bits=bits[1]))
        assert len(np.unique(result)) > 300
        np.testing.assert_allclose(result.sum(1), 1, rtol=1e-5)


# --- what runs


@pytest.mark.parametrize("space", ["convnet", "mlp", "mobilenet", "resnet"])
def test_what_is_left_in_floats_is_little(space: str) -> None:
    """Probabilities, the gates' and hard-swish's sigmoid, average pooling of pixels."""
    artifact = artifact_of(quantise(export_body(sampled_network(space, SHAPE), SHAPE), (8, 8)))
    operators = inspect(artifact).operators
    rest = {name for name in operators if "Q" not in name and name not in MOVES | {"DequantizeLinear", "NhwcMaxPool"}}
    assert rest <= {"Softmax", "HardSigmoid", "AveragePool"}
    assert "AveragePool" not in rest or space == "mlp"
    assert "QLinearAveragePool" not in operators, "slower than the convolution that it is turned into"


@pytest.mark.parametrize(
    ("space", "highest"), [("convnet", 255), ("convnet", 40), ("mlp", 40), ("mobilenet", 40), ("resnet", 40)]
)
def test_pixels_go_into_the_first_integer_kernel_as_they_are(space: str, highest: int, tmp_path: object) -> None:
    """Also where calibration saw a part of the range of pixels only."""
    artifact = artifact_of(quantise(export_body(sampled_network(space, SHAPE), SHAPE), (8, 8), highest=highest))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{tmp_path}/optimised.onnx"
    options.log_severity_level = 3
    onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
    *before, first = up_to_first_weights(onnx.load(options.optimized_model_filepath).graph)
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


def up_to_first_weights(graph: onnx.GraphProto) -> list[str]:
    """Operators from the input on to the first convolution or linear layer, which ends the list."""
    name, operators = graph.input[0].name, []
    while True:
        [node] = [node for node in graph.node if name in node.input]
        operators.append(node.op_type)
        if len(node.input) > 1 and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return operators
        name = node.output[0]


# --- labels


@pytest.mark.parametrize(
    ("bits", "labels", "said"),
    [
        ((8, 8), (REALISED, REALISED), "3 of 3 layers run in int8 in ONNX Runtime (1 QGemm, 2 QLinearConv)"),
        (
            (4, 8),
            (SIMULATED, REALISED),
            "3 of 3 layers run in int8 in ONNX Runtime (1 QGemm, 2 QLinearConv); weights are stored in 4 bits, "
            "which saves size",
        ),
        ((8, 32), (SIMULATED,), "weights are stored in 8 bits, which saves size; the arithmetic is float32"),
        ((4, 32), (SIMULATED,), "weights are stored in 4 bits, which saves size; the arithmetic is float32"),
        ((16, 32), (SIMULATED,), "weights are stored in 16 bits, which saves size; the arithmetic is float32"),
        (
            (8, 16),
            (SIMULATED, SIMULATED),
            "weights are stored in 8 bits, which saves size; activations are rounded to 16 bits, "
            "the arithmetic is float32",
        ),
    ],
)
def test_labels_and_notes_say_what_really_runs(
    bits: tuple[int, int], labels: tuple[Realisation, ...], said: str
) -> None:
    found, notes = trained("convnet").account(weight_bits=bits[0], activation_bits=bits[1])
    assert found == dict(zip(("weight_bits", "activation_bits"), labels, strict=False))
    assert notes == (said,)


def test_half_precision_is_realised_only_by_kernels_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained("convnet")
    runs = inspect(network.artifact(network.quantised(weight_bits=16, activation_bits=16)))
    for precision, label, said in (
        ("float32", SIMULATED, "weights are stored in 16 bits, which saves size; the arithmetic is float32"),
        ("float16", REALISED, "3 of 3 layers run in float16"),
    ):
        layers = tuple(replace(layer, precision=precision) for layer in runs.layers)
        monkeypatch.setattr("nas.compress.quantise.inspect", lambda _, layers=layers: replace(runs, layers=layers))
        labels, notes = network.account(weight_bits=16, activation_bits=16)
        assert set(labels.values()) == {label}
        assert notes == (said,)


def test_one_layer_that_does_not_run_as_asked_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained("convnet")
    runs = inspect(network.artifact(network.quantised(weight_bits=8, activation_bits=8)))
    layers = (*runs.layers[:-1], replace(runs.layers[-1], precision="float32"))
    monkeypatch.setattr("nas.compress.quantise.inspect", lambda _: replace(runs, layers=layers))
    labels, [note] = network.account(weight_bits=8, activation_bits=8)
    assert set(labels.values()) == {SIMULATED}
    assert note.startswith("2 of 3 layers run in int8")


def test_what_the_runtime_refuses_is_unsupported() -> None:
    config = Quantise().config(make_design(**{"weight_bits": 8, "activation_bits": 8, "stem.weight_bits": 4}))
    assert config is not None
    account = Quantise().account(config, {}, b"no model")
    assert account.labels == dict.fromkeys(("weight_bits", "activation_bits", "stem.weight_bits"), UNSUPPORTED)
    assert account.notes[0].startswith("ONNX Runtime cannot load the model")


def test_calibration_and_training_are_labelled_where_they_did_something() -> None:
    design: dict[str, Value] = {"weight_bits": 8, "activation_bits": 8, "calibration": "entropy"}
    labels, _ = trained("mlp").account(**design, quantisation_aware=True)
    assert labels["calibration"] is labels["quantisation_aware"] is REALISED
    labels, _ = trained("mlp").account(weight_bits=16, activation_bits=16, calibration="entropy")
    assert "calibration" not in labels, "there was nothing to calibrate"


@pytest.mark.parametrize(
    ("compression", "labels", "notes"),
    [
        (
            {"weight_bits": 8, "activation_bits": 8, "stem.weight_bits": 32, "stem.activation_bits": 32},
            dict.fromkeys(("weight_bits", "activation_bits", "stem.weight_bits", "stem.activation_bits"), REALISED),
            ("2 of 2 layers run in int8 in ONNX Runtime (1 QGemm, 1 QLinearConv)",),
        ),
        (
            {"stage1.weight_bits": 4},
            {"stage1.weight_bits": SIMULATED},
            ("stage1: weights are stored in 4 bits, which saves size; the arithmetic is float32",),
        ),
        (
            {"weight_bits": 8, "activation_bits": 8, "stage1.weight_bits": 4},
            {"weight_bits": REALISED, "activation_bits": REALISED, "stage1.weight_bits": SIMULATED},
            (
                "2 of 2 layers run in int8 in ONNX Runtime (1 QGemm, 1 QLinearConv)",
                "stage1: 1 of 1 layers run in int8 in ONNX Runtime (1 QLinearConv); weights are stored in 4 bits, "
                "which saves size",
            ),
        ),
        (
            {"weight_bits": 8, "activation_bits": 8, "classifier.weight_bits": 16, "classifier.activation_bits": 16},
            {
                "weight_bits": REALISED,
                "activation_bits": REALISED,
                "classifier.weight_bits": SIMULATED,
                "classifier.activation_bits": SIMULATED,
            },
            (
                "2 of 2 layers run in int8 in ONNX Runtime (2 QLinearConv)",
                "classifier: weights are stored in 16 bits, which saves size; the arithmetic is float32",
            ),
        ),
    ],
)
def test_stages_have_labels_of_their_own(
    compression: dict[str, Value], labels: dict[str, Realisation], notes: tuple[str, ...]
) -> None:
    network = trained("convnet")
    assert network.account(**compression) == (labels, notes)
    assert network.accuracy(network.quantised(**compression)) > network.accuracy(network.body) - LOST[4]


# --- the config


@pytest.mark.parametrize(
    ("compression", "config"),
    [
        ({}, None),
        ({"weight_bits": 32, "activation_bits": 32, "stem.weight_bits": 32}, None),
        ({"pruning_ratio": 0.5, "stage1.pruning_ratio": 0.0}, None),
        ({"weight_bits": 8}, QuantiseConfig(8, 32)),
        ({"stem.weight_bits": 4}, QuantiseConfig(32, 32, (StageBits("stem", 4, None),))),
        (
            {"weight_bits": 8, "activation_bits": 8, "calibration": "entropy", "stem.activation_bits": 16},
            QuantiseConfig(8, 8, (StageBits("stem", None, 16),), "entropy"),
        ),
        # Nothing is calibrated, so the results are the same and the key should be.
        ({"weight_bits": 16, "activation_bits": 16, "calibration": "entropy"}, QuantiseConfig(16, 16)),
        (
            {"stem.weight_bits": 8, "quantisation_aware": True},
            QuantiseConfig(32, 32, (StageBits("stem", 8, None),), aware=True),
        ),
    ],
)
def test_a_design_gives_the_config(compression: dict[str, Value], config: QuantiseConfig | None) -> None:
    assert Quantise().config(make_design(**compression)) == config


def test_a_stage_follows_the_network_where_it_has_no_value_of_its_own() -> None:
    config = QuantiseConfig(8, 16, (StageBits("stem", 4, None), StageBits("stage1", None, 32)))
    assert [config.bits(stage) for stage in (None, "stem", "stage1")] == [(8, 16), (4, 16), (8, 32)]
    body = trained("convnet").body
    bits = config.of_nodes(body)
    assert bits["/model/features/stem/stem.0/Conv"] == (4, 16)
    assert bits["/model/features/stage1/stage1.2/Relu"] == (8, 32)
    assert bits["/model/classifier/Gemm"] == (8, 16)


@pytest.mark.parametrize("bits", [(32, 32), (16, 32), (16, 16)])
def test_training_needs_a_grid(bits: tuple[int, int]) -> None:
    compression: dict[str, Any] = {"weight_bits": bits[0], "activation_bits": bits[1], "quantisation_aware": True}
    if bits == (32, 32):
        assert Quantise().config(make_design(**compression)) is None, "refused by the rules of compression"
        return
    with pytest.raises(UnsupportedError, match=r"all weights have 16 or 32 \(give quantisation_aware when: \{weight_"):
        Quantise().config(make_design(**compression))


def test_the_key_knows_how_it_was_calibrated() -> None:
    tools = trained("mlp").tools
    looked_at = Quantise().looked_at(tools)
    assert looked_at != Quantise().looked_at(replace(tools, reduce_range=True))
    assert looked_at["images"] == 256


# --- errors


def test_a_stage_that_the_network_lacks_is_named_with_those_that_it_has() -> None:
    with pytest.raises(UnsupportedError, match=r"unknown stage of the network 'stage7'.*valid: .*stage1.*stem"):
        trained("convnet").quantised(**{"stage7.weight_bits": 8})


def test_calibration_images_of_another_shape_are_refused() -> None:
    network = trained("mlp")
    wider = replace(network.tools)
    wider.__dict__["calibration"] = np.zeros((4, 1, 9, 9), np.float32)
    with pytest.raises(UnsupportedError, match=r"calibration images are 1×9×9 .* the network takes 1×8×8"):
        Quantise().apply(network.body, QuantiseConfig(8, 8), wider)
    assert Quantise().apply(network.body, QuantiseConfig(8, 32), wider)[0], "weights alone need none"


def test_an_operator_that_the_runtime_lacks_is_named_with_the_remedy() -> None:
    def unknown(graph: onnx.GraphProto) -> None:
        [relu] = [node for node in graph.node if node.name == "/model/head/head.1/Relu"]
        relu.op_type, relu.domain = "Rectify", "com.nobody"

    body = edited(trained("mlp").body, unknown)
    with pytest.raises(
        UnsupportedError,
        match=r"^ONNX Runtime cannot run the network in these bits at layer 'head.1': [^\n]*Rectify[^\n]* "
        r"\(give it full precision: 'head.1.weight_bits': 32 and 'head.1.activation_bits': 32\)$",
    ):
        Quantise().apply(body, QuantiseConfig(8, 32), trained("mlp").tools)


def test_a_runtime_that_dies_of_a_network_does_not_take_the_search_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained("mlp")
    assert Quantise().apply(network.body, QuantiseConfig(16, 16), network.tools)[0]
    monkeypatch.setattr("nas.compress.quantise.LOAD", "import os; os.abort()")
    with pytest.raises(UnsupportedError, match=r"^ONNX Runtime crashes .* in float16 \(set activation_bits to 32: "):
        Quantise().apply(network.body, QuantiseConfig(16, 16), network.tools)
    assert Quantise().apply(network.body, QuantiseConfig(16, 32), network.tools)[0], "no risk, nothing to wait for"
