"""What Optuna is told: measured values only, every constraint, and parameters that mean what the space says."""

from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest
from fakes import make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState
from search_fakes import FakeEvaluate, fake_recipe, make_space, run_loop

from nas.errors import StudyError
from nas.outcome import Outcome
from nas.recipe import SAMPLERS
from nas.search import optuna_bridge
from nas.search.optuna_bridge import Bridge
from nas.space import list_spaces

STATES = {
    Outcome.MEASURED: TrialState.COMPLETE,
    Outcome.INFEASIBLE: TrialState.PRUNED,
    Outcome.FAILED: TrialState.FAIL,
}


def load(path: Path) -> optuna.Study:
    """The storage as anybody opens it, optuna-dashboard for one."""
    return optuna.load_study(study_name=optuna_bridge.STUDY_NAME, storage=f"sqlite:///{path / 'optuna.sqlite3'}")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trials_are_told_as_they_ended(tmp_path: Path, sampler: str) -> None:
    recipe = fake_recipe(
        sampler, trials=12 if sampler == "gp" else 30, constraints=["size_bytes <= 30000", "accuracy >= 0.5"]
    )
    study, _ = run_loop(tmp_path / "s", recipe, FakeEvaluate())
    by_number = {record.number: record for record in study.records}
    trials = load(tmp_path / "s").get_trials()
    assert len(trials) == len(study.records)
    for trial in trials:
        record = by_number[trial.number]
        told = by_number[record.duplicate_of] if record.duplicate_of is not None else record
        assert trial.state is STATES[told.outcome]
        if trial.state is TrialState.COMPLETE:
            assert trial.values == [told.value(objective.key) for objective in recipe.parsed_objectives]
            expected = {c.key: c.violation(told.value(c.quantity.key)) for c in recipe.parsed_constraints}
            assert trial.constraints == expected
        elif trial.state is TrialState.PRUNED:
            assert trial.values is None
            assert all(violation > 0 for violation in trial.constraints.values())
            assert len(trial.constraints) == 2
        assert trial.user_attrs["outcome"] == record.outcome
    assert load(tmp_path / "s").metric_names == list(recipe.objectives), "so that a dashboard names them"
    best = {trial.number for trial in load(tmp_path / "s").best_trials}
    assert {record.number for record in study.front} <= best


def test_flat_samplers_see_every_parameter(tmp_path: Path) -> None:
    run_loop(tmp_path / "s", fake_recipe("nsga2"), FakeEvaluate())
    names = [set(trial.params) for trial in load(tmp_path / "s").get_trials()]
    assert all(each == names[0] for each in names)
    assert len(names[0]) == len([choice for choice in make_space().choices if len(choice.values) > 1])


def test_nsga2_trials_enter_the_population(tmp_path: Path) -> None:
    """An enqueued trial without a generation never does, so the first generation would never be complete."""
    run_loop(tmp_path / "s", fake_recipe("nsga2", trials=30), FakeEvaluate())
    trials = load(tmp_path / "s").get_trials()
    key = next(name for name in trials[-1].system_attrs if name.endswith("generation"))
    assert all(key in trial.system_attrs for trial in trials)
    assert trials[-1].system_attrs[key] > 0


@pytest.mark.parametrize("space", list_spaces(), ids=lambda space: space.name)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_designs_survive_the_way_through_parameters(space, seed: int) -> None:  # type: ignore[no-untyped-def]
    design = space.sample(random.Random(seed))
    values = space.flat(design)
    params = {
        optuna_bridge._parameter(c): optuna_bridge._encode(c, values[c.name])
        for c in space.choices
        if len(c.values) > 1
    }
    for choice in space.choices:
        if len(choice.values) > 1:
            stored = params[optuna_bridge._parameter(choice)]
            assert optuna_bridge._distribution(choice)._contains(
                optuna_bridge._distribution(choice).to_internal_repr(stored)
            )
    assert space.choose(lambda choice: optuna_bridge._decode(params, choice)) == design


@pytest.mark.parametrize(
    "content", [b"this is no database, but long enough to be one" * 100, b"SQLite format 3\0garbage"]
)
def test_a_damaged_storage_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "optuna.sqlite3"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"the sampler's memory .*optuna.sqlite3 is damaged.*delete that file"):
        Bridge(path, make_recipe(), make_space())
