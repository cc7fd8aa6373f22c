"""What is kept of a trial. Records are the truth: fronts, reports and picks are read off them alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any

from nas.design import Design
from nas.errors import NasError, StudyError
from nas.objectives import Constraint
from nas.outcome import Outcome, Quantity, Realisation, Reason
from nas.safety.json_text import read_json
from nas.store import write_atomically
from nas.target import ONNX

VERSION = 1

# Stages that train the float network.
TRAINING = frozenset({"train", "trunk"})

# The types of the fields that are read as they stand.
_JSON_TYPES: Mapping[str, type | UnionType] = {
    "number": int,
    "origin": str,
    "seed": int,
    "duplicate_of": int | None,
    "parent": int | None,
    "inherits": str | None,
    "epochs": int | float | None,
    "spared": bool,
    "teacher": str | None,
    "teacher_trial": int | None,
    "artifact_sha256": str | None,
    "forms": dict,
    "manifest": dict,
    "environment": dict,
    "started_at": str,
    "seconds": int | float,
    "attempts": int,
    "peak_memory_bytes": int | None,
}


# What stands for fields that records of earlier versions have not.
_ABSENT: Mapping[str, Any] = {
    "forms": {},
    "parent": None,
    "inherits": None,
    "epochs": None,
    "spared": False,
    "attempts": 1,
    "peak_memory_bytes": None,
}


@dataclass(frozen=True)
class StageResult:
    """One stage of a trial's pipeline.

    Args:
        stage: ``train``, ``prune``, ``finetune``, ``export``, ``quantise``, ``score``, ``measure``.
        key: The key under which its result is cached; empty for stages that are not.
        seconds: Wall time spent now; near zero where the result came from the cache.
        cached: Whether the result came from the cache.
        detail: What it is worth knowing of it: curves, realised widths, parity.
    """

    stage: str
    key: str
    seconds: float
    cached: bool
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialRecord:
    """One design evaluated once.

    Args:
        number: The trial's number in the study, the same as in Optuna's storage.
        origin: Where the design came from: ``asked`` (the sampler), ``baseline`` and ``first`` (the space's),
            ``prior`` (of the sensitivity that the recipe names), ``warm`` (of an earlier study), ``drawn`` (at random,
            to see what else there is), ``unseen`` (drawn at random because the sampler repeats itself), ``fan``
            (another compression of a trained network), ``promotion`` (goes on with a training that was stopped) or
            ``supernet`` (ranked high in it).
        design: What was evaluated.
        outcome: How it ended.
        seed: The seed of training and fine-tuning.
        reason: Why it is not measured, where it is not.
        duplicate_of: The trial whose values a duplicate was given.
        parent: The trial whose trained network or checkpoint it goes on from.
        inherits: What its training started from instead of random weights: the number of the trial whose network it
            was, or ``supernet``.
        epochs: For how many epochs it was trained where that was stopped early; 0 where it waits untrained.
        spared: Whether it would have been screened out, but was evaluated all the same, to keep the screening honest.
        teacher: For distilled designs, the architecture digest of the teacher network; of a teacher that the recipe
            names, the SHA-256 of its file.
        teacher_trial: The trial that the teacher network belongs to; None for one that the recipe names.
        quantities: Every number, with how it was had.
        labels: For each active compression choice whether it is realised, simulated or unsupported.
        stages: What was done, in order, with times.
        artifact_sha256: The exported ONNX file, which lies in the study's cache under this digest.
        forms: Digests of the files in other forms that some targets want, by form (see ``nas.target``).
        manifest: What the artifact takes and gives (see ``nas.artifact``).
        environment: The machine and its software.
        started_at: ISO 8601, UTC.
        seconds: Wall time since the trial before ended, so that those of all trials add up to the search's; without
            others at the same time that is the trial's own.
        attempts: How often an evaluation of it was begun: more than once where a worker died, or a cause had nothing to
            do with the design.
        peak_memory_bytes: The most resident memory that the process had which trained and compressed it.
        notes: Things a reader should know, in words.
    """

    number: int
    origin: str
    design: Design
    outcome: Outcome
    seed: int
    reason: Reason | None = None
    duplicate_of: int | None = None
    parent: int | None = None
    inherits: str | None = None
    epochs: float | None = None
    spared: bool = False
    teacher: str | None = None
    teacher_trial: int | None = None
    quantities: tuple[Quantity, ...] = ()
    labels: Mapping[str, Realisation] = field(default_factory=dict)
    stages: tuple[StageResult, ...] = ()
    artifact_sha256: str | None = None
    forms: Mapping[str, str] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    started_at: str = ""
    seconds: float = 0.0
    attempts: int = 1
    peak_memory_bytes: int | None = None
    notes: tuple[str, ...] = ()

    def quantity(self, key: str) -> Quantity | None:
        """The quantity of that key (``accuracy``, ``latency_ms@onnxruntime-cpu-1t-b1``), or None."""
        return self._by_key.get(key)

    @cached_property
    def _by_key(self) -> Mapping[str, Quantity]:
        """The quantities by key, of two of a key the first: a long search asks each record thousands of times."""
        return {sys.intern(quantity.key): quantity for quantity in reversed(self.quantities)}

    @cached_property
    def trained_seconds(self) -> float | None:
        """How long the trial trained its float network; None where it did not."""
        spent = [stage.seconds for stage in self.stages if stage.stage in TRAINING and not stage.cached]
        return sum(spent) if spent else None

    @property
    def goes_on_from(self) -> int | None:
        """The trial whose checkpoint, network or weights this one took; None where it took none of a trial's."""
        if self.parent is not None:
            return self.parent
        return int(self.inherits) if self.inherits is not None and self.inherits.isdigit() else None

    def file_for(self, form: str) -> str | None:
        """Digest of the trial's file in a form; None where it was not made."""
        return self.artifact_sha256 if form == ONNX else self.forms.get(form)

    @property
    def files(self) -> list[str]:
        """Digests of the trial's artifact in all its forms; empty where none was made."""
        return [sha for sha in (self.artifact_sha256, *self.forms.values()) if sha]

    def value(self, key: str) -> float:
        """The value of the quantity of that key.

        Raises:
            KeyError: The trial has no such quantity.
        """
        quantity = self.quantity(key)
        if quantity is None:
            raise KeyError(f"trial {self.number} has no quantity '{key}'")
        return quantity.value

    def feasible(self, constraints: Iterable[Constraint]) -> bool:
        """Whether the trial was measured and meets every constraint."""
        return self.outcome is Outcome.MEASURED and all(
            constraint.violation(self.value(constraint.quantity.key)) <= 0 for constraint in constraints
        )

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"version": VERSION}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ("design", "reason") and value is not None:
                value = value.to_json()
            elif item.name == "quantities":
                value = [quantity.to_json() for quantity in value]
            elif item.name == "stages":
                value = [{f.name: getattr(stage, f.name) for f in fields(stage)} for stage in value]
            elif item.name == "notes":
                value = list(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            data[item.name] = value
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialRecord:
        """Reads what ``to_json`` wrote.

        Raises:
            StudyError: Another version.
            KeyError: A field is missing.
            TypeError: A field is of another type than ``to_json`` writes.
            ValueError: A field has no such value.
        """
        if data.get("version") != VERSION:
            raise StudyError(f"a trial record's version must be {VERSION}, but got {data.get('version')!r}")
        values = {item.name: data[item.name] for item in fields(cls) if item.name in data}
        values["design"] = Design.from_json(values["design"])
        values["outcome"] = Outcome(values["outcome"])
        if values.get("reason") is not None:
            values["reason"] = Reason.from_json(values["reason"])
        values["quantities"] = tuple(Quantity.from_json(item) for item in values["quantities"])
        values["labels"] = {name: Realisation(label) for name, label in values["labels"].items()}
        values["stages"] = tuple(StageResult(**item) for item in values["stages"])
        values["notes"] = tuple(values["notes"])
        values = {**_ABSENT, **values}
        for name, kind in _JSON_TYPES.items():
            value = values[name]
            if isinstance(value, bool) is not (kind is bool) or not isinstance(value, kind):
                raise TypeError(f"'{name}' cannot be {value!r}")
        return cls(**values)


def utc_now() -> str:
    """The time as records and deployments hold it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def record_path(trials_folder: Path, number: int) -> Path:
    """Where the record of a trial lies."""
    return trials_folder / f"{number:05d}.json"


def write_record(trials_folder: Path, record: TrialRecord) -> Path:
    """Writes a record so that it is there whole or not at all, and returns where it lies."""
    path = record_path(trials_folder, record.number)
    write_atomically(path, json.dumps(record.to_json(), indent=1, allow_nan=False).encode())
    return path


def read_records(trials_folder: Path) -> list[TrialRecord]:
    """All records of a study, by number; an empty list where there are none yet.

    Raises:
        StudyError: A record cannot be read; the message names the file.
    """
    if trials_folder.is_dir() and not os.access(trials_folder, os.R_OK | os.X_OK):  # a glob finds nothing there
        raise StudyError(f"the trial records in {trials_folder} cannot be read: Permission denied", "make it readable")
    records = [_read(path) for path in sorted(trials_folder.glob("[0-9]*.json"))]
    return sorted(records, key=lambda record: record.number)


def _read(path: Path) -> TrialRecord:
    try:
        record = TrialRecord.from_json(read_json(path))
        if path != record_path(path.parent, record.number):  # a copy by hand would count the trial twice
            raise ValueError(f"it holds trial {record.number}, which its name does not say")
        return record
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NasError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else error
        raise StudyError(
            f"the trial record {path} cannot be read: {problem}",
            "move it out of the study folder; the next search evaluates that trial again",
        ) from error
