"""Calibration with a fake clock and a formula for a machine: what is measured, kept, taken in, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from fakes import TARGET as TARGET_NAME
from fakes import make_recipe, make_record, write_study
from onnx_models import tiny_artifact
from synthetic_latencies import PLATFORM, measurement, networks

from nas.design import Design
from nas.errors import ArtifactError, InfeasibleDesignError, UnsupportedError
from nas.estimate import calibrate as module
from nas.estimate.calibrate import (
    LAYER_EVERY,
    MOST_FAILURES,
    RESERVE_SECONDS,
    Calibration,
    Calibrator,
    image_shape_of,
    need_more,
)
from nas.estimate.estimator import LEAST_MEASURED, PREDICTED, Estimator
from nas.estimate.measurements import LAYER, NETWORK, TRIAL, Measurements
from nas.estimate.networks import Sample
from nas.measure.complexity import Complexity
from nas.outcome import How, Quantity
from nas.space import SearchSpace, load_space
from nas.store import sha256_bytes
from nas.study import Study
from nas.target import Target

TARGET = Target.parse(TARGET_NAME)
SPACE, SHAPE = load_space("convnet"), (28, 28, 1)
COMPLEXITY = Complexity(1000, 2000, 0, 0, 0, 0, (), ())


@dataclass
class FakeSampler:
    """Samples that are ready at once: each a linear layer with another number of classes."""

    space: SearchSpace
    image_shape: tuple[int, int, int]
    classes: int
    reduce_range: bool = False

    def designs(self, seed: int) -> Iterator[Design]:
        return (Design("convnet", {"classes": 2 + seed + number}, {}) for number in count())

    def network(self, design: Design) -> Sample:
        artifact = tiny_artifact(int(design.architecture["classes"]))
        return Sample("network", artifact, np.zeros((1, 4, 4, 1), np.uint8), COMPLEXITY)

    def layer(self, design: Design, seed: int) -> Sample:
        return replace(self.network(design), label="layer")


class Clock:
    """A second passes with each latency that is measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def quantity(ms: float, unstable: bool = False) -> Quantity:
    return Quantity("latency_ms", ms, "ms", How.MEASURED, target=TARGET_NAME, detail={"unstable": unstable})


@pytest.fixture
def calibrator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Calibrator]:
    """Makes a calibrator whose latencies follow the file's size."""
    monkeypatch.setattr(module, "Sampler", FakeSampler)
    clock = Clock()

    def measured(artifact: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        return quantity(len(artifact) / 1000), np.zeros(1)

    def make(measure: module.Measure = measured, target: Target = TARGET) -> Calibrator:
        def ticking(*arguments: object) -> tuple[Quantity, np.ndarray]:
            clock.now += 1
            return measure(*arguments)  # type: ignore[arg-type]

        return Calibrator(target, "abc", ticking, tmp_path / "cache", lambda threads: PLATFORM, clock)

    return make


def run(calibrator: Calibrator, minutes: float = 1, studies: tuple[Study, ...] = (), **options: object) -> Calibration:
    return calibrator.run(SPACE, SHAPE, 10, minutes, studies, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("minutes", "measured"), [(0.5, 20), (1, 50)])
def test_it_measures_until_shortly_before_its_time(
    calibrator: Callable[..., Calibrator], minutes: float, measured: int
) -> None:
    found = run(calibrator(), minutes)
    assert (found.networks + found.layers, found.seconds) == (measured, measured)
    assert found.layers == measured // LAYER_EVERY
    assert not found.interrupted


def test_what_was_measured_is_kept_and_fitted(calibrator: Callable[..., Calibrator], tmp_path: Path) -> None:
    found = run(calibrator())
    stored = Measurements(tmp_path / "cache", "abc", TARGET)
    assert found.folder == stored.folder
    assert [item.source for item in stored.read()].count(NETWORK) == found.networks
    assert [item.source for item in stored.read()].count(LAYER) == found.layers
    assert {item.flops for item in stored.read()} == {2000}
    assert stored.read_platform() == PLATFORM
    assert found.estimator is not None
    assert found.estimator.checks[PREDICTED].within > 0.9
    loaded = Estimator.load(TARGET, "abc", tmp_path / "cache")
    assert loaded is not None
    assert loaded.checks == found.estimator.checks


def test_a_later_calibration_adds(calibrator: Callable[..., Calibrator]) -> None:
    first, second = run(calibrator()), run(calibrator(), 0.5)
    assert second.networks == 20 - 20 // LAYER_EVERY
    assert second.total == first.total + second.networks


def test_too_little_time_gives_no_estimates_but_keeps_what_was_measured(calibrator: Callable[..., Calibrator]) -> None:
    found = run(calibrator(), 19 / 60)
    assert found.estimator is None
    assert found.total == 9 - 9 // LAYER_EVERY
    error = need_more(found)
    assert error.message == "only 8 networks were measured, too few for estimates"
    assert "run it again" in error.hint
    assert run(calibrator()).estimator is not None


@pytest.mark.parametrize("after", [5, 48])
def test_an_interruption_keeps_what_was_measured(calibrator: Callable[..., Calibrator], after: int) -> None:
    calls = count(1)

    def measured(artifact: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        if next(calls) > after:
            raise KeyboardInterrupt
        return quantity(len(artifact) / 1000), np.zeros(1)

    found = run(calibrator(measured))
    assert found.interrupted
    assert found.networks + found.layers == after
    assert (found.estimator is not None) == (found.total >= LEAST_MEASURED)


def test_disturbed_measurements_are_counted_and_kept_as_such(
    calibrator: Callable[..., Calibrator], tmp_path: Path
) -> None:
    found = run(calibrator(lambda artifact, target, images: (quantity(len(artifact) / 1000, True), np.zeros(1))))
    assert found.unstable == 50
    assert all(item.unstable for item in Measurements(tmp_path / "cache", "abc", TARGET).read())
    assert found.estimator is not None
    assert found.estimator.checks[PREDICTED].disturbed == found.networks


def test_single_failures_are_skipped(calibrator: Callable[..., Calibrator]) -> None:
    calls = count(1)

    def measured(artifact: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        if next(calls) % 2:
            raise ArtifactError("the runtime has no such operator")
        return quantity(len(artifact) / 1000), np.zeros(1)

    found = run(calibrator(measured))
    assert found.skipped == 25
    assert found.networks + found.layers == 25


def test_a_target_that_takes_nothing_is_given_up(calibrator: Callable[..., Calibrator]) -> None:
    calls: list[bytes] = []

    def measured(artifact: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        calls.append(artifact)
        raise ArtifactError("the runtime has no such operator")

    with pytest.raises(ArtifactError, match="no such operator"):
        run(calibrator(measured))
    assert len(calls) == MOST_FAILURES


def test_designs_that_cannot_be_built_are_skipped(
    calibrator: Callable[..., Calibrator], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FakeSampler.network

    def network(self: FakeSampler, design: Design) -> Sample:
        if int(design.architecture["classes"]) % 3 == 0:
            raise InfeasibleDesignError("the feature map shrinks to nothing")
        return real(self, design)

    monkeypatch.setattr(FakeSampler, "network", network)
    found = run(calibrator())
    assert found.skipped > 10
    assert found.estimator is not None


def test_progress_runs_to_its_end(calibrator: Callable[..., Calibrator]) -> None:
    heard: list[tuple[int, float]] = []
    run(calibrator(), progress=lambda done, share: heard.append((done, share)))
    assert [done for done, _ in heard] == list(range(1, 51))
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def study_with(folder: Path, environments: list[str]) -> Study:
    """Trials with artifacts, measured here and elsewhere; of the last one the artifact is gone."""
    records = []
    for number, environment in enumerate(environments):
        artifact = tiny_artifact(200 + number)
        record = make_record(number, artifact_sha256=sha256_bytes(artifact))
        latency = record.quantity(f"latency_ms@{TARGET_NAME}")
        assert latency is not None
        here = replace(latency, value=1.0, low=0.9, high=1.1, environment_id=environment)
        others = tuple(item for item in record.quantities if item.key != latency.key)
        records.append(replace(record, quantities=(*others, here)))
    study = write_study(folder, records, make_recipe())
    for number in range(len(environments) - 1):
        study.store.put(f"artifact-{number}", tiny_artifact(200 + number), {})
    return study


def test_trials_of_this_machine_are_learned_from(calibrator: Callable[..., Calibrator], tmp_path: Path) -> None:
    study = study_with(tmp_path / "study", ["abc", "another", "abc", "abc"])
    found = run(calibrator(), studies=(study,))
    assert found.trials == 2
    taken = [item for item in Measurements(tmp_path / "cache", "abc", TARGET).read() if item.source == TRIAL]
    assert [item.label for item in taken] == ["study:0", "study:2"]
    assert {(item.ms, item.low, item.high) for item in taken} == {(1.0, 0.9, 1.1)}
    assert run(calibrator(), studies=(study,)).trials == 0  # they are known by now


def test_trials_alone_may_be_enough(calibrator: Callable[..., Calibrator], tmp_path: Path) -> None:
    stored = Measurements(tmp_path / "cache", "abc", TARGET)
    for number, network in enumerate(networks(LEAST_MEASURED - 2)):
        stored.add(measurement(network, number, source=TRIAL))
    study = study_with(tmp_path / "study", ["abc", "abc", "abc"])
    found = calibrator().run(None, SHAPE, 10, 1, (study,))
    assert (found.trials, found.networks, found.total) == (2, 0, LEAST_MEASURED)
    assert found.estimator is not None


@pytest.mark.parametrize("name", ["torch-cpu-1t-b1", "onnxruntime-cuda-b1", "torch-cuda-b1-fp16"])
def test_other_targets_are_unsupported(calibrator: Callable[..., Calibrator], name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"no estimates for target '{name}'"):
        calibrator(target=Target.parse(name))


def test_more_threads_than_cores_are_unsupported(calibrator: Callable[..., Calibrator]) -> None:
    with pytest.raises(UnsupportedError, match="threads, but this process may use"):
        calibrator(target=Target.parse("onnxruntime-cpu-9999t-b1"))


@pytest.mark.parametrize(
    ("layout", "given", "expected"),
    [("NHWC", [28, 30, 1], (28, 30, 1)), ("NCHW", [3, 28, 30], (28, 30, 3))],
)
def test_the_shape_of_images_is_the_studys(
    tmp_path: Path, layout: str, given: list[int], expected: tuple[int, int, int]
) -> None:
    manifest = {"input": {"shape": given, "layout": layout}, "class_names": ["a", "b", "c"]}
    study = write_study(tmp_path, [make_record(0), make_record(1, manifest=manifest)])
    assert image_shape_of(study) == (expected, 3)
    assert image_shape_of(write_study(tmp_path / "none", [make_record(0)])) is None


def test_a_real_design_goes_all_the_way(tmp_path: Path) -> None:
    """Built, compressed, exported, read off and kept; the latency alone is made up."""
    clock = Clock()

    def measured(artifact: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        clock.now += 1
        return quantity(len(artifact) / 1000), np.zeros(1)

    calibrator = Calibrator(TARGET, "abc", measured, tmp_path, lambda threads: PLATFORM, clock)
    found = calibrator.run(SPACE, (16, 16, 1), 5, (RESERVE_SECONDS + LAYER_EVERY + 1) / 60)
    assert found.networks >= LAYER_EVERY - 1
    assert all(any(kernel.depth for kernel in item.kernels) for item in calibrator.stored.read())
