"""Pruning: how many channels stay, in which layers, and that what stays is a smaller network of its own."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch
from small_networks import SPACES, sampled_network
from torch import Tensor, nn

from nas.compress.prune import Pruned, channels_to_keep, prune, replay
from nas.errors import UnsupportedError

SHAPE = (2, 16, 12)
RATIOS = (0.25, 0.5, 0.75)
CLASSES = 40  # enough of them to be pruned away, were they not spared


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    with torch.no_grad():
        return model(torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)))


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


# --- how many


@pytest.mark.parametrize(
    ("width", "ratio", "kept"),
    [
        (128, 0.5, 64),
        (96, 0.25, 72),
        (48, 0.25, 32),  # 36, as near to 32 as to 40: the even multiple
        (48, 0.5, 24),
        (48, 0.75, 16),  # 12, likewise
        (32, 0.25, 24),
        (32, 0.75, 8),
        (40, 0.75, 16),  # 8 were nearest, but a quarter is 10
        (72, 0.75, 24),
        (64, 0.95, 16),  # a quarter stays
        (64, 0.01, 64),
        (36, 0.05, 32),
        (24, 0.25, 16),  # 18 of 16 and 20
        (24, 0.5, 12),
        (24, 0.75, 8),
        (16, 0.5, 8),
        (16, 0.75, 8),
        (10, 0.5, 8),
        (8, 0.5, 8),
        (5, 0.75, 5),
        (1, 0.9, 1),
    ],
)
def test_channels_to_keep(width: int, ratio: float, kept: int) -> None:
    assert channels_to_keep(width, ratio) == kept


def test_channels_to_keep_obey_their_rules_for_every_width() -> None:
    ratios = [step / 20 for step in range(20)]
    for width in range(1, 400):
        keeps = [channels_to_keep(width, ratio) for ratio in ratios]
        assert keeps[0] == width
        assert keeps == sorted(keeps, reverse=True)
        multiple = 8 if width >= 32 else 4
        for ratio, kept in zip(ratios[1:], keeps[1:], strict=True):
            assert min(width, max(8, math.ceil(width / 4))) <= kept <= width
            assert kept % multiple == 0 or kept == width
            floor = max(8, multiple * math.ceil(width / 4 / multiple))
            assert abs(kept - width * (1 - ratio)) <= multiple / 2 + 1e-9 or kept in (floor, width)


# --- every family


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("space", sorted(SPACES))
def test_every_layer_has_the_promised_width_and_the_network_runs(space: str, ratio: float) -> None:
    network = sampled_network(space, SHAPE, CLASSES)
    before = copy.deepcopy(network)
    pruned = prune(network, ratio, SHAPE)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert pruned.widths.keys() == layers.keys()
    for name, (old, new) in pruned.widths.items():
        assert old == layers[name].weight.shape[0]
        assert new == pruned.model.get_submodule(name).weight.shape[0]  # type: ignore[union-attr, index]
        assert new == (old if name == "classifier" else channels_to_keep(old, ratio)), name
    assert any(new < old for old, new in pruned.widths.values())
    assert run(pruned.model).shape == (3, CLASSES)
    assert torch.isfinite(run(pruned.model)).all()
    assert not pruned.model.training
    # The original is as it was.
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), before.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("space", sorted(SPACES))
def test_replaying_the_history_gives_the_same_network(space: str) -> None:
    network = sampled_network(space, SHAPE, CLASSES)
    pruned = prune(network, 0.5, SHAPE)
    history = json.loads(json.dumps(pruned.history))
    again = replay(network, history, SHAPE)
    assert shapes(again) == shapes(pruned.model)
    assert torch.equal(run(again), run(pruned.model))
    for tensor in pruned.model.state_dict().values():  # training goes on: other weights, same shapes
        if tensor.is_floating_point():
            tensor.mul_(1.5)
    again.load_state_dict(pruned.model.state_dict())
    assert torch.equal(run(again), run(pruned.model))


@pytest.mark.parametrize("space", sorted(SPACES))
def test_a_ratio_of_zero_changes_nothing(space: str) -> None:
    network = sampled_network(space, SHAPE, CLASSES)
    pruned = prune(network, 0.0, SHAPE)
    assert pruned.history == []
    assert all(old == new for old, new in pruned.widths.values())
    assert torch.equal(run(pruned.model), run(network))


@pytest.mark.parametrize("space", sorted(SPACES))
def test_the_same_weights_lose_the_same_channels(space: str) -> None:
    network = sampled_network(space, SHAPE, CLASSES)
    first, second = (prune(copy.deepcopy(network), 0.5, SHAPE) for _ in range(2))
    assert first.history == second.history
    assert torch.equal(run(first.model), run(second.model))
    last = prune(copy.deepcopy(network).to(memory_format=torch.channels_last), 0.5, SHAPE)
    assert last.history == first.history


def test_frozen_parameters_are_pruned_too_and_stay_frozen_in_the_original() -> None:
    network = sampled_network("convnet", SHAPE)
    expected = prune(network, 0.5, SHAPE)
    network.requires_grad_(False)
    pruned = prune(network, 0.5, SHAPE)
    assert pruned.history == expected.history
    assert any(new < old for old, new in pruned.widths.values())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in pruned.model.parameters()), "it is to be trained on"


# --- which channels


class Plain(nn.Module):
    """Two convolutions and a classifier."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.classifier = nn.Linear(width, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.classifier(torch.relu(self.second(x)).mean((2, 3)))


def plain(seed: int = 0) -> Plain:
    torch.manual_seed(seed)
    return Plain().eval()


def test_channels_that_do_nothing_go_and_the_outputs_stay() -> None:
    model, rng = plain(), np.random.default_rng(0)
    dead = {name: sorted(rng.choice(32, 16, replace=False).tolist()) for name in ("first", "second")}
    with torch.no_grad():
        for name, after in (("first", model.second), ("second", model.classifier)):
            layer = getattr(model, name)
            layer.weight[dead[name]] = 0
            layer.bias[dead[name]] = 0
            after.weight[:, dead[name]] = 0
        model.norm.weight[dead["first"]] = 0
    pruned = prune(model, 0.5, SHAPE)
    assert pruned.widths["first"] == pruned.widths["second"] == [32, 16]
    torch.testing.assert_close(run(pruned.model), run(model), rtol=1e-5, atol=1e-6)
    removed = {name: sorted(indices) for name, _, indices in pruned.history}
    assert removed == dead


def test_the_weakest_channels_go() -> None:
    """Channels whose weights are scaled down, before and after, are the ones that lose."""
    model = plain()
    weak = [1, 2, 5, 8, 13, 21, 30, 31]
    with torch.no_grad():
        model.second.weight[weak] *= 0.01
        model.classifier.weight[:, weak] *= 0.01
    pruned = prune(model, 0.25, SHAPE)
    removed = {name: sorted(indices) for name, _, indices in pruned.history}
    assert removed["second"] == weak


def test_layers_that_are_added_lose_the_same_channels() -> None:
    class Residual(Plain):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.norm(self.first(x)))
            return self.classifier((x + self.second(x)).mean((2, 3)))

    torch.manual_seed(0)
    model = Residual().eval()
    pruned = prune(model, 0.5, SHAPE)
    assert pruned.widths["first"] == pruned.widths["second"] == [32, 16]
    rows = [
        [int((model.first.weight == row).flatten(1).all(1).nonzero()) for row in pruned.model.first.weight],
        [int((model.second.bias == bias).nonzero()) for bias in pruned.model.second.bias],
    ]
    assert rows[0] == rows[1]


# --- what cannot be pruned


class Counting(Plain):
    """Relies on its number of channels."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.classifier(torch.relu(self.second(x)).reshape(-1, 32, SHAPE[1] * SHAPE[2]).mean(2))


class Detached(Plain):
    """Leaves autograd's graph after its first layer."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.from_numpy(np.maximum(self.first(x).detach().numpy(), 0))
        return self.classifier(self.second(x).mean((2, 3)))


class Raising(Plain):
    """Its forward raises for the traced input, over two lines."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no zeros,\n  please")


def test_a_network_that_would_not_run_afterwards_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"does not run after pruning: .*set pruning_ratio to 0"):
        prune(Counting().eval(), 0.5, SHAPE)


def test_layers_before_a_cut_in_the_graph_stay_and_the_widths_say_so() -> None:
    pruned = prune(Detached().eval(), 0.5, SHAPE)
    assert pruned.widths == {"first": [32, 32], "second": [32, 16], "classifier": [7, 7]}
    assert run(pruned.model).shape == (3, 7)


def test_a_network_that_cannot_be_traced_is_refused_in_one_line() -> None:
    with pytest.raises(UnsupportedError, match="cannot be traced for pruning: no zeros, please"):
        prune(Raising().eval(), 0.5, SHAPE)


def test_pruned_says_what_was_removed() -> None:
    pruned = prune(plain(), 0.5, SHAPE)
    assert isinstance(pruned, Pruned)
    assert {name for name, _, _ in pruned.history} == {"first", "second"}
    assert all(is_output and len(indices) == 16 for _, is_output, indices in pruned.history)
