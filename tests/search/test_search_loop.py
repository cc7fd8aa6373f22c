"""The study loop with a fake evaluation: budgets, duplicates, interruption, and what survives it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import make_record, write_study
from search_fakes import FakeEvaluate, fake_recipe, make_space, run_loop

from nas.artifact import InputSpec
from nas.choice import Choice
from nas.evaluate import EvalRequest, EvalResult
from nas.gains import baseline_of, finalists
from nas.outcome import Outcome, Reason
from nas.recipe import SAMPLERS
from nas.recipe_sections import TeacherConfig
from nas.record import TrialRecord, record_path
from nas.search.asking import TRIED
from nas.search.optuna_bridge import Bridge
from nas.space import SearchSpace
from nas.stages import Progress
from nas.study import Study
from nas.teacher.given import GivenTeacher


def history(study: Study) -> list[tuple[int, str, str, str]]:
    """What must be the same in two studies: numbers, designs, outcomes, origins."""
    return [(r.number, r.design.digest, str(r.outcome), r.origin) for r in study.records]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_runs_to_its_budget(tmp_path: Path, sampler: str) -> None:
    study, ended = run_loop(tmp_path / "s", fake_recipe(sampler, trials=12), FakeEvaluate())
    counted = [record for record in study.records if record.outcome is not Outcome.DUPLICATE]
    assert len(counted) == 12
    assert "12 trials" in ended.why
    assert [record.number for record in study.records] == list(range(len(study.records)))
    assert study.front


@pytest.mark.parametrize(
    ("sampler", "at"),
    [("tpe", 0), ("tpe", 3), ("tpe", 12), ("nsga2", 3), ("nsga2", 12), ("random", 3), ("gp", 11)],
)
def test_a_continued_study_samples_as_an_uninterrupted_one(tmp_path: Path, sampler: str, at: int) -> None:
    recipe = fake_recipe(sampler, trials=13)
    whole, _ = run_loop(tmp_path / "whole", recipe, FakeEvaluate())
    number = [r.number for r in whole.records if r.outcome is not Outcome.DUPLICATE][at]
    with pytest.raises(KeyboardInterrupt):
        run_loop(tmp_path / "parts", recipe, FakeEvaluate(interrupt_at=number))
    assert len(Study.open(tmp_path / "parts").records) == number
    parts, _ = run_loop(tmp_path / "parts", recipe, FakeEvaluate())
    assert history(parts) == history(whole)


def test_a_larger_budget_continues_and_a_met_one_does_nothing(tmp_path: Path) -> None:
    run_loop(tmp_path / "s", fake_recipe(trials=8), FakeEvaluate())
    evaluate = FakeEvaluate()
    study, _ = run_loop(tmp_path / "s", fake_recipe(trials=12), evaluate)
    assert len(evaluate.requests) == 4
    whole, _ = run_loop(tmp_path / "whole", fake_recipe(trials=12), FakeEvaluate())
    assert history(study) == history(whole)
    again = FakeEvaluate()
    run_loop(tmp_path / "s", fake_recipe(trials=12), again)
    assert not again.requests


def test_a_record_is_written_before_the_sampler_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = fake_recipe()
    whole, _ = run_loop(tmp_path / "whole", recipe, FakeEvaluate())
    tell = Bridge.tell

    def die(self: Bridge, record: TrialRecord, original: TrialRecord | None = None) -> None:
        if record.number == 5:
            raise KeyboardInterrupt
        tell(self, record, original)

    monkeypatch.setattr(Bridge, "tell", die)
    with pytest.raises(KeyboardInterrupt):
        run_loop(tmp_path / "s", recipe, FakeEvaluate())
    monkeypatch.undo()
    assert record_path(tmp_path / "s" / "trials", 5).exists()
    evaluate = FakeEvaluate()
    study, _ = run_loop(tmp_path / "s", recipe, evaluate)
    assert 5 not in [request.number for request in evaluate.requests], "a finished trial was evaluated again"
    assert history(study) == history(whole)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_samplers_memory_is_made_again_from_the_records(tmp_path: Path, sampler: str) -> None:
    whole, _ = run_loop(tmp_path / "whole", fake_recipe(sampler, trials=14), FakeEvaluate())
    run_loop(tmp_path / "s", fake_recipe(sampler, trials=12), FakeEvaluate())
    for path in (tmp_path / "s").glob("optuna.sqlite3*"):
        path.unlink()
    study, _ = run_loop(tmp_path / "s", fake_recipe(sampler, trials=14), FakeEvaluate())
    assert history(study) == history(whole)


def test_a_lost_record_is_evaluated_again(tmp_path: Path) -> None:
    before, _ = run_loop(tmp_path / "s", fake_recipe(), FakeEvaluate())
    record_path(tmp_path / "s" / "trials", 4).unlink()
    evaluate = FakeEvaluate()
    after, _ = run_loop(tmp_path / "s", fake_recipe(), evaluate)
    assert [request.number for request in evaluate.requests] == [4]
    assert history(after) == history(before)


def test_a_lost_record_comes_back_with_where_its_design_came_from(tmp_path: Path) -> None:
    space = make_space()
    space = replace(space, baseline=next(design for design in space.designs() if not design.step("distillation")))
    run_loop(tmp_path / "s", fake_recipe(trials=4), FakeEvaluate(), space)
    record_path(tmp_path / "s" / "trials", 0).unlink()
    after, _ = run_loop(tmp_path / "s", fake_recipe(trials=4), FakeEvaluate(), space)
    assert [record.origin for record in after.records] == ["baseline", "asked", "asked", "asked"]


def test_duplicates_cost_nothing_and_stay_outside_front_and_budget(tmp_path: Path) -> None:
    evaluate = FakeEvaluate()
    study, _ = run_loop(tmp_path / "s", fake_recipe(trials=40), evaluate)
    duplicates = [record for record in study.records if record.outcome is Outcome.DUPLICATE]
    assert duplicates, "this seed is meant to repeat itself"
    assert len(evaluate.requests) == 40
    for record in duplicates:
        assert record.duplicate_of is not None
        assert study.record(record.duplicate_of).design.digest == record.design.digest
        assert record.number not in [member.number for member in study.front]


def test_an_exhausted_space_ends_the_search_with_every_design_evaluated(tmp_path: Path) -> None:
    space = SearchSpace(
        "two",
        "convnet",
        "",
        (
            Choice("stem.width", "architecture", (8, 16, 32)),
            Choice("stage1.conv", "architecture", ("standard", "separable")),
        ),
    )
    evaluate = FakeEvaluate()
    _, ended = run_loop(tmp_path / "s", fake_recipe("random", trials=100), evaluate, space)
    assert len({request.design.digest for request in evaluate.requests}) == space.size() == 6
    assert len(evaluate.requests) == 6
    assert ended.why == "every design of the search space was evaluated: 6"


def test_nobody_distils_before_there_is_a_teacher(tmp_path: Path) -> None:
    evaluate = FakeEvaluate()
    study, _ = run_loop(tmp_path / "s", fake_recipe("random", trials=30), evaluate)
    for request in evaluate.requests:
        if not request.design.step("distillation"):
            assert request.teacher is None
            continue
        assert request.teacher is not None
        earlier = [r for r in study.records if r.outcome is Outcome.MEASURED and r.number < request.number]
        best = max(earlier, key=lambda record: (record.value("accuracy"), -record.number))
        assert request.teacher.trial == best.number
        assert study.record(request.number).teacher == best.design.architecture_digest
    assert any(request.teacher for request in evaluate.requests)


def given_teacher(content: bytes = b"a network") -> GivenTeacher:
    """A teacher that nobody asks for logits here."""
    return GivenTeacher(TeacherConfig(path=Path("teacher.onnx")), content, InputSpec("uint8", (8, 8, 1)), 10, None)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_given_teacher_teaches_from_the_first_trial_on(tmp_path: Path, sampler: str) -> None:
    space = make_space()
    only = replace(space, choices=(*space.choices[:-1], Choice("distillation", "compression", (True,))))
    evaluate, teacher = FakeEvaluate(), given_teacher()
    study, _ = run_loop(tmp_path / "s", fake_recipe(sampler, trials=6), evaluate, only, teacher)
    assert all(request.design.step("distillation") and request.teacher is teacher for request in evaluate.requests)
    assert {(record.teacher, record.teacher_trial) for record in study.records} == {(teacher.sha256, None)}


def test_a_given_teacher_teaches_whoever_is_distilled_and_nobody_else(tmp_path: Path) -> None:
    evaluate, teacher = FakeEvaluate(), given_teacher()
    study, _ = run_loop(tmp_path / "s", fake_recipe("random", trials=40), evaluate, given=teacher)
    taught = [request.number for request in evaluate.requests if request.design.step("distillation")]
    assert 0 < len(taught) < len(evaluate.requests)
    assert taught == [request.number for request in evaluate.requests if request.teacher is teacher]
    assert {study.record(number).teacher for number in taught} == {teacher.sha256}
    again = [record for record in study.records if record.duplicate_of in taught]
    assert again, "this seed is meant to repeat a distilled design"
    assert {record.teacher for record in again} == {teacher.sha256}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_starts_with_the_baseline(tmp_path: Path, sampler: str) -> None:
    space = make_space()
    baseline = space.design({**{choice.name: choice.values[-1] for choice in space.choices}, "distillation": False})
    evaluate = FakeEvaluate()
    with_baseline = replace(space, baseline=baseline)
    study, _ = run_loop(tmp_path / "s", fake_recipe(sampler, trials=4), evaluate, with_baseline)
    assert study.records[0].origin == "baseline"
    assert evaluate.requests[0].design == baseline
    assert "baseline" not in [record.origin for record in study.records[1:]]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_a_space_names_first_follows_the_baseline_once_each(tmp_path: Path, sampler: str) -> None:
    space = make_space()
    values = {choice.name: choice.values[-1] for choice in space.choices}
    baseline, distilled = (space.design({**values, "distillation": distil}) for distil in (False, True))
    other = space.design({**{choice.name: choice.values[0] for choice in space.choices}, "distillation": False})
    evaluate = FakeEvaluate()
    starting = replace(space, baseline=baseline, first=(distilled, baseline, other))
    run_loop(tmp_path / "s", fake_recipe(sampler, trials=2), evaluate, starting)
    study, _ = run_loop(tmp_path / "s", fake_recipe(sampler, trials=5), evaluate, starting)
    assert [request.design for request in evaluate.requests[:3]] == [baseline, distilled, other]
    assert [record.origin for record in study.records[:4]] == ["baseline", "first", "first", "asked"]
    assert {record.origin for record in study.records[4:]} == {"asked"}
    alone = FakeEvaluate()
    study, _ = run_loop(tmp_path / "t", fake_recipe(sampler, trials=2), alone, replace(starting, baseline=None))
    assert [request.design for request in alone.requests] == [baseline, distilled], "nobody to learn from at first"


def test_the_baseline_is_a_finalist_on_the_front_or_not(tmp_path: Path) -> None:
    records = [make_record(0, 0.9, 0.3, origin="baseline"), make_record(1, 0.95, 0.1), make_record(2, 0.9, 0.05)]
    assert [record.number for record in finalists(write_study(tmp_path / "a", records))] == [2, 1, 0]
    assert [record.number for record in finalists(write_study(tmp_path / "b", records[:1]))] == [0]
    assert [record.number for record in finalists(write_study(tmp_path / "c", records[1:]))] == [2, 1]


def test_minutes_end_a_search(tmp_path: Path) -> None:
    recipe = fake_recipe().model_copy(
        update={"budget": fake_recipe().budget.model_copy(update={"trials": None, "minutes": 0.005})}
    )
    study, ended = run_loop(tmp_path / "s", recipe, FakeEvaluate())
    assert "0.005 minutes" in ended.why
    assert study.records


def test_failures_are_kept_with_their_reason_and_end_nothing(tmp_path: Path) -> None:
    study, _ = run_loop(tmp_path / "s", fake_recipe("random", trials=60), FakeEvaluate())
    failed = [record for record in study.records if record.outcome is Outcome.FAILED]
    infeasible = [record for record in study.records if record.outcome is Outcome.INFEASIBLE]
    assert failed[0].reason == Reason("diverged", "the loss is nan")
    assert infeasible[0].reason == Reason("shape", "shrinks to nothing")


def test_a_transient_failure_is_tried_again(tmp_path: Path) -> None:
    class Flaky(FakeEvaluate):
        def __call__(self, request, progress):  # type: ignore[no-untyped-def]
            result = super().__call__(request, progress)
            if len(self.requests) == 1:
                from nas.evaluate import EvalResult

                return EvalResult(Outcome.FAILED, Reason("disk", "no space left", transient=True))
            return result

    space = SearchSpace("one", "convnet", "", (Choice("stem.width", "architecture", (8, 16)), make_space().choices[2]))
    study, _ = run_loop(tmp_path / "s", fake_recipe("random", trials=12, workers={"attempts": 1}), Flaky(), space)
    first = study.records[0]
    assert first.outcome is Outcome.FAILED
    assert any(r.outcome is Outcome.MEASURED and r.design.digest == first.design.digest for r in study.records)


@pytest.mark.parametrize(("failures", "origins"), [(1, 2), (2, 3), (9, 3)])
def test_a_baseline_that_a_killed_process_ended_is_tried_again(tmp_path: Path, failures: int, origins: int) -> None:
    space = make_space()
    baseline = space.design({**{choice.name: choice.values[-1] for choice in space.choices}, "distillation": False})

    class Killed(FakeEvaluate):
        def __call__(self, request: EvalRequest, progress: Progress | None) -> EvalResult:
            result = super().__call__(request, progress)
            if len(self.requests) <= failures:
                return EvalResult(Outcome.FAILED, Reason("measuring", "died (SIGKILL)", transient=True))
            return replace(result, outcome=Outcome.MEASURED)

    recipe = fake_recipe("random", trials=6, workers={"attempts": 1})
    study, _ = run_loop(tmp_path / "s", recipe, Killed(), replace(space, baseline=baseline))
    tried = [record for record in study.records if record.origin == "baseline"]
    assert [record.number for record in tried] == list(range(origins))
    assert {record.design.digest for record in tried} == {baseline.digest}
    measured = baseline_of(study)
    assert (measured.number if measured else None) == (failures if failures < TRIED else None)


def test_the_folder_holds_no_half_written_file(tmp_path: Path) -> None:
    study, _ = run_loop(tmp_path / "s", fake_recipe(), FakeEvaluate())
    assert not list(study.folder.path.rglob("*.part"))
    for path in study.folder.trials.iterdir():
        json.loads(path.read_text())
