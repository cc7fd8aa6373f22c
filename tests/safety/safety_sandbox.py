"""A folder in which a reader is let at a file: it may raise a NasError, take a while, and change nothing."""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from nas.errors import NasError

SECONDS = 10.0
# Native code does not hear the alarm: then the whole process ends, with a traceback.
SECONDS_NATIVE = 120.0

Snapshot = dict[str, tuple[str, int, int]]


class HangError(Exception):
    """An example took longer than it may."""


@contextmanager
def deadline(seconds: float = SECONDS) -> Iterator[None]:
    """Ends what takes longer, by a timer of this process's main thread."""

    def end(number: int, frame: FrameType | None) -> None:
        raise HangError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(SECONDS_NATIVE, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def snapshot(folder: Path) -> Snapshot:
    """Everything below a folder: kind or link's goal, size, time of its last change."""
    found: Snapshot = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            state = path.lstat()
            kind = os.readlink(path) if path.is_symlink() else oct(state.st_mode)
            found[str(path.relative_to(folder))] = kind, 0 if path.is_dir() else state.st_size, state.st_mtime_ns
    return found


@contextmanager
def sandbox(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder with those files beside others that must stay as they are; it is the current one within."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="nas-safety-") as place:
        whole = Path(place)
        (whole / "canary.bin").write_bytes(b"\0" * 64)
        folder = whole / "given"
        folder.mkdir()
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        before = snapshot(whole)
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(here)
        assert snapshot(whole) == before, "a reader wrote"


def tried(target: Callable[[Path], object], files: Mapping[str, bytes], seconds: float = SECONDS) -> str:
    """Lets a reader at files: what it said where it refused them, else nothing. Any other error passes through."""
    with sandbox(files) as folder:
        try:
            with deadline(seconds):
                target(folder)
        except NasError as error:
            return str(error) or "(nothing was said)"
    return ""
