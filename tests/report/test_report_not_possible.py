"""What was not possible: grouped by kind and message, counted, with an example, and with what to do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from fakes import LATENCY, make_design, make_recipe, make_record

from nas.outcome import Outcome, Reason
from nas.record import TrialRecord
from nas.report.not_possible import ADVICE, OTHER_ADVICE, not_possible, not_possible_summary
from nas.study import Study, StudyFolder


def failed(
    number: int,
    message: str,
    kind: str = "shape",
    outcome: Outcome = Outcome.INFEASIBLE,
    transient: bool = False,
    **compression: Any,
) -> TrialRecord:
    record = make_record(number, outcome=outcome, design=make_design(**compression))
    return dataclasses.replace(record, reason=Reason(kind, message, transient))


def study_of(records: list[TrialRecord], **recipe: Any) -> Study:
    return Study(StudyFolder(Path("nowhere")), make_recipe(**recipe), records)


def test_messages_that_differ_in_numbers_alone_are_one_row() -> None:
    rows = not_possible(
        study_of(
            [
                failed(3, "stage2: max pooling of 2×2 shrinks its feature map of 1×1 to nothing"),
                failed(5, "stage3: max pooling of 2×2 shrinks its feature map of 1×1 to nothing"),
                failed(6, "the head has no input"),
            ]
        )
    )
    assert [(row.count, row.trial, row.pattern) for row in rows] == [
        (2, 3, "stage…: max pooling of 2×2 shrinks its feature map of 1×1 to nothing"),
        (1, 6, "the head has no input"),
    ]
    assert rows[0].message == "stage2: max pooling of 2×2 shrinks its feature map of 1×1 to nothing"
    assert rows[0].advice == ADVICE["shape"]


def test_kinds_and_outcomes_are_told_apart() -> None:
    rows = not_possible(
        study_of(
            [
                failed(0, "no 1"),
                failed(1, "no 2", kind="diverged", outcome=Outcome.FAILED),
                failed(2, "no 3", kind="diverged", outcome=Outcome.FAILED),
                failed(3, "no 4", outcome=Outcome.FAILED),
            ]
        )
    )
    assert [(row.outcome, row.kind, row.count) for row in rows] == [
        ("failed", "diverged", 2), ("infeasible", "shape", 1), ("failed", "shape", 1)
    ]  # fmt: skip
    assert rows[0].pattern == "no …"


@pytest.mark.parametrize(
    ("messages", "pattern"),
    [
        (["the loss is 1.5e+20", "the loss is 3"], "the loss is …"),
        (["a 1,024 b\nc", "a 1,024 b c"], "a 1,024 b c"),
        (["nan", "nan"], "nan"),
        (["x" * 500], "x" * 299 + "…"),
    ],
)
def test_patterns(messages: list[str], pattern: str) -> None:
    rows = not_possible(study_of([failed(n, message) for n, message in enumerate(messages)]))
    assert [row.pattern for row in rows] == [pattern]


def test_what_the_search_gave_up_of_its_own_accord_is_not_there() -> None:
    records = [
        make_record(0),
        failed(1, "at best 80 %", kind="screened", outcome=Outcome.SCREENED),
        failed(2, "after 1 epoch", kind="rung", outcome=Outcome.STOPPED),
        dataclasses.replace(make_record(3), outcome=Outcome.DUPLICATE, duplicate_of=0),
    ]
    assert not_possible(study_of(records)) == []
    assert not_possible_summary(study_of(records)) == ""
    assert not_possible(study_of([])) == []


def test_a_limit_that_measured_trials_break_is_there_with_the_nearest_miss() -> None:
    records = [make_record(n, 0.9, latency) for n, latency in enumerate((0.05, 0.15, 0.11, 0.3))]
    study = study_of(records, constraints=[f"{LATENCY} <= 0.1"])
    (row,) = not_possible(study)
    assert (row.outcome, row.kind, row.count, row.trial) == ("measured", "limit", 3, 2)
    assert row.pattern == "latency at most 0.1 ms: missed by 50 % in the median"
    assert row.message == "nearest to it, misses it by 10.0 %"
    assert not_possible_summary(study) == "Of 4 trials: 3 measured, but outside a limit."


def test_the_summary_counts_all_kinds() -> None:
    records = [make_record(0, latency_ms=1), failed(1, "no"), failed(2, "oh", "diverged", Outcome.FAILED)]
    study = study_of(records, constraints=[f"{LATENCY} <= 0.1"])
    assert not_possible_summary(study) == "Of 3 trials: 1 infeasible, 1 failed and 1 measured, but outside a limit."


def test_what_failing_designs_share_and_others_have_not_is_told() -> None:
    records = [make_record(n, design=make_design(pruning_ratio=0.0, weight_bits=32)) for n in range(6)]
    records += [
        failed(10 + n, f"no {n}", "unsupported", Outcome.FAILED, pruning_ratio=0.0, weight_bits=4) for n in range(3)
    ]
    (row,) = not_possible(study_of(records))
    assert row.shared == ("weight bits 4",)
    assert row.words == "3 trials failed (unsupported): no …; all have weight bits 4"


def test_two_trials_share_nothing_worth_telling() -> None:
    records = [make_record(n, design=make_design(weight_bits=32)) for n in range(6)]
    records += [failed(10 + n, "no", weight_bits=4) for n in range(2)]
    assert not_possible(study_of(records))[0].shared == ()


def test_what_may_succeed_another_time_says_so() -> None:
    (row,) = not_possible(study_of([failed(0, "no space left", "disk", Outcome.FAILED, transient=True)]))
    assert row.transient
    assert row.advice == ADVICE["disk"]


def test_an_unknown_kind_has_advice_too() -> None:
    (row,) = not_possible(study_of([failed(0, "?", "unheard-of")]))
    assert row.advice == OTHER_ADVICE


def test_every_kind_that_an_evaluation_gives_has_advice() -> None:
    """The kinds stand in the source of the evaluation and of the guided search."""
    import re

    package = Path(__file__).parents[2] / "nas"
    source = (package / "evaluate.py").read_text() + (package / "search" / "judging.py").read_text()
    kinds = set(re.findall(r'Reason\(\s*"(\w+)"', source)) - {"screened", "rung"}
    assert kinds >= {"shape", "diverged", "constraint"}
    assert kinds <= ADVICE.keys()


def test_rows_are_json() -> None:
    rows = not_possible(study_of([failed(0, "a <b> 1")]))
    data = json.loads(json.dumps([row.to_json() for row in rows]))
    assert data[0]["words"] == "1 trial infeasible (shape): a <b> 1"
    assert data[0]["shared"] == []
