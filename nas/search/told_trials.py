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
    """What is known of trials, by their places in the list that was seen last."""

    def __init__(self, columns: int) -> None:
        self.trials: list[FrozenTrial | None] = []
        self.positions = np.zeros((0, columns))
        self.keys: list[bytes] = []
        self.constraints: list[Mapping[str, float]] = []

    def see(self, space: Mapping[str, BaseDistribution], trials: Sequence[FrozenTrial]) -> None:
        """Brings all up to these trials."""
        shared = min(len(self.trials), len(trials))
        new = [place for place in range(shared) if self.trials[place] is not trials[place]]
        new += range(shared, len(trials))
        del self.trials[shared:], self.keys[shared:], self.constraints[shared:]
        more = len(trials) - shared
        self.positions = np.concatenate([self.positions[:shared], np.full((more, len(space)), np.nan)])
        self.trials += [None] * more
        self.keys += [b""] * more
        self.constraints += [{}] * more
        if not new:
            return
        rows = positions_of(space, [trials[place].params for place in new])
        self.positions[new] = rows
        for place, key in zip(new, keys_of(rows), strict=True):
            trial = trials[place]
            self.trials[place] = trial if trial.state.is_finished() else None  # else it may still change
            self.keys[place] = key
            self.constraints[place] = trial.constraints if trial.state is TrialState.COMPLETE else {}


_LOCK = threading.Lock()
_SEEN: OrderedDict[Any, _Rows] = OrderedDict()


def told_trials(space: Mapping[str, BaseDistribution], trials: Sequence[FrozenTrial], objectives: int) -> ToldTrials:
    """The trials as arrays; those without parameters are left out.

    Args:
        space: The parameters.
        trials: All but the one that is asked for.
        objectives: How many values a complete one has.
    """
    named = [trial for trial in trials if trial.params]
    key = tuple(space.items())
    with _LOCK:
        rows = _SEEN.pop(key, None) or _Rows(len(space))
        _SEEN[key] = rows
        if len(_SEEN) > REMEMBERED:
            _SEEN.popitem(last=False)
        rows.see(space, named)
        positions, taken, constraints = rows.positions, frozenset(rows.keys), list(rows.constraints)
    states = [trial.state for trial in named]
    complete = [place for place, state in enumerate(states) if state is TrialState.COMPLETE]
    running = [place for place, state in enumerate(states) if state is TrialState.RUNNING]
    names = sorted({name for place in complete for name in constraints[place]})
    violations = [[constraints[place].get(name, math.nan) for name in names] for place in complete]
    return ToldTrials(
        positions.copy(),
        taken,
        np.array(complete, dtype=int),
        np.array(running, dtype=int),
        np.array([named[place].values for place in complete], dtype=float).reshape(len(complete), objectives),
        np.array(violations, dtype=float).reshape(len(complete), len(names)),
    )
