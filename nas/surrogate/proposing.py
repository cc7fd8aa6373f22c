"""Which design to evaluate next, given all that is known: the core of the sampler, without Optuna.

Surrogates predict very many designs: all of a small space, else those that an inner evolution comes upon, and always
the neighbours of the front. A rough look leaves some hundreds, which are judged by their expected hypervolume
improvement.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import ndtr

from nas.errors import SurrogateError
from nas.surrogate.domain import Domain
from nas.surrogate.evolve import evolve, ranked
from nas.surrogate.improvement import expected_improvement, hinge_excess
from nas.surrogate.outlook import Outlook

# Parameters are sought again when the number of observations has grown by this factor, from so many on.
GROWTH, FIRST_SOUGHT = 1.15, 4
# From so many own observations on those from elsewhere do not shape the kernel, only what it is conditioned on.
OWN_ENOUGH = 30
# A surrogate is conditioned on so many observations at most, of which this share are the best.
CONDITIONED_ON, BEST_SHARE = 300, 2 / 3
# Spaces of no more designs are looked through as a whole.
SMALL = 20_000
# In a rough look a design is taken for this many deviations better than expected.
HOPE = 1.5
# So many candidates are judged exactly, by the number of objectives, and on so many members of the front.
JUDGED = {1: 1000, 2: 1000, 3: 600, 4: 200}
FRONT = {1: 1, 2: 1000, 3: 60, 4: 20}
# For so many of the best the cost is asked.
PRICED = 300
# Beyond the worst quartile by this many times the middle half lies what a reference need not cover (Tukey's fence).
FENCE = 1.5
MARGIN = 0.01
REMEMBERED = 64
LEAST_SECONDS = 1e-9


@dataclass(frozen=True)
class History:
    """What is known.

    Args:
        positions: N×columns active rows of a domain.
        values: N×M objectives in own units; NaN where unknown.
        noise: N×M standard deviations; 0 for none.
        own: How many of the rows, from the first on, are the study's own; the others tell of it from elsewhere.
        violations: own×C, at most 0 where a constraint is met; NaN where unknown.
        pending: P×columns active rows that are being evaluated.
        taken: Keys of designs that are not to be proposed.
    """

    positions: np.ndarray
    values: np.ndarray
    noise: np.ndarray
    own: int
    violations: np.ndarray
    pending: np.ndarray
    taken: Collection[bytes]


@dataclass(frozen=True)
class Wish:
    """What is sought.

    Args:
        maximise: M directions.
        reference: M values in own units; taken from the observations where None.
        scales: For each objective the axis of its hypervolume, see ``Outlook.improvement``.
        seconds: Of full rows, what they cost; None where all cost the same.
        cost_exponent: By which power of the cost the improvement is divided.
        population: Designs in a generation of the inner evolution.
        generations: Its generations.
    """

    maximise: Sequence[bool]
    reference: np.ndarray | None = None
    scales: Sequence[str] | None = None
    seconds: Callable[[np.ndarray], np.ndarray] | None = None
    cost_exponent: float = 1.0
    population: int = 500
    generations: int = 20


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
        """The full row that is worth most; None where every design was tried.

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
        return np.asarray(rows[int(np.argmax(worth))])

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
        low, high = np.percentile(own, [25, 75], axis=0)
        worst = np.maximum(own.min(axis=0), low - FENCE * (high - low))
        return np.asarray(self.signs * (worst - MARGIN * (own.max(axis=0) - worst)))

    def _outlook(self, values: np.ndarray, noise: np.ndarray, maximise: Sequence[bool], plain: bool = False) -> Outlook:
        """Surrogates whose parameters were sought on the history's beginning, conditioned on all that is known."""
        own, count = self.history.own, len(values)
        x = self.domain.encoding.encode_positions(self.history.positions[:count])
        beginning = np.arange(sought_at(own))
        if own < OWN_ENOUGH:
            beginning = np.concatenate([beginning, np.arange(own, count)])
        sought = _sought(self.domain, x[beginning], values[beginning], noise[beginning], maximise, plain)
        kept = conditioned_on(values * np.where(np.asarray(maximise), 1.0, -1.0))
        return sought.updated(x[kept], values[kept], noise[kept])

    def _if_feasible(self, x: np.ndarray, worth: np.ndarray) -> np.ndarray:
        """What designs are worth by how likely they meet the constraints; that alone while no trial has met them."""
        chance = np.ones(len(x))
        for violation in self.history.violations.T:
            known = violation[np.isfinite(violation)]
            if len(known) == 0 or np.ptp(known) == 0:
                continue
            column = violation[:, None]
            model = self._outlook(column, np.zeros_like(column), [False], plain=True)
            expected = model.predict(x)
            limit = model.models[0].warp.forth(np.zeros(1))
            chance *= ndtr((expected.mean[:, 0] - limit) / np.maximum(expected.sd[:, 0], 1e-9))
        if not self.feasible.any() and np.ptp(chance) > 0:
            return chance
        return np.asarray(worth * chance)

    def _candidates(self) -> np.ndarray:
        """Full rows that are new and promise something."""
        domain = self.domain
        members = domain.full(self.history.positions[self.front_places])
        near = domain.neighbours(members, self.rng)
        found = self._of_all() if domain.size <= SMALL else self._evolved(np.concatenate([members, near]))
        rows = self._fresh(domain.distinct(np.concatenate([found, near])))
        if len(rows) == 0 and domain.size <= SMALL:
            return self._fresh(domain.all())
        limit = JUDGED[len(self.signs)]
        return rows if len(rows) <= 2 * limit else rows[: 2 * limit]

    def _of_all(self) -> np.ndarray:
        """Of all designs those that may add most to the front."""
        rows, places, encoded = _whole(self.domain)
        fresh = np.ones(len(rows), dtype=bool)
        fresh[[places[key] for key in self.history.taken if key in places]] = False
        promise = self._promise(encoded)
        models = self.outlook.models
        front = np.stack([model.warp.forth(self.front[:, i]) for i, model in enumerate(models)], axis=1)
        for point in front:
            fresh &= ~(promise <= point).all(axis=1)
        some = np.flatnonzero(fresh)
        limit = JUDGED[len(self.signs)]
        if len(some) > limit:
            corner = np.array([model.warp.forth(self.reference[i]) for i, model in enumerate(models)])
            worth = expected_improvement([hinge_excess(axis) for axis in promise[some].T], front, corner)
            some = np.sort(some[np.argsort(-worth, kind="stable")[:limit]])
        return rows[some]

    def _evolved(self, first: np.ndarray) -> np.ndarray:
        """Designs that an evolution came upon, the most promising first."""
        found = evolve(
            self.domain.operators(),
            lambda rows: self._promise(self.domain.encode(rows)),
            self.rng,
            first=first,
            population=self.wish.population,
            generations=self.wish.generations,
            key=self.domain.keys,
        )
        return found.rows

    def _promise(self, x: np.ndarray) -> np.ndarray:
        rough = self.outlook.rough(x)
        return np.asarray(rough.mean + HOPE * rough.sd)

    def _fresh(self, rows: np.ndarray) -> np.ndarray:
        return rows[[key not in self.history.taken for key in self.domain.keys(rows)]] if len(rows) else rows


def sought_at(count: int) -> int:
    """How many observations, at most ``count``, parameters are sought on: grows in geometric steps."""
    at = FIRST_SOUGHT
    while (following := max(at + 1, int(at * GROWTH))) <= count:
        at = following
    return min(at, count)


def conditioned_on(quality: np.ndarray) -> np.ndarray:
    """Places of the observations that a surrogate is conditioned on, ascending; all of them while they are few.

    Else those of the first ranks, so that the front's surroundings are known in detail, and of the others every so
    many.

    Args:
        quality: N×M, more is better; NaN where unknown.
    """
    if len(quality) <= CONDITIONED_ON:
        return np.arange(len(quality))
    worst = np.nanmin(np.where(np.isfinite(quality), quality, np.nan), axis=0)
    order = ranked(np.where(np.isfinite(quality), quality, worst))
    count = int(CONDITIONED_ON * BEST_SHARE)
    rest = np.sort(order[count:])
    others = rest[np.linspace(0, len(rest) - 1, CONDITIONED_ON - count).astype(int)]
    return np.sort(np.concatenate([order[:count], others]))


# What follows depends on its arguments alone, so it is remembered for all samplers of the process.
_LOCK = threading.Lock()
_SOUGHT: OrderedDict[str, Outlook] = OrderedDict()
_WHOLES: OrderedDict[str, tuple[np.ndarray, dict[bytes, int], np.ndarray]] = OrderedDict()


def _sought(
    domain: Domain, x: np.ndarray, values: np.ndarray, noise: np.ndarray, maximise: Sequence[bool], plain: bool
) -> Outlook:
    """Fitted surrogates."""
    digest = hashlib.sha256(repr((list(maximise), plain, domain.encoding.columns, x.shape)).encode())
    for part in (x, values, noise):
        digest.update(np.ascontiguousarray(part).tobytes())
    key = digest.hexdigest()
    with _LOCK:
        if (found := _SOUGHT.get(key)) is not None:
            return found
    outlook = Outlook.fit(x, values, maximise, noise=noise, encoding=domain.encoding, plain=plain)
    with _LOCK:
        _SOUGHT[key] = outlook
        if len(_SOUGHT) > REMEMBERED:
            _SOUGHT.popitem(last=False)
    return outlook


def _whole(domain: Domain) -> tuple[np.ndarray, dict[bytes, int], np.ndarray]:
    """All designs of a small domain: full rows, places by key, and encoded in single precision."""
    key = domain.label
    with _LOCK:
        if key is not None and (found := _WHOLES.get(key)) is not None:
            return found
    rows = domain.all()
    places = {own: place for place, own in enumerate(domain.keys(rows))}
    whole = rows, places, domain.encode(rows).astype(np.float32)
    if key is not None:
        with _LOCK:
            _WHOLES[key] = whole
            if len(_WHOLES) > 2:
                _WHOLES.popitem(last=False)
    return whole
