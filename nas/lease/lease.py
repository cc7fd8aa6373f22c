"""Who works and who measures: a lease's side towards the threads and processes that take it."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from nas.lease.locks import Locks, explain, take

FOLDER_VARIABLE = "NAS_LEASE_FOLDER"
FOLDER_NAME = "nas-front-lease"

# How long a measurer waits by default: longer than any batch, or another's measurement, should take.
PATIENCE_S = 600.0

# After so many batches a thread looks whether its files are still in the folder; cleaners of /tmp delete old ones.
_CHECK_EVERY = 256

_leases: weakref.WeakSet[Lease] = weakref.WeakSet()


class Lease:
    """The lease that a folder stands for. Threads of one process count like processes.

    Args:
        folder: Made where it is missing, for all users. Neither it nor the files in it may be symbolic links.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local = threading.local()
        self._open: weakref.WeakSet[Locks] = weakref.WeakSet()
        self._unavailable: str | None = None
        self._tried = False
        self._warned = False
        _leases.add(self)

    def available(self) -> str | None:
        """None where the lease works, else why it does not."""
        if not self._tried:
            self._unavailable = None
            try:
                self._new_locks().close()
            except OSError as error:
                self._unavailable = explain(error, self.folder)
            self._tried = True
        return self._unavailable

    def working(self, settle: Callable[[], None] | None = None) -> Working:
        """What training holds for a batch: ``with`` it waits while somebody measures, or waits to measure.

        May be used again and again (make it once, before the loop), and inside another of the same thread.

        Args:
            settle: Called at the end where a measurer waits, before it is let in: ends what still runs, such as the
                kernels in a GPU's queue.

        Raises:
            RuntimeError: On entry, inside ``measuring()`` of the same thread, which would wait for itself.
        """
        return Working(self, settle)

    @contextlib.contextmanager
    def measuring(self, timeout_s: float = PATIENCE_S) -> Iterator[None]:
        """Holds the machine for a measurement: begins when the batches under way have ended. May be nested.

        Args:
            timeout_s: How long to wait for others at most.

        Raises:
            MeasureError: Another process works or measures for longer than that; it is named where it can be known.
            RuntimeError: Inside ``working()`` of the same thread, which would wait for itself.
        """
        mine = self._mine()
        if mine.working:
            raise RuntimeError("measuring() inside working() of the same thread: it would wait for itself")
        if mine.measuring or self._warn_if_unavailable():
            yield
            return
        locks = self._new_locks()  # other open files than the thread's own, on which one lock would replace the other
        try:
            take(locks, timeout_s)
            mine.measuring = True
            yield
        finally:
            mine.measuring = False
            locks.release()
            locks.close()

    def _mine(self) -> _Thread:
        """What this thread does with the lease."""
        try:
            return self._local.thread  # type: ignore[no-any-return]
        except AttributeError:
            self._local.thread = thread = _Thread(self)
            return thread

    def _new_locks(self) -> Locks:
        locks = Locks(self.folder)
        self._open.add(locks)
        return locks

    def _warn_if_unavailable(self) -> bool:
        why = self.available()
        if why is not None and not self._warned:
            self._warned = True
            warnings.warn(f"measurements and training may disturb each other: {why}", RuntimeWarning, stacklevel=4)
        return why is not None

    def _forget(self) -> None:
        """In a forked child: what the parent holds is the parent's; here nothing is held, and its files are closed."""
        for locks in list(self._open):
            locks.close()
        self._open = weakref.WeakSet()
        self._local = threading.local()


class Working:
    """A context manager that holds a lease for a batch, see ``Lease.working``; it costs a few microseconds."""

    __slots__ = ("_lease", "_settle")

    def __init__(self, lease: Lease, settle: Callable[[], None] | None) -> None:
        self._lease = lease
        self._settle = settle

    def __enter__(self) -> None:
        self._lease._mine().enter()

    def __exit__(self, *_: object) -> None:
        self._lease._mine().leave(self._settle)


class _Thread:
    """One thread's part in a lease: its open files and how deep it is in. A lock belongs to an open file, so threads
    that shared one would lift each other's."""

    __slots__ = ("_entries", "_lease", "_locks", "measuring", "working")

    def __init__(self, lease: Lease) -> None:
        self.working = 0
        self.measuring = False
        self._lease = lease
        self._locks: Locks | None = None
        self._entries = 0

    def enter(self) -> None:
        if self.measuring:
            raise RuntimeError("working() inside measuring() of the same thread: it would wait for itself")
        if not self.working:
            locks = self._locks
            if locks is None or not self._entries % _CHECK_EVERY:
                locks = self._opened()
            self._entries += 1
            if locks is not None:
                locks.share()
        self.working += 1

    def leave(self, settle: Callable[[], None] | None) -> None:
        if not self.working:  # it was entered before this process was forked off: what is held is the parent's
            return
        self.working -= 1
        locks = self._locks
        if self.working or locks is None:
            return
        try:
            if settle is not None and locks.awaited():
                settle()
        finally:
            locks.leave()

    def _opened(self) -> Locks | None:
        if self._locks is not None and self._locks.deleted():
            self._locks.close()
            self._locks = None
            self._lease._tried = False
        if self._locks is None and not self._lease._warn_if_unavailable():
            self._locks = self._lease._new_locks()
        return self._locks


def default_folder() -> Path:
    """Where the machine's lease lies: ``NAS_LEASE_FOLDER``, else a folder in the one for temporary files."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(tempfile.gettempdir()) / FOLDER_NAME)


def _after_fork() -> None:
    for lease in list(_leases):
        lease._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

_machine: Lease | None = None
_making = threading.Lock()


def machine() -> Lease:
    """The lease of this machine; where it lies is settled when it is first asked for."""
    global _machine
    if _machine is None:
        with _making:
            _machine = _machine or Lease(default_folder())
    return _machine


def available() -> str | None:
    """None where this machine's lease works, else why it does not."""
    return machine().available()


def working(settle: Callable[[], None] | None = None) -> Working:
    """What training on this machine holds for a batch, see ``Lease.working``."""
    return machine().working(settle)


def measuring(timeout_s: float = PATIENCE_S) -> contextlib.AbstractContextManager[None]:
    """Holds this machine for a measurement, see ``Lease.measuring``."""
    return machine().measuring(timeout_s)
