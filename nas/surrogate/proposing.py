"""Which design to evaluate next, given all that is known: the core of the sampler, without Optuna.

Surrogates predict very many designs: all of a small space, else those that an inner evolution comes upon, and always
the neighbours of the front. A rough look leaves some hundreds, which are judged by their expected hypervolume
improvement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import ndtr

from nas.errors import SurrogateError
from nas.surrogate.domain import Domain
from nas.surrogate.evolve import evolve, ranked
from nas.surrogate.history import History, Known, surrogates, whole
from nas.surrogate.improvement import expected_improvement, hinge_excess
from nas.surrogate.model import FREEDOMS
from nas.surrogate.outlook import Outlook

# Spaces of no more designs are looked through as a whole.
SMALL = 20_000
# In a rough look a design is taken for this many deviations better than expected.
HOPE = 1.5
# So many neighbours of the front are looked at, and so many of its members in a rough look.
NEIGHBOURS, LOOKED_AT = 300, 20
# So many candidates are judged exactly, by the number of objectives, and on so many members of the front.
JUDGED = {1: 1000, 2: 1000, 3: 300, 4: 100}
FRONT = {1: 1, 2: 1000, 3: 60, 4: 20}
# For so many of the best the cost is asked; and whether they are possible at all, until one is.
PRICED = 300
# Beyond the worst quartile by this many times the middle half lies what a reference need not cover (Tukey's outer
# fence), the quartiles being those of so many first observations, which the search has not drawn to the front yet.
FENCE, FENCED_ON = 3.0, 20
MARGIN = 0.1
LEAST_SECONDS = 1e-9


@dataclass(frozen=True)
class Wish:
    """What is sought.

    Args:
        maximise: M directions.
        reference: M values in own units; taken from the observations where None.
        scales: For each objective the axis of its hypervolume, see ``Outlook.improvement``.
        seconds: Of full rows, what they cost; None where all cost the same.
        cost_exponent: By which power of the cost the improvement is divided.
        possible: Whether a full row can be evaluated at all; None where all can.
        population: Designs in a generation of the inner evolution.
        generations: Its generations.
    """

    maximise: Sequence[bool]
    reference: np.ndarray | None = None
    scales: Sequence[str] | None = None
    seconds: Callable[[np.ndarray], np.ndarray] | None = None
    cost_exponent: float = 1.0
    possible: Callable[[np.ndarray], bool] | None = None
    population: int = 400
    generations: int = 12


@dataclass
class Choosing:
    """The choice of one design.

    Args:
        domain: The designs.
        history: What is known.
        wish: What is sought.
        rng: The only source of chance.
    """

    domain: Domain
    history: History
    wish: Wish
    rng: np.random.Generator
    outlook: Outlook = field(init=False)

    def best(self) -> np.ndarray | None:
        """The full row that is worth most; None where every design was tried, or none of the best is possible.

        Raises:
            SurrogateError: No surrogate can be fitted.
        """
        history = self.history
        self.outlook = self._outlook(history.values, history.noise, self.wish.maximise)
        rows = self._candidates()
        if len(rows) == 0:
            return None
        x = self.domain.encode(rows)
        pending = self.domain.encoding.encode_positions(history.pending)
        worth = self.outlook.improvement(x, self.front, self.reference, pending=pending, scales=self.wish.scales)
        worth = self._if_feasible(x, worth)
        if self.wish.seconds is not None:
            some = np.argsort(-worth, kind="stable")[:PRICED]
            seconds = np.maximum(np.asarray(self.wish.seconds(rows[some]), dtype=float), LEAST_SECONDS)
            rows, worth = rows[some], worth[some] / seconds**self.wish.cost_exponent
        order = np.argsort(-worth, kind="stable")[:PRICED]
        possible = self.wish.possible
        return next((np.asarray(rows[place]) for place in order if possible is None or possible(rows[place])), None)

    @cached_property
    def feasible(self) -> np.ndarray:
        """Which of the own observations meet all constraints and have all values."""
        history = self.history
        met = ~(history.violations > 0).any(axis=1) & ~np.isnan(history.violations).any(axis=1)
        return np.asarray(met & np.isfinite(history.values[: history.own]).all(axis=1))

    @cached_property
    def front_places(self) -> np.ndarray:
        """Places of the feasible own observations that no other dominates; of a long front those that stand alone."""
        import moocore

        places = np.flatnonzero(self.feasible)
        if len(places) == 0:
            return places
        quality = self.history.values[places] * self.signs
        kept = np.asarray(moocore.is_nondominated(quality, maximise=True), dtype=bool)
        places, quality = places[kept], quality[kept]
        return np.asarray(places[np.sort(ranked(quality)[: FRONT[len(self.signs)]])])

    @property
    def front(self) -> np.ndarray:
        """K×M values of the front in own units."""
        return np.asarray(self.history.values[self.front_places])

    @cached_property
    def signs(self) -> np.ndarray:
        """1 where more is better, else -1."""
        return np.where(np.asarray(self.wish.maximise), 1.0, -1.0)

    @cached_property
    def reference(self) -> np.ndarray:
        """What was wished for, else a little worse than the worst observation that is no outlier."""
        if self.wish.reference is not None:
            return self.wish.reference
        own = self.history.values[: self.history.own] * self.signs
        own = own[np.isfinite(own).all(axis=1)]
        if len(own) == 0:
            raise SurrogateError("no trial has a finite value of every objective")
        low, high = np.percentile(own[:FENCED_ON], [25, 75], axis=0)
        worst = np.maximum(own.min(axis=0), low - FENCE * (high - low))
        return np.asarray(self.signs * (worst - MARGIN * (own.max(axis=0) - worst)))

    def _outlook(self, values: np.ndarray, noise: np.ndarray, maximise: Sequence[bool], plain: bool = False) -> Outlook:
        encoding = self.domain.encoding
        x = encoding.encode_positions(self.history.positions[: len(values)])
        return surrogates(encoding, Known(x, values, noise, self.history.own), maximise, plain)

    def _if_feasible(self, x: np.ndarray, worth: np.ndarray) -> np.ndarray:
        """What designs are worth by how likely they meet the constraints; that alone while no trial has met them."""
        chance = np.ones(len(x))
        for violation in self.history.violations.T:
            known = violation[np.isfinite(violation)]
            if len(known) == 0 or np.ptp(known) == 0:
                continue
            column = violation[:, None]
            try:
                model = self._outlook(column, np.zeros_like(column), [False], plain=True)
            except SurrogateError:  # too few
                continue
            expected = model.predict(x)
            limit = model.models[0].warp.forth(np.zeros(1))
            chance *= ndtr((expected.mean[:, 0] - limit) / np.maximum(expected.sd[:, 0], 1e-9))
        if not self.feasible.any() and np.ptp(chance) > 0:
            return chance
        return np.asarray(worth * chance)

    def _candidates(self) -> np.ndarray:
        """Full rows that are new, those that may add most to the front."""
        domain = self.domain
        members = domain.full(self.history.positions[self.front_places])
        if domain.size <= SMALL:
            rows, places, encoded = whole(domain)
            fresh = np.ones(len(rows), dtype=bool)
            fresh[[places[key] for key in self.history.taken if key in places]] = False
            rows, promise = rows[fresh], self._promise(encoded[fresh], members=len(FREEDOMS))
        else:
            near = domain.neighbours(members, self.rng, NEIGHBOURS)
            found = evolve(
                domain.operators(),
                lambda rows: self._promise(domain.encode(rows)),
                self.rng,
                first=np.concatenate([members, near]),
                population=self.wish.population,
                generations=self.wish.generations,
                key=domain.keys,
            )
            near = self._fresh(near)
            joined = np.concatenate([self._fresh(found.rows), near])
            rows = domain.distinct(joined)
            promise = self._promise(domain.encode(rows))
        return self._hopeful(rows, promise)

    def _hopeful(self, rows: np.ndarray, promise: np.ndarray) -> np.ndarray:
        """Of rows those that would add most to the front if they kept their promise."""
        limit = JUDGED[len(self.signs)]
        if len(rows) <= limit:
            return rows
        models = self.outlook.models
        front = np.stack([model.warp.forth(self.front[:, i]) for i, model in enumerate(models)], axis=1)
        open_ones = np.ones(len(rows), dtype=bool)
        for point in front:
            open_ones &= ~(promise <= point).all(axis=1)
        some = np.flatnonzero(open_ones)
        if len(some) < limit:
            rest = np.flatnonzero(~open_ones)
            return np.asarray(rows[np.concatenate([some, self.rng.permutation(rest)[: limit - len(some)]])])
        corner = np.array([float(model.warp.forth(self.reference[i])) for i, model in enumerate(models)])
        hinges = [hinge_excess(axis) for axis in promise[some].T]
        worth = expected_improvement(hinges, front[ranked(front)[:LOOKED_AT]], corner)
        return np.asarray(rows[some[np.argsort(-worth, kind="stable")[:limit]]])

    def _promise(self, x: np.ndarray, members: int = 1) -> np.ndarray:
        """How good designs may be in a rough look, N×M on the warped axes."""
        rough = self.outlook.rough(x, members)
        return np.asarray(rough.mean + HOPE * rough.sd)

    def _fresh(self, rows: np.ndarray) -> np.ndarray:
        return rows[[key not in self.history.taken for key in self.domain.keys(rows)]] if len(rows) else rows
