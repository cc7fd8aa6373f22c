"""Pruning: how many channels stay, in which layers, and that what stays is a smaller network of its own."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from channel_networks import CLASSES, SHAPE, Residual, plain, run, shapes
from foreign_networks import tiny_resnet
from small_networks import (
    ONE_THREAD,
    SPACES,
    digits,
    make_design,
    make_recipe,
    sampled_network,
    training_data,
)
from torch import nn

from nas.compress.finetune import split_epochs
from nas.compress.prune import Prune, PruneConfig, Pruned, prune, replay
from nas.compress.stages import stage_of
from nas.compress.technique import Tools
from nas.compress.widths import channels_to_keep
from nas.compression import CHOICES, CRITERIA
from nas.errors import UnsupportedError
from nas.outcome import Realisation

RATIOS = (0.25, 0.5, 0.75)


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


@pytest.mark.parametrize(
    ("width", "ratio", "rounding", "kept"),
    [
        (64, 0.5, 1, 32),
        (64, 0.3, 1, 45),  # 44.8
        (64, 0.3, 2, 44),
        (64, 0.3, 4, 44),
        (64, 0.3, 8, 48),  # as near to 40: the even multiple
        (64, 0.3, 16, 48),
        (64, 0.3, 32, 48),  # under 128 channels multiples of 16
        (128, 0.3, 32, 96),
        (48, 0.5, 16, 24),  # under 64 multiples of 8
        (10, 0.9, 1, 3),  # a quarter, rounded up
        (6, 0.5, 1, 3),
        (6, 0.9, 1, 2),
        (3, 0.9, 1, 2),  # never a single one
        (1, 0.9, 1, 1),
        (12, 0.9, 2, 4),  # a quarter is 3
        (6, 0.9, 2, 2),  # under 8 channels multiples of 1
        (16, 0.9, 4, 4),
        (12, 0.9, 4, 4),
        (12, 0.9, 8, 8),
        (12, 0.9, 32, 12),
        (40, 0.9, 32, 16),
    ],
)
def test_channels_to_keep_with_another_rounding(width: int, ratio: float, rounding: int, kept: int) -> None:
    assert channels_to_keep(width, ratio, rounding) == kept


@pytest.mark.parametrize("rounding", [1, 2, 4, 8, 16, 32])
def test_every_rounding_keeps_its_rules(rounding: int) -> None:
    assert CHOICES["pruning_rounding"].legal(rounding)
    for width in range(1, 200):
        multiple = rounding if width >= 4 * rounding else max(1, rounding // 2)
        least = min(width, max(min(8, max(2, rounding)), math.ceil(width / 4)))
        keeps = [channels_to_keep(width, step / 20, rounding) for step in range(20)]
        assert keeps[0] == width
        assert keeps == sorted(keeps, reverse=True)
        assert all(least <= kept <= width and (kept % multiple == 0 or kept == width) for kept in keeps[1:])


def test_the_default_rounding_is_that_of_the_table_of_choices() -> None:
    assert all(
        channels_to_keep(w, 0.4) == channels_to_keep(w, 0.4, CHOICES["pruning_rounding"].identity) for w in range(1, 99)
    )
    assert PruneConfig(0.4).rounding == CHOICES["pruning_rounding"].identity


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
    torch.manual_seed(0)
    model = Residual().eval()
    pruned = prune(model, 0.5, SHAPE)
    assert pruned.widths["first"] == pruned.widths["second"] == [32, 16]
    rows = [
        [int((model.first.weight == row).flatten(1).all(1).nonzero()) for row in pruned.model.first.weight],
        [int((model.second.bias == bias).nonzero()) for bias in pruned.model.second.bias],
    ]
    assert rows[0] == rows[1]


# --- stages


@pytest.mark.parametrize("space", ["convnet", "mobilenet", "resnet", "mlp"])
def test_a_stages_ratio_changes_that_stages_widths_alone(space: str) -> None:
    network = sampled_network(space, SHAPE, CLASSES, seed=3)
    for stage in ("head",) if space == "mlp" else ("stem", "stage1", "stage1.0"):
        pruned = prune(network, 0.0, SHAPE, stages={stage: 0.5})
        changed = [name for name, (old, new) in pruned.widths.items() if new < old]
        assert all(stage_of(name, [stage]) for name in changed), (stage, changed)
        rest = prune(network, 0.5, SHAPE, stages={stage: 0.0})
        assert all(old == new for name, (old, new) in rest.widths.items() if stage_of(name, [stage])), stage
        assert run(pruned.model).shape == run(rest.model).shape == (3, CLASSES)


def test_each_stage_has_its_ratio_and_the_rest_the_networks() -> None:
    torch.manual_seed(0)
    network = tiny_resnet(CLASSES, width=32, channels=2).eval()
    pruned = prune(network, 0.25, SHAPE, stages={"layer2": 0.75, "layer2.0.conv1": 0.5})
    assert pruned.widths == {
        "conv1": [32, 24],
        "layer1.0.conv1": [32, 24],
        "layer1.0.conv2": [32, 24],  # with conv1, to which it is added
        "layer2.0.conv1": [64, 32],
        "layer2.0.conv2": [64, 16],
        "layer2.0.downsample.0": [64, 16],
        "fc": [CLASSES, CLASSES],
    }


@pytest.mark.parametrize(
    ("stages", "kept"),
    [({"first": 0.5, "second": 0.25}, 24), ({"first": 0.25}, 24), ({"second": 0.0}, 32), ({"classifier": 0.0}, 16)],
)
def test_coupled_layers_go_by_the_smallest_ratio_asked_for(stages: dict[str, float], kept: int) -> None:
    torch.manual_seed(0)
    pruned = prune(Residual().eval(), 0.5, SHAPE, stages=stages)
    assert pruned.widths["first"] == pruned.widths["second"] == [32, kept]


def test_a_stage_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"unknown stage of the network 'stage9'; .*valid: .*stage1, .*stem"):
        prune(sampled_network("resnet", SHAPE), 0.5, SHAPE, stages={"stage9": 0.5})


# --- in steps


def test_in_steps_the_kept_share_shrinks_geometrically_to_the_same_widths() -> None:
    network, seen = plain(), []
    network.second = nn.Conv2d(32, 100, 3, padding=1)
    network.classifier = nn.Linear(100, 7)

    def between(model: nn.Module, step: int) -> None:
        seen.append((step, model.second.weight.shape[0]))
        assert run(model).shape == (3, 7)

    pruned = prune(network, 0.75, SHAPE, rounding=1, steps=4, between=between)
    assert seen == [(1, 71), (2, 50), (3, 35)]  # 100 · 4^(-step/4)
    assert pruned.widths == prune(network, 0.75, SHAPE, rounding=1).widths
    assert pruned.widths["second"] == [100, 25]


def test_what_is_trained_between_steps_is_judged_anew_and_kept() -> None:
    """After the first step the channels that were strongest are made the weakest: they go in the second."""
    network, survivors = plain(), []

    def between(model: nn.Module, step: int) -> None:
        with torch.no_grad():
            order = model.second.weight.abs().sum((1, 2, 3)).argsort()
            model.second.weight[order[12:]] *= 1e-3
            model.second.bias.copy_(torch.arange(len(order)).float())
            survivors.extend(sorted(order[:12].tolist()))
            model.classifier.weight.zero_()

    pruned = prune(network, 0.625, SHAPE, steps=2, between=between, rounding=1)
    assert pruned.widths["second"] == [32, 12]
    assert pruned.model.second.bias.tolist() == survivors
    again = replay(network, json.loads(json.dumps(pruned.history)), SHAPE)
    assert shapes(again) == shapes(pruned.model)
    again.load_state_dict(pruned.model.state_dict())
    assert torch.equal(run(again), run(pruned.model))


@pytest.mark.parametrize(
    ("epochs", "steps", "between", "last"),
    [(3, 1, 3, 3), (4, 2, 2, 2), (5, 2, 2, 3), (6, 3, 2, 2), (7, 3, 2, 3), (3, 3, 1, 1), (2, 4, 1, 1), (1, 20, 1, 1)],
)
def test_the_epochs_are_shared_out_among_the_steps(epochs: int, steps: int, between: int, last: int) -> None:
    assert split_epochs(epochs, steps) == (between, last)


def test_no_epoch_is_lost_where_there_is_one_for_every_step() -> None:
    for epochs in range(1, 40):
        for steps in range(1, 21):
            between, last = split_epochs(epochs, steps)
            assert between >= 1
            assert (steps - 1) * between + last == max(epochs, steps)


def test_pruned_says_what_was_removed() -> None:
    pruned = prune(plain(), 0.5, SHAPE)
    assert isinstance(pruned, Pruned)
    assert {name for name, _, _ in pruned.history} == {"first", "second"}
    assert all(is_output and len(indices) == 16 for _, is_output, indices in pruned.history)


# --- the technique


def make_tools(epochs: int = 4) -> Tools:
    return Tools(training_data(digits()), (1, 8, 8), make_recipe().training, epochs, ONE_THREAD, seed=0)


@pytest.mark.parametrize(
    ("compression", "config"),
    [
        ({}, None),
        ({"pruning_ratio": 0.0}, None),
        ({"pruning_ratio": 0.0, "stage1.pruning_ratio": 0.0, "stage2.weight_bits": 8}, None),
        ({"pruning_ratio": 0.5}, PruneConfig(0.5)),
        ({"stage1.pruning_ratio": 0.5}, PruneConfig(0.0, (("stage1", 0.5),))),
        ({"pruning_ratio": 0.5, "stage1.pruning_ratio": 0.0}, PruneConfig(0.5, (("stage1", 0.0),))),
        ({"pruning_ratio": 0.5, "stage1.weight_bits": 8}, PruneConfig(0.5)),
        (
            {"pruning_ratio": 0.5, "pruning_criterion": "taylor", "pruning_steps": 3, "pruning_rounding": 1},
            PruneConfig(0.5, (), "taylor", 3, 1),
        ),
    ],
)
def test_what_a_design_asks_for(compression: dict[str, Any], config: PruneConfig | None) -> None:
    assert Prune().config(make_design(**compression)) == config


@pytest.mark.parametrize(("steps", "trains"), [(1, False), (2, True)])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_only_several_steps_train(criterion: str, steps: int, trains: bool) -> None:
    assert Prune().trains(PruneConfig(0.5, criterion=criterion, steps=steps)) is trains


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("steps", [1, 3])
def test_it_is_repeatable_and_restored_from_what_is_stored(criterion: str, steps: int) -> None:
    network = sampled_network("convnet-small", (1, 8, 8), 10, seed=1)
    before, shares = copy.deepcopy(network.state_dict()), []
    tools = replace(make_tools(), progress=shares.append)
    config = PruneConfig(0.5, (("stage1", 0.25),), criterion, steps, 4)
    pruned, detail = Prune().apply(network, config, tools)
    again, other = Prune().apply(copy.deepcopy(network), config, tools)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [other[key] for key in ("history", "widths", "left")] == [
        detail[key] for key in ("history", "widths", "left")
    ]
    assert all(torch.equal(a, b) for a, b in zip(pruned.parameters(), again.parameters(), strict=True))
    assert len(detail["curve"]) == (0 if steps == 1 else 2)  # 4 epochs, 3 steps: 1, 1 and 2 that fine-tuning has
    assert shares[: len(shares) // 2] == ([] if steps == 1 else [0.5, 1.0])
    restored = Prune().restore(copy.deepcopy(network), json.loads(json.dumps(detail)), tools)
    assert shapes(restored) == shapes(pruned)
    restored.load_state_dict(pruned.state_dict())
    for model in (restored, pruned):  # the layout decides the order of sums, and training changes it
        model.to(memory_format=torch.channels_last)
    assert torch.equal(run(restored, (1, 8, 8)), run(pruned, (1, 8, 8)))


def account(config: PruneConfig, **detail: Any) -> Any:
    return Prune().account(config, {"history": [], "left": {}, "judged_by_l1": [], "curve": [], **detail})


def test_labels_say_for_the_network_and_for_each_stage_whether_anything_went() -> None:
    widths = {"stem.0": [16, 16], "stage1.0": [32, 16], "stage2.0": [8, 8], "classifier": [10, 10]}
    config = PruneConfig(0.5, (("stage1", 0.5), ("stage2", 0.5), ("head", 0.0)))
    found = account(config, widths=widths)
    assert found.labels == {
        "pruning_ratio": Realisation.UNSUPPORTED,
        "stage1.pruning_ratio": Realisation.REALISED,
        "stage2.pruning_ratio": Realisation.UNSUPPORTED,
    }
    assert found.notes == ("pruning kept 50 of 66 output channels, the classes among them",)
    assert account(PruneConfig(0.5), widths=widths).labels == {"pruning_ratio": Realisation.REALISED}


def test_notes_say_what_was_judged_otherwise_and_what_was_left() -> None:
    left = {**dict.fromkeys(["a", "b", "c", "d", "e", "f"], "is coupled to attention"), "g": "is too odd"}
    found = account(PruneConfig(0.5, criterion="bn_scale"), widths={"a": [4, 4]}, left=left, judged_by_l1=["h", "i"])
    assert found.notes[1:] == (
        "pruning judged h, i by L1 instead of bn_scale: no batch norm there",
        "pruning left a, b, c, d and 2 more as it was: it is coupled to attention",
        "pruning left g as it was: it is too odd",
    )
