"""A cache of files in two levels: a folder of this machine, and behind it storage that other machines share.

What one machine of a cluster has trained the others find, and the artifacts that they make come to the search. The
shared level is whatever fsspec reaches: a network folder, ``s3://bucket/path``, ``gs://``, ``sftp://``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from nas.errors import StudyError, UnsupportedError, one_line
from nas.store import Entry, Store, sha256_bytes, write_atomically

# The shared level is brought within its limit whenever this share of it was written by one process.
_TRIM_EVERY = 0.1
# In a study's folder: says to another machine whether it sees the same folder, or one of the same name.
_TOKEN = "token"


class Shared(Protocol):
    """A file system of fsspec, as far as it is used."""

    def cat_file(self, path: str) -> bytes: ...

    def pipe_file(self, path: str, value: bytes) -> None: ...

    def rm_file(self, path: str) -> None: ...

    def ls(self, path: str, detail: bool) -> list[dict[str, Any]]: ...

    def makedirs(self, path: str, exist_ok: bool) -> None: ...


class SharedStore(Store):
    """A ``Store`` whose results other machines have too.

    Reading looks into the folder first, then into the shared level, whose blobs are checked against their digest and
    kept in the folder. Writing goes to both, blobs before the index that names them. Each level keeps within the limit
    for itself; the shared one drops what was written first, by whichever machine.

    Args:
        folder: Of this machine.
        limit_bytes: Size of all blobs of each level.
        url: Where the shared level lies, as fsspec understands it.

    Raises:
        UnsupportedError: A package is missing for that kind of storage.
        StudyError: The address is none.
    """

    def __init__(self, folder: Path, limit_bytes: int, url: str) -> None:
        super().__init__(folder, limit_bytes)
        self.url = url
        self.shared, self.root = _opened(url)
        self._here = Store(folder, limit_bytes)
        self._written = 0

    def check(self) -> None:
        """Writes, reads and deletes a small file, so that storage that refuses does so before anything is spent.

        Raises:
            StudyError: It refuses.
        """
        path, content = self._path("probes", secrets.token_hex(8)), b"nas"
        try:
            self._write(path, content)
            if self._read(path) != content:
                raise OSError("what was written cannot be read")
            with self._told():
                self.shared.rm_file(path)
        except OSError as error:
            raise StudyError(
                f"the shared cache {self.url} cannot be used: {one_line(error)}",
                "it must be there for reading and writing, with this machine's credentials",
            ) from None

    def put(self, key: str, blob: bytes, detail: Mapping[str, Any]) -> Entry:
        """As ``Store.put``, on both levels.

        Raises:
            OSError: One cannot be written.
        """
        entry = self._here.put(key, blob, detail)
        self._write(self._path("blobs", entry.sha256), blob)
        index = json.dumps({"sha256": entry.sha256, "detail": dict(detail)}, allow_nan=False)
        self._write(self._path("keys", f"{key}.json"), index.encode())
        self._written += len(blob)
        if self._written > _TRIM_EVERY * self.limit_bytes:
            self._written = 0
            self._trim()
        return entry

    def get(self, key: str) -> Entry | None:
        """As ``Store.get``, from either level.

        Raises:
            OSError: The shared level does not answer.
        """
        entry = super().get(key)
        if entry is not None or not self._fetch_index(key):
            return entry
        return super().get(key)

    def digest(self, key: str) -> str | None:
        """As ``Store.digest``, from either level; brings the index into the folder.

        Raises:
            OSError: The shared level does not answer.
        """
        found = super().digest(key)
        if found is not None or not self._fetch_index(key):
            return found
        return super().digest(key)

    def read_blob(self, sha256: str) -> bytes | None:
        """As ``Store.read_blob``, from either level.

        Raises:
            OSError: The shared level does not answer.
        """
        blob = super().read_blob(sha256)
        if blob is not None:
            return blob
        try:
            here = self.blob_path(sha256)
        except StudyError:  # no digest
            return None
        there = self._path("blobs", sha256)
        blob = self._read(there)
        if blob is None:
            return None
        if sha256_bytes(blob) != sha256:  # torn, where the storage does not write files whole
            with self._told(), contextlib.suppress(FileNotFoundError):
                self.shared.rm_file(there)
            return None
        write_atomically(here, blob)
        return blob

    def _fetch_index(self, key: str) -> bool:
        """Brings the index of a key into the folder; says whether there is one."""
        content = self._read(self._path("keys", f"{key}.json"))
        if content is not None:
            write_atomically(self.folder / "keys" / f"{key}.json", content)
        return content is not None

    def _path(self, *parts: str) -> str:
        return "/".join([self.root, *parts])

    def _read(self, path: str) -> bytes | None:
        """A file of the shared level; None where it is not there."""
        with self._told():
            try:
                return bytes(self.shared.cat_file(path))
            except FileNotFoundError:
                return None

    def _write(self, path: str, content: bytes) -> None:
        """Writes a file of the shared level: whole or not at all where the storage can, as object stores do.

        A torn blob does not match its digest, and a torn index is none, so that either counts as absent.
        """
        with self._told():
            self.shared.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            if _is_folder(self.shared):
                write_atomically(Path(path), content)
            else:
                self.shared.pipe_file(path, content)

    def _trim(self) -> None:
        """Deletes what was written first, until the shared level is within its limit.

        An index may stay that names a blob which is gone; its key counts as absent until it is written again.
        """
        with self._told():
            try:
                files = [found for found in self.shared.ls(self._path("blobs"), detail=True) if _is_blob(found)]
            except FileNotFoundError:
                return
            excess = sum(int(found["size"]) for found in files) - self.limit_bytes
            for found in sorted(files, key=_written_at):
                if excess <= 0:
                    break
                with contextlib.suppress(FileNotFoundError):  # another process does the same
                    self.shared.rm_file(str(found["name"]))
                excess -= int(found["size"])

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever a kind of storage raises is an ``OSError``, so that the trial is tried again; an absent file stays
        ``FileNotFoundError``.
        """
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"the shared cache {self.url} does not answer: {one_line(error)}") from error


def store_in(folder: Path, limit_bytes: int, url: str | None) -> Store:
    """The cache in a study's folder, with a shared level behind it where one is named.

    Raises:
        NasError: As ``SharedStore``.
    """
    return Store(folder, limit_bytes) if url is None else SharedStore(folder, limit_bytes, url)


def mark(folder: Path) -> str:
    """Puts a token into a study's cache, by which a process on another machine tells whether it sees that folder."""
    token = secrets.token_hex(16)
    write_atomically(folder / _TOKEN, token.encode())
    return token


def store_on_node(cache: Path, token: str, limit_bytes: int, url: str | None) -> Store:
    """The cache of a process that evaluates on some node of a cluster.

    Args:
        cache: The folder of the study's cache, as the search has it.
        token: What ``mark`` put there.
        limit_bytes: As for ``Store``.
        url: Of the shared level, if there is one.

    Raises:
        StudyError: This node does not see that folder, and no shared level is named: nothing would come back from it.
    """
    sees = False
    with contextlib.suppress(OSError):
        sees = (cache / _TOKEN).read_text() == token
    if url is None:
        if not sees:
            raise StudyError(
                f"the study's folder {cache.parent} is not there on this node",
                "put the study on storage that all nodes have, or name a shared cache: --cache s3://bucket/path",
            )
        return Store(cache, limit_bytes)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own = caches / "nas-front" / hashlib.sha256(url.encode()).hexdigest()[:16]
    return SharedStore(cache if sees else own, limit_bytes, url)


def _opened(url: str) -> tuple[Shared, str]:
    """A file system of fsspec and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise UnsupportedError(
            f"a shared cache needs fsspec, which is not installed ({one_line(error)})", "pip install 'nas-front[ray]'"
        ) from None
    try:
        system, root = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise UnsupportedError(
            f"the shared cache {url} needs a package that is not installed: {one_line(error)}",
            "s3:// is read by s3fs, gs:// by gcsfs, abfs:// by adlfs, sftp:// by paramiko",
        ) from None
    except Exception as error:
        raise StudyError(
            f"--cache {url!r:.100} is no address of shared storage: {one_line(error)}",
            "write a folder that all nodes have, or s3://bucket/path",
        ) from None
    return system, str(root).rstrip("/")


def _is_folder(system: Shared) -> bool:
    protocol = getattr(system, "protocol", ())
    return "file" in ((protocol,) if isinstance(protocol, str) else tuple(protocol))


def _is_blob(found: Mapping[str, Any]) -> bool:
    name = str(found["name"]).rsplit("/", 1)[-1]
    return found.get("type") == "file" and len(name) == 64 and not name.startswith(".")


def _written_at(found: Mapping[str, Any]) -> float:
    """When a file was written, by whatever name the kind of storage has for it; 0 where it does not say."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "modified", "created"):
        value = found.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                return datetime.fromisoformat(value).timestamp()
    return 0.0
