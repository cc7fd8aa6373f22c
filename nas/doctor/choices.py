"""What becomes of each compression choice on the runtimes that are here.

A trial's own labels are read off the graph that ONNX Runtime really runs; this is what they will say, beforehand.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nas.compression import CHOICES
from nas.doctor.findings import ChoiceFinding, RuntimeFinding
from nas.outcome import Realisation
from nas.target import ONNX, RUNTIMES, SYMMETRIC, TORCH_PROGRAM

ALL_FORMS = (ONNX, SYMMETRIC, TORCH_PROGRAM)
# A torch program is the float network: what changes its weights' or activations' bits stands in ONNX files alone.
ONNX_FORMS = (ONNX, SYMMETRIC)
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni"}

REALISED, SIMULATED, UNSUPPORTED = Realisation.REALISED, Realisation.SIMULATED, Realisation.UNSUPPORTED


@dataclass(frozen=True)
class _Technique:
    """A row of the table.

    Args:
        setting: The choice with its values.
        choices: Those that it is made of, without those that only refine them.
        label: What it is on a CPU.
        note: What it saves.
        forms: The forms of a model that can have it.
        label_on_gpu: What it is on a GPU, where that differs.
    """

    setting: str
    choices: tuple[str, ...]
    label: Realisation
    note: str
    forms: tuple[str, ...] = ALL_FORMS
    label_on_gpu: Realisation | None = None


_TECHNIQUES = (
    _Technique("pruning_ratio", ("pruning_ratio",), REALISED, "whole channels are gone: time and size"),
    _Technique("sparsity", ("sparsity",), SIMULATED, "zeros in place: no time, a smaller download"),
    _Technique("distillation", ("distillation",), REALISED, "in training alone: accuracy"),
    _Technique(
        "weight_sharing kmeans",
        ("weight_sharing",),
        SIMULATED,
        "codebooks, rebuilt when the file is loaded: size, no time",
        ONNX_FORMS,
    ),
    _Technique(
        "weight_bits 8, activation_bits 8",
        ("weight_bits", "activation_bits"),
        REALISED,
        "{int8}: time and size",
        ONNX_FORMS,
    ),
    _Technique(
        "weight_bits 4, activation_bits 8",
        ("weight_bits", "activation_bits"),
        SIMULATED,
        "computed as int8, in half its size",
        ONNX_FORMS,
    ),
    _Technique(
        "weight_bits 16, activation_bits 16",
        ("weight_bits", "activation_bits"),
        SIMULATED,
        "float16: size; time on a GPU alone",
        ONNX_FORMS,
        REALISED,
    ),
    _Technique(
        "weight_bits 16, 8 or 4 alone",
        ("weight_bits",),
        SIMULATED,
        "stored so, computed in float32: size, no time",
        ONNX_FORMS,
    ),
    _Technique(
        "activation_bits 16 with 8 or 4",
        ("activation_bits", "weight_bits"),
        SIMULATED,
        "rounded to 16 bits: accuracy, no time",
        ONNX_FORMS,
    ),
    _Technique("quantisation_aware", ("quantisation_aware",), REALISED, "in training alone: accuracy", ONNX_FORMS),
)


def choice_findings(runtimes: Sequence[RuntimeFinding], features: Collection[str]) -> tuple[ChoiceFinding, ...]:
    """The compression choices in the order of the table above.

    Args:
        runtimes: What was found of the runtimes; those that are ready count.
        features: The processor's, as ``nas.measure.environment`` names them; empty where they are not told.
    """
    return tuple(_finding(technique, [r for r in runtimes if r.ready], features) for technique in _TECHNIQUES)


def _finding(technique: _Technique, ready: Sequence[RuntimeFinding], features: Collection[str]) -> ChoiceFinding:
    takers = [runtime for runtime in ready if runtime.form in technique.forms]
    labels = {_label(technique, runtime.device) for runtime in takers}
    best = next((label for label in (REALISED, SIMULATED) if label in labels), UNSUPPORTED)
    note = technique.note.format(int8=_int8_words(takers, features))
    if not takers:
        forms = [kind.title for kind in RUNTIMES.values() if set(kind.forms.values()) & set(technique.forms)]
        note = f"needs one of {', '.join(forms)}"
    return ChoiceFinding(
        technique.setting,
        _with_refinements(technique.choices),
        best,
        tuple(name_of(runtime) for runtime in takers if _label(technique, runtime.device) is best),
        note,
    )


def _label(technique: _Technique, device: str) -> Realisation:
    return technique.label_on_gpu if device == "cuda" and technique.label_on_gpu is not None else technique.label


def name_of(runtime: RuntimeFinding) -> str:
    """A runtime's name, with the device where that is a GPU."""
    return runtime.runtime if runtime.device == "cpu" else f"{runtime.runtime} ({runtime.device})"


def _int8_words(takers: Sequence[RuntimeFinding], features: Collection[str]) -> str:
    """How fast int8 is on the CPU, which decides what it is good for."""
    if all(runtime.device != "cpu" for runtime in takers):
        return "int8 kernels"
    if not features:
        return "int8, measure whether it is fast here"
    if DOT_PRODUCTS & set(features):
        return "int8, fast by VNNI"
    return "int8, slow without VNNI"


def _with_refinements(choices: tuple[str, ...]) -> tuple[str, ...]:
    """The choices and those that refine them and nothing else, in the order of ``nas.compression``."""
    rows = {name for technique in _TECHNIQUES for name in technique.choices}
    return tuple(
        name for name, choice in CHOICES.items() if name in choices or (choice.refines in choices and name not in rows)
    )
