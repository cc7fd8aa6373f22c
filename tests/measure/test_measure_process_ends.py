"""The ends of a real measuring process: it dies, hangs, is interrupted or left alone, and another takes over."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx_models import tiny_artifact

from nas.errors import MeasureError
from nas.measure.clock import Policy
from nas.measure.latency import Reading
from nas.measure.process import MeasuringProcess, child_environment
from nas.measure.protocol import Describe, Measure, Outputs
from nas.target import Target

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
DESCRIBE = Describe(TARGET)
IMAGES = np.zeros((4, 4, 4, 1), np.uint8)
SHORT = Policy(warmup_ms=0, minimum_samples=6, minimum_ms=0, maximum_ms=1000)

pytestmark = [
    pytest.mark.usefixtures("own_lease"),
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="ends of processes are awaited by pidfd"),
]


class Deed:
    """Stands for a model's content; when the measuring process unpacks it, it runs a line of Python there."""

    def __init__(self, line: str) -> None:
        self.line = line

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return exec, (self.line,)


def doing(line: str) -> Measure:
    """A request that the measuring process comes to grief by."""
    return Measure(Deed(line), TARGET, IMAGES[:1], SHORT)  # type: ignore[arg-type]


def measure() -> Measure:
    return Measure(tiny_artifact(), TARGET, IMAGES[:1], SHORT)


def pid_of(process: MeasuringProcess) -> int:
    """The process's number, once it is up."""
    process.ask(DESCRIBE)
    assert process.pid is not None
    return process.pid


def ends(descriptor: int) -> bool:
    """Whether the process of a pidfd ends; waits for it."""
    return bool(select.select([descriptor], [], [], 60)[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import signal; signal.raise_signal(signal.SIGKILL)", r"the measuring process died \(SIGKILL\)"),
        ("import signal; signal.raise_signal(signal.SIGSEGV)", r"the measuring process died \(SIGSEGV\)"),
        ("import os; os._exit(7)", r"the measuring process died \(exit status 7\)"),
        (
            "import os, sys; print('first'); print('out of luck', file=sys.stderr, flush=True); os._exit(3)",
            r"the measuring process died \(exit status 3: out of luck\)",
        ),
        ("raise ValueError('no such thing')", r"exit status 1: ValueError: no such thing\)"),
    ],
)
def test_its_death_is_told_and_another_takes_over(process: MeasuringProcess, line: str, message: str) -> None:
    pid = pid_of(process)
    with pytest.raises(MeasureError, match=message) as caught:
        process.ask(doing(line))
    assert "the next measurement starts another" in caught.value.hint
    assert process.pid is None
    assert pid_of(process) != pid


def test_what_it_prints_does_not_reach_the_terminal(
    process: MeasuringProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    line = (
        "import os, sys; print('out', flush=True); print('err', file=sys.stderr); os.write(1, b'deeper'); os._exit(0)"
    )
    with pytest.raises(MeasureError, match="deeper"):
        process.ask(doing(line))
    assert capfd.readouterr() == ("", "")


def test_one_that_died_between_two_requests_is_replaced_unnoticed(process: MeasuringProcess) -> None:
    pid = pid_of(process)
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert ends(descriptor)
    os.close(descriptor)
    assert pid_of(process) != pid


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(IMAGES[:1], id="the request is taken, nothing comes back"),
        pytest.param(np.zeros((2**20, 4, 4, 1), np.uint8), id="16 MB are not taken from our hands"),
    ],
)
def test_one_that_hangs_is_replaced(process: MeasuringProcess, images: np.ndarray) -> None:
    pid = pid_of(process)
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)
    process.timeout_seconds = 0.2
    with pytest.raises(MeasureError, match=r"no answer within 0\.2 s and was ended"):
        process.ask(Outputs(tiny_artifact(), TARGET, images, 256))
    assert ends(descriptor)
    os.close(descriptor)
    process.timeout_seconds = 120
    assert isinstance(process.ask(measure()), Reading)


HALF_AN_ANSWER = """
import os, signal
from multiprocessing.connection import Connection

def send(self, data, *, write=os.write, stop=signal.raise_signal, number=signal.SIGSTOP):
    write(self._handle, data[:1])
    stop(number)

Connection._send = send
"""


def test_one_that_hangs_while_it_answers_is_replaced(process: MeasuringProcess) -> None:
    pid_of(process)
    process.timeout_seconds = 0.5
    with pytest.raises(MeasureError, match=r"no answer within 0\.5 s"):
        process.ask(doing(HALF_AN_ANSWER))
    assert process.pid is None


FORK = """
import os, signal
child = os.fork()
if child:
    with open({note!r}, "w") as note:
        note.write(str(child))
signal.pause()
"""


def test_what_it_started_ends_with_it(process: MeasuringProcess, tmp_path: Path) -> None:
    """A compiler that a runtime has at work must not go on for ever, nor keep us waiting: it has the connection too."""
    pid_of(process)
    note = tmp_path / "pid"
    os.mkfifo(note)
    grandchildren: list[int] = []

    def close() -> None:
        grandchildren.append(os.pidfd_open(int(note.read_text())))
        process.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(MeasureError, match="died"):
        process.ask(doing(FORK.format(note=str(note))))
    closer.join()
    assert ends(grandchildren[0])
    os.close(grandchildren[0])


# Is interrupted while it waits for a measuring process that hangs. In a process of its own: pytest's handler of faults
# gives signals a stack of their own, which is too small for the registers of a CPU with AMX.
INTERRUPTED = """
import os, signal
from nas.measure.process import MeasuringProcess
from nas.measure.protocol import Describe
from nas.target import Target

def interrupt(*_):
    raise KeyboardInterrupt

process = MeasuringProcess()
request = Describe(Target.parse("onnxruntime-cpu-1t-b1"))
process.ask(request)
pid = process.pid
descriptor = os.pidfd_open(pid)
os.kill(pid, signal.SIGSTOP)
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    process.ask(request)
except KeyboardInterrupt:
    import select
    ended = bool(select.select([descriptor], [], [], 30)[0])
    gone = process.pid is None
    process.ask(request)
    print(ended, gone, process.pid != pid)
    process.close()
"""


def test_an_interruption_ends_it(own_lease: None) -> None:
    """Ctrl-C while it is waited for: what it works on is of no use to anybody."""
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.split(), done.stderr) == (["True", "True", "True"], "")


# Says the number of its measuring process, and goes on when it is told to.
PARENT = """
import threading
from nas.measure.process import MeasuringProcess
from nas.measure.protocol import Describe
from nas.target import Target

process = MeasuringProcess()
request = Describe(Target.parse("onnxruntime-cpu-1t-b1"))
def first():
    process.ask(request)
    print(process.pid, flush=True)
if {in_thread}:
    thread = threading.Thread(target=first)
    thread.start()
    thread.join()
else:
    first()
input()
print("asking", flush=True)
process.ask(request)
"""


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("in_thread", [False, True])
def test_it_ends_with_the_process_that_asks(number: signal.Signals, hangs: bool, in_thread: bool) -> None:
    """Also while a model hangs in it, and whichever thread started it."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(in_thread=in_thread)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(1),
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent:
        pid = int(parent.stdout.readline())
        descriptor = os.pidfd_open(pid)
        if hangs:
            os.kill(pid, signal.SIGSTOP)
            parent.stdin.write("go\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "asking\n"
        parent.send_signal(number)
        assert ends(descriptor)
        os.close(descriptor)
    assert parent.returncode != 0


def test_it_outlives_the_thread_that_started_it(process: MeasuringProcess) -> None:
    """Linux ends a child with the thread that started it, if it wants to end with its parent at all."""
    process.close()
    pids: list[int] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: pids.append(pid_of(process)))
        thread.start()
        thread.join()
    assert len({*pids, pid_of(process)}) == 1


def test_closing_ends_it_and_a_request_starts_another(process: MeasuringProcess) -> None:
    descriptor = os.pidfd_open(pid := pid_of(process))
    process.close()
    process.close()  # nothing to end
    assert ends(descriptor)
    os.close(descriptor)
    assert process.pid is None
    assert pid_of(process) != pid
