"""The three estimates of an artifact's latency on one target, each with the error that it had on unseen networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from nas.estimate.check import FOLDS, TOLERANCE, Check, check, fold_of
from nas.estimate.kernels import Kernel, kernels_of
from nas.estimate.measurements import LAYER, NETWORK, Measurement, Measurements, cache_folder
from nas.estimate.predictor import LEAST_NETWORKS, MOST_NETWORKS, Predictor
from nas.estimate.roofline import roofline_ms
from nas.measure.complexity import Complexity
from nas.measure.platform import Platform, estimated_ms
from nas.outcome import How, Quantity
from nas.target import Target

TEXTBOOK, ROOFLINE, PREDICTED = "textbook_ms", "roofline_ms", "predicted_ms"

# With fewer whole networks nothing can be learned from four parts of five and checked on the fifth.
LEAST_MEASURED = 2 * LEAST_NETWORKS
# Share of unseen networks whose error the interval is to cover.
COVERAGE = 0.95
# An interval ends at the tenfold where the predictor may be off by as much as it likes.
LEAST_REACHED = 0.1


@dataclass(frozen=True)
class _HeldOut:
    """Predictions of networks by predictors that had not seen them.

    Args:
        networks: Those networks.
        predicted: What was predicted, in ms.
        ratios: |predicted / measured − 1| over the deviation that the predictor itself expected.
    """

    networks: tuple[Measurement, ...]
    predicted: tuple[float, ...]
    ratios: tuple[float, ...]


class Estimator:
    """Estimates latencies on one target from what was measured on this machine.

    Args:
        target: What for.
        environment_id: Fingerprint of machine and runtime.
        platform: The machine's speeds.
        measured: What to learn from; disturbed measurements count little.

    Raises:
        ValueError: There are fewer than ``LEAST_MEASURED`` whole networks.
    """

    def __init__(
        self, target: Target, environment_id: str, platform: Platform, measured: Sequence[Measurement]
    ) -> None:
        self.target = target
        self.environment_id = environment_id
        self.platform = platform
        self.measured = latest(measured)
        whole = len(whole_networks(self.measured))
        if whole < LEAST_MEASURED:
            raise ValueError(f"estimates need at least {LEAST_MEASURED} measured networks, but got {whole}")

    @classmethod
    def load(cls, target: Target, environment_id: str, folder: Path | None = None) -> Estimator | None:
        """The estimator of this machine's calibration; None where there is none, or too little was measured.

        Args:
            target: What for.
            environment_id: Fingerprint of this machine and the target's runtime.
            folder: The cache; the user's where None.

        Raises:
            MeasureError: The calibration cannot be read.
        """
        stored = Measurements(folder or cache_folder(), environment_id, target)
        platform, measured = stored.read_platform(), stored.read()
        if platform is None or not is_enough(measured):
            return None
        return cls(target, environment_id, platform, measured)

    def quantities(self, artifact: bytes, complexity: Complexity) -> list[Quantity]:
        """``textbook_ms``, ``roofline_ms`` and ``predicted_ms`` of an artifact, all marked as estimated.

        Each carries its check on unseen networks in its detail; ``predicted_ms`` an interval that covered 95 % of them.

        Args:
            artifact: The ONNX file.
            complexity: Operations of the float network and one image.

        Raises:
            ArtifactError: The runtime refuses the file.
        """
        kernels = kernels_of(artifact, self.target.batch)
        prediction = self._predictor.predict(kernels)
        reach = self._reach * prediction.deviation
        predicted = self._quantity(PREDICTED, prediction.ms)
        detail = dict(predicted.detail)
        if prediction.unknown:
            detail["unknown_kernels"] = ", ".join(prediction.unknown)
        low, high = prediction.ms / (1 + reach), prediction.ms / max(1 - reach, LEAST_REACHED)
        return [
            self._quantity(TEXTBOOK, self.textbook(complexity.flops, bool(complexity.conv_macs))),
            self._quantity(ROOFLINE, roofline_ms(kernels, self.platform)),
            replace(predicted, low=low, high=high, detail=detail),
        ]

    def textbook(self, flops: float, convolutional: bool) -> float:
        """FLOPs over FLOP/s, for one call with the target's batch, in ms."""
        speeds = self.platform
        speed = speeds.flops_per_second_conv if convolutional else speeds.flops_per_second_matmul
        return estimated_ms(flops * self.target.batch, speed)

    @cached_property
    def checks(self) -> dict[str, Check]:
        """How each estimate did, by its name; the predictor on networks that it had not seen.

        Compared are the sampled networks whose measurement was undisturbed; where these are too few, all.
        """
        everything = list(zip(self._held_out.networks, self._held_out.predicted, strict=True))
        sampled = [pair for pair in everything if pair[0].source == NETWORK and not pair[0].unstable]
        chosen = sampled if len(sampled) >= LEAST_NETWORKS else everything
        measured = [network.ms for network, _ in chosen]
        disturbed = sum(network.unstable for network, _ in chosen)
        estimates = {
            TEXTBOOK: [self.textbook(network.flops, _convolves(network.kernels)) for network, _ in chosen],
            ROOFLINE: [roofline_ms(network.kernels, self.platform) for network, _ in chosen],
            PREDICTED: [ms for _, ms in chosen],
        }
        return {name: check(name, values, measured, disturbed) for name, values in estimates.items()}

    @cached_property
    def _predictor(self) -> Predictor:
        return _fitted(self.measured)

    @cached_property
    def _held_out(self) -> _HeldOut:
        networks: list[Measurement] = []
        predicted: list[float] = []
        ratios: list[float] = []
        for fold in range(FOLDS):
            unseen = [item for item in whole_networks(self.measured) if fold_of(item.sha256) == fold]
            hidden = {item.sha256 for item in unseen}
            known = [item for item in self.measured if item.sha256 not in hidden]
            if not unseen or len(known) < LEAST_NETWORKS:
                continue
            predictor = _fitted(known)
            for item in unseen:
                prediction = predictor.predict(item.kernels)
                networks.append(item)
                predicted.append(prediction.ms)
                ratios.append(abs(prediction.ms / item.ms - 1) / prediction.deviation)
        return _HeldOut(tuple(networks), tuple(predicted), tuple(ratios))

    @cached_property
    def _reach(self) -> float:
        """How many of the predictor's own deviations the errors on unseen networks reach."""
        return float(np.quantile(self._held_out.ratios, COVERAGE, method="higher"))

    def _quantity(self, name: str, ms: float) -> Quantity:
        found = self.checks[name]
        detail: dict[str, float | int | str | bool] = {
            "median_error": found.median_error,
            f"within_{100 * TOLERANCE:.0f}_percent": found.within,
            "tau": found.tau,
            "checked_on": found.networks,
        }
        return Quantity(
            name,
            ms,
            "ms",
            How.ESTIMATED,
            target=self.target.name,
            environment_id=self.environment_id,
            detail=detail,
        )


def latest(measured: Sequence[Measurement]) -> list[Measurement]:
    """What is learned from: the latest ``MOST_NETWORKS``."""
    return list(measured[-MOST_NETWORKS:])


def whole_networks(measured: Sequence[Measurement]) -> list[Measurement]:
    """Those that are no single layers."""
    return [item for item in measured if item.source != LAYER]


def is_enough(measured: Sequence[Measurement]) -> bool:
    """Whether an estimator can be made of these."""
    return len(whole_networks(latest(measured))) >= LEAST_MEASURED


def _fitted(measured: Sequence[Measurement]) -> Predictor:
    return Predictor(
        [item.kernels for item in measured],
        [item.ms for item in measured],
        [item.noise for item in measured],
        [item.unstable for item in measured],
    )


def _convolves(kernels: Sequence[Kernel]) -> bool:
    return any("Conv" in kernel.operator and kernel.depth for kernel in kernels)
