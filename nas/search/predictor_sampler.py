"""A sampler for Optuna that asks for the design with the greatest expected hypervolume improvement.

It fits Gaussian processes to all objectives and constraints, predicts very many designs, and proposes the one that is
expected to add most to the front, by second of its cost where that is known (``nas.surrogate.proposing``). It works in
any study of one to four objectives.

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=PredictorSampler(seed=1))

A proposal depends on the seed, the trial's number and the history alone: a sampler that was made anew continues a study
as the first would have.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.errors import SurrogateError
from nas.search.optuna_domain import columns_of, domain_of, params_of
from nas.search.told_trials import remembered_positions, told_trials
from nas.surrogate.coded import Coded
from nas.surrogate.cues import Cost, Role
from nas.surrogate.domain import Domain
from nas.surrogate.history import History
from nas.surrogate.one_thread import one_thread
from nas.surrogate.outlook import SCALES
from nas.surrogate.proposing import SMALL, Choosing, Wish
from nas.surrogate.unlike import apart

# Draws of which a start-up trial takes the one farthest from all that was tried, and which share of them it looks at
# where costs are known: the cheapest. They teach as much as dear ones for less (Lee et al., "Cost-aware Bayesian
# Optimization", arXiv:2003.10870).
START_DRAWS = 64
CHEAPEST_SHARE = 0.5
MOST_OBJECTIVES = 4

# Studies of which was said that surrogates do not decide.
_warned: WeakSet[Study] = WeakSet()


@dataclass(frozen=True)
class Observation:
    """What is known of a design beside the study's own finished trials.

    Args:
        params: Its parameters; names and values that the study does not have are ignored.
        values: One for each objective, in own units; NaN where unknown.
        sd: Standard deviations of their errors; empty for none.
        within_reach: Whether it is begun and may be finished, so that what is new has to add to it as well.
    """

    params: Mapping[str, Any]
    values: tuple[float, ...]
    sd: tuple[float, ...] = ()
    within_reach: bool = False


class PredictorSampler(BaseSampler):
    """Samples by expected hypervolume improvement.

    Args:
        seed: Of all chance; drawn where not given.
        startup_trials: So many finished trials, or observations beside them in which no value is missing, are waited
            for before surrogates decide; until then designs are drawn at random, each far from those before.
        known: Observations beside the study's own, as noisy as they say.
        noise: Of a finished trial of the study the standard deviations of its values, one for each objective; NaN or 0
            for none beyond what surrogates find that all values scatter by.
        seconds: What designs cost: given by parameter the values of N parameter sets (as for ``cues``), N seconds; the
            improvement by second is maximised.
        possible: Whether a parameter set can be evaluated at all and would tell something new, cheap to tell; others
            are passed over as long as there are such.
        cues: Cheap measures that help the surrogates, such as what a network computes: given by parameter the values
            of N parameter sets (of all parameters that trials have had, whether they play a part or not), N×K numbers,
            NaN where unknown.
        cue_roles: What each cue is to the objectives: all are nearly linear in it (``any``, where not given), those
            that are no costs are (``quality``), or costs of the kind add up from it (``time``, ``space``, or
            ``nas.surrogate.cues.Amount`` where it is known beforehand about how much of it).
        costs: For each objective what it is a cost of, ``time``, ``work`` or ``space``; None of one that is no cost.
            None is where not given.
        costless: Parameters that no cost depends on, such as how a network is trained.
        active: Which of all parameters play a part; learned from the trials where not given.
        reference: The hypervolume's reference point in own units; where not given a little worse than the worst
            trial that is no outlier.
        scales: For each objective ``linear`` or ``log``, the axis of its hypervolume; linear where not given.
        cost_exponent: How much seconds count: 0 not at all, 1 fully.
        fallback: Proposes where surrogates cannot be fitted; at random where not given.
        space_filling: Whether start-up trials keep away from each other; else they are drawn independently.
        population: Designs in a generation of the inner evolution.
        generations: Generations of the inner evolution.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        seed: int | None = None,
        startup_trials: int = 10,
        known: Sequence[Observation] = (),
        seconds: Callable[[Mapping[str, Sequence[Any]]], np.ndarray] | None = None,
        active: Callable[[Mapping[str, Any]], Collection[str]] | None = None,
        reference: Sequence[float] | None = None,
        *,
        noise: Callable[[FrozenTrial], Sequence[float]] | None = None,
        scales: Sequence[str] | None = None,
        cost_exponent: float = 1.0,
        fallback: BaseSampler | None = None,
        space_filling: bool = True,
        possible: Callable[[Mapping[str, Any]], bool] | None = None,
        cues: Callable[[Mapping[str, Sequence[Any]]], np.ndarray] | None = None,
        cue_roles: Sequence[Role] | None = None,
        costs: Sequence[Cost | None] | None = None,
        costless: Collection[str] = (),
        population: int = 400,
        generations: int = 4,
    ) -> None:
        for name, value in (("startup_trials", startup_trials), ("population", population)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but is {value}")
        if generations < 0:
            raise ValueError(f"generations must be at least 0, but is {generations}")
        for scale in scales or ():
            if scale not in SCALES:
                raise ValueError(f"a scale must be one of {', '.join(SCALES)}, but one is '{scale}'")
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self.startup_trials = startup_trials
        self.known = tuple(known)
        self.seconds = seconds
        self.active = active
        self.reference = None if reference is None else np.array(reference, dtype=float)
        self.noise = noise
        self.scales = scales
        self.cost_exponent = cost_exponent
        self.fallback = fallback
        self.space_filling = space_filling
        self.possible = possible
        self.cues = cues
        self.cue_roles = cue_roles
        self.costs = costs
        self.costless = frozenset(costless)
        self.population = population
        self.generations = generations

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters that trials have had, each with its latest distribution."""
        space: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False):
            if other.number != trial.number:
                space.update(other.distributions)
        return {name: space[name] for name in sorted(space) if not space[name].single()}

    @one_thread
    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal: a value for each parameter, also for those that play no part in it.

        Raises:
            ValueError: The study has more objectives than hypervolumes are computed of, or not as many as the
                reference or the scales.
        """
        self._check(study)
        if not search_space:
            return {}
        asked = _Asked(self, study, trial, search_space)
        if asked.finished < self.startup_trials:
            return asked.start()
        try:
            return asked.best()
        except SurrogateError as error:
            if study not in _warned:
                _warned.add(study)
                warnings.warn(f"{error.message}; designs are drawn by the plain sampler", stacklevel=2)
        if self.fallback is None:
            return asked.start()
        space = self.fallback.infer_relative_search_space(study, trial)
        proposed = self.fallback.sample_relative(study, trial, space)
        return {name: value for name, value in proposed.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value at random for a parameter that no trial has had, or by the fallback where one was given."""
        if self.fallback is not None:
            return self.fallback.sample_independent(study, trial, param_name, param_distribution)
        # Of the name, so that it does not matter in which order, or by which of two samplers, parameters are asked for.
        label = int.from_bytes(hashlib.sha256(param_name.encode()).digest()[:4], "big")
        own = np.random.SeedSequence([self.seed, trial.number, label]).generate_state(1)[0]
        return RandomSampler(seed=int(own)).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Lets the fallback see the trial, too."""
        if self.fallback is not None:
            self.fallback.after_trial(study, trial, state, values)

    def _check(self, study: Study) -> None:
        count = len(study.directions)
        if count > MOST_OBJECTIVES:
            raise ValueError(
                f"PredictorSampler works with 1 to {MOST_OBJECTIVES} objectives, but the study has {count}; use NSGA-II"
            )
        for name, given in (("reference", self.reference), ("scales", self.scales), ("costs", self.costs)):
            if given is not None and len(given) != count:
                raise ValueError(f"{name} must have one entry an objective, {count}, but has {len(given)}")


class _Asked:
    """The study as it is when a trial's design is asked for."""

    def __init__(
        self, sampler: PredictorSampler, study: Study, trial: FrozenTrial, space: dict[str, BaseDistribution]
    ) -> None:
        self.sampler = sampler
        self.space = space
        self.rng = np.random.default_rng([sampler.seed, trial.number])
        self.maximise = [direction == StudyDirection.MAXIMIZE for direction in study.directions]
        trials = _without(study.get_trials(deepcopy=False), trial.number)
        told = told_trials(space, trials, len(self.maximise))
        self.domain: Domain = domain_of(space, told.positions, sampler.active, sampler.costless)
        self.taken = told.taken
        self.tried, self.pending = told.positions, told.positions[told.running]
        self.own = told.positions[told.complete]
        self.noise: list[Sequence[float]] = []  # one row for each of those
        if sampler.noise is not None:
            named = [trial for trial in trials if trial.params]  # as the places are counted
            self.noise = [sampler.noise(named[place]) for place in told.complete]
        self.values, self.violations = told.values, told.violations

    @property
    def finished(self) -> int:
        """Of how many designs there are values, or estimates of them."""
        return len(self.own) + sum(all(map(math.isfinite, one.values)) for one in self.sampler.known)

    def start(self) -> dict[str, Any]:
        """A new design at random, far from those that were tried."""
        drawn = self.domain.sample(START_DRAWS, self.rng)
        rows = self._fresh(drawn)
        if len(rows) == 0 and self.domain.size <= SMALL:
            rows = self._fresh(self.domain.all())  # all: perhaps only few of the last ones are possible
        if len(rows) == 0:
            return self._params(drawn[0])
        if not self.sampler.space_filling:
            return self._first_possible(rows)
        rows = self._cheapest(rows)
        if len(self.tried) == 0:
            return self._first_possible(rows)
        return self._first_possible(rows[np.argsort(-np.round(self._apart(rows), 9), kind="stable")])

    def _apart(self, rows: np.ndarray) -> np.ndarray:
        """How unlike each of N full rows is to whatever was tried."""
        columns, own = self.domain.encoding.columns, self.domain.active(rows)
        if (cues := self.sampler.cues) is None:
            return apart(columns, own, self.tried)
        mine, others = (cues(self._columns(some)) for some in (rows, self.domain.full(self.tried)))
        roles = self.sampler.cue_roles
        return apart(columns, own, self.tried, (mine, others), ["any"] * mine.shape[1] if roles is None else roles)

    def _first_possible(self, rows: np.ndarray) -> dict[str, Any]:
        """The first row that can be evaluated, else any of a small space; the first of all where none can."""
        if (possible := self.sampler.possible) is not None:

            def others() -> Iterator[np.ndarray]:
                if self.domain.size <= SMALL:
                    yield from self._fresh(self.domain.all())

            for row in itertools.chain(rows, others()):
                if possible(params := self._params(row)):
                    return params
        return self._params(rows[0])

    def best(self) -> dict[str, Any]:
        """The design that is worth most; one at random where all were tried.

        Raises:
            SurrogateError: No surrogate can be fitted.
        """
        sampler = self.sampler
        seconds, possible, cues = sampler.seconds, sampler.possible, sampler.cues
        wish = Wish(
            self.maximise,
            sampler.reference,
            sampler.scales,
            None if seconds is None else lambda rows: seconds(self._columns(rows)),
            sampler.cost_exponent,
            None if possible is None else lambda row: possible(self._params(row)),
            None if cues is None else lambda rows: cues(self._columns(rows)),
            sampler.cue_roles,
            sampler.costs,
            sampler.population,
            sampler.generations,
        )
        row = Choosing(self.domain, self._history(), wish, self.rng).best()
        return self.start() if row is None else self._params(row)

    def _history(self) -> History:
        objectives = len(self.maximise)
        elsewhere = self.sampler.known
        places = remembered_positions(self.space, [observation.params for observation in elsewhere])
        values = [observation.values for observation in elsewhere]
        noise = [observation.sd or (0.0,) * objectives for observation in elsewhere]
        known = np.concatenate([self.values, np.array(values, dtype=float).reshape(-1, objectives)])
        deviations = np.zeros_like(known)
        if self.noise:
            deviations[: len(self.own)] = self.noise
        deviations[len(self.own) :] = np.array(noise, dtype=float).reshape(-1, objectives)
        return History(
            np.concatenate([self.own, places]),
            np.where(np.isfinite(known), known, np.nan),
            np.nan_to_num(deviations),
            len(self.own),
            self.violations,
            self.pending,
            self.taken,
            np.array([one.within_reach for one in elsewhere], dtype=bool),
        )

    def _cheapest(self, rows: np.ndarray) -> np.ndarray:
        """The rows that cost least, in the order that they are in; all of them where costs are not known."""
        if self.sampler.seconds is None:
            return rows
        seconds = self.sampler.seconds(self._columns(rows))
        count = max(1, math.ceil(CHEAPEST_SHARE * len(rows)))
        return rows[np.sort(np.argsort(seconds, kind="stable")[:count])]

    def _fresh(self, rows: np.ndarray) -> np.ndarray:
        return rows[[key not in self.taken for key in self.domain.keys(rows)]]

    def _params(self, row: np.ndarray) -> dict[str, Any]:
        return params_of(self.space, self.domain, row[None, :])[0]

    def _columns(self, rows: np.ndarray) -> dict[str, Coded]:
        return columns_of(self.space, self.domain, rows)


def _without(trials: list[FrozenTrial], number: int) -> list[FrozenTrial]:
    """The trials but the one of a number, which stand at the places of their numbers."""
    if number >= len(trials):
        return trials
    if trials[number].number == number:
        return trials[:number] + trials[number + 1 :]
    return [trial for trial in trials if trial.number != number]
