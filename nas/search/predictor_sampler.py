"""A sampler for Optuna that asks for the design with the greatest expected hypervolume improvement.

It fits Gaussian processes to all objectives and constraints, predicts very many designs (all of a small space; else
those that an inner evolution comes upon, and the neighbours of the front), and proposes the one that is expected to add
most to the front, by second of its cost where that is known. It works in any study of one to four objectives.

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=PredictorSampler(seed=1))

A proposal depends on the seed, the trial's number and the history alone: a sampler that was made anew continues a study
as the first would have.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from nas.errors import SurrogateError
from nas.front import non_dominated
from nas.search.optuna_domain import axis_of, domain_of
from nas.surrogate.domain import Domain, keys_of
from nas.surrogate.evolve import evolve, ranked
from nas.surrogate.improvement import expected_improvement
from nas.surrogate.outlook import Outlook

# Parameters are sought again when the number of observations has grown by this factor.
GROWTH = 1.15
# A surrogate is conditioned on so many observations at most.
CONDITIONED_ON = 300
# Spaces of no more designs are looked through as a whole.
SMALL = 20_000
# So many candidates are judged exactly.
JUDGED = 1000
# Designs that begin in a whole look are those whose promise is this many deviations above what is expected.
HOPE = 1.5
FEWEST = 4
# Draws of which a start-up trial takes the one farthest from what was tried.
START_DRAWS = 64
# Own trials from which on those known from elsewhere do not shape the kernel.
OWN_ENOUGH = 30
REMEMBERED = 64


@dataclass(frozen=True)
class Observation:
    """What is known of a design beside the study's own finished trials.

    Args:
        params: Its parameters; names that the study does not have are ignored.
        values: One for each objective, in own units; NaN where unknown.
        sd: Standard deviations of their errors; empty for none.
    """

    params: Mapping[str, Any]
    values: tuple[float, ...]
    sd: tuple[float, ...] = ()


@dataclass(frozen=True)
class History:
    """What is learned from: rows, N×M values and deviations, and which are the study's own."""

    positions: np.ndarray
    values: np.ndarray
    noise: np.ndarray
    own: int


class PredictorSampler(BaseSampler):
    """Samples by expected hypervolume improvement.

    Args:
        seed: Of all chance; drawn where not given.
        startup_trials: So many finished trials are waited for before surrogates decide.
        known: Observations beside the study's own.
        seconds: What designs cost; the improvement by second is maximised.
        active: Of all parameters, which play a part; learned from the trials where not given.
        reference: The hypervolume's reference point in own units; from the trials where not given.
        scales: For each objective ``linear`` or ``log``, the axis of its hypervolume; linear where not given.
        cost_exponent: How much seconds count: 0 not at all, 1 fully.
        fallback: Proposes where surrogates cannot be fitted; at random where not given.
        space_filling: Whether start-up trials keep away from each other; else they are drawn independently.
        population: Designs in a generation of the inner evolution.
        generations: Generations of the inner evolution.
    """

    def __init__(
        self,
        seed: int | None = None,
        startup_trials: int = 10,
        known: Sequence[Observation] = (),
        seconds: Callable[[Sequence[Mapping[str, Any]]], np.ndarray] | None = None,
        active: Callable[[Mapping[str, Any]], Collection[str]] | None = None,
        reference: Sequence[float] | None = None,
        *,
        scales: Sequence[str] | None = None,
        cost_exponent: float = 1.0,
        fallback: BaseSampler | None = None,
        space_filling: bool = True,
        population: int = 500,
        generations: int = 20,
    ) -> None:
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self.startup_trials = startup_trials
        self.known = tuple(known)
        self.seconds = seconds
        self.active = active
        self.reference = None if reference is None else np.array(reference, dtype=float)
        self.scales = scales
        self.cost_exponent = cost_exponent
        self.fallback = fallback
        self.space_filling = space_filling
        self.population = population
        self.generations = generations
        self._warned = False

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters that trials have had, each with its latest distribution."""
        space: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False):
            if other.number != trial.number:
                space.update({n: d for n, d in other.distributions.items() if not d.single()})
        return dict(sorted(space.items()))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal."""
        if not search_space:
            return {}
        rng = np.random.default_rng([self.seed, trial.number])
        return Proposal(self, study, trial, search_space, rng).make()

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value at random for a parameter that no trial has had, or by the fallback where one was given."""
        if self.fallback is not None:
            return self.fallback.sample_independent(study, trial, param_name, param_distribution)
        label = int.from_bytes(hashlib.sha256(param_name.encode()).digest()[:4], "big")
        own = np.random.SeedSequence([self.seed, trial.number, label]).generate_state(1)[0]
        return RandomSampler(seed=int(own)).sample_independent(study, trial, param_name, param_distribution)

    def warn_once(self, error: SurrogateError) -> None:
        """Says why surrogates do not decide, the first time."""
        if not self._warned:
            self._warned = True
            warnings.warn(f"{error.message}; {error.hint or 'designs are drawn at random'}", stacklevel=2)


class Proposal:
    """One proposal."""

    def __init__(self, sampler, study, trial, space, rng):
        self.sampler, self.study, self.trial, self.space, self.rng = sampler, study, trial, space, rng
        self.directions = [d == StudyDirection.MAXIMIZE for d in study.directions]
        trials = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number and t.params]
        self.complete = [t for t in trials if t.state is TrialState.COMPLETE]
        self.running = [t for t in trials if t.state is TrialState.RUNNING]
        self.domain = domain_of(space, [t for t in trials], sampler.active)
        self.taken = set(keys_of(self.domain.encoding.positions([self._row(t.params, t.distributions) for t in trials])))

    def make(self):
        s = self.sampler
        if len(self.complete) < s.startup_trials:
            return self._start()
        try:
            history = self._history()
            return self._params(self._best(history))
        except SurrogateError as error:
            s.warn_once(error)
            if s.fallback is not None:
                return s.fallback.sample_relative(self.study, self.trial, s.fallback.infer_relative_search_space(self.study, self.trial))
            return self._start()

    def _row(self, params, distributions=None):
        return {n: v for n, v in params.items() if n in self.space and self.space[n]._contains(self.space[n].to_internal_repr(v))}

    def _params(self, row):
        from nas.search.optuna_domain import value_of
        values = self.domain.values(row)
        return {n: value_of(self.space[n], v) for n, v in values.items()}

    def _start(self):
        rows = self._fresh(self.domain.sample(START_DRAWS, self.rng))
        if not len(rows):
            return self._params(self.domain.sample(1, self.rng)[0])
        trials = [*self.complete, *self.running]
        if not self.sampler.space_filling or not trials:
            return self._params(rows[0])
        tried = self.domain.encoding.encode([self._row(t.params) for t in trials])
        x = self.domain.encode(rows)
        distances = ((x[:, None, :] - tried[None, :, :]) ** 2).sum(axis=2)
        return self._params(rows[int(np.argmax(np.sort(distances, axis=1)[:, : 1].sum(axis=1)))])

    def _fresh(self, rows):
        keep = [k not in self.taken for k in self.domain.keys(rows)]
        return rows[keep]

    def _history(self):
        m = len(self.directions)
        rows = [self._row(t.params) for t in self.complete]
        values = [[v if np.isfinite(v) else np.nan for v in t.values] for t in self.complete]
        noise = [[0.0] * m for _ in rows]
        for o in self.sampler.known:
            row = self._row(o.params)
            if row:
                rows.append(row); values.append(list(o.values)); noise.append(list(o.sd) or [0.0] * m)
        return History(self.domain.encoding.positions(rows), np.array(values, float).reshape(-1, m), np.nan_to_num(np.array(noise, float).reshape(-1, m)), len(self.complete))

    def _outlook(self, x, values, noise, own, directions, plain=False):
        elsewhere = len(x) - own
        grid = 4
        while grid < own:
            nxt = max(grid + 1, int(grid * GROWTH))
            if nxt > own: break
            grid = nxt
        prefix = np.arange(min(grid, own))
        if own < OWN_ENOUGH and elsewhere:
            prefix = np.concatenate([prefix, np.arange(own, len(x))])
        sought = _remembered(x[prefix], values[prefix], noise[prefix], directions, self.domain.encoding)
        rows = _kept(values, own, directions)
        return sought.updated(x[rows], values[rows], noise[rows])

    def _best(self, history):
        x = self.domain.encoding.encode_positions(history.positions)
        outlook = self._outlook(x, history.values, history.noise, history.own, self.directions)
        violations, names = self._violations()
        feasible = (violations <= 0).all(axis=1) if len(names) else np.ones(history.own, bool)
        points = history.values[:history.own]
        ok = np.isfinite(points).all(axis=1)
        front_rows = np.flatnonzero(ok & feasible)
        front_rows = front_rows[non_dominated(points[front_rows], self.directions)]
        front = points[front_rows]
        reference = self._reference(points[ok])
        candidates = self._candidates(outlook, history, front_rows, reference)
        if not len(candidates):
            raise SurrogateError("every design was tried")
        cx = self.domain.encode(candidates)
        pending = self.domain.encoding.encode([self._row(t.params) for t in self.running]) if self.running else None
        gains = outlook.improvement(cx, front, reference, pending=pending, scales=self.sampler.scales)
        for i, name in enumerate(names):
            v = violations[:, i]
            known = np.isfinite(v)
            if np.ptp(v[known]) == 0: continue
            model = self._outlook(x[:history.own], v[:, None], np.zeros((len(v), 1)), history.own, [False], True)
            p = model.predict(cx)
            zero = model.models[0].warp.forth(np.zeros(1))[0]
            chance = ndtr((p.mean[:, 0] - zero) / np.maximum(p.sd[:, 0], 1e-9))
            gains = gains * chance if front.size else (chance if i == 0 else gains * chance)
        if self.sampler.seconds is not None:
            cost = np.asarray(self.sampler.seconds([self._params(r) for r in candidates]), float)
            gains = gains / np.maximum(cost, 1e-9) ** self.sampler.cost_exponent
        self.debug = gains.max()
        return candidates[int(np.argmax(gains))]

    def _violations(self):
        names = sorted({n for t in self.complete for n in t.constraints})
        return np.array([[t.constraints.get(n, np.nan) for n in names] for t in self.complete]).reshape(len(self.complete), len(names)), names

    def _reference(self, points):
        if self.sampler.reference is not None:
            return self.sampler.reference
        signs = np.where(self.directions, 1.0, -1.0)
        q = points * signs
        low, high = np.percentile(q, [25, 75], axis=0)
        fence = low - 1.5 * (high - low)
        worst = np.maximum(q.min(axis=0), fence)
        return signs * (worst - 0.01 * (q.max(axis=0) - worst))

    def _candidates(self, outlook, history, front_rows, reference):
        d = self.domain
        front = d.full(history.positions[front_rows])
        near = d.neighbours(front, self.rng)
        def promise(rows):
            r = outlook.rough(d.encode(rows))
            return r.mean + HOPE * r.sd
        if d.size <= SMALL:
            rows, keys, encoded = _whole(d)
            fresh = np.ones(len(rows), bool)
            for k in self.taken:
                if k in keys: fresh[keys[k]] = False
            r = outlook.rough(encoded)
            p = r.mean + HOPE * r.sd
            some = np.flatnonzero(fresh)
            if len(some) > JUDGED:
                warped = np.stack([m.warp.forth(history.values[front_rows, i]) for i, m in enumerate(outlook.models)], 1)
                corner = np.array([m.warp.forth(reference[i:i+1])[0] for i, m in enumerate(outlook.models)])
                hinge = [(lambda t, y=p[some, i].astype(np.float32): np.maximum(y[:, None] - t.astype(np.float32)[None, :], 0)) for i in range(p.shape[1])]
                gain = expected_improvement(hinge, warped, corner)
                some = np.sort(some[np.argpartition(-gain, JUDGED)[:JUDGED]])
            self.debug_n = len(some)
            near = self._fresh(near)
            return d.distinct(np.concatenate([rows[some], near]))
        e = evolve(d.operators(), promise, self.rng, first=np.concatenate([front, near]), population=self.sampler.population, generations=self.sampler.generations, key=d.keys)
        return self._fresh(d.distinct(np.concatenate([e.rows, near])))


_wholes: dict = {}


def _whole(d):
    key = repr((d.encoding.columns, d.activity.rules, [a.grid.tobytes() for a in d.axes]))
    if key not in _wholes:
        rows = d.all()
        _wholes.clear()
        _wholes[key] = rows, {k: i for i, k in enumerate(d.keys(rows))}, d.encode(rows).astype(np.float32)
    return _wholes[key]


_memory: OrderedDict[str, Outlook] = OrderedDict()


def _remembered(x, values, noise, directions, encoding):
    digest = hashlib.sha256()
    for part in (x, values, noise):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(repr((directions, encoding.columns, x.shape)).encode())
    key = digest.hexdigest()
    if key not in _memory:
        _memory[key] = Outlook.fit(x, values, directions, noise=noise, encoding=encoding)
        while len(_memory) > REMEMBERED:
            _memory.popitem(last=False)
    return _memory[key]


def _kept(values, own, directions):
    if len(values) <= CONDITIONED_ON:
        return np.arange(len(values))
    signs = np.where(directions, 1.0, -1.0)
    q = np.where(np.isfinite(values), values * signs, -np.inf)
    order = ranked(np.where(np.isfinite(q), q, np.nanmin(np.where(np.isfinite(q), q, np.nan), axis=0)))
    best = order[: CONDITIONED_ON * 2 // 3]
    rest = np.sort(order[CONDITIONED_ON * 2 // 3:])
    spread = rest[np.linspace(0, len(rest) - 1, CONDITIONED_ON - len(best)).astype(int)]
    return np.sort(np.concatenate([best, spread]))
