"""What a device was asked, one after the other: known by a number that whoever asks gives, so that a request which is
sent again, as its answer was lost on the way, is measured once."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

JOB_NAME = re.compile(r"[0-9a-f]{32}")

# A job about which nobody asked for so long is nobody's any more.
ABANDONED_SECONDS = 60.0
# Those that wait, run, or have an answer that was not fetched.
MOST_JOBS = 32

Run = Callable[[Mapping[str, Any]], bytes]


class FullError(Exception):
    """So many jobs wait that another one must come later."""


@dataclass
class Job:
    """One thing to measure.

    Args:
        data: The request.
        blobs: SHA-256s that it needs, held for it.
        asked: When somebody asked for it last.
        started: Whether its turn has come.
        answer: What it came to; None before.
    """

    data: Mapping[str, Any] = field(repr=False)
    blobs: Sequence[str]
    asked: float
    started: bool = False
    answer: bytes | None = field(default=None, repr=False)


class Jobs:
    """Runs jobs in the order in which they came, in a thread of its own.

    Args:
        run: Does a job; it gives the answer and never raises.
        cancel: Ends what ``run`` is at, from another thread.
        release: Told the SHA-256s of a job that needs them no longer.
        clock: Gives seconds, monotonic.
    """

    def __init__(
        self,
        run: Run,
        cancel: Callable[[], None],
        release: Callable[[Sequence[str]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._cancel = cancel
        self._release = release
        self._clock = clock
        self._changed = threading.Condition()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._running: Job | None = None
        self._closed = False
        self.done = 0
        self._thread = threading.Thread(target=self._work, name="nas-agent-measures", daemon=True)
        self._thread.start()

    def known(self, name: str) -> bool:
        """Whether there is a job of that name, which then counts as asked for."""
        with self._changed:
            if name in self._jobs:
                self._jobs[name].asked = self._clock()
            return name in self._jobs

    def add(self, name: str, data: Mapping[str, Any], blobs: Sequence[str]) -> bool:
        """Puts a job at the end of the queue, unless it is there already; says whether it was put there.

        Raises:
            FullError: Too many wait.
        """
        with self._changed:
            self._drop_abandoned()
            if name in self._jobs:
                return False
            if len(self._jobs) >= MOST_JOBS or self._closed:
                raise FullError
            self._jobs[name] = Job(data, blobs, self._clock())
            self._changed.notify_all()
            return True

    def wait(self, name: str, seconds: float) -> Job | None:
        """Waits until a job has its answer, so long at most; None where there is no such job (any more)."""
        with self._changed:
            self._drop_abandoned()
            until = self._clock() + seconds
            while (job := self._jobs.get(name)) is not None:
                job.asked = self._clock()
                if job.answer is not None or self._closed or (left := until - self._clock()) <= 0:
                    return job
                self._changed.wait(min(left, ABANDONED_SECONDS / 4))
            return None

    def drop(self, name: str) -> None:
        """Forgets a job; where it runs it is ended."""
        with self._changed:
            self._drop(name)

    def close(self) -> None:
        """Ends all jobs; whoever waits for one hears that there is none."""
        with self._changed:
            self._closed = True
            for name in list(self._jobs):
                self._drop(name)
            self._changed.notify_all()

    def _drop(self, name: str) -> None:
        job = self._jobs.pop(name, None)
        if job is None:
            return
        if not job.started:
            self._release(job.blobs)
        elif job.answer is None:
            self._cancel()
        self._changed.notify_all()

    def _drop_abandoned(self) -> None:
        running = self._running
        if running is not None and all(job is not running for job in self._jobs.values()):
            self._cancel()  # once more: it was dropped as it began, before there was anything to end
        late = self._clock() - ABANDONED_SECONDS
        for name in [name for name, job in self._jobs.items() if job.asked < late]:
            self._drop(name)

    def _next(self) -> Job | None:
        with self._changed:
            while not self._closed:
                self._drop_abandoned()
                for job in self._jobs.values():
                    if not job.started:
                        job.started = True
                        self._running = job
                        return job
                self._changed.wait()
            return None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            answer = self._run(job.data)
            with self._changed:
                job.answer = answer
                self._running = None
                self.done += 1
                self._release(job.blobs)
                self._changed.notify_all()
