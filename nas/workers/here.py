"""Evaluates in this process, one after the other."""

from __future__ import annotations

from typing import Generic

from nas.workers.executor import Done, JobProgress, Request, Result, Work
from nas.workers.memory import peak_memory, start_peak


class Here(Generic[Request, Result]):
    """The executor without workers: a job is done while it is waited for.

    Args:
        work: Does a job; what it raises passes through.
    """

    slots = 1

    def __init__(self, work: Work[Request, Result]) -> None:
        self.work = work
        self._job: tuple[int, Request] | None = None

    def submit(self, job: int, request: Request) -> None:
        assert self._job is None, "one at a time"
        self._job = job, request

    def wait(self, progress: JobProgress) -> Done[Result]:
        assert self._job is not None, "nothing is under way"
        job, request = self._job
        self._job = None
        start_peak()
        result = self.work(request, lambda stage, share: progress(job, stage, share))
        return Done(job, result, peak_memory())

    def close(self) -> None:
        self._job = None
