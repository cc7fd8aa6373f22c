"""The two kernel locks of a lease: opening their files, taking them, and who holds them."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from nas.errors import MeasureError

try:
    import fcntl
except ImportError:  # Windows
    _HAS_FLOCK = False
else:
    _HAS_FLOCK = True

TURNSTILE, ROOM = "turnstile", "room"

# A measurer looks again after so long: at first soon, for a batch may be short.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1e-4, 5e-3


class Locks:
    """The two lock files, opened: file descriptors, -1 once closed.

    Raises:
        OSError: One cannot be opened, is no plain file, or cannot be locked.
    """

    __slots__ = ("__weakref__", "room", "turnstile")

    def __init__(self, folder: Path) -> None:
        self.turnstile = self.room = -1
        if not _HAS_FLOCK:
            raise OSError("this system has no flock")
        directory = _open_folder(folder)
        try:
            self.turnstile = _open_file(TURNSTILE, directory)
            self.room = _open_file(ROOM, directory)
            fcntl.flock(self.room, fcntl.LOCK_UN)  # fails where the file system has no locks
        finally:
            os.close(directory)

    def share(self) -> None:
        """Passes the turnstile and stays in the room; waits as long as the turnstile is shut."""
        try:
            fcntl.flock(self.turnstile, fcntl.LOCK_SH)
            fcntl.flock(self.turnstile, fcntl.LOCK_UN)
            fcntl.flock(self.room, fcntl.LOCK_SH)
        except BaseException:  # Ctrl-C while waiting
            self.release()
            raise

    def leave(self) -> None:
        """Leaves the room."""
        fcntl.flock(self.room, fcntl.LOCK_UN)

    def awaited(self) -> bool:
        """Whether a measurer has shut the turnstile and waits for this and other rooms' users."""
        if not _try(self.turnstile, fcntl.LOCK_SH):
            return True
        fcntl.flock(self.turnstile, fcntl.LOCK_UN)
        return False

    def deleted(self) -> bool:
        """Whether the files are no longer in the folder, so that others no longer see these locks."""
        return not (os.fstat(self.turnstile).st_nlink and os.fstat(self.room).st_nlink)

    def release(self) -> None:
        """Lifts the locks themselves: a child that was forked off may still have the files open."""
        for descriptor in (self.room, self.turnstile):
            if descriptor >= 0:
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    def close(self, close: Callable[[int], None] = os.close) -> None:
        descriptors, self.turnstile, self.room = (self.room, self.turnstile), -1, -1
        for descriptor in descriptors:
            if descriptor >= 0:
                close(descriptor)

    def __del__(self) -> None:
        self.close()


def take(locks: Locks, timeout_s: float) -> None:
    """Shuts the turnstile and waits until the room is empty; this process's number stands in the files meanwhile.

    Raises:
        MeasureError: That takes longer than the timeout. What was taken is still to be released.
    """
    deadline = time.monotonic() + timeout_s
    for descriptor in (locks.turnstile, locks.room):
        pause = _FIRST_PAUSE_S
        while not _try(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise _too_long(locks, descriptor, timeout_s)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        _write_owner(descriptor)


def _too_long(locks: Locks, descriptor: int, timeout_s: float) -> MeasureError:
    measures = descriptor == locks.turnstile
    owners = _owners(descriptor)
    if measures and not owners and (written := _written_owner(descriptor)):
        owners = [written]
    doing = ("measures" if len(owners) < 2 else "measure") if measures else "trains" if len(owners) < 2 else "train"
    who = f"process{'es' if len(owners) > 1 else ''} {', '.join(map(str, owners))}" if owners else "another process"
    return MeasureError(
        f"waited {timeout_s:g} s for the machine to be quiet, but {who} still {doing}",
        f"wait for it, or end it{f' (kill {owners[0]})' if owners else ''}; a stopped process keeps others waiting too",
    )


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_owner(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # another user's file may be for reading only; then nobody is named
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _written_owner(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0)
    return int(text) if text.isdigit() else None


def _owners(descriptor: int) -> list[int]:
    """The processes that hold a lock on a file, as the kernel tells (Linux); empty where it does not."""
    status = os.fstat(descriptor)
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return []
    # "1: FLOCK ADVISORY WRITE 2215 08:02:1837 0 EOF"; a process that waits has an arrow before FLOCK.
    held = {int(row[4]) for row in rows if len(row) == 8 and row[1] == "FLOCK" and row[5] == file}
    return sorted(held - {0, -1})  # those are of processes that cannot be seen from here


def _open_folder(folder: Path) -> int:
    made = False
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
        made = True
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if made:
        os.fchmod(descriptor, 0o1777)  # all may use it, as /tmp itself; nobody deletes another's files
    return descriptor


def _open_file(name: str, directory: int) -> int:
    # Opened without O_CREAT where it is there: Linux refuses that for another's file in a folder for all.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        try:
            descriptor = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=directory)
            os.fchmod(descriptor, 0o666)
        except FileExistsError:
            descriptor = os.open(name, flags, dir_fd=directory)
    except PermissionError:  # another user's, between being made and being opened to all; locks need no writing
        descriptor = os.open(name, flags & ~os.O_RDWR | os.O_RDONLY, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"'{name}' in it is no plain file")
    return descriptor


def explain(error: OSError, folder: Path) -> str:
    """Why there is no lease, in words."""
    why = error.strerror or str(error)
    return f"there is no lease on this machine, as the folder {folder} cannot be used: {why}"
