"""How a trial ended, and the numbers that it gave: each with its unit, its interval and how it was had."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Outcome(enum.StrEnum):
    """How a trial ended. Only ``MEASURED`` trials can stand on a front."""

    MEASURED = "measured"
    DUPLICATE = "duplicate"
    INFEASIBLE = "infeasible"
    SCREENED = "screened"
    STOPPED = "stopped"
    FAILED = "failed"


class How(enum.StrEnum):
    """How a number was had. ``PROXY`` numbers screen designs and are never reported as a trial's."""

    MEASURED = "measured"
    COUNTED = "counted"
    ESTIMATED = "estimated"
    PROXY = "proxy"


class Realisation(enum.StrEnum):
    """Whether a compression choice really runs that way in the artifact, on the target that it was measured on."""

    REALISED = "realised"
    SIMULATED = "simulated"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Reason:
    """Why a trial did not end as measured.

    ``transient`` is true where another attempt might succeed (a full disk), false where the design is the cause.
    """

    kind: str
    message: str
    transient: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "message": self.message, "transient": self.transient}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reason:
        return cls(str(data["kind"]), str(data["message"]), bool(data["transient"]))


@dataclass(frozen=True)
class Quantity:
    """One number of a trial.

    Args:
        name: What it is, with its unit where it has one: ``latency_ms``, ``size_bytes``, ``accuracy``.
        value: The number; for a latency the median of the samples.
        unit: ``"ms"``, ``"bytes"``, ``"1"`` for fractions, ``"MAC"``, ``"FLOP"``.
        how: Measured, counted, estimated or proxy.
        target: What it was measured on, for quantities that depend on it (``onnxruntime-cpu-1t-b1``).
        low: Lower end of the 95 % interval, where there is one.
        high: Upper end of the 95 % interval.
        samples_ref: Where the raw samples lie, relative to the study folder.
        environment_id: Fingerprint of the machine and its software.
        detail: Further statistics by name (``p95``, ``iqr``, ``samples``, ``unstable``).

    Raises:
        ValueError: The value or an end of its interval is NaN or infinite.
    """

    name: str
    value: float
    unit: str
    how: How
    target: str | None = None
    low: float | None = None
    high: float | None = None
    samples_ref: str | None = None
    environment_id: str | None = None
    detail: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        interval = [end for end in (self.low, self.high) if end is not None]
        if not all(math.isfinite(number) for number in (self.value, *interval)):
            raise ValueError(f"a quantity must be finite, but {self.key} is {self.value} ({self.low} to {self.high})")

    @property
    def key(self) -> str:
        """The name by which objectives and constraints find it: ``latency_ms@onnxruntime-cpu-1t-b1``."""
        return f"{self.name}@{self.target}" if self.target else self.name

    def to_json(self) -> dict[str, Any]:
        """JSON form; fields without a value are left out."""
        data: dict[str, Any] = {"name": self.name, "value": self.value, "unit": self.unit, "how": str(self.how)}
        for name in ("target", "low", "high", "samples_ref", "environment_id"):
            if (value := getattr(self, name)) is not None:
                data[name] = value
        if self.detail:
            data["detail"] = dict(self.detail)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Quantity:
        return cls(**{**data, "how": How(data["how"])})
