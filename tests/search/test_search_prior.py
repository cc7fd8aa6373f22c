"""A prior's designs in the study loop: after the baseline, once each, whatever interrupts the search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from search_fakes import FakeEvaluate, Memory, fake_recipe, make_space

from nas.design import Design
from nas.recipe import SAMPLERS
from nas.record import record_path
from nas.search.loop import Loop
from nas.space import SearchSpace
from nas.study import Study, StudyFolder
from nas.workers.here import Here


def space_with_baseline() -> SearchSpace:
    return replace(make_space(), baseline=designs(0)[0])


def designs(*numbers: int) -> list[Design]:
    """Designs of the space that need no teacher, by their place in it."""
    plain = [design for design in make_space().designs() if not design.step("distillation")]
    return [plain[number] for number in numbers]


PRIORS = designs(7, 21, 40)


def run_loop(path: Path, evaluate: FakeEvaluate, sampler: str = "tpe", trials: int = 8) -> Study:
    """A search with a baseline and priors and a fake evaluation."""
    folder, recipe, space = StudyFolder(path), fake_recipe(sampler, trials=trials), space_with_baseline()
    with folder.claim():
        folder.start(recipe, {"space": space.digest, "data": "none", "prior": "a digest"})
        Loop(folder, recipe, space, Here(evaluate), {}, Memory(), starts=[(design, "prior") for design in PRIORS]).run()
    return Study.open(path)


def history(study: Study) -> list[tuple[int, str, str]]:
    return [(record.number, record.design.digest, record.origin) for record in study.records]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_they_come_after_the_baseline_in_their_order(tmp_path: Path, sampler: str) -> None:
    study = run_loop(tmp_path / "s", FakeEvaluate(), sampler)
    assert [record.origin for record in study.records[:5]] == ["baseline", "prior", "prior", "prior", "asked"]
    assert [record.design for record in study.records[1:4]] == PRIORS
    assert "prior" not in [record.origin for record in study.records[4:]]


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_an_interrupted_search_goes_on_with_those_that_are_left(tmp_path: Path, at: int) -> None:
    whole = run_loop(tmp_path / "whole", FakeEvaluate())
    with pytest.raises(KeyboardInterrupt):
        run_loop(tmp_path / "parts", FakeEvaluate(interrupt_at=at))
    evaluate = FakeEvaluate()
    assert history(run_loop(tmp_path / "parts", evaluate)) == history(whole)
    assert min(request.number for request in evaluate.requests) == at, "what was finished is not evaluated again"


def test_a_storage_that_was_lost_brings_none_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_loop(tmp_path / "s", FakeEvaluate(interrupt_at=3))
    for path in (tmp_path / "s").glob("optuna.sqlite3*"):
        path.unlink()
    study = run_loop(tmp_path / "s", FakeEvaluate())
    assert [record.design for record in study.records[1:4]] == PRIORS
    assert len({record.design.digest for record in study.records if record.origin == "prior"}) == 3


def test_a_record_that_was_lost_is_evaluated_again(tmp_path: Path) -> None:
    before = run_loop(tmp_path / "s", FakeEvaluate())
    record_path(tmp_path / "s" / "trials", 2).unlink()
    evaluate = FakeEvaluate()
    after = run_loop(tmp_path / "s", evaluate)
    assert [request.number for request in evaluate.requests] == [2]
    assert [record.design for record in after.records] == [record.design for record in before.records]


def test_a_met_budget_leaves_the_rest_for_a_larger_one(tmp_path: Path) -> None:
    assert [record.origin for record in run_loop(tmp_path / "s", FakeEvaluate(), trials=2).records] == [
        "baseline",
        "prior",
    ]
    assert history(run_loop(tmp_path / "s", FakeEvaluate())) == history(run_loop(tmp_path / "whole", FakeEvaluate()))
