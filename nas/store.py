"""A cache of files, addressed by key, safe against a process that dies while it writes, bounded in size."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import StudyError
from nas.safety.json_text import read_json

_DIGEST = re.compile("[0-9a-f]{64}")
_PART = re.compile(r"\..*\.part", re.DOTALL)
# A file that is being written aside is done within moments; one of this age belongs to a process that died.
_ABANDONED_SECONDS = 3600
# Index files are sought whose blob is gone when there are more of them than blobs by this share.
_ORPHANS = 0.1


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part.

    The content is written aside, flushed to the disk, renamed into place, and the folder's entry is flushed too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_unfinished(folder: Path) -> None:
    """Removes files that were being written aside, anywhere in a folder of which nobody else writes just now."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries to the disk, so that a rename in it outlasts a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_bytes(content: bytes) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A cached stage result: a blob and what is known of it."""

    blob: bytes
    sha256: str
    detail: Mapping[str, Any]


class Store:
    """Stage results by key, blobs by content.

    A key's index file (``keys/<key>.json``) names the blob's SHA-256 and carries the stage's detail; the blob lies
    under ``blobs/<sha256>``. An entry whose blob is gone or does not match its digest counts as absent, so that a
    torn or corrupted file costs the work again and never a wrong result.

    Args:
        folder: Where the cache lies; made when first written.
        limit_bytes: Size of all blobs above which ``evict`` removes the least recently used.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def blob_path(self, sha256: str) -> Path:
        """Where a blob of that digest lies, whether or not it is there.

        Raises:
            StudyError: It is no digest: what comes from a damaged file must not lead out of the folder.
        """
        if not _DIGEST.fullmatch(sha256):
            raise StudyError(f"a file in the cache {self.folder} has no name such as {sha256!r:.80}")
        return self.folder / "blobs" / sha256

    def put(self, key: str, blob: bytes, detail: Mapping[str, Any]) -> Entry:
        """Stores a stage's result under its key; the blob first, so that an index never names what is not there."""
        digest = sha256_bytes(blob)
        path = self.blob_path(digest)
        if self.read_blob(digest) is None:
            write_atomically(path, blob)
        index = {"sha256": digest, "detail": dict(detail)}
        write_atomically(self.folder / "keys" / f"{key}.json", json.dumps(index, allow_nan=False).encode())
        return Entry(blob, digest, dict(detail))

    def get(self, key: str) -> Entry | None:
        """The result stored under a key, or None where it is absent or damaged."""
        try:
            digest, detail = _read_index(self.folder / "keys" / f"{key}.json")
        except (OSError, ValueError):
            return None
        blob = self.read_blob(digest)
        return None if blob is None else Entry(blob, digest, detail)

    def digest(self, key: str) -> str | None:
        """The digest of what is stored under a key, as its index has it; None where nothing is. Touches nothing."""
        try:
            return _read_index(self.folder / "keys" / f"{key}.json")[0]
        except (OSError, ValueError):
            return None

    def read_blob(self, sha256: str) -> bytes | None:
        """A blob by its digest, checked against it; None where it is absent or damaged.

        A damaged blob is removed, and one that is read counts as used; whoever may only read does neither.
        """
        if not _DIGEST.fullmatch(sha256):
            return None
        path = self.blob_path(sha256)
        try:
            blob = path.read_bytes()
        except OSError:
            return None
        intact = sha256_bytes(blob) == sha256
        with contextlib.suppress(OSError):
            if intact:
                os.utime(path)
            else:
                path.unlink()
        return blob if intact else None

    def evict(self, keep: Collection[str]) -> int:
        """Removes the least recently used blobs until the limit is met, and says how many bytes went.

        With them go the index files that name a blob which is not there, where these are more than a few, and what dead
        processes left half-written.

        Args:
            keep: Digests that stay whatever the size, such as the front's artifacts.
        """
        blobs = [(stat, name) for name, stat in _files(self.folder / "blobs", _DIGEST.fullmatch)]
        excess = sum(stat.st_size for stat, _ in blobs) - self.limit_bytes
        present, removed = {name for _, name in blobs}, 0
        for stat, name in sorted(blobs, key=lambda item: item[0].st_mtime_ns):
            if removed >= excess:
                break
            if name not in keep:
                self.blob_path(name).unlink(missing_ok=True)
                present.remove(name)
                removed += stat.st_size
        if removed:  # else no index has lost its blob
            self._remove_orphans(present)
        self._remove_abandoned()
        return removed

    def _remove_orphans(self, present: Collection[str]) -> None:
        """Removes index files whose blob is none of those present, or that cannot be read.

        To tell them all are read, so that is left until there are a few: such a file does no harm.
        """
        paths = list(self.folder.glob("keys/*.json"))
        if len(paths) <= (1 + _ORPHANS) * len(present):
            return
        for path in paths:
            try:
                digest, _ = _read_index(path)
            except (OSError, ValueError):
                digest = ""
            if digest not in present:
                path.unlink(missing_ok=True)

    def _remove_abandoned(self) -> None:
        """Removes files that were being written aside when their process died."""
        oldest = time.time() - _ABANDONED_SECONDS
        for folder in (self.folder / "blobs", self.folder / "keys"):
            for name, stat in _files(folder, _PART.fullmatch):
                if stat.st_mtime < oldest:
                    (folder / name).unlink(missing_ok=True)


def _files(folder: Path, wanted: Callable[[str], object]) -> Iterator[tuple[str, os.stat_result]]:
    """Names in a folder that are wanted, with what is known of each file; none where there is no folder."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if wanted(entry.name):
                with contextlib.suppress(FileNotFoundError):
                    yield entry.name, entry.stat(follow_symlinks=False)


def _read_index(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The blob's digest and the detail that an index file holds.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged.
    """
    try:
        index = read_json(path, StudyError)
    except StudyError as error:
        raise ValueError(error.message) from error
    if not isinstance(index, dict):
        raise ValueError(f"{path} is no index")
    digest, detail = index.get("sha256"), index.get("detail")
    if not isinstance(digest, str) or not isinstance(detail, dict):
        raise ValueError(f"{path} is no index")
    return digest, detail


def artifact_entry(trial: int, form: str = "onnx") -> str:
    """The key under which a trial's artifact is kept, in each form that a target wants (see ``nas.target``)."""
    return f"artifact-{trial:05d}" if form == "onnx" else f"artifact-{trial:05d}-{form}"
