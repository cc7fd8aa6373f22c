"""Surrogates of several objectives: Gaussian processes on encoded designs, each on an axis where it is about normal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from nas.errors import SurrogateError
from nas.surrogate.cues import Cost, CueColumns, Role
from nas.surrogate.encode import Encoding
from nas.surrogate.improvement import Excess, expected_improvement, gap_excess, log_excess, normal_excess
from nas.surrogate.model import HINT, Model, RoughModel, axes
from nas.surrogate.warp import Warp

# Parameters are sought on so many designs at most.
SOUGHT_ON = 200
# Axes of a hypervolume: of own units, of their logarithm, of the surrogate's own axis.
SCALES = ("linear", "log", "warped")


@dataclass(frozen=True)
class Prediction:
    """Means and standard deviations, N×M, on warped axes where more is better."""

    mean: np.ndarray
    sd: np.ndarray


class Outlook:
    """What is expected of designs, by one surrogate an objective.

    Args:
        models: One an objective.
        maximise: For each objective whether more is better.
        cues: What each model makes of the cues; empty without.
        seen: For each model which of the D numbers of a design it looks at, as ones and zeros; None for all.
    """

    def __init__(
        self,
        models: Sequence[Model],
        maximise: Sequence[bool],
        cues: Sequence[CueColumns] = (),
        seen: Sequence[np.ndarray | None] | None = None,
    ) -> None:
        self.models = tuple(models)
        self.signs = np.array([1.0 if more else -1.0 for more in maximise])
        self.cues = tuple(cues)
        self.seen = tuple([None] * len(models) if seen is None else seen)

    @classmethod
    def fit(
        cls,
        x: np.ndarray,
        values: np.ndarray,
        maximise: Sequence[bool],
        *,
        noise: np.ndarray | None = None,
        cues: np.ndarray | None = None,
        roles: Sequence[Role] | None = None,
        costs: Sequence[Cost | None] | None = None,
        seed: int = 0,
        encoding: Encoding | None = None,
        plain: bool = False,
    ) -> Outlook:
        """Fits surrogates.

        Args:
            x: N×D encoded designs.
            values: N×M in own units; NaN where unknown.
            maximise: M directions.
            noise: N×M standard deviations in own units; NaN or 0 for none.
            cues: N×K cheap measures that help (``nas.surrogate.cues``).
            roles: K of them; where not given each objective is nearly linear in every cue.
            costs: For each objective what it is a cost of, as a network is, however it was trained; None of those that
                are none, of all where not given.
            seed: Of the choice of designs that parameters are sought on, where there are many.
            encoding: What made x; with it numbers of one choice are weighted together, and those that stand for the
                same value of different choices.
            plain: Whether values are taken as they are: of a violation the 0 must stay within reach.

        Raises:
            SurrogateError: An objective has too few values, or they are all the same.
        """
        x = np.asarray(x, dtype=float)
        costs = [None] * len(maximise) if costs is None else costs
        costly = None if encoding is None or encoding.costly.all() else encoding.costly.astype(float)
        seen = [None if cost is None else costly for cost in costs]
        groups = np.arange(x.shape[1]) if encoding is None else encoding.groups
        kinds = np.arange(x.shape[1]) if encoding is None else encoding.kinds
        measures = np.zeros((len(x), 0)) if cues is None else np.asarray(cues, dtype=float)
        roles = ["any"] * measures.shape[1] if roles is None else roles
        rng = np.random.default_rng(seed)
        models, columns_of = [], []
        for number, more in enumerate(maximise):
            known = np.isfinite(values[:, number]) & np.isfinite(measures).all(axis=1)
            y = values[known, number]
            deviations = np.zeros(len(y)) if noise is None else np.nan_to_num(noise[known, number])
            own = CueColumns.fit(measures[known], y, roles, costs[number])
            warps = axes(y, more, plain, adds_up=len(own.weights) > 0)
            rows = np.arange(len(y))
            if len(rows) > SOUGHT_ON:
                rows = np.sort(rng.choice(len(rows), SOUGHT_ON, replace=False))
            columns = np.hstack([_seen(x[known], seen[number]), own(measures[known])])
            models.append(Model.fit(columns, y, deviations, warps, groups, kinds, rows))
            columns_of.append(own)
        return cls(models, maximise, [] if cues is None else columns_of, seen)

    def updated(
        self, x: np.ndarray, values: np.ndarray, noise: np.ndarray | None = None, cues: np.ndarray | None = None
    ) -> Outlook:
        """The same axes and kernels, conditioned on other designs; arguments as of ``fit``.

        Raises:
            SurrogateError: An objective has no value.
        """
        models, columns_of = [], []
        for number, model in enumerate(self.models):
            known = np.isfinite(values[:, number])
            y = values[known, number]
            if len(y) == 0:
                raise SurrogateError("a surrogate needs values of each objective, but one has none", HINT)
            deviations = np.zeros(len(y)) if noise is None else np.nan_to_num(noise[known, number])
            columns = _seen(np.asarray(x, dtype=float)[known], self.seen[number])
            if self.cues:
                assert cues is not None, "fitted with cues"
                measures = np.asarray(cues, dtype=float)[known]
                told = np.isfinite(measures).all(axis=1)
                columns_of.append(self.cues[number].learned(measures[told], y[told]))
                columns = np.hstack([columns, columns_of[-1](measures)])
            models.append(model.updated(columns, y, deviations))
        return Outlook(models, self._directions, columns_of, self.seen)

    def unconditioned(self) -> Outlook:
        """The same axes and kernels without any design: to be ``updated``, which takes no memory until then."""
        models = [model.unconditioned() for model in self.models]
        return Outlook(models, self._directions, self.cues, self.seen)

    def roughened(self) -> Outlook:
        """Predicts as in a rough look, in a fraction of the time."""
        models = [RoughModel(model.warp, model.members, model.x, model.target, model.alpha) for model in self.models]
        return Outlook(models, self._directions, self.cues, self.seen)

    def rough(self, x: np.ndarray, members: int = 1, cues: np.ndarray | None = None) -> Prediction:
        """Means, and deviations by the closest known design alone, in single precision.

        What other designs tell is left out of the deviations, and so is how unsure it is what cues tell.
        """
        columns = self._columns(x, cues)
        return _joined([model.rough(own, members) for model, own in zip(self.models, columns, strict=True)])

    def predict(self, x: np.ndarray, cues: np.ndarray | None = None) -> Prediction:
        """Means and deviations of N designs."""
        columns = self._columns(x, cues)
        return _joined([model.predict(own) for model, own in zip(self.models, columns, strict=True)])

    def interval(self, x: np.ndarray, level: float, cues: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the central intervals of N designs in own units, N×M low and high.

        Args:
            x: N×D.
            level: Confidence, 0 (the median twice) to 1.
            cues: N×K.
        """
        expected = self.predict(x, cues)
        reach = float(ndtri((1 + level) / 2)) * expected.sd
        ends = np.stack([self._back(expected.mean - reach), self._back(expected.mean + reach)])
        return ends.min(axis=0), ends.max(axis=0)

    def optimistic(self, x: np.ndarray, level: float, cues: np.ndarray | None = None) -> np.ndarray:
        """How good N designs may be: one-sided bounds in the good direction in own units, N×M.

        Args:
            x: N×D.
            level: Confidence that a design is no better, 0.5 (the median) to 1.
            cues: N×K.
        """
        expected = self.predict(x, cues)
        return self._back(expected.mean + float(ndtri(level)) * expected.sd)

    def improvement(
        self,
        x: np.ndarray,
        front: np.ndarray,
        reference: np.ndarray,
        cues: np.ndarray | None = None,
        known: np.ndarray | None = None,
        pending: np.ndarray | None = None,
        pending_cues: np.ndarray | None = None,
        scales: Sequence[str] | None = None,
        known_noise: np.ndarray | None = None,
    ) -> np.ndarray:
        """Expected hypervolume improvement of N designs.

        Args:
            x: N×D.
            front: K×M in own units.
            reference: M in own units.
            cues: N×K.
            known: N×M values in own units that need no prediction; NaN where they do.
            pending: P×D designs that are being evaluated.
            pending_cues: Their cues, P×K.
            scales: For each objective the axis of its hypervolume, ``linear`` (as measured) or ``log`` (of a positive
                one). Linear where not given.
            known_noise: N×M standard deviations of what is known; where it is noisy it is weighed against what is
                predicted. None for none.
        """
        front = np.asarray(front, dtype=float).reshape(-1, len(self.models))
        if pending is not None and len(pending):
            beside, believed = self.given(pending, pending_cues)
            return beside.improvement(
                x, np.vstack([front, believed]), reference, cues, known, scales=scales, known_noise=known_noise
            )
        scales = ["linear"] * len(self.models) if scales is None else list(scales)
        columns = self._columns(x, cues)
        excesses = []
        for number, (model, scale) in enumerate(zip(self.models, scales, strict=True)):
            mean, deviation = model.predict(columns[number])
            if known is not None:
                noise = np.zeros(len(known)) if known_noise is None else known_noise[:, number]
                mean, deviation = _weighed(model.warp, mean, deviation, known[:, number], noise)
            excesses.append(excess(model.warp, mean, deviation, scale))
        lines = [
            model.warp.forth if scale == "warped" else _axis(self.signs[number], scale)
            for number, (scale, model) in enumerate(zip(scales, self.models, strict=True))
        ]
        points = np.stack([axis(front[:, number]) for number, axis in enumerate(lines)], axis=1)
        corner = np.array([float(axis(np.array([reference[number]]))[0]) for number, axis in enumerate(lines)])
        return expected_improvement(excesses, points, corner)

    def given(self, x: np.ndarray, cues: np.ndarray | None = None) -> tuple[Outlook, np.ndarray]:
        """Conditioned on P designs that are being evaluated, and what is expected of these, P×M in own units."""
        running = list(zip(self.models, self._columns(x, cues), strict=True))
        believed = np.stack([model.warp.back(model.predict(own)[0]) for model, own in running], axis=1)
        models = [model.given(own) for model, own in running]
        return Outlook(models, self._directions, self.cues, self.seen), believed

    @property
    def _directions(self) -> list[bool]:
        return [bool(sign > 0) for sign in self.signs]

    def _columns(self, x: np.ndarray, cues: np.ndarray | None) -> list[np.ndarray]:
        """Designs as each model sees them."""
        x = np.asarray(x, dtype=float)
        seen = [_seen(x, numbers) for numbers in self.seen]
        if not self.cues:
            return seen
        assert cues is not None, "fitted with cues"
        measures = np.asarray(cues, dtype=float)
        return [np.hstack([own, columns(measures)]) for own, columns in zip(seen, self.cues, strict=True)]

    def _back(self, warped: np.ndarray) -> np.ndarray:
        return np.stack([model.warp.back(warped[:, i]) for i, model in enumerate(self.models)], axis=1)


def _weighed(
    warp: Warp, mean: np.ndarray, deviation: np.ndarray, known: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions on the warped axis together with readings of some of them in own units, as normal variables are."""
    told = np.isfinite(known)
    value = np.where(told, known, 1.0)
    error = np.where(told, np.nan_to_num(noise), 0.0) * warp.slope(value)
    # What counts of the reading: all of one without noise.
    share = np.where(error > 0, deviation**2 / np.maximum(deviation**2 + error**2, np.finfo(float).tiny), 1.0)
    share = np.where(told, share, 0.0)
    return mean + share * (warp.forth(value) - mean), deviation * np.sqrt(1 - share)


def _seen(x: np.ndarray, numbers: np.ndarray | None) -> np.ndarray:
    """Designs without what makes no difference."""
    return x if numbers is None else x * numbers


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Prediction:
    return Prediction(np.stack([mean for mean, _ in parts], axis=1), np.stack([sd for _, sd in parts], axis=1))


def _axis(sign: float, scale: str):  # type: ignore[no-untyped-def]
    """From own units to the axis on which hypervolume is counted, where more is better."""

    def axis(values: np.ndarray) -> np.ndarray:
        if scale == "log":
            return np.asarray(sign * np.log(np.maximum(values, np.finfo(float).tiny)))
        return np.asarray(sign * values)

    return axis


def excess(warp: Warp, mean: np.ndarray, deviation: np.ndarray, scale: str) -> Excess:
    """The expected excess of an objective on the axis of its hypervolume, from its prediction on the warped axis."""
    raw = warp.raw_of(mean)
    # The tail that is drawn in lies below any front, so it may be taken as if it were not.
    spread = deviation * warp.scale * warp.spread
    natural = {"identity": "linear", "log": "log", "gap": "log" if warp.bound == 0 else "other"}[warp.kind]
    if scale == "warped":
        return normal_excess(mean, deviation)
    if scale == "log":
        if natural == "log":
            return normal_excess(raw, spread)
        own = warp.sign * warp.own(raw)
        value = np.maximum(np.abs(own), np.finfo(float).tiny)
        slope = spread * (value if warp.kind == "log" else warp.bound - own if warp.kind == "gap" else 1.0)
        return normal_excess(warp.sign * np.log(np.maximum(warp.own(raw), np.finfo(float).tiny)), slope / value)
    if warp.kind == "identity":
        return normal_excess(raw, spread)
    if warp.kind == "log":
        return log_excess(raw, spread)
    return gap_excess(raw, spread, warp.bound)
