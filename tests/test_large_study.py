"""The study of many trials that other tests and the benchmark use: legal, like a real one, the same each time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from large_study import LATENCY, make, make_records

from nas.errors import StudyError
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.space import load_space
from nas.study import Study


@pytest.fixture(scope="module")
def records() -> list[TrialRecord]:
    return make_records(600, seed=4)


def test_the_same_arguments_give_the_same_records(records: list[TrialRecord]) -> None:
    assert make_records(600, seed=4) == records
    assert make_records(600, seed=5) != records
    assert make_records(50, seed=4) == records[:50]  # more trials only go on


def test_every_way_to_end_occurs_and_most_trials_are_measured(records: list[TrialRecord]) -> None:
    counts = Counter(record.outcome for record in records)
    assert set(counts) == set(Outcome)
    assert 0.4 * len(records) < counts[Outcome.MEASURED] < 0.7 * len(records)
    assert records[0].origin == "baseline"
    assert {"asked", "fan", "promotion"} <= {record.origin for record in records}
    assert any(record.spared for record in records)


def test_designs_are_of_the_space_and_references_are_to_earlier_trials(records: list[TrialRecord]) -> None:
    space = load_space("convnet")
    for record in records:
        assert space.contains(record.design)
        for other in (record.parent, record.duplicate_of, record.teacher_trial):
            assert other is None or other < max(record.number, 1)
        if record.outcome not in (Outcome.MEASURED, Outcome.DUPLICATE):
            assert record.reason is not None


def test_larger_networks_are_slower_and_mostly_more_accurate(records: list[TrialRecord]) -> None:
    measured = [record for record in records if record.outcome is Outcome.MEASURED]
    macs, latency, accuracy = (np.array([r.value(key) for r in measured]) for key in ("macs", LATENCY, "accuracy"))
    assert np.corrcoef(np.log(macs), np.log(latency))[0, 1] > 0.5
    assert np.corrcoef(np.log(macs), accuracy)[0, 1] > 0.3
    assert (accuracy > 0).all()
    assert (accuracy < 1).all()


def test_it_is_read_as_a_finished_study(tmp_path: Path, records: list[TrialRecord]) -> None:
    study = make(tmp_path / "large", trials=600, seed=4)
    assert study.as_told == records
    assert len(study.front) > 5
    finalists = {0, *(record.number for record in study.front_as_told)}
    assert set(study.test_scores) == finalists
    assert set(study.in_turns) == finalists
    barred = [record for record in study.measured if not record.feasible(study.recipe.parsed_constraints)]
    assert barred


def test_the_machine_and_the_recipe_can_be_chosen(tmp_path: Path) -> None:
    slow = make(tmp_path / "slow", trials=20)
    fast = make(tmp_path / "fast", trials=20, environment_id="b45dcc2588c4", faster=2.0, seed=0, constraints=[])
    assert fast.records[0].value(LATENCY) < 0.7 * slow.records[0].value(LATENCY)
    assert {q.environment_id for q in fast.records[0].quantities if q.name == "latency_ms"} == {"b45dcc2588c4"}
    assert fast.recipe.constraints == ()
    assert slow.recipe.constraints != ()


def test_one_trial_only(tmp_path: Path) -> None:
    study = make(tmp_path / "one", trials=1)
    assert [record.number for record in study.records] == [0]
    with pytest.raises(StudyError, match="there is no trial 1"):
        Study.open(tmp_path / "one").record(1)
