"""What is kept of final trainings: written and read back, which budget counts, which seed ships, what is damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import LATENCY, make_design
from finalize_fakes import BUDGET, make_history, make_run, make_timed

from nas.errors import StudyError
from nas.finalized import (
    FullBudget,
    History,
    history_path,
    read_finalized,
    read_histories,
    read_history,
    write_history,
)
from nas.outcome import Outcome

SHORT, LONG = FullBudget(10, 3), FullBudget(100, 30)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    runs = (make_run(19, 4, notes=("a note",)), make_run(19, 5, outcome=Outcome.FAILED))
    history = History(19, runs, make_timed(runs[0], 0.2))
    path = write_history(tmp_path, history)
    assert path == tmp_path / "finalized" / "trial-00019.json"
    assert read_history(tmp_path, 19) == history
    assert read_histories(tmp_path) == {19: history}


def test_where_nothing_was_trained_again_there_is_nothing(tmp_path: Path) -> None:
    assert read_finalized(tmp_path) == {}
    assert read_history(tmp_path, 3) == History(3)
    assert not list(tmp_path.iterdir())


def test_a_run_takes_the_place_of_one_of_the_same_seed_and_budget_alone() -> None:
    history = make_history(1, [0.8, 0.9])
    again = make_run(1, 2, 0.7)
    other = make_run(1, 2, 0.6, budget=SHORT)
    changed = history.with_run(again).with_run(other)
    assert changed.run(BUDGET, 1) == history.run(BUDGET, 1)
    assert changed.run(BUDGET, 2) == again
    assert changed.run(SHORT, 2) == other
    assert changed.run(SHORT, 1) is None
    assert len(changed.runs) == 3


def test_the_longest_budget_of_several_seeds_counts(tmp_path: Path) -> None:
    several = make_history(1, [0.8, 0.9], SHORT)
    longer = several.with_run(make_run(1, 1, 0.95, budget=BUDGET))
    assert longer.chosen.budget == SHORT
    whole = longer.with_run(make_run(1, 2, 0.95, budget=BUDGET))
    assert whole.chosen.budget == BUDGET
    assert make_history(1, [0.9], LONG).with_run(make_run(1, 1, budget=SHORT)).chosen.budget == LONG
    write_history(tmp_path, whole)
    write_history(tmp_path, History(2, (make_run(2, 1, outcome=Outcome.FAILED),)))
    assert {trial: done.budget for trial, done in read_finalized(tmp_path).items()} == {1: BUDGET}


def test_the_most_accurate_on_validation_data_ships_whatever_the_test_data_says() -> None:
    runs = (make_run(1, 7, 0.90, test=0.99), make_run(1, 5, 0.92, test=0.80), make_run(1, 6, 0.92, test=0.95))
    done = History(1, (*runs, make_run(1, 8, outcome=Outcome.FAILED))).at(BUDGET)
    assert done.best == runs[1]
    assert [run.seed for run in done.runs] == [5, 6, 7, 8]
    assert [run.seed for run in done.measured] == [5, 6, 7]
    assert done.accuracy.mean == pytest.approx((0.90 + 0.92 + 0.92) / 3)
    assert done.test_accuracy.mean == pytest.approx((0.99 + 0.80 + 0.95) / 3)
    assert done.test_scores["test_accuracy"].value == 0.80


def test_a_latency_in_turns_counts_for_the_file_that_it_was_taken_of() -> None:
    history = make_history(1, [0.8, 0.9])
    first, second = history.runs
    timed = replace(history, timed=make_timed(second, 0.5)).at(BUDGET)
    assert timed.record.value(LATENCY) == 0.5
    assert len(timed.record.quantities) == len(second.record.quantities)
    outdated = replace(history, timed=make_timed(first, 0.5)).at(BUDGET)
    assert outdated.record == second.record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data | {"version": 99}, "version of a final training must be 1, but got 99"),
        (lambda data: {k: v for k, v in data.items() if k != "runs"}, "'runs' is missing"),
        (lambda data: data | {"trial": 2}, "it holds trial 2"),
        (lambda data: [data], "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = write_history(tmp_path, make_history(1, [0.9]))
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(StudyError, match=message) as raised:
        read_finalized(tmp_path)
    assert str(path) in raised.value.message
    assert "delete it" in raised.value.hint


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    path = write_history(tmp_path, make_history(1, [0.9]))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StudyError, match=r"trial-00001\.json cannot be read"):
        read_history(tmp_path, 1)


def test_runs_of_two_designs_are_no_runs_of_one(tmp_path: Path) -> None:
    runs = (make_run(1, 1, design=make_design(weight_bits=8)), make_run(1, 2, design=make_design(weight_bits=4)))
    write_history(tmp_path, History(1, runs))
    with pytest.raises(StudyError, match="its runs are of several designs"):
        read_history(tmp_path, 1)
    assert history_path(tmp_path, 1).exists()
