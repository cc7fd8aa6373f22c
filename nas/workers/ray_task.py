"""What runs on a node of a Ray cluster: a job, by work that its process made once; and the actor that hears of it.

A worker process of Ray lasts for many jobs. It makes its work (data loaded, networks' libraries imported) for the first
and keeps it for as long as the setup is the same.
"""

from __future__ import annotations

import asyncio
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nas.errors import NasError, StudyError
from nas.workers.memory import limit_memory, peak_memory, start_peak
from nas.workers.worker import Finished, Make, Ready, cannot_begin

# How far the same stage has come is told so often at most, in seconds: each word is a message through the cluster.
_OFTEN = 0.25


@dataclass(frozen=True)
class RaySetup:
    """What a process of a cluster makes its work by.

    Args:
        entry: Makes it: a function of a module, which every node imports by its name.
        options: By name, for that function.
        memory_bytes: Most private memory of the process; None for no limit.
        digest: Of all this: a process makes its work anew where it differs.
    """

    entry: Make
    options: Mapping[str, Any]
    memory_bytes: int | None
    digest: str


@dataclass(frozen=True)
class Word:
    """How far a job has come on its node; with ``began`` it has just begun there, perhaps once more."""

    job: int
    stage: str
    share: float
    began: bool = False


class News:
    """The actor that jobs tell how far they have come, and that the search asks what is new. Of each job it keeps the
    latest word, and that it began.
    """

    def __init__(self) -> None:
        self._latest: dict[int, Word] = {}
        self._began: set[int] = set()
        self._some = asyncio.Event()

    async def tell(self, word: Word) -> None:
        if word.began:
            self._began.add(word.job)
        self._latest[word.job] = word
        self._some.set()

    async def new(self) -> list[Word]:
        """Waits until there is news, and gives it."""
        await self._some.wait()
        self._some.clear()
        words = [Word(w.job, w.stage, w.share, w.job in self._began) for w in self._latest.values()]
        self._latest.clear()
        self._began.clear()
        return words


class _Teller:
    """Tells the actor how far a job has come, but not too often. Nothing waits for it, and it may be gone."""

    def __init__(self, job: int, news: Any) -> None:
        self.job = job
        self.actor = news
        self.stage: str | None = None
        self.last = 0.0

    def __call__(self, stage: str, share: float) -> None:
        now = time.monotonic()
        if stage != self.stage or now - self.last >= _OFTEN:
            began, self.stage, self.last = self.stage is None, stage, now
            self.actor.tell.options(num_returns=0).remote(Word(self.job, stage, share, began))


_made: tuple[str, Callable[[Any, Callable[[str, float], None]], Any]] | None = None


def _make(setup: RaySetup) -> Callable[[Any, Callable[[str, float], None]], Any]:
    """The process's work, made where it is not there yet."""
    global _made
    if _made is not None and _made[0] == setup.digest:
        return _made[1]
    _made = None  # frees what the former one loaded
    if setup.memory_bytes is not None:
        limit_memory(setup.memory_bytes)
    work = setup.entry(**setup.options)
    _made = setup.digest, work
    return work


def begin(setup: RaySetup) -> Ready:
    """Makes the process's work, so that what is amiss on a node is known before anything is spent."""
    try:
        _make(setup)
    except NasError as error:
        return Ready(_on_this_node(error))
    except Exception as error:
        return cannot_begin(error, setup.memory_bytes)
    return Ready()


def run(setup: RaySetup, job: int, request: Any, news: Any) -> Ready | Finished:
    """Does a job. Whatever it raises is told, since Ray tries again what its process does not outlive, and that alone.

    Returns:
        What came of it; ``Ready`` with what is amiss where the work cannot be made.
    """
    teller = _Teller(job, news)
    teller("starting", 0.0)
    ready = begin(setup)
    if ready.error is not None or ready.bug:
        return ready
    start_peak()
    try:
        return Finished(_make(setup)(request, teller), peak_memory())
    except Exception:
        return Finished(None, peak_memory(), traceback.format_exc())


def _on_this_node(error: NasError) -> NasError:
    return StudyError(f"node {socket.gethostname()} of the Ray cluster: {error.message}", error.hint)
