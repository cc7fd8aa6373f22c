"""Calibrates estimates for a target: measures sampled networks and layers of a space, and takes in studies' trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count as numbers
from pathlib import Path

from nas.errors import ArtifactError, InfeasibleDesignError, MeasureError, NasError, UnsupportedError
from nas.estimate.estimator import Estimator, is_enough, latest, whole_networks
from nas.estimate.kernels import kernels_of
from nas.estimate.measurements import LAYER, NETWORK, TRIAL, Measurement, Measurements, cache_folder
from nas.estimate.networks import Sample, Sampler
from nas.measure.clock import Policy
from nas.measure.environment import has_vnni
from nas.measure.latency import Measure
from nas.measure.platform import Platform
from nas.measure.platform import calibrate as calibrate_platform
from nas.outcome import Outcome, Quantity
from nas.space import SearchSpace
from nas.store import sha256_bytes
from nas.study import Study
from nas.target import ONNX, Target

# Hears of how much was measured, and which share of the time is spent (0 to 1).
Progress = Callable[[int, float], None]

# Shorter than for trials: many networks roughly teach more than few precisely, and 2 % of noise is all the same here.
POLICY = Policy(warmup_ms=30.0, minimum_samples=20, minimum_ms=60.0, maximum_ms=1000.0)
# One sample in so many is a single layer: it pins its kernels down, but of networks a call teaches more.
LAYER_EVERY = 8
# Kept for fitting and checking at the end, so that all ends in time.
RESERVE_SECONDS = 10.0
# A target that refuses so many networks one after the other is not going to take the next.
MOST_FAILURES = 10


@dataclass(frozen=True)
class Calibration:
    """What a calibration came to.

    Args:
        folder: Where its measurements are kept.
        estimator: Fitted to all measurements; None where there are too few yet.
        networks: Whole networks measured now.
        layers: Single layers measured now.
        trials: Trials taken in from studies.
        unstable: How many of all were disturbed.
        skipped: Designs that could not be built, compressed or run.
        total: Whole networks known by now, of earlier calibrations too.
        interrupted: Whether a person ended it early.
        seconds: Wall time.
    """

    folder: Path
    estimator: Estimator | None
    networks: int
    layers: int
    trials: int
    unstable: int
    skipped: int
    total: int
    interrupted: bool
    seconds: float


def check_target(target: Target) -> None:
    """Makes sure that estimates can be had for a target.

    Raises:
        UnsupportedError: They cannot; or it wants more threads than there are cores.
    """
    if target.device != "cpu" or target.form != ONNX:
        raise UnsupportedError(
            f"there are no estimates for target '{target.name}': their kernels are read off ONNX files on a CPU",
            "such as onnxruntime-cpu-1t-b1",
        )
    target.check_cores()


class Calibrator:
    """Measures until its time is over, then fits.

    Args:
        target: What to calibrate for.
        environment_id: Fingerprint of this machine and the target's runtime.
        measure: Measures latency.
        folder: The cache; the user's where None.
        platform: Measures the machine's speeds at so many threads.
        clock: Gives seconds, monotonic.

    Raises:
        UnsupportedError: There are no estimates for such a target.
    """

    def __init__(
        self,
        target: Target,
        environment_id: str,
        measure: Measure,
        folder: Path | None = None,
        platform: Callable[[int], Platform] = calibrate_platform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_target(target)
        self.target = target
        self.environment_id = environment_id
        self.measure = measure
        self.stored = Measurements(folder or cache_folder(), environment_id, target)
        self.platform = platform
        self.clock = clock
        self._known = {item.sha256 for item in self.stored.read()}
        self._added: list[Measurement] = []
        self._skipped = 0

    def run(
        self,
        space: SearchSpace | None,
        image_shape: tuple[int, int, int],
        classes: int,
        minutes: float,
        studies: Sequence[Study] = (),
        progress: Progress = lambda done, share: None,
    ) -> Calibration:
        """Calibrates; Ctrl-C ends the measuring, and what was measured until then counts.

        Args:
            space: What to sample; None where only trials are taken in.
            image_shape: (H, W, C) of one image.
            classes: Number of classes.
            minutes: Time for all of it.
            studies: Whose trials to learn from as well, where they were measured on this machine.
            progress: Hears how far it has come.

        Raises:
            NasError: Nothing can be measured on the target, or the cache cannot be used.
        """
        started = self.clock()
        interrupted = False
        try:
            assert self.target.threads is not None  # a target on the CPU has them
            self.stored.write_platform(self.platform(self.target.threads))
            for study in studies:
                self._take_in(study)
            if space is not None:
                sampler = Sampler(space, image_shape, classes, reduce_range=not has_vnni())
                self._sample(sampler, started, 60 * minutes - RESERVE_SECONDS, progress)
        except KeyboardInterrupt:
            interrupted = True
        return self._ended(started, interrupted)

    def _ended(self, started: float, interrupted: bool) -> Calibration:
        measured, platform = self.stored.read(), self.stored.read_platform()
        estimator = None
        if platform is not None and is_enough(measured):
            estimator = Estimator(self.target, self.environment_id, platform, measured)
            estimator.checks  # noqa: B018 - so that a person need not wait for it later
        by_source = {source: sum(item.source == source for item in self._added) for source in (NETWORK, LAYER, TRIAL)}
        return Calibration(
            folder=self.stored.folder,
            estimator=estimator,
            networks=by_source[NETWORK],
            layers=by_source[LAYER],
            trials=by_source[TRIAL],
            unstable=sum(item.unstable for item in self._added),
            skipped=self._skipped,
            total=len(whole_networks(latest(measured))),
            interrupted=interrupted,
            seconds=self.clock() - started,
        )

    def _take_in(self, study: Study) -> None:
        """Adds a study's trials that were measured in this environment, as far as their artifacts are still there."""
        for record in study.measured:
            latency = record.quantity(f"latency_ms@{self.target.name}")
            flops = record.quantity("flops")
            if latency is None or flops is None or latency.environment_id != self.environment_id:
                continue
            artifact = study.store.read_blob(record.artifact_sha256) if record.artifact_sha256 else None
            if artifact is not None:
                self._add(TRIAL, f"{study.name}:{record.number}", artifact, latency, flops.value)

    def _sample(self, sampler: Sampler, started: float, seconds: float, progress: Progress) -> None:
        """Measures samples until the next would probably end too late."""
        first = self.clock()
        failures = 0
        for number, (kind, sample) in enumerate(self._samples(sampler), 1):
            if sample is not None:
                try:
                    latency, _ = self.measure(sample.artifact, self.target, sample.images)
                except (ArtifactError, MeasureError):
                    failures += 1
                    self._skipped += 1
                    if failures == MOST_FAILURES:
                        raise
                else:
                    failures = 0
                    self._add(kind, sample.label, sample.artifact, latency, sample.complexity.flops)
            now = self.clock()
            progress(len(self._added), min(1.0, (now - started) / seconds) if seconds > 0 else 1.0)
            if now + (now - first) / number > started + seconds:
                return

    def _samples(self, sampler: Sampler) -> Iterator[tuple[str, Sample | None]]:
        """Networks and every now and then a layer; None for what could not be made, or is known already.

        The seed is how much is known, so that a later calibration draws other designs.
        """
        seed = len(self._known)
        for number, design in zip(numbers(1), sampler.designs(seed), strict=False):
            kind = NETWORK if number % LAYER_EVERY else LAYER
            try:
                sample = sampler.network(design) if kind == NETWORK else sampler.layer(design, number)
            except (InfeasibleDesignError, UnsupportedError, ValueError):
                self._skipped += 1
                yield kind, None
                continue
            yield kind, None if sha256_bytes(sample.artifact) in self._known else sample

    def _add(self, source: str, label: str, artifact: bytes, latency: Quantity, flops: float) -> None:
        if sha256_bytes(artifact) in self._known:
            return
        kernels = kernels_of(artifact, self.target.batch)
        measurement = Measurement.of(source, label, artifact, latency, flops, kernels)
        self.stored.add(measurement)
        self._known.add(measurement.sha256)
        self._added.append(measurement)


def image_shape_of(study: Study) -> tuple[tuple[int, int, int], int] | None:
    """(H, W, C) and number of classes of a study's data, from a trial's manifest; None before there is one."""
    for record in study.records:
        if record.outcome is Outcome.MEASURED and record.manifest:
            given, names = record.manifest["input"], record.manifest["class_names"]
            a, b, c = (int(size) for size in given["shape"])
            return ((a, b, c) if given["layout"] == "NHWC" else (b, c, a)), len(names)
    return None


def need_more(calibration: Calibration) -> NasError:
    """The error for a calibration that measured too little to estimate anything."""
    were = "network was" if calibration.total == 1 else "networks were"
    return MeasureError(
        f"only {calibration.total} {were} measured, too few for estimates",
        "they are kept; run it again, with more --minutes",
    )
