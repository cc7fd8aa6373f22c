"""Kinds of designs that a picture tells apart by colour or shape, and short names for them."""

from __future__ import annotations

from collections.abc import Sequence

from nas.design import Design
from nas.record import TrialRecord


def precision(design: Design) -> str:
    """How the design computes: ``float32``, ``int8``, ``int8 weights``, ``4-bit weights``."""
    weights, activations = int(design.step("weight_bits")), int(design.step("activation_bits"))
    if weights >= 32 and activations >= 32:
        return "float32"
    name = "int8" if weights == 8 else f"{weights}-bit"
    return name if activations == weights else f"{name} weights"


def convolution(design: Design) -> str:
    """Which convolutions the design has: ``standard``, ``separable``, ``mixed``; its family where it chooses none."""
    kinds = {str(value) for name, value in design.architecture.items() if name.rpartition(".")[2] == "conv"}
    if not kinds:
        return design.family
    return kinds.pop() if len(kinds) == 1 else "mixed"


def short_name(record: TrialRecord, records: Sequence[TrialRecord]) -> str:
    """A trial's number and what sets its design apart, in a few words: ``26 separable, int8, −50 %``.

    What all records share is left out; a share with a minus is of channels pruned.
    """
    design = record.design
    words = []
    for kind in (convolution, precision):
        if len({kind(other.design) for other in records}) > 1:
            words.append(kind(design))
    ratio = float(design.step("pruning_ratio"))
    if ratio:
        words.append(f"−{100 * ratio:.0f} %")
    return f"{record.number} {', '.join(words)}".rstrip()
