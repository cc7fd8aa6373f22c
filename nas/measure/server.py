"""The measuring process: it alone loads runtimes, so that nothing else of ours runs where time is taken.

    python -P -m nas.measure.server DESCRIPTOR

Requests come and answers go through the inherited connection of that number. It ends when the other end does. A
measurement holds the machine's lease (``nas.lease``), which the kernel takes back from a process that dies.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
import traceback
from collections import OrderedDict
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from nas.errors import ArtifactError, NasError
from nas.lease import measuring
from nas.measure.clock import sample_timed
from nas.measure.latency import Reading, cores_for, pinned, read_latency
from nas.measure.protocol import Answer, Describe, Interleave, Measure, Outputs, Request, Turns
from nas.measure.quiet import Watch
from nas.measure.runtimes.base import Missing, Runtime, Session
from nas.measure.runtimes.registry import load_runtime
from nas.target import Target

# Models kept loaded: one is measured, then scored.
KEPT_SESSIONS = 2


class _Unsupported(Exception):
    def __init__(self, missing: Missing) -> None:
        self.missing = missing


class Server:
    """Answers requests, one after the other."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.usable = self.watch.usable
        self.runtimes: dict[str, Runtime] = {}
        self.sessions: OrderedDict[tuple[str, str], Session] = OrderedDict()
        self.overheads: dict[tuple[str, str, tuple[int, ...]], float] = {}

    def answer(self, request: Request) -> Answer:
        """Answers one request; what is wrong with it is an answer too."""
        try:
            return Answer(self._value(request))
        except _Unsupported as unsupported:
            return Answer(missing=unsupported.missing)
        except NasError as error:
            return Answer(error=str(error))
        except MemoryError:
            return Answer(error="there is not enough memory to measure the model")
        except Exception:
            return Answer(bug=traceback.format_exc())

    def _value(self, request: Request) -> Any:
        runtime = self._runtime(request.target)
        match request:
            case Describe():
                return runtime.environment(request.target)
            case Measure():
                return self._measure(runtime, request)
            case Outputs():
                session = self._session(runtime, request.content, request.target)
                parts = range(0, len(request.images), request.batch)
                return np.concatenate([session.run(request.images[i : i + request.batch]) for i in parts])
            case Interleave():
                return self._interleave(runtime, request)

    def _runtime(self, target: Target) -> Runtime:
        runtime = self.runtimes.get(target.runtime)
        if runtime is None:
            runtime = self.runtimes[target.runtime] = load_runtime(target.runtime)
        if (missing := runtime.missing(target)) is not None:
            raise _Unsupported(missing)
        return runtime

    def _session(self, runtime: Runtime, content: bytes, target: Target) -> Session:
        key = (hashlib.sha256(content).hexdigest(), target.name)
        if key in self.sessions:
            self.sessions.move_to_end(key)
            return self.sessions[key]
        while len(self.sessions) >= KEPT_SESSIONS:
            self.sessions.popitem(last=False)[1].close()
        self.sessions[key] = session = self._load(runtime, content, target)
        return session

    def _load(self, runtime: Runtime, content: bytes, target: Target) -> Session:
        session = runtime.load(content, target)
        if target.threads is not None and session.threads != target.threads:
            said = session.threads
            session.close()
            raise ArtifactError(f"{target.kind.title} runs with {said} threads where {target.threads} were asked for")
        return session

    def _measure(self, runtime: Runtime, request: Measure) -> Reading:
        target = request.target
        session = self._session(runtime, request.content, target)
        cores = cores_for(target.threads, self.usable)
        with measuring(), pinned(cores):
            overhead = self._overhead(runtime, request) if request.overhead else None
            reading = read_latency(session, target, request.images, request.policy, self.watch)
        return replace(reading, cores=cores, overhead_ms=overhead)

    def _overhead(self, runtime: Runtime, request: Measure) -> float:
        """Median of a model that computes nothing, which is measured once in the life of this process."""
        images, target = request.images, request.target
        key = (target.name, str(images.dtype), images.shape)
        if key not in self.overheads:
            session = self._load(runtime, runtime.identity(images), target)
            short = replace(request.policy, minimum_ms=min(50.0, request.policy.minimum_ms))
            self.overheads[key] = read_latency(session, target, images, short, self.watch).window.summary.median_ms
            session.close()
        return self.overheads[key]

    def _interleave(self, runtime: Runtime, request: Interleave) -> Turns:
        target = request.target
        sessions = [self._load(runtime, content, target) for content in request.contents]
        try:
            with measuring(), pinned(cores_for(target.threads, self.usable)):
                timed = [s.timed(s.call(request.images), time.perf_counter_ns) for s in sessions]
                samples: list[list[np.ndarray]] = [[] for _ in sessions]
                troubles = []
                before = self.watch.look()
                for _ in range(request.rounds):
                    for call, taken in zip(timed, samples, strict=True):
                        taken.append(sample_timed(call, request.turn))
                    after = self.watch.look()
                    troubles.append(self.watch.between(before, after).troubles)
                    before = after
        finally:
            for session in sessions:
                session.close()
        return Turns(tuple(tuple(taken) for taken in samples), tuple(troubles))


def _end_with_parent() -> None:
    """Asks Linux to end this process when the one that started it ends, also while a model hangs in it."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    set_parent_death_signal = 1  # PR_SET_PDEATHSIG, see prctl(2)
    try:
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    except (OSError, AttributeError):  # a C library without it: the connection's end is noticed all the same
        return


def main(descriptor: int) -> None:
    """Answers requests until the other end is closed."""
    _end_with_parent()
    connection = Connection(descriptor)
    server = Server()
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(server.answer(request))


if __name__ == "__main__":
    main(int(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # runtimes' threads may hang at the interpreter's end
