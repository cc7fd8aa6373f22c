"""The cache: what goes in comes out, whatever a dying process or a bad disk left, and its size stays within bounds."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from strategies import json_mappings

from nas.store import Entry, Store, sha256_bytes, write_atomically


def index_path(store: Store, key: str) -> Path:
    return store.folder / "keys" / f"{key}.json"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def age(path: Path, seconds: float) -> None:
    """Makes a file look as if it had been used so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache", 10**9)


# --- writing a file --------------------------------------------------------------------------------------------------


def test_write_makes_folders_replaces_content_and_leaves_nothing_aside(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert files(tmp_path) == {"a/b/file.txt"}
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
def test_a_write_that_fails_leaves_the_old_content_and_no_part(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, b"old")

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert files(tmp_path) == {"file.txt"}


def test_a_reader_sees_the_old_content_until_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, b"old")
    seen: list[tuple[bytes, bytes]] = []
    rename = os.replace

    def watch(aside: str, target: Path) -> None:
        seen.append((path.read_bytes(), Path(aside).read_bytes()))
        rename(aside, target)

    monkeypatch.setattr(os, "replace", watch)
    write_atomically(path, b"new")
    assert seen == [(b"old", b"new")]
    assert path.read_bytes() == b"new"


def test_a_write_is_flushed_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    rename, flush = os.replace, os.fsync

    def watched_rename(aside: str, target: Path) -> None:
        steps.append("rename")
        rename(aside, target)

    def watched_flush(descriptor: int) -> None:
        steps.append("flush folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "flush file")
        flush(descriptor)

    monkeypatch.setattr(os, "replace", watched_rename)
    monkeypatch.setattr(os, "fsync", watched_flush)
    write_atomically(tmp_path / "file.txt", b"content")
    assert steps == ["flush file", "rename", "flush folder"]


# --- round trip ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.binary(max_size=64), json_mappings)
def test_what_is_put_comes_out(blob: bytes, detail: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as name:
        put = Store(Path(name), 10**9).put("key", blob, detail)
        assert put == Entry(blob, sha256_bytes(blob), detail)
        assert Store(Path(name), 1).get("key") == put
        assert Store(Path(name), 1).read_blob(put.sha256) == blob


def test_what_was_never_put_is_absent_and_nothing_is_written(store: Store) -> None:
    assert store.get("key") is None
    assert store.read_blob(sha256_bytes(b"blob")) is None
    assert store.evict(()) == 0
    assert not store.folder.exists()


def test_equal_blobs_are_stored_once_under_several_keys(store: Store) -> None:
    store.put("a", b"blob", {"n": 1})
    store.put("b", b"blob", {"n": 2})
    assert len(list(store.folder.glob("blobs/*"))) == 1
    for key, n in (("a", 1), ("b", 2)):
        assert store.get(key) == Entry(b"blob", sha256_bytes(b"blob"), {"n": n})


def test_putting_again_replaces_an_entry(store: Store) -> None:
    store.put("a", b"old", {})
    store.put("a", b"new", {"n": 1})
    assert store.get("a") == Entry(b"new", sha256_bytes(b"new"), {"n": 1})


def test_detail_that_json_cannot_hold_is_refused_and_leaves_no_entry(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        store.put("a", b"blob", {"loss": float("nan")})
    assert store.get("a") is None


def test_a_process_that_dies_between_blob_and_index_leaves_no_entry(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: Path, content: bytes) -> None:
        if path.parent.name == "keys":
            raise SystemExit
        write_atomically(path, content)

    monkeypatch.setattr("nas.store.write_atomically", die)
    with pytest.raises(SystemExit):
        store.put("a", b"blob", {})
    monkeypatch.undo()
    assert store.get("a") is None
    store.put("a", b"blob", {})
    assert store.get("a") is not None


# --- damage ----------------------------------------------------------------------------------------------------------

BLOB = b"the trained weights"


@pytest.mark.parametrize(
    "content",
    [None, b"", BLOB[:5], BLOB + b"!", BLOB.replace(b"w", b"v")],
    ids=["gone", "empty", "torn", "longer", "bit"],
)
def test_a_damaged_blob_is_absent_and_can_be_put_again(content: bytes | None, store: Store) -> None:
    entry = store.put("a", BLOB, {"n": 1})
    path = store.blob_path(entry.sha256)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert store.get("a") is None
    assert store.read_blob(entry.sha256) is None
    assert not path.exists()
    assert store.put("a", BLOB, {"n": 1}) == entry == store.get("a")


def test_putting_over_a_damaged_blob_mends_it(store: Store) -> None:
    entry = store.put("a", BLOB, {})
    store.blob_path(entry.sha256).write_bytes(b"torn")
    store.put("b", BLOB, {})
    assert store.get("a") == entry


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"sha256": "',
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"sha256": 5, "detail": {}}',
        b'{"sha256": null, "detail": {}}',
        b'{"sha256": "", "detail": {}}',
        json.dumps({"sha256": sha256_bytes(BLOB)}).encode(),
        json.dumps({"sha256": sha256_bytes(BLOB), "detail": 5}).encode(),
    ],
)
def test_a_damaged_index_is_absent(content: bytes, store: Store) -> None:
    entry = store.put("a", BLOB, {})
    index_path(store, "a").write_bytes(content)
    assert store.get("a") is None
    assert store.read_blob(entry.sha256) == BLOB
    assert store.put("a", BLOB, {}) == store.get("a")


@pytest.mark.parametrize("digest", ["../../precious.txt", "/etc/hostname", "..", ".", "A" * 64, "0" * 63, "0" * 65])
def test_a_digest_that_is_none_never_leads_out_of_the_folder(digest: str, store: Store) -> None:
    store.put("a", BLOB, {})
    precious = store.folder.parent / "precious.txt"
    precious.write_text("mine")
    index_path(store, "a").write_text(json.dumps({"sha256": digest, "detail": {}}))
    assert store.read_blob(digest) is None
    assert store.get("a") is None
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("call", ["utime", "unlink"])
def test_who_may_only_read_still_reads(call: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = store.put("good", BLOB, {}), store.put("bad", b"other", {})
    store.blob_path(bad.sha256).write_bytes(b"torn")

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse) if call == "utime" else monkeypatch.setattr(Path, "unlink", refuse)
    assert store.get("good") == good
    assert store.get("bad") is None


# --- eviction --------------------------------------------------------------------------------------------------------


def filled(folder: Path, limit_bytes: int, sizes: dict[str, int]) -> tuple[Store, dict[str, str]]:
    """A store with blobs of these sizes, the first the longest unused; also their digests."""
    store = Store(folder, limit_bytes)
    digests = {}
    for place, (key, size) in enumerate(sizes.items()):
        digests[key] = store.put(key, key.encode() * size, {}).sha256
        age(store.blob_path(digests[key]), 1000 - place)
    return store, digests


@pytest.mark.parametrize(
    ("limit", "left", "removed"),
    [(60, "abc", 0), (59, "bc", 10), (50, "bc", 10), (49, "c", 30), (30, "c", 30), (29, "", 60), (1, "", 60)],
)
def test_the_least_recently_used_go_until_the_limit_is_met(limit: int, left: str, removed: int, tmp_path: Path) -> None:
    store, _ = filled(tmp_path, limit, {"a": 10, "b": 20, "c": 30})
    assert store.evict(()) == removed
    assert {key for key in "abc" if store.get(key)} == set(left)
    assert store.evict(()) == 0


def test_reading_counts_as_use(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, 20, {"a": 10, "b": 10, "c": 10})
    assert store.get("a") is not None
    store.evict(())
    assert [key for key in "abc" if store.get(key)] == ["a", "c"]


def test_putting_again_counts_as_use(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, 20, {"a": 10, "b": 10, "c": 10})
    store.put("other", b"a" * 10, {})
    store.evict(())
    assert [key for key in "abc" if store.get(key)] == ["a", "c"]


def test_what_is_kept_stays_whatever_the_limit(tmp_path: Path) -> None:
    store, digests = filled(tmp_path, 5, {"a": 10, "b": 20, "c": 30})
    assert store.evict({digests["a"], digests["b"]}) == 30
    assert [key for key in "abc" if store.get(key)] == ["a", "b"]
    assert store.evict(digests.values()) == 0


def test_with_a_blob_goes_every_index_that_names_it(tmp_path: Path) -> None:
    store, digests = filled(tmp_path, 30, {"a": 10, "b": 20, "c": 10})
    store.put("again", b"a" * 10, {})
    age(store.blob_path(digests["a"]), 2000)
    index_path(store, "torn").write_text('{"sha256": "')
    assert store.evict(()) == 10
    assert files(store.folder) == {
        *(f"keys/{key}.json" for key in "bc"),
        *(f"blobs/{digests[key]}" for key in "bc"),
    }


def test_what_a_dead_writer_left_goes_after_an_hour(store: Store) -> None:
    entry = store.put("a", BLOB, {})
    old = [store.folder / "blobs" / ".x.part", store.folder / "keys" / ".a.json.y.part"]
    new = store.folder / "blobs" / ".z.part"
    for path in (*old, new):
        path.write_bytes(b"half")
    for path in old:
        age(path, 3700)
    age(new, 3500)
    assert store.evict(()) == 0
    assert files(store.folder) == {f"blobs/{entry.sha256}", "keys/a.json", "blobs/.z.part"}


def test_what_is_being_written_does_not_count_and_is_not_evicted(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, 10, {"a": 10})
    part = store.folder / "blobs" / ".half.part"
    part.write_bytes(b"x" * 1000)
    assert store.evict(()) == 0
    assert store.get("a") is not None
    assert part.exists()


class Model(RuleBasedStateMachine):
    """Any order of putting, getting, damaging and evicting: an entry is what was put last, or absent."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name), 12)
        self.put: dict[str, tuple[bytes, int]] = {}

    @initialize()
    def nothing(self) -> None:
        assert self.store.get("a") is None

    @rule(key=st.sampled_from("ab"), blob=st.sampled_from([b"", b"1234", b"567890"]), n=st.integers(0, 3))
    def put_entry(self, key: str, blob: bytes, n: int) -> None:
        self.store.put(key, blob, {"n": n})
        self.put[key] = (blob, n)
        entry = self.store.get(key)
        assert entry is not None
        assert (entry.blob, entry.detail) == (blob, {"n": n})

    @rule(content=st.sampled_from([b"", b"1234", b"torn"]), place=st.integers(0, 5))
    def damage(self, content: bytes, place: int) -> None:
        present = sorted(path for path in self.store.folder.rglob("*") if path.is_file())
        if present:
            present[place % len(present)].write_bytes(content)

    @rule(keep=st.sets(st.sampled_from([sha256_bytes(b"1234"), sha256_bytes(b"567890")])))
    def evict(self, keep: set[str]) -> None:
        before = {digest for digest in keep if self.store.blob_path(digest).exists()}
        self.store.evict(keep)
        assert all(self.store.blob_path(digest).exists() for digest in before)
        assert sum(path.stat().st_size for path in self.store.folder.glob("blobs/*") if path.name not in keep) <= 12

    @invariant()
    def an_entry_is_what_was_put_or_absent(self) -> None:
        for key in "ab":
            entry = self.store.get(key)
            assert entry is None or (entry.blob, entry.detail["n"]) == self.put[key]

    def teardown(self) -> None:
        self.folder.cleanup()


TestAnyOrder = Model.TestCase
TestAnyOrder.settings = settings(deadline=None, max_examples=15, stateful_step_count=15)
