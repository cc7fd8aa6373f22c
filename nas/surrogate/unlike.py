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
    """N×P means of the squares of standardised measures' differences; what is unknown is as the mean."""
    known = np.where(np.isfinite(ours), ours, np.nan)
    count = np.maximum(np.isfinite(ours).sum(axis=0), 1)
    middle = np.nansum(known, axis=0) / count
    spread = np.sqrt(np.nansum((known - middle) ** 2, axis=0) / count)
    scaled = [
        np.nan_to_num((part - middle) / np.where(spread > 0, spread, 1.0), posinf=0, neginf=0)
        for part in (ours, others)
    ]
    return np.asarray(((scaled[0][:, None, :] - scaled[1][None, :, :]) ** 2).mean(axis=2))
