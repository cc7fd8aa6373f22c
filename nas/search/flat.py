"""For how long a search has found nothing better: since when its hypervolume has not grown."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from nas.front import GrowingVolume, reference_from
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.record import TrialRecord

# The hypervolume has grown when it has by more than this share of itself.
GROWTH = 0.001
# So many of the latest trials are gone through each time: of workers the later trial may end first.
UNSETTLED = 64


class Growth:
    """The growth of the hypervolume, trial by trial in the order of their numbers.

    Args:
        recipe: Objectives and constraints.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.objectives = recipe.parsed_objectives
        self.constraints = recipe.parsed_constraints
        self.elapsed = 0.0
        self._volume: GrowingVolume | None = None
        self._grown = 0.0
        self.last = 0.0  # when it grew

    def add(self, record: TrialRecord) -> None:
        """Goes on by a trial."""
        self.elapsed += record.seconds
        if record.outcome is Outcome.STOPPED and self._volume is None:
            self.last += record.seconds  # what was only begun cannot have grown
        if record.outcome is not Outcome.MEASURED:
            return
        if self._volume is None:
            reference = reference_from([record], self.objectives)
            assert reference is not None
            self._volume = GrowingVolume(reference, self.objectives)
        if not record.feasible(self.constraints):
            return
        self._volume = self._volume.with_trial(record)
        if self._volume.value > self._grown * (1 + GROWTH):
            self._grown, self.last = self._volume.value, self.elapsed


class Flatness:
    """For how many seconds of search the hypervolume has not grown, by more than ``GROWTH`` of itself.

    Time is the sum of the trials' seconds, so that a pause between two runs is none of it. Small gains add up until
    together they are growth. Before the first trial that meets the constraints there is nothing that could grow, and
    the time since the beginning counts, less that of trainings which were only begun before one was measured.

    Args:
        recipe: Objectives and constraints.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._settled: list[TrialRecord] = []
        self._growth = Growth(recipe)

    def seconds(self, records: Sequence[TrialRecord], now: float | None = None) -> float:
        """The seconds.

        Args:
            records: The study's; it takes less time where they are those of the last time and a few more.
            now: Seconds of search so far; those of all records by default.
        """
        known, latest = len(self._settled), -1
        rest = sorted(records[known:], key=lambda record: record.number)
        if self._settled:
            latest = self._settled[-1].number
        if list(records[:known]) != self._settled or (rest and rest[0].number < latest):
            self._settled, self._growth = [], Growth(self.recipe)
            rest = sorted(records, key=lambda record: record.number)
        old = max(0, len(rest) - UNSETTLED)
        for record in rest[:old]:
            self._growth.add(record)
        self._settled += rest[:old]
        growth = copy.copy(self._growth)
        for record in rest[old:]:
            growth.add(record)
        return max(0.0, (growth.elapsed if now is None else now) - growth.last)
