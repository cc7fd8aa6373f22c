"""A worker: a process that makes its work once, then does job after job of it.

    python -P -m MODULE DESCRIPTOR

where that module calls ``main`` with the descriptor and what makes the work. Setup and requests come, and results go,
through the inherited connection of that number. It ends when the other end does, or with the process that started it.
Both ends are of this package, on this machine.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from nas.errors import NasError, StudyError, one_line
from nas.workers.memory import limit_memory, peak_memory, start_peak
from nas.workers.process import end_with_parent

# Makes the work of a worker: given the setup's options, what does a job.
Make = Callable[..., Callable[[Any, Callable[[str, float], None]], Any]]

# How far the same stage has come is told so often at most, in seconds.
_OFTEN = 0.1


@dataclass(frozen=True)
class Setup:
    """What a worker is told first.

    Args:
        options: By name, for what makes the work.
        memory_bytes: Most private memory of the worker and each process that it starts; None for no limit.
    """

    options: Mapping[str, Any]
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Ready:
    """Told when the work can begin; with the error where it cannot."""

    error: NasError | None = None
    bug: str = ""


@dataclass(frozen=True)
class Far:
    """Told while a job runs: how far a stage has come."""

    stage: str
    share: float


@dataclass(frozen=True)
class Finished:
    """What came of a job, and the peak of memory; of one that raised the traceback."""

    result: Any
    peak_memory_bytes: int | None = None
    bug: str = ""


class _Teller:
    """Tells how far a job has come, but not too often."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self.connection = connection
        self.stage = ""
        self.last = 0.0

    def __call__(self, stage: str, share: float) -> None:
        now = time.monotonic()
        if stage != self.stage or now - self.last >= _OFTEN:
            self.stage, self.last = stage, now
            self.connection.send(Far(stage, share))


def cannot_begin(error: Exception, memory_bytes: int | None) -> Ready:
    """What is told of work that could not be made; where memory is limited, and the error is one of those that come of
    too little of it, that is said instead of a traceback."""
    if memory_bytes is not None and isinstance(error, MemoryError | SystemError | ImportError | OSError):
        words = StudyError(
            f"a worker cannot begin with {memory_bytes // 10**6:,} MB of memory: {one_line(error) or 'none was left'}",
            "name more under workers.memory_mb in the recipe; what it loads alone takes about 600 MB",
        )
        return Ready(words)
    return Ready(bug="".join(traceback.format_exception(error)))


def serve(connection: Connection[Any, Any], make: Make) -> None:
    """Makes the work, then does jobs until the other end is closed."""
    try:
        setup: Setup = connection.recv()
        if setup.memory_bytes is not None:
            limit_memory(setup.memory_bytes)
        work = make(**setup.options)
    except NasError as error:
        connection.send(Ready(error))
        return
    except Exception as error:
        connection.send(cannot_begin(error, setup.memory_bytes))
        return
    connection.send(Ready())
    while True:
        request = connection.recv()
        start_peak()
        try:
            finished = Finished(work(request, _Teller(connection)), peak_memory())
        except Exception:
            finished = Finished(None, peak_memory(), traceback.format_exc())
        connection.send(finished)


def main(descriptor: int, make: Make) -> NoReturn:
    """Serves the connection of that number, and ends the process."""
    end_with_parent()
    os.set_inheritable(descriptor, False)  # what we start would keep it open
    with contextlib.suppress(EOFError, OSError):
        serve(Connection(descriptor), make)
    sys.stdout.flush()
    os._exit(0)  # libraries' threads may hang at the interpreter's end
