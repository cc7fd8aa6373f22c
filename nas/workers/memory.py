"""How much memory this process takes, and how much it may."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_PROC = Path("/proc/self")
# Written to ``clear_refs`` it makes the kernel forget the peak so far, see proc(5).
_FORGET_PEAK = "5"


def start_peak() -> None:
    """Makes ``peak_memory`` count from now on, where the kernel can (Linux)."""
    with contextlib.suppress(OSError):
        (_PROC / "clear_refs").write_text(_FORGET_PEAK)


def peak_memory() -> int | None:
    """The most resident memory that this process had since ``start_peak``, in bytes; of its whole life where the kernel
    keeps no other; None where it cannot be told.
    """
    try:
        for line in (_PROC / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def limit_memory(limit_bytes: int) -> None:
    """Lets this process, and those that it starts, take so much private memory; what asks for more is refused it.

    That is the data segment (RLIMIT_DATA: the heap and private writable mappings), not the address space: libraries map
    far more of that than they ever use.

    Raises:
        OSError, ValueError: The system refuses.
        ImportError: It has no such limits.
    """
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
