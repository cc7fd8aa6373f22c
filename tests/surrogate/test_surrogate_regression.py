"""The regression agrees with scikit-learn's, whose checks and whose search for parameters it leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from threadpoolctl import threadpool_info

from nas.surrogate.kernel import DesignKernel
from nas.surrogate.one_thread import one_thread
from nas.surrogate.regression import Regression

RNG = np.random.default_rng(5)
X, TARGET, NOISE = RNG.random((40, 6)), RNG.standard_normal(40), 0.01 + RNG.random(40)
KERNEL = DesignKernel(np.array([1.0, 0.2, 3.0, 0.5, 2.0, 0.0]), np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.7]), 1.3)


def test_it_predicts_what_scikit_learn_does() -> None:
    new = np.concatenate([RNG.random((25, 6)), X[:5]])
    theirs = GaussianProcessRegressor(KERNEL, alpha=NOISE, optimizer=None).fit(X, TARGET).predict(new, return_std=True)
    ours = Regression.fit(KERNEL, X, TARGET, NOISE).predict(new)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-10)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-8)


def test_what_is_known_for_sure_has_no_deviation() -> None:
    mean, deviation = Regression.fit(KERNEL, X, TARGET, np.full(40, 1e-9)).predict(X)
    np.testing.assert_allclose(mean, TARGET, atol=1e-3)
    assert (deviation >= 0).all()
    assert deviation.max() < 1e-3


def test_numbers_that_allow_no_regression_are_refused() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        Regression.fit(KERNEL, np.repeat(X[:1], 3, axis=0), TARGET[:3], np.full(3, -1.0))
    with pytest.raises(ValueError, match="infs or NaNs"):
        Regression.fit(KERNEL, X, np.where(TARGET > 0, TARGET, np.nan), NOISE)


def test_within_it_linear_algebra_has_one_thread_and_afterwards_as_many_as_before() -> None:
    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    assert set(one_thread(threads)()) == {1}
    assert threads() == before
