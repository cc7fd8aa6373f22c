"""Designs in words."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from fakes import make_design

from nas.describe import describe, describe_lines
from nas.design import IDENTITY, Design, Value
from nas.space import list_spaces

SPACES = {space.name: space for space in list_spaces()}

CONVNET: dict[str, Value] = {
    "stem.width": 16,
    "stem.kernel": 3,
    "stem.stride": 1,
    "stages": 2,
    "stage1.conv": "separable",
    "stage1.kernel": 3,
    "stage1.width": 32,
    "stage1.depth": 2,
    "stage1.pooling": "max",
    "stage2.conv": "standard",
    "stage2.kernel": 5,
    "stage2.width": 64,
    "stage2.depth": 1,
    "stage2.pooling": "none",
    "head.pooling": "average",
    "head.hidden": 128,
}
MOBILENET: dict[str, Value] = {
    "activation": "hardswish",
    "stem.width": 8,
    "stem.stride": 2,
    "stages": 1,
    "stage1.expansion": 4,
    "stage1.kernel": 5,
    "stage1.width": 24,
    "stage1.depth": 3,
    "stage1.stride": 2,
    "stage1.squeeze_excite": True,
    "head.width": 128,
}
RESNET: dict[str, Value] = {
    "stem.width": 16,
    "stem.kernel": 5,
    "stem.pooling": "max",
    "stages": 2,
    "stage1.width": 16,
    "stage1.depth": 1,
    "stage1.stride": 1,
    "stage2.width": 32,
    "stage2.depth": 2,
    "stage2.stride": 2,
}
MLP: dict[str, Value] = {"input.pooling": 2, "layers": 2, "layer1.width": 128, "layer2.width": 32}


@pytest.mark.parametrize(
    ("family", "architecture", "words"),
    [
        ("convnet", CONVNET, "stem 16 · sep 3×3 ×2 → 32, max pool · conv 5×5 → 64 · head 128"),
        (
            "convnet",
            CONVNET
            | {"stem.kernel": 5, "stem.stride": 2, "stage1.pooling": "average", "stage2.pooling": "stride"}
            | {"head.pooling": "flatten", "head.hidden": 0},
            "stem 5×5 → 16, stride 2 · sep 3×3 ×2 → 32, average pool · conv 5×5 → 64, stride 2 · flatten",
        ),
        ("mobilenet", MOBILENET, "stem 8, stride 2 · mb4 5×5 ×3 → 24, stride 2, gated · head 128 · hard-swish"),
        ("resnet", RESNET, "stem 5×5 → 16, max pool · res → 16 · res ×2 → 32, stride 2"),
        ("mlp", MLP, "average 2×2 · mlp 128 → 32"),
        ("mlp", {"layers": 1, "layer1.width": 64}, "mlp 64"),
        (
            "transformer",
            {"stages": 2, "stage10.heads": 2, "stage2.heads": 4, "head.width": 8, "gate": True, "stem.width": 3},
            "stem.width 3 · stages 2 · stage2.heads 4 · stage10.heads 2 · gate yes · head.width 8",
        ),
        ("convnet", {"stem.width": 8, "stages": 1, "stage1.width": 16}, "stem.width 8 · stages 1 · stage1.width 16"),
        ("mlp", {"layers": "two", "layer1.width": 16}, "layers two · layer1.width 16"),
        ("empty", {}, ""),
    ],
)
def test_architecture_in_words(family: str, architecture: dict[str, Value], words: str) -> None:
    assert describe(Design(family, architecture, {})) == f"{words} · float32".removeprefix(" · ")


@pytest.mark.parametrize(
    ("compression", "words"),
    [
        ({}, "float32"),
        (dict(IDENTITY), "float32"),
        (
            {"pruning_ratio": 0.5, "weight_bits": 8, "activation_bits": 8, "distillation": True},
            "pruned 50 % · int8 · distilled",
        ),
        ({"pruning_ratio": 0.125}, "pruned 12.5 %"),
        ({"pruning_ratio": 0.07}, "pruned 7 %"),
        ({"weight_bits": 8}, "int8 weights"),
        ({"weight_bits": 4, "activation_bits": 8}, "4-bit weights, 8-bit activations"),
        ({"weight_sharing": "codebook"}, "shared weights (codebook)"),
        ({"distillation": True}, "distilled"),
    ],
)
def test_compression_in_words(compression: dict[str, Value], words: str) -> None:
    assert describe(make_design(**compression)) == f"stem 16 · sep 3×3 → 32, max pool · {words}"


def test_lines_run_from_input_to_output_and_name_every_compression_choice() -> None:
    lines = describe_lines(Design("convnet", CONVNET, {"pruning_ratio": 0.25, "distillation": True}))
    names = [name for name, _ in lines]
    assert names[0] == "family"
    assert names[1:4] == ["stem.kernel", "stem.stride", "stem.width"]
    assert names[4] == "stages"
    assert names.index("stage1.width") < names.index("stage2.conv") < names.index("head.hidden")
    assert names[-len(IDENTITY) :] == list(IDENTITY)
    assert dict(lines)["pruning_ratio"] == "25 %"
    assert dict(lines)["distillation"] == "yes"
    assert dict(lines)["weight_bits"] == "32"
    assert len(lines) == 1 + len(CONVNET) + len(IDENTITY)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_shipped_family_has_words_of_its_own(name: str) -> None:
    rng = random.Random(0)
    for _ in range(50):
        words = describe(SPACES[name].sample(rng))
        assert "\n" not in words
        assert ".width" not in words, "described by the names of its choices, not in words"


@pytest.mark.parametrize("name", sorted(SPACES))
def test_words_tell_architectures_apart(name: str) -> None:
    """Two designs with the same words are the same design: nothing that a space offers is left unsaid."""
    rng = random.Random(1)
    seen: dict[str, Design] = {}
    for _ in range(300):
        design = SPACES[name].sample(rng)
        twin = seen.setdefault(describe(design), design)
        for choice in IDENTITY:
            assert twin.step(choice) == design.step(choice)
        assert twin.architecture == design.architecture


def test_one_changed_choice_changes_the_words() -> None:
    rng = random.Random(2)
    for space in SPACES.values():
        for _ in range(20):
            flat = space.flat(space.sample(rng))
            design = space.design(flat)
            for choice in space.choices:
                for value in choice.values:
                    other = space.design(flat | {choice.name: value})
                    assert (describe(other) == describe(design)) == (other == design), choice.name


def test_importing_needs_no_torch() -> None:
    code = "import sys, nas.describe, nas.space; sys.exit('torch' in sys.modules or 'optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
