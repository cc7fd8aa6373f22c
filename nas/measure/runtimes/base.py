"""What every runtime offers: load a model, run it, say what it supports and what it runs on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import numpy as np

from nas.measure.clock import Clock, Timed, timed_by
from nas.target import Target


@dataclass(frozen=True)
class Missing:
    """Why a target cannot be measured here: a package, a device, a compiler; and how to mend it."""

    message: str
    hint: str


def not_installed(target: Target) -> Missing | None:
    """Says that ONNX Runtime is missing: it is a dependency of this package, but a device may have the files alone."""
    if find_spec("onnxruntime") is not None:
        return None
    return Missing(f"target '{target.name}': ONNX Runtime is not installed", target.kind.install[target.device])


class Session(Protocol):
    """A model loaded by a runtime for one target. Images come and probabilities go as numpy arrays on the host."""

    @property
    def threads(self) -> int | None:
        """Threads inside an operator, as the runtime itself says; None on a GPU."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """The first output for a batch of images as the artifact takes them, N×….

        Raises:
            ArtifactError: The model does not take them.
        """

    def call(self, images: np.ndarray) -> Callable[[], object]:
        """One call as a service makes it, on images that are ready: it returns when the outputs are on the host.

        What can be prepared once for a batch size (bound buffers, a captured graph) is prepared here.

        Raises:
            ArtifactError: The model does not take the images.
        """

    def timed(self, call: Callable[[], object], clock: Clock) -> Timed:
        """Makes the call and gives its duration: by the host's clock, or by the device's own where that is better."""

    def close(self) -> None:
        """Frees what the model holds."""


class HostTimed:
    """For sessions whose calls are timed by the host's clock: everything on a CPU."""

    def timed(self, call: Callable[[], object], clock: Clock = time.perf_counter_ns) -> Timed:
        return timed_by(call, clock)

    def close(self) -> None:
        """Nothing is held beyond the session itself."""


class Runtime(Protocol):
    """A runtime: how it loads a model, and what it is here."""

    def missing(self, target: Target) -> Missing | None:
        """Why it cannot run on that target here; None where it can."""

    def load(self, content: bytes, target: Target) -> Session:
        """Loads a model of the target's form with the target's threads and precision.

        Raises:
            ArtifactError: The runtime cannot load the model.
        """

    def environment(self, target: Target) -> dict[str, str]:
        """What a latency depends on beside the machine: versions, providers, device and driver, by name."""

    def identity(self, images: np.ndarray) -> bytes:
        """A model in the target's form that hands such a batch on as it is: what a call costs that computes nothing."""
