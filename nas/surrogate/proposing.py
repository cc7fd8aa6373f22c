"""Which design to evaluate next, given all that is known: the core of the sampler, without Optuna.

Surrogates predict very many designs: all of a small space, else those that an inner evolution comes upon, and always
the neighbours of the front. A rough look leaves some hundreds, which are judged by their expected hypervolume
improvement, and the best of them are bettered step by step.

In a search of convnets proposals of four generations and such steps were worth about as much by second as those of
thirty generations without them, which took more than twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import ndtr

from nas.errors import SurrogateError
from nas.surrogate.cues import Cost, Role
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
# So many candidates are judged exactly, by the number of objectives, and on so many members of the front; fewer where
# the best of them are bettered afterwards.
JUDGED = {1: 1000, 2: 1000, 3: 300, 4: 100}
JUDGED_BEFORE_CLIMBING = 300
FRONT = {1: 1, 2: 1000, 3: 60, 4: 20}
# So many of the best are then bettered by single changes, so many times; ``NEIGHBOURS`` are judged each time.
CLIMBERS, CLIMBS = 4, 3
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
        cues: Of N full rows cheap measures, N×K, that help the surrogates.
        roles: What each cue is to objectives.
        costs: For each objective what it is a cost of, see ``Outlook.fit``.
        population: Designs in a generation of the inner evolution.
        generations: Its generations.
    """

    maximise: Sequence[bool]
    reference: np.ndarray | None = None
    scales: Sequence[str] | None = None
    seconds: Callable[[np.ndarray], np.ndarray] | None = None
    cost_exponent: float = 1.0
    possible: Callable[[np.ndarray], bool] | None = None
    cues: Callable[[np.ndarray], np.ndarray] | None = None
    roles: Sequence[Role] | None = None
    costs: Sequence[Cost | None] | None = None
    population: int = 400
    generations: int = 4


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
        rows, worth = self._worth(rows)
        if self.domain.size > SMALL:
            rows, worth = self._climbed(rows, worth)
        order = np.argsort(-worth, kind="stable")[:PRICED]
        possible = self.wish.possible
        return next((np.asarray(rows[place]) for place in order if possible is None or possible(rows[place])), None)

    def _worth(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Full rows and what they are worth; where costs are known that by second, of the ``PRICED`` best."""
        x, cues = self.domain.encode(rows), self._cues(rows)
        outlook, front = self._beside_pending
        worth = outlook.improvement(x, front, self.reference, cues, scales=self.wish.scales)
        worth = self._if_feasible(x, cues, worth)
        if self.wish.seconds is None:
            return rows, worth
        some = np.argsort(-worth, kind="stable")[:PRICED]
        seconds = np.maximum(np.asarray(self.wish.seconds(rows[some]), dtype=float), LEAST_SECONDS)
        return rows[some], worth[some] / seconds**self.wish.cost_exponent

    @cached_property
    def _beside_pending(self) -> tuple[Outlook, np.ndarray]:
        """Surrogates and the front as if what is being evaluated gave what is expected of it."""
        pending = self.history.pending
        if len(pending) == 0:
            return self.outlook, self.front
        x, cues = self.domain.encoding.encode_positions(pending), self._cues(self.domain.full(pending))
        outlook, believed = self.outlook.given(x, cues)
        return outlook, np.vstack([self.front, believed])

    def _climbed(self, rows: np.ndarray, worth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows together with others in the neighbourhood of the best of them, where better ones are.

        The evolution sees neither costs nor what is worth most, only what promises much.
        """
        known = {*self.domain.keys(rows), *self.history.taken}
        for _ in range(CLIMBS):
            best = np.argsort(-worth, kind="stable")[:CLIMBERS]
            near = self.domain.distinct(self.domain.neighbours(rows[best], self.rng, NEIGHBOURS), known)
            if len(near) == 0:
                break
            known.update(self.domain.keys(near))
            near, worth_near = self._worth(near)
            rows, worth = np.concatenate([rows, near]), np.concatenate([worth, worth_near])
        return rows, worth

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

    @cached_property
    def front(self) -> np.ndarray:
        """K×M values in own units of the front that what is new has to add to: what is within reach counts as well."""
        import moocore

        found = np.vstack([self.history.values[self.front_places], self._prospects()])
        if len(found) == len(self.front_places):
            return found
        quality = found * self.signs
        kept = np.flatnonzero(moocore.is_nondominated(quality, maximise=True))
        return np.asarray(found[kept[np.sort(ranked(quality[kept])[: FRONT[len(self.signs)]])]])

    def _prospects(self) -> np.ndarray:
        """What is expected of all that was begun and may be finished, P×M in own units."""
        history = self.history
        if history.within_reach is None or not history.within_reach.any():
            return np.zeros((0, len(self.signs)))
        values, noise = history.values[history.own :], history.noise[history.own :]
        some = history.within_reach & np.isfinite(values).all(axis=1)
        positions = history.positions[history.own :][some]
        x, cues = self.domain.encoding.encode_positions(positions), self._cues(self.domain.full(positions))
        middle, _ = self.outlook.interval(x, 0.0, cues)
        return np.where(noise[some] > 0, middle, values[some])

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
        positions = self.history.positions[: len(values)]
        x, cues = encoding.encode_positions(positions), self._cues(self.domain.full(positions))
        costs = None if plain else self.wish.costs
        known = Known(x, values, noise, self.history.own, cues, self.wish.roles, costs)
        return surrogates(encoding, known, maximise, plain)

    def _cues(self, rows: np.ndarray) -> np.ndarray | None:
        return None if self.wish.cues is None else self.wish.cues(rows)

    def _if_feasible(self, x: np.ndarray, cues: np.ndarray | None, worth: np.ndarray) -> np.ndarray:
        """What designs are worth by how likely they meet the constraints; that alone while no trial has met them."""
        chance = np.ones(len(x))
        for model in self._constraint_models:
            expected = model.predict(x, cues)
            limit = model.models[0].warp.forth(np.zeros(1))
            chance *= ndtr((expected.mean[:, 0] - limit) / np.maximum(expected.sd[:, 0], 1e-9))
        if not self.feasible.any() and np.ptp(chance) > 0:
            return chance
        return np.asarray(worth * chance)

    @cached_property
    def _constraint_models(self) -> list[Outlook]:
        """Surrogates of the violations of those constraints of which enough is known."""
        found = []
        for violation in self.history.violations.T:
            known = violation[np.isfinite(violation)]
            if len(known) == 0 or np.ptp(known) == 0:
                continue
            column = violation[:, None]
            with suppress(SurrogateError):  # too few
                found.append(self._outlook(column, np.zeros_like(column), [False], plain=True))
        return found

    def _candidates(self) -> np.ndarray:
        """Full rows that are new, those that may add most to the front."""
        domain = self.domain
        members = domain.full(self.history.positions[self.front_places])
        if domain.size <= SMALL:
            rows, places, encoded = whole(domain)
            fresh = np.ones(len(rows), dtype=bool)
            fresh[[places[key] for key in self.history.taken if key in places]] = False
            rows = rows[fresh]
            promise = self._promise(rows, encoded[fresh], members=len(FREEDOMS))
        else:
            near = domain.neighbours(members, self.rng, NEIGHBOURS)
            found = evolve(
                domain.operators(),
                lambda rows: self._promise(rows, domain.encode(rows)),
                self.rng,
                first=np.concatenate([members, near]),
                population=self.wish.population,
                generations=self.wish.generations,
                key=domain.keys,
            )
            # Neighbours that did not survive the evolution are looked at all the same.
            survivors, taken = domain.keys(found.rows), self.history.taken
            fresh = np.array([key not in taken for key in survivors], dtype=bool)
            near = domain.distinct(near, {*survivors, *taken})
            rows = np.concatenate([found.rows[fresh], near])
            promise = np.concatenate([found.promises[fresh], self._promise(near, domain.encode(near))])
        return self._hopeful(rows, promise)

    def _hopeful(self, rows: np.ndarray, promise: np.ndarray) -> np.ndarray:
        """Of rows those that would add most to the front if they kept their promise."""
        limit = JUDGED[len(self.signs)]
        if self.domain.size > SMALL:
            limit = min(limit, JUDGED_BEFORE_CLIMBING)
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

    def _promise(self, rows: np.ndarray, x: np.ndarray, members: int = 1) -> np.ndarray:
        """How good designs, encoded as x, may be in a rough look, N×M on the warped axes."""
        rough = self.outlook.rough(x, members, self._cues(rows))
        return np.asarray(rough.mean + HOPE * rough.sd)
