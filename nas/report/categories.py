"""Kinds of designs that a picture tells apart by colour or shape, and short names for them."""

from __future__ import annotations

from collections.abc import Sequence

from nas.design import IDENTITY, Design
from nas.record import TrialRecord

# How a design computes, by the bits of weights and activations; W and A stand for these two where they differ.
PRECISIONS = {
    (32, 32): "float32",
    (16, 16): "fp16",
    (16, 32): "fp16 weights",
    (8, 8): "int8",
    (8, 32): "int8 weights",
    (4, 32): "int4 weights",
}
CODEBOOK, MIXED = "codebook", "mixed bits"


def precision(design: Design) -> str:
    """How the design computes: ``float32``, ``int8``, ``int4 weights``, ``W4A8``, ``codebook``, ``mixed bits``.

    Mixed are the bits where a stage has others than the network.
    """
    if design.step("weight_sharing") != IDENTITY["weight_sharing"]:
        return CODEBOOK
    network, *others = {
        (int(design.step("weight_bits", stage)), int(design.step("activation_bits", stage)))
        for stage in (None, *design.stages)
    }
    return MIXED if others else PRECISIONS.get(network, f"W{network[0]}A{network[1]}")


def convolution(design: Design) -> str:
    """Which convolutions the design has: ``standard``, ``separable``, ``mixed``; its family where it chooses none."""
    kinds = {str(value) for name, value in design.architecture.items() if name.rpartition(".")[2] == "conv"}
    if not kinds:
        return design.family
    return kinds.pop() if len(kinds) == 1 else "mixed"


def short_name(record: TrialRecord, records: Sequence[TrialRecord]) -> str:
    """A trial's number and what sets its design apart, in a few words: ``26 separable, int8, −50 %``.

    What all records share is left out; a share with a minus is of channels pruned, from the stage that loses least to
    the one that loses most.
    """
    design = record.design
    words = []
    if len({convolution(other.design) for other in records}) > 1:
        words.append(convolution(design))
    if design.step("weight_sharing") != IDENTITY["weight_sharing"]:
        words.append(f"{design.step('codebook_bits')}-bit codebook")
    elif len({precision(other.design) for other in records}) > 1:
        words.append(precision(design))
    ratios = sorted(float(ratio) for ratio in design.everywhere("pruning_ratio"))
    if ratios[-1]:
        least = f"{100 * ratios[0]:.0f}…" if ratios[0] < ratios[-1] else ""
        words.append(f"−{least}{100 * ratios[-1]:.0f} %")
    if sparsity := float(design.step("sparsity")):
        words.append(f"{100 * sparsity:.0f} % zeros")
    return f"{record.number} {', '.join(words)}".rstrip()
