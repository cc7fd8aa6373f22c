"""What a guided search needs of each of its records, found once: values, gains of trainings, errors of predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeVar

import numpy as np

from nas.design import Design
from nas.objectives import Objective
from nas.outcome import Outcome, Quantity
from nas.proxies import prediction, rung_of
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.durations import training_seconds
from nas.search.fans import Shape, files, shape
from nas.search.foreseen import DISTURBED, cost_and_spread, disagreement, expected_cost
from nas.search.rung_gains import RungGains
from nas.search.table import Table

K = TypeVar("K")
NAN = float("nan")
# What an error is taken for at least, where its logarithm is.
LEAST_ERROR = 1e-4
# The first and the last stage of what is done to an untrained network to foresee its costs.
LOOK = ("sketch", "count")


class Stopped(NamedTuple):
    """A trial that was stopped at a rung: its design's digest, and the rung's epochs; 0 where it waits untrained."""

    digest: str
    epochs: float | None


class Tally:
    """What records told; see ``nas.growing``. Trials are named by their numbers, architectures by their digests.

    Args:
        recipe: Objectives and constraints.
        shape: What of a design its costs depend on.
        files: What of N designs their files depend on.

    Attributes:
        records: All of them.
        designs: Digests of designs that need not be tried again as a fan.
        architectures: All that were tried.
        trained: Of each architecture that was trained to its end the first trial that did so.
        asked: How many of the sampler's designs were trained, at least to a rung, and ``drawn`` how many drawn ones.
        begun: Of each architecture that was trained, or begun to be, the first trial that did so.
        evaluated: Digests of designs that were measured.
        ended: Digests of designs that no training goes on for: measured, or given up for what they are.
        screened: Digests of designs that were screened out.
        gone_on: Trials whose training was gone on with.
        values: Of measured trials the objectives.
        uncertain: Of measured and stopped trials those values of their costs that were disturbed; 0 for others, and
            for qualities.
        disturbed: For each objective how far off a time is that was disturbed, as a share of it: as far as two times of
            one network disagree, ``DISTURBED`` standing for one more of such pairs.
        feasible: Those of them that meet all constraints.
        looked: Of designs that were looked at before their training, likewise.
        shapes: Of measured files, by what their costs depend on, the first trial's record.
        filed: What the files of measured designs depend on: another one of these would be the same.
        limited: Of each constraint, by its quantity's key, the quantity's value of the trials that have it.
        timed: Trials that tell how long others take.
        stopped: Trials that were stopped.
        costs: What is known of their objectives; NaN for qualities, and for costs that are not known.
        errors: Of them the rung's epochs, and the logarithm of the error there; NaN where these are not known.
        at_rung: By epochs the objectives at a rung, of trials of which all are known: a quality is the float network's
            at the rung, a cost what was known before the training.
        compressions: Of every trial that was measured or stopped the number of its compression among ``gains``.
        gains: How much the logarithm of the error changes from a rung to the end.
        misses: For each objective how far measured values lay from predictions, in half-widths of their intervals.
        trainings: Seconds that whole trainings take, as far as trials tell.
        looks: Seconds that it took to see what untrained networks cost.
    """

    def __init__(
        self,
        recipe: Recipe,
        shape: Callable[[Design], Shape] = shape,
        files: Callable[[Sequence[Design]], list[Shape]] = files,
    ) -> None:
        self.recipe = recipe
        self.shape = shape
        self.files = files
        self.objectives = recipe.parsed_objectives
        self.constraints = recipe.parsed_constraints
        self.records: dict[int, TrialRecord] = {}
        self.designs: set[str] = set()
        self.architectures: set[str] = set()
        self.trained: dict[str, TrialRecord] = {}
        self.asked = self.drawn = 0
        self.begun: dict[str, TrialRecord] = {}
        self.evaluated: set[str] = set()
        self.ended: set[str] = set()
        self.screened: set[str] = set()
        self.gone_on: set[int] = set()
        self.values = Table(len(self.objectives))
        self.uncertain = Table(len(self.objectives))
        self.disturbed = np.full(len(self.objectives), DISTURBED)
        # Of each objective so many such pairs, and the sum of the squares by which their logarithms differ: an exact
        # one, so that the order in which trials end does not matter.
        self._pairs = [(1, Fraction(2 * DISTURBED**2))] * len(self.objectives)
        self.feasible = Table(0)
        self.shapes: dict[Shape, TrialRecord] = {}
        self.looked: dict[Shape, TrialRecord] = {}
        self.filed: set[Shape] = set()
        self.limited = {constraint.quantity.key: Table(1) for constraint in self.constraints}
        self.timed: set[int] = set()
        self.stopped: dict[int, Stopped] = {}
        self.costs = Table(len(self.objectives))
        self.errors = Table(2)
        self.at_rung: defaultdict[float, Table] = defaultdict(lambda: Table(len(self.objectives)))
        self.compressions = Table(1)
        self.gains = RungGains()
        # Promotions, by the number of the trial before them that is not known yet.
        self._orphans: defaultdict[int, list[TrialRecord]] = defaultdict(list)
        self.misses: list[list[float]] = [[] for _ in self.objectives]
        self.trainings: list[float] = []
        self.looks: list[float] = []

    def learn(self, records: Sequence[TrialRecord]) -> None:
        """Adds records."""
        files = self.files([record.design for record in records])  # of all at once, which takes less long
        for record, file in zip(records, files, strict=True):
            self._learn(record, file)

    def _learn(self, record: TrialRecord, file: Shape) -> None:
        self.records[record.number] = record
        digest, architecture = record.design.digest, record.design.architecture_digest
        transient = record.reason is not None and record.reason.transient
        if not transient:
            self.designs.add(digest)
        self.architectures.add(architecture)
        if record.outcome in (Outcome.MEASURED, Outcome.STOPPED) and record.epochs != 0:
            self.timed.add(record.number)
            _first(self.begun, architecture, record)
            self.asked += record.origin == "asked"
            self.drawn += record.origin == "drawn"
            if (seconds := training_seconds(record, self.recipe.budget.epochs)) is not None:
                self.trainings.append(seconds)
        if (look := _look(record)) is not None:
            self.looks.append(look)
            _first(self.looked, self.shape(record.design), record)
        if record.outcome not in (Outcome.STOPPED, Outcome.DUPLICATE) and not transient:
            self.ended.add(digest)
        if record.outcome is Outcome.SCREENED:
            self.screened.add(digest)
        if record.origin == "promotion" and record.parent is not None:
            self.gone_on.add(record.parent)
        for key, values in self.limited.items():
            if (quantity := record.quantity(key)) is not None:
                values[record.number] = (quantity.value,)
        rungs = rungs_of(record)
        if rungs or record.outcome in (Outcome.MEASURED, Outcome.STOPPED):
            self.compressions[record.number] = (self.gains.compression(record.design.compression),)
        for epochs, reached in rungs.items():
            self.gains.stood(architecture, epochs, log_error(reached))
            if (there := at_rung(record, reached, self.objectives, self.recipe)) is not None:
                self.at_rung[epochs][record.number] = there
        if record.outcome in (Outcome.MEASURED, Outcome.STOPPED):
            known = [
                (NAN, 0.0) if o.maximise else cost_and_spread(record, o, self.recipe, 1.0) for o in self.objectives
            ]
            self.uncertain[record.number] = [spread for _, spread in known]
        if record.outcome is Outcome.STOPPED:
            self.costs[record.number] = [cost for cost, _ in known]
            accuracy = rungs.get(record.epochs) if record.epochs is not None else None
            self.stopped[record.number] = Stopped(digest, record.epochs)
            error = NAN if accuracy is None else log_error(accuracy)
            self.errors[record.number] = (NAN if record.epochs is None else record.epochs, error)
        if record.outcome is Outcome.MEASURED:
            self._learn_measured(record, file)
        for orphan in self._orphans.pop(record.number, []):
            self._learn_misses(orphan)

    def spreads(self, trials: np.ndarray) -> np.ndarray:
        """The standard deviations of what measured or stopped trials' costs are known as, N×M; 0 where surrogates find
        out themselves."""
        return np.asarray(self.uncertain.rows(trials) * self.disturbed)

    @property
    def waiting(self) -> dict[int, Stopped]:
        """The stopped trials that nothing went on from, by number."""
        return {
            number: own
            for number, own in self.stopped.items()
            if number not in self.gone_on and own.digest not in self.ended
        }

    def at_end(self, epochs: float, record: TrialRecord | None = None, own: Sequence[float] = ()) -> Table:
        """By trial the objectives that are expected at the end of those that came to a rung, compression included.

        While too few went on to tell how accuracies change to the end, they stand as at the rung but for compression.

        Args:
            epochs: Of the rung.
            record: One that is there as well, though its trial did not end yet.
            own: Its objectives at the rung.
        """
        there = self.at_rung[epochs]
        trials, compressions = there.trials, self.compressions
        if record is not None:
            there = there.with_row(record.number, own)
            compressions = compressions.with_row(record.number, (self.gains.compression(record.design.compression),))
            trials = there.trials
        rows, numbers = there.rows(trials), compressions.rows(trials)[:, 0]
        qualities = np.array([objective.maximise for objective in self.objectives])
        errors = np.log(np.maximum(LEAST_ERROR, 1 - rows))
        changes = self.gains.expected(epochs, errors[:, np.argmax(qualities)], numbers)
        if np.isnan(changes).any():
            changes = self.gains.by_compression(numbers)
        errors += changes[:, None]
        return Table.of_rows(trials, np.where(qualities, 1 - np.exp(np.minimum(0.0, errors)), rows))

    def _learn_measured(self, record: TrialRecord, file: Shape) -> None:
        self.values[record.number] = [record.value(objective.key) for objective in self.objectives]
        for place, objective in enumerate(self.objectives):
            differ = None if objective.maximise else disagreement(record, objective, self.recipe)
            if differ is not None:
                count, squares = self._pairs[place]
                count, squares = count + 1, squares + Fraction(differ**2)
                self._pairs[place] = count, squares
                self.disturbed[place] = float(squares / (2 * count)) ** 0.5  # both times are off
        self.evaluated.add(record.design.digest)
        _first(self.trained, record.design.architecture_digest, record)
        _first(self.shapes, self.shape(record.design), record)
        self.filed.add(file)
        if record.feasible(self.constraints):
            self.feasible[record.number] = ()
        # Fans too: their network stood at the rungs when it was trained for another trial.
        compression = self.gains.compression(record.design.compression)
        self.gains.ended(record.design.architecture_digest, compression, log_error(record.value("accuracy")))
        self._learn_misses(record)

    def _learn_misses(self, record: TrialRecord) -> None:
        """How far off the forecast was; a promotion's is that from before its training, not from between two rungs."""
        foreseen = record
        while foreseen.origin == "promotion" and foreseen.parent is not None:
            if foreseen.parent not in self.records:
                self._orphans[foreseen.parent].append(record)
                return
            foreseen = self.records[foreseen.parent]
        for objective, misses in zip(self.objectives, self.misses, strict=True):
            if (quantity := prediction(foreseen, objective)) is not None:
                misses.append(_miss(quantity, record.value(objective.key), objective))


def _first(trials: dict[K, TrialRecord], key: K, record: TrialRecord) -> None:
    """Keeps the earlier trial."""
    if key not in trials or record.number < trials[key].number:
        trials[key] = record


def _look(record: TrialRecord) -> float | None:
    """How long it took to see what the untrained network costs; None where nobody looked."""
    names = [stage.stage for stage in record.stages]
    if not set(names) >= set(LOOK):
        return None
    first, last = (names.index(name) for name in LOOK)
    return sum(stage.seconds for stage in record.stages[first : last + 1])


def rungs_of(record: TrialRecord) -> dict[float, float]:
    """The accuracies that a trial had at rungs, by their epochs."""
    reached = ((rung_of(quantity), quantity.value) for quantity in record.quantities)
    return {epochs: accuracy for epochs, accuracy in reached if epochs is not None}


def at_rung(
    record: TrialRecord, accuracy: float, objectives: Sequence[Objective], recipe: Recipe
) -> tuple[float, ...] | None:
    """Where a trial stood at a rung where it had such an accuracy; None where a cost is not known."""
    values = [accuracy if objective.maximise else expected_cost(record, objective, recipe) for objective in objectives]
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) else None


def log_error(accuracy: float) -> float:
    """The logarithm of an error, of ``LEAST_ERROR`` at least."""
    return float(np.log(max(LEAST_ERROR, 1 - accuracy)))


def on_axis(value: float, objective: Objective) -> float:
    """Costs with a logarithmic axis are widened in their logarithm."""
    return float(np.log(max(value, 1e-12))) if objective.kind.log_axis else value


def _miss(quantity: Quantity, value: float, objective: Objective) -> float:
    """How far a measured value lies from what was predicted, in half-widths of the interval before it was widened."""
    assert quantity.low is not None
    assert quantity.high is not None
    centre, own = on_axis(quantity.value, objective), on_axis(value, objective)
    end = on_axis(quantity.high if own > centre else quantity.low, objective)
    width = abs(end - centre) / float(quantity.detail.get("inflation", 1.0))
    return abs(own - centre) / width if width > 0 else float(own != centre)
