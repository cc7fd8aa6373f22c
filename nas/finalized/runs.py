"""A design trained again for longer, from several seeds, as values: a run for each seed, all of a budget together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nas.design import Design
from nas.errors import StudyError
from nas.finalized.spread import Spread, spread
from nas.outcome import Outcome, Quantity
from nas.record import TrialRecord

VERSION = 1

# The origin of a run's record.
ORIGIN = "final"

# Several seeds at fewer epochs say more of a design than a single one at more.
FEWEST_SEEDS = 2


@dataclass(frozen=True, order=True)
class FullBudget:
    """How long a design is trained: epochs of its float network, and of each compression step that trains on."""

    epochs: int
    finetune_epochs: int


@dataclass(frozen=True)
class Run:
    """One training of a design.

    Args:
        budget: How long.
        record: As of a trial: its number, its seed (see ``origin``), all that was measured, or why nothing was.
        test: Accuracies of the artifact on test data.
    """

    budget: FullBudget
    record: TrialRecord
    test: tuple[Quantity, ...] = ()

    @property
    def seed(self) -> int:
        return self.record.seed

    @property
    def measured(self) -> bool:
        return self.record.outcome is Outcome.MEASURED

    def to_json(self) -> dict[str, Any]:
        return {
            "epochs": self.budget.epochs,
            "finetune_epochs": self.budget.finetune_epochs,
            "record": self.record.to_json(),
            "test": [quantity.to_json() for quantity in self.test],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Run:
        return cls(
            FullBudget(int(data["epochs"]), int(data["finetune_epochs"])),
            TrialRecord.from_json(data["record"]),
            tuple(Quantity.from_json(item) for item in data["test"]),
        )


@dataclass(frozen=True)
class Timed:
    """Latencies of one artifact that were taken in turns with the other designs' artifacts.

    Args:
        artifact_sha256: Whose.
        time: When, ISO 8601, UTC; the same for all that took turns.
        quantities: The latencies.
    """

    artifact_sha256: str
    time: str
    quantities: tuple[Quantity, ...]

    def to_json(self) -> dict[str, Any]:
        quantities = [quantity.to_json() for quantity in self.quantities]
        return {"artifact_sha256": self.artifact_sha256, "time": self.time, "quantities": quantities}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Timed:
        quantities = tuple(Quantity.from_json(item) for item in data["quantities"])
        return cls(str(data["artifact_sha256"]), str(data["time"]), quantities)


@dataclass(frozen=True)
class Finalized:
    """A design trained at one full budget.

    Args:
        trial: The number of the search's trial.
        budget: How long it was trained.
        runs: By seed, at least one of them measured.
        timed: The latencies that were taken in turns, where there are any.
    """

    trial: int
    budget: FullBudget
    runs: tuple[Run, ...]
    timed: Timed | None = None

    @property
    def design(self) -> Design:
        return self.runs[0].record.design

    @property
    def measured(self) -> list[Run]:
        return [run for run in self.runs if run.measured]

    @property
    def best(self) -> Run:
        """The seed to ship: the most accurate on validation data, never on test data; of a tie the first."""
        return max(self.measured, key=lambda run: (run.record.value("accuracy"), -run.seed))

    @property
    def record(self) -> TrialRecord:
        """The best seed's record, with the latencies taken in turns where these are of its artifact and its machine."""
        record = self.best.record
        if self.timed is None or self.timed.artifact_sha256 != record.artifact_sha256:
            return record
        now = {quantity.key: quantity.environment_id for quantity in record.quantities}
        fitting = (q for q in self.timed.quantities if q.key in now and now[q.key] == q.environment_id)
        quantities = {quantity.key: quantity for quantity in (*record.quantities, *fitting)}
        return replace(record, quantities=tuple(quantities.values()))

    @property
    def test_scores(self) -> Mapping[str, Quantity]:
        """The best seed's test accuracies, by name."""
        return {quantity.name: quantity for quantity in self.best.test}

    @property
    def accuracy(self) -> Spread:
        """Validation accuracy over the seeds."""
        return spread([_quantity(run.record.quantities, "accuracy") for run in self.measured])

    @property
    def test_accuracy(self) -> Spread:
        """Test accuracy over the seeds."""
        return spread([_quantity(run.test, "test_accuracy") for run in self.measured])


@dataclass(frozen=True)
class History:
    """All runs of a design, at whatever budgets, and what was last timed in turns.

    Args:
        trial: The number of the search's trial.
        runs: In the order in which they were done.
        timed: Latencies of one of their artifacts.
    """

    trial: int
    runs: tuple[Run, ...] = ()
    timed: Timed | None = None

    def run(self, budget: FullBudget, seed: int) -> Run | None:
        """The run of a seed at a budget; None where there is none yet."""
        return next((run for run in self.runs if run.budget == budget and run.seed == seed), None)

    def with_run(self, run: Run) -> History:
        """With a run in place of any of the same seed and budget."""
        others = (old for old in self.runs if (old.budget, old.seed) != (run.budget, run.seed))
        return replace(self, runs=(*others, run))

    def at(self, budget: FullBudget) -> Finalized | None:
        """What was done at a budget; None where nothing of it could be measured."""
        runs = [run for run in self.runs if run.budget == budget]
        if not any(run.measured for run in runs):
            return None
        return Finalized(self.trial, budget, tuple(sorted(runs, key=lambda run: run.seed)), self.timed)

    @property
    def chosen(self) -> Finalized | None:
        """The longest budget that several seeds were trained for, else the longest; None where nothing was measured."""
        found = [done for budget in {run.budget for run in self.runs} if (done := self.at(budget)) is not None]
        return max(found, key=lambda done: (len(done.measured) >= FEWEST_SEEDS, done.budget), default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "trial": self.trial,
            "runs": [run.to_json() for run in self.runs],
            "timed": None if self.timed is None else self.timed.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> History:
        """Reads what ``to_json`` wrote.

        Raises:
            StudyError: Another version.
            KeyError, TypeError, ValueError: A field is missing or not what it must be.
        """
        if data["version"] != VERSION:
            raise StudyError(f"the version of a final training must be {VERSION}, but got {data['version']!r}")
        timed = None if data["timed"] is None else Timed.from_json(data["timed"])
        history = cls(int(data["trial"]), tuple(Run.from_json(item) for item in data["runs"]), timed)
        if len({run.record.design.digest for run in history.runs}) > 1:
            raise ValueError("its runs are of several designs")
        return history


def _quantity(quantities: Sequence[Quantity], name: str) -> Quantity:
    return next(quantity for quantity in quantities if quantity.key == name)
