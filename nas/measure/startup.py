"""Time to the first output and peak memory of an artifact, measured in fresh processes that do nothing else."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from nas.errors import ArtifactError
from nas.measure.target import Target
from nas.outcome import How, Quantity

PROCESSES = 3
TIMEOUT_SECONDS = 60.0

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


def measure_startup(
    path: Path,
    target: Target,
    images: np.ndarray,
    environment_id: str | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> tuple[Quantity, Quantity]:
    """Loads an artifact in ``PROCESSES`` fresh processes and takes the medians.

    ``load_ms`` is the time from reading the file to the first output; Python and its imports are not in it.

    ``peak_memory_bytes`` is the largest resident memory of the whole process, Python, numpy and ONNX Runtime included:
    what a memory limit on a serving process must allow for. ``baseline_bytes`` in its detail is what the process had
    taken before it opened the model, so that the difference is the model's own share.

    Args:
        path: The ONNX file, of one input.
        target: Threads and batch.
        images: Inputs as the artifact takes them, N×…; the first ``target.batch`` are used, over again where N is less.
        environment_id: Fingerprint of the machine, stored with the numbers.
        timeout_seconds: Longest that one process may take.

    Returns:
        ``load_ms`` and ``peak_memory_bytes``, with least, largest and number of processes in their detail.

    Raises:
        UnsupportedError: The target wants more threads than there are cores.
        ArtifactError: The file is missing, does not load or run, or takes longer than the limit.
    """
    target.check_cores()
    if not path.is_file():
        raise ArtifactError(f"there is no model file {path}")
    if len(images) == 0:
        raise ValueError("measuring a start-up needs at least one image, but got none")
    with tempfile.TemporaryDirectory(prefix="nas-startup-") as folder:
        images_path = Path(folder) / "images.npy"
        np.save(images_path, images[np.arange(target.batch) % len(images)])
        results = [_probe(path, images_path, target.threads, timeout_seconds) for _ in range(PROCESSES)]
    load_ms = [result["load_ms"] for result in results]
    memory = [result["peak_memory_bytes"] for result in results]
    baseline = statistics.median(result["baseline_bytes"] for result in results)
    load = _median_quantity("load_ms", "ms", load_ms, target, environment_id, {})
    peak = _median_quantity("peak_memory_bytes", "bytes", memory, target, environment_id, {"baseline_bytes": baseline})
    return load, peak


def _median_quantity(
    name: str, unit: str, values: list[float], target: Target, environment_id: str | None, detail: dict[str, float]
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


def _probe(path: Path, images_path: Path, threads: int, timeout_seconds: float) -> dict[str, float]:
    # -P keeps the caller's folder off the module path, where a file could pass for numpy.
    command = [sys.executable, "-P", "-m", "nas.measure.startup_probe", str(path), str(images_path), str(threads)]
    search_path = os.pathsep.join(filter(None, [str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            env=os.environ | {"PYTHONPATH": search_path},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ArtifactError(f"loading {path} in a fresh process took longer than {timeout_seconds:g} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ArtifactError(f"loading {path} in a fresh process failed: {last[:300]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result
