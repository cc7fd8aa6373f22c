"""What a final training settles before it spends anything: designs, budget, seeds, expected time."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import make_design, make_recipe, make_record, write_study

from nas.errors import StudyError
from nas.finalize.plan import Asked, expected_seconds, most_telling, plan_for
from nas.finalized import FullBudget
from nas.outcome import Outcome
from nas.record import StageResult, TrialRecord
from nas.study import Study

BUDGET = {"trials": 8, "epochs": 10, "finetune_epochs": 3}


def make_study(folder: Path, *records: TrialRecord, **changes: object) -> Study:
    return write_study(folder, list(records), make_recipe(**({"budget": BUDGET} | changes)))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Trials 0 and 1 on the front, 2 dominated, 3 to 5 not measured."""
    return make_study(
        tmp_path / "study",
        make_record(0, 0.9, 0.2),
        make_record(1, 0.8, 0.1),
        make_record(2, 0.7, 0.3),
        make_record(3, outcome=Outcome.FAILED),
        make_record(4, outcome=Outcome.STOPPED),
        make_record(5, outcome=Outcome.DUPLICATE, duplicate_of=1),
    )


def test_by_default_the_front_five_times_as_long_from_three_seeds(study: Study) -> None:
    plan = plan_for(study, Asked())
    assert [record.number for record in plan.records] == [1, 0]
    assert plan.budget == FullBudget(50, 15)
    assert len(set(plan.seeds)) == 3
    assert plan.words(study.recipe) == "2 designs × 3 seeds, 50 epochs each (the search's 10)"
    recipe = plan.recipe(study.recipe)
    assert (recipe.budget.epochs, recipe.budget.finetune_epochs, recipe.budget.trials) == (50, 15, 8)
    assert study.recipe.budget.epochs == 10


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_no_seed_is_the_search_s_and_all_are_seeds(tmp_path: Path, seed: int) -> None:
    study = make_study(tmp_path / "study", make_record(0), seed=seed)
    seeds = plan_for(study, Asked(seeds=5)).seeds
    assert seed not in seeds
    assert all(0 <= other < 2**32 for other in seeds)
    assert seeds[:3] == plan_for(study, Asked(seeds=3)).seeds, "more seeds go on from fewer"


def test_what_tells_most_of_a_front_comes_first_when_it_is_trained(tmp_path: Path) -> None:
    study = make_study(
        tmp_path / "study",
        make_record(0, 0.5, 10.0),  # fixes the reference: 100 ms
        make_record(1, 0.55, 1.0),
        make_record(2, 0.95, 1.1),
        make_record(3, 0.96, 8.0),
        make_record(4, 0.3, 0.2),
    )
    plan = plan_for(study, Asked())
    assert [record.number for record in plan.records] == [4, 1, 2, 3], "as fronts are told"
    assert [record.number for record in most_telling(study, plan.records)] == [2, 4, 3, 1]


def test_trials_are_taken_as_named_and_once(study: Study) -> None:
    plan = plan_for(study, Asked((2, 0, 2), epochs=20, seeds=1))
    assert [record.number for record in plan.records] == [2, 0]
    assert plan.budget == FullBudget(20, 6)
    assert plan_for(study, Asked((0,), epochs=20, finetune_epochs=4)).budget == FullBudget(20, 4)


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        (Asked((99,)), "there is no trial 99", "trials run from 0 to 5"),
        (Asked((3,)), "trial 3 cannot be trained again, it ended as failed: the feature map", "nas front"),
        (Asked((4,)), "trial 4 cannot be trained again, it ended as stopped", "nas front"),
        (Asked((5,)), "trial 5 only repeats the design of trial 1", "--trial 1"),
        (Asked(epochs=9), "--epochs must be at least the search's 10, but got 9", "5 times"),
        (Asked(finetune_epochs=2), "--finetune-epochs must be at least the search's 3, but got 2", "5 times"),
        (Asked(seeds=0), "--seeds must be from 1 to 100, but got 0", "interval"),
        (Asked(seeds=101), "--seeds must be from 1 to 100, but got 101", "interval"),
    ],
)
def test_what_cannot_be_done_is_refused(study: Study, asked: Asked, message: str, hint: str) -> None:
    with pytest.raises(StudyError, match=message) as raised:
        plan_for(study, asked)
    assert hint in raised.value.hint


def test_without_a_front_a_trial_must_be_named(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study", make_record(0, outcome=Outcome.FAILED))
    with pytest.raises(StudyError, match=r"has no front yet \(no trial was measured; let the search go on\)"):
        plan_for(study, Asked())
    barred = make_study(tmp_path / "barred", make_record(0), constraints=["size_bytes <= 1"])
    with pytest.raises(StudyError, match=r"has no front yet \(name a measured trial with --trial\)"):
        plan_for(barred, Asked())


def test_the_expected_time_counts_what_is_shared_once_for_each_seed(tmp_path: Path) -> None:
    """20 s of training and its 5 s of fine-tuning, both five times as long, 2 s of measuring; the teacher's 20 s are
    those of the first, and what came from the cache took what it took when it was made."""
    other = make_design(pruning_ratio=0.5, distillation=True)
    shared = StageResult("train", "network", 20.0, False)
    study = make_study(
        tmp_path / "study",
        make_record(0, 0.9, 0.2, design=make_design(), stages=(shared, StageResult("measure", "", 2.0, False))),
        make_record(
            1,
            0.8,
            0.1,
            design=other,
            teacher_trial=0,
            stages=(
                StageResult("train", "network", 0.01, True),
                StageResult("finetune", "tuned", 5.0, False),
                StageResult("measure", "", 2.0, False),
            ),
        ),
    )
    assert expected_seconds(study, plan_for(study, Asked(seeds=2))) == pytest.approx(2 * (5 * 20 + 2 + 5 * 5 + 2))
    assert expected_seconds(study, plan_for(study, Asked((1,), seeds=1))) == pytest.approx(5 * 20 + 5 * 5 + 2)
