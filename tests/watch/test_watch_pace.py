"""How fast a search goes and how long its budget lasts, by hand-made times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import make_recipe, make_record, write_study

from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.study import Study
from nas.watch.pace import budget_share, clock_words, seconds_left, seconds_running, trials_a_minute
from nas.watch.running import Running
from nas.watch.snapshot import Snapshot


def taking(number: int, seconds: float, outcome: Outcome = Outcome.MEASURED) -> TrialRecord:
    return replace(make_record(number, outcome=outcome), seconds=seconds)


def study_of(path: Path, records: list[TrialRecord], **budget: object) -> Study:
    return write_study(path, records, make_recipe(budget={"epochs": 1} | budget))


def test_the_pace_counts_what_something_was_spent_on_and_all_the_time(tmp_path: Path) -> None:
    records = [taking(0, 30), taking(1, 10, Outcome.SCREENED), taking(2, 20)]
    study = study_of(tmp_path, records, trials=8)
    assert trials_a_minute(study) == pytest.approx(2.0)
    assert trials_a_minute(study, last=1) == pytest.approx(3.0)
    assert trials_a_minute(study, last=5) == pytest.approx(2.0)


def test_without_trials_there_is_no_pace_and_no_end_in_sight(tmp_path: Path) -> None:
    study = study_of(tmp_path, [], trials=8)
    assert trials_a_minute(study) is None
    assert seconds_left(study) is None
    assert budget_share(study) == 0
    only_screened = study_of(tmp_path / "screened", [taking(0, 3, Outcome.SCREENED)], trials=8)
    assert trials_a_minute(only_screened) is None


@pytest.mark.parametrize(
    ("budget", "running", "left", "share"),
    [
        ({"trials": 8}, 0, 60, 0.25),  # 2 of 8 in 20 s
        ({"trials": 8}, 4, 56, 0.25),
        ({"minutes": 1}, 0, 40, 1 / 3),
        ({"minutes": 1}, 10, 30, 0.5),
        ({"minutes": 1}, 100, 0, 1),
        ({"trials": 8, "minutes": 1}, 0, 40, 1 / 3),
        ({"trials": 3, "minutes": 1}, 0, 10, 2 / 3),
        ({"trials": 2}, 0, 0, 1),
    ],
)
def test_the_budget_ends_by_trials_or_minutes_whichever_is_nearer(
    tmp_path: Path, budget: dict[str, int], running: float, left: float, share: float
) -> None:
    study = study_of(tmp_path, [taking(0, 12), taking(1, 8)], **budget)
    assert seconds_left(study, running) == pytest.approx(left)
    assert budget_share(study, running) == pytest.approx(share)


def test_what_runs_is_timed_by_the_clock_and_never_backwards() -> None:
    def seen(time: float) -> Snapshot:
        return Snapshot(Path("s"), time, running=Running(1, 100.0))

    assert seconds_running(seen(107.5)) == 7.5
    assert seconds_running(seen(90.0)) == 0, "a clock that was set back"
    assert seconds_running(Snapshot(Path("s"), 107.5)) == 0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3599.4, "59:59"), (11220, "3:07:00")]
)
def test_times_read_as_on_a_clock(seconds: float, words: str) -> None:
    assert clock_words(seconds) == words
