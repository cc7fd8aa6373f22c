"""How long trials will take, learned from how long others took."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import make_record
from sklearn.linear_model import Ridge

from nas.record import StageResult, TrialRecord
from nas.search.durations import FEWEST, RIDGE, Durations, training_seconds

RNG = np.random.default_rng(3)
X = RNG.random((30, 4))
SECONDS = np.exp(2 + X @ np.array([1.0, -2.0, 0.0, 0.5]) + 0.1 * RNG.standard_normal(30))


def trained(number: int, seconds: float, rest: float = 0.5, cached: bool = False) -> TrialRecord:
    stages = (StageResult("train", "key", seconds, cached),)
    record: TrialRecord = replace(make_record(number), stages=stages, seconds=seconds + rest)
    return record


def test_trainings_are_learned_as_by_scikit_learns_ridge_regression() -> None:
    records = [trained(number, seconds) for number, seconds in enumerate(SECONDS)]
    ours = Durations(records, X, epochs=3)
    new = RNG.random((9, 4))
    theirs = np.exp(Ridge(alpha=RIDGE).fit(X, np.log(SECONDS)).predict(new))
    np.testing.assert_allclose(ours.training.predict(new), theirs, rtol=1e-9)
    np.testing.assert_allclose(ours.rest.predict(new), 0.5, rtol=1e-9)
    np.testing.assert_allclose(ours.seconds(new, np.zeros(9)), 0.5, rtol=1e-9)
    np.testing.assert_allclose(ours.seconds(new, np.full(9, 0.5)), 0.5 + 0.5 * theirs, rtol=1e-9)


def test_nothing_is_believed_far_beyond_what_was_seen() -> None:
    records = [trained(number, seconds) for number, seconds in enumerate(SECONDS)]
    far = Durations(records, X, epochs=3).training.predict(np.array([[99.0, 0, 0, 0], [-99.0, 0, 0, 0]]))
    np.testing.assert_allclose(far, [np.e * SECONDS.max(), SECONDS.min() / np.e])


def test_few_trials_tell_their_median() -> None:
    few = Durations([trained(number, number + 1.0) for number in range(FEWEST - 1)], X[: FEWEST - 1], epochs=3)
    np.testing.assert_allclose(few.training.predict(X), np.median(np.arange(1.0, FEWEST)))
    none = Durations([], np.zeros((0, 4)), epochs=3)
    np.testing.assert_allclose(none.training.predict(X[:2]), 1.0)


def test_only_a_training_from_its_first_epoch_on_tells_how_long_one_takes() -> None:
    whole = trained(0, 6.0)
    assert training_seconds(whole, 3) == pytest.approx(6.0)
    assert training_seconds(replace(whole, epochs=1), 3) == pytest.approx(18.0)
    assert training_seconds(replace(whole, origin="promotion"), 3) is None
    assert training_seconds(trained(1, 6.0, cached=True), 3) is None
    assert training_seconds(replace(whole, stages=()), 3) is None
