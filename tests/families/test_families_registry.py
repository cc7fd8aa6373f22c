"""The registry: what a family's rules refuse in an architecture and in a space."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from nas.choice import Choice
from nas.design import Value
from nas.errors import DataError, SpaceError
from nas.families import build, check_space, registry
from nas.families.blocks import FeatureMap, Network
from nas.families.registry import Architecture, Rule, each_stage, find_family, one_of, register, whole
from nas.space import SearchSpace, list_spaces

MLP: dict[str, Value] = {"layers": 2, "layer1.width": 16, "layer2.width": 8}
CONVNET: dict[str, Value] = {
    "stem.width": 8,
    "stages": 1,
    "stage1.conv": "standard",
    "stage1.kernel": 3,
    "stage1.width": 16,
    "stage1.depth": 1,
    "stage1.pooling": "max",
    "head.hidden": 0,
}


def without(architecture: dict[str, Value], *names: str) -> dict[str, Value]:
    return {name: value for name, value in architecture.items() if name not in names}


@pytest.fixture
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))


# --- architectures


@pytest.mark.parametrize(
    ("family", "architecture", "message"),
    [
        ("convent", {}, r"unknown family 'convent'; did you mean 'convnet'\?"),
        (
            "mlp",
            MLP | {"layer1.widht": 8},
            "unknown choice of family 'mlp': 'layer1.widht'; did you mean 'layer1.width'",
        ),
        ("mlp", without(MLP, "layers"), "family 'mlp' needs choice 'layers', which is missing"),
        ("mlp", without(MLP, "layer2.width"), "family 'mlp' needs choice 'layer2.width', which is missing"),
        ("mlp", MLP | {"layer3.width": 8}, r"choice 'layer3.width' has no meaning where layers is 2 \(leave it out\)"),
        ("mlp", MLP | {"layers": 5}, "choice 'layers' must be a whole number from 1 to 4, but got 5"),
        ("mlp", MLP | {"layers": 2.0}, "choice 'layers' must be a whole number from 1 to 4, but got 2.0"),
        ("mlp", MLP | {"layer1.width": 0}, "choice 'layer1.width' must be a whole number from 1 to 4096, but got 0"),
        ("mlp", MLP | {"layer1.width": True}, "choice 'layer1.width' must be a whole number .* but got True"),
        ("mlp", MLP | {"layer1.width": "8"}, "choice 'layer1.width' must be a whole number .* but got '8'"),
        ("mlp", MLP | {"input.pooling": 3}, "choice 'input.pooling' must be one of 1, 2, 4, but got 3"),
        ("mlp", MLP | {"input.pooling": True}, "choice 'input.pooling' must be one of 1, 2, 4, but got True"),
        ("convnet", CONVNET | {"stage1.kernel": 4}, "choice 'stage1.kernel' must be one of 3, 5, but got 4"),
        (
            "convnet",
            CONVNET | {"stage1.depth": 4},
            "choice 'stage1.depth' must be a whole number from 1 to 3, but got 4",
        ),
        ("convnet", CONVNET | {"stage1.conv": "sep"}, "must be one of 'standard', 'separable', but got 'sep'"),
        ("convnet", CONVNET | {"stage1.pooling": False}, "'none', but got False .*YAML reads yes, no, on and off"),
        (
            "convnet",
            CONVNET | {"head.hidden": -1},
            "choice 'head.hidden' must be a whole number from 0 to 4096, but got -1",
        ),
        ("convnet", without(CONVNET, "stage1.pooling"), "needs choice 'stage1.pooling', which is missing"),
    ],
)
def test_build_refuses(family: str, architecture: dict[str, Value], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        build(family, architecture, (1, 8, 8), 10)


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((1, 0, 8), 10, r"channels, height and width must be at least 1, but got \(1, 0, 8\)"),
        ((1, 8, 8), 1, "at least 2 classes to tell apart, but got 1"),
    ],
)
def test_build_refuses_data_that_is_none(shape: tuple[int, int, int], classes: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build("mlp", MLP, shape, classes)


def test_a_default_is_the_same_as_its_value_written_out() -> None:
    written = CONVNET | {"stem.kernel": 3, "stem.stride": 1, "head.pooling": "average"}
    family = find_family("convnet")
    assert dict(family.resolve(CONVNET).values) == dict(family.resolve(written).values)


# --- spaces


def space_of(family: str, *choices: Choice) -> SearchSpace:
    return SearchSpace("mine", family, "", choices)


def choice(name: str, *values: Value, **when: tuple[Value, ...]) -> Choice:
    return Choice(name, "architecture", values, when)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((choice("layer1.width", 8),), r"search space 'mine': family 'mlp' needs choice 'layers' \(declare it\)"),
        (
            (choice("layers", 1), choice("layer1.widht", 8)),
            "'mine': unknown choice of family 'mlp': 'layer1.widht'; did",
        ),
        ((choice("layers", 1, 9), choice("layer1.width", 8)), "'layers' must be a whole number from 1 to 4, but got 9"),
        ((choice("layers", 1),), r"family 'mlp' needs choice 'layer1.width' where layers is 1 \(declare it\)"),
        (
            (choice("layers", 1, 2), choice("layer1.width", 8)),
            r"family 'mlp' needs choice 'layer2.width' where layers is 2 \(declare it\)",
        ),
        (
            (choice("layers", 2, 3), choice("layer1.width", 8, layers=(3,)), choice("layer2.width", 8)),
            r"family 'mlp' needs choice 'layer1.width' where layers is 2 \(widen its 'when'\)",
        ),
        (
            (choice("layers", 1, 2), choice("layer1.width", 8), choice("layer2.width", 8)),
            r"'layer2.width' is offered where it has no meaning: where layers is 1 \(add when: {layers: \[2\]}\)",
        ),
        (
            (choice("input.pooling", 1, 2), choice("layers", 1, input__pooling=(1,))),
            "unknown choice 'input__pooling'",
        ),
    ],
)
def test_check_space_refuses(choices: tuple[Choice, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        check_space(space_of("mlp", *choices))


def test_check_space_refuses_an_unknown_family_and_a_misread_word() -> None:
    with pytest.raises(SpaceError, match="unknown family 'mpl'; did you mean 'mlp'"):
        check_space(space_of("mpl", choice("layers", 1)))
    choices = (choice("stem.width", 8), choice("stages", 1), choice("stage1.pooling", False))
    with pytest.raises(
        SpaceError, match=r"'stage1\.pooling' must be one of 'max'.* but got False .*YAML reads yes, no"
    ):
        check_space(space_of("convnet", *choices))


def test_a_choice_with_a_default_may_be_absent_or_conditional() -> None:
    width = choice("layer1.width", 8, 16)
    check_space(space_of("mlp", choice("layers", 1), width))
    pooling = Choice("input.pooling", "architecture", (1, 2), {"layer1.width": (16,)})
    check_space(space_of("mlp", choice("layers", 1), width, pooling))


def test_a_condition_may_be_indirect() -> None:
    """What counts is with which designs a choice comes, not how the space says so."""
    chain = (
        choice("input.pooling", 1, 2),
        Choice("layers", "architecture", (1, 2), {}),
        Choice("layer1.width", "architecture", (8, 16), {}),
        Choice(
            "layer2.width", "architecture", (8,), {"layers": (2,), "layer1.width": (8, 16), "input.pooling": (1, 2)}
        ),
    )
    check_space(space_of("mlp", *chain))
    narrower = (*chain[:3], Choice("layer2.width", "architecture", (8,), {"layers": (2,), "layer1.width": (16,)}))
    with pytest.raises(SpaceError, match=r"needs choice 'layer2\.width' where layer1\.width is 8, layers is 2"):
        check_space(space_of("mlp", *narrower))


def test_a_count_may_itself_depend_on_a_stage() -> None:
    """The choice that a rule is about may come before, and decide, the one that the rule names."""
    choices = (
        choice("layer1.width", 8, 16),
        Choice("layers", "architecture", (1,), {"layer1.width": (8,)}),
    )
    with pytest.raises(SpaceError, match=r"needs choice 'layers' where layer1\.width is 16"):
        check_space(space_of("mlp", *choices))


@pytest.mark.parametrize("space", list_spaces(), ids=lambda space: space.name)
def test_every_design_of_a_space_that_passed_resolves(space: SearchSpace) -> None:
    check_space(space)
    rng = random.Random(0)
    for _ in range(200):
        design = space.sample(rng)
        resolved = find_family(space.family).resolve(design.architecture)
        assert design.architecture.items() <= resolved.values.items()


# Choices whose condition keeps designs cheap; without it they would have a meaning all the same.
FOR_THE_COST = {"stage1.depth", "stage1.kernel"}


@pytest.mark.parametrize("space", list_spaces(), ids=lambda space: space.name)
def test_a_shipped_space_that_loses_any_condition_is_refused(space: SearchSpace) -> None:
    for lost in space.choices:
        if lost.group == "architecture" and lost.when and lost.name not in FOR_THE_COST:
            choices = [Choice(c.name, c.group, c.values, {} if c is lost else c.when) for c in space.choices]
            with pytest.raises(SpaceError, match=f"'{lost.name}' is offered where it has no meaning"):
                check_space(SearchSpace("broken", space.family, "", tuple(choices)))


# --- registering


@pytest.mark.usefixtures("_own_registry")
def test_a_family_of_ones_own() -> None:
    rules = each_stage("parts", "part", 2, whole("width", 1, 8), one_of("gate", False, True, default=False))

    @register("own", whole("parts", 1, 2), *rules)
    def build_own(architecture: Architecture, shape: FeatureMap, classes: int) -> nn.Module:
        width = architecture.whole("part1.width") + architecture.flag("part1.gate")
        features = nn.Sequential(nn.Flatten(), nn.Linear(shape.features, width))
        return Network(features, nn.ReLU(), nn.Linear(width, classes))

    network = build("own", {"parts": 1, "part1.width": 3}, (1, 2, 2), 5)
    assert network(torch.zeros(1, 1, 2, 2)).shape == (1, 5)
    with pytest.raises(SpaceError, match=r"'part1\.gate' must be one of False, True, but got 0"):
        build("own", {"parts": 1, "part1.width": 3, "part1.gate": 0}, (1, 2, 2), 5)
    check_space(space_of("own", choice("parts", 1, 2), choice("part1.width", 3), choice("part2.width", 3, parts=(2,))))


@pytest.mark.usefixtures("_own_registry")
def test_a_name_can_be_registered_once() -> None:
    with pytest.raises(ValueError, match="family 'mlp' is registered already"):
        register("mlp")
    with pytest.raises(ValueError, match="family 'own' has two rules of one name"):
        register("own", whole("width"), whole("width"))


@pytest.mark.usefixtures("_own_registry")
def test_a_default_decides_where_its_choice_is_absent() -> None:
    """A rule may depend on a choice that has a default, and that on another."""
    rules = (
        one_of("head", "plain", "wide", default="wide"),
        Rule("kind", ("a", "b"), default="a", when={"head": ("wide",)}),
        Rule("width", when={"kind": ("a",)}),
    )

    @register("own", *rules)
    def build_own(architecture: Architecture, shape: FeatureMap, classes: int) -> nn.Module:
        return Network(nn.Flatten(), nn.Identity(), nn.Linear(shape.features, classes))

    check_space(space_of("own", choice("width", 8)))
    check_space(space_of("own", choice("head", "plain", "wide"), choice("width", 8, head=("wide",))))
    check_space(space_of("own", choice("kind", "a", "b"), choice("width", 8, kind=("a",))))
    with pytest.raises(SpaceError, match="needs choice 'width' where head is wide, kind is a"):
        check_space(space_of("own", choice("head", "wide")))
    with pytest.raises(SpaceError, match="'width' is offered where it has no meaning: where kind is absent"):
        check_space(space_of("own", choice("head", "plain"), choice("width", 8)))
    with pytest.raises(SpaceError, match="choice 'width' has no meaning where kind is absent"):
        build("own", {"head": "plain", "width": 8}, (1, 2, 2), 5)
