"""How a study that grows stands: its front and what it has spent, found from before and from trials that are new."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas.front import pareto_front
from nas.growing import Growing
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.study.folder import StudyFolder
from nas.study.trials import FREE, check_one_machine, compared


def spent(records: Sequence[TrialRecord], epochs: int) -> float:
    """How many trials of a budget are spent: one that was stopped counts by the share of its epochs.

    So does the rest of a training that goes on after it was stopped.

    Args:
        records: All trials.
        epochs: Of a whole training.
    """
    found = _Spent(epochs)
    found.learn(records)
    return found.trials


class Standing:
    """The front of one study, and what it has spent.

    Args:
        folder: The study's folder.
        recipe: Whose objectives and constraints are compared.
    """

    def __init__(self, folder: StudyFolder, recipe: Recipe) -> None:
        self.folder = folder
        self.recipe = recipe
        self._front = Growing(lambda: _Front(recipe), _Front.learn)
        self._spent = Growing(lambda: _Spent(recipe.budget.epochs), _Spent.learn)

    def front(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The non-dominated feasible measured trials.

        Raises:
            StudyError: Their latencies were measured on more than one machine, and so cannot be compared.
        """
        found = self._front.of(records)
        if any(len(environments) > 1 for environments in found.environments.values()):
            check_one_machine(self.folder, self.recipe, records)
        return found.members

    def spent(self, records: Sequence[TrialRecord]) -> float:
        """How many trials of the budget are spent, see ``spent``."""
        return self._spent.of(records).trials

    def seconds(self, records: Sequence[TrialRecord], own: Callable[[int], bool] = lambda number: True) -> float:
        """Wall time of the search so far.

        Args:
            records: The trials.
            own: By a trial's number whether it counts.
        """
        seconds = self._spent.of(records).seconds
        return sum(seconds[number] for number in sorted(seconds) if own(number))

    def usual_seconds(self, records: Sequence[TrialRecord]) -> float:
        """What a trial takes that something is spent on, in the middle; 0 before there is one."""
        seconds = self._spent.of(records).counted_seconds
        return float(np.median(seconds)) if seconds else 0.0


class _Spent:
    """What trials took.

    Args:
        epochs: Of a whole training.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.seconds: dict[int, float] = {}
        self.counted_seconds: list[float] = []
        self._reached = 0.0  # epochs of all trials together
        self._stopped: dict[int, float] = {}  # … of those that were stopped
        self._parents: list[int] = []

    @property
    def trials(self) -> float:
        """How many whole ones that comes to."""
        before = sum(self._stopped.get(parent, 0) for parent in self._parents)
        return (self._reached - before) / self.epochs

    def learn(self, records: Sequence[TrialRecord]) -> None:
        """Adds records."""
        for record in records:
            self.seconds[record.number] = record.seconds
            if record.outcome in FREE:
                continue
            if record.outcome is not Outcome.STOPPED or record.epochs != 0:  # else it waits untrained
                self.counted_seconds.append(record.seconds)
            if record.outcome is Outcome.STOPPED:
                self._stopped[record.number] = record.epochs or 0
            self._reached += self._stopped.get(record.number, self.epochs)
            if record.parent is not None:
                self._parents.append(record.parent)


class _Front:
    """The members, and in which environments each quantity that is compared was measured."""

    def __init__(self, recipe: Recipe) -> None:
        self.objectives = recipe.parsed_objectives
        self.constraints = recipe.parsed_constraints
        self.members: list[TrialRecord] = []
        self.environments: dict[str, set[str]] = {key: set() for key, _ in compared(recipe)}

    def learn(self, records: Sequence[TrialRecord]) -> None:
        """Adds records."""
        for record in records:
            if record.outcome is Outcome.MEASURED:
                for key, environments in self.environments.items():
                    quantity = record.quantity(key)
                    if quantity is not None and quantity.environment_id is not None:
                        environments.add(quantity.environment_id)
        if records:
            self.members = pareto_front([*self.members, *records], self.objectives, self.constraints)
