"""Stages: which part of a network a layer lies in, by its path or by the name of an exported node."""

from __future__ import annotations

import onnx
import pytest
from foreign_networks import resnet18, tiny_mobilenet, tiny_resnet
from small_networks import SPACES, sampled_network
from torch import Tensor, nn

from nas.compress.export import export_body
from nas.compress.layers import weighted_layers
from nas.compress.stages import check_stages, parts_of, path_of_node, stage_of
from nas.errors import UnsupportedError

SHAPE = (2, 16, 12)


@pytest.mark.parametrize(
    ("path", "stages", "stage"),
    [
        ("features.stage2.0.body.3", ["stage2"], "stage2"),
        ("features.stage2.0.body.3", ["stage1", "stage2", "head"], "stage2"),
        ("features.stage2.0.body.3", ["stage2", "stage2.0"], "stage2.0"),  # the longest
        ("features.stage2.0.body.3", ["features.stage2.0.body", "stage2.0.body.3"], "stage2.0.body.3"),
        ("features.stage2.0.body.3", ["features", "body", "stage2"], "stage2"),
        ("features.stage2.0.body.3", ["features"], "features"),
        ("features.stage2.0.body.3", ["body", "0", "body.3"], None),  # not at the start
        ("layer1.0.conv1", ["layer1.0"], "layer1.0"),
        ("layer1.0.conv1", ["layer1.1", "layer1"], "layer1"),
        ("layer1.0.conv1", ["conv1"], None),
        ("conv1", ["conv1"], "conv1"),
        ("classifier", ["classifier"], "classifier"),
        ("features.stage2.0", ["stage", "tage2", "stage20", "stage2.1", "features.0"], None),
        ("features.stage12.0", ["stage1", "stage2"], None),
        ("features.3.conv", ["features.3", "features"], "features.3"),
        ("0.1.0", ["0", "1"], "0"),
        ("0.1.0", ["0.1", "0"], "0.1"),
        ("", ["stage2"], None),
        ("features.stage2.0", [], None),
    ],
)
def test_stage_of(path: str, stages: list[str], stage: str | None) -> None:
    assert stage_of(path, stages) == stage
    assert stage_of(path, set(stages)) == stage
    assert stage_of(path, stages[::-1]) == stage, "whatever their order"


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ("/model/features/stage1/stage1.0/Conv", "features.stage1.0"),
        ("/model/classifier/Gemm", "classifier"),
        ("/model/features/stage1/stage1.0/body/body.6/gate/gate.1/Conv", "features.stage1.0.body.6.gate.1"),
        ("/model/features/stage1/stage1.1/Add", "features.stage1.1"),
        ("/model/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/model/layer1/layer1.0/relu_1/Relu", "layer1.0.relu_1"),
        ("/model/layers.1/Conv", "layers.1"),  # of a ModuleList, which is not called itself
        ("/model/model/conv1/Conv", "model.conv1"),  # a network with a part called model
        ("/model/model.1/model.1.0/model.1.0.0/Conv", "1.0.0"),  # an nn.Sequential
        ("/model/a/a/Conv", "a.a"),
        ("/model/stage1/stage10/Conv", "stage1.stage10"),
        ("/model/ReduceMean", ""),
        ("/Softmax", ""),
        ("Identity_20", ""),
        ("", ""),
    ],
)
def test_path_of_node(node: str, path: str) -> None:
    assert path_of_node(node) == path


def node_paths(network: nn.Module, shape: tuple[int, int, int]) -> set[str]:
    nodes = onnx.load_from_string(export_body(network, shape)).graph.node
    return {path_of_node(node.name) for node in nodes if node.op_type in ("Conv", "Gemm")}


class Nested(nn.Module):
    """Lists, and sequences in sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(2, 8, 1), nn.Sequential(nn.Conv2d(8, 2, 1)))] * 1)
        self.lists = nn.ModuleList([nn.ModuleList([nn.Conv2d(2, 2, 1)])])
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(2 * SHAPE[1] * SHAPE[2], 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.lists[0][0](self.blocks[0](x)))  # type: ignore[index, no-any-return, operator]


NETWORKS = {
    **{space: lambda space=space: sampled_network(space, SHAPE, seed=3) for space in sorted(SPACES)},
    "resnet18-style": lambda: tiny_resnet(channels=2).eval(),
    "mobilenetv2-style": lambda: tiny_mobilenet(channels=2).eval(),
    "sequential": lambda: nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 8, 3)), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(8, 7)
    ),
    "nested": Nested,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_nodes_lie_where_their_layers_do(name: str) -> None:
    network = NETWORKS[name]()
    assert node_paths(network, SHAPE) == weighted_layers(network).keys()


# --- what is offered


def test_a_stage_that_the_network_has_is_accepted() -> None:
    paths = weighted_layers(sampled_network("resnet", SHAPE))
    check_stages(["stem", "stage1", "stage1.0.body", "classifier"], paths)
    check_stages([], paths)


@pytest.mark.parametrize("stage", ["stage7", "layer1", "stag", "", "stage1.9"])
def test_a_stage_that_the_network_lacks_is_named_with_what_there_is(stage: str) -> None:
    paths = ["features.stem.0", "features.stage1.0", "features.stage1.3", "head.1", "classifier"]
    message = rf"unknown stage of the network '{stage}'.* valid: classifier, features, head, head.1, stage1, stem"
    with pytest.raises(UnsupportedError, match=message) as error:
        check_stages(["stem", stage], paths)
    assert f"give '{stage}.…' a when" in error.value.hint


def test_the_closest_stage_is_suggested() -> None:
    with pytest.raises(UnsupportedError, match=r"did you mean 'layer2'\?"):
        check_stages(["layer22"], weighted_layers(resnet18(10, width=8)))


def test_parts_are_named_as_short_as_they_are_known_by() -> None:
    assert parts_of(["features.stem.0", "features.stage1.0", "classifier"]) == (
        "features", "stem", "stage1", "classifier",
    )  # fmt: skip
    assert parts_of(["layer1.0.conv1", "layer1.1.conv1", "fc"]) == ("layer1", "layer1.0", "layer1.1", "fc")
    assert parts_of(["features.0", "features.18.0", "classifier.1"]) == (
        "features", "features.0", "features.18", "classifier", "classifier.1",
    )  # fmt: skip
    assert parts_of(["0.0", "1"]) == ("0", "0.0", "1")
    for paths in (["features.stem.0", "features.stage1.0"], ["layer1.0.conv1", "fc"], ["0.0", "1"], [""]):
        check_stages(parts_of(paths), paths)
