"""Sparsity: which weights become zero, that they stay zero, and that nobody takes it for speed."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from foreign_networks import tiny_mobilenet, tiny_resnet
from onnx import numpy_helper
from small_networks import ARCHITECTURES, ONE_THREAD, digits, make_design, make_recipe, training_data, with_statistics
from torch import Tensor, nn

from nas.compress.export import export_body
from nas.compress.finetune import Finetune, FinetuneConfig
from nas.compress.layers import weighted_layers
from nas.compress.sparsify import Sparsify, SparsifyConfig, hold_zeros, zero_smallest
from nas.compress.technique import Tools
from nas.families import build
from nas.outcome import Realisation

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_tools(epochs: int = 1) -> Tools:
    return Tools(training_data(digits()), SHAPE, make_recipe().training, epochs, ONE_THREAD, seed=0)


FOREIGN = {"resnet18-style": tiny_resnet, "mobilenetv2-style": tiny_mobilenet}


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = FOREIGN[name]() if name in FOREIGN else build(name, ARCHITECTURES[name], SHAPE, 10)
    return with_statistics(network)


def zeros(layer: nn.Module) -> int:
    return int((layer.weight == 0).sum())


# --- which


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0, -1.0, 2.0, -4.0], 0.5, [3.0, 0.0, 0.0, -4.0]),
        ([3.0, -1.0, 2.0, -4.0], 0.25, [3.0, 0.0, 2.0, -4.0]),
        ([3.0, -1.0, 2.0, -4.0], 0.49, [3.0, 0.0, 2.0, -4.0]),  # never more than asked for
        ([3.0, -1.0, 2.0, -4.0], 0.99, [0.0, 0.0, 0.0, -4.0]),  # and never all
        ([1.0, -1.0, 1.0, -1.0], 0.5, [0.0, 0.0, 1.0, -1.0]),  # of equals the first ones
        ([0.0, 5.0, 0.0, 4.0], 0.5, [0.0, 5.0, 0.0, 4.0]),
        ([2.0], 0.9, [2.0]),
    ],
)
def test_the_smallest_become_zero(values: list[float], share: float, expected: list[float]) -> None:
    weight = nn.Parameter(torch.tensor(values))
    zero_smallest(weight, share)
    assert weight.tolist() == expected


@pytest.mark.parametrize("percent", range(0, 100, 7))
def test_so_many_become_zero(percent: int) -> None:
    weight = torch.randn(4, 5, 5, generator=torch.Generator().manual_seed(0))
    before = weight.clone()
    zero_smallest(weight, percent / 100)
    assert int((weight == 0).sum()) == percent
    kept = weight != 0
    assert torch.equal(weight[kept], before[kept])
    assert before[~kept].abs().max() <= before[kept].abs().min() if percent else kept.all()


def test_the_memory_layout_does_not_decide_among_equals() -> None:
    weight = torch.ones(2, 3, 2, 2)
    channels_last = weight.clone().to(memory_format=torch.channels_last)
    zero_smallest(weight, 0.3)
    zero_smallest(channels_last, 0.3)
    assert torch.equal(weight, channels_last)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", [*ARCHITECTURES, *FOREIGN])
def test_every_layer_but_the_last_has_its_share(name: str, share: float) -> None:
    network = network_of(name)
    before = copy.deepcopy(network.state_dict())
    sparse, detail = Sparsify().apply(network, SparsifyConfig(share), make_tools())
    layers = weighted_layers(sparse)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items()), "the given one stays"
    last = list(layers)[-1]
    assert last in ("classifier", "fc", "classifier.1")
    for path, layer in layers.items():
        expected = 0 if path == last else int(share * layer.weight.numel() + 1e-9)
        assert zeros(layer) == expected, path
        assert detail["zeros"][path] == [expected, layer.weight.numel()]
    for key, value in sparse.state_dict().items():  # nothing else changed
        assert torch.equal(value[value != 0], before[key][value != 0]), key
        if key.removesuffix(".weight") not in layers:
            assert torch.equal(value, before[key]), key
    assert not sparse.training
    again, other = Sparsify().apply(network_of(name), SparsifyConfig(share), make_tools())
    assert other == detail == json.loads(json.dumps(detail))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), sparse.parameters(), strict=True))


# --- that they stay


def test_zeros_are_put_back_after_each_step() -> None:
    network = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    with torch.no_grad():
        network[0].weight[1:4] = 0
        network[1].weight[0] = 0  # a batch norm's are nobody's business
    restore = hold_zeros(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    moved = network[0].weight.detach().clone()
    restore()
    assert zeros(network[0]) == 18
    assert torch.equal(network[0].weight[4:], moved[4:])
    assert network[1].weight[0] == 1
    assert zeros(network[2]) == 0


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_fine_tuning_keeps_the_zeros_and_moves_the_rest(family: str) -> None:
    tools = make_tools()
    sparse, detail = Sparsify().apply(network_of(family), SparsifyConfig(0.8), tools)
    tuned, _ = Finetune().apply(sparse, FinetuneConfig(distils=False, sparse=True), tools)
    for (path, before), after in zip(weighted_layers(sparse).items(), weighted_layers(tuned).values(), strict=True):
        assert torch.equal(after.weight == 0, before.weight == 0), path
        assert not torch.equal(after.weight, before.weight)
    moved, _ = Finetune().apply(sparse, FinetuneConfig(distils=False), tools)
    left = sum(zeros(layer) for layer in weighted_layers(moved).values())
    assert left < 0.2 * sum(pair[0] for pair in detail["zeros"].values()), "without being held most are gone"


def test_the_exported_file_holds_the_zeros() -> None:
    sparse, detail = Sparsify().apply(network_of("resnet"), SparsifyConfig(0.75), make_tools())
    graph = onnx.load_from_string(export_body(sparse, SHAPE)).graph
    stored = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    found = sum(int((array == 0).sum()) for array in stored if array.ndim >= 2)
    assert found == sum(pair[0] for pair in detail["zeros"].values()) > 1000


@pytest.mark.parametrize("bits", [4, 8])
def test_a_symmetric_grid_keeps_zeros(bits: int) -> None:
    weight = torch.randn(64, generator=torch.Generator().manual_seed(0))
    zero_smallest(weight, 0.5)
    step = float(weight.abs().max()) / (2 ** (bits - 1) - 1)
    assert int((np.round(weight.numpy() / step) * step == 0).sum()) >= 32


# --- what is asked and what is said


def test_a_design_asks_for_it() -> None:
    assert Sparsify().config(make_design(sparsity=0.0)) is None
    assert Sparsify().config(make_design()) is None
    assert Sparsify().config(make_design(sparsity=0.6)) == SparsifyConfig(0.6)
    assert not Sparsify().trains(SparsifyConfig(0.6))


@pytest.mark.parametrize(
    ("compression", "config"),
    [
        ({}, None),
        ({"sparsity": 0.5}, FinetuneConfig(False, sparse=True)),
        ({"sparsity": 0.5, "pruning_ratio": 0.5, "pruning_steps": 3}, FinetuneConfig(False, 3, True)),
        ({"pruning_ratio": 0.5}, FinetuneConfig(False)),
        ({"stage1.pruning_ratio": 0.5, "pruning_steps": 2}, FinetuneConfig(False, 2)),
        ({"distillation": True}, FinetuneConfig(True)),
        ({"pruning_ratio": 0.0, "pruning_steps": 3, "sparsity": 0.5}, FinetuneConfig(False, 1, True)),
    ],
)
def test_fine_tuning_follows(compression: dict[str, Any], config: FinetuneConfig | None) -> None:
    assert Finetune().config(make_design(**compression)) == config


def test_it_is_called_simulated_with_the_share_that_is_really_zero() -> None:
    account = Sparsify().account(SparsifyConfig(0.5), {"zeros": {"a": [50, 100], "classifier": [0, 100]}})
    assert account.labels == {"sparsity": Realisation.SIMULATED}
    (note,) = account.notes
    assert note.startswith("25.0 % of the weights of convolutions and linear layers are zero")
    assert "saves no time" in note


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.only(x.flatten(1))  # type: ignore[no-any-return]


def test_without_effect_it_is_called_unsupported() -> None:
    network = OneLayer()
    sparse, detail = Sparsify().apply(network, SparsifyConfig(0.5), make_tools())
    assert torch.equal(sparse.only.weight, network.only.weight)
    account = Sparsify().account(SparsifyConfig(0.5), detail)
    assert account.labels == {"sparsity": Realisation.UNSUPPORTED}
    assert "set no weight to zero" in account.notes[0]
