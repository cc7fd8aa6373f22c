"""Files and images that were sent to a device, by their SHA-256, in a folder that does not grow beyond a limit."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

SHA256 = re.compile(r"[0-9a-f]{64}")

_PART_BYTES = 2**20


class WrongHashError(Exception):
    """What arrived is not what was announced: it was torn on its way, or it is another file."""


class NoRoomError(Exception):
    """What is needed by measurements that wait leaves no room for more, or the disk is full."""


class Source(Protocol):
    """Where bytes come from: a file or a connection."""

    def read(self, size: int, /) -> bytes: ...


class Blobs:
    """Keeps what was used last. Threads may share it.

    Args:
        folder: Its own, empty.
        limit_bytes: All together take no more than this.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._held: Counter[str] = Counter()
        self._arriving = 0

    def hold(self, names: Iterable[str]) -> list[str]:
        """Keeps all of these until they are released, if all are there; else gives those that are missing."""
        wanted = list(names)
        with self._lock:
            missing = [name for name in wanted if name not in self._sizes]
            if not missing:
                self._held.update(wanted)
                for name in wanted:
                    self._sizes.move_to_end(name)
            return missing

    def release(self, names: Iterable[str]) -> None:
        """Ends a hold."""
        with self._lock:
            self._held.subtract(names)
            self._held = +self._held

    def read(self, name: str) -> bytes:
        """The content of one that is held."""
        return self._path(name).read_bytes()

    def put(self, name: str, source: Source, size: int) -> None:
        """Reads so many bytes and keeps them, if they are what they are said to be.

        Raises:
            WrongHashError: They have another SHA-256, or there are fewer.
            NoRoomError: There is no room for them.
        """
        path = self._path(name)
        self._make_room(size)
        try:
            self._receive(path, source, size)
            with self._lock:
                self._sizes[name] = size
                self._sizes.move_to_end(name)
        finally:
            with self._lock:
                self._arriving -= size

    def _path(self, name: str) -> Path:
        """Where one lies: its name is a SHA-256, never a path."""
        if not SHA256.fullmatch(name):
            raise WrongHashError(f"{name!r:.80} is no SHA-256")
        return self.folder / name

    def _make_room(self, size: int) -> None:
        with self._lock:
            old = [name for name in self._sizes if not self._held[name]]
            while sum(self._sizes.values()) + self._arriving + size > self.limit_bytes:
                if not old:
                    raise NoRoomError("the device keeps as much as it may for measurements that wait")
                name = old.pop(0)
                del self._sizes[name]
                self._path(name).unlink(missing_ok=True)
            self._arriving += size

    def _receive(self, path: Path, source: Source, size: int) -> None:
        try:
            descriptor, aside = tempfile.mkstemp(prefix="arriving-", dir=self.folder)
        except OSError as error:
            raise NoRoomError(f"the device cannot keep files: {error.strerror}") from None
        digest, left = hashlib.sha256(), size
        try:
            with open(descriptor, "wb") as file:
                while left > 0 and (part := source.read(min(left, _PART_BYTES))):
                    digest.update(part)
                    left -= len(part)
                    _write(file, part)
            if left:
                raise WrongHashError(f"{left:,} of {size:,} bytes did not arrive")
            if digest.hexdigest() != path.name:
                raise WrongHashError(f"what arrived has the SHA-256 {digest.hexdigest()}, not {path.name}")
            os.replace(aside, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(aside)
            raise


def _write(file: BinaryIO, part: bytes) -> None:
    try:
        file.write(part)
        file.flush()
    except OSError as error:
        raise NoRoomError(f"the device cannot keep files: {error.strerror}") from None
