"""Figures that a service promises and that a latency holds: its 95th percentile, and frames per second.

Neither is measured by itself: the percentile stands in the detail of each latency, and throughput follows from its
median and its batch. Both can be limited like any objective, though no search can optimise them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas.gains import Measured
from nas.objectives import KINDS, Objective, QuantityKind
from nas.wording import frames_per_second

P95, FPS = "latency_p95_ms", "fps"

SERVICE_KINDS: Mapping[str, QuantityKind] = {
    kind.name: kind
    for kind in (
        QuantityKind(P95, "ms", False, True, "95th percentile of latency (ms)", log_axis=True),
        QuantityKind(FPS, "1/s", True, True, "throughput (fps)", log_axis=True),
    )
}


def kind_of(name: str) -> QuantityKind:
    """What is known of an objective or a service figure by its name.

    Raises:
        KeyError: It is neither.
    """
    return SERVICE_KINDS.get(name) or KINDS[name]


@dataclass(frozen=True)
class ServiceFigure(Objective):
    """``latency_p95_ms`` or ``fps`` at a target or place."""

    @property
    def kind(self) -> QuantityKind:
        return SERVICE_KINDS[self.name]

    def read(self, measured: Measured) -> float | None:
        """The figure of a trial or a deployment, off its latency; None where that is missing or does not hold it."""
        latency = measured.quantity(f"latency_ms@{self.target}")
        if latency is None:
            return None
        if self.name == FPS:
            return frames_per_second(latency) if latency.value > 0 else None
        return float(latency.detail["p95"]) if "p95" in latency.detail else None
