"""The covariance of designs and the search for its parameters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

from nas.surrogate.kernel import DesignKernel, Fit

RNG = np.random.default_rng(3)


def choices(count: int, groups: int = 3, values: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Designs at random, one number for each value of each choice."""
    picked = RNG.integers(values, size=(count, groups))
    x = np.eye(values)[picked].reshape(count, -1)
    return x, np.repeat(np.arange(groups), values), np.tile(np.arange(values), groups)


def test_with_equal_weights_it_is_the_usual_kernel() -> None:
    x, y = RNG.random((6, 4)), RNG.random((5, 4))
    own = DesignKernel(np.full(4, 1 / 0.7**2), np.zeros(4), 2.0)
    usual = ConstantKernel(2.0) * RBF(0.7)
    assert own(x, y) == pytest.approx(usual(x, y))
    assert own(x) == pytest.approx(usual(x))
    assert own.diag(x) == pytest.approx(usual.diag(x))


def test_cues_have_a_linear_effect() -> None:
    kernel = DesignKernel(np.array([1.0, 0.0]), np.array([0.0, 3.0]), 1.0)
    x = np.array([[0.0, 2.0], [0.0, -1.0]])
    assert kernel(x).tolist() == [[13.0, -5.0], [-5.0, 4.0]]
    assert not kernel.is_stationary()


def test_single_precision_stays_single_and_close() -> None:
    x, _, _ = choices(20)
    kernel = DesignKernel(RNG.random(9), np.zeros(9), 1.5)
    narrow = kernel(x.astype(np.float32), x.astype(np.float32))
    assert narrow.dtype == np.float32
    assert narrow == pytest.approx(kernel(x), abs=1e-5)


@pytest.mark.parametrize("cues", [0, 2])
def test_the_gradient_is_that_of_the_loss(cues: int) -> None:
    x, groups, kinds = choices(25)
    x = np.hstack([x, RNG.standard_normal((25, cues))])
    fit = Fit(x, RNG.random(25) * 0.01, groups, kinds, 0.5)
    target = RNG.standard_normal(25)
    theta = fit.mean + 0.3 * RNG.standard_normal(len(fit.mean))
    error = check_grad(lambda t: fit._loss(t, target)[0], lambda t: fit._loss(t, target)[1], theta)
    assert error < 1e-3 * max(1.0, float(np.linalg.norm(fit._loss(theta, target)[1])))


def test_what_matters_gets_more_weight() -> None:
    x, groups, _ = choices(80)
    target = x[:, 0] - x[:, 1] + 0.01 * RNG.standard_normal(80)  # the first choice alone
    found = Fit(x, np.zeros(80), groups, np.arange(9), 1.0).search((target - target.mean()) / target.std())
    weights = found.kernel.weights.reshape(3, 3).mean(axis=1)
    assert weights[0] > 3 * weights[1:].max()


def test_the_search_improves_the_posterior_and_serves_a_regression() -> None:
    x, groups, kinds = choices(40)
    target = RNG.standard_normal(40)
    fit = Fit(x, np.zeros(40), groups, kinds, 0.5)
    found = fit.search(target)
    assert found.loss < fit._loss(fit.mean, target)[0]
    regression = GaussianProcessRegressor(found.kernel, alpha=found.noise + 1e-6, optimizer=None).fit(x, target)
    mean, deviation = regression.predict(x, return_std=True)
    assert np.isfinite(mean).all()
    assert (deviation > 0).all()
