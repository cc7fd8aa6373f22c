"""The measuring process as seen from outside: asked, waited for, and replaced when it hangs or dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from nas.errors import ArtifactError, MeasureError, UnsupportedError
from nas.measure.protocol import Answer, Request

TIMEOUT_SECONDS = 120.0

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class MeasuringProcess:
    """A process that measures; it starts at the first request, and a new one does after a failure.

    Args:
        threads: Threads that its libraries may start; the target's.
        timeout_seconds: Longest that one request may take.
    """

    def __init__(self, threads: int | None = 1, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.threads = threads
        self.timeout_seconds = timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
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
            MeasureError: The process died or did not answer in time; the next request starts another.
        """
        connection = self._started()
        try:
            connection.send(request)
            if not connection.poll(self.timeout_seconds):
                raise TimeoutError
            answer = connection.recv()
        except TimeoutError:
            self._end()
            raise MeasureError(
                f"the measuring process gave no answer within {self.timeout_seconds:g} s and was ended",
                "the model may hang in the runtime, or the machine be very slow",
            ) from None
        except (EOFError, OSError):
            raise MeasureError(f"the measuring process died ({self._post_mortem()})") from None
        except BaseException:  # an interruption: what it works on is of no use to anybody
            self._end()
            raise
        return _value(answer)

    def close(self) -> None:
        """Ends the process."""
        self._end()

    def _started(self) -> Connection[Any, Any]:
        if self._process is not None and self._process.poll() is not None:
            self._end()  # it died between two requests
        if self._connection is None:
            ours, theirs = Pipe()
            self._errors = tempfile.TemporaryFile(prefix="nas-measure-")  # noqa: SIM115  closed with the process
            # -P keeps the caller's folder off the module path, where a file could pass for a package.
            command = [sys.executable, "-P", "-m", "nas.measure.server", str(theirs.fileno())]
            # A session of its own: Ctrl-C in the terminal is for the search, which then ends this process itself.
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                env=child_environment(self.threads),
                start_new_session=True,
            )
            theirs.close()
            self._connection = ours
        return self._connection

    def _end(self) -> int | None:
        """Kills the process, if any, and gives its exit status."""
        status = None
        if self._process is not None:
            self._process.kill()
            status = self._process.wait()
        if self._connection is not None:
            self._connection.close()
        if self._errors is not None:
            self._errors.close()
        self._process = self._connection = self._errors = None
        return status

    def _post_mortem(self) -> str:
        """Why the process died: a signal or exit status, and the last line that it wrote."""
        said = b""
        process, errors = self._process, self._errors
        if process is not None:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        if errors is not None:
            errors.seek(0, os.SEEK_END)
            errors.seek(max(0, errors.tell() - 4000))
            said = errors.read()
        status = self._end()
        how = f"exit status {status}"
        if status is not None and status < 0:
            try:
                how = signal.Signals(-status).name
            except ValueError:
                how = f"signal {-status}"
        lines = said.decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1].strip()[:300]}" if lines else how


def child_environment(threads: int | None) -> dict[str, str]:
    """Environment variables of a process that measures: our package, and libraries' threads as the target says.

    numpy's own threads stay at one: they would spin on the core that is measured on.
    """
    path = os.pathsep.join(filter(None, [str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]))
    count = {} if threads is None else {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"} | count


def _value(answer: Answer) -> Any:
    if answer.missing is not None:
        raise UnsupportedError(answer.missing.message, answer.missing.hint)
    if answer.error:
        raise ArtifactError(answer.error)
    if answer.bug:
        raise RuntimeError(f"the measuring process met a bug:\n{answer.bug}")
    return answer.value
