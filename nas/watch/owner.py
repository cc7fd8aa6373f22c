"""Whether a process owns a study, found out without touching its lock.

Trying the lock, even a shared one and for a moment, could make a search fail that starts in that moment. The kernel
lists who holds what instead.
"""

from __future__ import annotations

import os
from pathlib import Path

KERNEL_LOCKS = Path("/proc/locks")


def owner_of(lock: Path, kernel_locks: Path = KERNEL_LOCKS) -> int | None:
    """The process that holds the kernel lock on a file; None where none of this machine does.

    Where the kernel does not list its locks (other systems than Linux), it is the process that the file names, if
    there is one of that number.

    Args:
        lock: The file, which need not be there.
        kernel_locks: Where the kernel lists its locks.
    """
    try:
        status = lock.stat()
        written = _number(lock.read_bytes()[:20])
    except OSError:
        return None
    try:
        rows = [line.split() for line in kernel_locks.read_text().splitlines()]
    except OSError:
        return written if written is not None and _runs(written) else None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for row in rows:
        # "1: FLOCK ADVISORY WRITE 2215 08:02:1837 0 EOF"; a process that waits has an arrow before FLOCK.
        if len(row) != 8 or row[1] != "FLOCK" or row[3] != "WRITE":
            continue
        pid, (where, _, inode) = int(row[4]), row[5].rpartition(":")
        # On layered file systems the kernel names another device than a program sees.
        if inode == str(status.st_ino) and (where == device or pid == written):
            return pid
    return None


def _number(text: bytes) -> int | None:
    return int(text) if text.isdigit() else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 is none: it only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
