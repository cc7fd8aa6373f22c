"""What ONNX Runtime runs: each layer's precision, found whatever the runtime made of its name."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnx_models import make_model
from quantised_networks import SHAPE, artifact_of, quantise, staged_body
from small_networks import sampled_network
from torch import nn

from nas.compress.bits.inspect_graph import FLOAT16, FLOAT32, INT8, UNKNOWN, LayerRun, inspect
from nas.compress.export import export_body
from nas.errors import ArtifactError

IN_INTEGERS = [(8, 8), (4, 8)]


def precisions(artifact: bytes) -> dict[str, str]:
    return {layer.name.rpartition("/")[0]: layer.precision for layer in inspect(artifact).layers}


@pytest.mark.parametrize(
    ("space", "bits"),
    [
        *itertools.product(["convnet", "mlp"], [(32, 32), (16, 16), (8, 8), (4, 16)]),
        *itertools.product(["mobilenet", "resnet"], [(32, 32), (8, 8)]),
    ],
)
def test_every_layer_of_every_network_is_found(space: str, bits: tuple[int, int]) -> None:
    network = sampled_network(space, SHAPE, seed=1)
    body = export_body(network, SHAPE)
    found = inspect(artifact_of(quantise(body, bits)))
    assert len(found.layers) == sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())
    assert all(layer.kernel for layer in found.layers)
    # This CPU has no kernels for float16; one that has may use them.
    wanted = {INT8} if bits in IN_INTEGERS else {FLOAT32, FLOAT16} if bits == (16, 16) else {FLOAT32}
    assert {layer.precision for layer in found.layers} <= wanted
    assert sum(found.operators.get(name, 0) for name in {layer.kernel for layer in found.layers}) >= len(found.layers)


@pytest.mark.parametrize(
    "mix",
    [
        {"stem": (32, 32), "": (8, 8)},
        {"stage2": (16, 32), "": (4, 8)},
        {"stage1": (16, 16), "": (8, 8)},
        {"classifier": (8, 16), "": (8, 8)},
        {"stage1": (4, 8), "": (32, 32)},
    ],
    ids=str,
)
def test_of_mixed_stages_each_layer_is_told_apart(mix: dict[str, tuple[int, int]]) -> None:
    found = precisions(artifact_of(quantise(staged_body(), mix)))
    for path, precision in found.items():
        stage = next((stage for stage in mix if stage and stage in path), "")
        assert precision == (INT8 if mix[stage] in IN_INTEGERS else FLOAT32), path
    assert len(found) == 4


def test_a_stage_of_float_activations_between_integers_may_run_in_integers() -> None:
    """Its weights are integers and so are the values that reach it: the arithmetic is the same."""
    found = precisions(artifact_of(quantise(staged_body(), {"stage2": (8, 32), "": (8, 8)})))
    assert found["/model/stage2/stage2.0"] == INT8


def test_operators_are_counted() -> None:
    found = inspect(artifact_of(quantise(staged_body(), (8, 8))))
    assert found.operators["QLinearConv"] == 4, "three layers and the pooling between them"
    assert [layer.kernel for layer in found.layers] == ["QLinearConv"] * 3 + ["QGemm"]
    assert list(found.operators) == sorted(found.operators)


def test_a_layer_whose_kernel_has_no_name_is_known_where_all_such_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.compress.bits import inspect_graph

    real = inspect_graph.optimised_graph

    def renamed(kinds: tuple[str, ...]) -> object:
        def optimised(artifact: bytes) -> onnx.GraphProto:
            graph = real(artifact)
            for number, node in enumerate(graph.node):
                node.name = f"made_up_{number}" if node.op_type in kinds else node.name
            return graph

        return optimised

    artifact = artifact_of(quantise(staged_body(), {"classifier": (32, 32), "": (8, 8)}))
    monkeypatch.setattr(inspect_graph, "optimised_graph", renamed(("QLinearConv",)))
    assert Counter(precisions(artifact).values()) == {INT8: 3, FLOAT32: 1}
    assert inspect(artifact).layers[0] == LayerRun("/model/stem/stem.0/Conv", "", INT8)
    monkeypatch.setattr(inspect_graph, "optimised_graph", renamed(("QLinearConv", "Gemm")))
    assert set(precisions(artifact).values()) == {UNKNOWN}


def test_float16_kernels_are_told_by_their_weights() -> None:
    from nas.compress.bits.inspect_graph import _precision

    node = helper.make_node("Conv", ["x", "w"], ["y"])
    assert _precision(node, {"w": onnx.TensorProto.FLOAT16}) == FLOAT16
    assert _precision(node, {"w": onnx.TensorProto.FLOAT}) == FLOAT32
    assert _precision(node, {}) == FLOAT32


def test_weights_in_blocks_run_in_integers_at_the_level_for_it() -> None:
    from nas.compress.bits.inspect_graph import _precision

    for level, precision in ((0, FLOAT32), (1, FLOAT32), (4, INT8)):
        node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], accuracy_level=level, bits=8)
        assert _precision(node, {}) == precision


def test_what_decodes_weights_is_no_layer() -> None:
    nodes = [
        helper.make_node("MatMul", ["left", "right"], ["weight"], "decode"),
        helper.make_node("Flatten", ["images"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"], "layer"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax"),
    ]
    arrays = {"left": np.ones((4, 2), np.float32), "right": np.ones((2, 3), np.float32)}
    found = inspect(make_model(nodes, arrays, ["batch", 4]))
    assert [(layer.name, layer.precision) for layer in found.layers] == [("layer", FLOAT32)]


def test_a_value_goes_back_to_one_layer_or_to_none() -> None:
    """The sum of two layers must not pass for the result of one of them."""
    from nas.compress.bits.inspect_graph import _Origins

    graph = onnx.load_from_string(staged_body()).graph
    origins = _Origins(graph)
    outputs = {node.name: node.output[0] for node in graph.node}
    assert origins.of("/model/stage2/stage2.0/Conv") == "/model/stage2/stage2.0/Conv"
    assert origins.of(outputs["/model/stage1/stage1.2/Relu"]) == "/model/stage1/stage1.0/Conv"
    assert origins.of(outputs["/model/stage1/stage1.3/AveragePool"]) == "/model/stage1/stage1.0/Conv"
    assert origins.of(outputs["/model/Add"]) is None
    assert origins.of("no such value") is None


def test_what_the_runtime_refuses_is_an_error_of_one_line() -> None:
    node = helper.make_node("Relu", ["images"], ["probabilities"], domain="nobody")
    with pytest.raises(ArtifactError, match=r"^ONNX Runtime cannot load the model: [^\n]+$"):
        inspect(make_model([node], {}, ["batch", 3]))


def test_a_recurrent_layer_is_a_layer_and_runs_in_floats() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.fc = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.lstm(x[:, 0])[0][:, -1])  # type: ignore[no-any-return]

    layers = inspect(export_body(Recurrent().eval(), (1, 8, 8))).layers
    assert [(layer.kernel, layer.precision) for layer in layers] == [("LSTM", FLOAT32), ("Gemm", FLOAT32)]
