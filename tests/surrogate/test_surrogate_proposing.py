"""The choice of a design without Optuna: the best candidates are bettered step by step."""

from __future__ import annotations

import numpy as np
import pytest

from nas.surrogate import proposing
from nas.surrogate.activity import Activity
from nas.surrogate.domain import Axis, Domain
from nas.surrogate.encode import Column
from nas.surrogate.history import History
from nas.surrogate.proposing import SMALL, Choosing, Wish

EDGES, TRIALS = 12, 24


def cells() -> Domain:
    """Twelve edges of three operations: more designs than are looked through as a whole."""
    axes = [
        Axis(Column(f"op{edge}", values=("none", "skip", "conv")), np.arange(3, dtype=float)) for edge in range(EDGES)
    ]
    return Domain(axes, Activity([()] * EDGES))


def worth_of_the_best(seed: int, climbs: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """What the proposal is worth by second."""
    monkeypatch.setattr(proposing, "CLIMBS", climbs)
    domain, rng = cells(), np.random.default_rng(seed)
    rows = domain.sample(TRIALS, rng)
    skill = rows @ np.linspace(1, 2, EDGES)
    values = np.stack([1 - 0.5 * np.exp(-0.05 * skill), 1 + rows @ np.linspace(2, 1, EDGES)], axis=1)
    history = History(
        rows, values, np.zeros_like(values), TRIALS, np.zeros((TRIALS, 0)), rows[:0], frozenset(domain.keys(rows))
    )
    wish = Wish((True, False), seconds=lambda some: 1 + some.sum(axis=1) ** 2, generations=1, population=40)
    choosing = Choosing(domain, history, wish, np.random.default_rng(seed))
    best = choosing.best()
    assert best is not None
    assert domain.size > SMALL
    assert domain.keys(best[None, :])[0] not in history.taken
    _, worth = choosing._worth(best[None, :])
    return float(worth[0])


def test_the_best_candidates_are_bettered_by_what_they_are_worth_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [[worth_of_the_best(seed, climbs, monkeypatch) for climbs in (0, 3)] for seed in range(6)]
    assert all(climbed >= plain for plain, climbed in pairs)
    assert sum(climbed > 1.05 * plain for plain, climbed in pairs) >= 3
