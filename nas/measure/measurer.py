"""Whoever wants to know what a model costs asks here: latency, outputs, several in turns, the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

from nas.measure.clock import Policy
from nas.measure.environment import VNNI, environment, environment_id, has_vnni
from nas.measure.latency import Reading, batch_of
from nas.measure.process import TIMEOUT_SECONDS, MeasuringProcess
from nas.measure.protocol import Answerer, Describe, Interleave, Measure, Outputs, Turns
from nas.measure.startup import measure_startup
from nas.outcome import Quantity
from nas.target import Target

# A round of finalists' turns: short enough that drift hits all members alike, long enough for a steady core.
ROUNDS = 20
TURN = Policy(warmup_ms=3.0, minimum_samples=8, minimum_ms=20.0, maximum_ms=1000.0)

# A glance: enough to tell what is worth a training.
GLANCE_WARMUP_MS, GLANCE_MS = 30.0, 80.0

# Images go to the process in parts of so many bytes at most: each is copied at either end.
PART_BYTES = 2**27


class Measurer:
    """Measures models on targets, each runtime and number of threads in a process of its own that stays up.

    Use it as a context manager, or close it. ``nas.measure.remote.measurer`` has one whose processes are on a device.

    Args:
        policy: When to stop sampling; the default policy where None.
        timeout_seconds: Longest that a measurement may take without getting on before its process is replaced.

    ``machine`` tells of the machine that is measured on, see ``nas.measure.environment``.
    """

    # Whether models run on the machine that asks: else its own ONNX Runtime says nothing of what they compute.
    on_this_machine: ClassVar[bool] = True

    def __init__(self, policy: Policy | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.policy = policy or Policy()
        self.timeout_seconds = timeout_seconds
        self.machine: Mapping[str, Any] = environment()
        self._processes: dict[tuple[str, str, int | None], Answerer] = {}
        self._environments: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes.values():
            process.close()

    def process(self, target: Target) -> Answerer:
        """The process that measures a target."""
        key = (target.runtime, target.device, target.threads)
        if key not in self._processes:
            self._processes[key] = self._new_process(target)
        return self._processes[key]

    def _new_process(self, target: Target) -> Answerer:
        return MeasuringProcess(target.threads, self.timeout_seconds)

    def check(self, target: Target) -> None:
        """Refuses a target that the machine cannot have, before anything is asked of a process.

        Raises:
            UnsupportedError: It wants more threads than there are cores.
        """
        target.check_cores()

    def start_anew(self, target: Target) -> None:
        """Ends the process that measures a target: the next measurement there is a fresh process's."""
        self.process(target).close()

    def environment(self, target: Target) -> Mapping[str, Any]:
        """What the target's runtime says of itself: versions, providers, device.

        Raises:
            UnsupportedError: The target cannot be measured here.
        """
        if target.name not in self._environments:
            self.check(target)
            self._environments[target.name] = self.process(target).ask(Describe(target))
        return self._environments[target.name]

    def environment_id(self, target: Target) -> str:
        """Fingerprint of the machine and the target's runtime: latencies of one fingerprint may be compared."""
        return environment_id(self.machine, self.environment(target))

    def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        """The latency of a model, of one call with the target's batch.

        Args:
            content: The model, in the target's form.
            target: What to measure on.
            images: Inputs as the artifact takes them, N×…; the first of them are used, over again where N is less.

        Returns:
            ``latency_ms`` (median and 95 % interval; the rest in its detail), and the raw samples in ms (float32).

        Raises:
            UnsupportedError: The target cannot be measured here.
            ArtifactError: The model does not load, or does not take these images.
            MeasureError: The measuring process died or hung.
        """
        return self._read(content, target, images, self.policy)

    def glance(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        """As ``measure``, in a fraction of the time: to tell what is worth a training, never as a result."""
        brief = min(GLANCE_MS, self.policy.minimum_ms)
        policy = replace(self.policy, warmup_ms=min(GLANCE_WARMUP_MS, self.policy.warmup_ms), minimum_ms=brief)
        return self._read(content, target, images, policy)

    def _read(self, content: bytes, target: Target, images: np.ndarray, policy: Policy) -> tuple[Quantity, np.ndarray]:
        fingerprint = self.environment_id(target)
        reading: Reading = self.process(target).ask(Measure(content, target, batch_of(images, target.batch), policy))
        return reading.quantity(fingerprint), reading.samples_ms

    def _part_bytes(self) -> int:
        return PART_BYTES

    def outputs(self, content: bytes, target: Target, images: np.ndarray, batch: int = 256) -> np.ndarray:
        """What the model gives for images as the target's runtime runs it (N×classes), in batches.

        Raises:
            As ``measure``.
        """
        if len(images) == 0:
            raise ValueError("there are no outputs without images")
        self.check(target)
        process = self.process(target)
        part = batch * max(1, self._part_bytes() // (batch * max(1, images[0].nbytes)))
        requests = (
            Outputs(content, target, np.ascontiguousarray(images[start : start + part]), batch)
            for start in range(0, len(images), part)
        )
        return np.concatenate([process.ask(request) for request in requests])

    def turns(
        self, contents: Sequence[bytes], target: Target, images: np.ndarray, rounds: int = ROUNDS, turn: Policy = TURN
    ) -> Turns:
        """Times several models in turns, A B C A B C …, so that drift of the machine hits all of them alike.

        Raises:
            As ``measure``.
        """
        self.check(target)
        request = Interleave(tuple(contents), target, batch_of(images, target.batch), rounds, turn)
        result: Turns = self.process(target).ask(request)
        return result

    def startup(self, model: Path | bytes, target: Target, images: np.ndarray) -> tuple[Quantity, Quantity]:
        """``load_ms`` and ``peak_memory_bytes``, in fresh processes; see ``nas.measure.startup``.

        Args:
            model: A file of the target's form, or its content.
            target: What to load it on.
            images: Inputs as the artifact takes them.

        Raises:
            As ``measure``.
        """
        return measure_startup(model, target, images, self.environment_id(target))


def saturates(measurer: Measurer) -> bool:
    """Whether products of 8-bit integers saturate in pairs where is measured: x86 without VNNI."""
    if measurer.on_this_machine:
        return not has_vnni()
    machine = measurer.machine
    return machine.get("machine") in ("x86_64", "AMD64") and not set(machine.get("features", ())) & VNNI
