"""Requests that come while the network is busy are classified together; one that finds it idle starts at once.

No request ever waits for others to come: a batch is what gathered while the one before it ran, so that batches grow
with the load, and without load there are none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from nas.deploy.model import Run
from nas.errors import UnsupportedError

# So many images may wait; beyond it a request is told at once that the server is busy.
MOST_WAITING = 4096


class BusyError(UnsupportedError):
    """So many images wait already that one more request would only wait, too."""


class _Waiting(NamedTuple):
    """A request's images and where its answer goes."""

    images: np.ndarray
    answer: asyncio.Future[np.ndarray]


class Batcher:
    """Runs a network in a thread of its own, one call at a time. Belongs to one event loop.

    Args:
        run: Images as the model takes them → class probabilities, N×classes; any number of images, at least one.
        batch: So many images in one call at most; a single request with more is run in parts of so many.
        most_waiting: So many images may wait.
    """

    def __init__(self, run: Run, batch: int, most_waiting: int = MOST_WAITING) -> None:
        self.run = run
        self.batch = batch
        self.most_waiting = most_waiting
        self.answered = 0
        self._waiting: deque[_Waiting] = deque()
        self._count = 0
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def classify(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities of a request's images, N×classes.

        Raises:
            BusyError: Too many wait already.
            ArtifactError, MeasureError: The network cannot be run.
        """
        if self._count and self._count + len(images) > self.most_waiting:
            raise BusyError(f"{self._count:,} images are waiting already", "send fewer at a time")
        answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(images, answer))
        self._count += len(images)
        if not self._busy:
            self._start()
        return await answer

    def close(self) -> None:
        """Ends the thread after the call that it is in."""
        self._thread.shutdown(cancel_futures=True)

    def _start(self) -> None:
        """Takes what waits, as far as it fits into a batch, and hands it to the thread."""
        taken: list[_Waiting] = []
        count = 0
        while self._waiting and (not taken or count + len(self._waiting[0].images) <= self.batch):
            count += len(self._waiting[0].images)
            taken.append(self._waiting.popleft())
        self._count -= count
        self._busy = True
        loop = asyncio.get_running_loop()

        def work() -> None:
            try:
                result: list[np.ndarray] | BaseException = self._rows(taken)
            except BaseException as error:
                result = error
            loop.call_soon_threadsafe(self._finish, taken, result)

        self._thread.submit(work)

    def _rows(self, taken: list[_Waiting]) -> list[np.ndarray]:
        """Each request's probabilities; runs in the thread."""
        images = taken[0].images if len(taken) == 1 else np.concatenate([item.images for item in taken])
        parts = [self.run(images[start : start + self.batch]) for start in range(0, len(images), self.batch)]
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        ends = np.cumsum([len(item.images) for item in taken])
        return np.split(rows, ends[:-1])

    def _finish(self, taken: list[_Waiting], result: list[np.ndarray] | BaseException) -> None:
        """Answers, and starts on what came meanwhile."""
        self._busy = False
        if self._waiting:
            self._start()
        for index, item in enumerate(taken):
            if item.answer.done():  # whoever asked has gone
                continue
            if isinstance(result, BaseException):
                item.answer.set_exception(result)
            else:
                item.answer.set_result(result[index])
                self.answered += len(item.images)
