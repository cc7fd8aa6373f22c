"""The learned predictor: a cost for each kernel, learned from the latencies of whole networks, and added up.

A latency is the cost of the call plus the costs of its kernels, which run one after the other. What one kernel costs is
never measured by itself; it is learned in two steps from what networks took in all.

1. *Base*: for each kind of kernel a linear function of what it computes and moves, with coefficients of 0 or more, by
   least squares of the relative error. For kinds that were never seen there is one such function of all kinds together.
2. *Correction*: a Gaussian process over kernels of a kind (in logarithms of their sizes). As the sum of Gaussian
   processes is one too, networks are correlated as their kernels are: cov(a, b) = Σ k(i, j) over kernels i of a, j of b
   (an additive Gaussian process; D. Duvenaud, H. Nickisch, C. Rasmussen, NIPS 2011). Costs are jagged (blocks, padded
   channels, paths for special sizes), so k is the exponential kernel, scaled by the costs that the base gives.

The posterior's deviation grows where a network's kernels are unlike all that was learned from. All is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas.estimate.kernels import Kernel

Network = Sequence[Kernel]

# With fewer measured networks there is nothing to learn from.
LEAST_NETWORKS = 20
# The most that a predictor learns from: its time grows with the cube, and a check fits it five times more.
MOST_NETWORKS = 1000

# Channels and depths are padded to these by vector kernels: floats in blocks of 16, bytes in fours.
COLUMNS, DEPTHS = 16, 4
# Part of a base cost below which the correction's scale does not go: a kernel takes at least a fraction of a µs.
LEAST_COST_MS = 0.0005
# A prediction is at least this share of the base's, whatever the correction says of kernels far from all known ones.
LEAST_SHARE = 0.1

# The correction: length in powers of two of a size, scale against the base's cost, least relative error of a latency.
# Fixed, for they serve any network that is a sum of kernels, and the marginal likelihood would choose too small a
# scale: the base is fitted to the same latencies and leaves less over than it will of networks that it never saw.
LENGTH = 3.0
SCALE = 0.5
NOISE = 0.02
# Relative error that the base leaves anyway, beside which a latency's own counts.
BASE_NOISE = 0.05
# A latency further from what all others say of it than so many deviations was disturbed. It is set aside: given such
# an error that it does not count. What that changes is looked at again, so often at most.
OUTLIER, ASIDE_NOISE, ROUNDS = 3.5, 10.0, 4
# A latency in doubt agrees with all others within this relative error.
AGREES = 0.10


@dataclass(frozen=True)
class Prediction:
    """A predicted latency.

    Args:
        ms: In milliseconds.
        deviation: Standard deviation of its relative error, as the model sees it.
        unknown: Kinds of kernels that the predictor has never seen.
    """

    ms: float
    deviation: float
    unknown: tuple[str, ...]


def describe(kernel: Kernel) -> np.ndarray:
    """Where a kernel stands among those of its kind: base-2 logarithms of its sizes."""
    sizes = (
        kernel.outputs,
        kernel.inputs,
        kernel.channels,
        kernel.depth,
        kernel.taps,
        kernel.stride,
        kernel.width,
    )
    logarithms: np.ndarray = np.log2(np.maximum(1, np.array(sizes, dtype=np.float64)))
    return logarithms


def amounts(kernel: Kernel) -> np.ndarray:
    """What a kernel does, in thousands (but the first, which is 1), as its base cost is linear in it."""
    rounded = _up(kernel.channels, COLUMNS) * _up(kernel.depth, DEPTHS) * kernel.rows if kernel.depth else 0
    gathered = kernel.rows * kernel.depth
    positions = kernel.rows if kernel.depth else 0
    weights = kernel.weights if kernel.depth else 0
    parts = (kernel.macs, rounded, gathered, kernel.outputs, kernel.inputs, weights, positions)
    return np.array([1.0, *(part / 1000 for part in parts)])


def general_amounts(kernel: Kernel) -> np.ndarray:
    """What a kernel of any kind does: a call, then thousands of float multiply-adds, integer ones and bytes."""
    macs = kernel.macs / 1000
    return np.array([1.0, *((0.0, macs) if kernel.is_integer else (macs, 0.0)), kernel.moved_bytes / 1000])


AMOUNTS, GENERAL = 8, 4


def _up(value: int, to: int) -> int:
    return math.ceil(value / to) * to


class _Layout:
    """The distinct kernels of some networks, and how often each stands in which."""

    def __init__(self, networks: Sequence[Network]) -> None:
        index: dict[Kernel, int] = {}
        places = [[index.setdefault(kernel, len(index)) for kernel in network] for network in networks]
        self.kernels = list(index)
        self.counts = np.zeros((len(networks), len(index)))
        for row, columns in enumerate(places):
            np.add.at(self.counts[row], columns, 1)


class Points:
    """Kernels as points, those of each kind together.

    Args:
        kernels: In the order in which rows and columns of ``correlations`` are.
    """

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self.count = len(kernels)
        places: dict[str, list[int]] = {}
        for place, kernel in enumerate(kernels):
            places.setdefault(kernel.kind, []).append(place)
        self.places = {kind: np.array(of_kind) for kind, of_kind in places.items()}
        self.points = {kind: np.array([describe(kernels[place]) for place in places[kind]]) for kind in places}


def correlations(some: Points, others: Points) -> np.ndarray:
    """The exponential kernel between kernels of one kind, 0 between those of different kinds."""
    from sklearn.gaussian_process.kernels import Matern

    result = np.zeros((some.count, others.count))
    shape = Matern(length_scale=LENGTH, nu=0.5)
    for kind in some.places.keys() & others.places.keys():
        values = shape(some.points[kind], others.points[kind])
        result[np.ix_(some.places[kind], others.places[kind])] = values
    return result


class _Base:
    """The linear cost of each kernel."""

    def __init__(self, layout: _Layout, ms: np.ndarray, noise: np.ndarray) -> None:
        self.kinds = {kind: place for place, kind in enumerate(sorted({kernel.kind for kernel in layout.kernels}))}
        by_kind = np.zeros((len(layout.kernels), AMOUNTS * len(self.kinds)))
        for row, kernel in enumerate(layout.kernels):
            start = AMOUNTS * self.kinds[kernel.kind]
            by_kind[row, start : start + AMOUNTS] = amounts(kernel)
        general = np.array([general_amounts(kernel) for kernel in layout.kernels])
        self.coefficients, self.call_ms = _not_negative(layout.counts @ by_kind, ms, noise)
        self.general, _ = _not_negative(layout.counts @ general, ms, noise)

    def cost(self, kernel: Kernel) -> float:
        """Milliseconds."""
        if kernel.kind not in self.kinds:
            return float(general_amounts(kernel) @ self.general)
        start = AMOUNTS * self.kinds[kernel.kind]
        return float(amounts(kernel) @ self.coefficients[start : start + AMOUNTS])


def _not_negative(features: np.ndarray, ms: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients of 0 or more, and a constant of 0 or more, with the least weighted squares of the relative error."""
    from sklearn.linear_model import LinearRegression

    rows = np.column_stack([features, np.ones(len(ms))]) / ms[:, None]
    weights = 1 / (BASE_NOISE**2 + noise**2)
    fitted = LinearRegression(positive=True, fit_intercept=False).fit(rows, np.ones(len(ms)), weights)
    return fitted.coef_[:-1], float(fitted.coef_[-1])


class Predictor:
    """Predicts latencies on one target from a network's kernels.

    Args:
        networks: The kernels of each measured network.
        ms: Their latencies in milliseconds.
        noise: Relative standard error of each latency, where known.
        doubtful: For each latency whether it may have been disturbed; such a one counts only where it agrees with the
            others, unless nearly all are.

    Raises:
        ValueError: There are fewer than ``LEAST_NETWORKS``, or their numbers differ.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        ms: Sequence[float],
        noise: Sequence[float] | None = None,
        doubtful: Sequence[bool] | None = None,
    ) -> None:
        if len(networks) < LEAST_NETWORKS:
            raise ValueError(f"a predictor needs at least {LEAST_NETWORKS} measured networks, but got {len(networks)}")
        self._ms = np.asarray(ms, dtype=np.float64)
        own = np.zeros(len(networks)) if noise is None else np.asarray(noise, dtype=np.float64)
        if not len(networks) == len(self._ms) == len(own):
            raise ValueError(f"{len(networks)} networks need as many latencies, but got {len(self._ms)} and {len(own)}")
        self._layout = _Layout(networks)
        self._points = Points(self._layout.kernels)
        self._correlations = correlations(self._points, self._points)
        # What is in doubt is first left aside, and taken in where it agrees with all else.
        doubted = np.zeros(len(own), dtype=bool) if doubtful is None else np.array(doubtful, dtype=bool)
        if (~doubted).sum() < LEAST_NETWORKS:
            doubted[:] = False
        aside = doubted
        for _ in range(ROUNDS):
            errors, deviations = self._fit(own, aside)
            strange = (errors > OUTLIER * deviations) | (doubted & (errors > AGREES))
            if (strange == aside).all():
                break
            aside = strange
        else:
            self._fit(own, aside)

    def predict(self, network: Network) -> Prediction:
        """The latency of a network with these kernels."""
        from scipy.linalg import solve_triangular

        layout = _Layout([network])
        counts = layout.counts[0]
        costs = np.array([self._base.cost(kernel) for kernel in layout.kernels])
        base = float(counts @ costs) + self._base.call_ms
        weights = counts * SCALE * (costs + LEAST_COST_MS)
        points = Points(layout.kernels)
        across = (weights @ correlations(points, self._points)) * self._amplitudes
        covariance = self._layout.counts @ across / self._ms
        ms = max(base + float(covariance @ self._dual), LEAST_SHARE * base)
        spread = weights @ correlations(points, points) @ weights
        explained = solve_triangular(self._factor, covariance, lower=True)
        deviation = math.hypot(math.sqrt(max(0.0, float(spread - explained @ explained))) / ms, NOISE)
        unknown = {kernel.kind for kernel in network} - self._base.kinds.keys()
        return Prediction(ms, deviation, tuple(sorted(unknown)))

    def _fit(self, own: np.ndarray, aside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fits base and correction, and gives each latency's relative error against what all others say of it.

        Beside it the deviation that is expected of that error.

        The error of a Gaussian process on what it was not given is known without leaving anything out: of the inverse
        covariance C⁻¹ and residuals r it is (C⁻¹r)ᵢ / (C⁻¹)ᵢᵢ, with variance 1 / (C⁻¹)ᵢᵢ (S. Sundararajan,
        S. Keerthi, Neural Computation 13, 2001). Of what was set aside it is told as if it had not been.
        """
        from scipy.linalg import cho_solve

        counts, ms = self._layout.counts, self._ms
        noise = np.where(aside, ASIDE_NOISE, own)
        self._base = _Base(self._layout, ms, noise)
        costs = np.array([self._base.cost(kernel) for kernel in self._layout.kernels])
        self._amplitudes = SCALE * (costs + LEAST_COST_MS)
        residuals = (ms - counts @ costs - self._base.call_ms) / ms
        scaled = counts * self._amplitudes / ms[:, None]
        self._factor = np.linalg.cholesky(scaled @ self._correlations @ scaled.T + np.diag(NOISE**2 + noise**2))
        self._dual = cho_solve((self._factor, True), residuals)
        precision = np.diag(cho_solve((self._factor, True), np.eye(len(ms))))
        variance = np.maximum(1 / precision - noise**2, NOISE**2) + own**2
        return np.abs(self._dual / precision), np.sqrt(variance)
