"""What a search knows at a moment: surrogates of every objective, fitted on what trials told, stopped ones included.

A trial that was stopped at a rung has no final accuracy. What becomes of networks from a rung to the file that ships is
seen on those that went through (``nas.search.rung_gains``); by this a stopped trial's is estimated, with what is left
unexplained as its noise. It feeds the surrogate and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from scipy.stats import norm

from nas.design import Design
from nas.errors import SurrogateError
from nas.front import Reference, non_dominated
from nas.objectives import Constraint, Objective
from nas.outcome import How, Quantity
from nas.proxies import PREDICTED, prediction
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.cues import Cues
from nas.search.durations import Durations
from nas.search.encoder import Encoder
from nas.search.foreseen import known_cost
from nas.search.tally import Tally, on_axis
from nas.surrogate.coded import Coded
from nas.surrogate.cues import Cost
from nas.surrogate.evolve import ranked
from nas.surrogate.history import Known, surrogates
from nas.surrogate.outlook import Outlook

# Fewer measured trials than this, and nothing is believed.
FEWEST = 5
# Confidence of the intervals that are kept with a trial.
LEVEL = 0.9
# What screens is so many times as far from the expected as the ends of these intervals: few of many designs that are
# screened out may be of the front, so that 95 % for each is by far not enough.
SCREENING_WIDTH = 1.5
# With fewer measured trials than this nothing is screened out.
FEWEST_TO_SCREEN = 15
# So many predictions must have met their measurements before the intervals are corrected by how they did.
FEWEST_CHECKED = 8
# Of what is expected of a stopped training: the least spread of the logarithm of its error that is believed.
LEAST_SPREAD = 0.05

# What costs are of, by their unit; others add up from what a network holds.
COSTS_OF: Mapping[str, Cost] = {"ms": "time", "FLOP": "work", "MAC": "work"}

# So many trials, evenly spaced over the study, tell how long others take.
TIMED = 1000


class Knowledge:
    """Surrogates fitted on a study's records.

    Args:
        encoder: Of the space that designs are of.
        recipe: Objectives, constraints, epochs, seed.
        tally: What trials told so far.
        reference: Of the hypervolume; None before the first measured trial.
        cues: Cheap measures that help the surrogates: of an earlier study, of a supernet.

    Raises:
        SurrogateError: Too little is known, or nothing can be fitted to it.
    """

    def __init__(
        self,
        encoder: Encoder,
        recipe: Recipe,
        tally: Tally,
        reference: Reference | None,
        cues: Cues | None = None,
    ) -> None:
        self.recipe = recipe
        self.objectives = recipe.parsed_objectives
        self.constraints = recipe.parsed_constraints
        self.maximise = [objective.maximise for objective in self.objectives]
        self.cues = cues
        self.tally = tally
        self.measured = tally.values.trials
        if len(self.measured) < FEWEST or reference is None:
            raise SurrogateError(f"{len(self.measured)} trials were measured, but {FEWEST} are needed to learn from")
        self.reference = np.array(reference.values)
        self.encoder = encoder
        stopped = [number for number, own in tally.stopped.items() if own.digest not in tally.evaluated]
        self.stopped = np.array(sorted(stopped), dtype=int)
        self.values, self.noise = self._values()
        trials = np.concatenate([self.measured, self.stopped])
        self.outlook = self._surrogates(trials, self.values, self.noise, self.objectives, len(self.measured))
        self.feasible = self.measured[tally.feasible.has(self.measured)]
        self.points = tally.values.rows(self.feasible)
        self.front = self.points[non_dominated(self.points, self.maximise)]

    def _surrogates(
        self,
        trials: np.ndarray,
        values: np.ndarray,
        noise: np.ndarray,
        objectives: Sequence[Objective],
        own: int,
    ) -> Outlook:
        """Surrogates of N×K values that N trials told; arguments as of ``Known``."""

        def designs(places: np.ndarray) -> list[Design]:
            return [self.tally.records[number].design for number in trials[places].tolist()]

        costs, cues = costs_among(objectives), self.cues
        cued, roles = (None, None) if cues is None else (lambda places: cues.of(designs(places)), cues.roles)
        known = Known(lambda places: self.encoder.encode(designs(places)), values, noise, own, cued, roles, costs)
        return surrogates(self.encoder.encoding, known, [objective.maximise for objective in objectives])

    @cached_property
    def front_ahead(self) -> np.ndarray:
        """The front, K×M in own units, with what trainings that were begun and wait are expected to come to.

        Whatever is new has to add to it: else a search begins one design after the other that is as good as the last,
        and finishes none.
        """
        points = np.vstack([self.front, self._prospects()])
        return np.asarray(points[non_dominated(points, self.maximise)])

    def _prospects(self) -> np.ndarray:
        """What is expected of trainings that wait, P×M in own units."""
        places = np.flatnonzero(self._within_reach)
        if not len(places):
            return np.zeros((0, len(self.objectives)))
        designs = [self.tally.records[number].design for number in self.stopped[places].tolist()]
        middle, _ = self.outlook.interval(self.encoder.encode(designs), 0.0, cues=self._cues(designs))
        return np.where(self.maximise, middle, self.values[len(self.measured) + places])

    @cached_property
    def _within_reach(self) -> np.ndarray:
        """Which of the stopped trials were begun and wait, and break no limit as far as is known."""
        waiting, estimates = self.tally.waiting, self.values[len(self.measured) :]
        keys = [objective.key for objective in self.objectives]

        def may_serve(number: int, estimate: np.ndarray) -> bool:
            for constraint in self.constraints:
                key = constraint.quantity.key
                value = known_cost(self.tally.records[number], constraint.quantity, self.recipe)
                value = float(estimate[keys.index(key)]) if value is None and key in keys else value
                if value is not None and constraint.violation(value) > 0:
                    return False
            return number in waiting and bool(waiting[number].epochs)

        reached = [may_serve(number, own) for number, own in zip(self.stopped.tolist(), estimates, strict=True)]
        return np.asarray(np.array(reached, dtype=bool) & np.isfinite(estimates).all(axis=1))

    def best_first(self) -> Iterator[TrialRecord]:
        """The measured trials from most to least promising: by non-dominated rank, then by how alone they stand."""
        signs = np.where(self.maximise, 1.0, -1.0)
        for place in ranked(signs * self.values[: len(self.measured)]):
            yield self.tally.records[int(self.measured[place])]

    @property
    def screens(self) -> bool:
        """Whether enough is known to give designs up untrained."""
        return len(self.measured) >= FEWEST_TO_SCREEN

    @cached_property
    def durations(self) -> Durations:
        """How long trials take."""
        timed = [self.tally.records[number] for number in _evenly(sorted(self.tally.timed), TIMED)]
        return Durations(timed, self.encoder.encode([r.design for r in timed]), self.recipe.budget.epochs)

    def seconds(self, designs: Sequence[Design], shares: np.ndarray) -> np.ndarray:
        """Expected seconds of designs that have such shares of their training still before them."""
        return self.durations.seconds(self.encoder.encode(designs), shares)

    def column_seconds(self, columns: Mapping[str, Coded], share: float = 1.0) -> np.ndarray:
        """Expected seconds of new designs, given by choice, that are given such a share of their training."""
        encoded = self.encoder.encode_columns(columns)
        return self.durations.seconds(encoded, np.full(len(encoded), share))

    def spread_of(self, number: int) -> tuple[float, ...]:
        """The standard deviations of what a trial's objectives were measured as; of a duplicate those of what it
        repeats, 0 of one that tells of none."""
        record = self.tally.records.get(number)
        if record is not None and record.duplicate_of is not None:
            number = record.duplicate_of
        if number not in self.tally.uncertain:
            return (0.0,) * len(self.objectives)
        return tuple(self.tally.spreads(np.array([number]))[0].tolist())

    def estimates(self) -> list[tuple[Design, tuple[float, ...], tuple[float, ...], bool]]:
        """Of stopped trials the designs, what their objectives would be (NaN where that is open), how surely, and
        whether they wait to go on."""
        designs = [self.tally.records[number].design for number in self.stopped.tolist()]
        values, noise = (part[len(self.measured) :].tolist() for part in (self.values, self.noise))
        return list(zip(designs, map(tuple, values), map(tuple, noise), self._within_reach.tolist(), strict=True))

    def improvement(
        self,
        designs: Sequence[Design],
        known: np.ndarray | None = None,
        rough: bool = False,
        new: Sequence[bool] | np.ndarray | None = None,
    ) -> np.ndarray:
        """Expected hypervolume improvement of designs, those likely to break a constraint for less.

        Args:
            designs: N designs.
            known: N×M×2: objectives in their own units where they are known already, NaN where not, and the standard
                deviations of what is known.
            rough: Whether a rough look is enough, which hopes for more than there is.
            new: Which of them have to add to what was begun as well (see ``front_ahead``); none where not given.
        """
        if not designs:
            return np.zeros(0)
        x, cues = self.encoder.encode(designs), self._cues(designs)
        scales = scales_of(self.objectives)
        outlook = self.outlook.roughened() if rough else self.outlook
        gains = np.zeros(len(designs))
        is_new = np.zeros(len(designs), dtype=bool) if new is None else np.asarray(new, dtype=bool)
        for own, front in ((~is_new, self.front), (is_new, self.front_ahead)):
            if own.any():
                some, told = None if cues is None else cues[own], None if known is None else known[own]
                values, noise = (None, None) if told is None else (told[..., 0], told[..., 1])
                gains[own] = outlook.improvement(
                    x[own], front, self.reference, some, values, scales=scales, known_noise=noise
                )
        likely: np.ndarray = gains * self._feasible(outlook, x, cues, rough)
        return likely

    def foresee(self, design: Design) -> tuple[Quantity, ...]:
        """What is expected of a design, each objective with an interval of confidence ``LEVEL``, as proxies."""
        x, cues = self.encoder.encode([design]), self._cues([design])
        middle, _ = self.outlook.interval(x, 0.0, cues=cues)
        low, high = self.outlook.interval(x, LEVEL, cues=cues)
        factor = self.inflation
        least, most = self._bounds
        quantities = []
        for column, objective in enumerate(self.objectives):
            value, below, above = (
                float(np.clip(part[0, column], least[column], most[column])) for part in (middle, low, high)
            )
            quantities.append(
                Quantity(
                    f"{PREDICTED}{objective.name}",
                    value,
                    objective.kind.unit,
                    How.PROXY,
                    objective.target,
                    max(0.0, _widened(value, below, factor[column], objective)),
                    min(_widened(value, above, factor[column], objective), 1.0 if objective.maximise else np.inf),
                    detail={"level": LEVEL, "inflation": factor[column]},
                )
            )
        return tuple(quantities)

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """How far predictions are believed: as far beyond what was measured as that extends, costs by their logarithm.

        A surrogate of values that are nearly all the same may say anything between two of them.
        """
        least, most = [], []
        for column, objective in enumerate(self.objectives):
            known = self.values[np.isfinite(self.values[:, column]), column]
            scaled = [on_axis(float(end), objective) for end in (known.min(), known.max())]
            extent = max(scaled[1] - scaled[0], 0.1)
            ends = [scaled[0] - extent, scaled[1] + extent]
            if objective.kind.log_axis:
                ends = [float(np.exp(end)) for end in ends]
            least.append(max(ends[0], 0.0))
            most.append(min(ends[1], 1.0) if objective.maximise else ends[1])
        return np.array(least), np.array(most)

    def optimistic(self, record: TrialRecord) -> np.ndarray:
        """M objectives as good as they may be at most; costs that are known before training as known.

        The record holds what was foreseen, and what was found since.
        """
        best = []
        for objective in self.objectives:
            quantity = prediction(record, objective)
            assert quantity is not None, "foreseen before it is judged"
            assert quantity.low is not None
            assert quantity.high is not None
            end = quantity.high if objective.maximise else quantity.low
            bound = _widened(quantity.value, end, SCREENING_WIDTH, objective)
            if not objective.maximise:
                known = known_cost(record, objective, self.recipe)
                bound = bound if known is None else known
            best.append(bound)
        return np.array(best)

    def beaten(self, values: np.ndarray) -> int | None:
        """The number of a measured trial that is better than such objectives in all; None where none is."""
        signs = np.array([1.0 if objective.maximise else -1.0 for objective in self.objectives])
        better = (signs * self.points >= signs * values).all(axis=1) & (self.points != values).any(axis=1)
        return int(self.feasible[np.argmax(better)]) if better.any() else None

    @cached_property
    def inflation(self) -> tuple[float, ...]:
        """By how much each objective's intervals are widened: so that of past predictions ``LEVEL`` would have held.

        This is split conformal prediction (Papadopoulos et al., 2002) on the trials that were predicted before they
        were measured. Never less than 1.
        """
        factors = []
        for misses in self.tally.misses:
            few = len(misses) < FEWEST_CHECKED
            rank = min(1.0, LEVEL * (len(misses) + 1) / max(1, len(misses)))
            factors.append(1.0 if few else max(1.0, float(np.quantile(misses, rank))))
        return tuple(factors)

    def _cues(self, designs: Sequence[Design]) -> np.ndarray | None:
        return None if self.cues is None else self.cues.of(designs)

    def _values(self) -> tuple[np.ndarray, np.ndarray]:
        """Objectives of all that is learned from, N×M with NaN where unknown, and their standard deviations."""
        told, costs = self.tally.values.rows(self.measured), self.tally.costs.rows(self.stopped)
        accuracies, spreads = self._final_accuracies()
        qualities, noise = np.array(self.maximise), self.tally.spreads
        return (
            np.vstack([told, np.where(qualities, accuracies[:, None], costs)]),
            np.vstack([noise(self.measured), np.where(qualities, spreads[:, None], noise(self.stopped))]),
        )

    def _final_accuracies(self) -> tuple[np.ndarray, np.ndarray]:
        """What stopped trials' accuracies would have become, and how uncertain that is; NaN where it can't be told."""
        epochs, errors = self.tally.errors.rows(self.stopped).T
        compressions = self.tally.compressions.rows(self.stopped)[:, 0]
        change, spread = np.full((2, len(epochs)), np.nan)
        for rung in np.unique(epochs[np.isfinite(epochs)]).tolist():
            own = epochs == rung
            change[own] = self.tally.gains.expected(rung, errors[own], compressions[own])
            spread[own] = self.tally.gains.spread(rung)
        final = np.exp(errors + change)
        return 1 - np.minimum(1.0, final), np.nan_to_num(final * np.maximum(LEAST_SPREAD, spread))

    def _feasible(self, outlook: Outlook, x: np.ndarray, cues: np.ndarray | None, rough: bool) -> np.ndarray:
        """How likely each of N designs meets all constraints."""
        likely = np.ones(len(x))
        for constraint in self.constraints:
            column = next((i for i, o in enumerate(self.objectives) if o.key == constraint.quantity.key), None)
            if column is not None:
                low, high = (end[:, column] for end in outlook.interval(x, LEVEL, cues=cues))
                likely *= _chance(constraint, low, high)
            elif (model := self._constraint_models.get(constraint.key)) is not None:
                low, high = (end[:, 0] for end in (model.roughened() if rough else model).interval(x, LEVEL, cues=cues))
                likely *= _chance(constraint, low, high)
        return likely

    @cached_property
    def _constraint_models(self) -> dict[str, Outlook]:
        """Surrogates of the constraints' quantities that are no objectives; none where there is nothing to fit."""
        keys = {objective.key for objective in self.objectives}
        models = {}
        for constraint in self.constraints:
            values = self.tally.limited[constraint.quantity.key]
            if constraint.quantity.key in keys or len(values) < FEWEST:
                continue
            trials, known = values.trials, values.rows(values.trials)
            try:
                none, quantity = np.zeros_like(known), [constraint.quantity]
                models[constraint.key] = self._surrogates(trials, known, none, quantity, len(trials))
            except SurrogateError:  # constant: it is the same for all designs
                continue
        return models


def scales_of(objectives: Sequence[Objective]) -> tuple[str, ...]:
    """The axes of the hypervolume, see ``nas.front.Reference``."""
    return tuple("log" if o.kind.log_axis and not o.maximise else "linear" for o in objectives)


def costs_among(objectives: Sequence[Objective]) -> list[Cost | None]:
    """For each objective what it is a cost of; a person's own may depend on anything, so it is none."""

    def cost(objective: Objective) -> Cost | None:
        if objective.maximise or objective.kind.own:
            return None
        return COSTS_OF.get(objective.kind.unit, "space")

    return [cost(objective) for objective in objectives]


def _evenly(numbers: Sequence[int], most: int) -> list[int]:
    """All numbers, or of more than so many some evenly spaced ones."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[place] for place in np.linspace(0, len(numbers) - 1, most).astype(int)]


def _widened(middle: float, end: float, factor: float, objective: Objective) -> float:
    centre = on_axis(middle, objective)
    far = centre + factor * (on_axis(end, objective) - centre)
    return float(np.exp(far)) if objective.kind.log_axis else far


def _chance(constraint: Constraint, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The chance that a limit is met, of values with such intervals of confidence ``LEVEL``, as of a normal one."""
    spread = np.maximum((high - low) / (2 * norm.ppf((1 + LEVEL) / 2)), 1e-12)
    below = norm.cdf((constraint.limit - (low + high) / 2) / spread)
    return np.asarray(below if constraint.at_most else 1 - below)
