"""How much is read from outside at most. Each limit is far above what is of use, and far below what does harm."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# A recipe or a search space: people write them, and a thousand choices take 50 kB.
MOST_YAML_BYTES = 500_000
# Values in a YAML file once every alias is written out: a few aliases of aliases stand for billions.
MOST_YAML_VALUES = 100_000
# Lists and mappings within one another, in YAML. (Python's JSON reader stops by itself.)
MOST_YAML_DEPTH = 32
# Digits of a number in YAML: reading one takes the square of their number.
MOST_YAML_NUMBER = 400

# deployment.json, a trial's record, an index of the cache, a design: a thousand classes take 20 kB.
MOST_JSON_BYTES = 64_000_000

# Protocol buffers, and with them ONNX, end here; larger models keep their weights beside the file.
MOST_ONNX_BYTES = 2**31 - 1
# Bodies of If, Loop and Scan within one another. Protocol buffers stop at about 30.
MOST_GRAPH_DEPTH = 16
# Nodes, those of functions counted each time that they are called: functions of functions stand for billions.
MOST_ONNX_NODES = 50_000
# Elements of one tensor that a model holds or a value that it declares.
MOST_ELEMENTS = 2**40
# Of a value of one dimension: onnx's inference of shapes takes each of its elements for a size that it may follow.
MOST_VECTOR = 2**22

# Pixels of one image, as Pillow's own limit: 90 million take 270 MB. Few bytes of a file may stand for more.
MOST_IMAGE_PIXELS = 89_478_485

# Without a word on it from the system.
_USUAL_MEMORY = 16 * 2**30


def most_data_bytes() -> int:
    """How much a data set may take in memory: what this machine has, or what its container may use, in bytes."""
    known = [_USUAL_MEMORY]
    if sys.platform != "win32" and "SC_PHYS_PAGES" in os.sysconf_names:
        known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of control groups, version 2 and 1
        try:
            text = (Path("/sys/fs/cgroup") / name).read_text().strip()
        except OSError:
            continue
        known += [int(text)] if text.isdigit() else []
    return min(known)


def size_words(size_bytes: int) -> str:
    """A size for people: ``64.0 MB``."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:,.1f} {name}"
    return f"{size_bytes} bytes"
