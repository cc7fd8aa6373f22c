"""What a deployment must keep to: limits on accuracy, latency, tail, throughput and size."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from nas.errors import NasError


@dataclass(frozen=True)
class Limits:
    """What a deployment must keep to; None where it may be anything.

    Args:
        max_latency_ms: Largest latency (median) at ``target``, in milliseconds.
        min_accuracy: Smallest validation accuracy, as a fraction.
        max_size_bytes: Largest model file.
        target: What the latency is of: a target such as ``onnxruntime-cpu-1t-b1``, or a place that the recipe names,
            ``cpu-b1``, where each trial is served by the fastest; None for the first that an objective names.
        max_p95_ms: Within so many milliseconds 95 % of the calls at ``target`` must return.
        min_fps: Smallest throughput at ``target``: 1000 · batch / latency (median).

    Raises:
        NasError: A limit is no positive number, or the accuracy no fraction.
    """

    max_latency_ms: float | None = None
    min_accuracy: float | None = None
    max_size_bytes: int | None = None
    target: str | None = None
    max_p95_ms: float | None = None
    min_fps: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_latency_ms", "min_accuracy", "max_size_bytes", "max_p95_ms", "min_fps"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise NasError(f"{name} must be greater than 0, but got {value}", "leave it out to have no such limit")
        if self.min_accuracy is not None and self.min_accuracy > 1:
            hint = "write it as a fraction, 0.97 for 97 %"
            raise NasError(f"min_accuracy must be at most 1, but got {self.min_accuracy}", hint)

    @property
    def on_latency(self) -> bool:
        """Whether one of them needs a latency."""
        return any(value is not None for value in (self.max_latency_ms, self.max_p95_ms, self.min_fps))

    def to_json(self) -> dict[str, Any]:
        """The limits that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}
