"""The agent on a device: measures for whoever has its token.

    python -m nas.measure.remote.agent [--host 127.0.0.1] [--port 8765] [--token-file FILE] [--limit-mb 512]

numpy and ONNX Runtime are all that it needs beside this package's own files; where the whole package is installed,
``nas measure --serve`` is the same. It speaks plain HTTP: beyond a network that you trust, let ssh carry it
(``ssh -L 8765:localhost:8765 device``).
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import NasError, UnsupportedError
from nas.measure.environment import environment
from nas.measure.process import TIMEOUT_SECONDS
from nas.measure.remote.address import DEFAULT_HOST, DEFAULT_PORT, Address, read_token
from nas.measure.remote.answers import OFFERED, Answers
from nas.measure.remote.blobs import Blobs
from nas.measure.remote.jobs import Jobs
from nas.measure.remote.web import Agent, AgentServer

DEFAULT_LIMIT_MB = 512
# The folder holds so many times the largest file: those of a front, and the images.
KEPT = 4

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Options:
    """How an agent answers.

    Args:
        host: The interface that it listens on; ``0.0.0.0`` for all.
        port: 0 for any free one.
        token: What a caller must know; None to make one.
        limit_mb: Largest file, and most images at a time, in megabytes.
        timeout_seconds: Longest that a measurement may take without getting on.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    token: str | None = None
    limit_mb: int = DEFAULT_LIMIT_MB
    timeout_seconds: float = TIMEOUT_SECONDS


class Running:
    """An agent that listens; ``run`` answers until it is interrupted or ``stop`` is called from another thread.

    Args:
        options: How.
        folder: An empty folder of its own, for what it is sent.

    Raises:
        UnsupportedError: The address cannot be listened on.
    """

    def __init__(self, options: Options, folder: Path) -> None:
        self.token = options.token or secrets.token_urlsafe(24)
        limit = options.limit_mb * 10**6
        blobs = Blobs(folder, KEPT * limit)
        self.answers = Answers(blobs.read, options.timeout_seconds)
        self.jobs = Jobs(self.answers.answer, self.answers.close, blobs.release)
        agent = Agent(self.token, device(limit), blobs, self.jobs, limit)
        try:
            self.server = AgentServer(options.host, options.port, agent)
        except (OSError, OverflowError) as error:
            self.jobs.close()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UnsupportedError(
                f"the agent cannot listen on {options.host}, port {options.port}: {reason}",
                "name another one by --port, or 0 for any that is free",
            ) from None
        # What listens on every interface is reached by the machine's name.
        host = platform.node() if options.host in ("0.0.0.0", "::", "") else options.host
        self.address = Address("http", host, int(self.server.server_address[1]))

    def run(self) -> None:
        """Answers requests."""
        try:
            self.server.serve_forever(poll_interval=0.1)
        finally:
            self.jobs.close()
            self.answers.close()
            self.server.server_close()

    def stop(self) -> None:
        """Lets ``run`` return."""
        self.server.shutdown()


def device(limit_bytes: int) -> dict[str, Any]:
    """What is told of the device: its name, the machine, and what it offers."""
    return {
        "host": platform.node(),
        "machine": environment(),
        "runtimes": list(OFFERED),
        "blob_bytes": limit_bytes,
    }


def serve(options: Options, told: Callable[[str], None]) -> int:
    """Answers until Ctrl-C or SIGTERM, in an empty folder, which goes with it.

    Args:
        options: How.
        told: Is given the line that says where, and the token where it was made here.

    Returns:
        How many requests were answered.

    Raises:
        UnsupportedError: The address cannot be listened on.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    here = Path.cwd()
    # What it starts runs in the empty folder, and must find its packages all the same.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(str(here / path) for path in paths if path)
    with tempfile.TemporaryDirectory(prefix="nas-agent-", ignore_cleanup_errors=True) as folder:
        for name in ("received", "empty"):
            (Path(folder) / name).mkdir()
        running = Running(options, Path(folder) / "received")
        os.chdir(Path(folder) / "empty")
        try:
            made = "" if options.token else f"; token: {running.token}"
            open_to = "" if options.host in LOOPBACK else " (plain HTTP, for a network that you trust)"
            told(f"measuring for others at {running.address.url}{open_to}{made}")
            running.run()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is under way
        finally:
            os.chdir(here)
        return running.jobs.done


def main(words: Sequence[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m nas.measure.remote.agent",
        description="Measures ONNX files on this device for whoever has the token.",
        epilog="The token is the file's or NAS_TOKEN's; without either one is made and printed.",
    )
    parser.add_argument("--host", default=DEFAULT_HOST, help="interface to listen on; 0.0.0.0 for all (%(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 for any free one (%(default)s)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file that holds the token")
    parser.add_argument(
        "--limit-mb", type=int, default=DEFAULT_LIMIT_MB, metavar="MB", help="refuse larger files (%(default)s)"
    )
    given = parser.parse_args(words)
    if not 0 <= given.port <= 65535:
        parser.error(f"--port must be from 0 to 65535, but got {given.port}")
    if given.limit_mb < 1:
        parser.error(f"--limit-mb must be at least 1, but got {given.limit_mb}")
    try:
        options = Options(given.host, given.port, read_token(given.token_file), given.limit_mb)
        answered = serve(options, lambda line: print(line, flush=True))
    except NasError as error:
        print(f"error: {error.message}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    print(f"stopped; requests answered: {answered:,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
