"""How devices are named, alone and behind targets, and where tokens come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import NasError, RecipeError
from nas.measure.remote.address import Address, needed_token, read_token, split_targets
from nas.target import Target

ORT1, ORT2 = "onnxruntime-cpu-1t-b1", "onnxruntime-cpu-2t-b8"
TOKEN = "abcdefghijklmnop"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://device", "http://device:8765"),
        ("http://device:80/", "http://device:80"),
        ("https://device", "https://device:443"),
        ("http://192.168.1.7:9", "http://192.168.1.7:9"),
        ("http://[::1]:8765", "http://[::1]:8765"),
    ],
)
def test_an_address_is_read(text: str, url: str) -> None:
    assert Address.parse(text).url == url
    assert Address.parse(url) == Address.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://device", "no device's address"),
        ("http://", "no device's address"),
        ("http://device:123456", "no device's address"),
        ("http://device:eight", "no device's address"),
        ("http://[::1", "no device's address"),
        ("http://de vice", "no device's address"),
        ("http://device/path", "host and port alone"),
        ("http://device?token=abc", "host and port alone"),
        ("http://user:secret@device", "no user or password"),
    ],
)
def test_what_is_no_address_is_refused(text: str, message: str) -> None:
    with pytest.raises(NasError, match=message):
        Address.parse(text)
    with pytest.raises(NasError, match=message):
        split_targets([text])


def test_targets_and_the_device_they_are_measured_on() -> None:
    one, two = Target.parse(ORT1), Target.parse(ORT2)
    device = Address.parse("http://device:8765")
    assert split_targets([]) == ([], None)
    assert split_targets([ORT1, ORT2]) == ([one, two], None)
    assert split_targets(["http://device"]) == ([], device)
    assert split_targets([f"{ORT1}@http://device"]) == ([one], device)
    assert split_targets([f"{ORT1}@http://device", "http://device:8765", ORT2]) == ([one, two], device)


def test_two_devices_and_unknown_targets_are_refused() -> None:
    with pytest.raises(NasError, match="on one device, but got http://a:8765 and http://b:8765"):
        split_targets(["http://a", f"{ORT1}@http://b"])
    with pytest.raises(RecipeError, match="did you mean 'onnxruntime'"):
        split_targets(["onyxruntime-cpu-1t-b1@http://a"])


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.delenv("NAS_TOKEN", raising=False)
    assert read_token(None) is None
    assert read_token(file) == TOKEN
    monkeypatch.setenv("NAS_TOKEN", TOKEN[::-1])
    assert read_token(None) == TOKEN[::-1]
    assert read_token(file) == TOKEN


def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_TOKEN", raising=False)
    file = tmp_path / "token"
    for text in ("", "short", "fifteen letters", "a b c d e f g h i j k l", "täkentäkentäkentäken"):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(NasError, match="a token has at least 16") as caught:
            read_token(file)
        assert not text or text not in str(caught.value)
    with pytest.raises(NasError, match="cannot be read"):
        read_token(tmp_path / "gone")
    file.write_bytes(b"\xff" * 20)
    with pytest.raises(NasError, match="cannot be read"):
        read_token(file)
    with pytest.raises(NasError, match="wants its token") as caught:
        needed_token(None, Address.parse("http://device"))
    assert "NAS_TOKEN" in caught.value.hint
