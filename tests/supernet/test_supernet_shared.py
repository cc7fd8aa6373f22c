"""The shared weights: that a network's are the right parts of them, in its forward, its gradients and its copy."""

from __future__ import annotations

import random

import pytest
import torch
from small_networks import SPACES
from supernet_spaces import (
    CLASSES,
    CONVNET_KINDS,
    CONVNET_SIZES,
    MOBILENET_SIZES,
    SHAPE,
    TINY,
    changed,
    make_space,
    supernet_of,
    with_random_tensors,
)
from torch import nn

from nas.design import Design
from nas.errors import InfeasibleDesignError, UnsupportedError
from nas.families import build
from nas.space import SearchSpace
from nas.supernet import Supernet


def images(count: int = 3, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("space", TINY.values(), ids=TINY.keys())
def test_the_shared_forward_is_that_of_the_built_network_for_every_design(space: SearchSpace) -> None:
    supernet = with_random_tensors(supernet_of(space))
    for design in space.designs():
        network = supernet.subnet(design)
        torch.testing.assert_close(supernet.forward(design, images()), network(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["convnet-small", "convnet", "convnet-full", "mobilenet"])
def test_designs_of_the_shipped_spaces_are_networks_as_their_family_builds_them(name: str) -> None:
    supernet = Supernet(SPACES[name], (3, 28, 28), 7)
    rng = random.Random(name)
    for design in (supernet.largest, supernet.smallest, supernet.draw(rng), supernet.draw(rng)):
        network = supernet.subnet(design)
        plain = build(design.family, design.architecture, (3, 28, 28), 7)
        plain.load_state_dict(network.state_dict())
        assert str(network) == str(plain)
        assert all(parameter.requires_grad for parameter in network.parameters())
        assert network.training
        plain.train()
        torch.testing.assert_close(plain(images(2, (3, 28, 28))), network(images(2, (3, 28, 28))))


def test_a_networks_weights_are_the_first_channels_and_the_middle_of_the_kernels() -> None:
    supernet = with_random_tensors(supernet_of(CONVNET_SIZES))
    narrow = changed(supernet.largest, stem_width=4, stem_kernel=3, stage1_kernel=3, stage1_width=4)
    state = supernet.subnet(narrow).state_dict()
    shared = supernet.tensors
    assert shared["stem.weight"].shape == (8, 1, 5, 5)
    assert torch.equal(state["features.stem.0.weight"], shared["stem.weight"][:4, :, 1:4, 1:4])
    assert torch.equal(state["features.stem.1.bias"], shared["stem.norm.bias"][:4])
    first, second = (shared[f"stage1.{index}.standard.weight"] for index in (0, 1))
    assert torch.equal(state["features.stage1.0.weight"], first[:4, :4, 1:4, 1:4])
    assert torch.equal(state["features.stage1.3.weight"], second[:4, :4, 1:4, 1:4])
    # 8×8 images, halved once: each of 16 positions has its share of the average's weights and weights of its own.
    average, each = shared["stage1.hidden.weight"], shared["stage1.hidden.16.weight"]
    assert each.shape == (8, 8, 16)
    expected = torch.stack([average[:, :4] / 16 + each[:, :4, position] for position in range(16)], dim=2)
    torch.testing.assert_close(state["head.1.weight"], expected.reshape(8, 64))
    assert torch.equal(state["classifier.weight"], shared["classifier.hidden.weight"])


def test_a_mobilenets_expanded_channels_are_the_first_and_a_block_that_expands_not_has_its_own() -> None:
    supernet = with_random_tensors(supernet_of(MOBILENET_SIZES))
    shared = supernet.tensors
    narrow = changed(supernet.largest, stem_width=4, stage1_expansion=2, stage1_kernel=3, stage1_width=8)
    state = supernet.subnet(narrow).state_dict()
    body = "features.stage1.0.body"
    assert torch.equal(state[f"{body}.0.weight"], shared["stage1.0.expanded.expand.weight"][:8, :4])
    assert torch.equal(state[f"{body}.3.weight"], shared["stage1.0.expanded.depthwise.weight"][:8, :, 1:4, 1:4])
    # The gate of 48 · 3 channels has 32 between its layers, that of 4 · 2 has 8.
    assert shared["stage1.0.expanded.squeeze.weight"].shape == (32, 144, 1, 1)
    assert torch.equal(state[f"{body}.6.gate.1.weight"], shared["stage1.0.expanded.squeeze.weight"][:8, :8])
    assert torch.equal(state[f"{body}.6.gate.3.bias"], shared["stage1.0.expanded.excite.bias"][:8])
    assert torch.equal(state[f"{body}.7.weight"], shared["stage1.0.expanded.project.weight"][:8, :8])
    direct = supernet.subnet(changed(narrow, stage1_expansion=1)).state_dict()
    assert torch.equal(direct[f"{body}.0.weight"], shared["stage1.0.direct.depthwise.weight"][:4, :, 1:4, 1:4])


def test_a_copy_does_not_change_with_the_shared_weights() -> None:
    supernet = supernet_of(CONVNET_SIZES)
    network = supernet.subnet(supernet.largest)
    before = network.state_dict()["classifier.weight"].clone()
    supernet.tensors["classifier.hidden.weight"].data += 1
    assert torch.equal(network.state_dict()["classifier.weight"], before)


def test_gradients_reach_the_parts_that_were_used_and_nothing_else() -> None:
    supernet = with_random_tensors(supernet_of(CONVNET_SIZES))
    design = changed(supernet.largest, stem_width=4, stem_kernel=3, stage1_conv="separable", stage1_kernel=3)
    loss = nn.functional.cross_entropy(supernet.forward(design, images(8)), torch.arange(8))
    loss.backward()  # type: ignore[no-untyped-call]
    reached = {name for name, tensor in supernet.tensors.items() if tensor.grad is not None}
    assert {name for name in reached if "standard" in name} == set()
    assert "stage1.1.pointwise.weight" in reached
    stem = supernet.tensors["stem.weight"].grad
    assert stem is not None
    assert bool((stem[:4, :, 1:4, 1:4] != 0).any())
    used = torch.zeros_like(stem)
    used[:4, :, 1:4, 1:4] = 1
    assert bool((stem[used == 0] == 0).all())
    depthwise = supernet.tensors["stage1.0.depthwise.weight"].grad
    assert depthwise is not None
    assert bool((depthwise[4:] == 0).all())
    assert bool((depthwise[:4, :, 1:4, 1:4] != 0).any())


def test_the_shared_forward_leaves_no_statistics_behind() -> None:
    supernet = supernet_of(CONVNET_SIZES)
    supernet.forward(supernet.largest, images())
    state = supernet.subnet(supernet.largest).state_dict()
    assert bool((state["features.stem.1.running_mean"] == 0).all())
    assert bool((state["features.stem.1.running_var"] == 1).all())
    assert int(state["features.stem.1.num_batches_tracked"]) == 0


def test_the_random_start_does_not_depend_on_who_came_first_and_leaves_torchs_generator_alone() -> None:
    designs = list(CONVNET_KINDS.designs())[::5]
    one, other, third = supernet_of(CONVNET_KINDS), supernet_of(CONVNET_KINDS), supernet_of(CONVNET_KINDS, seed=1)
    before = torch.get_rng_state()
    for design in designs:
        one.subnet(design)
        third.subnet(design)
    assert torch.equal(torch.get_rng_state(), before)
    for design in reversed(designs):
        other.subnet(design)
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())
    assert not torch.equal(one.tensors["stem.weight"], third.tensors["stem.weight"])


def test_compression_has_no_part_in_it() -> None:
    supernet = supernet_of(CONVNET_SIZES)
    design = Design("convnet", supernet.largest.architecture, {"weight_bits": 8})
    pairs = zip(supernet.parameters(design).values(), supernet.parameters(supernet.largest).values(), strict=True)
    assert all(one is other or torch.equal(one, other) for one, other in pairs)


# --- the ends


def test_the_largest_and_the_smallest_network() -> None:
    supernet = supernet_of(SPACES["convnet-small"])
    assert supernet.largest.architecture["stage2.width"] == 64
    assert supernet.largest.architecture["stage2.conv"] == "standard"
    assert supernet.largest.architecture["stem.stride"] == 1
    assert supernet.smallest.architecture["stages"] == 1
    assert supernet.smallest.architecture["stage1.conv"] == "separable"
    assert supernet.smallest.architecture["head.hidden"] == 0


@pytest.mark.parametrize("side", [3, 5, 8])
@pytest.mark.parametrize("name", ["convnet", "convnet-full", "mobilenet"])
def test_the_ends_give_way_where_images_are_small(name: str, side: int) -> None:
    supernet = Supernet(SPACES[name], (1, side, side), CLASSES)
    for design in (supernet.largest, supernet.smallest):
        assert SPACES[name].family == design.family
        build(design.family, design.architecture, (1, side, side), CLASSES)
    sizes = [sum(p.numel() for p in supernet.subnet(d).parameters()) for d in (supernet.largest, supernet.smallest)]
    assert sizes[0] > sizes[1]


def test_images_that_no_design_fits_are_refused() -> None:
    space = make_space(
        "convnet", {**{c.name: list(c.values) for c in CONVNET_SIZES.choices}, "stage1.pooling": ["max"]}
    )
    with pytest.raises(InfeasibleDesignError, match="no design of search space 'tiny' fits the images"):
        Supernet(space, (1, 1, 1), CLASSES)


@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_other_families_are_refused_with_those_that_share(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"family '{name}' cannot share") as caught:
        Supernet(SPACES[name], SHAPE, CLASSES)
    assert "convnet and mobilenet" in caught.value.hint
