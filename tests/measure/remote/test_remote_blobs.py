"""What a device keeps of what it is sent: whole files under their own hash, and no more than it may."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from nas.measure.remote import blobs as module
from nas.measure.remote.blobs import Blobs, NoRoomError, WrongHashError
from nas.store import sha256_bytes


def content(number: int, size: int = 100) -> bytes:
    return bytes([number]) * size


def put(blobs: Blobs, data: bytes) -> str:
    name = sha256_bytes(data)
    blobs.put(name, io.BytesIO(data), len(data))
    return name


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_put_is_held_and_read(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, 1000)
    name, absent = sha256_bytes(content(1)), sha256_bytes(content(2))
    assert blobs.hold([name, absent]) == [name, absent]
    assert put(blobs, content(1)) == name
    assert blobs.hold([name, absent]) == [absent]
    assert blobs.hold([name]) == []
    assert blobs.read(name) == content(1)


@pytest.mark.parametrize("arrived", [content(1)[:-1], content(1)[:-1] + b"x", b""])
def test_what_was_torn_on_its_way_leaves_nothing(tmp_path: Path, arrived: bytes) -> None:
    blobs = Blobs(tmp_path, 1000)
    name = sha256_bytes(content(1))
    with pytest.raises(WrongHashError):
        blobs.put(name, io.BytesIO(arrived), 100)
    assert files(tmp_path) == set()
    assert blobs.hold([name]) == [name]
    put(blobs, content(1, 1000))  # its room is free again


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "", "A" * 64, f"{'a' * 64}\n", f"{'a' * 63}/"])
def test_a_name_is_a_hash_and_never_a_path(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    blobs = Blobs(folder, 1000)
    with pytest.raises(WrongHashError, match="is no SHA-256"):
        blobs.put(name, io.BytesIO(b""), 0)
    with pytest.raises(WrongHashError, match="is no SHA-256"):
        blobs.read(name)
    assert [path.name for path in tmp_path.rglob("*")] == ["inside"]


def test_what_was_used_longest_ago_makes_room_but_not_what_is_held(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, 300)
    first, second, third = (put(blobs, content(number)) for number in range(3))
    assert blobs.hold([first]) == []  # used now, and held
    fourth = put(blobs, content(3))
    assert files(tmp_path) == {first, third, fourth}
    assert blobs.hold([second]) == [second]
    assert blobs.hold([third, fourth, first]) == []
    with pytest.raises(NoRoomError):
        put(blobs, content(4))
    blobs.release([third, fourth, first])
    put(blobs, content(4, 200))
    assert first in files(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 300


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object, part: bytes) -> None:
        raise NoRoomError("the device cannot keep files: No space left on device")

    blobs = Blobs(tmp_path, 1000)
    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(NoRoomError, match="No space left"):
        put(blobs, content(1))
    assert files(tmp_path) == set()
    monkeypatch.undo()
    put(blobs, content(1, 1000))
