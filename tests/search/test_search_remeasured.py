"""A search that goes on after its study was measured on another machine: the sampler learns the new numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_measurer import ORT1, FakeMeasurer, make_dataset, model
from fakes import LATENCY
from search_fakes import FakeEvaluate, fake_recipe, make_space, run_loop

from nas.evaluate import EvalRequest, EvalResult
from nas.outcome import Outcome
from nas.remeasure import measure_all
from nas.search.optuna_bridge import Bridge
from nas.stages import Progress
from nas.store import Store
from nas.study import Study
from nas.target import Target


class OnMachine(FakeEvaluate):
    """Measures what it computes on a machine, and leaves the artifact in the cache as an evaluation does."""

    def __init__(self, folder: Path, measurer: FakeMeasurer) -> None:
        super().__init__()
        self.store = Store(folder / "cache", 10**9)
        self.measurer = measurer

    def __call__(self, request: EvalRequest, progress: Progress | None) -> EvalResult:
        result = super().__call__(request, progress)
        if result.outcome is not Outcome.MEASURED:
            return result
        told = next(quantity for quantity in result.quantities if quantity.name == "latency_ms")
        content = model(request.number, told.value)
        latency, _ = self.measurer.measure(content, Target.parse(ORT1), np.zeros((1, 1), np.uint8))
        quantities = tuple(latency if quantity is told else quantity for quantity in result.quantities)
        sha = self.store.put(f"artifact-{request.number:05d}", content, {}).sha256
        return replace(result, quantities=quantities, artifact_sha256=sha)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_search_goes_on_where_the_study_was_moved(tmp_path: Path, sampler: str) -> None:
    path = tmp_path / "study"
    here, there = FakeMeasurer("a"), FakeMeasurer("b", {ORT1: 0.5})
    run_loop(path, fake_recipe(sampler, trials=8), OnMachine(path, here))
    study = Study.open(path)
    with study.folder.claim():
        measure_all(study, [], there, make_dataset())
    assert not study.folder.storage.exists()

    evaluate = OnMachine(path, there)
    moved, _ = run_loop(path, fake_recipe(sampler, trials=16), evaluate)
    assert min(request.number for request in evaluate.requests) >= 8, "nothing that was finished is done again"
    assert len(moved.counted) == 16
    assert {q.environment_id for r in moved.measured for q in r.quantities if q.key == LATENCY} == {"b-onnxruntime"}
    assert moved.front  # of one machine
    told = Bridge(moved.folder.storage, moved.recipe, make_space()).study.get_trials()
    position = [objective.key for objective in moved.recipe.parsed_objectives].index(LATENCY)
    for record in moved.measured:
        assert told[record.number].values[position] == record.value(LATENCY)
        before = study.record(record.number).value(LATENCY) if record.number < 8 else None
        assert before is None or record.value(LATENCY) == pytest.approx(0.5 * before)
