"""A design in words: one line for tables and hovers, pairs for detail cards. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from nas.design import IDENTITY, Design, Value

SEPARATOR = " · "
POOLING_WORDS = {"max": ", max pool", "average": ", average pool", "stride": ", stride 2", "none": ""}

# Where a choice's first part stands in a list of choices: input before stages before head.
_RANKS = {"activation": 0, "input": 0, "stem": 1, "stages": 2, "layers": 2, "stage": 3, "layer": 3, "head": 5}
_OTHER_RANK = 4

Architecture = Mapping[str, Value]


def describe(design: Design) -> str:
    """The design in words, on one line.

    Of the compression only what is done is named; ``float32`` where nothing is. A family that is not known here, or a
    design without what its family's words need, is described by the names and values of its choices.
    """
    words = _FAMILIES.get(design.family)
    try:
        parts = words(design.architecture) if words else _by_name(design.architecture)
    except (KeyError, ValueError):  # a choice is absent, or a count is no number
        parts = _by_name(design.architecture)
    return SEPARATOR.join([*parts, *(_compression(design) or ["float32"])])


def describe_lines(design: Design) -> list[tuple[str, str]]:
    """Every choice and its value as text: family, architecture from input to output, all compression choices."""
    return [
        ("family", design.family),
        *((name, _text(name, value)) for name, value in _in_order(design.architecture)),
        *((name, _text(name, design.step(name))) for name in IDENTITY),
    ]


def _compression(design: Design) -> list[str]:
    """What is done to the trained network, in the order in which it is done."""
    parts = []
    if ratio := design.step("pruning_ratio"):
        parts.append(f"pruned {_text('pruning_ratio', ratio)}")
    sharing = design.step("weight_sharing")
    if sharing != IDENTITY["weight_sharing"]:
        parts.append(f"shared weights ({sharing})")
    weights, activations = design.step("weight_bits"), design.step("activation_bits")
    if weights != 32 or activations != 32:
        parts.append(_bits(weights, activations))
    if design.step("distillation"):
        parts.append("distilled")
    return parts


def _bits(weights: Value, activations: Value) -> str:
    if weights == activations:
        return f"int{weights}"
    if activations == 32:
        return f"int{weights} weights"
    return f"{weights}-bit weights, {activations}-bit activations"


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
    if name == "pruning_ratio":
        return f"{100 * float(value):g} %"
    return f"{value:g}" if isinstance(value, float) else str(value)
