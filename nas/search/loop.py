"""The study loop: ask, evaluate, record, tell; until the budget is spent or every design has been seen.

A record is on the disk before the sampler hears of its trial, so a process that dies loses at most the trial in
flight, and the next start takes that one up again.
"""

from __future__ import annotations

import io
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from nas.design import Design
from nas.evaluate import EvalRequest, EvalResult
from nas.gains import finalists
from nas.outcome import Outcome
from nas.pipeline import AnyTeacher, Teacher
from nas.recipe import Recipe
from nas.record import TrialRecord, utc_now, write_record
from nas.search.optuna_bridge import Asked, Bridge
from nas.space import SearchSpace
from nas.stages import Progress
from nas.store import write_atomically
from nas.study import Study, StudyFolder, read_trials
from nas.teacher.given import GivenTeacher
from nas.wording import plural

# After so many designs in a row that were seen before, one that was not is drawn at random.
REPEATS_IN_A_ROW = 5
# Draws until the search for an unseen design in a nearly exhausted space goes through all of it.
RANDOM_DRAWS = 1000
# How often a design that a study begins with is tried, where it fails for a cause that is not its own: the speeds of
# the whole study are told against the baseline.
STARTS_TRIED = 3

Evaluate = Callable[[EvalRequest, Progress | None], EvalResult]


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
        priors: Designs that the recipe's prior proposes to try first.
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
        priors: Sequence[Design] = (),
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.space = space
        self.evaluate = evaluate
        self.environment = environment
        self.watcher = watcher
        self.given = given
        self.priors = tuple(priors)
        self.records: list[TrialRecord] = read_trials(folder, recipe)
        self.bridge = Bridge(folder.storage, recipe, space)
        self.trial_began = time.monotonic()

    def run(self) -> Ended:
        """Searches until budget or space is exhausted. Ctrl-C passes through and loses nothing finished."""
        self._reconcile()
        self.watcher.began(self._study())
        for asked in self.bridge.told_without_record({record.number for record in self.records}):
            self._finish(asked, tell=False)
        for number in self.bridge.running():
            self._finish(self.bridge.resume(number))
        while (ended := self._ended()) is None:
            self._finish(self._ask())
        return ended

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
        counted = study.counted
        if budget.trials is not None and len(counted) >= budget.trials:
            return Ended(f"the budget of {plural(budget.trials, 'trial')} is spent")
        if budget.minutes is not None:
            left = 60 * budget.minutes - study.seconds
            if left <= 0 or left < 0.5 * _median_seconds(counted):
                return Ended(f"the budget of {budget.minutes:g} minutes is spent")
        if len({record.design.digest for record in counted if not _worth_another_try(record)}) >= self.space.size():
            return Ended(f"every design of the search space was evaluated: {self.space.size():,}")
        return None

    def _ask(self) -> Asked:
        """The next design."""
        if (start := self._start()) is not None:
            design, origin = start
            return self.bridge.ask(fixed=self.space.flat(design), origin=origin)
        last = self.records[-REPEATS_IN_A_ROW:]
        repeats = len(last) == REPEATS_IN_A_ROW and all(record.outcome is Outcome.DUPLICATE for record in last)
        if repeats and (unseen := self._unseen()) is not None:
            return self.bridge.ask(fixed=self.space.flat(unseen), origin="unseen")
        distils = any(choice.name == "distillation" and len(choice.values) > 1 for choice in self.space.choices)
        if distils and self._teacher() is None:
            # Nobody to learn from yet, so that choice is not open.
            return self.bridge.ask(fixed={"distillation": False})
        return self.bridge.ask()

    def _start(self) -> tuple[Design, str] | None:
        """The next of the designs that space and prior start with, and its origin; None where all were tried.

        One that a full disk or a killed process ended is tried again.
        """
        tried = Counter(record.design.digest for record in self.records if _worth_another_try(record))
        seen = {record.design.digest for record in self.records if not _worth_another_try(record)}
        seen |= {digest for digest, count in tried.items() if count >= STARTS_TRIED}
        starts = [(self.space.baseline, "baseline"), *((design, "first") for design in self.space.first)]
        starts += [(design, "prior") for design in self.priors]
        for design, origin in starts:
            if design is not None and design.digest not in seen:
                if design.step("distillation") and self._teacher() is None:
                    continue
                return design, origin
        return None

    def _unseen(self) -> Design | None:
        """A design that no trial had, drawn at random; None where all were seen."""
        seen = {record.design.digest for record in self.records if not _worth_another_try(record)}
        draw = random.Random(f"{self.recipe.seed}-{len(self.records)}")
        for _ in range(RANDOM_DRAWS):
            if (design := self.space.sample(draw)).digest not in seen:
                return design
        return next((design for design in self.space.designs() if design.digest not in seen), None)

    def _teacher(self) -> AnyTeacher | None:
        """The given one; else the trained float network of the most accurate trial so far, the earlier of equals."""
        if self.given is not None:
            return self.given
        measured = self._study().measured
        if not measured:
            return None
        best = max(measured, key=lambda record: (record.value("accuracy"), -record.number))
        return Teacher(best.number, best.design)

    def _finish(self, asked: Asked, tell: bool = True) -> None:
        """Evaluates what was asked, keeps its record, tells the sampler unless it has heard."""
        number, design = asked.number, asked.design
        started_at = utc_now()
        teacher = self._teacher() if design.step("distillation") else None
        record = TrialRecord(
            number, asked.origin, design, Outcome.DUPLICATE, self.recipe.seed,
            teacher=_digest(teacher),
            teacher_trial=teacher.trial if isinstance(teacher, Teacher) else None,
            environment=self.environment, started_at=started_at,
        )  # fmt: skip
        if (original := self._original(record)) is not None:
            record = replace(record, duplicate_of=original.number)
        else:
            self.watcher.asked(number, design)
            result = self.evaluate(EvalRequest(number, design, self.recipe.seed, teacher), self.watcher.progress)
            record = self._with_result(record, result)
        # From the end of the trial before, so that the trials' seconds add up to the search's: asking counts too.
        now = time.monotonic()
        record = replace(record, seconds=now - self.trial_began)
        self.trial_began = now
        write_record(self.folder.trials, record)
        self.records = sorted([*self.records, record], key=lambda record: record.number)
        if tell:
            self._tell(record)
        study = self._study()
        self._trim_cache(study)
        self.watcher.told(record, study)

    def _original(self, asked: TrialRecord) -> TrialRecord | None:
        """The trial that evaluated the same design (with the same teacher) before; a transient failure is none."""
        for record in self.records:
            same = record.design.digest == asked.design.digest and record.teacher == asked.teacher
            if same and record.outcome is not Outcome.DUPLICATE and not _worth_another_try(record):
                return record
        return None

    def _with_result(self, record: TrialRecord, result: EvalResult) -> TrialRecord:
        """The record with what the evaluation found; raw samples and tracebacks go to files of their own."""
        quantities = result.quantities
        if result.samples:
            path = self.folder.samples / f"{record.number:05d}.npz"
            buffer = io.BytesIO()
            np.savez_compressed(buffer, allow_pickle=False, **dict(result.samples))
            write_atomically(path, buffer.getvalue())
            where = str(path.relative_to(self.folder.path))
            quantities = tuple(
                replace(item, samples_ref=where) if item.name == "latency_ms" else item for item in quantities
            )
        if result.traceback:
            write_atomically(self.folder.failures / f"{record.number:05d}.txt", result.traceback.encode())
        return replace(
            record,
            outcome=result.outcome,
            reason=result.reason,
            quantities=quantities,
            labels=result.labels,
            stages=result.stages,
            artifact_sha256=result.artifact_sha256,
            forms=result.forms,
            manifest=result.manifest,
            notes=result.notes,
        )

    def _tell(self, record: TrialRecord) -> None:
        original = None
        if record.duplicate_of is not None:
            original = next(other for other in self.records if other.number == record.duplicate_of)
        self.bridge.tell(record, original)

    def _trim_cache(self, study: Study) -> None:
        """Keeps the cache within its limit; the artifacts of front and baseline always stay."""
        kept = [sha for record in finalists(study) for sha in (record.artifact_sha256, *record.forms.values())]
        study.store.evict({sha for sha in kept if sha})


def _digest(teacher: AnyTeacher | None) -> str | None:
    """What a record keeps of a teacher: its architecture's digest, or that of its file."""
    if isinstance(teacher, Teacher):
        return teacher.design.architecture_digest
    return teacher.sha256 if teacher is not None else None


def _worth_another_try(record: TrialRecord) -> bool:
    """Whether a trial failed for a cause that is not the design's."""
    return record.reason is not None and record.reason.transient


def _median_seconds(records: Sequence[TrialRecord]) -> float:
    return float(np.median([record.seconds for record in records])) if records else 0.0
