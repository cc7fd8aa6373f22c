"""One search of a comparison, and processes on a core of their own; see ``search_efficiency.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import NasError

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Run:
    """One search of the comparison."""

    variant: str
    seed: int
    folder: Path

    @property
    def log(self) -> Path:
        """A line for each trial: seconds since the start, outcome or error, design, accuracy, latency_ms."""
        return self.folder / "log.jsonl"

    @property
    def done(self) -> Path:
        """Written when the search is over."""
        return self.folder / "done.json"

    @property
    def is_ours(self) -> bool:
        return not self.variant.startswith("plain")

    @property
    def strategy(self) -> str | None:
        """The strategy that is forced; None for the recipe's own."""
        return self.variant.partition("-")[2] or None if self.is_ours else None

    @property
    def training(self) -> str:
        return "ours" if self.variant == "plain-fast" else "float32"

    def lines(self) -> list[dict[str, Any]]:
        """All of the log; nothing where no trial was finished."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def horizon(self) -> float:
        """For how many seconds it searched."""
        return float(json.loads(self.done.read_text())["seconds"])


@dataclass(frozen=True)
class Job:
    """A process to come.

    Args:
        command: After the interpreter.
        folder: For what it says.
        begin: Called before it is started.
        end: Called when it ended well.
    """

    command: Sequence[str]
    folder: Path
    begin: Callable[[], None]
    end: Callable[[], None]


def lanes_of(count: int) -> list[int]:
    """The cores that processes are kept on, one each."""
    return sorted(os.sched_getaffinity(0))[-count:]


def started(command: Sequence[str], core: int, folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A process on one core; what it says goes to a file. It makes way for nobody else's measurements, nor they for it:
    each has its core."""
    lease = folder / "lease"
    lease.mkdir(exist_ok=True)
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "NAS_LEASE_FOLDER": str(lease)}
    said = folder / "out.txt"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *command], env=surroundings, stdout=file, stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip
    return process, said


def one_after_another(jobs: Sequence[Job], cores: Sequence[int]) -> list[Path]:
    """Runs each job on a core of its own: a core that is free takes the next, so that none waits for a longer one.

    Returns:
        What those said that failed; a job after the first failed one is not begun.
    """
    waiting = list(jobs)
    free = list(cores)
    at_work: list[tuple[int, Job, subprocess.Popen[bytes], Path]] = []
    failed: list[Path] = []
    try:
        while at_work or (waiting and not failed):
            while waiting and free and not failed:
                job, core = waiting.pop(0), free.pop(0)
                job.begin()
                at_work.append((core, job, *started(job.command, core, job.folder)))
            time.sleep(POLL_SECONDS)
            for entry in [entry for entry in at_work if entry[2].poll() is not None]:
                at_work.remove(entry)
                core, job, process, said = entry
                free.append(core)
                if process.returncode == 0:
                    job.end()
                else:
                    failed.append(said)
    finally:
        for _, _, process, _ in at_work:
            process.terminate()
    return failed


def check(failed: Sequence[Path]) -> None:
    """Refuses to go on after a process failed.

    Raises:
        NasError: One did; the message has its last line.
    """
    if failed:
        last = failed[0].read_text(errors="replace").strip().splitlines()[-1:]
        raise NasError(f"a process failed: {' '.join(last)}", f"all that it said is in {failed[0]}")
