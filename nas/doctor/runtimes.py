"""Which runtimes are here, in which versions, and what a call of each costs that computes nothing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nas.doctor.findings import Here, RuntimeFinding
from nas.doctor.network import network_images
from nas.errors import MeasureError, NasError, UnsupportedError, one_line
from nas.measure.process import child_environment
from nas.outcome import Quantity
from nas.target import ONNX, RUNTIMES, SYMMETRIC, Target

# Longest that a runtime may take to make a model that computes nothing: torch has to be imported, on a busy machine.
IDENTITY_SECONDS = 120.0


class Measures(Protocol):
    """What is used of ``nas.measure.measurer.Measurer``."""

    def environment(self, target: Target) -> Mapping[str, Any]: ...

    def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]: ...

    def close(self) -> None: ...


def all_targets() -> tuple[Target, ...]:
    """Each runtime on each of its devices, with one thread and a batch of one; the CPU's first."""
    found = [
        Target(name, device, 1 if device == "cpu" else None, 1)
        for name, kind in RUNTIMES.items()
        for device in kind.forms
    ]
    return tuple(sorted(found, key=lambda target: target.device))


def find(measurer: Measures, target: Target) -> RuntimeFinding:
    """Asks a runtime whether it can run here, in the process that would measure; whatever it dies of is a finding."""
    finding = RuntimeFinding(target.runtime, target.device, target.name, Here.READY)
    install = target.kind.install[target.device]
    try:
        return replace(finding, environment=dict(measurer.environment(target)))
    except UnsupportedError as error:
        message = error.message.removeprefix(f"target '{target.name}': ")
        return replace(finding, here=Here.MISSING, message=message, hint=error.hint or install)
    except NasError as error:
        return replace(finding, here=Here.BROKEN, message=error.message, hint=error.hint or f"try: {install}")
    except RuntimeError as error:  # a traceback of the measuring process: the last line says what it died of
        return replace(finding, here=Here.BROKEN, message=str(error).strip().splitlines()[-1], hint=f"try: {install}")


def with_call(finding: RuntimeFinding, measurer: Measures, identities: dict[str, bytes]) -> RuntimeFinding:
    """The finding with what a call costs, where the runtime is ready and can be measured on after all.

    Args:
        finding: Of the runtime.
        measurer: Of its measuring process.
        identities: Models that compute nothing, by form; one that is not there yet is added.
    """
    if not finding.ready:
        return finding
    target = Target.parse(finding.target)
    images = network_images()
    try:
        if target.form not in identities:
            identities[target.form] = identity(target, images)
        quantity, _ = measurer.measure(identities[target.form], target, images)
    except (NasError, RuntimeError) as error:
        message = f"it is there, but cannot be measured on: {one_line(error)}"
        return replace(finding, here=Here.BROKEN, message=message)
    return replace(finding, call_ms=quantity.value)


def identity(target: Target, images: np.ndarray) -> bytes:
    """A model in a target's form that hands a batch on as it is.

    Raises:
        MeasureError: The runtime cannot make one.
    """
    if target.form in (ONNX, SYMMETRIC):
        from nas.measure.runtimes.identity import identity_onnx

        return identity_onnx(images)
    with tempfile.TemporaryDirectory(prefix="nas-doctor-") as folder:
        images_path, output = Path(folder) / "images.npy", Path(folder) / "identity"
        np.save(images_path, images)
        command = [sys.executable, "-P", "-m", "nas.doctor.identity_probe", str(images_path), target.name, str(output)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=IDENTITY_SECONDS,
                env=child_environment(target.threads),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MeasureError(f"making a model took longer than {IDENTITY_SECONDS:g} s") from None
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise MeasureError(f"making a model failed: {lines[-1][:200]}")
        return output.read_bytes()
