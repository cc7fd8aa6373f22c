"""Who stands on the front of a study that grows: the members of before and the trials that are new decide it."""

from __future__ import annotations

from collections.abc import Sequence

from nas.front import pareto_front
from nas.growing import Growing
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.study.folder import StudyFolder
from nas.study.trials import check_one_machine, compared


class Standing:
    """The front of one study.

    Args:
        folder: The study's folder.
        recipe: Whose objectives and constraints are compared.
    """

    def __init__(self, folder: StudyFolder, recipe: Recipe) -> None:
        self.folder = folder
        self.recipe = recipe
        self._growing = Growing(lambda: _Front(recipe), _Front.learn)

    def front(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The non-dominated feasible measured trials.

        Raises:
            StudyError: Their latencies were measured on more than one machine, and so cannot be compared.
        """
        found = self._growing.of(records)
        if any(len(environments) > 1 for environments in found.environments.values()):
            check_one_machine(self.folder, self.recipe, records)
        return found.members


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
