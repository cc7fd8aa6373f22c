"""The measuring process itself, a real one: it dies, hangs, is interrupted, and works again."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from onnx_models import make_model, tiny_artifact

from nas.errors import ArtifactError, MeasureError
from nas.lease import PATIENCE_S
from nas.measure import process as module
from nas.measure.clock import Policy
from nas.measure.latency import Reading
from nas.measure.process import MeasuringProcess, child_environment
from nas.measure.protocol import Describe, Measure, Outputs
from nas.target import Target, usable_cores

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
DESCRIBE = Describe(TARGET)
IMAGES = np.zeros((4, 4, 4, 1), np.uint8)
SHORT = Policy(warmup_ms=0, minimum_samples=6, minimum_ms=0, maximum_ms=1000)

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="ends of processes are awaited by pidfd")


@pytest.fixture(scope="module", autouse=True)
def own_lease(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever else runs on this machine is not waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_LEASE_FOLDER", str(tmp_path_factory.mktemp("lease") / "folder"))
        yield


@pytest.fixture(scope="module")
def shared() -> Iterator[MeasuringProcess]:
    process = MeasuringProcess()
    yield process
    process.close()


@pytest.fixture
def process(shared: MeasuringProcess) -> MeasuringProcess:
    """One that is up; what a test does to it must not trouble the next."""
    shared.timeout_seconds = 120
    return shared


class Deed:
    """Stands for a model's content; when the measuring process unpacks it, it runs a line of Python there."""

    def __init__(self, line: str) -> None:
        self.line = line

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return exec, (self.line,)


def doing(line: str) -> Measure:
    """A request that the measuring process comes to grief by."""
    return Measure(Deed(line), TARGET, IMAGES[:1], SHORT)  # type: ignore[arg-type]


def measure(content: bytes = b"", images: np.ndarray = IMAGES[:1], target: Target = TARGET) -> Measure:
    return Measure(content or tiny_artifact(), target, images, SHORT)


def pid_of(process: MeasuringProcess) -> int:
    """The process's number, once it is up."""
    process.ask(DESCRIBE)
    assert process.pid is not None
    return process.pid


def ends(descriptor: int) -> bool:
    """Whether the process of a pidfd ends; waits for it."""
    return bool(select.select([descriptor], [], [], 60)[0])


def test_a_latency_and_outputs_come_from_the_process(process: MeasuringProcess) -> None:
    reading = process.ask(measure())
    assert isinstance(reading, Reading)
    assert reading.samples_ms.min() > 0
    outputs = process.ask(Outputs(tiny_artifact(), TARGET, IMAGES, 3))
    np.testing.assert_allclose(outputs.sum(axis=1), np.ones(4), rtol=1e-6)
    assert process.pid not in (None, os.getpid())


def test_the_process_stays_up(process: MeasuringProcess) -> None:
    pid = pid_of(process)
    process.ask(measure())
    assert pid_of(process) == pid


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


def test_waiting_for_others_is_not_counted_as_hanging(
    process: MeasuringProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    class Recording:
        """A queue that keeps how long its reader was ready to wait."""

        def __init__(self) -> None:
            self.queue: SimpleQueue[Any] = SimpleQueue()
            self.put = self.queue.put

        def get(self, timeout: float) -> Any:
            waited.append(timeout)
            return self.queue.get(timeout=timeout)

        __class_getitem__ = classmethod(lambda cls, _: cls)

    monkeypatch.setattr(module, "SimpleQueue", Recording)
    process.timeout_seconds = 100
    process.ask(Measure(tiny_artifact(), TARGET, IMAGES[:1], SHORT, overhead=False))
    assert waited == [100, PATIENCE_S + 60, 100]


def test_an_interruption_ends_it(process: MeasuringProcess) -> None:
    """Ctrl-C while it is waited for: what it works on is of no use to anybody."""
    pid = pid_of(process)
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            process.ask(measure())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ends(descriptor)
    os.close(descriptor)
    assert process.pid is None
    assert pid_of(process) != pid


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


def test_threads_are_answered_one_after_the_other(process: MeasuringProcess) -> None:
    outputs: dict[int, np.ndarray] = {}

    def ask(value: int) -> None:
        images = np.full((50, 4, 4, 1), value, np.uint8)
        outputs[value] = process.ask(Outputs(tiny_artifact(), TARGET, images, 7))

    threads = [threading.Thread(target=ask, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for value in range(6):
        expected = process.ask(Outputs(tiny_artifact(), TARGET, np.full((1, 4, 4, 1), value, np.uint8), 1))
        np.testing.assert_allclose(outputs[value], np.repeat(expected, 50, axis=0), rtol=1e-6)


def test_closing_ends_it_and_a_request_starts_another(process: MeasuringProcess) -> None:
    descriptor = os.pidfd_open(pid := pid_of(process))
    process.close()
    process.close()  # nothing to end
    assert ends(descriptor)
    os.close(descriptor)
    assert process.pid is None
    assert pid_of(process) != pid


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (measure(b"no model"), "ONNX Runtime cannot load the model"),
        (measure(images=IMAGES[:1].astype(np.float32)), "the model cannot be run: .*Unexpected input data type"),
        (measure(images=IMAGES[:1, :2]), "the model cannot be run: .*Got invalid dimensions"),
        (Outputs(tiny_artifact(), TARGET, IMAGES[:, :2], 3), "the model cannot be run: .*Got invalid dimensions"),
    ],
)
def test_what_is_wrong_with_a_model_is_told_and_the_process_stays(
    process: MeasuringProcess, request_: Measure | Outputs, message: str
) -> None:
    pid = pid_of(process)
    with pytest.raises(ArtifactError, match=message):
        process.ask(request_)
    assert pid_of(process) == pid


def test_a_bug_in_it_is_a_bug_here_and_shows_where(process: MeasuringProcess) -> None:
    policy: Any = "no policy"
    pid = pid_of(process)
    with pytest.raises(RuntimeError, match=r"(?s)met a bug:.*Traceback.*latency\.py.*AttributeError"):
        process.ask(Measure(tiny_artifact(), TARGET, IMAGES[:1], policy, overhead=False))
    assert pid_of(process) == pid


def test_a_request_that_cannot_be_sent_is_a_bug_here(process: MeasuringProcess) -> None:
    nonsense: Any = lambda: None  # noqa: E731
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        process.ask(Measure(nonsense, TARGET, IMAGES[:1], SHORT))
    process.ask(DESCRIBE)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system has no /proc")
def test_torch_is_not_loaded_for_another_runtime(process: MeasuringProcess) -> None:
    process.ask(measure())
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    assert "libtorch" not in maps


@pytest.mark.parametrize("threads", range(1, min(usable_cores(), 4) + 1))
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_and_batches_are_the_targets(threads: int, batch: int) -> None:
    target = Target("onnxruntime", "cpu", threads, batch)
    process = MeasuringProcess(threads)
    try:
        reading = process.ask(measure(images=IMAGES[:batch], target=target))
    finally:
        process.close()
    assert (reading.target, reading.threads) == (target, threads)
    assert len(reading.cores) == threads
    assert reading.quantity().detail["batch"] == batch


@pytest.mark.parametrize(("threads", "expected"), [(1, "1"), (4, "4"), (None, "9")])
def test_libraries_threads_are_the_targets(monkeypatch: pytest.MonkeyPatch, threads: int | None, expected: str) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "9")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    found = child_environment(threads)
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == expected
    assert found["OPENBLAS_NUM_THREADS"] == "1"
    assert found["PYTHONPATH"].split(os.pathsep)[1:] == ["/somewhere"]


def test_a_large_model_and_many_images_pass(process: MeasuringProcess) -> None:
    """Far more than the connection holds, both ways at once."""
    from onnx import helper

    weight = np.ones((16, 300_000), np.float32)  # 19 MB
    node = helper.make_node("MatMul", ["images", "weight"], ["probabilities"])
    content = make_model([node], {"weight": weight}, ["n", 16])
    outputs = process.ask(Outputs(content, TARGET, np.ones((20, 16), np.float32), 8))
    assert outputs.shape == (20, 300_000)
    assert outputs.min() == outputs.max() == 16
    many = process.ask(Outputs(tiny_artifact(), TARGET, np.zeros((10_000, 4, 4, 1), np.uint8), 256))
    assert many.shape == (10_000, 3)
