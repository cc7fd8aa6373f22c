"""Surrogates of several objectives."""

from __future__ import annotations

import moocore
import numpy as np
import pytest

from nas.errors import SurrogateError
from nas.surrogate.encode import Column, Encoding
from nas.surrogate.outlook import Outlook

ENCODING = Encoding([Column(name, values=("a", "b", "c", "d")) for name in "pqrs"])


def designs(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ENCODING.encode([{name: "abcd"[rng.integers(4)] for name in "pqrs"} for _ in range(count)])


def measured(x: np.ndarray) -> np.ndarray:
    """An accuracy and a latency, each of main effects and one pair."""
    skill = x @ np.tile([0.0, 1.1, 0.4, 0.9], 4) + 0.5 * x[:, 2] * x[:, 7]
    cost = x @ np.tile([0.1, 0.5, 0.8, 2.0], 4)
    return np.stack([1 - 0.4 * np.exp(-0.7 * skill), np.exp(0.5 * cost)], axis=1)


X, NEW = designs(60, 0), designs(200, 1)
Y = measured(X)
FITTED = Outlook.fit(X, Y, [True, False], encoding=ENCODING)
REFERENCE = np.array([0.5, 40.0])


def test_predictions_are_close_and_intervals_hold() -> None:
    truth = measured(NEW)
    low, high = FITTED.interval(NEW, 0.9)
    middle, same = FITTED.interval(NEW, 0.0)
    np.testing.assert_allclose(middle, same)
    assert ((low <= middle) & (middle <= high)).all()
    for column in range(2):
        assert np.corrcoef(np.log(middle[:, column]), np.log(truth[:, column]))[0, 1] > 0.85
        inside = ((truth >= low) & (truth <= high))[:, column].mean()
        assert inside > 0.75


def test_more_is_better_on_the_warped_axes() -> None:
    predicted, truth = FITTED.predict(NEW).mean, measured(NEW)
    assert np.corrcoef(predicted[:, 0], truth[:, 0])[0, 1] > 0.9
    assert np.corrcoef(predicted[:, 1], truth[:, 1])[0, 1] < -0.8


def test_optimism_goes_in_the_good_direction() -> None:
    median, best = FITTED.optimistic(NEW, 0.5), FITTED.optimistic(NEW, 0.95)
    assert (best[:, 0] >= median[:, 0]).all()
    assert (best[:, 1] <= median[:, 1]).all()
    # The one-sided bound at 95 % is the end of the two-sided interval at 90 %.
    low, high = FITTED.interval(NEW, 0.9)
    np.testing.assert_allclose(best, np.stack([high[:, 0], low[:, 1]], axis=1))


def test_the_same_again_is_the_same() -> None:
    again = Outlook.fit(X, Y, [True, False], encoding=ENCODING)
    np.testing.assert_array_equal(again.predict(NEW).mean, FITTED.predict(NEW).mean)


def test_improvement_is_the_mean_over_draws() -> None:
    front = Y[moocore.is_nondominated(Y, maximise=[True, False])]
    some = NEW[:5]
    exact = FITTED.improvement(some, front, REFERENCE)
    predicted = FITTED.predict(some)
    rng = np.random.default_rng(0)
    measure = moocore.Hypervolume(ref=REFERENCE, maximise=[True, False])
    before = measure(front)
    drawn = []
    for mean, deviation in zip(predicted.mean, predicted.sd, strict=True):
        warped = mean + deviation * rng.standard_normal((3000, 2))
        points = np.stack([m.warp.back(warped[:, i]) for i, m in enumerate(FITTED.models)], axis=1)
        drawn.append(np.mean([measure(np.vstack([front, point])) - before for point in points]))
    assert exact == pytest.approx(np.array(drawn), rel=0.2, abs=2e-3)


@pytest.mark.parametrize("scales", [["linear", "log"], ["warped", "warped"], ["linear", "linear"]])
def test_a_design_that_beats_the_front_is_worth_more(scales: list[str]) -> None:
    truth = measured(NEW)
    front = np.median(truth, axis=0)[None, :]
    worth = FITTED.improvement(NEW, front, REFERENCE, scales=scales)
    better = (truth[:, 0] > front[0, 0] + 0.01) & (truth[:, 1] < 0.85 * front[0, 1])
    worse = (truth[:, 0] < front[0, 0] - 0.01) & (truth[:, 1] > 1.15 * front[0, 1])
    assert better.sum() > 3
    assert worse.sum() > 3
    assert worth[better].min() > worth[worse].max()


def test_known_values_are_not_predicted() -> None:
    front, known = np.array([[0.7, 5.0]]), np.full((2, 2), np.nan)
    known[0] = [0.8, 4.0]
    worth = FITTED.improvement(NEW[:2], front, REFERENCE, known=known)
    before = moocore.hypervolume(front, ref=REFERENCE, maximise=[True, False])
    after = moocore.hypervolume(np.vstack([front, known[:1]]), ref=REFERENCE, maximise=[True, False])
    assert worth[0] == pytest.approx(after - before, rel=1e-4)
    assert worth[1] == pytest.approx(FITTED.improvement(NEW[1:2], front, REFERENCE)[0])


def test_a_noisy_reading_is_weighed_against_what_is_predicted() -> None:
    front, known = np.array([[0.7, 5.0]]), np.array([[np.nan, 0.5]])  # far faster than predicted
    noises = (0.0, 1e-9, 0.05, 0.5, 1e9)
    worth = [
        FITTED.improvement(NEW[:1], front, REFERENCE, known=known, known_noise=np.array([[np.nan, noise]]))[0]
        for noise in noises
    ]
    assert worth[0] == pytest.approx(FITTED.improvement(NEW[:1], front, REFERENCE, known=known)[0])
    assert worth[0] == pytest.approx(worth[1], rel=1e-4)
    assert worth == sorted(worth, reverse=True), "the noisier the less it counts"
    assert worth[0] > 1.5 * worth[-1]
    assert worth[-1] == pytest.approx(FITTED.improvement(NEW[:1], front, REFERENCE)[0], rel=1e-4)


def test_what_is_being_evaluated_is_worth_little_again() -> None:
    front = np.array([[0.7, 5.0]])
    alone = FITTED.improvement(NEW, front, REFERENCE)
    best = NEW[[int(np.argmax(alone))]]
    beside = FITTED.improvement(best, front, REFERENCE, pending=best)
    assert beside[0] < 0.2 * alone.max()


def test_noise_is_smoothed_over() -> None:
    rng = np.random.default_rng(2)
    spread = np.zeros_like(Y)
    spread[:, 0] = 0.05
    noisy = Y + spread * rng.standard_normal(Y.shape)
    told = Outlook.fit(X, noisy, [True, False], noise=spread, encoding=ENCODING)
    middle = told.interval(X, 0.0)[0]
    assert np.abs(middle - Y)[:, 0].mean() < 0.7 * np.abs(noisy - Y)[:, 0].mean()


def test_unknown_values_of_one_objective_do_not_spoil_the_other() -> None:
    partly = Y.copy()
    partly[::2, 0] = np.nan
    outlook = Outlook.fit(X, partly, [True, False], encoding=ENCODING)
    np.testing.assert_array_equal(outlook.predict(NEW).mean[:, 1], FITTED.predict(NEW).mean[:, 1])
    assert outlook.predict(NEW).sd[:, 0].mean() > FITTED.predict(NEW).sd[:, 0].mean()


def test_cues_tell_what_designs_do_not() -> None:
    rng = np.random.default_rng(3)
    hidden, hidden_new = rng.standard_normal((60, 1)), rng.standard_normal((200, 1))
    y = (X @ np.arange(16) / 16)[:, None] + 2 * hidden
    truth = (NEW @ np.arange(16) / 16)[:, None] + 2 * hidden_new
    cued = Outlook.fit(X, y, [True], cues=1000 + 7 * hidden, encoding=ENCODING)
    blind = Outlook.fit(X, y, [True], encoding=ENCODING)
    misses = [
        np.abs(outlook.interval(NEW, 0.0, cues=cues)[0] - truth).mean()
        for outlook, cues in ((cued, 1000 + 7 * hidden_new), (blind, None))
    ]
    assert misses[0] < 0.2 * misses[1]
    unknown = cued.predict(NEW, np.full((200, 1), np.nan))
    assert np.isfinite(unknown.mean).all()


def test_other_designs_update_it() -> None:
    more = FITTED.updated(NEW, measured(NEW))
    assert more.predict(NEW).sd.mean() < 0.5 * FITTED.predict(NEW).sd.mean()


def test_a_rough_look_is_close_and_never_too_sure() -> None:
    rough, exact = FITTED.rough(NEW), FITTED.predict(NEW)
    misses = np.abs(rough.mean - exact.mean)
    assert np.median(misses) < 0.1
    for column, model in enumerate(FITTED.models):
        member = model.members[0].known.predict(NEW)[1]
        assert (rough.sd[:, column] >= member - 0.02).all()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0, np.nan, np.nan, 2.0], "needs 3 values of each objective, but one has 2"),
        ([5.0, 5.0, 5.0, np.nan], "values that differ, but all 3 are 5"),
    ],
)
def test_what_cannot_be_fitted_is_said(values: list[float], says: str) -> None:
    with pytest.raises(SurrogateError, match=says) as caught:
        Outlook.fit(X[:4], np.array(values)[:, None], [True])
    assert caught.value.hint == "the search goes on with its plain sampler"
