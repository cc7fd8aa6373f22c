"""``nas finalize`` on a small study: what it keeps, says and ships, what it does not do again, how it fails."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import LATENCY
from finalize_fakes import SizeMeasurer, small_recipe, small_study

from nas import cli, data
from nas.deploy import load_deployment
from nas.errors import StudyError
from nas.evaluate import EvalResult, Evaluator
from nas.finalize.plan import Asked, plan_for
from nas.finalize.run import Finished, finalize
from nas.finalize.training import Trainer
from nas.finalized import History, Run, read_finalized, read_history, write_history
from nas.outcome import Outcome, Reason
from nas.store import Store, artifact_entry
from nas.study import Study, StudyFolder

ASKED = Asked(epochs=3, finetune_epochs=2, seeds=2)


class Heard:
    """What a final training said, and which share was done when."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.shares: list[tuple[str, float]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, what: str, share: float) -> None:
        self.shares.append((what, share))


def finalized(path: Path, asked: Asked = ASKED, heard: Heard | None = None, machine: str = "a") -> Finished:
    heard = heard or Heard()
    with SizeMeasurer(machine) as measurer:
        return finalize(path, asked, heard.note, heard.progress, measurer)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Trial and seed of every evaluation."""
    log: list[tuple[int, int]] = []
    original = Evaluator.evaluate

    def evaluate(self: Evaluator, request: Any, progress: Any = None) -> EvalResult:
        log.append((request.number, request.seed))
        return original(self, request, progress)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    return log


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard, dict[Path, bytes]]:
    """A study whose front was trained again, what was said, and its files before."""
    path = small_study(tmp_path_factory.mktemp("studies") / "tiny").folder.path
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    heard = Heard()
    finalized(path, heard=heard)
    return path, heard, before


@pytest.fixture
def study(done: tuple[Path, Heard, dict[Path, bytes]], tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(done[0], tmp_path / "tiny"))


# --- what is done ----------------------------------------------------------------------------------------------------


def test_each_design_is_trained_from_each_seed_and_measured(done: tuple[Path, Heard, dict[Path, bytes]]) -> None:
    path, heard, before = done
    found = read_finalized(path)
    assert sorted(found) == [0, 1, 2]
    for trial, design in found.items():
        assert [run.seed for run in design.measured] == [4, 5], "not the search's 3"
        assert (design.budget.epochs, design.budget.finetune_epochs) == (3, 2)
        for run in design.runs:
            assert run.record.design == Study.open(path).record(trial).design
            train = next(stage for stage in run.record.stages if stage.stage == "train")
            assert len(train.detail["curve"]) == 3
            content = Store(path / "finalized" / "cache", 0).read_blob(run.record.artifact_sha256)
            assert content is not None
            assert len(content) == run.record.value("size_bytes")
            assert {q.name for q in run.test} == {"test_accuracy", "test_balanced_accuracy"}
            samples = run.record.quantity(LATENCY).samples_ref
            assert (path / "finalized" / samples).is_file()
        assert design.record.quantity(LATENCY).detail["in_turns"]
    assert all(file.read_bytes() == content for file, content in before.items()), "the search's own files stay"
    assert [note.split(":")[0].strip() for note in heard.notes[1:]] == [f"{number} of 6" for number in range(1, 7)]
    shares = [share for _, share in heard.shares]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_seeds_give_different_networks_and_one_seed_the_same(study: Path, tmp_path: Path) -> None:
    first, second = read_finalized(study)[0].runs
    assert first.record.artifact_sha256 != second.record.artifact_sha256
    other = small_study(tmp_path / "other").folder.path
    again = finalized(other, replace(ASKED, trials=(0,), seeds=1)).designs[0].best
    assert again.record.artifact_sha256 == first.record.artifact_sha256


def test_the_teacher_is_trained_as_long_from_the_same_seed(study: Path) -> None:
    opened = Study.open(study)
    plan = plan_for(opened, ASKED)
    with SizeMeasurer() as measurer:
        pipeline = Trainer.of(opened, plan, data.load(opened.recipe.data), measurer).evaluator.pipeline
    keys = [pipeline.train_key(opened.record(0).design, seed) for seed in plan.seeds]
    entries = [opened.store.get(key) for key in keys]
    assert all(entry is not None and len(entry.detail["curve"]) == 3 for entry in entries)
    student = read_finalized(study)[2]
    assert student.best.record.teacher_trial == 0
    assert "distillation" in student.best.record.labels


def test_a_distilled_design_alone_trains_its_teacher_first(tmp_path: Path) -> None:
    path = small_study(tmp_path / "tiny").folder.path
    asked = replace(ASKED, trials=(2,), seeds=1)
    finalized(path, asked)
    opened = Study.open(path)
    plan = plan_for(opened, asked)
    with SizeMeasurer() as measurer:
        pipeline = Trainer.of(opened, plan, data.load(opened.recipe.data), measurer).evaluator.pipeline
    assert opened.store.get(pipeline.train_key(opened.record(0).design, plan.seeds[0])) is not None


def test_a_given_teacher_teaches(study: Path, tmp_path: Path) -> None:
    """The artifact of the first study's large design teaches the second's student."""
    best = read_finalized(study)[0].best.record
    teacher = tmp_path / "teacher.onnx"
    teacher.write_bytes(Store(study / "finalized" / "cache", 0).read_blob(str(best.artifact_sha256)) or b"")
    path = small_study(tmp_path / "taught", small_recipe(teacher={"path": str(teacher)})).folder.path
    record_path = path / "trials" / "00002.json"
    record_path.write_text(json.dumps(json.loads(record_path.read_text()) | {"teacher_trial": None}))
    given = finalized(path, replace(ASKED, trials=(2,), seeds=1)).designs[0].best.record
    assert given.outcome is Outcome.MEASURED
    teaching = next(stage for stage in given.stages if stage.stage == "teacher")
    assert teaching.detail == {"file": "teacher.onnx"}


# --- what is not done again ------------------------------------------------------------------------------------------


def test_what_is_there_is_not_done_again(study: Path, evaluated: list[tuple[int, int]]) -> None:
    before = {path: path.read_bytes() for path in (study / "finalized").rglob("*") if path.is_file()}
    heard = Heard()
    finished = finalized(study, heard=heard)
    assert evaluated == []
    assert len(finished.designs) == 3
    assert "6 of 6 runs are there already" in heard.notes[0]
    assert {path: path.read_bytes() for path in (study / "finalized").rglob("*") if path.is_file()} == before


def test_more_seeds_and_other_budgets_add_to_what_is_there(study: Path, evaluated: list[tuple[int, int]]) -> None:
    more = finalized(study, replace(ASKED, trials=(1,), seeds=3)).designs[0]
    assert evaluated == [(1, 6)]
    assert len(more.measured) == 3
    other = finalized(study, replace(ASKED, trials=(1,), epochs=4, seeds=1)).designs[0]
    assert evaluated == [(1, 6), (1, 4)]
    assert len(other.measured) == 1
    assert len(read_history(study, 1).runs) == 4
    assert read_finalized(study)[1].budget.epochs == 3, "of which there are several seeds"


@pytest.mark.parametrize("finished_before", [0, 1, 4])
def test_ctrl_c_loses_nothing_that_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_before: int
) -> None:
    path = small_study(tmp_path / "tiny").folder.path
    original, log = Evaluator.evaluate, []

    def evaluate(self: Evaluator, request: Any, progress: Any = None) -> EvalResult:
        if len(log) == finished_before and not any(entry == "stopped" for entry in log):
            log.append("stopped")
            raise KeyboardInterrupt
        log.append((request.number, request.seed))
        return original(self, request, progress)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        finalized(path)
    kept = [(r.record.number, r.seed) for trial in (0, 1, 2) for r in read_history(path, trial).runs]
    assert sorted(kept) == sorted(log[:finished_before])
    finished = finalized(path)
    runs = [entry for entry in log if entry != "stopped"]
    assert len(runs) == len(set(runs)) == 6
    assert all(len(design.measured) == 2 for design in finished.designs)


def test_a_lost_artifact_and_another_machine_are_measured_again(study: Path, evaluated: list[tuple[int, int]]) -> None:
    run = read_finalized(study)[1].runs[0]
    (study / "finalized" / "cache" / "blobs" / str(run.record.artifact_sha256)).unlink()
    finalized(study)
    assert evaluated == [(1, run.seed)]
    evaluated.clear()
    finished = finalized(study, replace(ASKED, trials=(0,), seeds=1), machine="b")
    assert evaluated == [(0, 4), (0, 5)], "the other seed too, which may be the best"
    assert finished.designs[0].record.quantity(LATENCY).environment_id == "b-onnxruntime"


def test_latencies_are_taken_in_turns_again_where_one_is_new(study: Path) -> None:
    times = {done.timed.time for done in read_finalized(study).values() if done.timed is not None}
    assert len(times) == 1
    measurer = SizeMeasurer()
    heard = Heard()
    with measurer:
        finalize(study, ASKED, heard.note, heard.progress, measurer)
    assert not [entry for entry in measurer.log if entry[0] == "turns"]
    history = read_history(study, 0)
    write_history(study, replace(history, timed=None))
    with measurer:
        finalize(study, ASKED, heard.note, heard.progress, measurer)
    assert [len(entry[1]) for entry in measurer.log if entry[0] == "turns"] == [3] * 4


def test_artifacts_that_no_run_holds_any_more_go(study: Path) -> None:
    store = Store(study / "finalized" / "cache", 10**9)
    stray = store.put(artifact_entry(0), b"of nobody", {}).sha256
    finalized(study)
    assert store.read_blob(stray) is None
    assert all(
        store.read_blob(str(run.record.artifact_sha256)) for done in read_finalized(study).values() for run in done.runs
    )


# --- what fails ------------------------------------------------------------------------------------------------------


def fail(kind: str, transient: bool, times: int = 99) -> Callable[..., EvalResult]:
    """Evaluations of trial 1 that fail so many times, then work."""
    original, left = Evaluator.evaluate, [times]

    def evaluate(self: Evaluator, request: Any, progress: Any = None) -> EvalResult:
        if request.number == 1 and left[0] > 0:
            left[0] -= 1
            return EvalResult(Outcome.FAILED, Reason(kind, "it went wrong", transient))
        return original(self, request, progress)

    return evaluate


def test_what_failed_is_said_and_tried_again_unless_it_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_study(tmp_path / "tiny").folder.path
    monkeypatch.setattr(Evaluator, "evaluate", fail("measuring", True, times=1))
    finished = finalized(path)
    assert finished.missing == ("trial 1, seed 4: it went wrong",)
    assert [len(done.measured) for done in finished.designs if done.trial == 1] == [1]
    assert finalized(path).missing == ()

    monkeypatch.setattr(Evaluator, "evaluate", fail("diverged", False))
    asked = replace(ASKED, trials=(0, 1), epochs=2)
    assert len(finalized(path, asked).missing) == 2
    assert len([run for run in read_history(path, 1).runs if not run.measured]) == 2
    monkeypatch.undo()
    again = finalized(path, asked)
    assert again.missing == ("trial 1, seed 4: it went wrong", "trial 1, seed 5: it went wrong")
    assert [done.trial for done in again.designs] == [0]


def test_where_all_failed_there_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_study(tmp_path / "tiny").folder.path
    monkeypatch.setattr(Evaluator, "evaluate", fail("diverged", False))
    with pytest.raises(StudyError, match="not one run could be measured: trial 1, seed 4: it went wrong"):
        finalized(path, replace(ASKED, trials=(1,)))


def test_data_that_changed_is_refused(study: Path) -> None:
    (study / "inputs.json").write_text(json.dumps({"data": "0" * 64}))
    with pytest.raises(StudyError, match=r"the data of .* changed since the study began"):
        finalized(study)


def test_results_of_another_search_in_the_folder_are_refused(study: Path) -> None:
    history = read_history(study, 0)
    other = Study.open(study).record(1).design
    runs = tuple(Run(run.budget, replace(run.record, design=other), run.test) for run in history.runs)
    write_history(study, History(0, runs))
    with pytest.raises(StudyError, match=r"trial-00000\.json is of another design than trial 0 has"):
        finalized(study)


def test_a_search_at_work_is_not_disturbed(study: Path) -> None:
    with StudyFolder(study).claim(), pytest.raises(StudyError, match="another search is at work"):
        finalized(study)


# --- the command -----------------------------------------------------------------------------------------------------


class Ran:
    """What a command printed and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the command line in this process, with made-up latencies."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("nas.finalize.run.Measurer", SizeMeasurer)

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nas", "finalize", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return call


BUDGET = ("--epochs", 3, "--finetune-epochs", 2, "--seeds", 2)


def test_it_prints_the_designs_the_ranking_and_what_to_type_next(run: Callable[..., Ran], study: Path) -> None:
    ran = run(study, *BUDGET)
    assert ran.code == 0, ran.err
    assert "3 designs × 2 seeds, 3 epochs each (the search's 1)" in ran.out
    for trial, searched in ((0, "70.00"), (1, "60.00"), (2, "50.00")):
        design = read_finalized(study)[trial]
        row = next(line for line in ran.out.splitlines() if line.startswith(f"    {trial}  "))
        numbers = re.findall(r"\d+\.\d+", row)
        assert numbers[0] == searched
        assert numbers[1] == f"{100 * design.accuracy.mean:.2f}"
        assert numbers[2] == f"{100 * design.accuracy.half_width:.2f}"
        assert numbers[3] == f"{100 * design.test_accuracy.mean:.2f}"
        assert row.endswith("2")
    assert re.search(r"Kendall's τ [−\d.]+ \([−\d.]+ to [−\d.]+\), Spearman's ρ", " ".join(ran.out.split()))
    table = ran.out[ran.out.index("Final training of tiny") : ran.out.index("kept in")]
    assert max(len(line) for line in table.splitlines()) <= 80
    command = re.search(rf"nas finalize {study} (--trial \d .*) --output deploy", ran.out)
    assert command is not None
    assert "--epochs 3 --finetune-epochs 2 --seeds 2" in command.group(1)


def test_two_designs_have_no_ranking_that_could_be_judged(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = small_study(tmp_path / "tiny").folder.path
    ran = run(path, "--trial", 0, "--trial", 1, "--seeds", 1)
    assert ran.code == 0, ran.err
    words = " ".join(ran.out.split())
    assert "cannot be said: it takes at least 3 designs at full budget, and there are 2." in words
    assert words.count("cannot be said") == 1
    assert "with one seed nothing is known of the chance in training" in words


def test_the_best_seed_is_deployed_and_checked(
    run: Callable[..., Ran], study: Path, tmp_path: Path, evaluated: list[tuple[int, int]]
) -> None:
    ran = run(study, "--trial", 1, *BUDGET, "--output", tmp_path / "deploy")
    assert ran.code == 0, ran.err
    assert evaluated == []
    assert "checked by reading it back with ONNX Runtime" in ran.out
    deployment = load_deployment(tmp_path / "deploy")
    design = read_finalized(study)[1]
    assert deployment.sha256 == design.best.record.artifact_sha256
    assert deployment.study == "tiny"
    assert deployment.trial == 1
    assert deployment.quantity("test_accuracy") == design.test_scores["test_accuracy"]
    assert deployment.quantity(LATENCY) == design.record.quantity(LATENCY)
    assert deployment.chosen.rule == "final training"
    assert "trained again for 3 epochs (the search's 1)" in deployment.chosen.why
    assert deployment.baseline is None, "the search's baseline had not as many epochs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trial", "99"], r"there is no trial 99 in .*\n +trials run from 0 to 2"),
        (["--trial", "1", "--all-front"], "--trial and --all-front were both given"),
        (["--output", "deploy"], r"--output writes one design, but the whole front would be trained"),
        (["--output", "deploy", "--trial", "0", "--trial", "1"], r"--output writes one design, but 2 trials"),
        (["--output", "{study}", "--trial", "0"], r"exists and is no deployment"),
        (["--epochs", "0"], r"--epochs"),
        (["--seeds", "0"], r"--seeds"),
    ],
)
def test_bad_input_is_one_clear_line_and_changes_nothing(
    run: Callable[..., Ran], study: Path, arguments: list[str], message: str
) -> None:
    before = sorted(study.rglob("*"))
    ran = run(study, *(argument.format(study=study) for argument in arguments))
    assert ran.code == 2
    assert re.search(message, ran.err), ran.err
    assert "Traceback" not in ran.err + ran.out
    assert sorted(study.rglob("*")) == before


def test_no_study_is_one_clear_line(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run(tmp_path / "nowhere")
    assert ran.code == 2
    assert "there is no study in" in ran.err
    assert not (tmp_path / "nowhere").exists()


def test_ctrl_c_says_how_to_go_on(run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_study(tmp_path / "tiny").folder.path

    def stopped(self: Evaluator, request: Any, progress: Any = None) -> EvalResult:
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluator, "evaluate", stopped)
    ran = run(path, "--trial", 1)
    assert ran.code == 130
    assert "Stopped. What was finished is kept" in ran.out
    assert f"nas finalize {path} --trial 1" in ran.out


def test_help_shows_examples(run: Callable[..., Ran]) -> None:
    ran = run("--help")
    assert ran.code == 0
    assert "nas finalize studies/digits --trial 19 --output deploy" in ran.out
