"""The one place that talks to Optuna's studies and samplers. Records are the truth; this is the sampler's memory.

What happened is held twice: in memory, where samplers look at it, and in a storage, which optuna-dashboard opens as it
is: an SQLite file in the study's folder, from which a search goes on, or a database that several searchers share (see
``nas.search.shared``). What is missing there is made again from the records. A trial is written when it starts, with
its whole design, and when it ends.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas.design import Design, Value
from nas.errors import SpaceError, StudyError
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.durable import STUDY_NAME, Durable, Storage, storage_errors
from nas.search.memory import Memory, blank, lost, remembered
from nas.search.parameters import Parameter, Parameters
from nas.search.quiet import quiet
from nas.search.samplers import FLAT, SamplerHints, make_sampler, sampled_with
from nas.search.told import shown, told_as
from nas.space import SearchSpace

__all__ = ["STUDY_NAME", "Asked", "Bridge", "SamplerHints", "storage_errors"]


@dataclass(frozen=True)
class Asked:
    """A design of which a trial was started, under its number; ``origin`` and ``parent`` as in its record."""

    number: int
    design: Design
    origin: str = "asked"
    parent: int | None = None


class Bridge:
    """A study in Optuna's terms.

    Args:
        storage: The SQLite file, or where else trials are kept.
        recipe: Objectives, constraints, seed and sampler.
        space: What is sampled.
        hints: What is known besides, at the moment of a proposal; for samplers that can use it.

    Raises:
        StudyError: The file is no such storage.
    """

    def __init__(
        self,
        storage: Path | Storage,
        recipe: Recipe,
        space: SearchSpace,
        hints: Callable[[], SamplerHints] | None = None,
    ) -> None:
        self.recipe = recipe
        self.space = space
        self.hints = hints
        self.objectives = recipe.parsed_objectives
        self.constraints = recipe.parsed_constraints
        self.parameters = Parameters(space, recipe.sampler in FLAT)
        directions = [objective.direction for objective in self.objectives]
        if isinstance(storage, Path):
            storage = Durable(storage, directions, [objective.key for objective in self.objectives])
        self.durable: Storage = storage
        self.memory = Memory(self.durable.directions)
        self.trials = [self._remembered(trial) for trial in self.durable.trials()]
        self.elsewhere: set[int] = set()  # trials that other searchers run
        self._heard: set[str] = set()
        self._parents_until = 0  # the last generation of NSGA-II whose parents are chosen

    @property
    def known(self) -> int:
        """How many trials Optuna knows, ended or not."""
        return len(self.trials)

    @property
    def study(self) -> optuna.Study:
        """The study as the sampler is shown it."""
        return self._study()

    def rebuild(self, records: Sequence[TrialRecord]) -> None:
        """Adds the trials that have a record but are not in the storage, which was deleted or lost its last ones.

        A number without a record becomes a failed trial.
        """
        by_number = {record.number: record for record in records}
        for number in range(self.known, max(by_number, default=-1) + 1):
            record = by_number.get(number)
            if record is None:
                trial = lost(number)
            else:
                original = by_number.get(record.duplicate_of) if record.duplicate_of is not None else None
                started = self._started(number, record.design, record.origin, record.parent)
                trial = self._ended(started, record, original)
            self.durable.add(trial, record)
            self.trials.append(trial)

    def running(self) -> list[int]:
        """Numbers of the trials that were asked here and never told: under way, or orphans of a process that ended."""
        unfinished = (trial.number for trial in self.trials if not trial.state.is_finished())
        return [number for number in unfinished if number not in self.elsewhere]

    def heard(self, number: int) -> bool:
        """Whether the sampler knows how a trial ended."""
        return self.trials[number].state.is_finished()

    def run_elsewhere(self) -> list[Asked]:
        """The trials that other searchers run at this moment, as far as is known; samplers see them as running."""
        return [self._asked(self.trials[number]) for number in sorted(self.elsewhere)]

    def resume(self, number: int) -> Asked:
        """The design of a trial that was asked before and never told.

        Of one whose parameters were not all written the rest is sampled.
        """
        trial = self.trials[number]
        given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        ones = self.parameters.by_choice
        design = self._propose(
            number, 0, {n: one.decode(given[one.name]) for n, one in ones.items() if one.name in given}
        )
        if self.parameters.params(design).keys() - trial.params.keys():
            origin = trial.user_attrs.get("origin", "asked")
            trial = self._started(number, design, origin, trial.user_attrs.get("parent"))
            self.durable.update(trial)
            self.trials[number] = trial
        return self._asked(trial)

    def told_without_record(self, recorded: Collection[int]) -> list[Asked]:
        """Trials that the storage holds as ended but whose record is gone, with their designs."""
        return [
            self._asked(trial)
            for trial in self.trials
            if trial.number not in recorded and trial.state.is_finished() and trial.params
        ]

    def propose(
        self, attempt: int = 0, fixed: Mapping[str, Value] | None = None, passed: Sequence[Design] = ()
    ) -> Design:
        """What the sampler proposes for the next trial. It leaves no trace: the same question has the same answer.

        Args:
            attempt: From 0; every further one is another proposal by the same knowledge.
            fixed: Choices whose values are not the sampler's to decide.
            passed: Designs that were proposed for this trial before and will not do. The predictor proposes none of
                them again; the others, which draw by chance, are not told.
        """
        return self._propose(self.known, attempt, fixed or {}, passed)

    def ask(self, fixed: Mapping[str, Value] | None = None, origin: str = "asked", parent: int | None = None) -> Asked:
        """Starts a trial of the sampler's next design.

        Args:
            fixed: Choices whose values are not the sampler's to decide; where they are all, nothing is sampled.
            origin: Where the fixed values come from, for the record.
            parent: The trial that this one goes on from, for the record.
        """
        trial = self._started(self.known, self.propose(0, fixed), origin, parent)
        self.durable.add(trial)
        self.trials.append(trial)
        return self._asked(trial)

    def tell(self, record: TrialRecord, original: TrialRecord | None = None) -> None:
        """Tells how a trial ended: measured values only, violations of all constraints, nothing invented.

        Args:
            record: The trial's record.
            original: For a duplicate the trial whose values it is given.
        """
        trial = self.ended(record, original)
        self.durable.update(trial, record)
        self.trials[record.number] = trial

    def ended(self, record: TrialRecord, original: TrialRecord | None = None) -> FrozenTrial:
        """A trial as ``tell`` writes and keeps it; here it is neither."""
        return self._ended(self.trials[record.number], record, original)

    def restored(self, number: int, params: Mapping[str, Any], notes: Mapping[str, Mapping[str, Any]]) -> FrozenTrial:
        """A started trial as another searcher wrote it down.

        Args:
            number: The trial's.
            params: Its parameters; none for a trial of which nothing is known but that it ended.
            notes: Its attributes, ``user`` and ``system``.

        Raises:
            StudyError: Its parameters are none of the space's.
        """
        if not params:
            return lost(number)
        trial = blank(number)
        trial.params = dict(params)
        trial.user_attrs, trial.system_attrs = dict(notes["user"]), dict(notes["system"])
        return self._checked(trial)

    def _propose(self, number: int, attempt: int, fixed: Mapping[str, Value], passed: Sequence[Design] = ()) -> Design:
        if self.parameters.by_choice.keys() <= fixed.keys():
            return self.parameters.pick(lambda one: one.encode(one.choice.find(fixed[one.choice.name])))
        sampler = self._sampler(number, attempt)
        draft = blank(number)
        drawn: dict[str, Any] = {}
        with self._once(), quiet(), self.memory.drafting(draft):
            study = self._study(sampler, passed)
            self._fix_generation(sampler, study, draft)
            sampler.before_trial(study, draft)

            def ask(one: Parameter) -> Any:
                if one.choice.name in fixed:
                    value: Any = one.encode(one.choice.find(fixed[one.choice.name]))
                else:
                    together = sampled_with(self.recipe.sampler, self.parameters, one)
                    if one.name in together and one.name not in drawn:
                        drawn.update(sampler.sample_relative(study, draft, together))
                    value = drawn.get(one.name)
                    if value is None:
                        value = sampler.sample_independent(study, draft, one.name, one.distribution)
                draft.params[one.name], draft.distributions[one.name] = value, one.distribution
                return value

            return self.parameters.pick(ask)

    def _fix_generation(self, sampler: BaseSampler, study: optuna.Study, draft: FrozenTrial) -> None:
        """Gives a trial of NSGA-II its generation, without which it never enters the population, designed or sampled.

        The parents of every generation are chosen in order, each once. Optuna gives them in another order when it
        chooses them than later on, so that a search that goes on would sample otherwise.
        """
        if isinstance(sampler, NSGAIISampler):
            generation = sampler.get_trial_generation(study, draft)
            while self._parents_until < generation:
                self._parents_until += 1
                sampler.get_parent_population(study, self._parents_until)

    def _sampler(self, number: int, attempt: int = 0) -> BaseSampler:
        hints = self.hints() if self.hints is not None and self.recipe.sampler == "predictor" else None
        return make_sampler(
            self.recipe.sampler, self.recipe.seed, number, attempt, parameters=self.parameters, hints=hints
        )

    def _study(self, sampler: BaseSampler | None = None, passed: Sequence[Design] = ()) -> optuna.Study:
        """The trials as the sampler is shown them, and designs that were passed over as failed ones after the next."""
        trials = shown(self.trials, self.recipe.sampler)
        for number, design in enumerate(passed, start=self.known + 1):
            trial = lost(number)
            trial.params = self.parameters.params(design)
            trial.distributions = {name: self.parameters.distributions[name] for name in trial.params}
            trials.append(trial)
        return self.memory.study(trials, sampler)

    @contextmanager
    def _once(self) -> Iterator[None]:
        """What samplers warn of, made anew as they are for every trial, is heard once in a search."""
        with warnings.catch_warnings(record=True) as caught:
            yield
        for one in caught:
            if str(one.message) not in self._heard:
                self._heard.add(str(one.message))
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)

    def _started(self, number: int, design: Design, origin: str, parent: int | None) -> FrozenTrial:
        params = self.parameters.params(design)
        trial = blank(number)
        trial.params = params
        trial.distributions = {name: self.parameters.distributions[name] for name in params}
        trial.set_user_attr("origin", origin)
        trial.set_user_attr("design", design.digest[:12])
        if parent is not None:
            trial.set_user_attr("parent", parent)
        if self.recipe.sampler == "nsga2":
            sampler = self._sampler(number)
            with quiet(), self.memory.drafting(trial):
                self._fix_generation(sampler, self._study(sampler), trial)
        return trial

    def _ended(self, started: FrozenTrial, record: TrialRecord, original: TrialRecord | None) -> FrozenTrial:
        assert not started.state.is_finished(), f"trial {record.number} was told before"
        told = told_as(record, original, self.objectives, self.constraints)
        trial = copy.copy(started)
        trial.state = told.state
        trial.values = told.values
        trial.datetime_complete = datetime.now()
        trial.user_attrs = {**started.user_attrs, "outcome": str(record.outcome)}
        if record.reason is not None:
            trial.user_attrs["reason"] = record.reason.message
        constraints = create_trial(state=TrialState.FAIL, constraints=told.violations).system_attrs
        trial.system_attrs = {**started.system_attrs, **constraints}
        return trial

    def _asked(self, trial: FrozenTrial) -> Asked:
        attributes = trial.user_attrs
        design = self.parameters.design(trial.params)
        return Asked(trial.number, design, attributes.get("origin", "asked"), attributes.get("parent"))

    def _remembered(self, stored: FrozenTrial) -> FrozenTrial:
        """A trial of the storage, checked.

        Raises:
            StudyError: Its parameters are none of the space's.
        """
        trial = remembered(stored)
        return self._checked(trial) if trial.state.is_finished() and trial.params else trial

    def _checked(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial with its parameters as this space has them.

        Raises:
            StudyError: They are none of it.
        """
        try:
            design = self.parameters.design(trial.params)
        except (KeyError, IndexError, TypeError, ValueError, SpaceError) as error:
            raise StudyError(
                f"the sampler's memory {self.durable.place} holds a trial {trial.number} of another space: {error}",
                self.durable.remedy,
            ) from error
        trial.params = self.parameters.params(design)
        trial.distributions = {name: self.parameters.distributions[name] for name in trial.params}
        return trial
