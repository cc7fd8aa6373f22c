"""Run in a process of its own by ``nas.doctor.runtimes``: writes a runtime's model that computes nothing.

    python -P -m nas.doctor.identity_probe IMAGES.npy TARGET OUTPUT

A runtime that wants torch programs makes them with torch, which the caller thereby need not load.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from nas.measure.runtimes.registry import load_runtime
from nas.target import Target


def main(arguments: list[str]) -> None:
    """Does what the module says."""
    images = np.load(arguments[0])
    Path(arguments[2]).write_bytes(load_runtime(Target.parse(arguments[1]).runtime).identity(images))


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # runtimes' threads may hang at the interpreter's end
