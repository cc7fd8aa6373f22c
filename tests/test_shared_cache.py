"""The cache in two levels: what one machine made another finds, and nothing that the storage tears is believed."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nas.errors import StudyError, UnsupportedError
from nas.shared_cache import SharedStore, mark, store_on_node
from nas.store import Store, sha256_bytes

fsspec: Any = pytest.importorskip("fsspec")


@pytest.fixture(params=["folder", "object store"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A shared folder, and what behaves as an object store does: no folders, files written whole."""
    if request.param == "folder":
        yield str(tmp_path / "shared")
        return
    address = f"memory://{uuid.uuid4().hex}"
    yield address
    fsspec.filesystem("memory").store.clear()


def make(tmp_path: Path, name: str, url: str, limit: int = 10**9) -> SharedStore:
    return SharedStore(tmp_path / name, limit, url)


def names(store: SharedStore, folder: str) -> set[str]:
    try:
        return {str(found["name"]).rsplit("/", 1)[-1] for found in store.shared.ls(store._path(folder), detail=True)}
    except FileNotFoundError:
        return set()


def test_what_one_machine_made_another_finds(tmp_path: Path, url: str) -> None:
    one, other = make(tmp_path, "one", url), make(tmp_path, "other", url)
    assert other.get("key") is None
    entry = one.put("key", b"blob", {"epochs": 3})
    assert other.digest("key") == entry.sha256
    assert other.get("key") == entry
    assert other.read_blob(entry.sha256) == b"blob"
    # It is in the folder now, and needs the storage no more.
    assert Store(tmp_path / "other", 10**9).get("key") == entry


def test_an_artifact_comes_by_its_digest_alone(tmp_path: Path, url: str) -> None:
    entry = make(tmp_path, "one", url).put("key", b"model", {})
    other = make(tmp_path, "other", url)
    assert other.read_blob(entry.sha256) == b"model"
    assert other.blob_path(entry.sha256).read_bytes() == b"model"
    assert other.read_blob("0" * 64) is None
    assert other.read_blob("../secret") is None


@pytest.mark.parametrize("torn", [b"", b"mod", b"another"])
def test_a_torn_blob_is_absent_and_goes(tmp_path: Path, url: str, torn: bytes) -> None:
    one, other = make(tmp_path, "one", url), make(tmp_path, "other", url)
    entry = one.put("key", b"model", {})
    one.shared.pipe_file(one._path("blobs", entry.sha256), torn)
    assert other.get("key") is None
    assert entry.sha256 not in names(one, "blobs")
    other.put("key", b"model", {})
    assert make(tmp_path, "third", url).get("key") == entry


@pytest.mark.parametrize("index", [b"", b"[]", b'{"sha256": "../../x", "detail": {}}', b"{" * 10**5])
def test_a_damaged_index_is_absent(tmp_path: Path, url: str, index: bytes) -> None:
    one, other = make(tmp_path, "one", url), make(tmp_path, "other", url)
    one.put("key", b"model", {})
    one.shared.pipe_file(one._path("keys", "key.json"), index)
    assert other.get("key") is None
    assert one.get("key") is not None, "it has its own"


def test_a_damaged_file_here_is_fetched_again(tmp_path: Path, url: str) -> None:
    one = make(tmp_path, "one", url)
    entry = one.put("key", b"model", {})
    one.blob_path(entry.sha256).write_bytes(b"x")
    assert one.get("key") == entry


def test_the_shared_level_keeps_within_its_limit_and_drops_the_oldest(tmp_path: Path, url: str) -> None:
    store = make(tmp_path, "one", url, limit=1000)
    blobs = [bytes([number]) * 200 for number in range(12)]
    for number, blob in enumerate(blobs):
        store.put(f"key{number}", blob, {})
    left = names(store, "blobs")
    assert len(left) == 5
    assert sha256_bytes(blobs[-1]) in left
    if "memory:" not in url:  # whose clock is coarse
        assert left == {sha256_bytes(blob) for blob in blobs[-5:]}
    # A limit of its own folder is the search's to keep.
    store.evict(set())
    assert len(list((tmp_path / "one" / "blobs").iterdir())) == 5


def test_storage_that_refuses_does_so_before_anything_is_spent(tmp_path: Path, url: str) -> None:
    make(tmp_path, "one", url).check()
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    with pytest.raises(StudyError, match="cannot be used"):
        make(tmp_path, "one", str(in_the_way)).check()


def test_whatever_the_storage_raises_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(tmp_path, "one", str(tmp_path / "shared"))

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ValueError("credentials expired")

    monkeypatch.setattr(store, "shared", Broken())
    with pytest.raises(OSError, match="does not answer: credentials expired"):
        store.get("key")
    with pytest.raises(OSError, match="does not answer"):
        store.put("key", b"blob", {})
    with pytest.raises(StudyError, match="cannot be used"):
        store.check()


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="is no address of shared storage"):
        make(tmp_path, "one", "nonsense://bucket")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UnsupportedError, match="needs a package") as missing:
        make(tmp_path, "one", "s3://bucket/x")
    assert "s3fs" in missing.value.hint
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UnsupportedError, match="needs fsspec"):
        make(tmp_path, "one", str(tmp_path))


def test_a_node_uses_the_study_s_folder_where_it_sees_it(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    cache = tmp_path / "study" / "cache"
    token = mark(cache)
    assert store_on_node(cache, token, 10**9, None).folder == cache
    shared = store_on_node(cache, token, 10**9, url)
    assert isinstance(shared, SharedStore)
    assert shared.folder == cache
    # A folder of the same name on another machine is another.
    elsewhere = store_on_node(cache, "another", 10**9, url)
    assert elsewhere.folder.is_relative_to(tmp_path / "home" / "nas-front")
    elsewhere.put("artifact-00001", b"model", {"trial": 1})
    assert shared.read_blob(sha256_bytes(b"model")) == b"model"
    assert json.loads((shared.folder / "token").read_text() == token and "true")
    with pytest.raises(StudyError, match="is not there on this node") as refused:
        store_on_node(cache, "another", 10**9, None)
    assert "--cache" in refused.value.hint
