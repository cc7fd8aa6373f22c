"""Hand-made runs of final trainings, and a small study whose designs train within a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fake_measurer import FakeMeasurer
from fakes import make_design, make_recipe, make_record, write_study

from nas.design import Design
from nas.finalized import ORIGIN, FullBudget, History, Run, Timed
from nas.outcome import How, Outcome, Quantity
from nas.recipe import Recipe
from nas.store import sha256_bytes
from nas.study import Study
from nas.target import Target

IMAGES = 1000
BUDGET = FullBudget(50, 15)


def share(value: float, name: str = "accuracy", images: int = IMAGES) -> Quantity:
    """An accuracy on so many images."""
    return Quantity(name, value, "1", How.MEASURED, detail={"samples": images})


def make_run(
    trial: int, seed: int, accuracy: float = 0.9, test: float = 0.88, budget: FullBudget = BUDGET, **fields: Any
) -> Run:
    """A run that was measured, or by ``outcome`` one that was not."""
    design = fields.pop("design", None) or make_design(weight_bits=8 if trial % 2 else 32)
    record = make_record(trial, accuracy, 0.1 + trial / 100, origin=ORIGIN, seed=seed, design=design, **fields)
    if record.outcome is not Outcome.MEASURED:
        return Run(budget, record)
    quantities = tuple(share(accuracy) if q.key == "accuracy" else q for q in record.quantities)
    sha = record.artifact_sha256 or sha256_bytes(f"{trial} {seed} {budget}".encode())
    return Run(budget, replace(record, quantities=quantities, artifact_sha256=sha), (share(test, "test_accuracy"),))


def make_history(trial: int, accuracies: Sequence[float], budget: FullBudget = BUDGET) -> History:
    """A run for each accuracy, from the seeds 1, 2, …"""
    runs = [make_run(trial, seed, value, value - 0.02, budget) for seed, value in enumerate(accuracies, 1)]
    return History(trial, tuple(runs))


def make_timed(run: Run, latency_ms: float, time: str = "2026-01-02T00:00:00+00:00") -> Timed:
    """A latency of a run's artifact, taken in turns."""
    quantities = tuple(
        replace(q, value=latency_ms, low=0.99 * latency_ms, high=1.01 * latency_ms, detail={"in_turns": True})
        for q in run.record.quantities
        if q.name == "latency_ms"
    )
    return Timed(str(run.record.artifact_sha256), time, quantities)


class SizeMeasurer(FakeMeasurer):
    """A measurer to which a real file takes as long as it is large: 1 µs a byte."""

    def latency(self, content: bytes, target: Target) -> tuple[int, float]:
        return 0, len(content) * 1e-3 * self.factors.get(target.name, 1.0)


SMALL = {"input.pooling": 1, "layers": 1, "layer1.width": 16}
LARGE = {"input.pooling": 1, "layers": 1, "layer1.width": 32}


def small_recipe(**changes: Any) -> Recipe:
    """Trainings of a fraction of a second on the digits."""
    return make_recipe(
        **{
            "data": {"source": "digits", "train_limit": 200, "validation_limit": 100},
            "space": "mlp",
            "budget": {"trials": 3, "epochs": 1, "finetune_epochs": 1},
            "training": {"threads": 1, "precision": "float32"},
            "seed": 3,
        }
        | changes
    )


def small_study(folder: Path, recipe: Recipe | None = None) -> Study:
    """Three designs that a search is said to have measured; the last one learned from the first.

    Accuracies and latencies are made up, so that all three stand on the front.
    """
    records = [
        make_record(0, 0.7, 0.3, design=Design("mlp", LARGE, {})),
        make_record(1, 0.6, 0.2, design=Design("mlp", SMALL, {"weight_bits": 8, "activation_bits": 8})),
        make_record(
            2,
            0.5,
            0.1,
            design=Design("mlp", SMALL, {"pruning_ratio": 0.5, "distillation": True}),
            teacher=Design("mlp", LARGE, {}).architecture_digest,
            teacher_trial=0,
        ),
    ]
    return write_study(folder, records, recipe or small_recipe())
