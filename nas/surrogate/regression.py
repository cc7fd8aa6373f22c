"""Gaussian-process regression with a given kernel: what scikit-learn's does, without seeking parameters or checking.

See Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from nas.surrogate.kernel import DesignKernel


@dataclass(frozen=True)
class Regression:
    """A process that is conditioned on N values.

    Args:
        kernel: The covariance of designs.
        x: N×D designs.
        lower: The lower Cholesky factor of their covariance and noise, N×N.
        weights: What the covariances with a design are weighted by to predict it, N.
    """

    kernel: DesignKernel
    x: np.ndarray
    lower: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(cls, kernel: DesignKernel, x: np.ndarray, target: np.ndarray, noise: np.ndarray) -> Regression:
        """Conditions a process of mean 0.

        Args:
            kernel: The covariance of designs.
            x: N×D designs.
            target: N values.
            noise: N variances of their errors.

        Raises:
            LinAlgError: The covariance is not positive definite.
            ValueError: A number is NaN or infinite.
        """
        covariance = kernel(x)
        covariance[np.diag_indices_from(covariance)] += noise
        lower = cholesky(covariance, lower=True)
        return cls(kernel, x, lower, cho_solve((lower, True), target))

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and deviations of K designs, without noise."""
        covariance = self.kernel(x, self.x)
        explained = solve_triangular(self.lower, covariance.T, lower=True, check_finite=False)
        variance = self.kernel.diag(x) - np.einsum("ij,ij->j", explained, explained)
        return covariance @ self.weights, np.sqrt(np.maximum(variance, 0.0))
