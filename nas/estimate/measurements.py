"""What was measured on this machine to learn from, kept for later: one line of JSON for each, only ever added to.

A measurement holds the kernels that ran, and the predictor is fitted anew when it is loaded, which takes seconds at
most; no fitted object is stored. Where a process died while it wrote, the torn line is left out when the file is read.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from nas.errors import MeasureError
from nas.estimate.kernels import Kernel
from nas.measure.platform import Platform
from nas.outcome import Quantity
from nas.store import sha256_bytes, write_atomically
from nas.target import Target

# Raised when what is stored, or how kernels are described, changes; then the old files are no longer read.
VERSION = 1
NETWORK, LAYER, TRIAL = "network", "layer", "trial"
SOURCES = (NETWORK, LAYER, TRIAL)

_KERNEL_FIELDS = tuple(item.name for item in fields(Kernel))
# Of a normal distribution: half the width of a 95 % interval in standard errors.
_HALF_WIDTH = 1.96
# Relative error that a disturbance may have brought.
DISTURBED_NOISE = 0.03


@dataclass(frozen=True)
class Measurement:
    """One artifact's latency, and all that estimates look at.

    Args:
        source: ``network`` or ``layer`` of a sampled design, or ``trial`` of a study.
        label: Which, in words.
        sha256: Of the artifact.
        ms: Median latency.
        low: Lower end of its 95 % interval.
        high: Upper end.
        unstable: Whether the measurement was disturbed; then little is learned from it.
        flops: Of the float network and one image, as counted.
        kernels: What ran.
    """

    source: str
    label: str
    sha256: str
    ms: float
    low: float
    high: float
    unstable: bool
    flops: float
    kernels: tuple[Kernel, ...]

    @property
    def noise(self) -> float:
        """Relative standard error of the median; of a disturbed measurement, what its samples cannot tell included."""
        own = (self.high - self.low) / (2 * _HALF_WIDTH * self.ms)
        return math.hypot(own, DISTURBED_NOISE) if self.unstable else own

    @classmethod
    def of(
        cls, source: str, label: str, artifact: bytes, latency: Quantity, flops: float, kernels: Iterable[Kernel]
    ) -> Measurement:
        """From a measured latency."""
        return cls(
            source=source,
            label=label,
            sha256=sha256_bytes(artifact),
            ms=latency.value,
            low=latency.value if latency.low is None else latency.low,
            high=latency.value if latency.high is None else latency.high,
            unstable=bool(latency.detail.get("unstable", False)),
            flops=flops,
            kernels=tuple(kernels),
        )

    def to_json(self) -> dict[str, Any]:
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        return data | {"kernels": [list(astuple(kernel)) for kernel in self.kernels]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """Reads what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or not what it must be.
        """
        values = dict(data)
        values["kernels"] = tuple(
            Kernel.from_json(dict(zip(_KERNEL_FIELDS, item, strict=True))) for item in data["kernels"]
        )
        found = cls(**values)
        if found.source not in SOURCES or not found.ms > 0 or not found.low <= found.ms <= found.high:
            raise ValueError(f"a measurement cannot be {found.source!r} of {found.ms!r} ms")
        return found


def cache_folder() -> Path:
    """Where this machine's calibrations lie: ``$XDG_CACHE_HOME/nas-front``, by default ``~/.cache/nas-front``."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "nas-front"


class Measurements:
    """The measurements of one target in one environment, on disk.

    Args:
        folder: The cache, see ``cache_folder``.
        environment_id: Fingerprint of machine and runtime.
        target: What was measured on.
    """

    def __init__(self, folder: Path, environment_id: str, target: Target) -> None:
        self.folder = folder / environment_id / target.name
        self.path = self.folder / f"measurements-v{VERSION}.jsonl"
        self.platform_path = self.folder / f"platform-v{VERSION}.json"

    def read(self) -> list[Measurement]:
        """All measurements in the order taken, each artifact once (the last counts); none where there is no file.

        Raises:
            MeasureError: The file cannot be read.
        """
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise MeasureError(f"the calibration {self.path} cannot be read: {error.strerror}") from None
        found: dict[str, Measurement] = {}
        for line in lines:
            try:
                measurement = Measurement.from_json(json.loads(line))
            except (KeyError, TypeError, ValueError, AttributeError):  # a line that a dying process left
                continue
            found.pop(measurement.sha256, None)
            found[measurement.sha256] = measurement
        return list(found.values())

    def add(self, measurement: Measurement) -> None:
        """Appends one, in a single write, so that processes that add at once do not mix their lines.

        Raises:
            MeasureError: It cannot be written.
        """
        line = json.dumps(measurement.to_json(), allow_nan=False, separators=(",", ":")) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab+", buffering=0) as file:
                file.seek(0, os.SEEK_END)
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else "\n" + line  # after a torn line
                file.write(line.encode())
        except OSError as error:
            raise MeasureError(f"the calibration {self.path} cannot be written: {error.strerror}") from None

    def read_platform(self) -> Platform | None:
        """The machine's speeds; None where they were not measured, or the file is damaged."""
        try:
            return Platform(**json.loads(self.platform_path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write_platform(self, platform: Platform) -> None:
        """Keeps the machine's speeds, unless those there were measured undisturbed and these were not.

        Raises:
            MeasureError: They cannot be written.
        """
        before = self.read_platform()
        if platform.unstable and before is not None and not before.unstable:
            return
        try:
            write_atomically(self.platform_path, json.dumps(asdict(platform), allow_nan=False).encode())
        except OSError as error:
            raise MeasureError(f"the calibration {self.platform_path} cannot be written: {error.strerror}") from None
