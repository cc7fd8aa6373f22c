"""Latencies taken after the search: of the whole study anew, or of its front's members in turns. Only ever added to.

A latency is a dated measurement of an artifact on a target in an environment. The one that a trial was told with stands
in its record and is never overwritten; what is measured later lies in ``measurements/NNNN.json`` beside the records:

- ``all``: every measured trial on some targets, in one environment (``nas measure``): these replace the records'
  numbers, so that a study can move to another machine;
- ``front``: the front's members, and who contends with them, timed in turns, A B C A B C …, so that drift of the
  machine hits all of them alike: these give their values and intervals in tables and pictures, and decide who of them
  is on the front; no other trial gets on or off it by them, as the others were not timed beside them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nas.errors import NasError, StudyError
from nas.outcome import Outcome, Quantity
from nas.record import TrialRecord
from nas.safety.json_text import read_json
from nas.store import write_atomically

VERSION = 1

Kind = Literal["all", "front"]

# What is measured on a target each time that a latency is.
MEASURED_ON_TARGETS = ("latency_ms", "load_ms", "peak_memory_bytes")


# In the detail of a latency that was timed in turns: the numbers of the trials whose intervals overlap its own, "3,7".
AMBIGUOUS_WITH = "ambiguous_with"


@dataclass(frozen=True)
class Measurements:
    """What was measured in one go, in one environment.

    Args:
        kind: ``all`` or ``front``.
        time: When, ISO 8601, UTC.
        quantities: For each trial its latencies, and what else was measured with them.
        environment: The machine, its software, and what the runtimes say of themselves.
    """

    kind: Kind
    time: str
    quantities: Mapping[int, tuple[Quantity, ...]]
    environment: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "kind": self.kind,
            "time": self.time,
            "quantities": {str(number): [q.to_json() for q in items] for number, items in self.quantities.items()},
            "environment": dict(self.environment),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurements:
        """Reads what ``to_json`` wrote.

        Raises:
            StudyError: Another version.
            KeyError, TypeError, ValueError: A field is missing or not what it must be.
        """
        if data["version"] != VERSION:
            raise StudyError(f"the version of measurements must be {VERSION}, but got {data['version']!r}")
        if data["kind"] not in ("all", "front"):
            raise ValueError(f"'kind' must be all or front, but got {data['kind']!r}")
        quantities = {
            int(number): tuple(Quantity.from_json(item) for item in items)
            for number, items in data["quantities"].items()
        }
        return cls(data["kind"], str(data["time"]), quantities, dict(data["environment"]))


def write_measurements(
    folder: Path, measurements: Measurements, samples: Mapping[str, np.ndarray] | None = None
) -> Measurements:
    """Adds what was measured to a study's; raw samples (ms) go beside it, compressed.

    Args:
        folder: The study's folder of measurements.
        measurements: What was measured.
        samples: Raw samples by name, such as ``00012 onnxruntime-cpu-1t-b1``.

    Returns:
        What was written: with samples, each latency says where they lie.
    """
    taken = [int(path.stem) for path in folder.glob("[0-9]*.json") if path.stem.isdigit()]
    path = folder / f"{max(taken, default=0) + 1:04d}.json"
    if samples:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dict(samples))  # type: ignore[arg-type]
        write_atomically(path.with_suffix(".npz"), buffer.getvalue())
        measurements = _referring(measurements, f"{folder.name}/{path.stem}.npz")
    write_atomically(path, json.dumps(measurements.to_json(), indent=1, allow_nan=False).encode())
    return measurements


def _referring(measurements: Measurements, samples_ref: str) -> Measurements:
    """The same, with the place of the raw samples in each latency."""
    quantities = {
        number: tuple(replace(q, samples_ref=samples_ref) if q.name == "latency_ms" else q for q in items)
        for number, items in measurements.quantities.items()
    }
    return replace(measurements, quantities=quantities)


def read_measurements(folder: Path) -> list[Measurements]:
    """All that was measured later, in the order taken; an empty list where there is nothing.

    Raises:
        StudyError: A file cannot be read; the message names it.
    """
    found = []
    for path in sorted(folder.glob("[0-9]*.json")):
        try:
            found.append(Measurements.from_json(read_json(path)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, NasError) as error:
            problem = f"{error} is missing" if isinstance(error, KeyError) else error
            raise StudyError(f"{path} cannot be read: {problem}", "delete it; 'nas measure' measures again") from error
    return found


def measured_anew(records: Sequence[TrialRecord], taken: Iterable[Measurements]) -> list[TrialRecord]:
    """The records with what was measured of the whole study later, the last of it where there is more than one.

    With numbers that replace a record's comes the environment that they were measured in; numbers on targets that a
    record had none for are added to it, and leave its environment as it is. A number of before goes where its target
    was measured on again and no longer runs the artifact.
    """
    later = [measurements for measurements in taken if measurements.kind == "all"]
    found = []
    for record in records:
        for measurements in later:
            items = measurements.quantities.get(record.number, ())
            if not items or record.outcome is not Outcome.MEASURED:
                continue
            measured_on = measurements.environment.get("runtimes", {})
            kept = [q for q in record.quantities if q.name not in MEASURED_ON_TARGETS or q.target not in measured_on]
            if len(kept) < len(record.quantities):
                record = replace(record, quantities=tuple(kept), environment=measurements.environment)
            record = _with(record, items)
        found.append(record)
    return found


def timed_in_turns(records: Sequence[TrialRecord], taken: Sequence[Measurements]) -> dict[int, TrialRecord]:
    """Those records whose latencies were last timed in turns, with these latencies, by number.

    Of measurements on another machine than the records', and of those that were measured anew afterwards, none counts.

    Args:
        records: The trials, as ``measured_anew`` gives them.
        taken: All that was measured later, in the order taken.
    """
    last = next((index for index in reversed(range(len(taken))) if taken[index].kind == "front"), None)
    if last is None:
        return {}
    found = {}
    for record in records:
        now = {quantity.key: quantity.environment_id for quantity in record.quantities}
        outdated = {q.key for m in taken[last + 1 :] for q in m.quantities.get(record.number, ())}
        fitting = [
            quantity
            for quantity in taken[last].quantities.get(record.number, ())
            if quantity.key not in outdated and now.get(quantity.key, "") == quantity.environment_id
        ]
        if fitting and record.outcome is Outcome.MEASURED:
            found[record.number] = _with(record, fitting)
    return found


def _with(record: TrialRecord, items: Sequence[Quantity]) -> TrialRecord:
    """A record whose quantities are replaced by later ones of the same key, and to which new ones are added."""
    if record.outcome is not Outcome.MEASURED or not items:
        return record
    quantities = {quantity.key: quantity for quantity in record.quantities}
    quantities |= {quantity.key: quantity for quantity in items}
    return replace(record, quantities=tuple(quantities.values()))


def in_turns(latency: Quantity) -> bool:
    """Whether a latency was timed in turns with the other members of its front."""
    return bool(latency.detail.get("in_turns"))


def ambiguous_with(latency: Quantity) -> tuple[int, ...]:
    """The trials that a latency cannot be told apart from: timed in turns with it, their intervals overlap its own."""
    words = str(latency.detail.get(AMBIGUOUS_WITH, "")).split(",")
    return tuple(int(word) for word in words if word.isdigit())


def environments(records: Iterable[TrialRecord], key: str) -> dict[str, list[int]]:
    """Which trials' quantity of that key was measured in which environment: fingerprint → numbers, in order.

    Quantities without a fingerprint (which nothing measured gives) are left out.
    """
    found: dict[str, list[int]] = {}
    for record in records:
        quantity = record.quantity(key) if record.outcome is Outcome.MEASURED else None
        if quantity is not None and quantity.environment_id is not None:
            found.setdefault(quantity.environment_id, []).append(record.number)
    return found
