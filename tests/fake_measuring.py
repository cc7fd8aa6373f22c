"""A runtime, its sessions and a look at the machine whose every duration and disturbance a test decides."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nas.errors import ArtifactError
from nas.measure.clock import Clock, Timed
from nas.measure.quiet import Counters, Look, Surroundings
from nas.measure.runtimes.base import Missing, Session
from nas.target import Target

MS = 1_000_000


def milliseconds(*durations: float) -> Iterator[int]:
    """Durations in nanoseconds, the last one for ever."""
    steps = [round(duration * MS) for duration in durations]
    return itertools.chain(steps, itertools.repeat(steps[-1]))


class FakeSession:
    """A model whose calls take what its iterator of nanoseconds says; what happens to it goes to a log."""

    def __init__(
        self, name: str = "model", durations: Iterable[int] | None = None, threads: int | None = 1, log: Any = None
    ) -> None:
        self.name = name
        self.durations = iter(durations if durations is not None else milliseconds(1))
        self.threads = threads
        self.log: list[str] = log if log is not None else []

    def run(self, images: np.ndarray) -> np.ndarray:
        self.log.append(f"run {self.name}")
        return images.reshape(len(images), -1).astype(np.float32)

    def call(self, images: np.ndarray) -> Callable[[], object]:
        self.log.append(f"prepare {self.name}")
        return lambda: None

    def timed(self, call: Callable[[], object], clock: Clock) -> Timed:
        def timed() -> int:
            self.log.append(f"time {self.name}")
            return next(self.durations)

        return timed

    def close(self) -> None:
        self.log.append(f"close {self.name}")


@dataclass
class FakeRuntime:
    """Loads any content but ``b"broken"`` as a fake session of its name."""

    log: list[str] = field(default_factory=list)
    threads: int | None = 1
    absent: Missing | None = None

    def missing(self, target: Target) -> Missing | None:
        return self.absent

    def load(self, content: bytes, target: Target) -> Session:
        name = content.decode()
        self.log.append(f"load {name}")
        if name == "broken":
            raise ArtifactError("the model is broken", "mend it")
        return FakeSession(name, threads=self.threads, log=self.log)

    def environment(self, target: Target) -> dict[str, str]:
        return {"fake": "1.0"}

    def identity(self, images: np.ndarray) -> bytes:
        return b"identity"


class FakeWatch:
    """Sees around each window what it was told to, the last of it for ever."""

    def __init__(self, *surroundings: Surroundings) -> None:
        told = surroundings or (Surroundings(),)
        self.script = itertools.chain(told, itertools.repeat(told[-1]))
        self.looks = 0

    def look(self) -> Look:
        self.looks += 1
        counters = Counters(float(self.looks), 0.0, {})
        return Look(counters, 1.0, counters)

    def between(self, first: Look, second: Look) -> Surroundings:
        assert first.after.seconds + 1 == second.before.seconds, "a window lies between two looks that follow"
        return next(self.script)
