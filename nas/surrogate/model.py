"""The surrogate of one objective: a few Gaussian processes on its warped axis, which share all but their kernels.

One kernel fitted to designs that a search has chosen is too sure of itself: they look alike in what made them good.
Several that were held to the same weights more or less strictly disagree where that matters, and their disagreement is
part of the uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas.errors import SurrogateError
from nas.surrogate.kernel import JITTER, Fit, Fitted, smooth_part
from nas.surrogate.regression import Regression
from nas.surrogate.warp import Warp, candidates, of_sums

# With fewer values than this nothing is fitted.
FEWEST = 3
# Axes are compared on so many designs at most.
COMPARED_ON = 100
# Of more designs than this only those are conditioned on that parameters were sought on, see ``fit``.
CONDITIONED_ON = 1000
# How strictly kernels are held to equal weights: deviations of the logarithms of weights, one kernel for each.
FREEDOMS = (0.1, 0.5)
# The least variance of a rough look, as a share of the prior one.
LEAST_SHARE = 1e-6
HINT = "the search goes on with its plain sampler"


@dataclass(frozen=True)
class Member:
    """One kernel, with the regression that is conditioned on all that is known; None as long as none is."""

    fitted: Fitted
    regression: Regression | None

    @property
    def known(self) -> Regression:
        """The regression of one that is conditioned."""
        assert self.regression is not None, "unconditioned: nothing can be predicted"
        return self.regression


@dataclass(frozen=True)
class Model:
    """The surrogate.

    Args:
        warp: From own units to the axis.
        members: The processes.
        x: N×D designs that they are conditioned on.
        target: N values on the axis.
        alpha: N known variances of the noise, on the axis.
    """

    warp: Warp
    members: tuple[Member, ...]
    x: np.ndarray
    target: np.ndarray
    alpha: np.ndarray

    @classmethod
    def fit(
        cls,
        x: np.ndarray,
        values: np.ndarray,
        deviations: np.ndarray,
        warps: list[Warp],
        groups: np.ndarray,
        kinds: np.ndarray,
        rows: np.ndarray,
    ) -> Model:
        """Chooses the axis by the likelihood of the values in own units, then finds the kernels.

        Args:
            x: N×D designs, cues last.
            values: N in own units.
            deviations: N standard deviations of their noise in own units.
            warps: Axes to choose from.
            groups: See ``Fit``.
            kinds: See ``Fit``.
            rows: Places of the designs that parameters are sought on, and that the model is conditioned on where there
                are many.
        """
        some = rows[:: max(1, -(-len(rows) // COMPARED_ON))]

        def sought(warp: Warp, at: np.ndarray, freedom: float) -> Fitted:
            alpha = (deviations[at] * warp.slope(values[at])) ** 2
            return Fit(x[at], alpha, groups, kinds, freedom).search(warp.forth(values[at]))

        best, known = warps[0], {}
        if len(warps) > 1:
            free = [sought(warp, some, max(FREEDOMS)) for warp in warps]
            slopes = [float(np.log(warp.slope(values[some])).sum()) for warp in warps]
            place = int(np.argmin([fitted.loss - slope for fitted, slope in zip(free, slopes, strict=True)]))
            best = warps[place]
            if len(some) == len(rows):  # then it need not be sought again
                known = {max(FREEDOMS): free[place]}
        kernels = tuple(known.get(freedom) or sought(best, rows, freedom) for freedom in FREEDOMS)
        alpha, target = (deviations * best.slope(values)) ** 2, best.forth(values)
        if len(x) > CONDITIONED_ON:  # time and memory grow with its cube and square
            x, target, alpha = x[rows], target[rows], alpha[rows]
        return conditioned(best, kernels, x, target, alpha)

    @property
    def kernels(self) -> tuple[Fitted, ...]:
        """What was found for each member."""
        return tuple(member.fitted for member in self.members)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """N means and deviations on the warped axis."""
        parts = [member.known.predict(x) for member in self.members]
        return _mixed(np.stack([mean for mean, _ in parts]), np.stack([sd for _, sd in parts]))

    def rough(self, x: np.ndarray, members: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Means, and deviations by the closest known design alone, by the first members, in single precision.

        The deviations are no smaller than those members have on the whole.
        """
        narrow, known = np.asarray(x, dtype=np.float32), self.x.astype(np.float32)
        means, deviations = [], []
        for member in self.members[:members]:
            kernel = member.fitted.kernel
            near = smooth_part(narrow, known, kernel.weights.astype(np.float32), kernel.smooth)
            weights = member.known.weights.astype(np.float32)
            # What is linear in the cues is a product of two vectors, however many designs are known.
            line = narrow @ (kernel.slopes.astype(np.float32) * (weights @ known))
            means.append(near @ weights + line)
            told = near.max(axis=1) ** 2 / (kernel.smooth + member.fitted.noise)
            deviations.append(np.sqrt(np.maximum(kernel.smooth - told, LEAST_SHARE * kernel.smooth)))
        return _mixed(np.stack(means), np.stack(deviations))

    def given(self, x: np.ndarray) -> Model:
        """Conditioned on designs that are being evaluated, as if they gave what is expected of them.

        See Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize optimization", 2010.
        """
        target = np.concatenate([self.target, self.predict(x)[0]])
        alpha = np.concatenate([self.alpha, np.zeros(len(x))])
        return conditioned(self.warp, self.kernels, np.vstack([self.x, x]), target, alpha)

    def unconditioned(self) -> Model:
        """The same axis and kernels without any design, so that nothing can be predicted."""
        members = tuple(Member(member.fitted, None) for member in self.members)
        return Model(self.warp, members, self.x[:0], self.target[:0], self.alpha[:0])

    def updated(self, x: np.ndarray, values: np.ndarray, deviations: np.ndarray) -> Model:
        """The same axis and kernels, conditioned on other designs."""
        alpha = (deviations * self.warp.slope(values)) ** 2
        return conditioned(self.warp, self.kernels, x, self.warp.forth(values), alpha)


class RoughModel(Model):
    """Predicts as in a rough look, in a fraction of the time."""

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.rough(x)


def axes(values: np.ndarray, maximise: bool, plain: bool, adds_up: bool = False) -> list[Warp]:
    """The axes that values may have.

    Args:
        values: N in own units.
        maximise: Whether more is better.
        plain: Whether only the one that leaves them as they are is meant.
        adds_up: Whether they are costs, and a cue is what they add up from.

    Raises:
        SurrogateError: Too few values, or they are all the same.
    """
    if len(values) < FEWEST:
        raise SurrogateError(f"a surrogate needs {FEWEST} values of each objective, but one has {len(values)}", HINT)
    if np.ptp(values) == 0:
        raise SurrogateError(f"a surrogate needs values that differ, but all {len(values)} are {values[0]:g}", HINT)
    if adds_up:
        return [of_sums(values)]
    return candidates(values, maximise)[: 1 if plain else None]


def conditioned(warp: Warp, kernels: tuple[Fitted, ...], x: np.ndarray, target: np.ndarray, alpha: np.ndarray) -> Model:
    """The model of these kernels, given designs.

    Raises:
        SurrogateError: The numbers allow no regression.
    """
    members = []
    for fitted in kernels:
        try:
            regression = Regression.fit(fitted.kernel, x, target, alpha + fitted.noise + JITTER)
        except (np.linalg.LinAlgError, ValueError) as error:
            raise SurrogateError(f"no surrogate can be fitted: {error}", HINT) from error
        members.append(Member(fitted, regression))
    return Model(warp, tuple(members), x, target, alpha)


def _mixed(means: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of a mixture of K normal variables, each N numbers."""
    mean = means.mean(axis=0)
    variance = (deviations**2).mean(axis=0) + ((means - mean) ** 2).mean(axis=0)
    return np.asarray(mean, dtype=float), np.asarray(np.sqrt(variance), dtype=float)
