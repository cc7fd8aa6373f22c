"""Run in a fresh process by ``nas.measure.startup``: loads one model, runs it once, prints what that took as JSON.

    python -m nas.measure.startup_probe MODEL.onnx IMAGES.npy THREADS

It imports numpy and onnxruntime alone, as a service that has only to serve would.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime  # noqa: F401  imported before the clock starts: loading a library is not loading a model

from nas.artifact import open_session
from nas.errors import ArtifactError


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


def main(arguments: list[str]) -> None:
    path, images_path, threads = arguments
    images = np.load(images_path)
    before = peak_memory_bytes()
    start = time.perf_counter_ns()
    with open(path, "rb") as file:
        session = open_session(file.read(), int(threads))
    session.run(None, {session.get_inputs()[0].name: images})
    load_ms = (time.perf_counter_ns() - start) / 1e6
    print(json.dumps({"load_ms": load_ms, "peak_memory_bytes": peak_memory_bytes(), "baseline_bytes": before}))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ArtifactError as error:
        sys.exit(error.message)
