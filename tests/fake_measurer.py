"""A measurer whose every latency a test decides, and studies that it measured: no process, no clock, no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fakes import make_recipe, make_record, write_study

from nas.artifact import InputSpec
from nas.data.dataset import Dataset, Split
from nas.errors import ArtifactError, UnsupportedError
from nas.measure.clock import Policy
from nas.measure.latency import batch_of
from nas.measure.measurer import ROUNDS, TURN, Measurer
from nas.measure.protocol import Turns
from nas.outcome import How, Quantity
from nas.recipe import Recipe
from nas.record import TrialRecord, read_records, write_record
from nas.serving import at_place, choose, services
from nas.store import Store, sha256_bytes
from nas.study import Study, StudyFolder
from nas.target import Target

ORT1, ORT2, OV1 = "onnxruntime-cpu-1t-b1", "onnxruntime-cpu-2t-b1", "openvino-cpu-1t-b1"
PLACE = "cpu-b1"


def model(number: int, latency_ms: float) -> bytes:
    """A trial's artifact: it says itself how long it takes."""
    return f"{number} {latency_ms}".encode()


class FakeMeasurer(Measurer):
    """Takes a model's latency from its content, times a factor for the target.

    Args:
        machine: The machine's name, which is in every fingerprint.
        factors: By target's name; 1 for others.
        refused: Pairs of trial and target's name for which the runtime does not load the model.
        absent: Names of targets that cannot be measured here.
        noise: Latency's factor by round, for each trial; 1 for others.
        troubles: What disturbs the rounds, for ever again.
        outputs: What a runtime makes of images.
    """

    def __init__(
        self,
        machine: str = "a",
        factors: Mapping[str, float] | None = None,
        refused: Sequence[tuple[int, str]] = (),
        absent: Sequence[str] = (),
        noise: Mapping[int, Sequence[float]] | None = None,
        troubles: Sequence[tuple[str, ...]] = ((),),
        outputs: Callable[[bytes, Target, np.ndarray], np.ndarray] | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        self.policy = Policy()
        self.machine = {"cpu": f"CPU {machine}", "cores": 4, "system": "Linux", "name": machine}
        self.factors = factors or {}
        self.refused = set(refused)
        self.absent = set(absent)
        self.noise = noise or {}
        self.troubles = list(troubles)
        self.scored = outputs
        self.detail = dict(detail or {})
        self.log: list[tuple[Any, ...]] = []
        self.interrupt_at: int | None = None
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def environment(self, target: Target) -> Mapping[str, Any]:
        if target.name in self.absent:
            raise UnsupportedError(f"{target.kind.title} is not installed", target.kind.install[target.device])
        return {target.runtime: "1.0"}

    def environment_id(self, target: Target) -> str:
        self.environment(target)
        return f"{self.machine['name']}-{target.runtime}"

    def latency(self, content: bytes, target: Target) -> tuple[int, float]:
        number, ms = content.decode().split()
        return int(number), float(ms) * self.factors.get(target.name, 1.0)

    def glance(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        return self.measure(content, target, images)

    def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        number, ms = self.latency(content, target)
        batch_of(images, target.batch)  # refuses where there is none
        if number == self.interrupt_at:
            raise KeyboardInterrupt
        self.log.append(("measure", number, target.name))
        if (number, target.name) in self.refused:
            raise ArtifactError("the model has an operator that is not known", "leave it out")
        detail = {"p95": 1.1 * ms, "iqr": 0.02 * ms, "samples": 3, "unstable": False, "threads": target.threads or 0}
        quantity = Quantity(
            "latency_ms", ms, "ms", How.MEASURED, target.name, 0.99 * ms, 1.01 * ms, None, self.environment_id(target),
            detail | self.detail,
        )  # fmt: skip
        return quantity, np.array([0.99, 1.0, 1.01], np.float32) * np.float32(ms)

    def outputs(self, content: bytes, target: Target, images: np.ndarray, batch: int = 256) -> np.ndarray:
        self.log.append(("outputs", self.latency(content, target)[0], target.name))
        assert self.scored is not None, "nothing was to be scored"
        return self.scored(content, target, images)

    def start_anew(self, target: Target) -> None:
        self.log.append(("anew", target.name))

    def turns(
        self, contents: Sequence[bytes], target: Target, images: np.ndarray, rounds: int = ROUNDS, turn: Policy = TURN
    ) -> Turns:
        models = [self.latency(content, target) for content in contents]
        self.log.append(("turns", [number for number, _ in models], target.name, rounds))
        samples = tuple(
            tuple(np.full(4, round(1e6 * ms * self._noise(number, index)), np.int64) for index in range(rounds))
            for number, ms in models
        )
        return Turns(samples, tuple(self.troubles[index % len(self.troubles)] for index in range(rounds)))

    def _noise(self, number: int, index: int) -> float:
        factors = self.noise.get(number, (1.0,))
        return factors[index % len(factors)]


def make_dataset(count: int = 6) -> Dataset:
    """Images of 2×2×1 of two classes."""
    images = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2, 1)
    split = Split(images, np.arange(count, dtype=np.int64) % 2)
    return Dataset(split, split, split, ("a", "b"), InputSpec("uint8", (2, 2, 1)), "digest")


def one_hot(labels: np.ndarray, wrong: int = 0) -> np.ndarray:
    """Outputs that are right, but for the first few images."""
    guessed = labels.copy()
    guessed[:wrong] = 1 - guessed[:wrong]
    return np.eye(2, dtype=np.float32)[guessed]


def measured_study(
    folder: Path,
    trials: Mapping[int, tuple[float, float]],
    measurer: FakeMeasurer | None = None,
    recipe: Recipe | None = None,
    **fields: Any,
) -> Study:
    """A study that a measurer measured: for each trial its accuracy and its model's latency in ms, files in the cache.

    Args:
        folder: Where it goes.
        trials: By number.
        measurer: Of machine a by default.
        recipe: By default one target.
        fields: Of every record.
    """
    recipe, measurer = recipe or make_recipe(), measurer or FakeMeasurer()
    store = Store(folder / "cache", 10**9)
    records = []
    for number, (accuracy, latency_ms) in trials.items():
        content = model(number, latency_ms)
        store.put(f"artifact-{number:05d}", content, {})
        quantities = latencies_of(content, measurer, recipe)
        record = make_record(
            number, accuracy, latency_ms, origin="baseline" if number == 0 else "asked",
            artifact_sha256=sha256_bytes(content), environment=dict(measurer.machine), **fields,
        )  # fmt: skip
        kept = tuple(quantity for quantity in record.quantities if quantity.name != "latency_ms")
        records.append(replace(record, quantities=(*kept, *quantities)))
    measurer.log.clear()
    return write_study(folder, records, recipe)


def latencies_of(content: bytes, measurer: FakeMeasurer, recipe: Recipe) -> list[Quantity]:
    """What a search would measure of a model, at places too."""
    images = np.zeros((1, 2, 2, 1), np.uint8)
    found = []
    for name in recipe.all_targets:
        try:
            found.append(measurer.measure(content, Target.parse(name), images)[0])
        except ArtifactError:
            continue
    for service in services(recipe):
        target, _ = choose(service, {str(q.target): q for q in found}, lambda _: True)
        if target is not None:
            found += at_place(found, service, target)
    return found


def add_record(study: Study, record: TrialRecord) -> Study:
    """The study with one more trial."""
    write_record(study.folder.trials, record)
    return Study.open(study.folder.path)


def records_on_disk(folder: StudyFolder) -> list[TrialRecord]:
    """The trials' records alone, without what was measured later."""
    return read_records(folder.trials)
