"""The study loop: ask, evaluate, record, tell; until the budget is spent or every design has been seen.

One thread owns the study, the sampler and the guide; evaluations run wherever the executor has them, several at once.
A record is on the disk before the sampler hears of its trial, so a process that dies loses at most the trials under
way, and the next start takes them up again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from nas.design import Design
from nas.errors import StudyError
from nas.evaluate import DISK_FULL, EvalRequest, EvalResult
from nas.gains import finalists
from nas.lease import working
from nas.lineage import start_of
from nas.outcome import Outcome
from nas.pipeline import AnyTeacher, Teacher
from nas.recipe import Recipe
from nas.record import StageResult, TrialRecord, utc_now, write_record
from nas.search.asking import Asking, given_up, settled, worth_another_try
from nas.search.evaluation import Evaluation, Steps
from nas.search.guide import Guide
from nas.search.optuna_bridge import Asked, Bridge
from nas.search.plan import flat_since
from nas.search.samplers import SamplerHints
from nas.search.stopping import Stopping
from nas.search.writing import writing
from nas.space import SearchSpace
from nas.study import Study, StudyFolder, read_trials
from nas.teacher.given import GivenTeacher
from nas.wording import plural
from nas.workers.executor import Done, Executor, Lost


class Watcher(Protocol):
    """Whoever watches a search: the terminal, a test."""

    def note(self, text: str) -> None:
        """Something a person should know before the search starts."""

    def began(self, study: Study) -> None:
        """The search starts, perhaps from records that are there already."""

    def asked(self, number: int, design: Design) -> None:
        """A trial starts; several may run at once."""

    def progress(self, stage: str, share: float, number: int | None = None) -> None:
        """A stage of a trial has come so far, 0 to 1; without a number it is work for the search as a whole."""

    def told(self, record: TrialRecord, study: Study) -> None:
        """A trial ended."""


@dataclass(frozen=True)
class Ended:
    """Why a search came to its end, in words."""

    why: str


@dataclass
class _Trial:
    """A trial under way.

    Args:
        record: Without what is found yet.
        steps: What it still has to go through.
        request: The evaluation that runs.
        tell: Whether the sampler is to hear of it.
        attempt: Which one of that evaluation, from 1.
        attempts: Of all its evaluations, the most.
        peak: The most memory that one of them took, in bytes; None where that is not known.
    """

    record: TrialRecord
    steps: Steps
    request: EvalRequest
    tell: bool
    attempt: int = 1
    attempts: int = 1
    peak: int | None = None


class Loop:
    """One search in one folder; the caller has claimed it.

    Args:
        folder: The study's folder.
        recipe: What is searched, and the budget.
        space: Where designs come from.
        executor: Evaluates designs, never raising for what a design did; it is closed at the end.
        environment: The machine and its software, kept with each record.
        watcher: Hears of every trial.
        given: The teacher that the recipe names, if any; else distilled designs learn from the study's own best.
        starts: Designs to try first, after the space's own, with their origins.
        guide: Weighs what comes next and gives up what is not worth it; without, each design that the sampler proposes
            is evaluated to the end.
        charged: Work done before the first trial, such as the training of a supernet: the first record carries it.
        stopping: Says whether a person wants it to end.
        clock: Tells the seconds.
    """

    def __init__(
        self,
        folder: StudyFolder,
        recipe: Recipe,
        space: SearchSpace,
        executor: Executor[EvalRequest, EvalResult],
        environment: dict[str, Any],
        watcher: Watcher,
        given: GivenTeacher | None = None,
        starts: Sequence[tuple[Design, str]] = (),
        guide: Guide | None = None,
        charged: StageResult | None = None,
        stopping: Stopping | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.space = space
        self.executor = executor
        self.environment = environment
        self.watcher = watcher
        self.guide = guide
        self.records: list[TrialRecord] = read_trials(folder, recipe)
        self.charged = None if any(_carries(record, charged) for record in self.records) else charged
        self.bridge = Bridge(folder.storage, recipe, space, self._hints)
        self.asking = Asking(self.bridge, recipe, space, starts, guide, given)
        self.evaluation = Evaluation(folder, guide)
        self.stopping = stopping or Stopping()
        self.clock = clock
        self.trial_ended = clock()
        self.under_way: dict[int, _Trial] = {}
        self.waiting: deque[tuple[Asked, bool]] = deque()

    def run(self) -> Ended:
        """Searches until budget or space is exhausted.

        Raises:
            KeyboardInterrupt: A person stopped it; what was finished is kept.
            StudyError: The disk is full, or the folder cannot be written: what was finished is kept there too.
        """
        with closing(self.executor), writing(self.folder.path), self.stopping.once_trials_run():
            self._reconcile()
            self.watcher.began(self._study())
            known = {record.number for record in self.records}
            self.waiting.extend((asked, False) for asked in self.bridge.told_without_record(known))
            self.waiting.extend((self.bridge.resume(number), True) for number in self.bridge.running())
            while True:
                ended = self._fill()
                if not self.under_way:
                    if self.stopping.asked:
                        raise KeyboardInterrupt
                    if ended is not None:
                        return ended
                else:
                    self._advance(self.executor.wait(self._progress))

    def _fill(self) -> Ended | None:
        """Starts trials as long as there are slots and a budget; says why there are no more."""
        while len(self.under_way) < self.executor.slots and not self.stopping.asked:
            # What was asked before comes first, but for what another trial is finding out at this moment.
            position = next((at for at, (asked, _) in enumerate(self.waiting) if not self._twin(asked)), None)
            if position is not None:
                asked, tell = self.waiting[position]
                del self.waiting[position]
                self._start(asked, tell)
                continue
            if len(self.waiting) >= self.executor.slots:
                return None
            if (ended := self._ended()) is not None:
                return ended
            with working():  # nothing of ours computes while a worker measures
                asked = self.asking.next(self.records, [trial.record.design for trial in self.under_way.values()])
            self.waiting.append((asked, True))
        return None

    def _twin(self, asked: Asked) -> bool:
        """Whether a trial of the same design is under way."""
        return any(trial.record.design.digest == asked.design.digest for trial in self.under_way.values())

    def _hints(self) -> SamplerHints:
        """What the sampler may know beside what it is told."""
        return self.guide.hints(self.records, self.bridge.parameters) if self.guide is not None else SamplerHints()

    def _study(self) -> Study:
        return Study(self.folder, self.recipe, list(self.records))

    def _reconcile(self) -> None:
        """Brings the sampler's memory in line with the records: adds what it lost, tells what it has not heard."""
        self.bridge.rebuild(self.records)
        known = {record.number: record for record in self.records}
        for number in self.bridge.running():
            if number in known:
                self.bridge.resume(number)
                self._tell(known[number])

    def _ended(self) -> Ended | None:
        """Why no further trial is started; None where one is. Trials under way count as whole ones."""
        budget, study = self.recipe.budget, self._study()
        if budget.trials is not None and study.spent + len(self.under_way) + len(self.waiting) >= budget.trials:
            return Ended(f"the budget of {plural(budget.trials, 'trial')} is spent")
        if budget.minutes is not None:
            left = 60 * budget.minutes - study.seconds - (self.clock() - self.trial_ended)
            if left <= 0 or left < 0.5 * self.executor.slots * _median_seconds(study.counted):
                return Ended(f"the budget of {budget.minutes:g} minutes is spent")
        designs = {trial.record.design.digest for trial in self.under_way.values()}
        if len(settled(self.records) | designs) >= self.space.size():
            return Ended(f"every design of the search space was evaluated: {self.space.size():,}")
        if budget.patience_minutes is not None:
            flat = flat_since(study.records, self.recipe)
            if flat >= 60 * budget.patience_minutes:
                return Ended(f"the hypervolume has been flat for {budget.patience_minutes:g} minutes")
        return None

    def _start(self, asked: Asked, tell: bool) -> None:
        """Starts the trial of what was asked, or ends it at once where it needs no evaluation.

        Args:
            asked: The design and its number.
            tell: Whether the sampler is to hear of it; it has heard of a trial whose record was lost. That is evaluated
                by what was known when it was asked.
        """

        def known() -> list[TrialRecord]:
            return self.records if tell else [record for record in self.records if record.number < asked.number]

        design = asked.design
        teacher = self.asking.teacher(known()) if design.step("distillation") else None
        record = TrialRecord(
            asked.number, asked.origin, design, Outcome.DUPLICATE, self.recipe.seed,
            parent=asked.parent,
            teacher=_digest(teacher),
            teacher_trial=teacher.trial if isinstance(teacher, Teacher) else None,
            environment=self.environment, started_at=utc_now(),
        )  # fmt: skip
        if (original := self._original(record)) is not None:
            self._finish(replace(record, duplicate_of=original.number), tell)
            return
        self.watcher.asked(asked.number, design)
        inherits = None
        if self.guide is not None:
            record = replace(record, inherits=self.guide.label(known(), record))
            inherits = start_of(record, known(), self.guide.shared)
        request = EvalRequest(asked.number, design, self.recipe.seed, teacher, inherits=inherits)
        steps = self.evaluation.steps(record, request, known)
        trial = self.under_way[asked.number] = _Trial(record, steps, request, tell)
        self._next_step(trial, None)

    def _next_step(self, trial: _Trial, result: EvalResult | None) -> None:
        """Hands what came of an evaluation to its trial, and starts the next one that it wants, or ends it."""
        number = trial.record.number
        try:
            with working():  # surrogates may have to be fitted
                trial.request = trial.steps.send(result) if result is not None else next(trial.steps)
        except StopIteration as stop:
            del self.under_way[number]
            self._finish(replace(stop.value, attempts=trial.attempts, peak_memory_bytes=trial.peak), trial.tell)
        else:
            trial.attempt = 1
            self.executor.submit(number, trial.request)

    def _advance(self, ended: Done[EvalResult] | Lost) -> None:
        """Goes on with the trial of which an evaluation ended; tries again what failed for a cause that may be gone.

        Raises:
            StudyError: The disk is full, so that the trial is for the next start.
        """
        trial = self.under_way[ended.job]
        match ended:
            case Lost(reason=reason):
                result = EvalResult(Outcome.FAILED, reason)
            case Done(result=result, peak_memory_bytes=peak):
                trial.peak = max((known for known in (trial.peak, peak) if known is not None), default=None)
        if result.reason is not None and result.reason.kind == DISK_FULL:
            raise StudyError(result.reason.message, "make room; the same command goes on")
        again = result.reason is not None and result.reason.transient
        if again and trial.attempt < self.recipe.workers.attempts:
            trial.attempt += 1
            trial.attempts = max(trial.attempts, trial.attempt)
            self.executor.submit(ended.job, trial.request)
        else:
            self._next_step(trial, result)

    def _progress(self, job: int, stage: str, share: float) -> None:
        self.watcher.progress(stage, share, job)

    def _finish(self, record: TrialRecord, tell: bool) -> None:
        """Keeps the record of a trial that ended, and tells the sampler unless it has heard."""
        # From the end of the trial before, so that the trials' seconds add up to the search's: asking counts too.
        now = self.clock()
        record = replace(record, seconds=now - self.trial_ended)
        self.trial_ended = now
        if self.charged is not None:
            seconds = record.seconds + self.charged.seconds
            record = replace(record, stages=(self.charged, *record.stages), seconds=seconds)
            self.charged = None
        write_record(self.folder.trials, record)
        self.records = sorted([*self.records, record], key=lambda record: record.number)
        if tell:
            self._tell(record)
        study = self._study()
        self._trim_cache(study)
        self.watcher.told(record, study)

    def _original(self, asked: TrialRecord) -> TrialRecord | None:
        """The trial that evaluated the same design (with the same teacher) before.

        A transient failure is none, nor is one that was screened out; one that was stopped is, unless it is to go on.
        """
        unsettled = [Outcome.DUPLICATE, Outcome.SCREENED]
        if asked.origin in ("promotion", "unseen"):
            unsettled.append(Outcome.STOPPED)
        for record in self.records:
            same = record.design.digest == asked.design.digest and record.teacher == asked.teacher
            if same and record.outcome not in unsettled and not worth_another_try(record):
                return record
        if asked.design.digest in given_up(self.records):
            return next(r for r in reversed(self.records) if r.design.digest == asked.design.digest and r.reason)
        return None

    def _tell(self, record: TrialRecord) -> None:
        original = None
        if record.duplicate_of is not None:
            original = next(other for other in self.records if other.number == record.duplicate_of)
        self.bridge.tell(record, original)

    def _trim_cache(self, study: Study) -> None:
        """Keeps the cache within its limit; the artifacts of front and baseline always stay."""
        kept = [sha for record in finalists(study) for sha in (record.artifact_sha256, *record.forms.values())]
        study.store.evict({sha for sha in kept if sha})


def _carries(record: TrialRecord, charged: StageResult | None) -> bool:
    return charged is not None and any(stage.stage == charged.stage for stage in record.stages)


def _digest(teacher: AnyTeacher | None) -> str | None:
    """What a record keeps of a teacher: its architecture's digest, or that of its file."""
    if isinstance(teacher, Teacher):
        return teacher.design.architecture_digest
    return teacher.sha256 if teacher is not None else None


def _median_seconds(records: Sequence[TrialRecord]) -> float:
    return float(np.median([record.seconds for record in records])) if records else 0.0
