"""Every family and every shipped space: networks that build, run, learn, repeat and prune, on images of any shape."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Iterator

import pytest
import torch
import torch_pruning
from fakes import make_design
from torch import nn

from nas.design import Design, Value
from nas.errors import InfeasibleDesignError
from nas.families import build, families, find_family
from nas.space import list_spaces

SPACES = {space.name: space for space in list_spaces()}
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 64, 48)]
SAMPLES = 3


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks run faster so, and sums come in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def feasible_networks(
    name: str, shape: tuple[int, int, int], count: int = SAMPLES
) -> Iterator[tuple[Design, nn.Module]]:
    """Networks of random designs of a space; those that do not fit the shape are passed over, but not all of them."""
    rng, found = random.Random(f"{name} {shape}"), 0
    for _ in range(20 * count):
        design = SPACES[name].sample(rng)
        torch.manual_seed(0)
        try:
            network = build(design.family, design.architecture, shape, 7)
        except InfeasibleDesignError:
            continue
        yield design, network
        found += 1
        if found == count:
            return
    pytest.fail(f"hardly any design of {name} fits {shape}")


def test_every_family_has_a_shipped_space() -> None:
    assert {space.family for space in SPACES.values()} == set(families())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", sorted(SPACES))
def test_networks_map_images_to_logits_and_learn(name: str, shape: tuple[int, int, int]) -> None:
    for design, network in feasible_networks(name, shape):
        logits = network(torch.randn(3, *shape))
        assert logits.shape == (3, 7)
        assert logits.dtype is torch.float32
        assert torch.isfinite(logits).all()
        logits.square().sum().backward()
        idle = [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
        assert not idle, f"{idle} of {design.architecture} get no gradient"


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_few_steps_reduce_the_loss(name: str) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(16, 1, 8, 8), torch.arange(16) % 7
    for _, network in feasible_networks(name, (1, 8, 8), 1):
        optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
        losses = []
        for _ in range(12):
            loss = nn.functional.cross_entropy(network(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[0] < 6, "logits of a new network should be of the order of one"
        assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", sorted(SPACES))
def test_the_same_seed_builds_the_same_network(name: str) -> None:
    for design, network in feasible_networks(name, (3, 32, 32), 2):
        for seed, same in ((0, True), (1, False)):
            torch.manual_seed(seed)
            again = build(design.family, design.architecture, (3, 32, 32), 7)
            images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                assert torch.equal(network.eval()(images), again.eval()(images)) is same


@pytest.mark.parametrize("name", sorted(SPACES))
def test_networks_consist_of_plain_modules(name: str) -> None:
    """What folds, prunes, quantises and is counted: no parameter outside such a module, no bias before a norm."""
    plain = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    for _, network in feasible_networks(name, (1, 28, 28)):
        assert isinstance(network.classifier, nn.Linear)
        assert network.classifier.out_features == 7
        modules = [module for module in network.modules() if not list(module.children())]
        assert list(network.modules())[-1] is network.classifier
        assert sum(p.numel() for p in network.parameters()) == sum(
            p.numel() for module in modules if isinstance(module, plain) for p in module.parameters()
        )
        for before, after in itertools.pairwise(modules):
            assert not (isinstance(after, nn.BatchNorm2d) and before.bias is not None)
        assert all(type(m) in plain for m in modules if list(m.parameters()))
        assert all(m.bias is None or not m.bias.any() for m in modules if isinstance(m, nn.Conv2d | nn.Linear))


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_copy_prunes_by_its_dependency_graph(name: str, shape: tuple[int, int, int]) -> None:
    for design, network in feasible_networks(name, shape, 2):
        pruned = copy.deepcopy(network)
        pruner = torch_pruning.pruner.BasePruner(
            pruned,
            torch.randn(2, *shape),
            importance=torch_pruning.importance.MagnitudeImportance(),
            pruning_ratio=0.5,
            ignored_layers=[pruned.classifier],
            in_channel_groups={},
            out_channel_groups={},
        )
        pruner.step()
        before, after = (sum(p.numel() for p in item.parameters()) for item in (network, pruned))
        assert after < 0.75 * before, design.architecture
        logits = pruned(torch.randn(2, *shape))
        assert logits.shape == (2, 7)
        logits.sum().backward()
        assert network(torch.randn(2, *shape)).shape == (2, 7), "the network itself is as it was"


@pytest.mark.parametrize("name", sorted(SPACES))
def test_depthwise_convolutions_are_initialised_by_their_own_fan_in(name: str) -> None:
    """He: the variance of a weight is 2 / fan-in, whatever the groups; torch's fan-out would give far less."""
    for _, network in feasible_networks(name, (1, 28, 28)):
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.weight.numel() > 500:
                fan_in = module.weight[0].numel()
                assert module.weight.var().item() == pytest.approx(2 / fan_in, rel=0.35)


def test_the_design_of_the_fakes_can_be_built() -> None:
    design = make_design()
    assert build(design.family, design.architecture, (1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


# --- each family's choices do what they say


def convnet(**changes: Value) -> dict[str, Value]:
    """A convnet of one stage; keywords with two underscores for the dot (``stage1__pooling``)."""
    architecture: dict[str, Value] = {
        "stem.width": 8,
        "stem.kernel": 3,
        "stem.stride": 1,
        "stages": 1,
        "stage1.conv": "standard",
        "stage1.kernel": 5,
        "stage1.width": 16,
        "stage1.depth": 2,
        "stage1.pooling": "none",
        "head.pooling": "average",
        "head.hidden": 0,
    }
    return architecture | {name.replace("__", "."): value for name, value in changes.items()}


def layers(network: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kind)]


@pytest.mark.parametrize(
    ("changes", "positions"),
    [
        ({}, 12 * 10),
        ({"stem__stride": 2}, 6 * 5),
        ({"stage1__pooling": "max"}, 6 * 5),
        ({"stage1__pooling": "average"}, 6 * 5),
        ({"stage1__pooling": "stride"}, 6 * 5),
        ({"stem__stride": 2, "stage1__pooling": "max"}, 3 * 2),
        ({"stem__stride": 2, "stage1__pooling": "stride"}, 3 * 3),
    ],
)
def test_convnet_pooling_sets_the_size_of_the_map(changes: dict[str, Value], positions: int) -> None:
    """On 12×10: a stride rounds up, a window drops the rest."""
    network = build("convnet", convnet(**changes, head__pooling="flatten"), (1, 12, 10), 3)
    assert network.classifier.in_features == 16 * positions
    assert network(torch.zeros(2, 1, 12, 10)).shape == (2, 3)
    pools = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
    for kind, module in pools.items():
        assert len(layers(network, module)) == (changes.get("stage1__pooling") == kind)


def test_convnet_parameters_match_the_closed_form() -> None:
    """k²·in·out for a standard convolution, k²·in + in·out for a separable one, two numbers per normalised channel."""
    standard = build("convnet", convnet(), (3, 8, 8), 10)
    separable = build("convnet", convnet(stage1__conv="separable"), (3, 8, 8), 10)
    stem, classifier = 9 * 3 * 8 + 2 * 8, 16 * 10 + 10
    count = [sum(p.numel() for p in network.parameters()) for network in (standard, separable)]
    assert count[0] == stem + 25 * 8 * 16 + 32 + 25 * 16 * 16 + 32 + classifier
    assert count[1] == stem + (25 * 8 + 16 + 8 * 16 + 32) + (25 * 16 + 32 + 16 * 16 + 32) + classifier


def test_convnet_head_has_a_hidden_layer_where_asked() -> None:
    network = build("convnet", convnet(head__hidden=64), (1, 8, 8), 10)
    assert [(m.in_features, m.out_features) for m in layers(network, nn.Linear)] == [(16, 64), (64, 10)]


def test_mobilenet_blocks() -> None:
    architecture: dict[str, Value] = {
        "activation": "hardswish",
        "stem.width": 8,
        "stages": 1,
        "stage1.expansion": 4,
        "stage1.kernel": 5,
        "stage1.width": 16,
        "stage1.depth": 2,
        "stage1.stride": 2,
        "stage1.squeeze_excite": True,
        "head.width": 64,
    }
    network = build("mobilenet", architecture, (1, 16, 16), 5)
    shapes = [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.groups) for m in layers(network, nn.Conv2d)
    ]
    assert shapes == [
        (1, 8, 3, 1, 1),
        *((8, 32, 1, 1, 1), (32, 32, 5, 2, 32), (32, 8, 1, 1, 1), (8, 32, 1, 1, 1), (32, 16, 1, 1, 1)),
        *((16, 64, 1, 1, 1), (64, 64, 5, 1, 64), (64, 16, 1, 1, 1), (16, 64, 1, 1, 1), (64, 16, 1, 1, 1)),
        (16, 64, 1, 1, 1),
    ]
    assert [block.adds_input for block in network.features.stage1] == [False, True]
    assert len(layers(network, nn.Hardswish)) == 6
    assert not layers(network, nn.ReLU6)
    plain = build(
        "mobilenet",
        architecture
        | {
            "activation": "relu6",
            "stage1.squeeze_excite": False,
            "stage1.expansion": 1,
            "head.width": 0,
            "stage1.depth": 1,
        },
        (1, 16, 16),
        5,
    )
    assert len(layers(plain, nn.Conv2d)) == 3, "no expansion, no gate, no last convolution"
    assert plain.classifier.in_features == 16


def test_resnet_blocks() -> None:
    architecture: dict[str, Value] = {
        "stem.width": 8,
        "stem.pooling": "max",
        "stages": 2,
        **{"stage1.width": 8, "stage1.depth": 1, "stage1.stride": 1},
        **{"stage2.width": 16, "stage2.depth": 2, "stage2.stride": 2},
    }
    network = build("resnet", architecture, (1, 16, 16), 5)
    assert network.features(torch.zeros(1, 1, 16, 16)).shape == (1, 16, 4, 4)
    blocks = [*network.features.stage1, *network.features.stage2]
    assert [isinstance(block.shortcut, nn.Identity) for block in blocks] == [True, False, True]
    projection = blocks[1].shortcut[0]
    assert (projection.in_channels, projection.out_channels, projection.kernel_size, projection.stride) == (
        8,
        16,
        (1, 1),
        (2, 2),
    )


def test_mlp_layers() -> None:
    architecture: dict[str, Value] = {"input.pooling": 2, "layers": 2, "layer1.width": 32, "layer2.width": 16}
    network = build("mlp", architecture, (3, 9, 8), 5)
    assert [(m.in_features, m.out_features) for m in layers(network, nn.Linear)] == [(3 * 4 * 4, 32), (32, 16), (16, 5)]


# --- shapes that cannot be

STAGES_OF_MAX: dict[str, Value] = {
    "stages": 3,
    **{f"stage{n}.{part}": value for n in (1, 2, 3) for part, value in (("conv", "standard"), ("kernel", 3))},
    **{
        f"stage{n}.{part}": value for n in (1, 2, 3) for part, value in (("width", 8), ("depth", 1), ("pooling", "max"))
    },
}
RESNET: dict[str, Value] = {"stem.width": 8, "stages": 1, "stage1.width": 8, "stage1.depth": 1, "stage1.stride": 2}
MOBILENET: dict[str, Value] = RESNET | {"stage1.expansion": 2, "stage1.kernel": 5}


@pytest.mark.parametrize(
    ("family", "architecture", "shape", "message"),
    [
        (
            "convnet",
            convnet() | STAGES_OF_MAX,
            (1, 7, 20),
            r"stage3: max pooling of 2×2 shrinks its feature map of 1×5 to nothing \(use fewer stages",
        ),
        ("convnet", convnet(stem__stride=2, stage1__pooling="max"), (1, 3, 3), "stage1: .* 5×5 .* feature map of 2×2"),
        ("convnet", convnet(stem__kernel=5), (1, 2, 2), "stem: a 5×5 convolution reaches past its whole .* of 2×2"),
        ("convnet", convnet(), (1, 1, 1), "stem: a 3×3 convolution reaches past its whole feature map of 1×1"),
        (
            "convnet",
            convnet(stem__stride=2),
            (1, 1, 64),
            "stem: a convolution of stride 2 shrinks its feature map of 1×64",
        ),
        (
            "convnet",
            convnet(stage1__kernel=3, stage1__pooling="stride"),
            (1, 1, 64),
            "stage1: a convolution of stride 2 shrinks its feature map of 1×64 to nothing",
        ),
        ("mobilenet", MOBILENET, (1, 2, 2), "stage1: a 5×5 convolution reaches past its whole feature map of 2×2"),
        ("mobilenet", MOBILENET | {"stage1.depth": 2}, (1, 4, 4), "stage1: a 5×5 .* feature map of 2×2"),
        ("resnet", RESNET | {"stem.pooling": "max"}, (3, 2, 3), "stage1: a 3×3 convolution .* feature map of 1×1"),
        (
            "resnet",
            RESNET | {"stem.pooling": "max"},
            (3, 1, 3),
            "stem: max pooling of 2×2 shrinks .* of 1×3 to nothing",
        ),
        (
            "mlp",
            {"input.pooling": 4, "layers": 1, "layer1.width": 8},
            (1, 3, 9),
            "input: average pooling of 4×4 .* of 3×9",
        ),
    ],
)
def test_a_map_that_shrinks_to_nothing_is_infeasible(
    family: str, architecture: dict[str, Value], shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(InfeasibleDesignError, match=message):
        build(family, architecture, shape, 10)


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (2, 1, 9), (1, 3, 5), (1, 5, 4)], ids=str)
def test_what_is_built_can_be_run_however_small_the_image(name: str, shape: tuple[int, int, int]) -> None:
    """Infeasible designs are told at build time: no network fails in its forward pass."""
    rng = random.Random(0)
    for _ in range(15):
        design = SPACES[name].sample(rng)
        try:
            network = build(design.family, design.architecture, shape, 3).eval()
        except InfeasibleDesignError as error:
            assert "feature map" in error.message  # noqa: PT017 - either way is right, but must say so
            continue
        with torch.no_grad():
            assert network(torch.zeros(2, *shape)).shape == (2, 3)


def test_the_shapes_that_are_followed_are_those_that_come_out() -> None:
    """A flattened head fits only if the builder's reckoning agrees with torch's, for odd sizes too."""
    rng = random.Random(3)
    for _ in range(40):
        design = SPACES["convnet"].sample(rng)
        shape = (1, rng.randint(9, 33), rng.randint(9, 33))
        architecture = dict(design.architecture) | {"head.pooling": "flatten"}
        try:
            network = build("convnet", architecture, shape, 3).eval()
        except InfeasibleDesignError:
            continue
        with torch.no_grad():
            assert network(torch.zeros(1, *shape)).shape == (1, 3)


def test_families_are_found_by_name() -> None:
    assert families() == ("convnet", "mlp", "mobilenet", "resnet")
    assert find_family("mlp").name == "mlp"
