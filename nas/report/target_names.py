"""Names of targets that are short enough for a column, and still tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

from nas.target import Place, Target

_RUNTIMES = {"onnxruntime": "ort"}


def short_targets(targets: Sequence[str]) -> dict[str, str]:
    """What tells targets apart: ``ort 1t-b1``, ``openvino 2t-b1``, ``torch cuda-b1-fp16``; places keep their names.

    Where all are of one runtime and device, threads, batch and precision alone (``1t-b1``); where nothing but the
    runtime differs, that alone (``openvino``).
    """
    parsed = [Target.parse(name) for name in targets if Place.parse(name) is None]
    if len(parsed) == len(targets):
        if len({(target.runtime, target.device) for target in parsed}) == 1:
            return {target.name: "-".join(target.name.split("-")[2:]) for target in parsed}
        if len({target.name.partition("-")[2] for target in parsed}) == 1:
            return {target.name: _runtime(target) for target in parsed}
    return {name: name if Place.parse(name) else _short(Target.parse(name)) for name in targets}


def server_name(target: Target) -> str:
    """A target at a place, which says device and batch already: ``ort 1t``, ``openvino 2t bf16``, ``torch fp16``."""
    threads = [f"{target.threads}t"] if target.threads is not None else []
    return " ".join([_runtime(target), *threads, *([target.precision] if target.precision else [])])


def _short(target: Target) -> str:
    """Runtime, and the rest without the CPU, which threads imply."""
    rest = target.name.partition("-")[2]
    return f"{_runtime(target)} {rest.removeprefix('cpu-')}"


def _runtime(target: Target) -> str:
    return _RUNTIMES.get(target.runtime, target.runtime)
