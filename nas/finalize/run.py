"""``nas finalize`` without its command line: claims the folder, trains what is missing, times all in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nas import data
from nas.data.dataset import Dataset
from nas.errors import StudyError
from nas.finalize.plan import Asked, Plan, expected_seconds, most_telling, plan_for
from nas.finalize.training import Trainer
from nas.finalize.view import FullBudgetStudy
from nas.finalized import (
    Finalized,
    Ranking,
    Run,
    Timed,
    artifact_store,
    history_path,
    rankings,
    read_histories,
    read_history,
    write_history,
)
from nas.gains import files_that_stay
from nas.measure.measurer import Measurer
from nas.record import TrialRecord
from nas.remeasure import time_front
from nas.study import Study
from nas.wording import percent, plural

# Hears what is being done, and which share of all of it is done, 0 to 1.
Progress = Callable[[str, float], None]

# Of a run the training's share for the progress bar, and of all the turns'.
TRAINING_SHARE, TURNS_SHARE = 0.8, 0.05

# The failure that the design and the seed alone are the cause of: trying again would cost as much and end alike.
DIVERGED = "diverged"


@dataclass(frozen=True)
class Finished:
    """What came of it.

    Args:
        study: The designs at full budget, seen as a study.
        plan: What was done.
        searched: The accuracies that the search found, by trial.
        known: All designs that were ever trained for so long, these and others: the ranking is judged by all.
        dataset: The study's data.
        missing: What could not be done, in words; the same command tries again.
    """

    study: FullBudgetStudy
    plan: Plan
    searched: Mapping[int, float]
    known: tuple[Finalized, ...]
    dataset: Dataset
    missing: tuple[str, ...]

    @property
    def designs(self) -> tuple[Finalized, ...]:
        return self.study.designs

    @property
    def rankings(self) -> tuple[Ranking, Ranking]:
        """How reliable the search's ranking was, on validation and on test data."""
        return rankings(self.searched, self.known)


def finalize(
    path: Path, asked: Asked, note: Callable[[str], None], progress: Progress, measurer: Measurer | None = None
) -> Finished:
    """Trains designs of a study again at full budget, and keeps in its folder what came of each run as it ends.

    Runs that are there already (of the same trial, seed and budget) are not done again.

    Args:
        path: The study's folder.
        asked: What to train.
        note: Hears what a person should know.
        progress: Hears how far it has come.
        measurer: Measures latencies; one of its own by default, which ends with the call.

    Raises:
        NasError: There is no such study or trial, what it learned from changed, another process is at work there, or
            not one run could be measured.
    """
    if measurer is None:
        with Measurer() as own:
            return finalize(path, asked, note, progress, own)
    before = Study.open(path)
    plan_for(before, asked)  # refuses before anything is made or loaded
    with before.folder.claim():
        study = Study.open(path)
        plan = plan_for(study, asked)
        _check_designs(study, plan)
        dataset = data.load(study.recipe.data)
        trainer = Trainer.of(study, plan, dataset, measurer)
        missing = _train_all(study, plan, trainer, note, progress)
        view = FullBudgetStudy(study, _done(study, plan, missing))
        if _needs_turns(view, trainer.here):
            _take_turns(view, measurer, dataset, progress)
            view = FullBudgetStudy(study, _done(study, plan, missing))
        _forget_unused(study)
    searched = {record.number: record.value("accuracy") for record in study.measured}
    return Finished(view, plan, searched, _known(study, plan), dataset, tuple(missing))


def _check_designs(study: Study, plan: Plan) -> None:
    """Makes sure that what is kept under a trial's number is of that trial's design."""
    for record in plan.records:
        history = read_history(study.folder.path, record.number)
        if history.runs and history.runs[0].record.design.digest != record.design.digest:
            kept = history_path(study.folder.path, record.number)
            raise StudyError(
                f"{kept} is of another design than trial {record.number} has",
                "it belongs to an earlier search in this folder: move it away",
            )


def _train_all(
    study: Study, plan: Plan, trainer: Trainer, note: Callable[[str], None], progress: Progress
) -> list[str]:
    """Does what is missing, all designs from one seed before the next seed; says what could not be done."""
    path = study.folder.path
    pairs = _pairs(study, plan)
    todo = [(s, r) for s, r in pairs if not trainer.is_done(read_history(path, r.number).run(plan.budget, s))]
    there = len(pairs) - len(todo)
    note(_summary(study, plan, trainer, there, len(todo)))
    keep = files_that_stay(study)
    missing: list[str] = []
    for index, (seed, record) in enumerate(todo):
        label = f"trial {record.number}, seed {seed}"
        run = trainer.run(record, seed, _within(progress, label, index, len(todo)))
        if not run.measured and run.record.reason is not None:
            missing.append(f"{label}: {run.record.reason.message}")
        if run.measured or (run.record.reason is not None and run.record.reason.kind == DIVERGED):
            write_history(path, read_history(path, record.number).with_run(run))
        study.store.evict(keep)
        note(f"  {index + 1} of {len(todo)}: {label}: {_run_words(record, run)}")
    done_before = ((s, r, read_history(path, r.number).run(plan.budget, s)) for s, r in pairs if (s, r) not in todo)
    missing += [
        f"trial {r.number}, seed {s}: {kept.record.reason.message}"
        for s, r, kept in done_before
        if kept is not None and kept.record.reason is not None
    ]
    return missing


def _pairs(study: Study, plan: Plan) -> list[tuple[int, TrialRecord]]:
    """Seeds and designs, the most telling first: those of the plan, and seeds that a design was trained from before.

    What was measured of these elsewhere is measured here too, else the best of them could not be timed beside others.
    """
    histories = {record.number: read_history(study.folder.path, record.number) for record in plan.records}
    there = {number: {run.seed for run in h.runs if run.budget == plan.budget} for number, h in histories.items()}
    others = sorted(set().union(*there.values()) - set(plan.seeds))
    pairs = [(seed, record) for seed in (*plan.seeds, *others) for record in most_telling(study, plan.records)]
    return [(seed, record) for seed, record in pairs if seed in plan.seeds or seed in there[record.number]]


def _summary(study: Study, plan: Plan, trainer: Trainer, there: int, todo: int) -> str:
    said = f"{study.name}: {plan.words(study.recipe)}"
    if there:
        said += f"; {there} of {there + todo} runs are there already"
    if todo:
        minutes = expected_seconds(study, plan) * todo / (there + todo) / 60
        said += f"; about {plural(max(1, round(minutes)), 'minute')} where this machine is as fast as the search's was"
    if not trainer.trains_from_scratch:
        said += "\nthe network comes with its weights: only what follows its compression is trained"
    return said


def _run_words(searched: TrialRecord, run: Run) -> str:
    if not run.measured:
        return f"{run.record.outcome}: {run.record.reason.message if run.record.reason else 'no reason given'}"
    test = next(quantity for quantity in run.test if quantity.name == "test_accuracy")
    return (
        f"{percent(run.record.value('accuracy'))} % on validation data (the search's "
        f"{percent(searched.value('accuracy'))} %), {percent(test.value)} % on test data"
    )


def _within(progress: Progress, label: str, index: int, count: int) -> Progress:
    """What hears of the stages of one run, and tells the share of all; it never goes back."""
    furthest = 0.0

    def hear(stage: str, share: float) -> None:
        nonlocal furthest
        done = TRAINING_SHARE * share if stage == "train" else TRAINING_SHARE + (1 - TRAINING_SHARE) * share / 2
        furthest = max(furthest, done if stage != "teacher" else 0.0)
        progress(f"{label}: {stage}", (1 - TURNS_SHARE) * (index + furthest) / count)

    return hear


def _done(study: Study, plan: Plan, missing: list[str]) -> list[Finalized]:
    """The designs of which something was measured at the plan's budget.

    Raises:
        StudyError: There is none.
    """
    found = [read_history(study.folder.path, record.number).at(plan.budget) for record in plan.records]
    done = [design for design in found if design is not None]
    if not done:
        raise StudyError(f"not one run could be measured: {missing[0] if missing else 'no reason given'}")
    return done


def _known(study: Study, plan: Plan) -> tuple[Finalized, ...]:
    """Every design of the study that was trained at the plan's budget."""
    designs = {record.number: record.design.digest for record in study.measured}
    found = [history.at(plan.budget) for history in read_histories(study.folder.path).values()]
    return tuple(done for done in found if done is not None and designs.get(done.trial) == done.design.digest)


def _needs_turns(view: FullBudgetStudy, here: Mapping[str, str]) -> bool:
    """Whether the designs' files were not timed with each other yet, on this machine and undisturbed."""
    if not any(quantity.name == "latency_ms" for record in view.records for quantity in record.quantities):
        return False
    timed = [done.timed for done in view.designs]
    if any(t is None or t.artifact_sha256 != r.artifact_sha256 for t, r in zip(timed, view.records, strict=True)):
        return True
    latencies = [quantity for t in timed if t is not None for quantity in t.quantities]
    elsewhere = any(here.get(str(q.target), q.environment_id) != q.environment_id for q in latencies)
    disturbed = any(q.detail.get("unstable") for q in latencies)
    return elsewhere or disturbed or len({t.time for t in timed if t is not None}) > 1


def _take_turns(view: FullBudgetStudy, measurer: Measurer, dataset: Dataset, progress: Progress) -> None:
    """Times the files to ship in turns, and keeps the latencies with the designs."""
    start = 1 - TURNS_SHARE
    measured = time_front(
        view, measurer, dataset.validation.images, lambda share: progress("in turns", start + TURNS_SHARE * share)
    )
    if measured is None:
        return
    path = view.searched.folder.path
    for record in view.records:
        if record.artifact_sha256 is not None and record.number in measured.quantities:
            timed = Timed(record.artifact_sha256, measured.time, measured.quantities[record.number])
            write_history(path, replace(read_history(path, record.number), timed=timed))


def _forget_unused(study: Study) -> None:
    """Deletes artifacts that no run holds any more."""
    path = study.folder.path
    runs = [run for history in read_histories(path).values() for run in history.runs]
    files = (sha for run in runs for sha in (run.record.artifact_sha256, *run.record.forms.values()))
    artifact_store(path, 0).evict({sha for sha in files if sha is not None})
