"""Evaluates in processes of their own on this machine: one that dies costs its job alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import IO, Any, Generic

from nas.errors import StudyError
from nas.outcome import Reason
from nas.workers.executor import Done, JobProgress, Lost, Request, Result
from nas.workers.process import how_it_ended, last_line, start_module, with_our_package
from nas.workers.worker import Far, Finished, Ready, Setup

# What a process does to itself by what it computes; any other end came from outside.
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})
# So many workers in a row that die before they can begin, and none will.
_FUTILE = 3


@dataclass
class _Worker:
    """One process, from outside.

    Args:
        process: Itself.
        connection: Our end.
        output: What it wrote.
        ready: Whether it has made its work.
        job: What it does; None while it waits.
        began: When it began with that.
    """

    process: subprocess.Popen[bytes]
    connection: Connection[Any, Any]
    output: IO[bytes]
    ready: bool = False
    job: int | None = None
    request: Any = None
    began: float = 0.0

    def begin(self) -> None:
        """Sends the job, if it can begin."""
        if self.ready and self.request is not None:
            request, self.request = self.request, None
            self.began = time.monotonic()
            self.connection.send(request)

    def end(self) -> int | None:
        """Kills the process with all that it started, and gives its exit status."""
        if self.process.returncode is None:  # so its number is still its own; it leads a group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        self.connection.close()
        self.output.close()
        return status


class LocalWorkers(Generic[Request, Result]):
    """The executor of local processes. They start when they are first needed, and anew after they died.

    Args:
        module: What they run, see ``nas.workers.worker``.
        setup: What they are told first.
        slots: How many there are.
        seconds: Longest that a job may take; None for no limit.
        pack: Makes of a request what is sent.
        threads: That the libraries of each may start.
    """

    def __init__(
        self,
        module: str,
        setup: Setup,
        slots: int,
        seconds: float | None = None,
        pack: Callable[[Request], object] = lambda request: request,
        threads: int = 1,
    ) -> None:
        self.module = module
        self.setup = setup
        self._slots = slots
        self.seconds = seconds
        self.pack = pack
        self.threads = threads
        self.workers: list[_Worker] = []
        self._futile = 0

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, job: int, request: Request) -> None:
        worker = next((worker for worker in self.workers if worker.job is None), None)
        if worker is not None and worker.process.poll() is not None:  # it died between two jobs
            worker.end()
            self.workers.remove(worker)
            worker = None
        if worker is None:
            assert len(self.workers) < self._slots, "no more jobs at once than there are slots"
            worker = self._start()
            self.workers.append(worker)
        worker.job, worker.request, worker.began = job, self.pack(request), time.monotonic()
        with contextlib.suppress(OSError):  # it has just died, which waiting for it will tell
            worker.begin()

    def wait(self, progress: JobProgress) -> Done[Result] | Lost:
        while True:
            busy = {worker.connection: worker for worker in self.workers if worker.job is not None}
            assert busy, "nothing is under way"
            for connection in wait_for(list(busy), self._patience(list(busy.values()))):
                ended = self._heard(busy[connection], progress)  # type: ignore[index]
                if ended is not None:
                    return ended
            for worker in busy.values():
                if worker.ready and self.seconds is not None and time.monotonic() - worker.began > self.seconds:
                    return self._overdue(worker)

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self.workers.clear()

    def _patience(self, workers: list[_Worker]) -> float | None:
        """How long to wait for the next word."""
        if self.seconds is None:
            return None
        now = time.monotonic()
        return max(0.01, min(self.seconds - (now - worker.began) for worker in workers))

    def _heard(self, worker: _Worker, progress: JobProgress) -> Done[Result] | Lost | None:
        assert worker.job is not None
        try:
            message = worker.connection.recv()
            match message:
                case Far():
                    progress(worker.job, message.stage, message.share)
                case Ready():
                    self._begins(worker, message)
                case Finished(bug="", result=result, peak_memory_bytes=peak):
                    job, worker.job = worker.job, None
                    return Done(job, result, peak)
                case Finished(bug=bug):
                    raise RuntimeError(f"a worker met a bug:\n{bug}")
        except (EOFError, OSError):
            return self._died(worker)
        return None

    def _begins(self, worker: _Worker, ready: Ready) -> None:
        if ready.error is not None:
            raise ready.error
        if ready.bug:
            raise RuntimeError(f"a worker cannot begin:\n{ready.bug}")
        worker.ready = True
        self._futile = 0
        worker.begin()

    def _died(self, worker: _Worker) -> Lost:
        """What is told of a job whose worker died."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(5)
        said = last_line(worker.output)
        ready = worker.ready
        status = self._gone(worker)
        how = how_it_ended(status) + (f": {said}" if said else "")
        if not ready:
            self._futile += 1
            if self._futile >= _FUTILE:
                raise StudyError(
                    f"workers die before they can begin ({how})",
                    "a worker needs memory of its own for torch and the data: fewer of them, or a higher limit",
                )
        assert worker.job is not None
        crashed = status is not None and status < 0 and -status in _CRASHES
        hint = "; memory may have run out" if status == -signal.SIGKILL else ""
        return Lost(worker.job, Reason("worker", f"the worker died ({how}){hint}", transient=not crashed))

    def _overdue(self, worker: _Worker) -> Lost:
        self._gone(worker)
        assert worker.job is not None
        assert self.seconds is not None
        words = f"{self.seconds / 60:g} minutes" if self.seconds >= 60 else f"{self.seconds:g} s"
        return Lost(worker.job, Reason("time", f"took longer than {words}, and was ended"))

    def _gone(self, worker: _Worker) -> int | None:
        self.workers.remove(worker)
        return worker.end()

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        output = tempfile.TemporaryFile(prefix="nas-worker-")  # noqa: SIM115  closed with the process
        count = str(self.threads)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
        try:
            environment = with_our_package(os.environ | threads)
            process = start_module(self.module, theirs.fileno(), output, environment)
        except BaseException:
            ours.close()
            output.close()
            raise
        finally:
            theirs.close()
        with contextlib.suppress(OSError):  # it has just died, which waiting for it will tell
            ours.send(self.setup)
        return _Worker(process, ours, output)
