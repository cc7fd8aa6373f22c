"""Workers in processes of their own: they do jobs at the same time, and one that dies costs its job alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nas.errors import RecipeError, StudyError
from nas.workers.executor import Done, Lost
from nas.workers.here import Here
from nas.workers.local import LocalWorkers
from nas.workers.worker import Setup

FOLDER = Path(__file__).parent


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")]))


@contextmanager
def workers(slots: int = 2, mood: str = "", memory: int | None = None, **options: Any) -> Iterator[LocalWorkers]:  # type: ignore[type-arg]
    made = LocalWorkers("odd_worker", Setup({"mood": mood}, memory), slots, **options)
    try:
        yield made
    finally:
        made.close()


def heard(_: int, stage: str, share: float) -> None:
    pass


def test_jobs_run_at_the_same_time_in_processes_of_their_own() -> None:
    with workers(2) as executor:
        for job in (1, 2):
            executor.submit(job, ("sleep", 0.3))
        first, second = executor.wait(heard), executor.wait(heard)
        assert isinstance(first, Done)
        assert isinstance(second, Done)
        assert {first.job, second.job} == {1, 2}
        processes = {first.result[1], second.result[1]}
        assert len(processes) == 2
        assert os.getpid() not in processes


def test_a_worker_stays_for_the_next_job_and_says_how_far_it_is() -> None:
    told: list[tuple[int, str, float]] = []
    with workers(1) as executor:
        executor.submit(1, ("square", 3))
        first = executor.wait(lambda *said: told.append(said))
        executor.submit(2, ("square", 4))
        second = executor.wait(lambda *said: told.append(said))
    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert (first.result[0], second.result[0]) == (9, 16)
    assert first.result[1] == second.result[1], "one process"
    assert told == [(1, "squaring", 0.5), (2, "squaring", 0.5)]


@pytest.mark.parametrize(
    ("what", "transient", "words"),
    [
        (("signal", "SIGKILL"), True, "SIGKILL"),
        (("signal", "SIGSEGV"), False, "SIGSEGV"),
        (("exit", 5), True, "exit status 5: I have had enough"),
    ],
)
def test_a_worker_that_dies_costs_its_job_alone(what: tuple[str, Any], transient: bool, words: str) -> None:
    with workers(2) as executor:
        executor.submit(1, what)
        executor.submit(2, ("square", 5))
        ended = {result.job: result for result in (executor.wait(heard), executor.wait(heard))}
        lost, done = ended[1], ended[2]
        assert isinstance(lost, Lost)
        assert lost.reason.kind == "worker"
        assert lost.reason.transient is transient
        assert words in lost.reason.message
        assert isinstance(done, Done)
        executor.submit(3, ("square", 6))
        again = executor.wait(heard)
        assert isinstance(again, Done)
        assert again.result[0] == 36


def test_a_job_that_takes_too_long_is_ended() -> None:
    with workers(1, seconds=0.5) as executor:
        executor.submit(1, ("sleep", 60))
        lost = executor.wait(heard)
        assert isinstance(lost, Lost)
        assert lost.reason.message == "took longer than 0.5 s, and was ended"
        assert not lost.reason.transient
        executor.submit(2, ("square", 2))
        assert isinstance(executor.wait(heard), Done)


def test_peak_memory_is_that_of_the_job() -> None:
    with workers(1) as executor:
        peaks = []
        for job, size in enumerate((1, 200 * 10**6, 1)):
            executor.submit(job, ("allocate", size))
            done = executor.wait(heard)
            assert isinstance(done, Done)
            assert done.peak_memory_bytes is not None
            peaks.append(done.peak_memory_bytes)
    assert peaks[1] > peaks[0] + 150 * 10**6
    if sys.platform == "linux":
        assert peaks[2] < peaks[1] - 100 * 10**6, "the peak is forgotten between jobs"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of private memory are Linux's")
def test_memory_is_limited() -> None:
    with workers(1, memory=400 * 10**6) as executor:
        executor.submit(1, ("allocate", 100 * 10**6))
        assert isinstance(executor.wait(heard), Done)
        executor.submit(2, ("allocate", 10**9))
        with pytest.raises(RuntimeError, match="MemoryError"):
            executor.wait(heard)


def test_what_cannot_begin_says_why() -> None:
    with workers(1, "refuses") as executor:
        executor.submit(1, ("square", 1))
        with pytest.raises(RecipeError, match="no such data"):
            executor.wait(heard)
    with workers(1, "breaks") as executor:
        executor.submit(1, ("square", 1))
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            executor.wait(heard)
    with workers(1, "dies") as executor:
        for job in (1, 2):
            executor.submit(job, ("square", 1))
            assert isinstance(executor.wait(heard), Lost)
        executor.submit(3, ("square", 1))
        with pytest.raises(StudyError, match="no room"):
            executor.wait(heard)


def test_closing_ends_what_runs() -> None:
    with workers(2) as executor:
        for job in (1, 2):
            executor.submit(job, ("sleep", 60))
        pids = [worker.process.pid for worker in executor.workers]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_workers_end_with_their_search() -> None:
    code = textwrap.dedent("""
        import os, time
        from nas.workers.local import LocalWorkers
        from nas.workers.worker import Setup
        executor = LocalWorkers("odd_worker", Setup({"mood": ""}), 1)
        executor.submit(1, ("square", 2))
        print(executor.wait(lambda *said: None).result[1], flush=True)
        executor.submit(2, ("sleep", 60))
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as search:
        assert search.stdout is not None
        worker = int(search.stdout.readline())
        search.send_signal(signal.SIGKILL)
        search.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        # A zombie whose new parent does not reap it has ended too.
        if Path(f"/proc/{worker}/stat").exists() and Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its search")


def test_here_does_a_job_while_it_is_waited_for() -> None:
    told: list[tuple[int, str, float]] = []

    def work(request: int, progress: Any) -> int:
        progress("adding", 1.0)
        return request + 1

    executor: Here[int, int] = Here(work)
    executor.submit(7, 1)
    done = executor.wait(lambda *said: told.append(said))
    assert (done.job, done.result) == (7, 2)
    assert told == [(7, "adding", 1.0)]
