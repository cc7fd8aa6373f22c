"""What latency is measured on: a runtime, a device, threads, a batch and a precision: ``onnxruntime-cpu-1t-b1``.

A *place* is the part of it that makes latencies comparable, device and batch: ``cpu-b1``. Where a recipe asks for the
latency at a place, each artifact is timed on every target there that the recipe allows, and the fastest serves it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nas.errors import RecipeError, UnsupportedError, unknown_name

DEVICES = ("cpu", "cuda")

# The forms of a model that runtimes want. ONNX is the first: whatever is deployed on a CPU is that file.
ONNX = "onnx"  # the artifact as it is
SYMMETRIC = "onnx-symmetric"  # ONNX whose 8-bit activations have their zero at 0, as TensorRT's kernels want them
TORCH_PROGRAM = "torch"  # the float network with its front end as an exported torch program, .pt2


@dataclass(frozen=True)
class RuntimeKind:
    """What is known of a runtime by its name alone.

    Args:
        title: Its name in print.
        forms: The form of the model that it wants, by device; its keys are the devices that it runs on.
        precisions: Precisions of arithmetic that a target may ask for beside the model's own, by device.
        install: What to install for it, by device.
    """

    title: str
    forms: Mapping[str, str]
    install: Mapping[str, str]
    precisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


RUNTIMES: Mapping[str, RuntimeKind] = {
    "onnxruntime": RuntimeKind(
        "ONNX Runtime",
        {"cpu": ONNX, "cuda": ONNX},
        {"cpu": "pip install onnxruntime", "cuda": "pip install onnxruntime-gpu"},
    ),
    "openvino": RuntimeKind(
        "OpenVINO", {"cpu": ONNX}, {"cpu": "pip install 'nas-front[openvino]'"}, {"cpu": ("bf16",)}
    ),
    "torch": RuntimeKind(
        "torch",
        {"cpu": TORCH_PROGRAM, "cuda": TORCH_PROGRAM},
        {"cpu": "pip install torch", "cuda": "install a CUDA build of torch, see pytorch.org"},
        {"cpu": ("bf16",), "cuda": ("fp16", "bf16")},
    ),
    "inductor": RuntimeKind(
        "torch.compile",
        {"cpu": TORCH_PROGRAM, "cuda": TORCH_PROGRAM},
        {"cpu": "pip install torch, and a C++ compiler", "cuda": "install a CUDA build of torch, see pytorch.org"},
        {"cpu": ("bf16",), "cuda": ("fp16", "bf16")},
    ),
    "tensorrt": RuntimeKind(
        "TensorRT", {"cuda": SYMMETRIC}, {"cuda": "pip install onnxruntime-gpu tensorrt"}, {"cuda": ("fp16",)}
    ),
}

_FORM = re.compile(
    r"(?P<runtime>[^-]+)-(?P<device>[^-]+)(?:-(?P<threads>-?\d+)t)?-b(?P<batch>-?\d+)(?:-(?P<precision>\w+))?"
)
_PLACE = re.compile(rf"(?P<device>{'|'.join(DEVICES)})-b(?P<batch>\d+)")
_EXAMPLE = "write RUNTIME-cpu-THREADSt-bBATCH, such as onnxruntime-cpu-1t-b1 (1 thread, batches of 1)"
_GPU_EXAMPLE = "write RUNTIME-cuda-bBATCH, such as torch-cuda-b1-fp16: threads are the CPU's"


def affinity() -> frozenset[int]:
    """The numbers of the logical cores that this process may run on: all of them where the system has no affinity."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def usable_cores() -> int:
    """How many logical cores this process may run on."""
    return len(affinity())


@dataclass(frozen=True)
class Place:
    """Where latencies are comparable: a device and a batch, ``cpu-b1``."""

    device: str
    batch: int

    @property
    def name(self) -> str:
        """The text that ``parse`` reads."""
        return f"{self.device}-b{self.batch}"

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Reads ``DEVICE-bBATCH``; None where the text is not of that form (it may be a target's)."""
        match = _PLACE.fullmatch(text.strip())
        return cls(match["device"], int(match["batch"])) if match and int(match["batch"]) > 0 else None


@dataclass(frozen=True)
class Target:
    """What a latency is measured on.

    Args:
        runtime: What runs the artifact: one of ``RUNTIMES``.
        device: What it runs on: ``cpu`` or ``cuda``.
        threads: Threads inside an operator, at least 1; None on a GPU.
        batch: Images in one call, at least 1.
        precision: Of the arithmetic (``fp16``, ``bf16``); None for the model's own, which belongs to the design.
    """

    runtime: str
    device: str
    threads: int | None
    batch: int
    precision: str | None = None

    @property
    def name(self) -> str:
        """The text that ``parse`` reads."""
        threads = f"-{self.threads}t" if self.threads is not None else ""
        precision = f"-{self.precision}" if self.precision else ""
        return f"{self.runtime}-{self.device}{threads}-b{self.batch}{precision}"

    @property
    def place(self) -> Place:
        """Where its latencies may be compared with others'."""
        return Place(self.device, self.batch)

    @property
    def arithmetic(self) -> tuple[str, str, str | None]:
        """What a model's outputs depend on, beside its file: not the threads, nor the batch."""
        return self.runtime, self.device, self.precision

    @property
    def kind(self) -> RuntimeKind:
        return RUNTIMES[self.runtime]

    @property
    def form(self) -> str:
        """The form of the model that is the artifact here: ``onnx``, ``onnx-symmetric`` or ``torch``."""
        return self.kind.forms[self.device]

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads ``RUNTIME-cpu-THREADSt-bBATCH[-PRECISION]`` or ``RUNTIME-cuda-bBATCH[-PRECISION]``.

        Whether this machine can measure there is another question: a recipe is readable everywhere.

        Raises:
            RecipeError: Not of that form, unknown names, threads or batch below 1, or what the runtime has not.
        """
        text = text.strip()
        words = text.split("-")
        if (place := Place.parse(text)) is not None:
            example = "onnxruntime-cpu-1t" if place.device == "cpu" else "torch-cuda"
            raise RecipeError(
                f"target '{text}' is a place, where several targets may serve",
                f"name one, such as {example}-b{place.batch}",
            )
        if words[0] not in RUNTIMES:
            raise RecipeError(f"target '{text}': {unknown_name('runtime', words[0], RUNTIMES)}", _EXAMPLE)
        if len(words) > 1 and words[1] not in DEVICES:
            raise RecipeError(f"target '{text}': {unknown_name('device', words[1], DEVICES)}", _EXAMPLE)
        match = _FORM.fullmatch(text)
        on_gpu = len(words) > 1 and words[1] == "cuda"
        if match is None or (match["threads"] is None) != on_gpu:
            form = "RUNTIME-cuda-bBATCH" if on_gpu else "RUNTIME-cpu-THREADSt-bBATCH"
            raise RecipeError(f"target '{text}' is not of the form {form}", _GPU_EXAMPLE if on_gpu else _EXAMPLE)
        threads = None if match["threads"] is None else int(match["threads"])
        target = cls(match["runtime"], match["device"], threads, int(match["batch"]), match["precision"])
        for word, number in (("threads", target.threads), ("batch", target.batch)):
            if number is not None and number < 1:
                raise RecipeError(f"target '{text}': {word} must be at least 1, but got {number}", _EXAMPLE)
        target._check_runtime()
        return target

    def _check_runtime(self) -> None:
        kind = self.kind
        if self.device not in kind.forms:
            raise RecipeError(
                f"target '{self.name}': {kind.title} does not run on '{self.device}'",
                f"it runs on {', '.join(kind.forms)}",
            )
        precisions = kind.precisions.get(self.device, ())
        if self.precision is not None and self.precision not in precisions:
            known = f"it knows {', '.join(precisions)}" if precisions else "leave it out: the design decides it"
            raise RecipeError(
                f"target '{self.name}': {kind.title} on {self.device} has no precision '{self.precision}'", known
            )

    def check_cores(self) -> None:
        """Refuses more threads than this process has cores, where threads would wait for one another.

        Asked for when measuring, not when parsing: a recipe is readable on every machine.

        Raises:
            UnsupportedError: The target wants more threads than there are usable cores.
        """
        if self.threads is not None and self.threads > (cores := usable_cores()):
            raise UnsupportedError(
                f"target '{self.name}' wants {self.threads} threads, but this process may use {cores} cores",
                f"measure with at most {cores} threads, or on a larger machine",
            )
