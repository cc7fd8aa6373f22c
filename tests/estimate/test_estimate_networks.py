"""Sampled designs and layers: real files that run, without training."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from nas.artifact import open_session, probabilities
from nas.design import Design
from nas.errors import InfeasibleDesignError
from nas.estimate.kernels import kernels_of
from nas.estimate.networks import Sampler
from nas.space import load_space, parse_space

SHAPE = (16, 16, 1)
PRUNED_INT8 = {"pruning_ratio": 0.5, "pruning_criterion": "l1", "weight_bits": 8, "activation_bits": 8}


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler(load_space("convnet"), SHAPE, 7)


def design(sampler: Sampler, **compression: object) -> Design:
    architecture = {"stem.width": 16, "stem.stride": 1, "stages": 1, "stage1.conv": "standard", "stage1.width": 16}
    full = {choice.name: choice.values[0] for choice in sampler.space.choices} | architecture | compression
    return sampler.space.design(full)


@pytest.mark.parametrize("compression", [{}, PRUNED_INT8], ids=["plain", "pruned int8"])
def test_a_network_is_a_file_that_runs(sampler: Sampler, compression: dict[str, object]) -> None:
    sample = sampler.network(design(sampler, **compression))
    given = probabilities(open_session(sample.artifact), sample.images)
    assert given.shape == (len(sample.images), 7)
    assert np.allclose(given.sum(1), 1, atol=0.02)
    integers = [kernel for kernel in kernels_of(sample.artifact) if kernel.depth and kernel.is_integer]
    assert bool(integers) == bool(compression)


def test_pruning_leaves_less_to_do(sampler: Sampler) -> None:
    whole, pruned = sampler.network(design(sampler)), sampler.network(design(sampler, **PRUNED_INT8))
    assert 0 < pruned.complexity.macs < whole.complexity.macs / 2


def test_the_same_design_gives_the_same_file(sampler: Sampler) -> None:
    again = Sampler(load_space("convnet"), SHAPE, 7)
    assert sampler.network(design(sampler)).artifact == again.network(design(sampler)).artifact


@pytest.mark.parametrize("compression", [{}, PRUNED_INT8], ids=["plain", "pruned int8"])
def test_a_layer_stands_by_itself(sampler: Sampler, compression: dict[str, object]) -> None:
    chosen = design(sampler, **compression)
    whole = sum(kernel.depth > 0 for kernel in kernels_of(sampler.network(chosen).artifact))
    files = {}
    for seed in range(6):
        sample = sampler.layer(chosen, seed)
        given = open_session(sample.artifact).run(None, {"normalised": sample.images[:1]})[0]
        assert given.shape[0] == 1
        products = [kernel for kernel in kernels_of(sample.artifact) if kernel.depth]
        assert len(products) == 1
        assert products[0].is_integer == bool(compression)
        files[sample.artifact] = sample.complexity.macs
    assert 1 < len(files) <= whole
    assert all(macs > 0 for macs in files.values())


def test_designs_are_distinct_and_the_seed_decides_them(sampler: Sampler) -> None:
    first = [found.digest for found in islice(sampler.designs(3), 20)]
    assert len(set(first)) == 20
    assert [found.digest for found in islice(sampler.designs(3), 20)] == first
    assert [found.digest for found in islice(sampler.designs(4), 20)] != first


def test_a_small_space_ends(tmp_path: Path) -> None:
    data = {"family": "mlp", "architecture": {"layers": [1], "layer1.width": [8, 16]}, "compression": {}}
    small = Sampler(parse_space("tiny", data, tmp_path), SHAPE, 3)
    assert len(list(small.designs(0))) == 2


def test_what_cannot_be_built_is_said() -> None:
    tiny = Sampler(load_space("convnet"), (4, 4, 1), 3)
    deep = {"stem.stride": 2, "stages": 3, "stage1.pooling": "max", "stage2.pooling": "max", "stage3.pooling": "max"}
    with pytest.raises(InfeasibleDesignError):
        tiny.network(design(tiny, **deep))


def test_a_network_of_a_persons_own_is_compressed_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *head)\n"
    )
    data = {
        "family": "module",
        "module": {"source": "own.py:net", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3]},
        "compression": {"weight_bits": [32, 8], "activation_bits": {"values": [8], "when": {"weight_bits": [8]}}},
    }
    own = Sampler(parse_space("own", data, tmp_path), (12, 12, 3), 4)
    found = [own.network(chosen) for chosen in own.designs(0)]
    assert len(found) == 2
    assert len({sample.artifact for sample in found}) == 2
    for sample in found:
        assert probabilities(open_session(sample.artifact), sample.images).shape == (len(sample.images), 4)
