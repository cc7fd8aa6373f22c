"""A study as it stands on disk, for reading."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from nas.errors import StudyError
from nas.front import Reference, pareto_front, reference_from
from nas.measurements import read_measurements, timed_in_turns
from nas.objectives import Objective
from nas.outcome import Outcome, Quantity
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.safety.json_text import read_json
from nas.store import Store
from nas.study.decided import decided_in_turns
from nas.study.folder import StudyFolder, load_own_recipe
from nas.study.standing import Standing
from nas.study.trials import counted, read_trials
from nas.target import ONNX


class Study:
    """A study as it stands on disk, for reading.

    Args:
        folder: Where it lies.
        recipe: What it searches.
        records: Its trials.
        in_turns: Those of them whose latencies were timed in turns, with these latencies, by number. They stand in for
            the records, and decide who of them is on the front (see ``nas.study.decided``).
        standing: Knows the front of the study with fewer trials, where one is read again and again.
    """

    def __init__(
        self,
        folder: StudyFolder,
        recipe: Recipe,
        records: list[TrialRecord],
        in_turns: Mapping[int, TrialRecord] | None = None,
        standing: Standing | None = None,
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self.as_told = records
        self.standing = standing or Standing(folder, recipe)
        self.in_turns = dict(in_turns or {})
        self.records = [self.in_turns.get(record.number, record) for record in records] if self.in_turns else records

    @classmethod
    def open(cls, path: Path) -> Study:
        """Reads a study.

        Raises:
            StudyError: There is none, or a file of it is damaged.
        """
        folder = StudyFolder(path)
        if not folder.is_study():
            raise StudyError(f"there is no study in {path}", "run 'nas search RECIPE' first, or name its folder")
        recipe = load_own_recipe(folder.recipe)
        records = read_trials(folder, recipe)
        return cls(folder, recipe, records, timed_in_turns(records, read_measurements(folder.measurements)))

    @property
    def name(self) -> str:
        """The folder's name; bytes in it that are no UTF-8, which could not be printed, are spelled ``\\xe9``."""
        return os.fsencode(self.folder.path.resolve().name).decode(errors="backslashreplace")

    @property
    def measured(self) -> list[TrialRecord]:
        """The trials that were measured, by number."""
        return [record for record in self.records if record.outcome is Outcome.MEASURED]

    @property
    def counted(self) -> list[TrialRecord]:
        """The trials that something was spent on, see ``counted``."""
        return counted(self.records)

    @property
    def spent(self) -> float:
        """How many trials of the budget are spent, see ``spent``."""
        return self.standing.spent(self.as_told)

    @property
    def seconds(self) -> float:
        """Wall time of the search so far, all runs of it together."""
        return self.standing.seconds(self.as_told)

    @cached_property
    def front(self) -> list[TrialRecord]:
        """The non-dominated feasible measured trials, cheapest first (by the first objective that is a cost).

        Among those that were timed in turns the turns decide, see ``nas.study.decided``.

        Raises:
            StudyError: Their latencies were measured on more than one machine, and so cannot be compared.
        """
        return self._with_turns(self.front_as_told, self.recipe.parsed_objectives)

    def front_in(self, objectives: Sequence[Objective]) -> list[TrialRecord]:
        """The front in some of the recipe's objectives, among them a cost; raises as ``front``."""
        if tuple(objectives) == self.recipe.parsed_objectives:
            return self.front
        _ = self.front  # so that it is of one machine
        return self._with_turns(pareto_front(self.as_told, objectives, self.recipe.parsed_constraints), objectives)

    def _with_turns(self, told: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
        """The front once the turns have decided, given that by the numbers that trials were told with."""
        numbers = [record.number for record in told]
        limits = self.recipe.parsed_constraints
        members = decided_in_turns(numbers, self.as_told, self.in_turns, objectives, limits)
        cost = next(objective.key for objective in objectives if not objective.maximise)
        return sorted(
            (record for record in self.records if record.number in members),
            key=lambda record: (record.value(cost), record.number),
        )

    @property
    def front_as_told(self) -> list[TrialRecord]:
        """The front by the numbers that trials were told with, each measured alone; raises as ``front``."""
        return self.standing.front(self.as_told)

    @cached_property
    def reference(self) -> Reference | None:
        """The reference point of this study's hypervolume; None before the first measured trial."""
        return reference_from(self.records, self.recipe.parsed_objectives)

    def record(self, number: int) -> TrialRecord:
        """The record of a trial.

        Raises:
            StudyError: There is none of that number.
        """
        for record in self.records:
            if record.number == number:
                return record
        last = (
            f"trials run from {self.records[0].number} to {self.records[-1].number}"
            if self.records
            else "no trials yet"
        )
        raise StudyError(f"there is no trial {number} in {self.folder.path}", last)

    def measured_trial(self, number: int, otherwise: str) -> TrialRecord:
        """The record of a trial that was measured itself.

        Args:
            number: The trial's.
            otherwise: What is said of another, such as ``cannot be trained again``.

        Raises:
            StudyError: There is none of that number, it repeats another's design, or it was not measured.
        """
        record = self.record(number)
        if (first := record.duplicate_of) is not None:
            raise StudyError(f"trial {number} only repeats the design of trial {first}", f"--trial {first}")
        if record.outcome is not Outcome.MEASURED:
            reason = f": {record.reason.message}" if record.reason else ""
            hint = f"name a measured one; 'nas front {self.folder.path}' lists the best"
            raise StudyError(f"trial {number} {otherwise}, it ended as {record.outcome}{reason}", hint)
        return record

    @cached_property
    def test_scores(self) -> Mapping[int, Mapping[str, Quantity]]:
        """Test accuracy of the finished front: trial number → quantity name → quantity. Empty before the end."""
        try:
            data = read_json(self.folder.test_scores, StudyError)
            return {
                int(number): {item["name"]: Quantity.from_json(item) for item in items}
                for number, items in data.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StudyError(
                f"{self.folder.test_scores} cannot be read: {error}", "delete it; the next search writes it anew"
            ) from error

    @cached_property
    def store(self) -> Store:
        """The study's cache."""
        return Store(self.folder.cache, self.recipe.cache_limit_mb * 10**6)

    def artifact(self, record: TrialRecord, form: str = ONNX) -> bytes:
        """The artifact of a measured trial in a form, checked against its digest.

        Raises:
            StudyError: It is not in the cache, or was changed.
        """
        sha256 = record.file_for(form)
        content = self.store.read_blob(sha256) if sha256 else None
        if content is None:
            raise StudyError(
                f"the artifact of trial {record.number} is not in {self.folder.cache}",
                "run the search again, which makes the front's missing artifacts anew; others stay while there is room",
            )
        return content
