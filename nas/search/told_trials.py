"""The trials of a study as a sampler needs them: arrays, of which only the rows of new trials are made anew.

Optuna hands out the same objects for the trials that ended before, thousands of them at every proposal.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from nas.search.optuna_domain import Params, positions_of
from nas.surrogate.domain import keys_of

# Studies of which the trials are remembered.
REMEMBERED = 2


@dataclass(frozen=True)
class ToldTrials:
    """The trials that have parameters.

    Args:
        positions: N×columns active rows, see ``positions_of``.
        taken: Keys of their designs, see ``keys_of``.
        complete: Places of those that have values.
        running: Places of those that are being evaluated.
        values: Of the complete ones the values, complete×M.
        violations: Of the complete ones the violations, complete×C, by the constraints' names; NaN where unknown.
    """

    positions: np.ndarray
    taken: frozenset[bytes]
    complete: np.ndarray
    running: np.ndarray
    values: np.ndarray
    violations: np.ndarray


class _Rows:
    """What is known of the trials that were seen last, by their places among them."""

    def __init__(self, columns: int, objectives: int) -> None:
        self.seen: list[FrozenTrial | None] = []  # None where a trial may still change
        self.named, self.complete, self.running = (np.zeros(0, dtype=bool) for _ in range(3))
        self.positions = np.zeros((0, columns))
        self.values = np.zeros((0, objectives))
        self.names: list[str] = []  # of constraints that complete trials have
        self.violations = np.zeros((0, 0))
        self.ended: set[bytes] = set()  # keys of trials that ended
        self.open: set[bytes] = set()  # … and of the others, to which parameters may still be added

    def see(self, space: Mapping[str, BaseDistribution], trials: Sequence[FrozenTrial]) -> None:
        """Brings all up to these trials; only those that are others than before are looked at."""
        new = [at for at, old in enumerate(self.seen) if old is None] + list(range(len(self.seen), len(trials)))
        self._make_room(len(trials) - len(self.seen))
        rows = positions_of(space, [trials[at].params for at in new])
        self.open.clear()
        for at, row, key in zip(new, rows, keys_of(rows), strict=True):
            trial = trials[at]
            self.seen[at] = trial if trial.state.is_finished() else None
            if trial.params:
                self.named[at] = True
                self.running[at] = trial.state is TrialState.RUNNING
                self.positions[at] = row
                (self.ended if trial.state.is_finished() else self.open).add(key)
                if trial.state is TrialState.COMPLETE:
                    self._complete(at, trial)

    def goes_on(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether the trials that ended before are among these as they were."""
        before = zip(self.seen, trials, strict=False)
        return len(trials) >= len(self.seen) and all(
            old is trial or old is None or (old.params is trial.params and old.values is trial.values is None)
            for old, trial in before
        )

    def _make_room(self, more: int) -> None:
        none = np.zeros(more, dtype=bool)
        self.named, self.complete, self.running = (
            np.concatenate([own, none]) for own in (self.named, self.complete, self.running)
        )
        self.positions, self.values, self.violations = (
            np.concatenate([own, np.full((more, own.shape[1]), np.nan)])
            for own in (self.positions, self.values, self.violations)
        )
        self.seen += [None] * more

    def _complete(self, at: int, trial: FrozenTrial) -> None:
        """Adds what a trial came to."""
        known = trial.constraints
        if not known.keys() <= set(self.names):
            names = sorted({*self.names, *known})
            wider = np.full((len(self.seen), len(names)), np.nan)
            wider[:, [names.index(name) for name in self.names]] = self.violations
            self.names, self.violations = names, wider
        self.complete[at] = True
        self.values[at] = trial.values
        self.violations[at] = [known.get(name, math.nan) for name in self.names]

    def told(self) -> ToldTrials:
        """All of it; those without parameters are left out."""
        place_of = np.cumsum(self.named) - 1
        return ToldTrials(
            self.positions[self.named],
            frozenset(self.ended | self.open),
            place_of[self.complete],
            place_of[self.running],
            self.values[self.complete],
            self.violations[self.complete],
        )


_LOCK = threading.Lock()
_SEEN: OrderedDict[Any, _Rows] = OrderedDict()


def told_trials(space: Mapping[str, BaseDistribution], trials: Sequence[FrozenTrial], objectives: int) -> ToldTrials:
    """The trials as arrays; those without parameters are left out.

    Args:
        space: The parameters.
        trials: All but the one that is asked for.
        objectives: How many values a complete one has.
    """
    key = (tuple(space.items()), objectives)
    with _LOCK:
        rows = _SEEN.pop(key, None)
        if rows is None or not rows.goes_on(trials):
            rows = _Rows(len(space), objectives)
        rows.see(space, trials)
        _SEEN[key] = rows  # not before: what was seen in part is forgotten
        if len(_SEEN) > REMEMBERED:
            _SEEN.popitem(last=False)
        return rows.told()


_PLACED: OrderedDict[Any, tuple[list[Params], np.ndarray]] = OrderedDict()


def remembered_positions(space: Mapping[str, BaseDistribution], params: Sequence[Params]) -> np.ndarray:
    """As ``positions_of``; parameters that are the same objects as the last time, at the same places, are not read."""
    key = tuple(space.items())
    with _LOCK:
        seen, before = _PLACED.pop(key, ([], np.zeros((0, len(space)))))
        new = [at for at, (old, own) in enumerate(zip(seen, params, strict=False)) if old is not own]
        new += range(len(seen), len(params))
        positions = np.full((len(params), len(space)), np.nan)
        positions[: len(seen)] = before[: len(params)]
        positions[new] = positions_of(space, [params[at] for at in new])
        _PLACED[key] = list(params), positions
        if len(_PLACED) > REMEMBERED:
            _PLACED.popitem(last=False)
        return positions.copy()
