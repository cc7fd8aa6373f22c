"""Which choices play a part in which designs, learned from designs that show it.

A choice that is missing in some designs is taken to depend on others: it is active unless one of these has a value at
which it was never seen, or is not active itself. Such choices are sought greedily, until every design that lacks the
choice is explained; what stays unexplained is taken as active.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# A choice with more positions than this is cut at two ends; with fewer, value by value.
FEW = 32


@dataclass(frozen=True)
class Rule:
    """One choice that another depends on.

    Args:
        parent: The index of the choice that is depended on.
        off: Its positions that switch the dependent choice off.
        low: Positions below switch it off, too.
        high: Positions above switch it off, too.
    """

    parent: int
    off: frozenset[float]
    low: float = -np.inf
    high: float = np.inf

    def breaks(self, positions: np.ndarray) -> np.ndarray:
        """Of N positions of the parent, NaN where it is not active, which switch the choice off."""
        outside = np.isnan(positions) | (positions < self.low) | (positions > self.high)
        return np.asarray(outside | np.isin(positions, list(self.off)) if self.off else outside)


class Activity:
    """Which choices play a part.

    Args:
        rules: For each choice what it depends on; all must hold.
    """

    def __init__(self, rules: Sequence[Sequence[Rule]]) -> None:
        self.rules = tuple(tuple(own) for own in rules)
        self.order = _order(self.rules)

    @property
    def conditional(self) -> tuple[bool, ...]:
        """For each choice whether it may be inactive."""
        return tuple(bool(own) for own in self.rules)

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Of N full rows which choices are active, N×columns booleans."""
        active = np.ones(rows.shape, dtype=bool)
        for choice in self.order:
            for rule in self.rules[choice]:
                parent = np.where(active[:, rule.parent], rows[:, rule.parent], np.nan)
                active[:, choice] &= ~rule.breaks(parent)
        return active


class AskedActivity(Activity):
    """Which choices play a part, as somebody says of each design; an answer is remembered.

    Args:
        answer: Of one full row its active choices, as booleans.
        conditional: For each choice whether it may be inactive.
    """

    def __init__(self, answer: Callable[[np.ndarray], np.ndarray], conditional: Sequence[bool]) -> None:
        super().__init__([()] * len(conditional))
        self._answer = answer
        self._conditional = tuple(conditional)
        self._answers: dict[bytes, np.ndarray] = {}

    @property
    def conditional(self) -> tuple[bool, ...]:
        """For each choice whether it may be inactive."""
        return self._conditional

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Of N full rows which choices are active, N×columns booleans."""
        active = np.ones(rows.shape, dtype=bool)
        for place, row in enumerate(rows):
            key = row.tobytes()
            if key not in self._answers:
                self._answers[key] = self._answer(row)
            active[place] = self._answers[key]
        return active


def learned(positions: np.ndarray) -> Activity:
    """What N×columns positions show, NaN where a choice is not active."""
    present = ~np.isnan(positions)
    rules: list[list[Rule]] = []
    for choice in range(positions.shape[1]):
        rules.append([] if present[:, choice].all() else _rules(positions, present, choice))
    return Activity(rules)


def _rules(positions: np.ndarray, present: np.ndarray, choice: int) -> list[Rule]:
    own = present[:, choice]
    unexplained = ~own
    count = own.sum()
    parents = []
    for parent in range(positions.shape[1]):
        covers = bool(present[own, parent].all())
        # One that is present in just the same designs explains nothing.
        if parent != choice and covers and present[:, parent].sum() > count:
            parents.append(_rule(positions[:, parent], own, parent))
    found = []
    while unexplained.any() and parents:
        explained = [int((rule.breaks(positions[:, rule.parent]) & unexplained).sum()) for rule in parents]
        best = int(np.argmax(explained))
        if explained[best] == 0:
            break
        rule = parents.pop(best)
        unexplained &= ~rule.breaks(positions[:, rule.parent])
        found.append(rule)
    return found


def _rule(positions: np.ndarray, own: np.ndarray, parent: int) -> Rule:
    """What a parent's positions say of the presence of a choice."""
    seen = np.unique(positions[~np.isnan(positions)])
    on = np.unique(positions[own])
    if len(seen) <= FEW:
        return Rule(parent, frozenset(float(at) for at in np.setdiff1d(seen, on)))
    if len(on) == 0:
        return Rule(parent, frozenset())
    below, above = seen[seen < on[0]], seen[seen > on[-1]]
    low = (below[-1] + on[0]) / 2 if len(below) else -np.inf
    high = (above[0] + on[-1]) / 2 if len(above) else np.inf
    return Rule(parent, frozenset(), float(low), float(high))


def _order(rules: Sequence[Sequence[Rule]]) -> list[int]:
    """The choices with each after those that it depends on."""
    order: list[int] = []
    waiting = list(range(len(rules)))
    while waiting:
        ready = [choice for choice in waiting if all(rule.parent in order for rule in rules[choice])]
        assert ready, "a parent is present in more designs than its choice, so there is no circle"
        order += ready
        waiting = [choice for choice in waiting if choice not in ready]
    return order
