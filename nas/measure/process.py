"""The measuring process as seen from outside: asked, waited for, and replaced when it hangs or dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from queue import Empty, SimpleQueue
from typing import IO, Any

from nas.errors import MeasureError
from nas.measure.protocol import Alive, Answer, Request
from nas.workers.process import how_it_ended, last_line, start_module, with_our_package

TIMEOUT_SECONDS = 120.0

SERVER = "nas.measure.server"

_DEATH_HINT = "the next measurement starts another; SIGKILL often means that memory ran out"

# What arrives from the other end, or why nothing does.
_Reply = Alive | Answer | BaseException


class MeasuringProcess:
    """A process that measures; it starts at the first request, and a new one does after a failure.

    Threads may share it: their requests are answered one after the other.

    Args:
        threads: Threads that its libraries may start; the target's.
        timeout_seconds: Longest that a request may take without getting on. Waiting until others have finished
            training or measuring on this machine does not count.
    """

    def __init__(self, threads: int | None = 1, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.threads = threads
        self.timeout_seconds = timeout_seconds
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._exchange: threading.Thread | None = None
        self._errors: IO[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process; None before the first request and after a failure."""
        return None if self._process is None else self._process.pid

    def ask(self, request: Request) -> Any:
        """Sends a request and waits for its answer.

        Raises:
            UnsupportedError: The target cannot be measured here.
            ArtifactError: The model does not load or run, or does not take the images.
            MeasureError: The process died or did not get on in time, and the next request starts another; or others
                used the machine for longer than anybody waits.
        """
        with self._one_at_a_time:
            try:
                answer = self._answer(request)
            except (EOFError, OSError):
                raise MeasureError(f"the measuring process died ({self._post_mortem()})", _DEATH_HINT) from None
            except BaseException:  # too late, or interrupted: what it works on is of no use to anybody
                self._end()
                raise
        if answer.error is not None:
            raise answer.error
        if answer.bug:
            raise RuntimeError(f"the measuring process met a bug:\n{answer.bug}")
        return answer.value

    def close(self) -> None:
        """Ends the process."""
        self._end()

    def _answer(self, request: Request) -> Answer:
        """Sends and receives in a thread: a process that is stopped takes nothing, and both would block for ever."""
        connection = self._started()
        message = ForkingPickler.dumps(request)
        replies: SimpleQueue[_Reply] = SimpleQueue()
        exchange = threading.Thread(target=_exchange, args=(connection, message, replies), daemon=True)
        exchange.start()
        self._exchange = exchange  # not before it runs: whoever closes meanwhile waits for its end
        limit = self.timeout_seconds
        while True:
            try:
                reply = replies.get(timeout=limit)
            except Empty:
                raise MeasureError(
                    f"the measuring process gave no answer within {limit:g} s and was ended",
                    "the model may hang in the runtime, or the machine be very slow",
                ) from None
            if isinstance(reply, BaseException):
                raise reply
            if isinstance(reply, Answer):
                self._exchange.join()
                return reply
            limit = self.timeout_seconds if reply.patience_seconds is None else reply.patience_seconds

    def _started(self) -> Connection[Any, Any]:
        if self._process is not None and self._process.poll() is not None:
            self._end()  # it died between two requests
        if self._connection is None:
            ours, theirs = Pipe()
            self._errors = tempfile.TemporaryFile(prefix="nas-measure-")  # noqa: SIM115  closed with the process
            try:
                self._process = start_module(SERVER, theirs.fileno(), self._errors, child_environment(self.threads))
            except BaseException:
                ours.close()
                self._errors.close()
                raise
            finally:
                theirs.close()
            self._connection = ours
        return self._connection

    def _end(self) -> int | None:
        """Kills the process, if any, with all that it started, and gives its exit status."""
        process, connection, exchange, errors = self._process, self._connection, self._exchange, self._errors
        self._process = self._connection = self._exchange = self._errors = None
        status = None
        if process is not None:
            if process.returncode is None:  # so its number is still its own; it leads a group
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            status = process.wait()
        if connection is not None:
            _hang_up(connection)
            if exchange is not None:
                exchange.join()
            connection.close()
        if errors is not None:
            errors.close()
        return status

    def _post_mortem(self) -> str:
        """Why the process died: a signal or exit status, and the last line that it wrote."""
        process, errors = self._process, self._errors
        if process is not None:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        said = last_line(errors) if errors is not None else ""
        how = how_it_ended(self._end())
        return f"{how}: {said}" if said else how


def child_environment(threads: int | None) -> dict[str, str]:
    """Environment variables of a process that measures: our package, and libraries' threads as the target says.

    numpy's own threads stay at one: they would spin on the core that is measured on.
    """
    count = {} if threads is None else {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return with_our_package(os.environ) | {"OPENBLAS_NUM_THREADS": "1"} | count


def _exchange(connection: Connection[Any, Any], message: memoryview, replies: SimpleQueue[_Reply]) -> None:
    """Sends a request and hands on what comes, up to the answer or the end of the connection."""
    try:
        connection.send_bytes(message)
        reply: Any = None
        while not isinstance(reply, Answer):
            reply = connection.recv()
            replies.put(reply)
    except BaseException as error:
        replies.put(error)


def _hang_up(connection: Connection[Any, Any]) -> None:
    """Wakes a thread that waits at our end, also where something that the process started still has the other."""
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)
