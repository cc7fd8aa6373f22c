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

from nas.search.optuna_domain import positions_of
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
        self.named = np.zeros(0, dtype=bool)
        self.complete = np.zeros(0, dtype=bool)
        self.running = np.zeros(0, dtype=bool)
        self.positions = np.zeros((0, columns))
        self.values = np.zeros((0, objectives))
        self.keys: list[bytes | None] = []
        self.violations: dict[int, Mapping[str, float]] = {}

    def see(self, space: Mapping[str, BaseDistribution], trials: Sequence[FrozenTrial]) -> None:
        """Brings all up to these trials; only those that are not the same objects as before are looked at."""
        shared = min(len(self.seen), len(trials))
        new = [at for at, (old, trial) in enumerate(zip(self.seen, trials, strict=False)) if old is not trial]
        new += range(shared, len(trials))
        self._resize(shared, len(trials))
        rows = positions_of(space, [trials[at].params for at in new])
        for at, row, key in zip(new, rows, keys_of(rows), strict=True):
            trial = trials[at]
            complete = trial.state is TrialState.COMPLETE and bool(trial.params)
            self.seen[at] = trial if trial.state.is_finished() else None
            self.named[at], self.complete[at] = bool(trial.params), complete
            self.running[at] = trial.state is TrialState.RUNNING and bool(trial.params)
            self.positions[at], self.values[at] = row, trial.values if complete else math.nan
            self.keys[at] = key if trial.params else None
            self.violations.pop(at, None)
            if complete:
                self.violations[at] = trial.constraints

    def _resize(self, shared: int, count: int) -> None:
        """Keeps the first places and adds as many as are missing."""
        more = count - shared
        flags = np.zeros(more, dtype=bool)
        self.named, self.complete, self.running = (
            np.concatenate([own[:shared], flags]) for own in (self.named, self.complete, self.running)
        )
        self.positions, self.values = (
            np.concatenate([own[:shared], np.full((more, own.shape[1]), np.nan)])
            for own in (self.positions, self.values)
        )
        if len(self.seen) > shared:
            self.violations = {at: known for at, known in self.violations.items() if at < shared}
        self.seen[shared:] = [None] * more
        self.keys[shared:] = [None] * more

    def told(self) -> ToldTrials:
        """All of it; those without parameters are left out."""
        places = np.flatnonzero(self.complete).tolist()
        names = sorted({name for known in self.violations.values() for name in known})
        violations = [[self.violations[at].get(name, math.nan) for name in names] for at in places]
        place_of = np.cumsum(self.named) - 1
        return ToldTrials(
            self.positions[self.named],
            frozenset(key for key in self.keys if key is not None),
            place_of[self.complete],
            place_of[self.running],
            self.values[self.complete],
            np.array(violations, dtype=float).reshape(len(places), len(names)),
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
        rows = _SEEN.pop(key, None) or _Rows(len(space), objectives)
        rows.see(space, trials)
        _SEEN[key] = rows  # not before: what was seen in part is forgotten
        if len(_SEEN) > REMEMBERED:
            _SEEN.popitem(last=False)
        return rows.told()
