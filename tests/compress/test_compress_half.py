"""Half precision: float16 in the file, node by node, and the probabilities as float32 gives them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from quantised_networks import SHAPE, artifact_of, initializers, node_names, outputs, quantise, staged_body
from small_networks import sampled_network
from torch import Tensor, nn

from nas.compress.bits.body import weighted
from nas.compress.bits.half import compute_in_half, halve_weights
from nas.compress.export import export_body
from nas.errors import UnsupportedError


def value_types(body: bytes) -> dict[str, int]:
    """The type of each value, as ONNX infers it."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(body), strict_mode=True).graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}


@pytest.mark.parametrize(("space", "seed"), [("convnet", 0), ("mlp", 0), ("mobilenet", 1), ("resnet", 0)])
def test_every_network_computes_in_half_as_in_full_precision(space: str, seed: int) -> None:
    body = export_body(sampled_network(space, SHAPE, seed=seed), SHAPE)
    half = compute_in_half(body, node_names(body))
    onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
    types, graph = value_types(half), onnx.load_from_string(half).graph
    casts = [node for node in graph.node if node.op_type == "Cast"]
    assert len(casts) == 2, "the image becomes float16, the logits float32"
    assert not [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT]
    computed = [node for node in graph.node if node.op_type not in ("Cast", "Softmax", "Constant")]
    assert {types[name] for node in computed for name in node.output if name in types} <= {
        TensorProto.FLOAT16,
        TensorProto.INT64,
    }
    assert types[graph.input[0].name] == types[graph.output[0].name] == TensorProto.FLOAT
    wanted, got = outputs(artifact_of(body)), outputs(artifact_of(half))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, atol=5e-3)
    np.testing.assert_allclose(got.sum(1), 1, rtol=1e-5, err_msg="the softmax is not rounded")


@pytest.mark.parametrize("what", [halve_weights, compute_in_half])
def test_the_file_is_half_the_size(what: object) -> None:
    assert callable(what)
    body = export_body(sampled_network("convnet-small", SHAPE), SHAPE)
    plain, half = len(artifact_of(body)), len(artifact_of(what(body, node_names(body))))
    assert 0.5 * plain < half < 0.5 * plain + 2000


def test_halved_weights_are_cast_back_and_all_else_stays() -> None:
    body = staged_body()
    half = halve_weights(body, node_names(body))
    arrays, floats = initializers(half), initializers(body)
    for name, (node, tensor) in weighted(onnx.load_from_string(body).graph).items():
        assert name == node.name
        np.testing.assert_array_equal(arrays[f"{tensor.name}_float16"], floats[tensor.name].astype(np.float16))
        assert tensor.name not in arrays
        np.testing.assert_array_equal(arrays[node.input[2]], floats[node.input[2]])
    types = value_types(half)
    assert {types[output] for node in onnx.load_from_string(half).graph.node for output in node.output} == {
        TensorProto.FLOAT
    }
    np.testing.assert_allclose(outputs(artifact_of(half)), outputs(artifact_of(body)), atol=5e-3)


@pytest.mark.parametrize("stage", ["stem", "stage1", "stage2", "classifier"])
def test_one_stage_alone(stage: str) -> None:
    """Casts stand where values come into the stage and where they leave it, each once."""
    body = staged_body()
    chosen = [name for name in node_names(body) if f"/{stage}/" in name]
    half = compute_in_half(body, chosen)
    onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
    types, graph = value_types(half), onnx.load_from_string(half).graph
    for node in graph.node:
        if node.op_type != "Cast":
            wanted = TensorProto.FLOAT16 if node.name in chosen else TensorProto.FLOAT
            assert {types[name] for name in node.output} == {wanted}, node.name
    assert [node.op_type for node in graph.node].count("Cast") == 2
    np.testing.assert_allclose(outputs(artifact_of(half)), outputs(artifact_of(body)), atol=5e-3)


@pytest.mark.parametrize("stage", ["stem", "stage1", "stage2", "classifier"])
def test_a_half_stage_among_quantised_ones(stage: str) -> None:
    body = staged_body()
    mixed = quantise(body, {stage: (16, 16), "": (8, 8)})
    onnx.checker.check_model(onnx.load_from_string(mixed), full_check=True)
    halves = [array for array in initializers(mixed).values() if array.dtype == np.float16]
    assert len(halves) == 2, "weight and bias of the stage's one layer"
    np.testing.assert_allclose(outputs(artifact_of(mixed)), outputs(artifact_of(body)), atol=0.05)


def test_operators_without_a_form_in_half_stay_float() -> None:
    class Resized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.classifier = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.interpolate(self.conv(x), scale_factor=2, mode="nearest")
            return self.classifier(torch.cat([x, x * 2], 3).clamp(0, 6).mean((2, 3)))

    torch.manual_seed(0)
    body = export_body(Resized().eval(), SHAPE)
    half = compute_in_half(body, node_names(body))
    onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
    [resize] = [node for node in onnx.load_from_string(half).graph.node if node.op_type == "Resize"]
    arrays = initializers(half)
    assert all(arrays[name].dtype == np.float32 for name in resize.input if name in arrays), "scales are no activations"
    np.testing.assert_allclose(outputs(artifact_of(half)), outputs(artifact_of(body)), atol=5e-3)


def test_no_nodes_no_change() -> None:
    assert compute_in_half(staged_body(), []) is staged_body()
    assert halve_weights(staged_body(), []) is staged_body()


@pytest.mark.parametrize("what", [halve_weights, compute_in_half])
def test_weights_beyond_half_precision_are_refused(what: object) -> None:
    assert callable(what)
    network = sampled_network("mlp", SHAPE)
    with torch.no_grad():
        network.classifier.weight[0, 0] = 1e6  # type: ignore[union-attr, operator, index]
    body = export_body(network, SHAPE)
    with pytest.raises(
        UnsupportedError,
        match=r"^layer 'classifier' has values beyond ±65504, which float16 cannot hold \(give it full precision: "
        r"'classifier.weight_bits': 32\)$",
    ):
        what(body, node_names(body))
