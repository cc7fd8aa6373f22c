"""Evaluates on a Ray cluster: each job is a task, which takes CPUs and GPUs of a node.

Where that node, or the process on it, is lost, Ray tries again; the search hears of what Ray gives up.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic

from nas.errors import StudyError, one_line
from nas.outcome import Reason
from nas.workers.executor import Done, JobProgress, Lost, Request, Result
from nas.workers.ray_cluster import Needs, Node, RayCluster
from nas.workers.ray_task import News, RaySetup, begin, run
from nas.workers.worker import Make, Ready

# How often Ray tries again what was lost with its node or process, before the search hears of it.
RETRIES = 2
# So often it is looked whether there still are nodes that can do the work, and for so long they may be missing.
_LOOK_S, _PATIENCE_S = 10.0, 120.0
# Until what tells the news is asked again after it was lost.
_PAUSE_S = 0.2


@dataclass
class _Task:
    """A job under way, and when it began on a node; None until it is known that it has."""

    job: int
    began: float | None = None


class RayWorkers(Generic[Request, Result]):
    """The executor of a Ray cluster. Close it before the cluster.

    Args:
        cluster: The cluster, joined.
        entry: Makes the work on a node: a function of a module that each can import.
        options: For that function, by name; JSON values.
        needs: What a job takes of its node.
        count: How many jobs run at once; None for as many as fit, also on nodes that join later.
        waiting: How many more than fit, since so many wait at a time for another node and hold no CPUs meanwhile.
        seconds: Longest that a job may take on a node; None for no limit.
        pack: Makes of a request what is sent.
        received: Called with each result; gives a reason where it is of no use, such as an artifact that did not come.
        retries: How often Ray tries again.

    Raises:
        UnsupportedError: No node has what a job needs.
    """

    def __init__(
        self,
        cluster: RayCluster,
        entry: Make,
        options: Mapping[str, Any],
        needs: Needs,
        count: int | None = None,
        waiting: int = 0,
        seconds: float | None = None,
        pack: Callable[[Request], object] = lambda request: request,
        received: Callable[[Result], Reason | None] = lambda result: None,
        retries: int = RETRIES,
    ) -> None:
        self.cluster = cluster
        self.needs = needs
        self.seconds = seconds
        self.pack = pack
        self.received = received
        room = cluster.room(needs)
        self._slots = count or room + waiting
        self._waiting = None if count else waiting
        self._counted_at = time.monotonic()
        text = json.dumps([entry.__module__, entry.__qualname__, dict(options), needs.memory_bytes], sort_keys=True)
        self.setup = RaySetup(entry, dict(options), needs.memory_bytes, hashlib.sha256(text.encode()).hexdigest())
        # Errors of the work itself come back as values: Ray tries again only what was lost.
        self._run = cluster.ray.remote(run).options(**needs.options, max_retries=retries, retry_exceptions=False)
        self._begin = cluster.ray.remote(begin)
        self._tasks: dict[Any, _Task] = {}
        self._news: Any = None
        self._heard: Any = None
        self._able_at = time.monotonic()

    @property
    def slots(self) -> int:
        now = time.monotonic()
        if self._waiting is not None and now - self._counted_at > _LOOK_S:
            # No fewer where a node was lost: what it had waits for another, and it may come back.
            self._counted_at = now
            room = sum(node.holds(self.needs) for node in self.cluster.nodes())
            self._slots = max(self._slots, room + self._waiting)
        return self._slots

    def check(self) -> list[str]:
        """Has each node make its work, all at the same time: what is amiss on one is known before anything is spent.

        Returns:
            The hosts of the nodes that will do jobs.

        Raises:
            NasError: A node cannot begin: it lacks this package, sees other data, measures on another machine, …
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        able = [node for node in self.cluster.nodes() if node.holds(self.needs)]
        refs = []
        for node in able:
            there = NodeAffinitySchedulingStrategy(node_id=node.identifier, soft=False)
            task = self._begin.options(**self.needs.options, scheduling_strategy=there)
            refs.append(task.remote(self.setup))
        for node, ref in zip(able, refs, strict=True):
            try:
                _refuse(self.cluster.ray.get(ref))
            except self.cluster.ray.exceptions.RayError as error:
                raise _cannot_begin(error, node) from None
        return [node.host for node in able]

    def submit(self, job: int, request: Request) -> None:
        assert len(self._tasks) < self._slots, "no more jobs at once than there are slots"
        ray = self.cluster.ray
        if self._news is None:
            self._news = ray.remote(News).options(num_cpus=0, max_restarts=-1).remote()
        ref = self._run.remote(self.setup, job, self.pack(request), self._news)
        self._tasks[ref] = _Task(job)

    def wait(self, progress: JobProgress) -> Done[Result] | Lost:
        assert self._tasks, "nothing is under way"
        while True:
            if self._heard is None:
                self._heard = self._news.new.remote()
            # Results first: of a job that ended nobody wants to hear how far it has come.
            refs = [*self._tasks, self._heard]
            ready, _ = self.cluster.ray.wait(refs, num_returns=1, timeout=self._patience())
            if ready and ready[0] in self._tasks:
                return self._ended(ready[0])
            if ready:
                self._tell(progress)
            else:
                self._look()
            overdue = self._overdue()
            if overdue is not None:
                return overdue

    def close(self) -> None:
        """Ends all tasks at once, also those that run; the cluster stays."""
        tasks, news = list(self._tasks), self._news
        self._tasks.clear()
        self._news = self._heard = None
        for ref in tasks:
            self._cancel(ref)
        if news is not None:
            with suppress(self.cluster.ray.exceptions.RayError):
                self.cluster.ray.kill(news)

    def _ended(self, ref: Any) -> Done[Result] | Lost:
        """What became of a task that Ray has done with."""
        task = self._tasks.pop(ref)
        ray = self.cluster.ray
        try:
            found = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise _cannot_begin(error) from None
        except ray.exceptions.RayError as error:
            return Lost(task.job, why_lost(error, ray.exceptions))
        if isinstance(found, Ready):
            _refuse(found)
        if found.bug:
            raise RuntimeError(f"a task of the Ray cluster met a bug:\n{found.bug}")
        reason = self.received(found.result)
        if reason is not None:
            return Lost(task.job, reason)
        return Done(task.job, found.result, found.peak_memory_bytes)

    def _tell(self, progress: JobProgress) -> None:
        """Hands on the news."""
        heard, self._heard = self._heard, None
        try:
            words = self.cluster.ray.get(heard)
        except self.cluster.ray.exceptions.RayError:  # the actor was lost with its node; Ray starts another
            time.sleep(_PAUSE_S)
            self._look()
            return
        tasks = {task.job: task for task in self._tasks.values()}
        for word in words:
            task = tasks.get(word.job)
            if task is None:
                continue
            if word.began or task.began is None:
                task.began = time.monotonic()
            progress(word.job, word.stage, word.share)

    def _patience(self) -> float:
        """How long to wait for the next word, in seconds."""
        if self.seconds is None:
            return _LOOK_S
        now = time.monotonic()
        left = [self.seconds - (now - task.began) for task in self._tasks.values() if task.began is not None]
        return min(_LOOK_S, max(0.01, min(left, default=_LOOK_S)))

    def _overdue(self) -> Lost | None:
        """Ends a job that takes too long, if one does."""
        if self.seconds is None:
            return None
        now = time.monotonic()
        late = [ref for ref, task in self._tasks.items() if task.began is not None and now - task.began > self.seconds]
        if not late:
            return None
        task = self._tasks.pop(late[0])
        self._cancel(late[0])
        words = f"{self.seconds / 60:g} minutes" if self.seconds >= 60 else f"{self.seconds:g} s"
        return Lost(task.job, Reason("time", f"took longer than {words}, and was ended"))

    def _cancel(self, ref: Any) -> None:
        with suppress(self.cluster.ray.exceptions.RayError, ValueError):
            self.cluster.ray.cancel(ref, force=True, recursive=False)

    def _look(self) -> None:
        """Looks whether there are nodes that can do the work: Ray itself would wait for them for ever.

        Raises:
            StudyError: There have been none for a while.
        """
        now = time.monotonic()
        if any(node.holds(self.needs) for node in self.cluster.nodes()):
            self._able_at = now
        elif now - self._able_at > _PATIENCE_S:
            raise StudyError(
                f"for {_PATIENCE_S:g} s no node of the Ray cluster has had what an evaluation needs ({self.needs})",
                "the same command goes on once there are nodes again",
            )


def why_lost(error: Exception, exceptions: Any) -> Reason:
    """Why Ray gave a task up, which may do better another time.

    Args:
        error: What it raises for the task.
        exceptions: The module ``ray.exceptions``.
    """
    if isinstance(error, exceptions.OutOfMemoryError):
        text = "Ray ended the evaluation, as the memory of its node ran out; fewer at once need less"
        return Reason("memory", text, transient=True)
    kinds = {
        exceptions.NodeDiedError: "its node was lost",
        exceptions.WorkerCrashedError: "its process died; memory may have run out",
        exceptions.LocalRayletDiedError: "its node was lost",
        exceptions.TaskCancelledError: "somebody cancelled it",
    }
    words = next((words for kind, words in kinds.items() if isinstance(error, kind)), one_line(error)[:300])
    return Reason("worker", f"Ray gave the evaluation up: {words}", transient=True)


def _refuse(ready: Ready) -> None:
    """Raises what keeps a node from its work."""
    if ready.error is not None:
        raise ready.error
    if ready.bug:
        raise RuntimeError(f"a node of the Ray cluster cannot begin:\n{ready.bug}")


def _cannot_begin(error: Exception, node: Node | None = None) -> Exception:
    """What to say of a task that Ray could not even begin, for want of what it imports most often."""
    text = str(error)
    where = f"node {node.host} of the Ray cluster" if node else "a node of the Ray cluster"
    if "ModuleNotFoundError" in text or "ImportError" in text or "AttributeError" in text:
        last = text.strip().splitlines()[-1].strip()[:200]
        return StudyError(f"{where} cannot run evaluations: {last}", "install the same nas-front[ray] on every node")
    if node is None:
        return RuntimeError(f"{where} met a bug:\n{text}")
    return StudyError(f"{where} cannot begin: {one_line(error)[:300]}", "")
