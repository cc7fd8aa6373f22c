"""How unlike designs are: by this a search begins with designs that teach it most, and looks where it knows least.

Of choices only those count that both designs have, by their mean: that a network has more stages says so itself once,
and the choices of the stages that the other lacks say nothing more. Else the designs with most choices would seem
farthest from everything, and a search would begin with hardly any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.surrogate.cues import Role
from nas.surrogate.encode import Column

# The expected square of the difference of two numbers of variance 1.
OF_TWO = 2.0
# Measures that differ by less than this, relatively, differ by rounding.
SAME = 1e-9


def apart(
    columns: Sequence[Column],
    ours: np.ndarray,
    others: np.ndarray,
    cues: tuple[np.ndarray, np.ndarray] | None = None,
    roles: Sequence[Role] = (),
) -> np.ndarray:
    """How unlike each of N designs is to that of P others which it is most like; infinite where there are none.

    Args:
        columns: The choices.
        ours: N×columns positions (see ``Column.positions``); NaN where a choice is not active.
        others: P×columns likewise.
        cues: Cheap measures of both, N×K and P×K; those that qualities are nearly linear in count as much as choices.
        roles: What each of the K is to objectives.
    """
    if not len(others) or not len(ours):
        return np.full(len(ours), np.inf)
    unlike = _by_choices(columns, ours, others)
    if (usual := unlike.mean()) > 0:
        unlike /= usual
    if cues is not None:
        telling = np.isin(np.array(roles, dtype=object), ("any", "quality"))
        if telling.any():
            unlike += _by_cues(cues[0][:, telling], cues[1][:, telling]) / OF_TWO
    return np.asarray(unlike.min(axis=1))


def _by_choices(columns: Sequence[Column], ours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """N×P means over the choices that both have: of the squares of numbers' differences (0 to 1), else 0 or 1."""
    total, shared = np.zeros((2, len(ours), len(others)))
    for column, own, other in zip(columns, ours.T, others.T, strict=True):
        difference = own[:, None] - other[None, :]
        both = ~np.isnan(difference)
        if column.is_number:
            last = 1.0 if column.values is None else max(1.0, len(column.values) - 1.0)
            unlike = (difference / last) ** 2
        else:
            unlike = np.where(difference == 0, 0.0, 1.0)
        total += np.where(both, unlike, 0.0)
        shared += both
    return np.where(shared > 0, total / np.maximum(shared, 1), 1.0)


def _by_cues(ours: np.ndarray, others: np.ndarray) -> np.ndarray:
    """N×P means of the squares of measures' differences, each by its variance over all these designs; what is unknown
    is as the mean, and what is the same for all says nothing."""
    joined = np.concatenate([ours, others])
    known = np.isfinite(joined)
    count = np.maximum(known.sum(axis=0), 1)
    middle = np.where(known, joined, 0.0).sum(axis=0) / count
    centred = np.where(known, joined, middle) - middle
    spread = np.sqrt((centred**2).sum(axis=0) / count)
    varies = spread > SAME * np.maximum(1.0, np.abs(middle))
    scaled = centred[:, varies] / spread[varies]
    mine, theirs = scaled[: len(ours)], scaled[len(ours) :]
    squares = np.zeros((len(ours), len(others)))
    for column in range(scaled.shape[1]):
        squares += (mine[:, column][:, None] - theirs[:, column][None, :]) ** 2
    return np.asarray(squares / ours.shape[1])
