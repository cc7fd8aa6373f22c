"""One design evaluated: from an ``EvalRequest`` to an ``EvalResult``, whatever happens in between.

Accuracy, latency and size are read off the artifact alone. A failure is a value with a reason, never an exception, so
that it can not end a study.
"""

from __future__ import annotations

import time
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.artifact import open_session, probabilities
from nas.data.dataset import Dataset
from nas.design import Design
from nas.errors import DivergedError, InfeasibleDesignError, NasError, UnsupportedError
from nas.measure.complexity import count
from nas.measure.startup import measure_startup
from nas.measure.target import Target
from nas.outcome import How, Outcome, Quantity, Realisation, Reason
from nas.pipeline import AnyTeacher, Pipeline, Product, Progress, Trace
from nas.recipe import Recipe
from nas.record import StageResult
from nas.scoring import score
from nas.store import Store, sha256_bytes

# Measures an artifact's latency: (file, target, images as the artifact takes them) → (quantity, raw samples in ms).
Measure = Callable[[bytes, Target, np.ndarray], tuple[Quantity, np.ndarray]]


@dataclass(frozen=True)
class EvalRequest:
    """What to evaluate. Everything that a result depends on stands in it or in the recipe."""

    number: int
    design: Design
    seed: int
    teacher: AnyTeacher | None = None


@dataclass(frozen=True)
class EvalResult:
    """What came of it. ``samples`` holds the raw latencies in ms by target; ``traceback`` is for the log only."""

    outcome: Outcome
    reason: Reason | None = None
    quantities: tuple[Quantity, ...] = ()
    labels: Mapping[str, Realisation] = field(default_factory=dict)
    stages: tuple[StageResult, ...] = ()
    artifact_sha256: str | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    samples: Mapping[str, np.ndarray] = field(default_factory=dict)
    traceback: str = ""


class Evaluator:
    """Evaluates designs for one recipe.

    Args:
        recipe: What quantities are asked for, and on which targets.
        dataset: Train and validation data; the test data is not looked at.
        pipeline: Makes artifacts.
        store: Where artifacts are kept.
        measure: How latency is measured; injected, so that tests need no clock.
        environment_id: Fingerprint of the machine, kept with what is measured in processes of its own.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        pipeline: Pipeline,
        store: Store,
        measure: Measure,
        environment_id: str | None = None,
    ) -> None:
        self.recipe = recipe
        self.dataset = dataset
        self.pipeline = pipeline
        self.store = store
        self.measure = measure
        self.environment_id = environment_id
        self.targets = [Target.parse(name) for name in recipe.all_targets]
        self._yardsticks: dict[tuple[str, str], Quantity] = {}

    def evaluate(self, request: EvalRequest, progress: Progress | None = None) -> EvalResult:
        """Evaluates one design. Only an interruption (Ctrl-C, a signal) leaves this as an exception."""
        trace = Trace() if progress is None else Trace(progress)
        try:
            return self._evaluate(request, trace)
        except Exception as error:
            outcome, reason = _explain(error)
            text = "" if isinstance(error, NasError) else traceback.format_exc()
            return EvalResult(outcome, reason, stages=tuple(trace.stages), traceback=text)

    def _evaluate(self, request: EvalRequest, trace: Trace) -> EvalResult:
        product = self.pipeline.run(request.design, request.seed, request.teacher, trace)
        artifact = self.store.put(f"artifact-{request.number:05d}", product.artifact, {"trial": request.number})
        notes = list(product.notes)
        quantities = [
            *self._timed(trace, "score", lambda: self._scores(product)),
            *self._timed(trace, "count", lambda: self._counts(product, notes)),
        ]
        samples: dict[str, np.ndarray] = {}
        quantities += self._timed(trace, "measure", lambda: self._latencies(product, samples))
        if any(request.design.everywhere("pruning_ratio")):
            quantities += self._timed(trace, "compare", lambda: self._uncompressed(request))
        if self.recipe.needs_fresh_process:
            path = self.store.blob_path(artifact.sha256)
            quantities += self._timed(trace, "startup", lambda: self._startups(path))
        return EvalResult(
            Outcome.MEASURED,
            quantities=tuple(quantities),
            labels=product.labels,
            stages=tuple(trace.stages),
            artifact_sha256=artifact.sha256,
            manifest=product.manifest.to_json(),
            notes=tuple(notes),
            samples=samples,
        )

    def _timed(self, trace: Trace, stage: str, work: Callable[[], list[Quantity]]) -> list[Quantity]:
        trace.progress(stage, 0.0)
        started = time.perf_counter()
        quantities = work()
        trace.stages.append(StageResult(stage, "", time.perf_counter() - started, False))
        return quantities

    def _scores(self, product: Product) -> list[Quantity]:
        session = open_session(product.artifact, self.pipeline.numerics.threads)
        validation = self.dataset.validation
        return list(score(probabilities(session, validation.images), validation.labels))

    def _counts(self, product: Product, notes: list[str]) -> list[Quantity]:
        complexity = count(product.network, self.pipeline.input_shape)
        notes += complexity.notes
        return [
            Quantity("macs", complexity.macs, "MAC", How.COUNTED),
            Quantity("flops", complexity.flops, "FLOP", How.COUNTED),
            Quantity("params", complexity.params, "1", How.COUNTED),
            Quantity("size_bytes", len(product.artifact), "bytes", How.MEASURED),
            Quantity("compressed_size_bytes", compressed_size(product.artifact), "bytes", How.MEASURED),
        ]

    def _latencies(self, product: Product, samples: dict[str, np.ndarray]) -> list[Quantity]:
        quantities = []
        for target in self.targets:
            quantity, samples[target.name] = self.measure(product.artifact, target, self.dataset.validation.images)
            quantities.append(quantity)
        return quantities

    def _uncompressed(self, request: EvalRequest) -> list[Quantity]:
        """Latency and MACs of the float network that a pruned design was made from, had in the same way.

        Beside the design's own they tell what pruning gained in time, and not in arithmetic alone. A network that
        several designs were made from is measured once in a process.
        """
        whole = self.pipeline.uncompressed(request.design, request.seed, Trace())
        complexity = count(whole.network, self.pipeline.input_shape)
        quantities = [Quantity("uncompressed_macs", complexity.macs, "MAC", How.COUNTED)]
        digest = sha256_bytes(whole.artifact)
        for target in self.targets:
            key = (digest, target.name)
            if key not in self._yardsticks:
                measured, _ = self.measure(whole.artifact, target, self.dataset.validation.images)
                self._yardsticks[key] = replace(measured, name="uncompressed_latency_ms")
            quantities.append(self._yardsticks[key])
        return quantities

    def _startups(self, path: Path) -> list[Quantity]:
        images = self.dataset.validation.images
        pairs = [measure_startup(path, target, images, self.environment_id) for target in self.targets]
        return [quantity for pair in pairs for quantity in pair]


def compressed_size(artifact: bytes) -> int:
    """Bytes of a file once deflated, as a download or an app's package is: there zeros in the weights pay."""
    return len(zlib.compress(artifact, 9))


def _explain(error: Exception) -> tuple[Outcome, Reason]:
    """The outcome and reason of a trial that an exception ended; transient where another attempt may succeed."""
    message = str(error) or type(error).__name__
    if isinstance(error, InfeasibleDesignError):
        return Outcome.INFEASIBLE, Reason("shape", message)
    if isinstance(error, DivergedError):
        return Outcome.FAILED, Reason("diverged", message)
    if isinstance(error, UnsupportedError):
        return Outcome.FAILED, Reason("unsupported", message)
    if isinstance(error, NasError):
        return Outcome.FAILED, Reason("refused", message)
    if isinstance(error, MemoryError) or "can't allocate memory" in message or "out of memory" in message:
        return Outcome.FAILED, Reason("memory", "; ".join(message.splitlines()[:1]), transient=True)
    if isinstance(error, OSError):
        return Outcome.FAILED, Reason("disk", message, transient=True)
    return Outcome.FAILED, Reason("error", f"{type(error).__name__}: {' '.join(message.split())[:300]}")
