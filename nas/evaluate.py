"""One design evaluated: from an ``EvalRequest`` to an ``EvalResult``, whatever happens in between.

Accuracy, latency and size are read off the artifact alone, in the form and by the runtime that serves it. A failure is
a value with a reason, never an exception, so that it can not end a study.
"""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nas.artifact import sizes
from nas.data.dataset import Dataset, Split
from nas.data.split import limit_indices
from nas.design import Design
from nas.errors import (
    ArtifactError,
    DeviceGoneError,
    DivergedError,
    InfeasibleDesignError,
    MeasureError,
    NasError,
    UnsupportedError,
)
from nas.lease import working
from nas.measure.complexity import Complexity, count
from nas.measure.latency import Measure
from nas.measure.startup import measure_startup
from nas.networks import Inherits
from nas.outcome import How, Outcome, Quantity, Realisation, Reason
from nas.own_code import OwnCodeError
from nas.own_objective import OwnObjectives
from nas.pipeline import AnyTeacher, Pipeline, Product
from nas.proxies import RUNG, RUNG_ACCURACY, UNTRAINED
from nas.recipe import Recipe
from nas.record import StageResult
from nas.scoring import score
from nas.serving import Outputs, Scores, at_place, choose, services
from nas.sketch import Sketch
from nas.stages import Progress, Trace
from nas.store import Store, artifact_entry, sha256_bytes
from nas.target import ONNX, Target

# So many validation images tell how good a network is at a rung, by about a percent; what becomes of it afterwards is
# less certain than that.
RUNG_IMAGES = 2000

# The kind of reason of an evaluation that had no room for a file: no fault of the design, and nothing to go on with.
DISK_FULL = "disk full"
# The kind of reason of one whose measuring device does not answer: no fault of the design either.
DEVICE_GONE = "device gone"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# Load time and peak memory of a model in fresh processes: (file, target, images) → both.
Startup = Callable[[Path, Target, np.ndarray], tuple[Quantity, Quantity]]
# What may be told of an artifact without running it: (file, its network's complexity, target) → estimates.
Estimate = Callable[[bytes, Complexity, Target], Sequence[Quantity]]


@dataclass(frozen=True)
class EvalRequest:
    """What to evaluate, and how far. Everything that a result depends on stands in it or in the recipe.

    Args:
        number: The trial's.
        design: What to evaluate.
        seed: Of its training.
        teacher: Whom a distilled design learns from.
        until: ``None`` evaluates to the end. 0 tells what is known before any training, ``r > 0`` the accuracy after a
            budget of r epochs: all of it ``How.PROXY`` or counted, with outcome STOPPED and no reason, since it is for
            the caller to say what becomes of the trial.
        inherits: What the float network's training starts from instead of random weights alone.
        clock: Whether the untrained network's latency is measured where ``until`` is 0.
    """

    number: int
    design: Design
    seed: int
    teacher: AnyTeacher | None = None
    until: float | None = None
    inherits: Inherits | None = None
    clock: bool = True


@dataclass(frozen=True)
class EvalResult:
    """What came of it. ``samples`` holds the raw latencies in ms by target; ``traceback`` is for the log only."""

    outcome: Outcome
    reason: Reason | None = None
    quantities: tuple[Quantity, ...] = ()
    labels: Mapping[str, Realisation] = field(default_factory=dict)
    stages: tuple[StageResult, ...] = ()
    artifact_sha256: str | None = None
    forms: Mapping[str, str] = field(default_factory=dict)
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
        outputs: How other runtimes than ONNX Runtime on the CPU are run for their accuracy.
        startup: How load time and peak memory are measured.
        estimate: What is estimated of each artifact, beside what is measured.
        here: Whether models are measured on this machine, so that its ONNX Runtime tells what they compute.
        glance: How the untrained network's latency is measured, which is no result; as any where not given.

    Raises:
        NasError: The file of an own objective cannot be run.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        pipeline: Pipeline,
        store: Store,
        measure: Measure,
        outputs: Outputs | None = None,
        startup: Startup = measure_startup,
        estimate: Estimate | None = None,
        here: bool = True,
        glance: Measure | None = None,
    ) -> None:
        self.recipe = recipe
        self.dataset = dataset
        self.pipeline = pipeline
        self.store = store
        self.measure = measure
        self.glance = glance or measure
        self.outputs = outputs
        self.startup = startup
        self.estimate = estimate
        self.here = here
        self.services = services(recipe)
        self.own = OwnObjectives(recipe)
        self.targets = [Target.parse(name) for name in recipe.all_targets]
        self._yardsticks: dict[tuple[str, str], Quantity] = {}

    @property
    def trains_from_scratch(self) -> bool:
        """Whether there are rungs and something to inherit; not with a person's own network and its weights."""
        return self.pipeline.trains_from_scratch

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
        match request.until:
            case None:
                return self._to_the_end(request, trace)
            case 0:
                return self._untrained(request, trace)
            case epochs:
                return self._after(epochs, request, trace)

    def _untrained(self, request: EvalRequest, trace: Trace) -> EvalResult:
        """What is known before any training: counts, and of the untrained artifact size and latency as proxies."""
        notes: list[str] = []
        made: list[Sketch] = []
        files: dict[str, bytes] = {}

        def sketch() -> list[Quantity]:
            made.append(self.pipeline.sketch(request.design, request.seed))
            for form in dict.fromkeys((ONNX, *(target.form for target in self.targets))):
                files[form] = self.pipeline.sketch_in_form(form, made[0], request.design, request.seed)
            return []

        with working():  # a measurement in another process waits for it
            self._timed(trace, "sketch", sketch)
        quantities: list[Quantity] = []
        if request.clock:
            quantities += self._timed(trace, "measure", lambda: self._latencies(files, {}, notes, self.glance))
        first = self.services[0].candidates[0]
        quantities += self._timed(trace, "count", lambda: self._counts(made[0].network, files[first.form], notes)[0])
        known = tuple(q if q.how is How.COUNTED else _as_proxy(q) for q in quantities)
        return EvalResult(Outcome.STOPPED, quantities=known, stages=tuple(trace.stages), notes=tuple(notes))

    def _after(self, epochs: float, request: EvalRequest, trace: Trace) -> EvalResult:
        """The float network's accuracy after a training of so many epochs, on some validation images: a proxy."""
        network = self.pipeline.rung(request.design, request.seed, epochs, trace, request.inherits)
        validation = self._rung_images

        def score_network() -> list[Quantity]:
            accuracy, _ = score(self.pipeline.logits(network, validation), validation.labels)
            return [replace(accuracy, name=RUNG_ACCURACY, target=f"{RUNG}{epochs:g}", how=How.PROXY)]

        quantities = self._timed(trace, "score", score_network)
        return EvalResult(Outcome.STOPPED, quantities=tuple(quantities), stages=tuple(trace.stages))

    @cached_property
    def _rung_images(self) -> Split:
        """Validation images that rungs are scored on, of each class its share."""
        validation, names = self.dataset.validation, self.dataset.class_names
        limit = max(RUNG_IMAGES, len(names))
        some = limit_indices(validation.labels, names, limit, "rung", self.recipe.data.split_seed)
        return Split(validation.images[some], validation.labels[some])

    def _to_the_end(self, request: EvalRequest, trace: Trace) -> EvalResult:
        product = self.pipeline.run(request.design, request.seed, request.teacher, trace, request.inherits)
        notes = list(product.notes)
        files, unrealised = self._files(request, product, trace, notes)
        kept = {
            form: self.store.put(artifact_entry(request.number, form), content, {"trial": request.number}).sha256
            for form, content in files.items()
        }
        samples: dict[str, np.ndarray] = {}
        measured = self._timed(trace, "measure", lambda: self._latencies(files, samples, notes, self.measure))
        validation = self.dataset.validation
        threads = self.pipeline.numerics.threads
        scores = Scores(files, validation.images, validation.labels, self.outputs, threads, here=self.here)
        serving: dict[str, Target] = {}
        quantities = self._timed(trace, "score", lambda: self._served(scores, measured, serving, notes))
        first = serving[self.services[0].name]
        quantities += self._timed(trace, "count", lambda: self._told(product, files, first, notes))
        quantities += measured
        if self.own:
            manifest = product.manifest.to_json()
            file = files[first.form]
            quantities += self._timed(trace, "own objectives", lambda: self.own.quantities(file, first.form, manifest))
        if any(request.design.everywhere("pruning_ratio")):
            quantities += self._timed(trace, "compare", lambda: self._uncompressed(request))
        if self.recipe.needs_fresh_process:
            quantities += self._timed(trace, "startup", lambda: self._startups(kept))
        for service in self.services:
            quantities += at_place(quantities, service, serving[service.name])
        return EvalResult(
            Outcome.MEASURED,
            quantities=tuple(quantities),
            labels=_labels(product.labels, unrealised, serving.values()),
            stages=tuple(trace.stages),
            artifact_sha256=kept[ONNX],
            forms={form: sha for form, sha in kept.items() if form != ONNX},
            manifest=product.manifest.to_json(),
            notes=tuple(notes),
            samples=samples,
        )

    def _files(
        self, request: EvalRequest, product: Product, trace: Trace, notes: list[str]
    ) -> tuple[dict[str, bytes], dict[str, tuple[str, ...]]]:
        """The artifact in each form that a target wants, and by form what of the compression has no effect in it."""
        files: dict[str, bytes] = {ONNX: product.artifact}
        unrealised: dict[str, tuple[str, ...]] = {}
        for form in dict.fromkeys(target.form for target in self.targets):
            if form != ONNX:
                formed = self.pipeline.in_form(form, product, request.design, request.seed, request.teacher, trace)
                files[form], unrealised[form] = formed.content, formed.unrealised
                notes += formed.notes
        return files, unrealised

    def _timed(self, trace: Trace, stage: str, work: Callable[[], list[Quantity]]) -> list[Quantity]:
        trace.progress(stage, 0.0)
        started = time.perf_counter()
        quantities = work()
        trace.stages.append(StageResult(stage, "", time.perf_counter() - started, False))
        return quantities

    def _served(
        self, scores: Scores, measured: Sequence[Quantity], serving: dict[str, Target], notes: list[str]
    ) -> list[Quantity]:
        """Who serves where, and the accuracy there: that of the service with the lowest, so that it holds on all."""
        latencies = {str(q.target): q for q in measured if q.name == "latency_ms"}
        for service in self.services:
            if not latencies:  # no latency is asked for
                serving[service.name] = service.candidates[0]
                continue
            target, wrong = choose(service, latencies, scores.is_right)
            notes += [
                f"{other.name} is faster, but its outputs differ: accuracy {scores.of(other)[0].value:.4f}, "
                f"ONNX Runtime's {scores.reference[0].value:.4f}"
                for other in wrong
            ]
            if target is None and not service.is_place:
                target = service.candidates[0]
            if target is None:
                raise ArtifactError(f"none of the targets at {service.name} can serve the artifact")
            serving[service.name] = target
        return scores.of_served(serving.values())

    def _told(
        self, product: Product, files: Mapping[str, bytes], served_by: Target, notes: list[str]
    ) -> list[Quantity]:
        """What is known of files without running them: counts, sizes, estimates."""
        quantities, complexity = self._counts(product.network, files[served_by.form], notes)
        if self.estimate is not None:
            for target in self.targets:
                quantities += self.estimate(files[target.form], complexity, target)
        return quantities

    def _counts(self, network: nn.Module, file: bytes, notes: list[str]) -> tuple[list[Quantity], Complexity]:
        with working():
            complexity = count(network, self.pipeline.input_shape)
        notes += complexity.notes
        quantities = [
            Quantity("macs", complexity.macs, "MAC", How.COUNTED),
            Quantity("flops", complexity.flops, "FLOP", How.COUNTED),
            Quantity("params", complexity.params, "1", How.COUNTED),
            Quantity("peak_activation_bytes", complexity.peak_activation_bytes, "bytes", How.COUNTED),
            *sizes(file),
        ]
        return quantities, complexity

    def _latencies(
        self,
        files: Mapping[str, bytes],
        samples: dict[str, np.ndarray],
        notes: list[str],
        measure: Measure,
    ) -> list[Quantity]:
        """The latency on every target. One that a place can do without may refuse the artifact, which is noted."""
        needed = {service.name for service in self.services if not service.is_place}
        quantities = []
        for target in self.targets:
            try:
                quantity, samples[target.name] = measure(files[target.form], target, self.dataset.validation.images)
            except ArtifactError as error:
                if target.name in needed:
                    raise
                notes.append(f"{target.name}: {error.message}")
                continue
            quantities.append(quantity)
        return quantities

    def _uncompressed(self, request: EvalRequest) -> list[Quantity]:
        """Latency and MACs of the float network that a pruned design was made from, had in the same way.

        Beside the design's own they tell what pruning gained in time, and not in arithmetic alone. A network that
        several designs were made from is measured once in a process.
        """
        whole = self.pipeline.uncompressed(request.design, request.seed, Trace(), request.inherits)
        with working():
            complexity = count(whole.network, self.pipeline.input_shape)
        quantities = [Quantity("uncompressed_macs", complexity.macs, "MAC", How.COUNTED)]
        digest = sha256_bytes(whole.artifact)
        for target in self.targets:
            key = (digest, target.name)
            if key not in self._yardsticks:
                file = self.pipeline.uncompressed_in_form(target.form, whole)
                measured, _ = self.measure(file, target, self.dataset.validation.images)
                self._yardsticks[key] = replace(measured, name="uncompressed_latency_ms")
            quantities.append(self._yardsticks[key])
        return quantities

    def _startups(self, kept: Mapping[str, str]) -> list[Quantity]:
        images = self.dataset.validation.images
        pairs = [self.startup(self.store.blob_path(kept[target.form]), target, images) for target in self.targets]
        return [quantity for pair in pairs for quantity in pair]


def _as_proxy(quantity: Quantity) -> Quantity:
    """A number of an untrained artifact, under a name and in a manner that no trial's own has."""
    return replace(quantity, name=f"{UNTRAINED}{quantity.name}", how=How.PROXY)


def _labels(
    labels: Mapping[str, Realisation], unrealised: Mapping[str, tuple[str, ...]], serving: Iterable[Target]
) -> dict[str, Realisation]:
    """The labels of a design's compression, where what has no effect on any target that serves is unsupported."""
    without = [set(unrealised.get(target.form, ())) for target in serving]
    nowhere = set.intersection(*without)
    return {name: Realisation.UNSUPPORTED if name in nowhere else label for name, label in labels.items()}


def _explain(error: Exception) -> tuple[Outcome, Reason]:
    """The outcome and reason of a trial that an exception ended; transient where another attempt may succeed."""
    message = str(error) or type(error).__name__
    if isinstance(error, InfeasibleDesignError):
        return Outcome.INFEASIBLE, Reason("shape", message)
    if isinstance(error, DivergedError):
        return Outcome.FAILED, Reason("diverged", message)
    if isinstance(error, UnsupportedError):
        return Outcome.FAILED, Reason("unsupported", message)
    if isinstance(error, OwnCodeError):
        return Outcome.FAILED, Reason("own code", message)
    if isinstance(error, DeviceGoneError):
        return Outcome.FAILED, Reason(DEVICE_GONE, message, transient=True)
    if isinstance(error, MeasureError):
        return Outcome.FAILED, Reason("measuring", message, transient=True)
    if isinstance(error, NasError):
        return Outcome.FAILED, Reason("refused", message)
    if isinstance(error, MemoryError) or "can't allocate memory" in message or "out of memory" in message:
        return Outcome.FAILED, Reason("memory", "; ".join(message.splitlines()[:1]), transient=True)
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f" at {error.filename}" if error.filename else ""
        return Outcome.FAILED, Reason(DISK_FULL, f"the disk is full{where}", transient=True)
    if isinstance(error, OSError):
        return Outcome.FAILED, Reason("disk", message, transient=True)
    return Outcome.FAILED, Reason("error", f"{type(error).__name__}: {' '.join(message.split())[:300]}")
