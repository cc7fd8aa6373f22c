"""The compression choices: what each may be, what it is where it is left out, and which of them go together.

Every technique in ``nas.compress`` reads its settings from these choices; a new one adds its choices to this table.
A choice that is open per stage may also be named ``<stage>.<choice>`` (``stage2.weight_bits``): the stage is a part of
the network, named as its module is (``stem``, ``stage2``, ``head``, ``layer1.0``), and follows the choice for the whole
network where it has no value of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Value = bool | int | float | str

# The order in which techniques are applied; a design says what is done, never when.
ORDER = ("train", "prune", "sparsify", "finetune", "share", "quantise", "freeze")

CRITERIA = ("l1", "l2", "bn_scale", "taylor", "random")
CALIBRATIONS = ("minmax", "entropy", "percentile")


@dataclass(frozen=True)
class CompressionChoice:
    """One thing that may be chosen about compression.

    Args:
        identity: The value that leaves it out; taken where a design does not name the choice.
        kind: The type of its values.
        legal: Whether a value of that type can be carried out.
        rule: Which values are legal, in words.
        per_stage: Whether a single stage may have a value of its own.
        refines: The choice that this one only refines; without that it does nothing.
    """

    identity: Value
    kind: type
    legal: Callable[[Any], bool]
    rule: str
    per_stage: bool = False
    refines: str | None = None


def _one_of(identity: Value, *values: Value, per_stage: bool = False, refines: str | None = None) -> CompressionChoice:
    words = [repr(value) for value in values]
    rule = f"{', '.join(words[:-1])} or {words[-1]}"
    return CompressionChoice(identity, type(values[0]), lambda value: value in values, rule, per_stage, refines)


def _share(per_stage: bool = False) -> CompressionChoice:
    return CompressionChoice(0.0, float, lambda value: 0 <= value < 1, "at least 0 and less than 1", per_stage)


CHOICES: Mapping[str, CompressionChoice] = MappingProxyType(
    {
        "pruning_ratio": _share(per_stage=True),
        "pruning_criterion": _one_of("l1", *CRITERIA, refines="pruning_ratio"),
        "pruning_steps": CompressionChoice(
            1, int, lambda value: 1 <= value <= 20, "a whole number from 1 to 20", refines="pruning_ratio"
        ),
        "pruning_rounding": _one_of(8, 1, 2, 4, 8, 16, 32, refines="pruning_ratio"),
        "sparsity": _share(),
        "distillation": CompressionChoice(False, bool, lambda value: True, "true or false"),
        "distillation_temperature": CompressionChoice(
            1.0, float, lambda value: value > 0, "greater than 0", refines="distillation"
        ),
        "distillation_weight": CompressionChoice(
            0.5, float, lambda value: 0 < value <= 1, "greater than 0 and at most 1", refines="distillation"
        ),
        "weight_sharing": _one_of("none", "none", "kmeans"),
        "codebook_bits": CompressionChoice(
            4, int, lambda value: 2 <= value <= 8, "a whole number from 2 to 8", refines="weight_sharing"
        ),
        "weight_bits": _one_of(32, 32, 16, 8, 4, per_stage=True),
        "activation_bits": _one_of(32, 32, 16, 8, per_stage=True),
        "calibration": _one_of("minmax", *CALIBRATIONS, refines="activation_bits"),
        "quantisation_aware": CompressionChoice(
            False, bool, lambda value: True, "true or false", refines="weight_bits"
        ),
    }
)

# The value of each choice where a design does not name it: the step is left out.
IDENTITY: Mapping[str, Value] = MappingProxyType({name: choice.identity for name, choice in CHOICES.items()})

# Choices that change how a network is trained or what is pruned, but hardly what the file computes.
TRAINED_OTHERWISE = frozenset({
    "calibration", "distillation", "distillation_temperature", "distillation_weight", "pruning_criterion",
    "quantisation_aware",
})  # fmt: skip

# Bits of (weights, activations) that there is a way to carry out.
BITS = ((32, 32), (16, 32), (16, 16), (8, 32), (8, 16), (8, 8), (4, 32), (4, 16), (4, 8))


def split_name(name: str) -> tuple[str | None, str]:
    """The stage (None: the whole network) and the choice in a name: ``stage2.weight_bits`` → (stage2, weight_bits)."""
    stage, dot, choice = name.rpartition(".")
    return (stage, choice) if dot else (None, name)


def is_known(name: str) -> bool:
    """Whether there is a compression choice of that name, for the network or, where it is open to them, for a stage."""
    stage, choice = split_name(name)
    return choice in CHOICES and (stage is None or (bool(stage) and CHOICES[choice].per_stage))


def value_of(compression: Mapping[str, Value], choice: str, stage: str | None = None) -> Value:
    """The value of a choice for a stage: its own, else the network's, else the identity."""
    if stage is not None and f"{stage}.{choice}" in compression:
        return compression[f"{stage}.{choice}"]
    return compression.get(choice, IDENTITY[choice])


def stages_in(compression: Mapping[str, Value]) -> tuple[str, ...]:
    """The stages that have a value of their own, in the order of their names."""
    return tuple(sorted({stage for name in compression if (stage := split_name(name)[0]) is not None}))


def everywhere(compression: Mapping[str, Value], choice: str) -> tuple[Value, ...]:
    """The values that a choice has in the network: the network's own and those of single stages."""
    stages = (None, *stages_in(compression))
    return tuple(dict.fromkeys(value_of(compression, choice, stage) for stage in stages))


def leaves_out(name: str, value: Value) -> bool:
    """Whether a value of a choice leaves its step out."""
    return value == IDENTITY[split_name(name)[1]]


def choices_made(compression: Mapping[str, Value]) -> frozenset[tuple[str, Value]]:
    """The names and values that make a difference: the network's but for the identity, a stage's that are its own."""
    made = set()
    for name, value in compression.items():
        stage, choice = split_name(name)
        if value != (IDENTITY[choice] if stage is None else value_of(compression, choice)):
            made.add((name, value))
    return frozenset(made)


# Choices that only a graph of the exported file carries out: where the float network itself is run they have no effect.
ON_THE_GRAPH = frozenset({"weight_bits", "activation_bits", "weight_sharing"})


def made_on_the_graph(compression: Mapping[str, Value]) -> tuple[str, ...]:
    """The choices that were made and are carried out on the exported file's graph alone, in their order.

    These are the bits of weights and activations, shared weights, and what refines them, of the network and of stages.
    """

    def is_made(name: str, value: Value) -> bool:
        choice = split_name(name)[1]
        return (choice in ON_THE_GRAPH or CHOICES[choice].refines in ON_THE_GRAPH) and value != IDENTITY[choice]

    return tuple(name for name, value in compression.items() if is_made(name, value))


# What does not go together, and how to mend it.
Conflict = tuple[str, str]


def _bits_conflict(compression: Mapping[str, Value]) -> Conflict | None:
    for stage in (None, *stages_in(compression)):
        bits = (value_of(compression, "weight_bits", stage), value_of(compression, "activation_bits", stage))
        if bits not in BITS:
            where = f"{stage}." if stage else ""
            possible = [str(weights) for weights, activations in BITS if activations == bits[1]]
            return (
                f"{where}activation_bits {bits[1]} does not go with {where}weight_bits {bits[0]}",
                f"it needs weight_bits {' or '.join(possible)}: add when: {{weight_bits: [{', '.join(possible)}]}}",
            )
    return None


def _sharing_conflict(compression: Mapping[str, Value]) -> Conflict | None:
    sharing = value_of(compression, "weight_sharing")
    if sharing != "none" and any(bits != 32 for bits in everywhere(compression, "weight_bits")):
        return (
            f"weight_sharing '{sharing}' does not go with weight_bits below 32: a codebook has its own bits",
            "give weight_bits when: {weight_sharing: [none]}",
        )
    return None


def _refinement_conflict(compression: Mapping[str, Value]) -> Conflict | None:
    for name, choice in CHOICES.items():
        base = choice.refines
        if base is not None and name in compression and set(everywhere(compression, base)) <= {IDENTITY[base]}:
            return (
                f"choice '{name}' has no meaning where {base} is {IDENTITY[base]}",
                f"add when: {{{base}: [...]}} with the values of {base} that it refines",
            )
    return None


@dataclass(frozen=True)
class Rule:
    """Something that a design's compression must obey.

    Args:
        check: Says what does not go together in a design's compression, or None.
        looks_at: Which choices the check looks at together, in groups, given the stages with choices of their own: if
            every group by itself obeys, so does the whole.
    """

    check: Callable[[Mapping[str, Value]], Conflict | None]
    looks_at: Callable[[Collection[str]], list[set[str]]]


RULES = (
    Rule(
        _bits_conflict,
        lambda stages: [
            {f"{where}{bits}" for bits in ("weight_bits", "activation_bits") for where in ("", prefix)}
            for prefix in ("", *(f"{stage}." for stage in stages))
        ],
    ),
    Rule(
        _sharing_conflict,
        lambda stages: [
            {"weight_sharing", "weight_bits", f"{prefix}weight_bits"}
            for prefix in ("", *(f"{stage}." for stage in stages))
        ],
    ),
    Rule(
        _refinement_conflict,
        lambda stages: [
            {name, choice.refines, *(f"{stage}.{choice.refines}" for stage in stages)}
            for name, choice in CHOICES.items()
            if choice.refines is not None
        ],
    ),
)


def conflict(compression: Mapping[str, Value]) -> Conflict | None:
    """What in a design's compression does not go together: (what, how to mend it), or None."""
    return next((found for rule in RULES if (found := rule.check(compression)) is not None), None)
