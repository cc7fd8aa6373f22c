"""Small studies to compare with each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fakes import LATENCY, make_recipe, make_record, write_study
from rich.console import Console

from nas.record import TrialRecord
from nas.report.compare import Comparison
from nas.report.compare_table import comparison_table
from nas.study import Study

OBJECTIVES = ["accuracy", LATENCY]


def study_of(folder: Path, *points: tuple[float, float], records: Sequence[TrialRecord] = (), **recipe) -> Study:
    """A study whose trials have these accuracies and latencies in ms."""
    made = [make_record(n, accuracy, latency) for n, (accuracy, latency) in enumerate(points)]
    return write_study(folder, [*made, *records], make_recipe(**{"objectives": OBJECTIVES, **recipe}))


def told(comparison: Comparison, width: int = 80) -> str:
    console = Console(width=width, color_system=None, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(comparison_table(comparison))
    return capture.get()


def on_machine(study: Study, fingerprint: str, cpu: str) -> Study:
    """The same study, its latencies measured on a machine of that fingerprint."""
    records = [
        replace(
            record,
            quantities=tuple(replace(q, environment_id=fingerprint) if q.target else q for q in record.quantities),
            environment={"cpu": cpu, "cores": 2, "onnxruntime": "1.32.0"},
        )
        for record in study.records
    ]
    return write_study(study.folder.path, records, study.recipe)


def with_data(study: Study, digest: str) -> Study:
    study.folder.inputs.write_text(json.dumps({"data": digest}))
    return study


def two_studies(folder: Path) -> list[Study]:
    """A is ahead where it is cheap, B where it is dear."""
    a = study_of(folder / "a", (0.80, 0.1), (0.85, 0.2), (0.86, 0.8))
    b = study_of(folder / "b", (0.70, 0.1), (0.85, 0.3), (0.95, 0.4))
    return [a, b]
