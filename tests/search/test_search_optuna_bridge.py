"""What Optuna is told, keeps and proposes: measured values only, on disk as in memory, and no trace of a question."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from fakes import LATENCY, TARGET, make_recipe, make_record
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from search_fakes import FakeEvaluate, fake_recipe, make_space, run_loop

from nas.choice import Choice
from nas.errors import StudyError
from nas.evaluate import EvalRequest
from nas.outcome import How, Outcome, Quantity, Reason
from nas.recipe import SAMPLERS
from nas.record import TrialRecord
from nas.search import durable, optuna_tables
from nas.search.optuna_bridge import Asked, Bridge
from nas.search.parameters import Parameters
from nas.search.samplers import POPULATION, STARTUP_TRIALS, sampled_with
from nas.search.told import FULL_VIOLATION, shown, told_as
from nas.space import SearchSpace, list_spaces

CONSTRAINTS = ["size_bytes <= 30000", "accuracy >= 0.5"]
STATES = {
    Outcome.MEASURED: TrialState.COMPLETE,
    Outcome.INFEASIBLE: TrialState.PRUNED,
    Outcome.SCREENED: TrialState.PRUNED,
    Outcome.STOPPED: TrialState.PRUNED,
    Outcome.FAILED: TrialState.FAIL,
}
# Trials enough for each sampler to model, and for NSGA-II to come to its third generation.
ENOUGH = {"gp": STARTUP_TRIALS + 1, "nsga2": 3 * POPULATION, "predictor": STARTUP_TRIALS + 3}


def load(path: Path) -> optuna.Study:
    """The storage as anybody opens it, optuna-dashboard for one."""
    return optuna.load_study(study_name=durable.STUDY_NAME, storage=f"sqlite:///{path / 'optuna.sqlite3'}")


def open_bridge(path: Path, sampler: str = "tpe", space: SearchSpace | None = None) -> Bridge:
    path.mkdir(exist_ok=True)
    recipe = fake_recipe(sampler, constraints=CONSTRAINTS)
    return Bridge(path / "optuna.sqlite3", recipe, space or make_space())


def every_outcome(asked: Asked) -> TrialRecord:
    """A record of the trial; the larger the number the more are given up, which no sampler decides."""
    request = EvalRequest(asked.number, asked.design, 0, None)
    result = FakeEvaluate()(request, None)
    outcome, reason = result.outcome, result.reason
    if asked.number % 5 == 3:
        outcome = (Outcome.STOPPED, Outcome.SCREENED)[asked.number % 2]
        reason = Reason("rung", f"trial {asked.number} was given up")
    kept = result.quantities if outcome is Outcome.MEASURED else ()
    return TrialRecord(
        asked.number, asked.origin, asked.design, outcome, 0, reason, quantities=kept, parent=asked.parent
    )


def go_on(bridge: Bridge, until: int, end: Callable[[Asked], TrialRecord] = every_outcome) -> list[TrialRecord]:
    """Asks and tells until the bridge knows so many trials."""
    records = []
    while bridge.known < until:
        records.append(end(bridge.ask()))
        bridge.tell(records[-1])
    return records


def plain(trial: FrozenTrial) -> dict[str, Any]:
    """All that there is in a trial but its row in the file."""
    return {key: value for key, value in vars(trial).items() if key != "_trial_id"}


# --- how trials are told ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trials_are_told_as_they_ended(tmp_path: Path, sampler: str) -> None:
    recipe = fake_recipe(sampler, trials=11 if sampler in ("gp", "predictor") else 16, constraints=CONSTRAINTS)
    study, _ = run_loop(tmp_path / "s", recipe, FakeEvaluate())
    by_number = {record.number: record for record in study.records}
    trials = load(tmp_path / "s").get_trials()
    assert len(trials) == len(study.records)
    parameters = Parameters(make_space(), flat=False)
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
            assert trial.constraints == dict.fromkeys(expected, FULL_VIOLATION)
        assert parameters.design(trial.params) == record.design
        assert trial.user_attrs["outcome"] == record.outcome
        assert trial.user_attrs["origin"] == record.origin
        assert trial.user_attrs["design"] == record.design.digest[:12]
        assert trial.user_attrs.get("reason") == (record.reason.message if record.reason else None)
    assert load(tmp_path / "s").metric_names == list(recipe.objectives), "so that a dashboard names them"
    best = {trial.number for trial in load(tmp_path / "s").best_trials}
    assert {record.number for record in study.front} <= best
    assert {by_number[number].outcome for number in best} <= {Outcome.MEASURED, Outcome.DUPLICATE}


PROXIES = (
    Quantity("accuracy", 0.9, "1", How.PROXY),
    Quantity("latency_ms", 0.1, "ms", How.PROXY, target=TARGET),
    Quantity("rung_accuracy", 0.9, "1", How.PROXY, target="epoch-2"),
    Quantity("proxy_size_bytes", 10.0, "bytes", How.PROXY),
)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.DUPLICATE])
@pytest.mark.parametrize("duplicate", [False, True])
def test_what_is_told_of_every_outcome(outcome: Outcome, duplicate: bool) -> None:
    recipe = make_recipe(constraints=["size_bytes <= 20000", "accuracy >= 0.5"])
    objectives, constraints = recipe.parsed_objectives, recipe.parsed_constraints
    ended = make_record(3, 0.8, 0.1, outcome)
    record = make_record(7, outcome=Outcome.DUPLICATE, duplicate_of=3) if duplicate else ended
    told = told_as(record, ended if duplicate else None, objectives, constraints)
    assert told.state is STATES[outcome]
    if outcome is Outcome.MEASURED:
        assert dict(zip([o.key for o in objectives], told.values or (), strict=True)) == {"accuracy": 0.8, LATENCY: 0.1}
        assert told.violations == pytest.approx(
            {"size_bytes <= 20000": 40_003 / 20_000 - 1, "accuracy >= 0.5": -(0.8 / 0.5 - 1)}
        )
    else:
        assert told.values is None
        every = dict.fromkeys([c.key for c in constraints], FULL_VIOLATION)
        assert told.violations == ({} if outcome is Outcome.FAILED else every)


@pytest.mark.parametrize("outcome", [Outcome.INFEASIBLE, Outcome.SCREENED, Outcome.STOPPED])
def test_a_violation_is_known_of_what_was_counted_and_of_no_proxy(outcome: Outcome) -> None:
    recipe = make_recipe(constraints=["macs <= 1000", "accuracy >= 0.5", "size_bytes <= 20"])
    counted = Quantity("macs", 900, "MAC", How.COUNTED)
    record = TrialRecord(0, "asked", make_record(0).design, outcome, 0, quantities=(*PROXIES, counted))
    told = told_as(record, None, recipe.parsed_objectives, recipe.parsed_constraints)
    assert told.values is None
    assert told.violations == pytest.approx(
        {"macs <= 1000": -0.1, "accuracy >= 0.5": FULL_VIOLATION, "size_bytes <= 20": FULL_VIOLATION}
    )
    assert list(told.violations) == [c.key for c in recipe.parsed_constraints], "GP pairs them by their order"


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(states=st.lists(st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING])))
def test_tpe_is_never_shown_more_pruned_than_complete_trials(sampler: str, states: list[TrialState]) -> None:
    trials = [
        create_trial(state=state, values=[1.0, 2.0] if state is TrialState.COMPLETE else None) for state in states
    ]
    seen = shown(trials, sampler)
    assert [trial.state for trial in trials] == states, "what happened stays as it is"
    complete, pruned = states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)
    if sampler not in ("tpe", "predictor"):
        assert seen == trials
        return
    of_pruned = [after.state for before, after in zip(trials, seen, strict=True) if before.state is TrialState.PRUNED]
    assert of_pruned == [TrialState.FAIL] * max(0, pruned - complete) + [TrialState.PRUNED] * min(pruned, complete)
    assert all(a is b for a, b in zip(trials, seen, strict=True) if a.state is not TrialState.PRUNED)


@pytest.mark.parametrize("sampler", ["gp", "nsga2", "random"])
def test_pruned_trials_mean_nothing_to_these_samplers(tmp_path: Path, sampler: str) -> None:
    records = go_on(open_bridge(tmp_path / "a", sampler), ENOUGH.get(sampler, 12))
    assert any(record.outcome is Outcome.STOPPED for record in records)
    proposals = []
    for folder, told in (("pruned", Outcome.STOPPED), ("failed", Outcome.FAILED)):
        bridge = open_bridge(tmp_path / folder, sampler)
        for record in records:
            bridge.ask(make_space().flat(record.design))
            given_up = record.outcome is not Outcome.MEASURED
            bridge.tell(make_record(record.number, outcome=told, design=record.design) if given_up else record)
        proposals.append([bridge.propose(attempt) for attempt in range(3)])
    assert proposals[0] == proposals[1]


# --- what is proposed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_proposal_leaves_no_trace(tmp_path: Path, sampler: str) -> None:
    until = ENOUGH.get(sampler, 16)
    asking, proposing = open_bridge(tmp_path / "a", sampler), open_bridge(tmp_path / "b", sampler)
    go_on(asking, until)
    go_on(proposing, until)
    before = [plain(trial) for trial in proposing.trials]
    written = []
    sqlalchemy.event.listen(proposing.durable.engine, "commit", written.append)
    first = proposing.propose()
    passed = [first]
    for attempt in range(1, 3 if sampler in ("gp", "predictor") else 12):
        passed.append(proposing.propose(attempt, passed=passed))
    assert proposing.propose() == first, "the same question has the same answer"
    assert len({design.digest for design in passed}) > 1, "every further attempt draws anew"
    if sampler == "predictor":
        assert len({design.digest for design in passed}) == len(passed), "none that was passed over"
    assert not written
    assert [plain(trial) for trial in proposing.trials] == before
    asked = asking.ask()
    assert asked.design == first
    assert proposing.ask(make_space().flat(first)) == asked
    ignored = ("_datetime_start", "datetime_complete")
    one, other = ({k: v for k, v in plain(b.trials[-1]).items() if k not in ignored} for b in (asking, proposing))
    assert one == other, "generation and all"


def test_a_trial_is_written_once_when_it_starts_and_once_when_it_ends(tmp_path: Path) -> None:
    bridge = open_bridge(tmp_path)
    written: list[object] = []
    sqlalchemy.event.listen(bridge.durable.engine, "commit", written.append)
    asked = bridge.ask(origin="fan", parent=0)
    assert len(written) == 1
    (trial,) = load(tmp_path).get_trials()
    assert trial.state is TrialState.RUNNING
    assert bridge.parameters.design(trial.params) == asked.design
    assert trial.user_attrs == {"origin": "fan", "parent": 0, "design": asked.design.digest[:12]}
    bridge.tell(every_outcome(asked))
    assert len(written) == 2


def test_times_are_told_in_the_readers_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna's tables have UTC."""
    try:
        with monkeypatch.context() as patched:
            patched.setenv("TZ", "Asia/Tokyo")
            time.tzset()
            (record,) = go_on(open_bridge(tmp_path), 1)
            (trial,) = load(tmp_path).get_trials()
            assert trial.number == record.number
            for moment in (trial.datetime_start, trial.datetime_complete):
                assert moment is not None
                assert abs(datetime.now() - moment) < timedelta(minutes=30)
    finally:
        time.tzset()


def test_a_warning_is_heard_once_in_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object) -> dict[str, Any]:
        warnings.warn("nothing can be fitted", stacklevel=2)
        return {}

    monkeypatch.setattr(optuna.samplers.TPESampler, "sample_relative", warn)
    bridge = open_bridge(tmp_path)
    with pytest.warns(UserWarning, match="nothing can be fitted") as heard:
        go_on(bridge, 3)
    assert len(heard) == 1


def test_what_is_fixed_is_not_sampled(tmp_path: Path) -> None:
    bridge = open_bridge(tmp_path)
    for _ in range(STARTUP_TRIALS + 4):
        asked = bridge.ask({"distillation": False, "stages": 2})
        assert not asked.design.step("distillation")
        assert asked.design.architecture["stages"] == 2
        bridge.tell(every_outcome(asked))
    assert len({trial.params["stage1.conv"] for trial in bridge.trials}) == 2, "the rest is"


def test_flat_samplers_see_every_parameter(tmp_path: Path) -> None:
    run_loop(tmp_path / "s", fake_recipe("nsga2"), FakeEvaluate())
    names = [set(trial.params) for trial in load(tmp_path / "s").get_trials()]
    assert all(each == names[0] for each in names)
    assert len(names[0]) == len([choice for choice in make_space().choices if len(choice.values) > 1])


def test_nsga2_trials_enter_the_population(tmp_path: Path) -> None:
    """A trial without a generation never does, so the first generation would never be complete."""
    run_loop(tmp_path / "s", fake_recipe("nsga2", trials=30), FakeEvaluate())
    trials = load(tmp_path / "s").get_trials()
    key = next(name for name in trials[-1].system_attrs if name.endswith("generation"))
    assert all(key in trial.system_attrs for trial in trials)
    assert trials[-1].system_attrs[key] > 0


# --- what survives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_memory_disk_and_records_lead_to_the_same_proposal(tmp_path: Path, sampler: str) -> None:
    kept = open_bridge(tmp_path / "kept", sampler)
    records = go_on(kept, ENOUGH.get(sampler, 20))
    again = open_bridge(tmp_path / "kept", sampler)
    assert [plain(trial) for trial in again.trials] == [plain(trial) for trial in kept.trials]
    rebuilt = open_bridge(tmp_path / "rebuilt", sampler)
    rebuilt.rebuild(records)
    ignored = ("_datetime_start", "datetime_complete")
    for one, other in zip(kept.trials, rebuilt.trials, strict=True):
        assert {k: v for k, v in vars(one).items() if k not in ignored} == {
            k: v for k, v in vars(other).items() if k not in ignored
        }
    attempts = 1 if sampler in ("gp", "predictor") else 4
    designs = [bridge.propose(attempt) for bridge in (kept, again, rebuilt) for attempt in range(attempts)]
    assert designs[:attempts] == designs[attempts : 2 * attempts] == designs[2 * attempts :]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_trial_that_was_running_is_taken_up_with_its_design(tmp_path: Path, sampler: str) -> None:
    bridge = open_bridge(tmp_path, sampler)
    go_on(bridge, 3)
    asked = bridge.ask(bridge.space.flat(bridge.propose(1)), "promotion", 2)
    assert (asked.number, asked.origin, asked.parent) == (3, "promotion", 2)
    again = open_bridge(tmp_path, sampler)
    assert again.running() == [3]
    assert again.resume(3) == asked
    again.tell(every_outcome(asked))
    assert not open_bridge(tmp_path, sampler).running()


@pytest.mark.parametrize("waiting", [False, True])
def test_a_trial_of_an_earlier_version_whose_parameters_are_not_all_there_is_sampled(
    tmp_path: Path, waiting: bool
) -> None:
    go_on(open_bridge(tmp_path), 2)
    study = load(tmp_path)
    study.enqueue_trial({"stages": 2, "distillation": False}, user_attrs={"origin": "unseen"})
    if not waiting:
        study.ask().suggest_int("stages", 1, 2)
    again = open_bridge(tmp_path)
    assert again.running() == [2]
    asked = again.resume(2)
    assert asked.origin == "unseen"
    assert (asked.design.architecture["stages"], asked.design.step("distillation")) == (2, False)
    assert open_bridge(tmp_path).resume(2) == asked, "it is written now"
    again.tell(every_outcome(asked))
    assert load(tmp_path).get_trials()[2].state.is_finished()


def test_a_number_without_a_record_is_a_failed_trial(tmp_path: Path) -> None:
    records = go_on(open_bridge(tmp_path / "a"), 4)
    bridge = open_bridge(tmp_path / "b")
    bridge.rebuild([record for record in records if record.number != 1])
    assert [trial.number for trial in load(tmp_path / "b").get_trials()] == [0, 1, 2, 3]
    assert load(tmp_path / "b").get_trials()[1].state is TrialState.FAIL
    assert [asked.number for asked in bridge.told_without_record({0, 2})] == [3]


def test_what_a_full_disk_refused_is_not_remembered_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = open_bridge(tmp_path)

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(optuna_tables.Writer, "_write", refuse)
        with (
            pytest.raises(StudyError, match=r"the disk is full at .*optuna.sqlite3.*make room"),
            durable.storage_errors(bridge.durable.path),
        ):
            bridge.ask()
    assert bridge.known == len(load(tmp_path).get_trials()) == 0
    assert bridge.ask().number == 0


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"this is no database, but long enough to be one" * 100, b"SQLite format 3\0garbage"]
)
def test_a_damaged_storage_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "optuna.sqlite3"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=r"the sampler's memory .*optuna.sqlite3 is damaged.*delete that file"):
        Bridge(path, make_recipe(), make_space())


def test_somebody_else_who_adds_trials_is_found_out(tmp_path: Path) -> None:
    bridge = open_bridge(tmp_path)
    load(tmp_path).enqueue_trial({"stages": 1})
    with pytest.raises(StudyError, match=r"holds 1 trials, but the next is trial 0.*nobody else"):
        bridge.ask()
    assert len(load(tmp_path).get_trials()) == 1


def test_tables_of_another_version_are_not_written(tmp_path: Path) -> None:
    open_bridge(tmp_path)
    with closing(sqlite3.connect(tmp_path / "optuna.sqlite3")) as connection:
        connection.execute("UPDATE version_info SET schema_version = 11")
        connection.commit()
    with pytest.raises(StudyError, match=r"tables of version 11, but only 12"):
        open_bridge(tmp_path)


def test_trials_of_another_space_are_refused(tmp_path: Path) -> None:
    go_on(open_bridge(tmp_path), 2)
    other = SearchSpace("other", "convnet", "", (Choice("depth", "architecture", (1, 2)),))
    with pytest.raises(StudyError, match=r"holds a trial 0 of another space.*delete that file"):
        open_bridge(tmp_path, space=other)


# --- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("space", [*list_spaces(), make_space()], ids=lambda space: space.name)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_designs_survive_the_way_through_parameters(space: SearchSpace, flat: bool, seed: int) -> None:
    design = space.sample(random.Random(seed))
    parameters = Parameters(space, flat)
    params = parameters.params(design)
    for name, value in params.items():
        distribution = parameters.distributions[name]
        assert distribution.to_external_repr(distribution.to_internal_repr(value)) == value
    assert parameters.design(params) == design
    assert parameters.pick(lambda one: params[one.name]) == design
    assert parameters.decode(params) == {**design.architecture, **design.compression}
    assert parameters.active(params) >= (parameters.params(design).keys() if not flat else set())
    assert parameters.active(params) == Parameters(space, False).params(design).keys()
    assert (params.keys() == parameters.distributions.keys()) or not flat


def test_numbers_in_order_keep_it() -> None:
    parameters = Parameters(make_space(), flat=True)
    assert parameters.distributions["stem.width[position]"] == IntDistribution(0, 2)
    assert parameters.distributions["stage2.width"] == IntDistribution(8, 24, step=8)
    assert parameters.distributions["stage1.conv"] == CategoricalDistribution(("standard", "separable"))
    assert "weight_sharing" not in parameters.distributions, "one value is no question"


@pytest.mark.parametrize("space", [*list_spaces(), make_space()], ids=lambda space: space.name)
def test_what_tpe_draws_together_is_active_together(space: SearchSpace) -> None:
    parameters = Parameters(space, flat=False)
    draw = random.Random(0)
    for _ in range(50):
        active = parameters.params(space.sample(draw)).keys()
        for one in parameters.by_choice.values():
            together = sampled_with("tpe", parameters, one).keys()
            assert one.name in together
            assert together <= active or not together & active


def test_a_storage_can_be_moved(tmp_path: Path) -> None:
    go_on(open_bridge(tmp_path / "a"), 3)
    shutil.move(tmp_path / "a", tmp_path / "100%? #b")
    assert open_bridge(tmp_path / "100%? #b").known == 3
