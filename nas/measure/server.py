"""The measuring process: it alone loads runtimes, so that nothing else of ours runs where time is taken.

    python -P -m nas.measure.server DESCRIPTOR

Requests come and answers go through the inherited connection of that number. It ends when the other end does. A
measurement holds the machine's lease (``nas.lease``) while it samples, which the kernel takes back from a process that
dies; loading and compiling do not. What gets on, or waits for others, says so: the time limit is for what hangs.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from nas.errors import MeasureError, NasError, UnsupportedError
from nas.lease import PATIENCE_S, measuring, working
from nas.measure.clock import Policy, sample_timed
from nas.measure.latency import Reading, cores_for, pinned, read_latency
from nas.measure.pace import Pace
from nas.measure.protocol import Alive, Answer, Describe, Interleave, Measure, Outputs, Request, Turns
from nas.measure.quiet import Watch
from nas.measure.runtimes.base import Runtime, Session
from nas.measure.runtimes.registry import load_runtime
from nas.measure.window import MAXIMUM_WINDOWS, Watcher, Window
from nas.target import Target
from nas.workers.process import end_with_parent

# Models kept loaded: one is measured, then scored.
KEPT_SESSIONS = 2

# A model that computes nothing is sampled for so long, and to the end of the part that is under way.
OVERHEAD_MS = 50.0
# How often it is measured while every time was disturbed.
OVERHEAD_TRIES = 4

# After so many measurements in a row of which nothing was undisturbed, the machine is a busy one: windows are not taken
# again until some of one is undisturbed. A number is marked ``unstable`` all the same, and a front is timed in turns.
FUTILE = 4

# For so long the machine's best pace is looked for at first: where a core is shared, slow spells of some tens of
# milliseconds are common.
SETTLING_SECONDS = 0.2

# Others are waited for as long as the lease does; then it gives up by itself, and says more than the other end could.
_PATIENCE = Alive(PATIENCE_S + 60)

Tell = Callable[[Alive], None]


class Server:
    """Answers requests, one after the other.

    Args:
        tell: Takes what is said before an answer.
        watch: Looks at the machine.
        settle: Called once before anything is timed, on the cores that it will be timed on and with the machine to
            itself.
    """

    def __init__(
        self, tell: Tell = lambda _: None, watch: Watch | None = None, settle: Callable[[], None] = lambda: None
    ) -> None:
        self.tell = tell
        self.settle = settle
        self.settled = False
        watch = watch or Watch()
        self.watch: Watcher = watch
        self.usable = watch.usable
        self.runtimes: dict[str, Runtime] = {}
        self.sessions: OrderedDict[tuple[str, str], Session] = OrderedDict()
        self.overheads: dict[tuple[str, str, tuple[int, ...]], list[Window]] = {}
        self.disturbed = 0

    def answer(self, request: Request) -> Answer:
        """Answers one request; what is wrong with it is an answer too."""
        try:
            return Answer(self._value(request))
        except NasError as error:
            return Answer(error=error)
        except MemoryError:
            return Answer(error=MeasureError("there is not enough memory to measure the model"))
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
                return self._outputs(runtime, request)
            case Interleave():
                return self._interleave(runtime, request)

    def _runtime(self, target: Target) -> Runtime:
        runtime = self.runtimes.get(target.runtime)
        if runtime is None:
            runtime = self.runtimes[target.runtime] = load_runtime(target.runtime)
        if (missing := runtime.missing(target)) is not None:
            raise UnsupportedError(missing.message, missing.hint)
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
            raise UnsupportedError(f"{target.kind.title} runs with {said} threads where '{target.name}' was asked for")
        return session

    def _measure(self, runtime: Runtime, request: Measure) -> Reading:
        session = self._session(runtime, request.content, request.target)
        self.tell(Alive())
        overhead = self._overhead(runtime, request) if request.overhead else None
        reading = self._read(session, request, request.policy)
        return replace(reading, cores=self._cores(request.target), overhead_ms=overhead)

    def _read(self, session: Session, request: Measure, policy: Policy) -> Reading:
        alone = self._alone(self._cores(request.target))
        most = MAXIMUM_WINDOWS if self.disturbed < FUTILE else 1
        reading = read_latency(
            session, request.target, request.images, policy, self.watch, alone=alone, most_windows=most
        )
        self.disturbed = 0 if reading.calm else self.disturbed + 1
        return reading

    def _overhead(self, runtime: Runtime, request: Measure) -> float:
        """Median of a model that computes nothing, which is measured once in the life of this process.

        Where that was disturbed it is measured again with the next requests, ``OVERHEAD_TRIES`` times in all, and the
        least counts: a disturbance only adds, and too large a value would take gains away from networks that have them.
        """
        images, target = request.images, request.target
        key = (target.name, str(images.dtype), images.shape)
        taken = self.overheads.setdefault(key, [])
        if not taken or (len(taken) < OVERHEAD_TRIES and all(window.troubles for window in taken)):
            session = self._load(runtime, runtime.identity(images), target)
            try:
                short = replace(request.policy, minimum_ms=min(OVERHEAD_MS, request.policy.minimum_ms))
                taken.append(self._read(session, request, short).window)
            finally:
                session.close()
        return min(window.summary.median_ms for window in taken)

    def _outputs(self, runtime: Runtime, request: Outputs) -> np.ndarray:
        """Scoring is work as training is: it waits while another process measures."""
        session = self._session(runtime, request.content, request.target)
        parts = []
        for start in range(0, len(request.images), request.batch):
            with self._waited_for(working()):
                parts.append(session.run(request.images[start : start + request.batch]))
        return np.concatenate(parts)

    def _interleave(self, runtime: Runtime, request: Interleave) -> Turns:
        target = request.target
        sessions: list[Session] = []
        try:
            for content in request.contents:
                sessions.append(self._load(runtime, content, target))
                self.tell(Alive())
            timed = [session.timed(session.call(request.images), time.perf_counter_ns) for session in sessions]
            samples: list[list[np.ndarray]] = [[] for _ in sessions]
            troubles = []
            with self._alone(self._cores(target)):
                before = self.watch.look()
                for _ in range(request.rounds):
                    for call, taken in zip(timed, samples, strict=True):
                        taken.append(sample_timed(call, request.turn))
                    after = self.watch.look()
                    troubles.append(self.watch.between(before, after).troubles)
                    before = after
                    self.tell(Alive())
        finally:
            for session in sessions:
                session.close()
        return Turns(tuple(tuple(taken) for taken in samples), tuple(troubles))

    def _cores(self, target: Target) -> tuple[int, ...]:
        return cores_for(target.threads, self.usable) if hasattr(os, "sched_setaffinity") else ()

    @contextmanager
    def _alone(self, cores: Collection[int]) -> Iterator[None]:
        """The machine for us, once others have finished, and this process on some of its cores."""
        with self._waited_for(measuring()), pinned(cores):
            if not self.settled:
                self.settled = True
                self.settle()
            yield

    @contextmanager
    def _waited_for(self, lease: AbstractContextManager[None]) -> Iterator[None]:
        """Holds a lease; waiting for others takes its own time, not the request's."""
        self.tell(_PATIENCE)
        with lease:
            self.tell(Alive())
            yield


def main(descriptor: int) -> None:
    """Answers requests until the other end is closed."""
    end_with_parent()
    os.set_inheritable(descriptor, False)  # a compiler that we start would keep it open
    connection: Connection[Any, Any] = Connection(descriptor)
    pace = Pace()
    server = Server(connection.send, Watch(pace), lambda: pace.settle(SETTLING_SECONDS))
    while True:
        try:
            connection.send(server.answer(connection.recv()))
        except (EOFError, OSError):
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # runtimes' threads may hang at the interpreter's end
