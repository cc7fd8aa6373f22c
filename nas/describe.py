"""A design in words: one line for tables and hovers, pairs for detail cards. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from nas.compression import CHOICES, IDENTITY, split_name
from nas.design import Design, Value

SEPARATOR = " · "
POOLING_WORDS = {"max": ", max pool", "average": ", average pool", "stride": ", stride 2", "none": ""}
CRITERION_WORDS = {
    "l1": "by L1",
    "l2": "by L2",
    "bn_scale": "by batch-norm scale",
    "taylor": "by Taylor",
    "random": "at random",
}
FORMATS: Mapping[Value, str] = {32: "float32", 16: "fp16", 8: "int8", 4: "int4"}  # by bits

# Where a trial's design came from, by the origin that its record keeps.
ORIGINS: Mapping[str, str] = {
    "asked": "the sampler",
    "baseline": "the search space, as its baseline",
    "first": "the search space, as one to begin with",
    "prior": "the sensitivity of another study's network",
    "warm": "the front of an earlier study",
    "unseen": "a random draw, as the sampler repeated itself",
    "fan": "a trained network, compressed in another way",
    "promotion": "a training that was stopped, and goes on",
    "drawn": "chance, to see what else there is",
    "supernet": "the supernet, which ranks it high",
}

# Where a choice's first part stands in a list of choices: input before stages before head.
_RANKS = {"activation": 0, "input": 0, "stem": 1, "stages": 2, "layers": 2, "stage": 3, "layer": 3, "head": 5}
_OTHER_RANK = 4

Architecture = Mapping[str, Value]


def describe(design: Design) -> str:
    """The design in words, on one line.

    Of the compression only what is done is named, and of its settings those that are not the usual ones; ``float32``
    where nothing is done. A family that is not known here, or a design without what its family's words need, is
    described by the names and values of its choices.
    """
    words = _FAMILIES.get(design.family)
    try:
        parts = words(design.architecture) if words else _by_name(design.architecture)
    except (KeyError, ValueError):  # a choice is absent, or a count is no number
        parts = _by_name(design.architecture)
    return SEPARATOR.join([*parts, *(_compression(design) or ["float32"])])


def describe_lines(design: Design) -> list[tuple[str, str]]:
    """Choices and their values as text, in the order: family, architecture from input to output, compression.

    Of the compression the choices that stand for themselves are all there, left out or not; what only refines another
    (a criterion, a temperature) and what is a stage's own is there where the design names it.
    """
    named = design.compression
    lines = [("family", design.family)]
    lines += [(name, _text(name, value)) for name, value in _in_order(design.architecture)]
    for choice, known in CHOICES.items():
        if known.refines is None or choice in named:
            lines.append((choice, _text(choice, design.step(choice))))
        own = (f"{stage}.{choice}" for stage in design.stages)
        lines += [(name, _text(choice, named[name])) for name in own if name in named]
    return [*lines, *((name, _text(name, named[name])) for name in named if split_name(name)[1] not in CHOICES)]


def origin_words(origin: str) -> str:
    """Where a trial's design came from; an origin that is not known here is told by its name."""
    return ORIGINS.get(origin, origin)


def lineage(origin: str, parent: int | None, spared: bool = False) -> str:
    """What a trial goes on from, short enough for one line: ``fan of 3``, ``goes on from 7``; empty where from nothing.

    Args:
        origin: As its record keeps it.
        parent: The trial whose network, checkpoint or weights it took, if any.
        spared: Whether it would have been screened out.
    """
    if origin == "fan":
        return "fan" if parent is None else f"fan of {parent}"
    if origin == "promotion":
        return "goes on" if parent is None else f"goes on from {parent}"
    named = {"warm": "warm start", "supernet": "supernet"}.get(origin, "")
    inherited = "" if parent is None else f"weights of {parent}"
    return ", ".join(filter(None, [named, inherited, "spared" if spared else ""]))


def format_words(weights: Value, activations: Value) -> str:
    """The number formats of weights and activations: ``int8``, ``int4 weights``, ``int4 weights, int8 activations``."""
    first, second = FORMATS.get(weights, f"{weights}-bit"), FORMATS.get(activations, f"{activations}-bit")
    if weights == activations:
        return first
    if activations == 32:
        return f"{first} weights"
    # Beside integer weights activations are integers too, also those of 16 bits.
    return f"{first} weights, {'int16' if activations == 16 else second} activations"


def _compression(design: Design) -> list[str]:
    """What is done to the trained network, in the order in which it is done; last, whether it learnt from a teacher."""
    parts = [_pruning(design)]
    if sparsity := float(design.step("sparsity")):
        parts.append(f"{_text('sparsity', sparsity)} zeros")
    if design.step("weight_sharing") != IDENTITY["weight_sharing"]:
        parts.append(f"{design.step('codebook_bits')}-bit codebook")
    parts.append(_bits(design))
    if design.step("distillation"):
        parts.append(f"distilled{_distillation(design)}")
    return [part for part in parts if part]


def _pruning(design: Design) -> str:
    """``pruned 50 %, stage2 75 %, by Taylor in 3 steps``; empty where nothing is pruned."""
    ratio = design.step("pruning_ratio")
    own = _own_values(design, "pruning_ratio")
    if not ratio and not own:
        return ""
    said = [f"{stages} {_text('pruning_ratio', value) if value else 'not'}" for (value,), stages in own]
    if ratio:
        said.insert(0, f"pruned {_text('pruning_ratio', ratio)}")
    else:  # the stages alone: "stage2 pruned 75 %, stage3 50 %"
        (value,), stages = own[0]
        said[0] = f"{stages} pruned {_text('pruning_ratio', value)}"
    how = _pruning_settings(design)
    return f"{', '.join(said)}{',' if len(said) > 1 and how else ''}{how}"


def _pruning_settings(design: Design) -> str:
    parts = []
    if (criterion := design.step("pruning_criterion")) != IDENTITY["pruning_criterion"]:
        parts.append(CRITERION_WORDS.get(str(criterion), f"by {criterion}"))
    if (steps := design.step("pruning_steps")) != IDENTITY["pruning_steps"]:
        parts.append(f"in {steps} steps")
    if (rounding := design.step("pruning_rounding")) != IDENTITY["pruning_rounding"]:
        parts.append("to any width" if rounding == 1 else f"to multiples of {rounding}")
    return "".join(f" {part}" for part in parts)


def _bits(design: Design) -> str:
    """``int8 but stage1 float32, quantisation-aware``; empty where the network stays float32."""
    network = design.step("weight_bits"), design.step("activation_bits")
    own = _own_values(design, "weight_bits", "activation_bits")
    if network == (32, 32) and not own:
        return ""
    parts = [format_words(*network)]
    if own:
        parts[0] += f" but {' and '.join(f'{stages} {format_words(*values)}' for values, stages in own)}"
    if (calibration := design.step("calibration")) != IDENTITY["calibration"]:
        parts.append(f"{calibration} calibration")
    if design.step("quantisation_aware"):
        parts.append("quantisation-aware")
    return ", ".join(parts)


def _distillation(design: Design) -> str:
    """Temperature and weight where they are not the usual ones: `` (T 2, weight 0.9)``."""
    settings = (("distillation_temperature", "T"), ("distillation_weight", "weight"))
    said = [
        f"{word} {_text(name, design.step(name))}" for name, word in settings if design.step(name) != IDENTITY[name]
    ]
    return f" ({', '.join(said)})" if said else ""


def _own_values(design: Design, *choices: str) -> list[tuple[tuple[Value, ...], str]]:
    """Where stages have other values than the network: the values, with the stages that share them joined by +."""
    network = tuple(design.step(choice) for choice in choices)
    stages: dict[tuple[Value, ...], list[str]] = {}
    for stage in design.stages:
        values = tuple(design.step(choice, stage) for choice in choices)
        if values != network:
            stages.setdefault(values, []).append(stage)
    return [(values, "+".join(names)) for values, names in stages.items()]


def _convnet(architecture: Architecture) -> list[str]:
    parts = [_stem(architecture)]
    for stage in _stages(architecture, "stages", "stage"):
        kind = "sep" if architecture[f"{stage}.conv"] == "separable" else "conv"
        pooling = str(architecture[f"{stage}.pooling"])
        body = (
            f"{kind} {_square(architecture.get(f'{stage}.kernel', 3))}{_times(architecture.get(f'{stage}.depth', 1))}"
        )
        parts.append(f"{body} → {architecture[f'{stage}.width']}{POOLING_WORDS.get(pooling, f', {pooling}')}")
    if architecture.get("head.pooling") == "flatten":
        parts.append("flatten")
    if hidden := architecture["head.hidden"]:
        parts.append(f"head {hidden}")
    return parts


def _mobilenet(architecture: Architecture) -> list[str]:
    parts = [_stem(architecture)]
    for stage in _stages(architecture, "stages", "stage"):
        expansion, kernel, depth, width, stride = (
            architecture[f"{stage}.{part}"] for part in ("expansion", "kernel", "depth", "width", "stride")
        )
        gate = ", gated" if architecture.get(f"{stage}.squeeze_excite") else ""
        parts.append(f"mb{expansion} {_square(kernel)}{_times(depth)} → {width}{_stride(stride)}{gate}")
    if last := architecture.get("head.width"):
        parts.append(f"head {last}")
    if architecture.get("activation") == "hardswish":
        parts.append("hard-swish")
    return parts


def _resnet(architecture: Architecture) -> list[str]:
    pooling = ", max pool" if architecture.get("stem.pooling") == "max" else ""
    parts = [_stem(architecture) + pooling]
    for stage in _stages(architecture, "stages", "stage"):
        depth, width, stride = (architecture[f"{stage}.{part}"] for part in ("depth", "width", "stride"))
        parts.append(f"res{_times(depth)} → {width}{_stride(stride)}")
    return parts


def _module(architecture: Architecture) -> list[str]:
    return [str(architecture["module"])]


def _mlp(architecture: Architecture) -> list[str]:
    window = architecture.get("input.pooling", 1)
    parts = [f"average {_square(window)}"] if window != 1 else []
    layers = _stages(architecture, "layers", "layer")
    return [*parts, "mlp " + " → ".join(str(architecture[f"{layer}.width"]) for layer in layers)]


_FAMILIES: Mapping[str, Callable[[Architecture], list[str]]] = {
    "convnet": _convnet,
    "mobilenet": _mobilenet,
    "resnet": _resnet,
    "mlp": _mlp,
    "module": _module,
}


def _stem(architecture: Architecture) -> str:
    """The stem's width; its kernel and stride where they are not the usual 3×3 and 1."""
    kernel = architecture.get("stem.kernel", 3)
    shape = f" {_square(kernel)} →" if kernel != 3 else ""
    return f"stem{shape} {architecture['stem.width']}{_stride(architecture.get('stem.stride', 1))}"


def _stages(architecture: Architecture, count: str, prefix: str) -> Iterator[str]:
    return (f"{prefix}{number}" for number in range(1, int(architecture[count]) + 1))


def _square(side: Value) -> str:
    return f"{side}×{side}"


def _times(depth: Value) -> str:
    return f" ×{depth}" if depth != 1 else ""


def _stride(stride: Value) -> str:
    return f", stride {stride}" if stride != 1 else ""


def _by_name(architecture: Architecture) -> list[str]:
    return [f"{name} {_text(name, value)}" for name, value in _in_order(architecture)]


def _in_order(architecture: Architecture) -> list[tuple[str, Value]]:
    """Choices from the network's input to its output, numbered stages in their order."""

    def position(item: tuple[str, Value]) -> tuple[int, int, str]:
        match = re.fullmatch(r"([^.\d]*)(\d*).*", item[0], flags=re.DOTALL)
        assert match is not None  # both groups may be empty
        prefix, number = match.groups()
        return _RANKS.get(prefix, _OTHER_RANK), int(number or 0), item[0]

    return sorted(architecture.items(), key=position)


def _text(name: str, value: Value) -> str:
    """A value as a person reads it: yes and no, shares in per cent."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in ("pruning_ratio", "sparsity"):
        return f"{100 * float(value):g} %"
    return f"{value:g}" if isinstance(value, float) else str(value)
