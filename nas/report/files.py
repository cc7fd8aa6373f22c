"""The front as files that other programs read: ``front.csv`` and ``front.json``.

``front.csv`` has a row for each member of the front, cheapest first, and a last one for the baseline where that is not
on the front. Its columns are the same for every study of the same targets, empty where a trial has no such number:

==============================================  =====================================================================
column                                          meaning
==============================================  =====================================================================
``trial``                                       number of the trial
``on_front``, ``baseline``                      ``true`` for members of the front; for the baseline
``accuracy``, ``accuracy_low``, ``_high``       share of validation data that is right, and its 95 % interval
``balanced_accuracy``, ``_low``, ``_high``      mean of the classes' recalls on validation data, and its 95 % interval
``test_accuracy``, ``_low``, ``_high``          the same on test data, once the front was scored on it
``test_balanced_accuracy``, ``_low``, ``_high``
``latency_ms@TARGET``                           median; one group of these for each target and place of the study
``latency_ms_low@TARGET``, ``_high``            95 % interval of the median
``latency_ms_p95@TARGET``                       95th percentile of the samples
``latency_ms_iqr@TARGET``                       interquartile range of the samples
``latency_unstable@TARGET``                     ``true`` where samples or machine would not settle
``latency_overhead_bound@TARGET``               ``true`` within 3 times of a call that computes nothing
``latency_in_turns@TARGET``                     ``true`` where it was timed in turns, as the front is
``latency_ambiguous_with@TARGET``               trials of the front whose intervals overlap this one's, by ``;``
``served_by@TARGET``                            of a place (``cpu-b1``): the target that is fastest there
``fps@TARGET``                                  1000 · batch / latency_ms
``speed_up@TARGET``                             latency of the baseline, divided by this one
``latency_gain@TARGET``                         latency of the float network that was pruned, divided by this one
``load_ms@TARGET``                              time to first output in a fresh process
``peak_memory_bytes@TARGET``                    largest resident memory of that process
``flops``, ``macs``, ``params``                 of the float network after pruning; 1 MAC = 2 FLOPs
``mac_gain``                                    ``macs`` of the float network that was pruned, divided by these
``size_bytes``                                  size of the ONNX file
``compressed_size_bytes``                       the same file deflated (zlib, level 9)
``knee``                                        ``true`` for the knee of the front
``simulated``                                   compression choices that save size on the target, not time, by ``;``
``unsupported``                                 compression choices without effect on network and target, by ``;``
``family``, ``words``                           the design: its family, and all of it in words
``design_sha256``, ``artifact_sha256``          digests of the design and of the ONNX file
==============================================  =====================================================================

``front.json`` holds all of that and more: ``version``, ``study``, ``recipe`` (a summary), ``objectives``,
``constraints``, ``reference`` and ``hypervolume``, ``trials`` (how many ended in which way), ``environments``,
``knee``, ``members``, each with every result (``how`` it was had, ``low`` and ``high`` of its 95 % interval), gains,
labels, design and test scores, and ``baseline``, which is described like a member, on the front or not. What was known
of a trial before its end (``proxy``) is no result, and not there.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nas.describe import describe
from nas.design import canonical_json
from nas.errors import StudyError
from nas.front import hypervolume, knee
from nas.gains import baseline_of, latency_gain, mac_gain, speed_up
from nas.measurements import ambiguous_with
from nas.objectives import Objective
from nas.outcome import Quantity, Realisation
from nas.proxies import results
from nas.record import TrialRecord
from nas.report.columns import latency_targets, table_rows
from nas.store import write_atomically
from nas.study import Study
from nas.target import Place
from nas.wording import frames_per_second

VERSION = 1


def write_front_files(study: Study) -> list[Path]:
    """Writes ``front.csv`` and ``front.json`` into the study's folder and returns where they lie.

    Each is there whole or not at all; what stood there before is replaced.

    Raises:
        StudyError: The folder cannot be written.
    """
    contents = {study.folder.front_csv: front_csv(study), study.folder.front_json: front_json(study)}
    for path, text in contents.items():
        write_output(path, encoded(text))
    return list(contents)


def encoded(text: str) -> bytes:
    """UTF-8; half characters, which the path of a folder with bytes that are no UTF-8 has, are spelled ``\\udce9``."""
    return text.encode(errors="backslashreplace")


def write_output(path: Path, content: bytes) -> None:
    """Writes one file that a person asked for.

    Raises:
        StudyError: It cannot be written.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror or error}", "make its folder writable") from error


def front_csv(study: Study) -> str:
    """The front as comma-separated values, with a heading; the columns are described above."""
    stream = io.StringIO()
    rows = [_row(study, record) for record in table_rows(study)]
    writer = csv.DictWriter(stream, _columns(study), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def front_json(study: Study) -> str:
    """The front as JSON; the fields are described above."""
    recipe, reference = study.recipe, study.reference
    objectives, constraints = recipe.parsed_objectives, recipe.parsed_constraints
    volume = hypervolume(study.records, reference, objectives, constraints) if reference else None
    data = {
        "version": VERSION,
        "study": study.name,
        "recipe": {
            "data": recipe.data.source,
            "space": recipe.space,
            "sampler": recipe.sampler,
            "seed": recipe.seed,
            "targets": list(recipe.all_targets),
            "budget": recipe.budget.model_dump(mode="json"),
            "identity_sha256": recipe.identity,
        },
        "objectives": [_objective(objective) for objective in objectives],
        "constraints": [constraint.key for constraint in constraints],
        "reference": dict(zip(reference.objectives, reference.values, strict=True)) if reference else None,
        "hypervolume": volume,
        "trials": {
            "total": len(study.records),
            "feasible": sum(record.feasible(constraints) for record in study.records),
            **{str(outcome): count for outcome, count in sorted(Counter(r.outcome for r in study.records).items())},
        },
        "environments": _distinct(dict(record.environment) for record in table_rows(study) if record.environment),
        "knee": _knee(study),
        "members": [_member(study, record) for record in study.front],
        "baseline": _member(study, baseline) if (baseline := baseline_of(study)) is not None else None,
    }
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _distinct(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({canonical_json(item): item for item in items}.values())


def _objective(objective: Objective) -> dict[str, Any]:
    kind = objective.kind
    return {"key": objective.key, "title": kind.title, "unit": kind.unit, "direction": objective.direction}


def _knee(study: Study) -> int | None:
    return knee(study.front, study.recipe.parsed_objectives).number if study.front else None


def _member(study: Study, record: TrialRecord) -> dict[str, Any]:
    scores = study.test_scores.get(record.number, {})
    latencies = [q for q in results(record) if q.name == "latency_ms"]
    return {
        "trial": record.number,
        "words": describe(record.design),
        "design": record.design.to_json(),
        "design_sha256": record.design.digest,
        "artifact_sha256": record.artifact_sha256,
        "quantities": {quantity.key: _quantity(quantity) for quantity in results(record)},
        "fps": {str(latency.target): frames_per_second(latency) for latency in latencies},
        **_gains(study, record),
        "test_scores": {name: _quantity(quantity) for name, quantity in scores.items()},
        "labels": {name: str(label) for name, label in record.labels.items()},
        "notes": list(record.notes),
    }


def _gains(study: Study, record: TrialRecord) -> dict[str, Any]:
    """What the trial gains over the network that it was pruned from, and in speed over the baseline; by target."""
    baseline, targets = baseline_of(study), latency_targets(study)
    return {
        "mac_gain": mac_gain(record),
        "latency_gain": {target: latency_gain(record, target) for target in targets},
        "speed_up": {target: speed_up(record, baseline, target) if baseline else None for target in targets},
    }


def _quantity(quantity: Quantity) -> dict[str, Any]:
    """A quantity as JSON, low and high always there, so that a reader need not ask."""
    return {"low": None, "high": None, **quantity.to_json()}


def _columns(study: Study) -> list[str]:
    columns = ["trial", "on_front", "baseline"]
    for name in ("accuracy", "balanced_accuracy", "test_accuracy", "test_balanced_accuracy"):
        columns += [name, f"{name}_low", f"{name}_high"]
    for target in latency_targets(study):
        columns += [f"latency_ms{part}@{target}" for part in ("", "_low", "_high", "_p95", "_iqr")]
        told = ("unstable", "overhead_bound", "in_turns", "ambiguous_with")
        columns += [f"latency_{name}@{target}" for name in told]
        columns += [f"served_by@{target}"] if Place.parse(target) else []
        others = ("fps", "speed_up", "latency_gain", "load_ms", "peak_memory_bytes")
        columns += [f"{name}@{target}" for name in others]
    columns += ["flops", "macs", "mac_gain", "params", "size_bytes", "compressed_size_bytes"]
    columns += ["knee", "simulated", "unsupported"]
    return [*columns, "family", "words", "design_sha256", "artifact_sha256"]


def _row(study: Study, record: TrialRecord) -> dict[str, Any]:
    """One trial's cells; what a column has no number for is left out, which the writer leaves empty."""
    row: dict[str, Any] = {
        "trial": record.number,
        "on_front": _truth(record in study.front),
        "baseline": _truth(record is baseline_of(study)),
        "knee": _truth(record.number == _knee(study)),
        "simulated": _labelled(record, Realisation.SIMULATED),
        "unsupported": _labelled(record, Realisation.UNSUPPORTED),
        "family": record.design.family,
        "words": describe(record.design),
        "design_sha256": record.design.digest,
        "artifact_sha256": record.artifact_sha256,
    }
    for name, gain in _gains(study, record).items():
        row |= {f"{name}@{target}": value for target, value in gain.items()} if isinstance(gain, dict) else {name: gain}
    for quantity in (*results(record), *study.test_scores.get(record.number, {}).values()):
        row |= _cells(quantity)
    return {column: row[column] for column in _columns(study) if column in row}


def _cells(quantity: Quantity) -> Mapping[str, Any]:
    at = f"@{quantity.target}" if quantity.target else ""
    cells: dict[str, Any] = {
        quantity.key: _plain(quantity.value),
        f"{quantity.name}_low{at}": quantity.low,
        f"{quantity.name}_high{at}": quantity.high,
    }
    if quantity.name == "latency_ms":
        cells |= {f"latency_ms_{part}{at}": quantity.detail.get(part) for part in ("p95", "iqr")}
        told = ("unstable", "overhead_bound", "in_turns")
        cells |= {f"latency_{name}{at}": _truth(bool(quantity.detail.get(name))) for name in told}
        cells[f"latency_ambiguous_with{at}"] = ";".join(str(number) for number in ambiguous_with(quantity))
        cells[f"served_by{at}"] = quantity.detail.get("served_by")
        cells[f"fps{at}"] = frames_per_second(quantity)
    return cells


def _plain(value: float) -> float | int:
    """Counts without a decimal point."""
    return int(value) if float(value).is_integer() and abs(value) > 1 else value


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _labelled(record: TrialRecord, label: Realisation) -> str:
    return ";".join(name for name, value in record.labels.items() if value is label)
