"""Agents for tests: in this process, and in processes of their own."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from nas.measure.clock import Policy
from nas.measure.remote.agent import Options, Running
from nas.measure.remote.web import PROTOCOL_HEADER
from nas.measure.remote.wire import PROTOCOL
from nas.target import Target

TOKEN = "a-token-that-is-long-enough"
TARGET = Target.parse("onnxruntime-cpu-1t-b1")
SHORT = Policy(warmup_ms=0, minimum_samples=20, minimum_ms=0, maximum_ms=1000)
# Longer than any test lasts: whoever asks for it must end it.
LONG = Policy(warmup_ms=0, minimum_samples=20, minimum_ms=300_000, maximum_ms=300_000)
ROOT = Path(__file__).parents[3]


@contextmanager
def running(folder: Path, limit_mb: int = 8) -> Iterator[Running]:
    """An agent in a thread of this process."""
    agent = Running(Options(port=0, token=TOKEN, limit_mb=limit_mb), folder)
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        yield agent
    finally:
        agent.stop()
        thread.join()


@contextmanager
def started(
    *words: str,
    python: str = sys.executable,
    module: Sequence[str] = ("nas.measure.remote.agent",),
    variables: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An agent in a process of its own, and the line that it begins with; it is killed at the end."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NAS_TOKEN": TOKEN, **(variables or {})}
    process = subprocess.Popen(
        [python, "-m", *module, *words],
        cwd=cwd,
        env={name: value for name, value in environment.items() if value},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            raise AssertionError(process.communicate()[1])
        yield process, line
    finally:
        process.kill()
        process.communicate()


def url_in(line: str) -> str:
    """The address that an agent's line names."""
    return next(word for word in line.replace(";", " ").split() if word.startswith("http://"))


def request(
    agent: Running, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """One request as anybody may send it: status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", agent.address.port, timeout=30)
    given = {"Authorization": f"Bearer {TOKEN}", PROTOCOL_HEADER: str(PROTOCOL), **(headers or {})}
    try:
        connection.request(method, path, body, {name: value for name, value in given.items() if value})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
