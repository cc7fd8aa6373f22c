"""The cues that a search has of designs: what networks are made of, what earlier studies or a supernet say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nas.design import Design
from nas.surrogate.cues import Role


@dataclass(frozen=True)
class Cues:
    """Cheap measures that help surrogates (see ``nas.surrogate.cues``).

    Args:
        of: Gives N×K of N designs; NaN where unknown.
        roles: What each is to objectives, K.
    """

    of: Callable[[Sequence[Design]], np.ndarray]
    roles: tuple[Role, ...]

    @classmethod
    def of_predictions(cls, of: Callable[[Sequence[Design]], np.ndarray]) -> Cues:
        """Cues that every objective is nearly linear in."""
        return cls(of, ("any",) * of([]).shape[1])


def joined(given: Sequence[Cues | None]) -> Cues | None:
    """All cues beside each other; None where there are none."""
    parts = [cues for cues in given if cues is not None]
    if not parts:
        return None

    def of(designs: Sequence[Design]) -> np.ndarray:
        return np.concatenate([part.of(designs) for part in parts], axis=1)

    return Cues(of, tuple(role for part in parts for role in part.roles))
