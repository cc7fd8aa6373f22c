"""Time to the first output and peak memory of a model, measured in fresh processes that do nothing else."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import ArtifactError, MeasureError, UnsupportedError
from nas.lease import PATIENCE_S
from nas.measure.latency import batch_of
from nas.measure.process import child_environment
from nas.outcome import How, Quantity
from nas.target import Target

PROCESSES = 3
TIMEOUT_SECONDS = 60.0

# Longest that a process may take beside its model: to import torch on a busy machine, and to wait for its turn.
_BESIDE_SECONDS = 120.0 + PATIENCE_S


def measure_startup(
    model: Path | bytes,
    target: Target,
    images: np.ndarray,
    environment_id: str | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> tuple[Quantity, Quantity]:
    """Loads a model in ``PROCESSES`` fresh processes, one after the other, and takes the medians.

    ``load_ms`` is the time from reading the file to the first output of the target's runtime, with its threads and
    precision. Python, its imports and a GPU's context, which a process needs once whatever its model, are not in it.
    What a runtime compiles for the model is; where it keeps that on the disk, as torch.compile does, all but the first
    process find it there, as a service does that is started again.

    ``peak_memory_bytes`` is the largest resident memory of the whole process, Python, numpy and the runtime included:
    what a memory limit on a serving process must allow for. ``baseline_bytes`` in its detail is what the process had
    taken before it opened the model, so that the difference is the model's own share; ``device_peak_bytes`` is what
    torch took of a GPU's memory at most.

    Each process holds the machine's lease (``nas.lease``) while it is timed, on the cores that latency is taken on.

    Args:
        model: A file of the target's form with one input, or its content.
        target: Runtime, device, threads, batch and precision.
        images: Inputs as the artifact takes them, N×…; the first ``target.batch`` are used, over again where N is less.
        environment_id: Fingerprint of the machine, stored with the numbers.
        timeout_seconds: Longest that a model may take to its first output.

    Returns:
        ``load_ms`` and ``peak_memory_bytes``, with least, largest and number of processes in their detail.

    Raises:
        UnsupportedError: The runtime is missing here, or the target wants more threads than there are cores.
        ArtifactError: The model is missing, does not load or run, or takes longer than the limit.
        MeasureError: The machine did not get quiet.
    """
    target.check_cores()
    if isinstance(model, Path) and not model.is_file():
        raise ArtifactError(f"there is no model file {model}")
    batch = batch_of(images, target.batch)
    with tempfile.TemporaryDirectory(prefix="nas-startup-") as folder:
        images_path = Path(folder) / "images.npy"
        np.save(images_path, batch)
        path = model if isinstance(model, Path) else Path(folder) / "model"
        if isinstance(model, bytes):
            path.write_bytes(model)
        what = str(model) if isinstance(model, Path) else "the model"
        results = [_probe(path, images_path, target, timeout_seconds, what) for _ in range(PROCESSES)]
    taken = {name: [result[name] for result in results] for name in results[0]}
    beside: tuple[str, ...] = ("baseline_bytes", "device_peak_bytes")
    detail = {name: float(statistics.median(taken[name])) for name in beside if name in taken}
    load = _median_quantity("load_ms", "ms", taken["load_ms"], target, environment_id, {})
    peak = _median_quantity("peak_memory_bytes", "bytes", taken["peak_memory_bytes"], target, environment_id, detail)
    return load, peak


def _median_quantity(
    name: str, unit: str, values: Sequence[float], target: Target, environment_id: str | None, detail: dict[str, float]
) -> Quantity:
    """Three values have no 95 % interval of the median, so the extremes stand in the detail instead."""
    extremes = {"least": min(values), "largest": max(values), "processes": len(values)}
    return Quantity(
        name,
        float(statistics.median(values)),
        unit,
        How.MEASURED,
        target=target.name,
        environment_id=environment_id,
        detail=detail | extremes,
    )


def _probe(path: Path, images_path: Path, target: Target, seconds: float, what: str) -> dict[str, float]:
    # -P keeps the caller's folder off the module path, where a file could pass for numpy.
    module = [sys.executable, "-P", "-m", "nas.measure.startup_probe"]
    arguments = [str(path.resolve()), str(images_path), target.name, str(seconds)]
    too_long = f"loading {what} on {target.name} in a fresh process took longer than {seconds:g} s"
    try:
        done = subprocess.run(
            module + arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + _BESIDE_SECONDS,
            env=child_environment(target.threads),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ArtifactError(too_long) from None
    if hasattr(signal, "SIGALRM") and done.returncode == -signal.SIGALRM:
        raise ArtifactError(too_long)
    failed = f"loading {what} on {target.name} in a fresh process failed"
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise ArtifactError(f"{failed}: {lines[-1][:300] if lines else _ending(done.returncode)}")
    return _understood(done.stdout, failed)


def _ending(status: int) -> str:
    """How a process ended: the signal that killed it, or its exit status."""
    names = {-number: number.name for number in signal.Signals}
    return f"it was ended by {names[status]}" if status in names else f"exit status {status}"


def _understood(printed: str, failed: str) -> dict[str, float]:
    """The last line that a process printed: numbers, or an error which is raised here."""
    answer: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    match answer.get("error"):
        case None:
            return answer
        case "UnsupportedError":
            raise UnsupportedError(answer["message"], answer["hint"])
        case "MeasureError":
            raise MeasureError(answer["message"], answer["hint"])
        case _:
            raise ArtifactError(f"{failed}: {answer['message']}", answer["hint"])
