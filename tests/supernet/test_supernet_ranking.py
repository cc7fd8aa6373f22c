"""Inherited accuracies: statistics of each network's own, what is looked at, and what one may start from."""

from __future__ import annotations

import functools
import random

import pytest
import safetensors.torch
import torch
from small_networks import ONE_THREAD, with_statistics
from supernet_spaces import CLASSES, DIFFER, LEARNS, SHAPE, both_splits, changed, supernet_of

from nas.design import Design
from nas.families import build
from nas.recipe_sections import TrainingConfig
from nas.report.agreement import kendall_tau
from nas.report.calibration import tau_interval
from nas.supernet import Ranker, Supernet, SupernetBudget, recalibrate, train_supernet
from nas.train import seeded, train

CONFIG = TrainingConfig(batch_size=50, learning_rate=4e-3)


@functools.cache
def trained() -> Supernet:
    data, _ = both_splits()
    supernet = supernet_of(LEARNS)
    train_supernet(supernet, data, CONFIG, ONE_THREAD, SupernetBudget(epochs=6))
    return supernet


def ranker(**options: int) -> Ranker:
    return Ranker(trained(), *both_splits(), ONE_THREAD, **options)


def architectures() -> list[Design]:
    return list(dict.fromkeys(Design("convnet", design.architecture, {}) for design in LEARNS.designs()))


def share_right(network: torch.nn.Module) -> float:
    _, held_out = both_splits()
    with torch.no_grad():
        return float((network.eval()(held_out.normalise(held_out.images)).argmax(1) == held_out.labels).float().mean())


def test_every_network_is_far_above_chance_with_statistics_of_its_own_and_worse_without() -> None:
    judge = ranker()
    with_own = [judge.accuracy(design) for design in architectures()]
    without = [share_right(trained().subnet(design)) for design in architectures()]
    assert min(with_own) > 0.8
    assert sum(with_own) / len(with_own) > sum(without) / len(without) + 0.1


def test_accuracy_is_that_of_the_network_on_the_validation_images() -> None:
    judge = ranker()
    for design in (trained().largest, trained().smallest):
        assert judge.accuracy(design) == pytest.approx(share_right(judge.network(design)))


def test_statistics_are_those_of_the_images() -> None:
    """With one batch of them the network gives in evaluation what it gave in training, but for n / (n − 1) in the
    variance, and the statistics that it had before do not matter."""
    images = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0))
    network = trained().subnet(trained().largest)
    expected = network.train()(images)
    with_statistics(network.eval())
    network.load_state_dict(trained().subnet(trained().largest).state_dict() | running(network))
    recalibrate(network, images)
    assert not network.training
    torch.testing.assert_close(network(images), expected, rtol=2e-2, atol=2e-2)
    mean = network.get_submodule("features.stem.1").running_mean
    assert isinstance(mean, torch.Tensor)
    stem = network.get_submodule("features.stem.0")(images)
    torch.testing.assert_close(mean, stem.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert {m.momentum for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


def running(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if "running" in name}


def test_statistics_are_averages_over_whole_batches() -> None:
    images = torch.randn(70, *SHAPE, generator=torch.Generator().manual_seed(0))
    network = trained().subnet(trained().smallest)
    recalibrate(network, images, batch=32)
    mean = network.get_submodule("features.stem.1").running_mean
    assert isinstance(mean, torch.Tensor)
    stem = network.get_submodule("features.stem.0")(images[:64])
    torch.testing.assert_close(mean, stem.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_ranks_best_first_and_sees_no_compression(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, counts = ranker(), list[int]()
    made: list[Design] = []
    subnet = Supernet.subnet
    monkeypatch.setattr(Supernet, "subnet", lambda self, design: (made.append(design), subnet(self, design))[1])
    ranked = judge.rank(LEARNS.designs(), counts.append)
    assert len(made) == len(architectures()) == 16  # 32 designs with two numbers of bits each
    assert counts == list(range(1, 33))
    accuracies = [inherited.accuracy for inherited in ranked]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {inherited.design for inherited in ranked} == set(LEARNS.designs())


def test_looks_at_so_many_images_the_same_for_all_and_by_the_seed() -> None:
    designs = architectures()
    few, again, other = (ranker(validation_images=40, seed=seed) for seed in (0, 0, 1))
    accuracies = [[judge.accuracy(design) for design in designs] for judge in (few, again, other)]
    assert all(float(value * 40) == pytest.approx(round(value * 40)) for value in accuracies[0])
    assert accuracies[0] == accuracies[1] != accuracies[2]


def test_the_start_of_a_fine_tuning_fits_the_built_network() -> None:
    judge = ranker()
    design = changed(trained().largest, stem_width=8)
    network = build("convnet", design.architecture, SHAPE, CLASSES)
    network.load_state_dict(safetensors.torch.load(judge.finetune_start(design)))
    assert share_right(network) == pytest.approx(judge.accuracy(design))


@pytest.mark.long
def test_inherited_accuracies_rank_trained_ones() -> None:
    data, held_out = both_splits(1000, 400)
    supernet = supernet_of(DIFFER)
    train_supernet(supernet, data, CONFIG, ONE_THREAD, SupernetBudget(epochs=15))
    judge = Ranker(supernet, data, held_out, ONE_THREAD)
    designs = random.Random(0).sample(list(DIFFER.designs()), 16)
    true = []
    for design in designs:
        with seeded(0, 1) as generator:
            network = build("convnet", design.architecture, SHAPE, CLASSES)
            train(network, data, CONFIG, ONE_THREAD, 10, 4e-3, generator)
        true.append(share_right(network))
    tau = kendall_tau([judge.accuracy(design) for design in designs], true)
    assert tau is not None
    low, _ = tau_interval(tau, len(designs))
    assert low > 0
