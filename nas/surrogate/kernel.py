"""The covariance of designs, and how its parameters are found.

Designs are alike where the choices are alike that matter. Each of the numbers that a design is encoded as has a weight
(automatic relevance determination); its logarithm is the sum of a common one, one of the choice, and one of what the
number stands for, which choices with the same values share: where "no operation" is unlike all others on one edge of a
cell it is so on the others. The latter two are drawn towards 0, so that with few trials all choices count alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, lapack
from scipy.optimize import minimize
from sklearn.gaussian_process.kernels import Kernel

# Means and deviations of the normal priors on logarithms of: variance of the smooth part, variance of the noise, the
# common weight (of which a choice has its share), variance of cues.
SMOOTH = (0.0, 1.5)
NOISE = (-6.0, 2.0)
COMMON = (0.0, 1.5)
CUES = (-1.0, 2.0)
# Parameters stay within so many deviations of their priors.
REACH = 4.0
STEPS = 60
JITTER = 1e-6
OUT_OF_REACH = 1e10


class DesignKernel(Kernel):  # type: ignore[misc]
    """A smooth function of the design plus a linear one of its cues.

    k(x, y) = smooth · exp(-½ Σ weights (x - y)²) + Σ slopes · x · y

    Args:
        weights: D weights of the smooth part; 0 for cues.
        slopes: D variances of the linear part; 0 for all but cues.
        smooth: Variance of the smooth part.
    """

    def __init__(self, weights: np.ndarray, slopes: np.ndarray, smooth: float) -> None:
        self.weights = weights
        self.slopes = slopes
        self.smooth = smooth

    def __call__(self, X: np.ndarray, Y: np.ndarray | None = None, eval_gradient: bool = False) -> Any:
        other = X if Y is None else Y
        covariance = smooth_part(X, other, self.weights.astype(X.dtype), self.smooth)
        if self.slopes.any():
            covariance += (X * self.slopes.astype(X.dtype)) @ other.T
        return (covariance, np.empty((*covariance.shape, 0))) if eval_gradient else covariance

    def diag(self, X: np.ndarray) -> np.ndarray:
        """Variances of N designs."""
        return np.asarray((X**2) @ self.slopes + self.smooth)

    def is_stationary(self) -> bool:
        """Whether it depends on differences alone, which the linear part does not."""
        return not self.slopes.any()


def squared_distances(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted squared distances of N and K rows, N×K, by a single product of matrices."""
    weighted = y * weights
    ones = np.ones((max(len(x), len(y)), 1), x.dtype)
    left = np.hstack([x, ((x * weights) * x).sum(axis=1, keepdims=True), ones[: len(x)]])
    right = np.hstack([-2 * weighted, ones[: len(y)], (weighted * y).sum(axis=1, keepdims=True)])
    squares = left @ right.T
    return np.asarray(np.maximum(squares, 0, out=squares))


def smooth_part(x: np.ndarray, y: np.ndarray, weights: np.ndarray, variance: float) -> np.ndarray:
    """variance · exp(-½ Σ weights (x - y)²) of N and K rows, N×K."""
    squares = squared_distances(x, y, weights)
    squares *= -0.5
    np.exp(squares, out=squares)
    squares *= x.dtype.type(variance)
    return squares


@dataclass(frozen=True)
class Fitted:
    """What was found.

    Args:
        kernel: The kernel.
        noise: Variance of the noise, besides what is known of it.
        loss: Minus the logarithm of the posterior density (up to a constant of the priors).
    """

    kernel: DesignKernel
    noise: float
    loss: float


class Fit:
    """The search for a kernel's parameters: L-BFGS on the log posterior, its gradient in closed form.

    Args:
        x: N×D designs, the cues last.
        alpha: N variances of the noise that is known, on the target's axis.
        groups: The choice that each number belongs to, one integer for each that is no cue.
        kinds: What each of these numbers stands for, as integers.
        freedom: How far weights may differ: the deviation of their logarithms.
    """

    def __init__(self, x: np.ndarray, alpha: np.ndarray, groups: np.ndarray, kinds: np.ndarray, freedom: float) -> None:
        self.x, self.alpha = x, alpha
        width, cues = len(groups), x.shape[1] - len(groups)
        parts = [np.ones((width, 1)), _selection(groups), _selection(kinds)]
        self.maps = np.vstack([np.hstack(parts), np.zeros((cues, sum(part.shape[1] for part in parts)))])
        self.share = np.where(np.arange(x.shape[1]) < width, 1 / max(1, len(np.unique(groups))), 0.0)
        self.is_cue = (np.arange(x.shape[1]) >= width).astype(float)
        priors = [SMOOTH, NOISE, CUES, COMMON] + [(0.0, freedom)] * (self.maps.shape[1] - 1)
        self.mean, self.deviation = np.array(priors).T
        self.linear = (x * self.is_cue) @ x.T

    def search(self, target: np.ndarray, steps: int = STEPS) -> Fitted:
        """Parameters for targets.

        Args:
            target: N numbers of mean 0 and deviation 1.
            steps: Iterations at most.
        """
        bounds = np.stack([self.mean - REACH * self.deviation, self.mean + REACH * self.deviation], axis=1)
        found = minimize(
            self._loss, self.mean, (target,), method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": steps}
        )
        return Fitted(self._kernel(found.x), float(np.exp(found.x[1])), float(found.fun))

    def _weights(self, theta: np.ndarray) -> np.ndarray:
        return np.asarray(self.share * np.exp(self.maps @ theta[3:]))

    def _kernel(self, theta: np.ndarray) -> DesignKernel:
        return DesignKernel(self._weights(theta), self.is_cue * np.exp(theta[2]), float(np.exp(theta[0])))

    def _loss(self, theta: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
        smooth, noise, slope = np.exp(theta[:3])
        weights = self._weights(theta)
        near = smooth_part(self.x, self.x, weights, float(smooth))
        covariance = near + slope * self.linear
        covariance[np.diag_indices_from(covariance)] += self.alpha + noise + JITTER
        try:
            log_root, inverse = _inverse(covariance)
        except LinAlgError:
            return OUT_OF_REACH, np.zeros_like(theta)
        solved = inverse @ target
        standard = (theta - self.mean) / self.deviation
        loss = 0.5 * (target @ solved + standard @ standard + len(target) * np.log(2 * np.pi)) + log_root
        outer = 0.5 * (inverse - np.outer(solved, solved))  # the loss by the covariance
        pull = outer * near
        # Σ pull_ij (x_i - x_j)² for every column at once, without a matrix for each.
        spread = 2 * (pull.sum(axis=1) @ self.x**2 - np.einsum("ij,ij->j", self.x, pull @ self.x))
        gradient = np.empty_like(theta)
        gradient[:3] = pull.sum(), noise * np.trace(outer), slope * (outer * self.linear).sum()
        gradient[3:] = self.maps.T @ (-0.5 * weights * spread)
        return float(loss), gradient + standard / self.deviation


def _inverse(covariance: np.ndarray) -> tuple[float, np.ndarray]:
    """Half the log determinant and the inverse of a symmetric positive definite matrix."""
    lower, failed = lapack.dpotrf(covariance, lower=1, clean=1)
    if failed:
        raise LinAlgError("the covariance is not positive definite")
    half = float(np.log(np.diag(lower)).sum())
    inverse, failed = lapack.dpotri(lower, lower=1)
    if failed:
        raise LinAlgError("the covariance cannot be inverted")
    return half, np.asarray(np.tril(inverse) + np.tril(inverse, -1).T)


def _selection(labels: np.ndarray) -> np.ndarray:
    """D×L ones and zeros: which of L labels each of D numbers has."""
    unique, places = np.unique(labels, return_inverse=True)
    return np.asarray(np.eye(len(unique))[places])
