"""Where the time went and what was not trained, counted by hand."""

from __future__ import annotations

import dataclasses

import pytest
from fakes import make_record
from foresight_fakes import EPOCHS, design_of, every_kind, given_up, measured, screened, stopped

from nas.describe import ORIGINS, origin_words
from nas.outcome import Outcome, Reason
from nas.record import StageResult, TrialRecord
from nas.report.savings import REST, savings, trained_epochs


def staged(number: int, seconds: float, *stages: StageResult, **fields) -> TrialRecord:
    return dataclasses.replace(measured(number, 0.9, 0.1, stages=stages, **fields), seconds=seconds)


def stage(name: str, seconds: float, cached: bool = False, **detail) -> StageResult:
    return StageResult(name, "", seconds, cached, detail)


def test_seconds_add_up_and_what_no_stage_took_is_the_searchs_own() -> None:
    records = [
        staged(0, 10.0, stage("train", 6.0), stage("prune", 1.0), stage("measure", 2.0), stage("startup", 0.5)),
        staged(1, 5.0, stage("trunk", 1.0), stage("train", 2.0), stage("something new", 0.5)),
        dataclasses.replace(screened(2), seconds=0.25),
    ]
    spent = savings(records, EPOCHS)
    assert dict(spent.parts) == pytest.approx(
        {"training": 9.0, "measuring time": 2.5, "pruning and fine-tuning": 1.0, "something new": 0.5, REST: 2.25}
    )
    assert spent.seconds == pytest.approx(15.25)
    assert [words for words, _ in spent.parts][:2] == ["training", "measuring time"]
    assert spent.parts_words.startswith("training 59 %, measuring time 16 %, choosing designs and the rest 15 %")


def test_small_parts_are_told_together() -> None:
    spent = savings([staged(0, 100.0, stage("train", 97.0), stage("export", 1.5), stage("score", 1.5))], EPOCHS)
    assert spent.parts_words == "training 97 %, smaller parts 3 %"


def test_stages_that_took_longer_than_the_trial_leave_no_rest() -> None:
    assert dict(savings([staged(0, 1.0, stage("train", 2.0))], EPOCHS).parts) == {"training": 2.0}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (staged(0, 1, stage("train", 1, epochs=3)), 3),
        (staged(0, 1, stage("trunk", 1, epochs=1.2), stage("train", 1, epochs=0.8)), 2),
        (staged(0, 1, stage("train", 1, cached=True, epochs=20)), 0),
        (staged(0, 1, stage("trunk", 1, cached=True, epochs=12), stage("train", 1, epochs=8)), 8),
        (staged(0, 1, stage("train", 1)), EPOCHS),
        (staged(0, 1, stage("load", 1)), 0),
        (dataclasses.replace(stopped(0, 6), stages=(stage("train", 1),)), 6),
        (staged(0, 1, stage("train", 1), origin="promotion", parent=9), EPOCHS - 2),
        (staged(0, 1, stage("train", 1), parent=9), EPOCHS),  # only weights were inherited
    ],
)
def test_epochs_that_a_trial_trained(record: TrialRecord, expected: float) -> None:
    assert trained_epochs(record, [record, stopped(9, 2)], EPOCHS) == pytest.approx(expected)


def test_epochs_are_held_against_training_every_design_in_full() -> None:
    limit = Reason("constraint", "size_bytes <= 1, but it is about 2 B")
    records = [
        measured(0, 0.9, 0.1),
        stopped(1, 2),
        staged(2, 1, stage("train", 1, epochs=18), origin="promotion", parent=1, design=design_of(1)),
        screened(3),
        given_up(4, Outcome.INFEASIBLE, limit, stages=()),
        make_record(5, outcome=Outcome.INFEASIBLE, design=design_of(5), stages=()),  # cannot be built
        make_record(6, outcome=Outcome.FAILED, design=design_of(6), stages=()),
        make_record(7, outcome=Outcome.DUPLICATE, design=design_of(0), stages=()),
    ]
    spent = savings(records, EPOCHS)
    assert (spent.designs, spent.full_epochs) == (4, 80)  # trials 0, 1 (which 2 goes on from), 3 and 4
    assert spent.epochs == 40
    assert spent.epochs_words == (
        "40 epochs were trained, 50 % of the 80 that training each of 4 designs in full would have taken"
    )


def test_a_network_that_came_with_its_weights_saves_no_training() -> None:
    spent = savings([staged(0, 2, stage("load", 1)), screened(1)], EPOCHS)
    assert (spent.designs, spent.full_epochs, spent.epochs_words) == (0, 0, "")


def test_trials_by_origin_and_outcome() -> None:
    records = every_kind()
    spent = savings(records, EPOCHS)
    assert sum(row.trials for row in spent.rows) == len(records)
    assert sum(row.seconds for row in spent.rows) == pytest.approx(sum(record.seconds for record in records))
    by_words = {row.words: row for row in spent.rows}
    assert set(by_words) == set(ORIGINS.values())
    assert by_words[origin_words("asked")].outcomes == {
        Outcome.MEASURED: 20, Outcome.STOPPED: 1, Outcome.SCREENED: 8, Outcome.INFEASIBLE: 2, Outcome.FAILED: 1,
        Outcome.DUPLICATE: 1,
    }  # fmt: skip
    assert spent.outcomes == tuple(Outcome)
    assert spent.outcome_words == "51 measured, 1 duplicate, 2 infeasible, 8 screened, 2 stopped and 1 failed"


def test_nothing_was_spent_on_nothing() -> None:
    spent = savings([], EPOCHS)
    assert (spent.parts_words, spent.epochs_words, spent.outcome_words, spent.rows) == ("", "", "", ())
