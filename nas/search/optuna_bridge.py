"""The one place that talks to Optuna's studies and trials. Records are the truth; this is the sampler's memory.

The storage is an SQLite file in the study's folder, which optuna-dashboard opens as it is. Where it is missing it is
made again from the records.
"""

from __future__ import annotations

import math
import sqlite3
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState, create_trial

from nas.design import Design, Value
from nas.errors import StudyError
from nas.objectives import Constraint
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.samplers import FLAT, make_sampler
from nas.space import Choice, SearchSpace

STUDY_NAME = "search"
# Put on a parameter's name where Optuna sees the position of a value in its choice's list instead of the value.
POSITION = "[position]"
# How an unknown violation is told: as missing the limit by all of it.
FULL_VIOLATION = 1.0


@dataclass(frozen=True)
class Asked:
    """A design that the sampler proposes, under its trial's number; ``origin`` as in its record."""

    number: int
    design: Design
    origin: str = "asked"


class Bridge:
    """A study in Optuna's terms.

    Args:
        path: The SQLite file.
        recipe: Objectives, constraints, seed and sampler.
        space: What is sampled.

    Raises:
        StudyError: The file is no such storage.
    """

    def __init__(self, path: Path, recipe: Recipe, space: SearchSpace) -> None:
        self.recipe = recipe
        self.space = space
        self.objectives = recipe.parsed_objectives
        self.constraints = recipe.parsed_constraints
        self.flat = recipe.sampler in FLAT
        self.varied = [choice for choice in space.choices if len(choice.values) > 1]
        with _quiet():
            self.study = _open(path, [objective.direction for objective in self.objectives])
            if self.study.metric_names is None:
                self.study.set_metric_names([objective.key for objective in self.objectives])
        self._open_trials: dict[int, Trial] = {}

    @property
    def known(self) -> int:
        """How many trials Optuna knows, finished or not."""
        return len(self.study.get_trials(deepcopy=False))

    def rebuild(self, records: Sequence[TrialRecord]) -> None:
        """Adds the trials that have a record but are not in the storage, which was deleted or lost its last ones.

        A number without a record becomes a failed trial.
        """
        by_number = {record.number: record for record in records}
        for number in range(self.known, max(by_number, default=-1) + 1):
            record = by_number.get(number)
            if record is None:
                self.study.add_trial(create_trial(state=TrialState.FAIL))
                continue
            original = by_number.get(record.duplicate_of, record) if record.duplicate_of is not None else record
            values = self.space.flat(record.design)
            active = [choice for choice in self.varied if self.flat or choice.name in _names(record.design)]
            state = _state(original)
            self.study.add_trial(
                create_trial(
                    state=state,
                    values=self._values(original) if state is TrialState.COMPLETE else None,
                    params={_parameter(choice): _encode(choice, values[choice.name]) for choice in active},
                    distributions={_parameter(choice): _distribution(choice) for choice in active},
                    constraints=self._violations(original) if state is not TrialState.FAIL else None,
                )
            )

    def running(self) -> list[int]:
        """Numbers of the trials that were asked and never told: orphans of a process that ended."""
        return [t.number for t in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]

    def resume(self, number: int) -> Asked:
        """The design of a trial that was asked before and never told, sampled as it was or would have been."""
        frozen = self.study.get_trials(deepcopy=False)[number]
        return self._sample(number, lambda: Trial(self.study, frozen._trial_id))

    def told_without_record(self, recorded: Collection[int]) -> list[Asked]:
        """Trials that the storage holds as finished but whose record is gone, with their designs."""
        found = []
        for frozen in self.study.get_trials(deepcopy=False):
            if frozen.number in recorded or not frozen.state.is_finished() or not frozen.params:
                continue
            design = self._design(partial(_decode, frozen.params))
            found.append(Asked(frozen.number, design, frozen.user_attrs.get("origin", "asked")))
        return found

    def ask(self, fixed: dict[str, Value] | None = None, origin: str = "asked") -> Asked:
        """The sampler's next design.

        Args:
            fixed: Choices whose values are not the sampler's to decide.
            origin: Where the fixed values come from, for the record.
        """
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if fixed and not waiting:
            encoded = {
                _parameter(choice): _encode(choice, fixed[choice.name])
                for choice in self.varied
                if choice.name in fixed
            }
            with _quiet():
                self.study.enqueue_trial(encoded, user_attrs={"origin": origin})
            number = self.known - 1
        else:
            number = waiting[0].number if waiting else self.known
        return self._sample(number, self.study.ask)

    def tell(self, record: TrialRecord, original: TrialRecord | None = None) -> None:
        """Tells how a trial ended: measured values only, violations of all constraints, nothing invented.

        Args:
            record: The trial's record.
            original: For a duplicate the trial whose values it is given.
        """
        told = original or record
        state = _state(told)
        trial = self._open_trials.pop(record.number, None)
        if trial is None:
            frozen = self.study.get_trials(deepcopy=False)[record.number]
            trial = Trial(self.study, frozen._trial_id)
        trial.set_user_attr("outcome", str(record.outcome))
        trial.set_user_attr("design", record.design.digest[:12])
        if state is not TrialState.FAIL:
            for name, violation in self._violations(told).items():
                if name not in trial.constraints:  # set already where the process died before the last line
                    trial.set_constraint(name, violation)
        with _quiet():
            self.study.tell(trial, values=self._values(told) if state is TrialState.COMPLETE else None, state=state)

    def _sample(self, number: int, make: Callable[[], Trial]) -> Asked:
        self.study.sampler = make_sampler(self.recipe.sampler, self.recipe.seed, number)
        with _quiet():
            trial = make()
            assert trial.number == number, f"expected trial {number}, but Optuna gave {trial.number}"
            if self.recipe.sampler == "nsga2":
                # Gives the trial its generation, without which an enqueued one never enters the population.
                _ = trial.relative_params
            design = self._design(lambda choice: _suggest(trial, choice))
        self._open_trials[number] = trial
        return Asked(number, design, trial.user_attrs.get("origin", "asked"))

    def _design(self, pick: Callable[[Choice], Value]) -> Design:
        """The design that results from asking for every choice, or for the active ones alone."""
        if self.flat:
            return self.space.design({choice.name: pick(choice) for choice in self.space.choices})
        return self.space.choose(pick)

    def _values(self, record: TrialRecord) -> list[float]:
        return [record.value(objective.key) for objective in self.objectives]

    def _violations(self, record: TrialRecord) -> dict[str, float]:
        """Every constraint's violation, in the recipe's order; a trial without values violates all."""
        return {constraint.key: _violation(constraint, record) for constraint in self.constraints}


def _violation(constraint: Constraint, record: TrialRecord) -> float:
    quantity = record.quantity(constraint.quantity.key)
    return FULL_VIOLATION if quantity is None else constraint.violation(quantity.value)


def _state(record: TrialRecord) -> TrialState:
    if record.outcome is Outcome.MEASURED:
        return TrialState.COMPLETE
    return TrialState.FAIL if record.outcome is Outcome.FAILED else TrialState.PRUNED


def _names(design: Design) -> set[str]:
    return {*design.architecture, *design.compression}


def _is_position(choice: Choice) -> bool:
    """Whether Optuna gets positions: numbers in order, but not in equal steps, so that the order is not lost."""
    return choice.ordered and not _equal_steps(choice.values)


def _equal_steps(values: Sequence[Value]) -> bool:
    numbers = [float(value) for value in values]
    step = numbers[1] - numbers[0]
    return all(math.isclose(b - a, step, rel_tol=1e-9) for a, b in pairwise(numbers))


def _parameter(choice: Choice) -> str:
    """The choice's name in Optuna."""
    return choice.name + POSITION if _is_position(choice) else choice.name


def _distribution(choice: Choice) -> BaseDistribution:
    if not choice.ordered:
        return CategoricalDistribution(choice.values)
    if _is_position(choice):
        return IntDistribution(0, len(choice.values) - 1)
    low, second, high = choice.values[0], choice.values[1], choice.values[-1]
    if all(isinstance(value, int) for value in choice.values):
        return IntDistribution(int(low), int(high), step=int(second) - int(low))
    return FloatDistribution(float(low), float(high), step=float(second) - float(low))


def _encode(choice: Choice, value: Value) -> Value:
    return choice.values.index(value) if _is_position(choice) else value


def _decode(params: Mapping[str, Any], choice: Choice) -> Value:
    """The value that a finished trial's parameters give to a choice."""
    if len(choice.values) == 1:
        return choice.values[0]
    stored = params[_parameter(choice)]
    return choice.values[stored] if _is_position(choice) else choice.find(stored)


def _suggest(trial: Trial, choice: Choice) -> Value:
    """What the trial's sampler proposes for a choice; a choice of one value is no question."""
    if len(choice.values) == 1:
        return choice.values[0]
    distribution = _distribution(choice)
    name = _parameter(choice)
    if isinstance(distribution, CategoricalDistribution):
        suggested = trial.suggest_categorical(name, distribution.choices)
        assert isinstance(suggested, bool | int | float | str)
        return suggested
    if isinstance(distribution, IntDistribution):
        whole = trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)
        return choice.values[whole] if _is_position(choice) else whole
    assert isinstance(distribution, FloatDistribution)
    number = trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step)
    return min(choice.values, key=lambda value: abs(float(value) - number))  # undoes rounding in the steps


def _open(path: Path, directions: Sequence[Literal["minimize", "maximize"]]) -> optuna.Study:
    """Opens or makes the storage.

    Write-ahead logging with relaxed syncing is three times faster and safe against a killed process; what a power cut
    could lose is made again from the records.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    with storage_errors(path):
        # The path goes in by the connection, since in a URL its special characters would mean something.
        storage = optuna.storages.RDBStorage("sqlite:///study", engine_kwargs={"creator": connect})
        return optuna.create_study(study_name=STUDY_NAME, storage=storage, directions=directions, load_if_exists=True)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what a damaged or full storage raises, at any moment, into an error that says how to mend it.

    Raises:
        StudyError: Instead of any exception of SQLite, SQLAlchemy or Optuna's storage.
    """
    try:
        yield
    except (sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        text = " ".join(f"{error} {error.__cause__ or ''}".split())
        if "disk is full" in text:
            raise StudyError(f"the disk is full at {path}", "make room; the same command goes on") from error
        raise StudyError(
            f"the sampler's memory {path} is damaged: {text[:160]}",
            "delete that file; the next search makes it again from the trial records",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's own log lines and experimental warnings are no news to a user of this tool."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
