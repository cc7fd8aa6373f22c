"""Cues: cheap measures of designs, known before any trial, that objectives are nearly linear in.

What a cue means for an objective is its role. Qualities are nearly linear in some measures as they are. Costs add up: a
latency is a call's overhead, something for each layer, for each value written, for each multiply-add. How much of each
is found by a non-negative least-squares fit (Lawson & Hanson, 1974) of relative errors; the logarithm of the sum is the
one cue that a cost has of its amounts. A line in the amounts' logarithms would promise that the smallest networks take
no time at all; and so would a sum, as long as few trials tell, if the overhead were not drawn to the least cost seen.
What a unit of an amount costs beside that least cost is much the same everywhere, so that may be said beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import nnls

# What costs are of: what a call takes, what it is counted to do (of the same amounts), what a file or its memory holds.
Cost = Literal["time", "work", "space"]
# The overhead is expected to be so much of the least cost, which counts as so many trials.
OVERHEAD, TRIALS = 0.5, 0.5
# What is expected of an amount counts as so many trials.
EXPECTED_TRIALS = 1.0
LEAST = 1e-12


@dataclass(frozen=True)
class Amount:
    """An amount that costs add up from.

    Args:
        of: Of which costs.
        expected: What a unit of it is expected to cost, as a share of the least cost that was seen.
    """

    of: Cost
    expected: float


# What a cue is to objectives: linear for all of them, linear for qualities alone, or an amount that costs add up from,
# of which something is expected or nothing.
Role = Literal["any", "quality"] | Cost | Amount


@dataclass(frozen=True)
class CueColumns:
    """The cues as one objective's surrogate sees them.

    Args:
        linear: Which of the K cues are taken as they are, as a mask.
        amounts: Which of them a cost adds up from, as a mask; none for a quality.
        expected: What a unit of each amount is expected to cost, see ``Amount``; NaN where nothing is.
        weights: What a unit of each amount costs, after the overhead; empty without amounts.
        middle: Means of the columns, which are standardised.
        spread: Their deviations.
    """

    linear: np.ndarray
    amounts: np.ndarray
    expected: np.ndarray
    weights: np.ndarray
    middle: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, cues: np.ndarray, values: np.ndarray, roles: Sequence[Role], cost: Cost | None) -> CueColumns:
        """Finds what costs add up from, and the scale of the columns.

        Args:
            cues: N×K.
            values: N of the objective, in own units.
            roles: K of them.
            cost: What the objective is a cost of; None of a quality, and one that is not positive is taken for none.
        """
        role = np.array(roles, dtype=object)
        adds_up = cost is not None and bool((values > 0).all())
        linear = (role == "any") | ((role == "quality") & (not adds_up))
        kind = "time" if cost == "work" else cost
        amounts = np.array([adds_up and (one.of if isinstance(one, Amount) else one) == kind for one in roles], bool)
        expected = [one.expected if isinstance(one, Amount) and one.of == cost else np.nan for one in role[amounts]]
        own = cls(linear, amounts, np.array(expected), np.zeros(0), np.zeros(0), np.ones(0)).learned(cues, values)
        columns = own._columns(cues)
        spread = columns.std(axis=0) if len(columns) else np.ones(columns.shape[1])
        middle = columns.mean(axis=0) if len(columns) else np.zeros(columns.shape[1])
        return replace(own, middle=middle, spread=np.where(spread > 0, spread, 1.0))

    def learned(self, cues: np.ndarray, values: np.ndarray) -> CueColumns:
        """The same columns, with what amounts cost as these N values tell."""
        if not self.amounts.any() or not len(values):
            return self
        parts = self._parts(cues) / values[:, None]
        overhead = np.zeros((1, parts.shape[1]))
        overhead[0, 0] = TRIALS / (OVERHEAD * values.min())
        parts, ones = np.vstack([parts, overhead]), np.append(np.ones(len(values)), TRIALS)
        scale = np.maximum(parts.max(axis=0), LEAST)
        # Of each amount the share that it has in the cost of the trial in which that is largest, as is expected.
        told = np.isfinite(self.expected)
        shares = np.where(told, self.expected, 0.0) * values.min() * scale[1:]
        beliefs = EXPECTED_TRIALS * np.eye(len(scale))[1:][told]
        equations, sides = np.vstack([parts / scale, beliefs]), np.append(ones, EXPECTED_TRIALS * shares[told])
        weights, _ = nnls(equations, sides)
        return replace(self, weights=weights / scale)

    def __call__(self, cues: np.ndarray) -> np.ndarray:
        """The columns of N designs; what is unknown tells as much as the mean."""
        return np.asarray(np.nan_to_num((self._columns(cues) - self.middle) / self.spread))

    def _columns(self, cues: np.ndarray) -> np.ndarray:
        columns = cues[:, self.linear]
        if not len(self.weights):
            return columns
        total = np.log(np.maximum(self._parts(cues) @ self.weights, LEAST))
        return np.hstack([columns, total[:, None]])

    def _parts(self, cues: np.ndarray) -> np.ndarray:
        """The overhead, which all have alike, and the amounts."""
        return np.hstack([np.ones((len(cues), 1)), cues[:, self.amounts]])
