"""Run in a fresh process by ``nas.measure.startup``: loads one model, runs it once, says what that took.

    python -P -m nas.measure.startup_probe MODEL IMAGES.npy TARGET SECONDS

It prints one line of JSON: ``load_ms``, ``peak_memory_bytes``, ``baseline_bytes`` and, where torch serves on a GPU,
``device_peak_bytes``; or ``error`` (the kind of error), ``message`` and ``hint``. It loads what its target's runtime
needs and nothing else, as a service that has only to serve would.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import NasError, UnsupportedError
from nas.lease import measuring
from nas.measure.latency import cores_for, pinned
from nas.measure.runtimes.base import Runtime
from nas.measure.runtimes.registry import load_runtime
from nas.target import TORCH_PROGRAM, Target


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far.

    On Linux it is ``VmHWM``: ``ru_maxrss`` also holds the peak of the process that started this one, until its exec.
    """
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def prepared(target: Target, images: np.ndarray) -> Runtime:
    """The target's runtime with its packages imported and its device set up: loading a library is not loading a model.

    torch imports most of what it needs at its first program (2 s on a core of today's), and on a GPU the first model
    makes the process's context. So there a model that computes nothing goes first.

    Args:
        target: What is to be measured on.
        images: One batch.

    Raises:
        UnsupportedError: It cannot run on that target here.
    """
    runtime = load_runtime(target.runtime)
    if (missing := runtime.missing(target)) is not None:
        raise UnsupportedError(missing.message, missing.hint)
    if target.form == TORCH_PROGRAM or target.device == "cuda":
        session = runtime.load(runtime.identity(images), target)
        session.run(images)
        session.close()
    elif target.runtime == "onnxruntime":  # others have been imported to know whether they are there
        import onnxruntime  # noqa: F401
    return runtime


def first_output(runtime: Runtime, path: Path, images: np.ndarray, target: Target) -> dict[str, float]:
    """Times a model from its file to its first output, and looks at the memory before and after.

    Raises:
        ArtifactError: It does not load or run.
    """
    before = peak_memory_bytes()
    start = time.perf_counter_ns()
    session = runtime.load(path.read_bytes(), target)
    session.run(images)
    load_ms = (time.perf_counter_ns() - start) / 1e6
    result = {"load_ms": load_ms, "peak_memory_bytes": peak_memory_bytes(), "baseline_bytes": before}
    if (device := _device_peak_bytes(target)) is not None:
        result["device_peak_bytes"] = device
    return result


def _device_peak_bytes(target: Target) -> int | None:
    """Most that torch has allocated on the GPU so far; None where torch does not serve, for no other runtime tells."""
    torch: Any = sys.modules.get("torch")  # loaded by its runtime, or not needed
    if target.device != "cuda" or torch is None or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())


def _limit(seconds: float) -> None:
    """Lets the system end this process after so many seconds, also while a model hangs in a runtime."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def main(arguments: list[str]) -> None:
    """Does what the module says; the time limit begins when the machine is ours."""
    path, images_path, target = Path(arguments[0]), arguments[1], Target.parse(arguments[2])
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else frozenset[int]()
    try:
        images = np.load(images_path)
        runtime = prepared(target, images)
        with measuring(), pinned(cores_for(target.threads, usable)):
            _limit(float(arguments[3]))
            answer: dict[str, Any] = first_output(runtime, path, images, target)
            _limit(0)
    except NasError as error:
        answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    # A line of its own at the end: runtimes may have printed something of theirs.
    print(f"\n{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # runtimes' threads may hang at the interpreter's end
