"""What latency is measured on: a runtime, a device, threads and a batch, such as ``onnxruntime-cpu-1t-b1``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from nas.errors import RecipeError, UnsupportedError, unknown_name

# Every runtime and device that a target may name, and whether this package can measure on it.
RUNTIMES = {"onnxruntime": True, "openvino": False, "torch": False, "inductor": False, "tensorrt": False}
DEVICES = {"cpu": True, "cuda": False}

# Threads may be absent (on a GPU) and a precision present only for what is not available yet.
_FORM = re.compile(
    r"(?P<runtime>[^-]+)-(?P<device>[^-]+)(?:-(?P<threads>-?\d+)t)?-b(?P<batch>-?\d+)(?:-(?P<precision>\w+))?"
)
_EXAMPLE = "write RUNTIME-DEVICE-THREADSt-bBATCH, such as onnxruntime-cpu-1t-b1 (1 thread, batches of 1)"


def usable_cores() -> int:
    """How many logical cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Target:
    """What a latency is measured on. Precision is not a part of it: that belongs to the design.

    Args:
        runtime: What runs the artifact: ``onnxruntime``.
        device: What it runs on: ``cpu``.
        threads: Threads inside an operator, at least 1.
        batch: Images in one call, at least 1.
    """

    runtime: str
    device: str
    threads: int
    batch: int

    @property
    def name(self) -> str:
        """The text that ``parse`` reads."""
        return f"{self.runtime}-{self.device}-{self.threads}t-b{self.batch}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads ``RUNTIME-DEVICE-THREADSt-bBATCH``.

        Raises:
            RecipeError: Not of that form, an unknown runtime or device, or threads or batch below 1.
            UnsupportedError: A runtime or device that is known but cannot be measured on yet.
        """
        words = text.strip().split("-")
        if words[0] not in RUNTIMES:
            raise RecipeError(f"target '{text}': {unknown_name('runtime', words[0], RUNTIMES)}", _EXAMPLE)
        if len(words) > 1 and words[1] not in DEVICES:
            raise RecipeError(f"target '{text}': {unknown_name('device', words[1], DEVICES)}", _EXAMPLE)
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise RecipeError(f"target '{text}' is not of the form RUNTIME-DEVICE-THREADSt-bBATCH", _EXAMPLE)
        for name, known in (("runtime", RUNTIMES), ("device", DEVICES)):
            if not known[match[name]]:
                available = ", ".join(key for key, works in known.items() if works)
                raise UnsupportedError(
                    f"target '{text}': measuring on the {name} '{match[name]}' is not supported yet",
                    f"available: {available}",
                )
        if match["precision"] is not None or match["threads"] is None:
            raise RecipeError(f"target '{text}' is not of the form RUNTIME-DEVICE-THREADSt-bBATCH", _EXAMPLE)
        target = cls(match["runtime"], match["device"], int(match["threads"]), int(match["batch"]))
        for word, number in (("threads", target.threads), ("batch", target.batch)):
            if number < 1:
                raise RecipeError(f"target '{text}': {word} must be at least 1, but got {number}", _EXAMPLE)
        return target

    def check_cores(self) -> None:
        """Refuses more threads than this process has cores, where threads would wait for one another.

        Asked for when measuring, not when parsing: a recipe is readable on every machine.

        Raises:
            UnsupportedError: The target wants more threads than there are usable cores.
        """
        if self.threads > (cores := usable_cores()):
            raise UnsupportedError(
                f"target '{self.name}' wants {self.threads} threads, but this process may use {cores} cores",
                f"measure with at most {cores} threads, or on a larger machine",
            )
