"""The study loop: ask, evaluate, record, tell; until the budget is spent or every design has been seen.

One thread owns the sampler and the guide; evaluations run wherever the executor has them, several at once. Who else
searches the same study is the ledger's to know. A record is on the disk before the sampler hears of its trial, so a
process that dies loses at most the trials under way, and the next start takes them up again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from nas.design import Design
from nas.errors import StudyError
from nas.evaluate import DEVICE_GONE, DISK_FULL, EvalRequest, EvalResult
from nas.gains import files_that_stay, finalists
from nas.lease import working
from nas.lineage import start_of
from nas.measurements import read_measurements, timed_in_turns
from nas.outcome import Outcome, Reason
from nas.pipeline import AnyTeacher, Teacher
from nas.recipe import Recipe
from nas.record import StageResult, TrialRecord, utc_now
from nas.search.asking import TRIED, Asking, worth_another_try
from nas.search.evaluation import Evaluation, Steps
from nas.search.flat import Flatness
from nas.search.guide import Guide
from nas.search.ledger import Ledger, LocalLedger
from nas.search.optuna_bridge import Asked, Bridge
from nas.search.samplers import SamplerHints
from nas.search.stopping import Stopping
from nas.search.writing import writing
from nas.space import SearchSpace
from nas.study import Standing, Study, StudyFolder, read_trials
from nas.teacher.given import GivenTeacher
from nas.wording import plural
from nas.workers.executor import Done, Executor, Lost

# Between two looks at what others have finished who search the same study.
REST_SECONDS = 1.0


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
    """Why a search came to its end.

    Args:
        why: In words.
        alone: Whether it holds whatever others find who search the same study.
    """

    why: str
    alone: bool = False


@dataclass
class _Trial:
    """A trial under way.

    Args:
        record: Without what is found yet.
        steps: What it still has to go through.
        request: The evaluation that runs.
        attempt: Which one of that evaluation, from 1.
        attempts: Of all its evaluations, the most.
        peak: The most memory that one of them took, in bytes; None where that is not known.
    """

    record: TrialRecord
    steps: Steps
    request: EvalRequest
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
        ledger: Opens the ledger of a study that several searchers share, given what a sampler may know beside what it
            is told; without, the folder's own.
        fetch: Brings an artifact that another searcher made into the folder, by its digest.
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
        ledger: Callable[[Callable[[], SamplerHints]], Ledger] | None = None,
        fetch: Callable[[str], object] = lambda sha256: None,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.space = space
        self.executor = executor
        self.environment = environment
        self.watcher = watcher
        self.guide = guide
        records = read_trials(folder, recipe)
        self.charged = None if any(_carries(record, charged) for record in records) else charged
        if ledger is not None:
            self.ledger = ledger(self._hints)
        else:
            self.ledger = LocalLedger(folder, Bridge(folder.storage, recipe, space, self._hints), records)
        self.bridge = self.ledger.bridge
        self.asking = Asking(self.bridge, recipe, space, starts, guide, given)
        self.evaluation = Evaluation(folder, None if guide is None else guide.judging)
        self.flatness = Flatness(recipe)
        self.standing = Standing(folder, recipe)
        self.stopping = stopping or Stopping()
        self.clock = clock
        self.fetch = fetch
        self.trial_ended = clock()
        self.under_way: dict[int, _Trial] = {}
        self.waiting: deque[Asked] = deque()
        self.stay: set[str] = set()

    @property
    def records(self) -> list[TrialRecord]:
        """All trials that ended."""
        return self.ledger.records

    def run(self) -> Ended:
        """Searches until budget or space is exhausted.

        Raises:
            KeyboardInterrupt: A person stopped it; what was finished is kept.
            StudyError: The disk is full, or the folder cannot be written: what was finished is kept there too.
        """
        with closing(self.ledger), closing(self.executor), writing(self.folder.path), self.stopping.once_trials_run():
            self.ledger.start()
            self.stay = self._staying()
            self.watcher.began(self._study())
            self.waiting.extend(self.ledger.orphans())
            while True:
                ended = self._fill()
                if self.under_way:
                    self._advance(self.executor.wait(self._progress))
                elif self.stopping.asked:
                    raise KeyboardInterrupt
                elif ended is not None and (ended.alone or not self.bridge.elsewhere):
                    return ended
                else:  # others finish what ends the budget, or what a trial that waits would only repeat
                    self.ledger.rest(REST_SECONDS)
                    self.ledger.in_turn(lambda: None)
                    self._hear()

    def _fill(self) -> Ended | None:
        """Starts trials as long as there are slots and a budget; says why there are no more."""
        while len(self.under_way) < self.executor.slots and not self.stopping.asked:
            # What was asked before comes first, but for what another trial is finding out at this moment.
            position = next((at for at, asked in enumerate(self.waiting) if not self._twin(asked)), None)
            if position is not None:
                asked = self.waiting[position]
                del self.waiting[position]
                self._start(asked)
                continue
            if len(self.waiting) >= self.executor.slots:
                return None
            following = self.ledger.in_turn(self._following)
            self._hear()
            if isinstance(following, Ended):
                return following
            self.waiting.append(following)
        return None

    def _following(self) -> Asked | Ended:
        """The next trial, or why there is none."""
        if (left := self.ledger.take_over()) is not None:
            return left
        if (ended := self._ended()) is not None:
            return ended
        with working():  # nothing of ours computes while a worker measures
            return self.asking.next(self.records, [asked.design for asked in self._at_work()])

    def _at_work(self) -> list[Asked]:
        """The trials that were asked for, here or elsewhere, and have not ended."""
        here = [Asked(trial.record.number, trial.record.design) for trial in self.under_way.values()]
        return [*here, *self.waiting, *self.bridge.run_elsewhere()]

    def _twin(self, asked: Asked) -> bool:
        """Whether a trial of the same design is under way."""
        if any(trial.record.design.digest == asked.design.digest for trial in self.under_way.values()):
            return True
        elsewhere = self.bridge.run_elsewhere()
        return any(one.design.digest == asked.design.digest for one in elsewhere if one.number < asked.number)

    def _hear(self) -> None:
        """Passes on what others found; of the front's members the artifacts come here, too."""
        arrived = {record.number: record for record in self.ledger.arrived()}
        if not arrived:
            return
        study = self._study()
        for record in finalists(study):
            for sha in record.files if record.number in arrived else ():
                self.fetch(sha)
        for record in arrived.values():
            self.watcher.told(record, study)

    def _hints(self) -> SamplerHints:
        """What the sampler may know beside what it is told."""
        return self.guide.hints(self.records, self.bridge.parameters) if self.guide is not None else SamplerHints()

    def _study(self) -> Study:
        return Study(self.folder, self.recipe, list(self.records), standing=self.standing)

    def _ended(self) -> Ended | None:
        """Why no further trial is started; None where one is. Trials under way count as whole ones.

        Trials are those of all who search; minutes are this searcher's.
        """
        budget, study, at_work = self.recipe.budget, self._study(), self._at_work()
        if budget.trials is not None and study.spent + len(at_work) >= budget.trials:
            return Ended(f"the budget of {plural(budget.trials, 'trial')} is spent")
        if budget.minutes is not None:
            own = self.standing.seconds(self.records, self.ledger.is_own)
            left = 60 * budget.minutes - own - (self.clock() - self.trial_ended)
            over = left <= 0 or left < 0.5 * self.executor.slots * self.standing.usual_seconds(self.records)
            # A search that only began trainings finishes one, so that it does not end with nothing.
            if over and (self.guide is None or self.guide.choosing.unfinished(self.records) is None):
                return Ended(f"the budget of {budget.minutes:g} minutes is spent", alone=True)
        designs = {asked.design.digest for asked in at_work}
        if len(self.asking.seen(self.records).settled | designs) >= self.space.size():
            return Ended(f"every design of the search space was evaluated: {self.space.size():,}")
        if budget.patience_minutes is not None:
            flat = self.flatness.seconds(study.records)
            if flat >= 60 * budget.patience_minutes:
                return Ended(f"the hypervolume has been flat for {budget.patience_minutes:g} minutes")
        return None

    def _start(self, asked: Asked) -> None:
        """Starts the trial of what was asked, or ends it at once where it needs no evaluation.

        One that the sampler has heard of, but whose record was lost, is evaluated by what was known when it was asked.
        """
        heard = self.bridge.heard(asked.number)

        def known() -> list[TrialRecord]:
            return [record for record in self.records if record.number < asked.number] if heard else self.records

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
            self._finish(replace(record, duplicate_of=original.number))
            return
        attempts = self.ledger.attempt(asked.number)
        if attempts > TRIED:
            reason = Reason("worker", f"each of the {attempts - 1} searchers that began it died meanwhile")
            self._finish(replace(record, outcome=Outcome.FAILED, reason=reason, attempts=attempts - 1))
            return
        self.watcher.asked(asked.number, design)
        inherits = None
        if self.guide is not None:
            record = replace(record, inherits=self.guide.label(known(), record))
            inherits = start_of(record, known(), self.guide.insight.shared)
        request = EvalRequest(asked.number, design, self.recipe.seed, teacher, inherits=inherits)
        steps = self.evaluation.steps(record, request, known)
        trial = self.under_way[asked.number] = _Trial(record, steps, request, attempts=attempts)
        self._next_step(trial, None)

    def _next_step(self, trial: _Trial, result: EvalResult | None) -> None:
        """Hands what came of an evaluation to its trial, and starts the next one that it wants, or ends it."""
        number = trial.record.number
        try:
            with working():  # surrogates may have to be fitted
                trial.request = trial.steps.send(result) if result is not None else next(trial.steps)
        except StopIteration as stop:
            del self.under_way[number]
            self._finish(replace(stop.value, attempts=trial.attempts, peak_memory_bytes=trial.peak))
        else:
            trial.attempt = 1
            self.executor.submit(number, trial.request)

    def _advance(self, ended: Done[EvalResult] | Lost) -> None:
        """Goes on with the trial of which an evaluation ended; tries again what failed for a cause that may be gone.

        Raises:
            StudyError: The disk is full, or the device that measures is gone, so that the trial is for the next start.
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
        elif result.reason is not None and result.reason.kind == DEVICE_GONE:
            raise StudyError(result.reason.message, "the same command goes on once the device answers")
        else:
            self._next_step(trial, result)

    def _progress(self, job: int, stage: str, share: float) -> None:
        self.watcher.progress(stage, share, job)

    def _finish(self, record: TrialRecord) -> None:
        """Keeps the record of a trial that ended."""
        # From the end of the trial before, so that the trials' seconds add up to the search's: asking counts too.
        now = self.clock()
        record = replace(record, seconds=now - self.trial_ended)
        self.trial_ended = now
        if self.charged is not None:
            seconds = record.seconds + self.charged.seconds
            record = replace(record, stages=(self.charged, *record.stages), seconds=seconds)
            self.charged = None
        if not self.ledger.finished(record):
            self.watcher.note(f"trial {record.number} was taken over by another searcher, which thought this one dead")
            return
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
        seen = self.asking.seen(self.records)
        trials = seen.trials(asked.design.digest)
        for record in trials:
            if record.teacher == asked.teacher and record.outcome not in unsettled and not worth_another_try(record):
                return record
        if asked.design.digest in seen.given_up:
            return next(record for record in reversed(trials) if record.reason)
        return None

    def _trim_cache(self, study: Study) -> None:
        """Keeps the cache within its limit; the artifacts of front and baseline always stay, and of the front as it was
        when this search was taken up, which turns had decided."""
        study.store.evict(files_that_stay(study) | self.stay)

    def _staying(self) -> set[str]:
        """Digests of what stays since an earlier search."""
        taken = read_measurements(self.folder.measurements)
        records = list(self.records)
        timed = timed_in_turns(records, taken)
        return files_that_stay(Study(self.folder, self.recipe, records, timed, self.standing)) if timed else set()


def _carries(record: TrialRecord, charged: StageResult | None) -> bool:
    return charged is not None and any(stage.stage == charged.stage for stage in record.stages)


def _digest(teacher: AnyTeacher | None) -> str | None:
    """What a record keeps of a teacher: its architecture's digest, or that of its file."""
    if isinstance(teacher, Teacher):
        return teacher.design.architecture_digest
    return teacher.sha256 if teacher is not None else None
