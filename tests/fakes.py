"""Hand-made records and studies, for tests of what reads them: no training, no measuring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nas.design import Design, Value
from nas.outcome import How, Outcome, Quantity, Realisation, Reason
from nas.recipe import Recipe, parse_recipe
from nas.record import StageResult, TrialRecord, write_record
from nas.study import Study

TARGET = "onnxruntime-cpu-1t-b1"
LATENCY = f"latency_ms@{TARGET}"


def make_recipe(**changes: Any) -> Recipe:
    """A small recipe on the digits; keywords replace whole keys."""
    data = {"data": {"source": "digits"}, "space": "convnet", "budget": {"trials": 8, "epochs": 1}} | changes
    return parse_recipe(data, "a test's recipe")


def make_design(**compression: Value) -> Design:
    """A small convnet design with the given compression."""
    architecture: dict[str, Value] = {
        "stem.width": 16,
        "stages": 1,
        "stage1.conv": "separable",
        "stage1.kernel": 3,
        "stage1.width": 32,
        "stage1.depth": 1,
        "stage1.pooling": "max",
        "head.hidden": 0,
    }
    return Design("convnet", architecture, compression)


def make_record(
    number: int,
    accuracy: float = 0.9,
    latency_ms: float = 0.1,
    outcome: Outcome = Outcome.MEASURED,
    design: Design | None = None,
    quantities: tuple[Quantity, ...] = (),
    origin: str = "asked",
    uncompressed: tuple[float, float] | None = None,
    **fields: Any,
) -> TrialRecord:
    """A record with plausible numbers; trials that were not measured carry a reason and no quantities.

    ``uncompressed`` is the latency in ms and the multiply-adds of the network that the design was pruned from.
    """
    design = design or make_design(pruning_ratio=number % 4 / 4, weight_bits=8 if number % 2 else 32)
    stages = tuple(StageResult(name, f"key-{name}-{number}", 0.5, False) for name in ("train", "export", "measure"))
    common: dict[str, Any] = {
        "seed": 0,
        "stages": stages,
        "started_at": f"2026-01-01T00:00:{number % 60:02d}Z",
    } | fields
    if outcome is not Outcome.MEASURED:
        reason = Reason("shape", f"the feature map of trial {number} shrinks to nothing")
        return TrialRecord(number, origin, design, outcome, reason=reason, **common)
    latency_detail: Mapping[str, Any] = {
        "p95": latency_ms * 1.1,
        "iqr": latency_ms * 0.04,
        "samples": 400,
        "unstable": False,
    }
    numbers = (
        Quantity("accuracy", accuracy, "1", How.MEASURED, low=accuracy - 0.01, high=min(1.0, accuracy + 0.01)),
        Quantity("balanced_accuracy", accuracy, "1", How.MEASURED, low=accuracy - 0.01, high=min(1.0, accuracy + 0.01)),
        Quantity(
            "latency_ms",
            latency_ms,
            "ms",
            How.MEASURED,
            target=TARGET,
            low=latency_ms * 0.98,
            high=latency_ms * 1.02,
            detail=latency_detail,
        ),
        Quantity("macs", latency_ms * 1e7, "MAC", How.COUNTED),
        Quantity("flops", latency_ms * 2e7, "FLOP", How.COUNTED),
        Quantity("params", 10_000 + number, "1", How.COUNTED),
        Quantity("size_bytes", 40_000 + number, "bytes", How.MEASURED),
        Quantity("compressed_size_bytes", 30_000 + number, "bytes", How.MEASURED),
        *(_of_the_uncompressed(*uncompressed) if uncompressed else ()),
    )
    labels = common.pop("labels", dict.fromkeys(design.compression, Realisation.REALISED))
    return TrialRecord(
        number, origin, design, outcome, quantities=(*numbers, *quantities), labels=labels, seconds=1.5, **common
    )


def _of_the_uncompressed(latency_ms: float, macs: float) -> tuple[Quantity, ...]:
    latency = Quantity("uncompressed_latency_ms", latency_ms, "ms", How.MEASURED, target=TARGET)
    return latency, Quantity("uncompressed_macs", macs, "MAC", How.COUNTED)


def write_study(folder: Path, records: list[TrialRecord], recipe: Recipe | None = None) -> Study:
    """Writes a finished study as a search would leave it, and opens it."""
    recipe = recipe or make_recipe()
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_json()))
    for record in records:
        write_record(folder / "trials", record)
    scores = {
        record.number: [Quantity("test_accuracy", record.value("accuracy"), "1", How.MEASURED).to_json()]
        for record in records
        if record.outcome is Outcome.MEASURED
    }
    (folder / "test_scores.json").write_text(json.dumps(scores))
    return Study.open(folder)
