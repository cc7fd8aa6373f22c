"""Files that are programs: said to be run, and kept from unpickling more than weights.

A TorchScript file, and an exported program of torch's (``.pt2``), can do whatever a Python file can: torch evaluates
texts in the latter. They are opened where a person named them, as are Python files, and it is said so.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.safety.printable import printable

# Torch reads it at every torch.load: its own call to that, for exported programs, asks for any object.
_VARIABLE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_OTHER = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"  # beside which torch refuses the first
_LOCK = threading.RLock()


def announce_program(path: Path) -> None:
    """Says on the terminal's error output that a file is run."""
    print(f"runs {printable(str(path))}, which is a program and can do anything", file=sys.stderr)


_ANNOUNCED: set[str] = set()


def announce_source(name: str) -> None:
    """Says on the terminal's error output that a Python file or module is run; once in a process."""
    if name not in _ANNOUNCED:
        _ANNOUNCED.add(name)
        print(f"runs {printable(name)}", file=sys.stderr)


@contextmanager
def weights_only() -> Iterator[None]:
    """Has torch unpickle nothing but tensors within, whatever it asks of itself; an error where there is more."""
    with _LOCK:
        before = {name: os.environ.pop(name, None) for name in (_VARIABLE, _OTHER)}
        os.environ[_VARIABLE] = "1"
        try:
            yield
        finally:
            del os.environ[_VARIABLE]
            os.environ.update({name: value for name, value in before.items() if value is not None})
