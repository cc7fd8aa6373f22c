"""The machine-wide lease, with real processes: who waits for whom, and that a killed process frees everything.

The processes are told over a pipe what to do and say over another what they did. Nobody sleeps: that a process holds a
lock is seen by trying to take it, that one waits by what the kernel tells of its locks.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nas.errors import MeasureError
from nas.lease import Lease, lease, locks
from nas.lease.locks import ROOM, TURNSTILE, Locks

fcntl = pytest.importorskip("fcntl")

TRAINER = """
import sys
from nas.lease import working
quiet = working()
print("ready", flush=True)
for line in sys.stdin:  # one line, one batch, which ends with the next line
    with quiet:
        print("in", flush=True)
        sys.stdin.readline()
    print("out", flush=True)
"""
LOOPING_TRAINER = """
from nas.lease import working
quiet = working()
print("ready", flush=True)
while True:
    with quiet:
        sum(range(1000))
"""
MEASURER = """
import sys
from nas.lease import measuring
print("ready", flush=True)
sys.stdin.readline()
with measuring():
    print("in", flush=True)
    sys.stdin.readline()
print("out", flush=True)
"""


class Process:
    """A script in a process of its own, told and heard line by line."""

    def __init__(self, script: str, folder: Path) -> None:
        environment = os.environ | {lease.FOLDER_VARIABLE: str(folder), "PYTHONPATH": str(Path(__file__).parent.parent)}
        command = [sys.executable, "-c", script]
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def tell(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def hear(self) -> str:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, "the process has ended"
        return line.strip()

    def has_spoken(self) -> bool:
        return bool(select.select([self.popen.stdout], [], [], 0)[0])

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def close(self) -> None:
        self.kill()
        for stream in (self.popen.stdin, self.popen.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


Start = Callable[[str], Process]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lease"


@pytest.fixture
def machine(folder: Path) -> Lease:
    """This process's own view of the lease that the others use."""
    return Lease(folder)


@pytest.fixture
def run(folder: Path) -> Iterator[Start]:
    started: list[Process] = []

    def start(script: str) -> Process:
        started.append(Process(script, folder))
        return started[-1]

    yield start
    for process in started:
        process.close()


def held(folder: Path, name: str) -> bool:
    """Whether anybody holds one of the two locks."""
    with open(folder / name) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def until(condition: Callable[[], bool]) -> None:
    """Returns once it holds; the limit is for what would else hang."""
    given_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < given_up, "it never happened"
        os.sched_yield()


def until_held(folder: Path, name: str) -> None:
    until(lambda: (folder / name).exists() and held(folder, name))


def waits(process: Process) -> bool:
    """Whether the process comes to wait for a lock, rather than saying the next thing."""
    rows: list[list[str]] = []

    def decided() -> bool:
        # "1: -> FLOCK ADVISORY READ 2215 08:02:1837 0 EOF" is a process that waits.
        blocked = [row for line in Path("/proc/locks").read_text().splitlines() if (row := line.split())[1] == "->"]
        rows[:] = [row for row in blocked if row[5] == str(process.popen.pid)]
        return bool(rows) or process.has_spoken()

    until(decided)
    return bool(rows)


# --- training makes way ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["release", "kill"])
def test_a_trainer_pauses_for_the_window_and_goes_on_by_itself(run: Start, folder: Path, end: str) -> None:
    trainer, measurer = run(TRAINER), run(MEASURER)
    assert trainer.hear() == measurer.hear() == "ready"
    trainer.tell()
    assert trainer.hear() == "in"

    measurer.tell()
    until_held(folder, TURNSTILE)  # it waits for the batch that has begun
    trainer.tell()
    assert trainer.hear() == "out"
    assert measurer.hear() == "in"

    trainer.tell()  # the next batch
    assert waits(trainer)
    if end == "kill":
        measurer.popen.send_signal(signal.SIGKILL)
        assert measurer.popen.wait() == -signal.SIGKILL
    else:
        measurer.tell()
        assert measurer.hear() == "out"
    assert trainer.hear() == "in"
    trainer.tell()
    assert trainer.hear() == "out"


def test_a_killed_trainer_lets_the_measurer_in(run: Start, folder: Path) -> None:
    trainer, measurer = run(TRAINER), run(MEASURER)
    assert trainer.hear() == measurer.hear() == "ready"
    trainer.tell()
    assert trainer.hear() == "in"
    measurer.tell()
    until_held(folder, TURNSTILE)
    trainer.kill()
    assert measurer.hear() == "in"


def test_a_measurer_that_is_killed_while_it_waits_shuts_nobody_out(run: Start, folder: Path) -> None:
    trainer, measurer = run(TRAINER), run(MEASURER)
    assert trainer.hear() == measurer.hear() == "ready"
    trainer.tell()
    assert trainer.hear() == "in"
    measurer.tell()
    until_held(folder, TURNSTILE)
    measurer.kill()
    trainer.tell()
    assert trainer.hear() == "out"
    trainer.tell()
    assert trainer.hear() == "in"


def test_whoever_measures_waits_for_batches_that_have_begun_and_not_for_new_ones(run: Start, folder: Path) -> None:
    first, second, measurer = run(TRAINER), run(TRAINER), run(MEASURER)
    assert first.hear() == second.hear() == measurer.hear() == "ready"
    first.tell()
    assert first.hear() == "in"
    measurer.tell()
    until_held(folder, TURNSTILE)
    second.tell()
    assert waits(second)
    first.tell()
    assert first.hear() == "out"
    assert measurer.hear() == "in"
    assert waits(second)


def test_a_measurer_is_not_starved_by_many_trainers(run: Start, machine: Lease) -> None:
    trainers = [run(LOOPING_TRAINER) for _ in range(3)]
    assert {trainer.hear() for trainer in trainers} == {"ready"}
    for _ in range(5):
        with machine.measuring(timeout_s=60):
            assert waits(trainers[0])
    assert all(trainer.popen.poll() is None for trainer in trainers)


def test_measurers_take_turns(run: Start, machine: Lease) -> None:
    first = run(MEASURER)
    assert first.hear() == "ready"
    with machine.measuring():
        assert held(machine.folder, TURNSTILE)
        first.tell()
        with pytest.raises(MeasureError, match="still measures"):
            Lease(machine.folder).measuring(timeout_s=0).__enter__()
        assert not first.has_spoken()
    assert first.hear() == "in"


def test_trainers_work_side_by_side(run: Start, machine: Lease) -> None:
    trainers = [run(TRAINER) for _ in range(2)]
    for trainer in trainers:
        assert trainer.hear() == "ready"
        trainer.tell()
        assert trainer.hear() == "in"
    with machine.working():
        pass


# --- time limit ------------------------------------------------------------------------------------------------------


def test_a_measurer_that_waits_too_long_for_a_trainer_says_for_whom(run: Start, machine: Lease) -> None:
    trainer = run(TRAINER)
    assert trainer.hear() == "ready"
    trainer.tell()
    assert trainer.hear() == "in"
    named = rf"process {trainer.popen.pid}" if Path("/proc/locks").exists() else "process"
    with pytest.raises(MeasureError, match=rf"waited 0\.01 s for the machine to be quiet, but .*{named} still trains"):
        machine.measuring(timeout_s=0.01).__enter__()
    trainer.tell()
    assert trainer.hear() == "out"  # and the turnstile is open again
    trainer.tell()
    assert trainer.hear() == "in"


@pytest.mark.parametrize("kernel_tells", [True, False])
def test_a_measurer_that_waits_too_long_for_another_says_for_whom(
    run: Start, machine: Lease, monkeypatch: pytest.MonkeyPatch, kernel_tells: bool
) -> None:
    other = run(MEASURER)
    assert other.hear() == "ready"
    other.tell()
    assert other.hear() == "in"
    if not kernel_tells:
        monkeypatch.setattr(locks, "_owners", lambda descriptor: [])
    pid = other.popen.pid
    with pytest.raises(MeasureError, match=rf"but process {pid} still measures \(.*kill {pid}\)"):
        machine.measuring(timeout_s=0).__enter__()


def test_several_trainers_are_all_named(machine: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_owners", lambda descriptor: [17, 18])
    other = Lease(machine.folder)
    with other.working(), pytest.raises(MeasureError, match=r"but processes 17, 18 still train \("):
        machine.measuring(timeout_s=0).__enter__()
    monkeypatch.setattr(locks, "_owners", lambda descriptor: [])
    with (
        other.working(),
        pytest.raises(MeasureError, match=r"but another process still trains \(wait for it, or end it;"),
    ):
        machine.measuring(timeout_s=0).__enter__()


# --- one inside the other --------------------------------------------------------------------------------------------


def test_working_inside_working_holds_until_the_outer_one_ends(machine: Lease) -> None:
    quiet = machine.working()
    with quiet:
        with quiet, machine.working():
            pass
        assert held(machine.folder, ROOM)
    assert not held(machine.folder, ROOM)


def test_working_inside_working_does_not_wait_for_a_measurer(run: Start, machine: Lease) -> None:
    """Else both would wait: the measurer for the outer one, the inner one for the measurer."""
    measurer = run(MEASURER)
    assert measurer.hear() == "ready"
    with machine.working():
        measurer.tell()
        until_held(machine.folder, TURNSTILE)
        with machine.working():
            pass
    assert measurer.hear() == "in"


def test_measuring_inside_measuring_holds_until_the_outer_one_ends(machine: Lease) -> None:
    with machine.measuring():
        with machine.measuring():
            pass
        assert held(machine.folder, ROOM)
    assert not held(machine.folder, ROOM)
    assert not held(machine.folder, TURNSTILE)


def test_measuring_inside_working_is_an_error_and_no_deadlock(machine: Lease) -> None:
    with machine.working(), pytest.raises(RuntimeError, match=r"measuring\(\) inside working\(\) of the same thread"):
        machine.measuring().__enter__()
    with machine.measuring():
        with pytest.raises(RuntimeError, match=r"working\(\) inside measuring\(\) of the same thread"):
            machine.working().__enter__()
        assert held(machine.folder, ROOM)
    with machine.working():  # the refused one left nothing behind
        pass


def test_what_an_exception_ends_is_released(machine: Lease) -> None:
    with pytest.raises(ValueError, match="work"), machine.working():
        raise ValueError("work")
    assert not held(machine.folder, ROOM)
    with pytest.raises(ValueError, match="time"), machine.measuring():
        raise ValueError("time")
    assert not held(machine.folder, ROOM)
    assert not held(machine.folder, TURNSTILE)


# --- threads and forks -----------------------------------------------------------------------------------------------


def test_threads_of_one_process_count_like_processes(machine: Lease) -> None:
    measures, goes_on = threading.Event(), threading.Event()

    def measure() -> None:
        with machine.measuring():
            measures.set()
            goes_on.wait()

    def work() -> bool:
        with machine.working():
            return goes_on.is_set()

    with ThreadPoolExecutor(4) as pool:
        with machine.working():
            measured = pool.submit(measure)
            until_held(machine.folder, TURNSTILE)
            assert not measures.is_set()
        measures.wait()
        working = [pool.submit(work) for _ in range(3)]
        assert not any(future.done() for future in working)
        goes_on.set()
        measured.result()
        assert all(future.result() for future in working)


def test_many_threads_keep_no_files_open(machine: Lease) -> None:
    def work() -> None:
        with machine.working():
            pass

    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(machine._open) == 0


def forked(work: Callable[[], object]) -> int:
    """Exit status of a forked child that does some work; 0 where it raised nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this process may have threads, of other tests
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("kind", ["working", "measuring"])
def test_a_forked_child_holds_nothing_and_releases_nothing(machine: Lease, kind: str) -> None:
    holding = getattr(machine, kind)()

    def leave() -> None:
        assert machine._mine().working == 0
        holding.__exit__(None, None, None)  # of a with-block that began in the parent

    with holding:
        assert forked(leave) == 0
        assert held(machine.folder, ROOM)
    assert not held(machine.folder, ROOM)


def test_a_child_that_outlives_its_parent_keeps_nobody_out(run: Start, machine: Lease) -> None:
    """A measurement's or a trainer's child (a loader of data) has its parent's files open until it forgets them."""
    parent = run("""
import os, signal, sys
from nas.lease import measuring
with measuring():
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b"here")
        signal.pause()
    os.read(told, 4)
    print(child, flush=True)
    sys.stdin.readline()
""")
    child = int(parent.hear())
    try:
        assert held(machine.folder, ROOM)
        parent.kill()
        with machine.measuring(timeout_s=0):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_takes_a_lease_of_its_own(machine: Lease) -> None:
    def work() -> None:
        with machine.working():
            assert held(machine.folder, ROOM)
        with machine.measuring(timeout_s=0):
            pass

    with machine.working():
        pass
    assert forked(work) == 0
    with machine.working():
        assert forked(lambda: machine.measuring(timeout_s=0).__enter__()) == 1  # the parent works


# --- a GPU's queue ---------------------------------------------------------------------------------------------------


def test_what_still_runs_is_ended_only_for_a_measurer(run: Start, machine: Lease) -> None:
    settled: list[bool] = []
    quiet = machine.working(settle=lambda: settled.append(held(machine.folder, ROOM)))
    with quiet:
        pass
    assert settled == []
    measurer = run(MEASURER)
    assert measurer.hear() == "ready"
    with quiet:
        measurer.tell()
        until_held(machine.folder, TURNSTILE)
        with quiet:
            pass
        assert settled == []
    assert settled == [True]  # before the measurer was let in
    assert measurer.hear() == "in"


def test_a_queue_that_fails_releases_all_the_same(machine: Lease) -> None:
    def fail() -> None:
        raise ValueError("device lost")

    assert machine.available() is None
    other = Locks(machine.folder)  # the measurer's side, by hand
    quiet = machine.working(settle=fail)
    with pytest.raises(ValueError, match="device lost"), quiet:
        fcntl.flock(other.turnstile, fcntl.LOCK_EX)
    other.release()
    assert not held(machine.folder, ROOM)


# --- the folder ------------------------------------------------------------------------------------------------------


def test_all_users_may_share_the_folder(machine: Lease) -> None:
    before = os.umask(0o077)
    try:
        assert machine.available() is None
    finally:
        os.umask(before)
    assert stat.S_IMODE(machine.folder.stat().st_mode) == 0o1777
    for name in (TURNSTILE, ROOM):
        assert stat.S_IMODE((machine.folder / name).stat().st_mode) == 0o666


def check_goes_on_without(machine: Lease, reason: str) -> None:
    """Nothing is excluded, nothing fails, and a warning says so once."""
    assert reason in str(machine.available())

    def use() -> None:
        with machine.working(), machine.working():
            pass
        with machine.measuring(), machine.measuring():
            pass
        with machine.working():
            pass

    with pytest.warns(RuntimeWarning, match=rf"may disturb each other: .*{reason}") as caught:
        use()
    assert len(caught) == 1


def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    check_goes_on_without(Lease(tmp_path / "folder"), "cannot be used: Not a directory")
    assert list((tmp_path / "real").iterdir()) == []
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "real" / ROOM).symlink_to(tmp_path / "victim")
    check_goes_on_without(Lease(tmp_path / "real"), "cannot be used: Too many levels of symbolic links")
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_pipe_in_place_of_a_file_is_refused(machine: Lease) -> None:
    machine.folder.mkdir()
    os.mkfifo(machine.folder / ROOM)
    check_goes_on_without(machine, "'room' in it is no plain file")


def test_a_folder_that_cannot_be_made_leaves_no_lease(tmp_path: Path) -> None:
    check_goes_on_without(Lease(tmp_path / "absent" / "lease"), "cannot be used: No such file or directory")


def test_without_kernel_locks_all_goes_on(machine: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_HAS_FLOCK", False)
    check_goes_on_without(machine, "this system has no flock")
    assert not machine.folder.exists()


def test_another_users_files_may_be_for_reading_only(machine: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.available() is None
    really_open = os.open

    def refuse_writing(path: str, flags: int, *arguments: int, **options: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return really_open(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse_writing)
    with machine.measuring():
        assert held(machine.folder, ROOM)
    assert (machine.folder / ROOM).read_text() == ""


def test_files_that_a_cleaner_of_tmp_deleted_are_opened_anew(machine: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_CHECK_EVERY", 2)
    with machine.working():
        pass
    for name in (TURNSTILE, ROOM):
        (machine.folder / name).unlink()
    machine.folder.rmdir()
    with Lease(machine.folder).measuring():
        pass
    for _ in range(2):
        with machine.working():
            seen = held(machine.folder, ROOM)
    assert seen


def test_the_folder_is_the_machines_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(lease.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(lease.tempfile, "gettempdir", lambda: "/the/machines")
    assert lease.default_folder() == Path("/the/machines") / "nas-front-lease"
    monkeypatch.setenv(lease.FOLDER_VARIABLE, str(tmp_path))
    assert lease.default_folder() == tmp_path
