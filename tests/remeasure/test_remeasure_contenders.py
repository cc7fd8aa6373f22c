"""Who has a turn beside the finalists, and what comes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_measurer import ORT1, ORT2, FakeMeasurer, measured_study
from fakes import LATENCY, make_recipe, make_record

from nas.gains import confirmed, files_that_stay
from nas.measure.measurer import ROUNDS, TURN
from nas.outcome import Quantity
from nas.record import TrialRecord, write_record
from nas.remeasure import contenders as module
from nas.remeasure import time_front
from nas.remeasure.contenders import SLOWED, contenders, hopeful, to_be_timed
from nas.study import Study

IMAGES = np.zeros((3, 2, 2, 1), np.uint8)
# The baseline is dominated; 1, 2 and 3 are the front. Undisturbed trial 5 would add more to it than trial 4.
TRIALS = {0: (0.80, 0.5), 1: (0.85, 0.1), 2: (0.90, 0.2), 3: (0.95, 0.4), 4: (0.92, 0.55), 5: (0.92, 0.45)}


def disturbed(study: Study, times: dict[int, float], key: str = LATENCY) -> Study:
    """The study whose trials of these numbers seemed to take so many times as long, and say that."""

    def seen(quantity: Quantity, factor: float) -> Quantity:
        if quantity.key != key:
            return quantity
        detail = {**quantity.detail, "unstable": True}
        return replace(quantity, value=factor * quantity.value, high=None, detail=detail)

    for number, factor in times.items():
        record = study.record(number)
        write_record(study.folder.trials, replace(record, quantities=tuple(seen(q, factor) for q in record.quantities)))
    return Study.open(study.folder.path)


def numbers(records: list[TrialRecord]) -> list[int]:
    return [record.number for record in records]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return measured_study(tmp_path / "study", TRIALS)


# --- who contends ----------------------------------------------------------------------------------------------------


def test_what_nothing_disturbed_contends_for_nothing(study: Study) -> None:
    assert contenders(study) == []
    assert numbers(to_be_timed(study)) == [1, 2, 3, 0]


def test_disturbed_trials_contend_what_might_add_most_first(study: Study) -> None:
    assert numbers(contenders(disturbed(study, {4: 1.0, 5: 1.0}))) == [5, 4]
    assert numbers(to_be_timed(disturbed(study, {4: 1.0, 5: 1.0}))) == [1, 2, 3, 0, 5, 4]


@pytest.mark.parametrize(("seems_ms", "contend"), [(0.99 * SLOWED * 0.4, [4]), (1.01 * SLOWED * 0.4, [])])
def test_one_that_is_too_slow_even_undisturbed_does_not(study: Study, seems_ms: float, contend: list[int]) -> None:
    """Trial 3 takes 0.4 ms and is more accurate."""
    assert numbers(contenders(disturbed(study, {4: seems_ms / 0.55}))) == contend


def test_their_turns_are_not_too_long(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    both = disturbed(study, {4: 1.0, 5: 1.0})
    one = ROUNDS * (TURN.warmup_ms + TURN.minimum_ms) / 1000
    monkeypatch.setattr(module, "SECONDS", 1.5 * one)
    assert numbers(contenders(both)) == [5]
    slow = {number: (accuracy, 1000 * latency_ms) for number, (accuracy, latency_ms) in TRIALS.items()}
    monkeypatch.setattr(module, "SECONDS", 20.0)
    study = disturbed(measured_study(study.folder.path.parent / "slow", slow), {4: 1.0, 5: 1.0})
    assert numbers(hopeful(study)) == [5, 4]
    assert contenders(study) == [], "20 turns of 8 calls of half a second each"


def test_limits_are_to_be_met_undisturbed(tmp_path: Path) -> None:
    recipe = make_recipe(constraints=["accuracy >= 0.9", f"{LATENCY} <= 0.4"])
    trials = TRIALS | {6: (0.89, 0.15)}
    study = disturbed(measured_study(tmp_path / "study", trials, recipe=recipe), {4: 1.0, 5: 1.0, 6: 1.0})
    assert numbers(contenders(study)) == [5, 4], "both break the limit as told; 6 is not accurate enough"
    assert numbers(contenders(disturbed(study, {4: 1.2}))) == [5]


def test_without_a_latency_to_compare_nobody_contends(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", "macs"], targets=[ORT1])
    study = measured_study(tmp_path / "study", TRIALS, recipe=recipe)
    assert contenders(disturbed(study, {4: 1.0})) == []


def test_one_of_several_latencies_is_enough(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", f"latency_ms@{ORT1}", f"latency_ms@{ORT2}"])
    study = measured_study(tmp_path / "study", TRIALS, recipe=recipe)
    assert numbers(contenders(disturbed(study, {4: 1.0}, f"latency_ms@{ORT2}"))) == [4]


def test_a_study_without_a_measured_trial_has_none(tmp_path: Path) -> None:
    assert contenders(measured_study(tmp_path / "study", {})) == []


def test_one_whose_file_is_gone_has_no_turn(study: Study) -> None:
    study = disturbed(study, {4: 1.0, 5: 1.0})
    study.store.blob_path(study.record(5).artifact_sha256 or "").unlink()
    assert numbers(hopeful(study)) == [5, 4]
    measurer = FakeMeasurer()
    time_front(study, measurer, IMAGES)
    assert measurer.log[1] == ("turns", [1, 2, 3, 0, 4], ORT1, 5)


# --- what comes of it ------------------------------------------------------------------------------------------------


def won(path: Path) -> Study:
    """Trial 4's file takes 0.25 ms; in the search it seemed to take 0.42 ms. Its turns brought it onto the front."""
    study = disturbed(measured_study(path, TRIALS | {4: (0.92, 0.25)}), {4: 1.68})
    assert numbers(study.front) == [1, 2, 3]
    assert time_front(study, FakeMeasurer(), IMAGES) is not None
    return Study.open(path)


def test_the_turns_bring_a_disturbed_trial_onto_the_front(tmp_path: Path) -> None:
    study = won(tmp_path / "study")
    assert numbers(study.front) == [1, 2, 4, 3]
    assert study.record(4).value(LATENCY) == 0.25
    assert numbers(study.front_as_told) == [1, 2, 3], "which is what a search that goes on goes by"
    assert numbers(to_be_timed(study)) == [1, 2, 4, 3, 0]
    assert study.record(4).artifact_sha256 in files_that_stay(study)


def test_who_won_its_turns_stays_when_others_come(tmp_path: Path) -> None:
    study = won(tmp_path / "study")
    write_record(study.folder.trials, make_record(9, 0.99, 0.6))
    later = Study.open(study.folder.path)
    assert numbers(later.front) == [1, 2, 4, 3, 9]
    assert numbers(confirmed(later)) == [1, 2, 4, 3, 9, 0], "and has a turn again"


def test_the_turns_take_a_member_off_the_front_and_know_it_the_next_time(study: Study) -> None:
    time_front(study, FakeMeasurer(noise={1: (2.1,)}), IMAGES)  # slower than trial 2, and less accurate
    after = Study.open(study.folder.path)
    assert numbers(after.front) == [2, 3]
    assert numbers(to_be_timed(after)) == [2, 3, 0, 1]
    assert after.record(1).artifact_sha256 in files_that_stay(after)
    time_front(after, FakeMeasurer(), IMAGES)
    assert numbers(Study.open(study.folder.path).front) == [1, 2, 3]


def test_fewer_objectives_have_their_own_front_by_the_turns(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", f"latency_ms@{ORT1}", "size_bytes"])
    study = measured_study(tmp_path / "study", TRIALS, recipe=recipe)
    two = recipe.parsed_objectives[:2]
    assert numbers(study.front_in(two)) == [1, 2, 3]
    assert study.front_in(recipe.parsed_objectives) is study.front
    time_front(study, FakeMeasurer(noise={1: (2.1,)}), IMAGES)
    after = Study.open(study.folder.path)
    assert 1 in numbers(after.front), "its file is smaller than that of trial 2"
    assert numbers(after.front_in(two)) == [2, 3]
