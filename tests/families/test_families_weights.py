"""Weights that a network inherits from another one: what they have in common, and nothing else."""

from __future__ import annotations

import pytest
import torch
from small_networks import ARCHITECTURES, with_statistics
from torch import Tensor, nn

from nas.design import Value
from nas.families import build
from nas.families.weights import inherit_weights


def network(family: str = "convnet", seed: int = 0, **architecture: Value) -> nn.Module:
    torch.manual_seed(seed)
    return with_statistics(build(family, ARCHITECTURES[family] | architecture, (1, 8, 8), 10))


def after(network: nn.Module, other: nn.Module) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """The share inherited, and the network's state before and after."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    share = inherit_weights(network, other.state_dict())
    return share, before, network.state_dict()


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_a_network_of_the_same_architecture_is_inherited_whole(family: str) -> None:
    one, other = network(family, 1), network(family, 2)
    share, _, found = after(one, other)
    assert share == 1
    assert all(torch.equal(found[name], tensor) for name, tensor in other.state_dict().items())
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one(images), other(images))


@pytest.mark.parametrize(("wide", "narrow"), [(48, 32), (32, 48)])
def test_a_wider_and_a_narrower_network_share_the_first_channels(wide: int, narrow: int) -> None:
    one, other = network(seed=1, **{"stage1.width": wide}), network(seed=2, **{"stage1.width": narrow})
    share, before, found = after(one, other)
    given, common = other.state_dict(), min(wide, narrow)
    name = "features.stage1.0.weight"
    assert torch.equal(found[name][:common], given[name][:common])
    assert torch.equal(found[name][common:], before[name][common:])
    for statistic in ("running_mean", "running_var", "weight", "bias"):
        name = f"features.stage1.1.{statistic}"
        assert torch.equal(found[name], torch.cat([given[name][:common], before[name][common:]]))
    counts = {key: tensor.numel() for key, tensor in one.named_parameters()}
    taken = sum(
        min(counts[key], tensor.numel()) for key, tensor in other.named_parameters()
    )  # in every tensor one of the two is a part of the other
    assert share == pytest.approx(taken / sum(counts.values()))


def test_a_small_kernel_lies_in_the_middle_of_a_large_one() -> None:
    one, other = network(seed=1, **{"stage1.kernel": 5}), network(seed=2)
    name = "features.stage1.0.weight"
    _, before, found = after(one, other)
    assert torch.equal(found[name][:, :, 1:4, 1:4], other.state_dict()[name])
    rim = torch.ones(5, 5, dtype=torch.bool)
    rim[1:4, 1:4] = False
    assert torch.equal(found[name][:, :, rim], before[name][:, :, rim])
    one, other = network(seed=1), network(seed=2, **{"stage1.kernel": 5})
    _, _, found = after(one, other)
    assert torch.equal(found[name], other.state_dict()[name][:, :, 1:4, 1:4])


def test_a_deeper_network_keeps_what_only_it_has() -> None:
    one, other = network(seed=1, **{"stage1.depth": 2}), network(seed=2)
    share, before, found = after(one, other)
    assert 0 < share < 1
    name = "features.stage1.3.weight"
    assert torch.equal(found[name], before[name])
    assert torch.equal(found["features.stage1.0.weight"], other.state_dict()["features.stage1.0.weight"])


def test_depthwise_and_full_kernels_do_not_inherit_from_each_other() -> None:
    one, other = network(seed=1, **{"stage1.conv": "separable"}), network(seed=2)
    name = "features.stage1.0.weight"
    _, before, found = after(one, other)
    assert torch.equal(found[name], before[name])
    assert torch.equal(found["features.stem.0.weight"], other.state_dict()["features.stem.0.weight"])


def test_counters_other_ranks_and_unknown_names_are_left_alone() -> None:
    layer = nn.BatchNorm2d(2)
    state = {"weight": torch.tensor(3.0), "num_batches_tracked": torch.tensor(9), "other": torch.ones(2)}
    assert inherit_weights(layer, state) == 0
    assert layer.weight.tolist() == [1, 1]
    assert int(layer.num_batches_tracked) == 0
    assert inherit_weights(nn.Flatten(), {}) == 0
