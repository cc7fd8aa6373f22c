"""The study loop: ask, evaluate, record, tell; until the budget is spent or every design has been seen.

A record is on the disk before the sampler hears of its trial, so a process that dies loses at most the trial in
flight, and the next start takes that one up again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from nas.design import Design
from nas.evaluate import EvalRequest
from nas.gains import finalists
from nas.lineage import start_of
from nas.outcome import Outcome
from nas.pipeline import AnyTeacher, Teacher
from nas.recipe import Recipe
from nas.record import StageResult, TrialRecord, utc_now, write_record
from nas.search.asking import Asking, settled, worth_another_try
from nas.search.evaluation import Evaluate, Evaluation
from nas.search.guide import Guide
from nas.search.optuna_bridge import Asked, Bridge
from nas.search.plan import flat_since
from nas.search.samplers import SamplerHints
from nas.space import SearchSpace
from nas.study import Study, StudyFolder, read_trials
from nas.teacher.given import GivenTeacher
from nas.wording import plural


class Watcher(Protocol):
    """Whoever watches a search: the terminal, a test."""

    def note(self, text: str) -> None:
        """Something a person should know before the search starts."""

    def began(self, study: Study) -> None:
        """The search starts, perhaps from records that are there already."""

    def asked(self, number: int, design: Design) -> None:
        """A trial starts."""

    def progress(self, stage: str, share: float) -> None:
        """A stage of the trial has come so far, 0 to 1."""

    def told(self, record: TrialRecord, study: Study) -> None:
        """A trial ended."""


@dataclass(frozen=True)
class Ended:
    """Why a search came to its end, in words."""

    why: str


class Loop:
    """One search in one folder; the caller has claimed it.

    Args:
        folder: The study's folder.
        recipe: What is searched, and the budget.
        space: Where designs come from.
        evaluate: Evaluates one design; never raises for what a design did.
        environment: The machine and its software, kept with each record.
        watcher: Hears of every trial.
        given: The teacher that the recipe names, if any; else distilled designs learn from the study's own best.
        starts: Designs to try first, after the space's own, with their origins.
        guide: Weighs what comes next and gives up what is not worth it; without, each design that the sampler proposes
            is evaluated to the end.
        charged: Work done before the first trial, such as the training of a supernet: the first record carries it.
        clock: Tells the seconds.
    """

    def __init__(
        self,
        folder: StudyFolder,
        recipe: Recipe,
        space: SearchSpace,
        evaluate: Evaluate,
        environment: dict[str, Any],
        watcher: Watcher,
        given: GivenTeacher | None = None,
        starts: Sequence[tuple[Design, str]] = (),
        guide: Guide | None = None,
        charged: StageResult | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.space = space
        self.environment = environment
        self.watcher = watcher
        self.guide = guide
        self.records: list[TrialRecord] = read_trials(folder, recipe)
        self.charged = None if any(_carries(record, charged) for record in self.records) else charged
        self.bridge = Bridge(folder.storage, recipe, space, self._hints)
        self.asking = Asking(self.bridge, recipe, space, starts, guide, given)
        self.evaluation = Evaluation(folder, evaluate, watcher.progress, guide)
        self.clock = clock
        self.trial_began = clock()

    def run(self) -> Ended:
        """Searches until budget or space is exhausted. Ctrl-C passes through and loses nothing finished."""
        self._reconcile()
        self.watcher.began(self._study())
        for asked in self.bridge.told_without_record({record.number for record in self.records}):
            self._finish(asked, tell=False)
        for number in self.bridge.running():
            self._finish(self.bridge.resume(number))
        while (ended := self._ended()) is None:
            self._finish(self.asking.next(self.records))
        return ended

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
        budget, study = self.recipe.budget, self._study()
        if budget.trials is not None and study.spent >= budget.trials:
            return Ended(f"the budget of {plural(budget.trials, 'trial')} is spent")
        if budget.minutes is not None:
            left = 60 * budget.minutes - study.seconds
            if left <= 0 or left < 0.5 * _median_seconds(study.counted):
                return Ended(f"the budget of {budget.minutes:g} minutes is spent")
        if len(settled(self.records)) >= self.space.size():
            return Ended(f"every design of the search space was evaluated: {self.space.size():,}")
        if budget.patience_minutes is not None:
            flat = flat_since(study.records, self.recipe)
            if flat >= 60 * budget.patience_minutes:
                return Ended(f"the hypervolume has been flat for {budget.patience_minutes:g} minutes")
        return None

    def _finish(self, asked: Asked, tell: bool = True) -> None:
        """Evaluates what was asked, keeps its record, tells the sampler unless it has heard."""
        design = asked.design
        teacher = self.asking.teacher(self.records) if design.step("distillation") else None
        record = TrialRecord(
            asked.number, asked.origin, design, Outcome.DUPLICATE, self.recipe.seed,
            parent=asked.parent,
            teacher=_digest(teacher),
            teacher_trial=teacher.trial if isinstance(teacher, Teacher) else None,
            environment=self.environment, started_at=utc_now(),
        )  # fmt: skip
        if (original := self._original(record)) is not None:
            record = replace(record, duplicate_of=original.number)
        else:
            self.watcher.asked(asked.number, design)
            inherits = None
            if self.guide is not None:
                record = replace(record, inherits=self.guide.label(self.records, record))
                inherits = start_of(record, self.records, self.guide.shared)
            request = EvalRequest(asked.number, design, self.recipe.seed, teacher, inherits=inherits)
            record = self.evaluation.run(record, request, self.records)
        # From the end of the trial before, so that the trials' seconds add up to the search's: asking counts too.
        now = self.clock()
        record = replace(record, seconds=now - self.trial_began)
        self.trial_began = now
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
