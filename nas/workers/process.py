"""Processes of ours that work for this one: started so that they end with it, read when they died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import IO

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


def with_our_package(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables with which a process finds this package, wherever this one has it from."""
    path = os.pathsep.join(filter(None, [str(_PACKAGE_PARENT), environment.get("PYTHONPATH", "")]))
    return {**environment, "PYTHONPATH": path}


def start_module(
    module: str, descriptor: int, output: IO[bytes], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Starts ``python -m module DESCRIPTOR`` with its end of a connection.

    Whatever it prints goes to a file, not to the terminal. Linux ends it together with the *thread* that started it, if
    it asks for that (``end_with_parent``). Where that is not the main one, a thread that lasts as long as this process
    starts it.

    Args:
        module: What to run.
        descriptor: An open file that it inherits.
        output: For what it prints.
        environment: Its environment variables.
    """

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            # -P keeps the caller's folder off the module path, where a file could pass for a package.
            [sys.executable, "-P", "-m", module, str(descriptor)],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            # Ctrl-C in the terminal is for the search, which then ends this process itself.
            start_new_session=True,
        )

    if threading.current_thread() is threading.main_thread():
        return start()
    started: SimpleQueue[subprocess.Popen[bytes] | BaseException] = SimpleQueue()

    def start_and_stay() -> None:
        try:
            started.put(start())
        except BaseException as error:
            started.put(error)
        else:
            threading.Event().wait()

    threading.Thread(target=start_and_stay, name=f"starts {module}", daemon=True).start()
    process = started.get()
    if isinstance(process, BaseException):
        raise process
    return process


def end_with_parent() -> None:
    """Ends this process with the one that started it, also while a job hangs in here.

    Linux does so when the *thread* that started it ends; elsewhere a thread of ours looks every second.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    if not sys.platform.startswith("linux"):
        threading.Thread(target=watch, daemon=True).start()
        return
    import ctypes

    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, see prctl(2)
    try:
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    except (OSError, AttributeError):  # a C library without it: the connection's end is noticed all the same
        return


def how_it_ended(status: int | None) -> str:
    """An exit status in words: the signal's name, or the number."""
    if status is None or status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def last_line(output: IO[bytes]) -> str:
    """The last line that a process wrote, shortened; empty where it wrote nothing."""
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - 4000))
    lines = output.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
