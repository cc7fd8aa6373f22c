"""What a search prints: a line for each trial, whatever came of it, and how much of the budget is spent."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from fakes import make_recipe, make_record
from foresight_fakes import every_kind, given_up, measured, screened, stopped
from rich.console import Console

from nas.console import STYLES, TerminalWatcher
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.study import Study, StudyFolder


def study_of(records: list[TrialRecord], folder: Path = Path("nowhere"), **budget) -> Study:
    recipe = make_recipe(budget={"trials": 10, "epochs": 20} | budget)
    return Study(StudyFolder(folder), recipe, records)


def told(record: TrialRecord, study: Study, terminal: bool = False, colours: bool = False) -> str:
    """The line of a trial, at 80 columns."""
    file = io.StringIO()
    console = Console(
        file=file, width=80, force_terminal=terminal, color_system="standard" if colours else None, highlight=False,
        markup=False,
    )  # fmt: skip
    TerminalWatcher(console).told(record, study)
    return file.getvalue()


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (stopped(7, 2), "   7 stopped    after 2 of 20 epochs: place 7 of 9, accuracy 81.23 %\n"),
        (screened(9), "   9 screened   at best 87.00 % at 0.310 ms, which trial 3 beats\n"),
        (make_record(3, outcome=Outcome.INFEASIBLE), "   3 infeasible the feature map of trial 3 shrinks to nothing\n"),
        (
            dataclasses.replace(make_record(4, outcome=Outcome.DUPLICATE), reason=None, duplicate_of=1),
            "   4 duplicate  the same design as trial 1\n",
        ),
    ],
)
def test_a_line_says_what_became_of_a_trial(record: TrialRecord, line: str) -> None:
    assert told(record, study_of([record])) == line


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"origin": "fan", "parent": 2}, "★ fan of 2: stem 9"),
        ({"origin": "promotion", "parent": 0}, "★ goes on from 0: stem 9"),
        ({"spared": True}, "★ spared: stem 9"),
        ({}, "★ stem 9"),
    ],
)
def test_a_measured_trial_says_what_it_goes_on_from(fields: dict, words: str) -> None:
    record = measured(1, 0.9, 0.1, **fields)
    assert words in told(record, study_of([record]))


def test_every_kind_of_trial_fits_a_terminal(tmp_path: Path) -> None:
    records = every_kind()
    study = study_of(records, tmp_path)
    for record in records:
        line = told(record, study, terminal=True)
        assert f"{record.number:4d} {record.outcome:10s} " in line
        assert len(line.rstrip("\n")) <= 80
        assert line.count("\n") == 1


def test_outcomes_look_different() -> None:
    assert set(STYLES) == set(Outcome)
    dim = "\x1b[2m"
    line = told(screened(9), study_of([screened(9)]), colours=True, terminal=True)
    assert f"{dim}at best" in line
    line = told(stopped(7, 2), study_of([stopped(7, 2)]), colours=True, terminal=True)
    assert dim not in line
    assert "\x1b[36mstopped" in line


def shown(study: Study) -> TerminalWatcher:
    watcher = TerminalWatcher(Console(file=io.StringIO()))
    watcher.began(study)
    return watcher


def test_the_bar_counts_what_the_budget_counts() -> None:
    """What was screened out counts for nothing, what was stopped for its share, in whole trials."""
    records = [*(measured(n, 0.9, 0.1) for n in range(3)), stopped(3, 2), screened(4), stopped(5, 6)]
    (task,) = shown(study_of(records)).bar.tasks
    assert (task.completed, task.total) == (3, 10)
    (more,) = shown(study_of([*records, stopped(6, 19)])).bar.tasks
    assert more.completed == 4
    spent = study_of(records).spent
    seconds = study_of(records).seconds
    assert task.fields["left"] == pytest.approx((10 - spent) * seconds / spent)


def test_without_a_number_of_trials_the_bar_expects_what_the_minutes_hold() -> None:
    records = [dataclasses.replace(measured(n, 0.9, 0.1), seconds=30.0) for n in range(4)]
    (task,) = shown(study_of(records, trials=None, minutes=10)).bar.tasks
    assert (task.completed, task.total, task.fields["left"]) == (4, 20, 480)


@pytest.mark.parametrize("records", [[], [screened(0)], [given_up(0, Outcome.STOPPED, screened(0).reason, epochs=0)]])  # type: ignore[arg-type]
def test_a_search_that_spent_nothing_yet_has_no_time_left_to_tell(records: list[TrialRecord]) -> None:
    (task,) = shown(study_of(records)).bar.tasks
    assert (task.completed, task.fields["left"]) == (0, None)


def test_a_budget_that_is_overspent_leaves_nothing() -> None:
    (task,) = shown(study_of([measured(n, 0.9, 0.1) for n in range(12)])).bar.tasks
    assert task.fields["left"] == 0
