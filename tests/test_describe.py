"""Designs in words."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest
from fakes import make_design

from nas.choice import Choice
from nas.compression import CHOICES
from nas.describe import ORIGINS, describe, describe_lines, lineage, origin_words
from nas.design import IDENTITY, Design, Value
from nas.record import TrialRecord
from nas.space import SearchSpace, list_spaces

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
        ("module", {"module": "resnet18"}, "resnet18"),
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
        ({"weight_bits": 4}, "int4 weights"),
        ({"weight_bits": 4, "activation_bits": 8}, "int4 weights, int8 activations"),
        ({"weight_bits": 16, "activation_bits": 16}, "fp16"),
        ({"weight_bits": 16}, "fp16 weights"),
        ({"weight_bits": 8, "activation_bits": 16}, "int8 weights, int16 activations"),
        ({"weight_sharing": "kmeans"}, "4-bit codebook"),
        ({"weight_sharing": "kmeans", "codebook_bits": 3}, "3-bit codebook"),
        ({"sparsity": 0.9}, "90 % zeros"),
        ({"distillation": True}, "distilled"),
        ({"distillation": True, "distillation_temperature": 1.0, "distillation_weight": 0.5}, "distilled"),
        ({"distillation": True, "distillation_temperature": 2.0}, "distilled (T 2)"),
        (
            {"distillation": True, "distillation_temperature": 2.5, "distillation_weight": 0.9},
            "distilled (T 2.5, weight 0.9)",
        ),
        (
            {"pruning_ratio": 0.5, "sparsity": 0.8, "weight_sharing": "kmeans", "distillation": True},
            "pruned 50 % · 80 % zeros · 4-bit codebook · distilled",
        ),
        ({"pruning_ratio": 0.5, "pruning_criterion": "l1", "pruning_steps": 1, "pruning_rounding": 8}, "pruned 50 %"),
        ({"pruning_ratio": 0.5, "pruning_criterion": "taylor", "pruning_steps": 3}, "pruned 50 % by Taylor in 3 steps"),
        ({"pruning_ratio": 0.5, "pruning_criterion": "random"}, "pruned 50 % at random"),
        ({"pruning_ratio": 0.5, "pruning_rounding": 16}, "pruned 50 % to multiples of 16"),
        ({"pruning_ratio": 0.5, "pruning_rounding": 1}, "pruned 50 % to any width"),
        ({"stage2.pruning_ratio": 0.75}, "stage2 pruned 75 %"),
        ({"stage1.pruning_ratio": 0.25, "stage2.pruning_ratio": 0.75}, "stage1 pruned 25 %, stage2 75 %"),
        (
            {"pruning_ratio": 0.5, "stage1.pruning_ratio": 0.0, "stem.pruning_ratio": 0.0},
            "pruned 50 %, stage1+stem not",
        ),
        (
            {"pruning_ratio": 0.5, "stage2.pruning_ratio": 0.75, "pruning_criterion": "l2"},
            "pruned 50 %, stage2 75 %, by L2",
        ),
        ({"pruning_ratio": 0.5, "stage2.pruning_ratio": 0.5}, "pruned 50 %"),
        ({"stage2.pruning_ratio": 0.0}, "float32"),
        (
            {"weight_bits": 8, "activation_bits": 8, "stage1.weight_bits": 32, "stage1.activation_bits": 32},
            "int8 but stage1 float32",
        ),
        ({"stage1.weight_bits": 8, "stem.weight_bits": 8}, "float32 but stage1+stem int8 weights"),
        (
            {"weight_bits": 8, "head.weight_bits": 4, "stem.weight_bits": 32},
            "int8 weights but head int4 weights and stem float32",
        ),
        ({"stage1.weight_bits": 32}, "float32"),
        (
            {"weight_bits": 8, "activation_bits": 8, "calibration": "entropy", "quantisation_aware": True},
            "int8, entropy calibration, quantisation-aware",
        ),
        (
            {"weight_bits": 8, "activation_bits": 8, "calibration": "minmax", "quantisation_aware": False},
            "int8",
        ),
    ],
)
def test_compression_in_words(compression: dict[str, Value], words: str) -> None:
    assert describe(make_design(**compression)) == f"stem 16 · sep 3×3 → 32, max pool · {words}"


BASE = [name for name, choice in CHOICES.items() if choice.refines is None]


def test_lines_run_from_input_to_output_and_name_every_choice_that_stands_for_itself() -> None:
    lines = describe_lines(Design("convnet", CONVNET, {"pruning_ratio": 0.25, "distillation": True}))
    names = [name for name, _ in lines]
    assert names[0] == "family"
    assert names[1:4] == ["stem.kernel", "stem.stride", "stem.width"]
    assert names[4] == "stages"
    assert names.index("stage1.width") < names.index("stage2.conv") < names.index("head.hidden")
    assert names[-len(BASE) :] == BASE
    assert dict(lines)["pruning_ratio"] == "25 %"
    assert dict(lines)["distillation"] == "yes"
    assert dict(lines)["weight_bits"] == "32"
    assert len(lines) == 1 + len(CONVNET) + len(BASE)


def test_lines_name_what_refines_and_what_stages_have_where_the_design_does() -> None:
    compression: dict[str, Value] = {
        "pruning_ratio": 0.5,
        "stage2.pruning_ratio": 0.75,
        "pruning_criterion": "l1",
        "stage1.weight_bits": 8,
        "from_another_version": True,
    }
    lines = describe_lines(Design("module", {"module": "resnet18"}, compression))
    assert lines[:5] == [
        ("family", "module"),
        ("module", "resnet18"),
        ("pruning_ratio", "50 %"),
        ("stage2.pruning_ratio", "75 %"),
        ("pruning_criterion", "l1"),
    ]
    assert lines.index(("weight_bits", "32")) == lines.index(("stage1.weight_bits", "8")) - 1
    assert lines[-1] == ("from_another_version", "yes")
    assert "codebook_bits" not in dict(lines)


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


def everything() -> SearchSpace:
    """A space with every compression choice, some of them per stage, on one architecture."""

    def when(name: str, *values: Value) -> dict[str, tuple[Value, ...]]:
        return {name: values}

    choices = [
        Choice("layers", "architecture", (1,)),
        Choice("layer1.width", "architecture", (8,)),
        Choice("pruning_ratio", "compression", (0.25, 0.5)),
        Choice("layer1.pruning_ratio", "compression", (0.0, 0.25, 0.5)),
        Choice("pruning_criterion", "compression", ("l1", "l2", "bn_scale", "taylor", "random")),
        Choice("pruning_steps", "compression", (1, 2, 3)),
        Choice("pruning_rounding", "compression", (1, 8, 16)),
        Choice("sparsity", "compression", (0.0, 0.5, 0.9)),
        Choice("distillation", "compression", (False, True)),
        Choice("distillation_temperature", "compression", (2.0, 4.0), when("distillation", True)),
        Choice("distillation_weight", "compression", (0.5, 0.9), when("distillation", True)),
        Choice("weight_sharing", "compression", ("none", "kmeans")),
        Choice("codebook_bits", "compression", (3, 4), when("weight_sharing", "kmeans")),
        Choice("weight_bits", "compression", (16, 8, 4), when("weight_sharing", "none")),
        Choice("activation_bits", "compression", (32, 16), when("weight_bits", 16, 8, 4)),
        Choice("layer1.weight_bits", "compression", (16, 8, 4), when("weight_bits", 16, 8, 4)),
        Choice("calibration", "compression", ("minmax", "entropy"), when("activation_bits", 16)),
        Choice("quantisation_aware", "compression", (False, True), when("weight_bits", 16, 8, 4)),
    ]
    return SearchSpace("everything", "mlp", "", tuple(choices))


def test_words_tell_every_compression_apart() -> None:
    space = everything()
    assert {choice.name.rpartition(".")[2] for choice in space.choices} >= CHOICES.keys()
    rng = random.Random(3)
    seen: dict[str, Design] = {}
    for _ in range(3000):
        design = space.sample(rng)
        assert seen.setdefault(describe(design), design) == design
    assert len(seen) > 2000


@pytest.mark.parametrize(
    ("origin", "parent", "spared", "words"),
    [
        ("asked", None, False, ""),
        ("baseline", None, False, ""),
        ("fan", 3, False, "fan of 3"),
        ("promotion", 7, False, "goes on from 7"),
        ("asked", 5, False, "weights of 5"),
        ("asked", None, True, "spared"),
        ("warm", None, False, "warm start"),
        ("supernet", 4, True, "supernet, weights of 4, spared"),
        ("fan", None, False, "fan"),
    ],
)
def test_what_a_trial_goes_on_from(origin: str, parent: int | None, spared: bool, words: str) -> None:
    assert lineage(origin, parent, spared) == words


def test_every_origin_of_a_record_has_words() -> None:
    documented = TrialRecord.__doc__
    assert documented is not None
    about = documented.partition("origin:")[2].partition("design: What")[0]
    assert set(re.findall(r"``(\w+)``", about)) == set(ORIGINS)
    assert origin_words("fan") == "a trained network, compressed in another way"
    assert origin_words("of another version") == "of another version"


def test_importing_needs_no_torch() -> None:
    code = "import sys, nas.describe, nas.space; sys.exit('torch' in sys.modules or 'optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
