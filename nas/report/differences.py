"""What sets two designs apart, in few words: what each has that the other lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from nas.describe import SEPARATOR, describe, describe_lines
from nas.design import Design
from nas.report.categories import PRECISIONS, precision

MOST_PARTS = 7  # of one design; of more the last are only counted
# Changes the weights and nothing that is counted or timed, nor does what refines it.
WITHOUT_COST = "distillation"


def differences(design: Design, other: Design) -> tuple[str, str]:
    """What each of two designs has that the other lacks, as ``describe`` names it: layers, then compression.

    How a design was distilled changes its weights alone and is left out. Designs that read alike differ in
    a choice that their words do not name; then those choices are told by name and value.

    Returns:
        The one's parts and the other's, such as ``sep 5×5 → 32 · int8`` and ``conv 3×3 → 32 · float32``; empty where
        one has nothing that the other lacks.
    """
    first, second = _parts(design), _parts(other)
    if first == second:
        first, second = (
            [f"{name} {value}" for name, value in describe_lines(_costing(one))] for one in (design, other)
        )
    own: list[str] = []
    others: list[str] = []
    for what, start, end, other_start, other_end in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if what != "equal":
            own += first[start:end]
            others += second[other_start:other_end]
    return _shortened(own), _shortened(others)


def difference_words(design: Design, other: Design) -> str:
    """A phrase of them: ``sep 5×5 → 32 instead of conv 3×3 → 32``, ``with head 64``; empty where nothing differs."""
    own, others = differences(design, other)
    if own and others:
        return f"{own} instead of {others}"
    return f"with {own}" if own else f"without {others}" if others else ""


def _parts(design: Design) -> list[str]:
    """The parts of a design's words; that it is float32 is among them whatever else is done to it."""
    parts = describe(_costing(design)).split(SEPARATOR)
    computes = PRECISIONS[32, 32]
    return [*parts, computes] if precision(design) == computes and computes not in parts else parts


def _costing(design: Design) -> Design:
    """The design without the choices that cost neither operations nor time."""
    kept = {name: value for name, value in design.compression.items() if not name.startswith(WITHOUT_COST)}
    return replace(design, compression=kept)


def _shortened(parts: Sequence[str]) -> str:
    if len(parts) <= MOST_PARTS:
        return SEPARATOR.join(parts)
    return SEPARATOR.join([*parts[: MOST_PARTS - 1], f"{len(parts) - MOST_PARTS + 1} more"])
