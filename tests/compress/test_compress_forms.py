"""The symmetric form: what TensorRT wants, of the same network with the same choices; tried on ONNX Runtime's CPU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from quantised_networks import GREY, PIXELS, SHAPE, artifact_of, initializers, make_pixels, staged_body
from small_networks import ONE_THREAD, make_design

from nas.artifact import InputSpec, open_session, probabilities
from nas.compress.bits.fused import round_after_activation
from nas.compress.codebook import cluster
from nas.compress.forms import Form, symmetric, symmetric_config
from nas.compress.graph.network import GraphNetwork
from nas.compress.packed_indices import store
from nas.compress.technique import Tools
from nas.compression import BITS
from nas.design import Design, Value
from nas.errors import UnsupportedError
from nas.recipe_sections import TrainingConfig
from nas.train import TrainingData

# Largest difference of a probability from the float network's, by bits of weights.
LOST = {32: 1e-6, 16: 1e-3, 8: 0.03, 4: 0.2}


def make_tools() -> Tools:
    images = make_pixels(32)
    labels = np.arange(32) % 5
    data = TrainingData.from_arrays(images, labels, 5, "NHWC", GREY, "cpu")
    training = TrainingConfig(batch_size=16)
    return Tools(
        data, SHAPE, training, epochs=1, numerics=ONE_THREAD, seed=0, pixels=(1 / 71.3, 119), reduce_range=True
    )


def staged_design(compression: Mapping[str, Value]) -> Design:
    return replace(make_design(), compression=dict(compression))


def made(compression: Mapping[str, Value], body: bytes | None = None, spec: InputSpec = PIXELS) -> Form:
    return symmetric(body or staged_body(), staged_design(compression), make_tools(), spec)


def outputs(artifact: bytes) -> np.ndarray:
    return probabilities(open_session(artifact), make_pixels())


def graph_of(form: Form) -> onnx.GraphProto:
    return onnx.load_from_string(form.artifact).graph


def operators(graph: onnx.GraphProto) -> list[str]:
    return [node.op_type for node in graph.node]


POSSIBLE = [bits for bits in BITS if bits[1] != 16]


@pytest.mark.parametrize("bits", POSSIBLE, ids=str)
def test_it_is_close_to_the_float_network(bits: tuple[int, int]) -> None:
    form = made({"weight_bits": bits[0], "activation_bits": bits[1]})
    onnx.checker.check_model(form.artifact, full_check=True)
    difference = np.abs(outputs(form.artifact) - outputs(artifact_of(staged_body()))).max()
    assert difference < LOST[bits[0]]
    assert bits == (32, 32) or difference > 0


def test_integers_are_symmetric_and_nothing_else_is_quantised() -> None:
    """Weights by channel, activations as a whole, all int8 around 0; biases are floats."""
    graph = graph_of(made({"weight_bits": 8, "activation_bits": 8}))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    conversions = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(conversions) > 8
    for node in conversions:
        scale, zero = tensors[node.input[1]], tensors[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
        assert (scale > 0).all()
        assert scale.size == (len(tensors[node.input[0]]) if node.input[0] in tensors else 1)
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 4
    for node in layers:
        assert makers[node.input[0]].op_type == makers[node.input[1]].op_type == "DequantizeLinear"
        assert tensors[makers[node.input[1]].input[0]].dtype == np.int8
        assert tensors[node.input[2]].dtype == np.float32
    assert "AveragePool" in operators(graph), "the convolution in its place is for ONNX Runtime"


def test_pixels_become_floats_before_anything_is_done_to_them() -> None:
    """TensorRT has no arithmetic on uint8."""
    for compression in ({}, {"weight_bits": 8, "activation_bits": 8}):
        graph = graph_of(made(compression))
        assert graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
        [first] = [node for node in graph.node if graph.input[0].name in node.input]
        assert first.op_type == "Cast"
        data = [op for op in operators(graph) if op in ("Cast", "Transpose", "Sub", "Mul", "Conv")]
        assert data[:5] == ["Cast", "Transpose", "Sub", "Mul", "Conv"]
        assert TensorProto.UINT8 not in [tensor.data_type for tensor in graph.initializer]


def test_floats_that_come_in_are_normalised_only() -> None:
    spec = InputSpec("float32", SHAPE, "NCHW")
    form = made({"weight_bits": 8, "activation_bits": 8}, spec=spec)
    assert operators(graph_of(form))[:2] == ["Sub", "Mul"]
    pixels = np.ascontiguousarray(make_pixels().transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(
        probabilities(open_session(form.artifact), pixels),
        outputs(made({"weight_bits": 8, "activation_bits": 8}).artifact),
        atol=1e-6,
    )


def test_a_layer_its_activation_and_the_rounding_are_left_in_one_piece() -> None:
    graph = graph_of(made({"weight_bits": 8, "activation_bits": 8}))
    makers = {output: node for node in graph.node for output in node.output}
    activations = [node for node in graph.node if node.op_type == "Relu"]
    assert [makers[node.input[0]].op_type for node in activations] == ["Conv", "Conv", "Add"]
    for node in activations:
        assert {reader.op_type for reader in graph.node if node.output[0] in reader.input} == {"QuantizeLinear"}


def test_the_same_design_gives_the_same_file() -> None:
    compression: dict[str, Value] = {"weight_bits": 8, "activation_bits": 8, "calibration": "percentile"}
    assert made(compression).artifact == made(compression).artifact
    assert made(compression).artifact != made({"weight_bits": 8, "activation_bits": 8}).artifact


def test_whether_the_cpus_products_saturate_has_no_part_in_it() -> None:
    tools = make_tools()
    design = staged_design({"weight_bits": 8, "activation_bits": 8})
    one, other = (
        symmetric(staged_body(), design, replace(tools, reduce_range=reduced, pixels=None), PIXELS).artifact
        for reduced in (False, True)
    )
    assert one == other
    assert max(np.abs(each.astype(int)).max() for each in initializers(one).values() if each.dtype == np.int8) == 127


def test_training_on_the_grid_stays_on_it() -> None:
    compression: dict[str, Value] = {"weight_bits": 8, "activation_bits": 8}
    threads = torch.get_num_threads()
    trained = made(compression | {"quantisation_aware": True})
    torch.set_num_threads(threads)
    plain = made(compression)
    assert len(trained.detail["curve"]) == 1
    assert plain.detail == {}
    assert len(trained.artifact) == len(plain.artifact)
    assert trained.artifact != plain.artifact
    assert operators(graph_of(trained)) == operators(graph_of(plain))


def test_stages_have_bits_of_their_own() -> None:
    form = made({"weight_bits": 8, "activation_bits": 8, "stage2.weight_bits": 32, "stage2.activation_bits": 32})
    graph = graph_of(form)
    makers = {output: node for node in graph.node for output in node.output}
    quantised = {
        node.name: node.input[1] in makers and makers[node.input[1]].op_type == "DequantizeLinear"
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    }
    assert [name for name, runs in quantised.items() if not runs] == ["/model/stage2/stage2.0/Conv"]
    assert len(quantised) == 4
    assert "Max" not in operators(graph), "what keeps ONNX Runtime from quantising by itself"


# --- what is said of what runs otherwise


@pytest.mark.parametrize(
    ("compression", "said"),
    [
        ({}, []),
        ({"weight_bits": 8, "activation_bits": 8}, []),
        (
            {"weight_bits": 4, "activation_bits": 8},
            ["stored in 4 bits, which saves size; TensorRT .* as int8"],
        ),
        ({"weight_bits": 16}, ["stored in 16 bits, which saves size; TensorRT's arithmetic is float"]),
        ({"stage1.weight_bits": 4}, ["stage1: weights are stored in 4 bits, which saves size; TensorRT's"]),
    ],
    ids=str,
)
def test_notes_name_what_tensorrt_does_not_do(compression: dict[str, Value], said: list[str]) -> None:
    notes = made(compression).notes
    assert len(notes) == len(said)
    assert all(re.search(pattern, note) for pattern, note in zip(said, notes, strict=True))


def test_shared_weights_come_as_they_are_stored() -> None:
    weights = GraphNetwork(staged_body()).weights
    shared = {name: cluster(initializers(staged_body())[name], 4, 0) for name in weights}
    body = store(staged_body(), shared, 4)
    form = made({"weight_sharing": "kmeans", "codebook_bits": 4}, body)
    np.testing.assert_allclose(outputs(form.artifact), outputs(artifact_of(body)), atol=1e-6)
    assert len(form.artifact) < 0.5 * len(made({}).artifact)
    assert form.notes == ("TensorRT computes with shared weights as floats: they save size, not time",)


# --- what is refused


@pytest.mark.parametrize(
    ("compression", "said", "hint"),
    [
        (
            {"weight_bits": 8, "activation_bits": 16},
            "no integer activations of 16 bits, but activation_",
            "8",
        ),
        (
            {"weight_bits": 4, "activation_bits": 16},
            "no integer activations of 16 bits, but activation_",
            "8",
        ),
        (
            {"weight_bits": 16, "activation_bits": 16},
            "float16 is chosen by the target, not by activation_",
            "fp16",
        ),
        (
            {"weight_bits": 8, "activation_bits": 8, "stage1.activation_bits": 16},
            r"but stage1\.activation_bits is 16",
            "stage1.activation_bits 8",
        ),
    ],
    ids=str,
)
def test_what_tensorrt_cannot_do_is_refused_before_anything_is_made(
    compression: dict[str, Value], said: str, hint: str
) -> None:
    design = staged_design(compression)
    with pytest.raises(UnsupportedError, match=said) as caught:
        symmetric_config(design)
    assert hint in caught.value.hint
    with pytest.raises(UnsupportedError, match=said):
        symmetric(b"never read", design, make_tools(), PIXELS)


def test_floats_have_no_config() -> None:
    assert symmetric_config(staged_design({})) is None
    config = symmetric_config(staged_design({"weight_bits": 8, "activation_bits": 8}))
    assert config is not None
    assert (config.weight_bits, config.activation_bits) == (8, 8)


# --- the rounding before an activation function


def graph_with(nodes: list[onnx.NodeProto], outputs: list[str]) -> onnx.GraphProto:
    scale, zero = np.float32(0.1), np.int8(0)
    return helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.array(scale), "s"), numpy_helper.from_array(np.array(zero), "z")],
    )


def rounded(source: str, result: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [source, "s", "z"], [f"{result}_q"]),
        helper.make_node("DequantizeLinear", [f"{result}_q", "s", "z"], [result]),
    ]


@pytest.mark.parametrize("function", ["Relu", "Clip"])
def test_one_rounding_before_a_function_goes(function: str) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["y"]),
        *rounded("y", "r"),
        helper.make_node(function, ["r"], ["f"]),
        *rounded("f", "out"),
        helper.make_node("Neg", ["out"], ["end"]),
    ]
    graph = graph_with(nodes, ["end"])
    round_after_activation(graph)
    assert operators(graph) == ["Neg", function, "QuantizeLinear", "DequantizeLinear", "Neg"]
    assert graph.node[1].input[0] == "y"


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([helper.make_node("Neg", ["x"], ["y"]), *rounded("y", "r"), helper.make_node("Sigmoid", ["r"], ["f"])], ["f"]),
        (
            [
                helper.make_node("Neg", ["x"], ["y"]),
                *rounded("y", "r"),
                helper.make_node("Relu", ["r"], ["f"]),
                helper.make_node("Add", ["f", "r"], ["g"]),
            ],
            ["g"],
        ),
        (
            [
                helper.make_node("Neg", ["x"], ["y"]),
                *rounded("y", "r"),
                helper.make_node("Relu", ["r"], ["f"]),
                helper.make_node("Add", ["f", "y"], ["g"]),
            ],
            ["g"],
        ),
        (
            [helper.make_node("Neg", ["x"], ["y"]), *rounded("y", "r"), helper.make_node("Relu", ["r"], ["f"])],
            ["f", "r"],
        ),
        ([*rounded("x", "r"), helper.make_node("Relu", ["r"], ["f"])], ["f"]),
    ],
    ids=["another function", "the rounded value is used", "the exact value is used", "a result", "the input itself"],
)
def test_roundings_that_others_see_stay(nodes: list[onnx.NodeProto], outputs: list[str]) -> None:
    graph = graph_with(nodes, outputs)
    before = graph.SerializeToString()
    round_after_activation(graph)
    assert graph.SerializeToString() == before
