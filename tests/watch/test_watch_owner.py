"""Who owns a study, told without touching the lock."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from fakes import make_record, write_study

from nas.study import LOCK_FILE, StudyFolder
from nas.watch.owner import owner_of


def test_a_study_that_is_claimed_is_owned_by_this_process_and_then_by_nobody(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "s", [make_record(0)]).folder
    assert owner_of(folder.path / LOCK_FILE) is None, "there is no such file yet"
    with folder.claim():
        assert owner_of(folder.path / LOCK_FILE) == os.getpid()
    assert owner_of(folder.path / LOCK_FILE) is None, "the file stays, with this process's number in it"


def test_looking_holds_nobody_up(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "s", [make_record(0)]).folder
    with folder.claim():
        pass
    owner_of(folder.path / LOCK_FILE)
    with folder.claim():  # which would fail at once if a lock had been left
        before = (folder.path / LOCK_FILE).read_bytes()
        owner_of(folder.path / LOCK_FILE)
        assert (folder.path / LOCK_FILE).read_bytes() == before


def test_an_owner_that_was_killed_is_none(tmp_path: Path) -> None:
    lock = tmp_path / LOCK_FILE
    script = f"""
import fcntl, os, sys
file = open({str(lock)!r}, "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(str(os.getpid())); file.flush()
print("locked", flush=True); sys.stdin.read()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        assert owner_of(lock) == process.pid
        process.kill()
        process.wait()
        assert owner_of(lock) is None


def locks_of(path: Path, **changes: str) -> str:
    status = path.stat()
    row = {
        "kind": "FLOCK",
        "access": "WRITE",
        "pid": "77",
        "device": f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}",
    } | changes
    return f"1: {row['kind']} ADVISORY {row['access']} {row['pid']} {row['device']}:{status.st_ino} 0 EOF\n"


def test_only_an_exclusive_lock_on_this_very_file_counts(tmp_path: Path) -> None:
    lock, table = tmp_path / LOCK_FILE, tmp_path / "locks"
    lock.write_text("42")
    for changes, owner in (
        ({}, 77),
        ({"kind": "POSIX"}, None),
        ({"access": "READ"}, None),
        ({"device": "ff:ff"}, None),  # a file of that number on another disk
        ({"device": "ff:ff", "pid": "42"}, 42),  # a layered file system: the file names the same process
        ({"kind": "-> FLOCK"}, None),  # one that waits
    ):
        table.write_text(locks_of(lock, **changes))
        assert owner_of(lock, table) == owner, changes


def test_where_the_kernel_lists_no_locks_the_process_that_the_file_names_is_looked_for(tmp_path: Path) -> None:
    lock, nowhere = tmp_path / LOCK_FILE, tmp_path / "no such table"
    lock.write_text(str(os.getpid()))
    assert owner_of(lock, nowhere) == os.getpid()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    lock.write_text(str(ended.pid))
    assert owner_of(lock, nowhere) is None
    lock.write_text("")
    assert owner_of(lock, nowhere) is None


def test_a_shared_lock_of_somebody_who_looks_is_no_owner(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "s")
    write_study(folder.path, [make_record(0)])
    (folder.path / LOCK_FILE).touch()
    with open(folder.path / LOCK_FILE) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert owner_of(folder.path / LOCK_FILE) is None
