"""OpenVINO on the CPU, on the ONNX file as it is.

Left to itself OpenVINO changes what is computed: in bfloat16 where the CPU has it, and layers with weights of few bits
on activations that it rounds to 8 bits. Precision belongs to the design, so both are switched off, the former unless
the target says ``bf16``. A synchronous call runs in the thread that makes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import ArtifactError, one_line
from nas.measure.runtimes.base import HostTimed, Missing, Session
from nas.measure.runtimes.batches import check_batch, in_batches
from nas.measure.runtimes.identity import identity_onnx
from nas.target import RUNTIMES, Target

if TYPE_CHECKING:
    import openvino

DEVICE = "CPU"
# OpenVINO's names for the precisions of a target.
PRECISIONS = {None: "f32", "bf16": "bf16"}


class OpenVinoSession(HostTimed):
    """A model compiled for the target's batch, which is the fastest form: shapes are known, memory is planned once.

    Other numbers of images go through it in batches of that size, the last one filled up: what is scored is exactly
    what is timed. That matters: which kernels run depends on batch and threads, and some are wrong
    (``tests/compress/test_compress_openvino.py``).

    Args:
        compiled: The model.
        batch: Images in one call.
    """

    def __init__(self, compiled: openvino.CompiledModel, batch: int) -> None:
        self.compiled = compiled
        self.batch = batch
        self.request = compiled.create_infer_request()

    @property
    def threads(self) -> int | None:
        return int(self.compiled.get_property("INFERENCE_NUM_THREADS"))

    def run(self, images: np.ndarray) -> np.ndarray:
        return in_batches(self._one_batch, images, self.batch)

    def call(self, images: np.ndarray) -> Callable[[], object]:
        check_batch(images, self.batch)
        self.run(images)  # refuses what does not fit
        # A request of its own: the images stay bound, and the model is the same.
        request = self.compiled.create_infer_request()
        bound = _bind(request, images)

        def infer(_keeps_alive: np.ndarray = bound) -> object:
            return request.infer(share_outputs=True)

        return infer

    def _one_batch(self, images: np.ndarray) -> np.ndarray:
        try:
            bound = _bind(self.request, images)
            result = self.request.infer(share_outputs=True)[0]
        except MemoryError:  # the machine's fault, not the model's
            raise
        except Exception as error:  # OpenVINO raises RuntimeError, and whatever its bindings raise
            raise ArtifactError(f"the model cannot be run: {reason(error)}") from error
        del bound  # until here the request has read from it
        return np.asarray(result)


class OpenVino:
    """OpenVINO's CPU plugin."""

    def __init__(self) -> None:
        self._core: openvino.Core | None = None

    def missing(self, target: Target) -> Missing | None:
        install = RUNTIMES["openvino"].install["cpu"]
        try:
            # Importing OpenVINO sends usage data from a process that it forks, beside what is measured. Without that
            # package it takes its own stand-in, which sends nothing.
            sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
            import openvino  # noqa: F401
        except ImportError as error:
            return Missing(f"OpenVINO is not installed ({one_line(error)})", install)
        if DEVICE not in self.core.available_devices:
            return Missing(f"OpenVINO has no plugin for this {DEVICE}", "measure it by another runtime")
        if target.precision == "bf16" and "BF16" not in self.core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
            return Missing(
                f"target '{target.name}': this CPU has no bfloat16 arithmetic (avx512_bf16 or amx)",
                "leave the precision out",
            )
        return None

    @property
    def core(self) -> openvino.Core:
        """OpenVINO's entrance, made when it is first needed."""
        if self._core is None:
            import openvino

            self._core = openvino.Core()
        return self._core

    def load(self, content: bytes, target: Target) -> Session:
        try:
            model = self.core.read_model(model=content)
            if len(model.inputs) == 1:
                _fix_batch(model, target.batch)
                compiled = self.core.compile_model(model, DEVICE, options(target))
        except MemoryError:  # the machine's fault, not the model's
            raise
        except Exception as error:  # as above
            raise ArtifactError(f"OpenVINO cannot load the model: {reason(error)}") from error
        if len(model.inputs) != 1:
            names = ", ".join(item.any_name for item in model.inputs)
            raise ArtifactError(f"the model must have one input, but has {names or 'none'}")
        _check_precision(compiled, target)
        return OpenVinoSession(compiled, target.batch)

    def environment(self, target: Target) -> dict[str, str]:
        return {
            "openvino": metadata.version("openvino"),
            "device": str(self.core.get_property(DEVICE, "FULL_DEVICE_NAME")),
            "precision": PRECISIONS[target.precision],
        }

    def identity(self, images: np.ndarray) -> bytes:
        return identity_onnx(images)


def options(target: Target) -> dict[str, Any]:
    """The properties that a model is compiled with."""
    return {
        "INFERENCE_NUM_THREADS": target.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": PRECISIONS[target.precision],
        # 0: activations of float layers stay floats.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        # The process that measures keeps all of its threads on the target's cores; a plugin that moves them as well
        # would undo that.
        "ENABLE_CPU_PINNING": False,
    }


def reason(error: BaseException) -> str:
    """What an exception of OpenVINO says, in one line, without the places in its source that it passed through."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    return " ".join(said)[:300] or one_line(error, 300)


def _fix_batch(model: openvino.Model, batch: int) -> None:
    """Sets the batch, where the model leaves it free."""
    shape = model.inputs[0].get_partial_shape()
    if shape.rank.is_static and len(shape) > 0 and shape[0].is_dynamic:
        shape[0] = batch
        model.reshape(shape)


def _bind(request: openvino.InferRequest, images: np.ndarray) -> np.ndarray:
    """Makes an array the request's input, and gives the array that it reads from then on, which must be kept alive."""
    import openvino

    bound = np.require(images, requirements=("C", "W"))  # a copy only where its memory cannot be shared
    request.set_input_tensor(openvino.Tensor(bound, shared_memory=True))
    return bound


def _check_precision(compiled: openvino.CompiledModel, target: Target) -> None:
    wanted, got = PRECISIONS[target.precision], compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if got != wanted:
        raise ArtifactError(f"OpenVINO computes the model in {got} where {wanted} was asked for")
