"""Whoever wants to know what a model costs asks here: latency, outputs, several in turns, the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from nas.measure.clock import Policy
from nas.measure.environment import environment, environment_id
from nas.measure.latency import Reading, batch_of
from nas.measure.process import TIMEOUT_SECONDS, MeasuringProcess
from nas.measure.protocol import Describe, Interleave, Measure, Outputs, Turns
from nas.outcome import Quantity
from nas.target import Target

# A round of finalists' turns: short enough that drift hits all members alike, long enough for a steady core.
ROUNDS = 20
TURN = Policy(warmup_ms=3.0, minimum_samples=8, minimum_ms=20.0, maximum_ms=1000.0)

# Images go to the process in parts of so many bytes at most: each is copied at either end.
PART_BYTES = 2**27


class Measurer:
    """Measures models on targets, each runtime and number of threads in a process of its own that stays up.

    Use it as a context manager, or close it.

    Args:
        policy: When to stop sampling; the default policy where None.
        timeout_seconds: Longest that a measurement may take without getting on before its process is replaced.
    """

    def __init__(self, policy: Policy | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.policy = policy or Policy()
        self.timeout_seconds = timeout_seconds
        self.machine = environment()
        self._processes: dict[tuple[str, str, int | None], MeasuringProcess] = {}
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

    def process(self, target: Target) -> MeasuringProcess:
        """The process that measures a target."""
        key = (target.runtime, target.device, target.threads)
        if key not in self._processes:
            self._processes[key] = MeasuringProcess(target.threads, self.timeout_seconds)
        return self._processes[key]

    def start_anew(self, target: Target) -> None:
        """Ends the process that measures a target: the next measurement there is a fresh process's."""
        self.process(target).close()

    def environment(self, target: Target) -> Mapping[str, Any]:
        """What the target's runtime says of itself: versions, providers, device.

        Raises:
            UnsupportedError: The target cannot be measured here.
        """
        if target.name not in self._environments:
            target.check_cores()
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
        fingerprint = self.environment_id(target)
        request = Measure(content, target, batch_of(images, target.batch), self.policy)
        reading: Reading = self.process(target).ask(request)
        return reading.quantity(fingerprint), reading.samples_ms

    def outputs(self, content: bytes, target: Target, images: np.ndarray, batch: int = 256) -> np.ndarray:
        """What the model gives for images as the target's runtime runs it (N×classes), in batches.

        Raises:
            As ``measure``.
        """
        if len(images) == 0:
            raise ValueError("there are no outputs without images")
        target.check_cores()
        process = self.process(target)
        part = batch * max(1, PART_BYTES // (batch * max(1, images[0].nbytes)))
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
        target.check_cores()
        request = Interleave(tuple(contents), target, batch_of(images, target.batch), rounds, turn)
        result: Turns = self.process(target).ask(request)
        return result
