"""Versions of what is installed, whatever name it goes by."""

from __future__ import annotations

from importlib import metadata

import pytest

from nas.packages import NOT_INSTALLED, version_of


def test_the_version_is_that_of_the_metadata() -> None:
    assert version_of("numpy") == metadata.version("numpy")
    assert version_of("no-such-package") == NOT_INSTALLED


def test_onnxruntime_is_found_under_the_name_of_its_gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "onnxruntime-gpu":
            return "1.99"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert version_of("onnxruntime") == "1.99"
    assert version_of("numpy") == NOT_INSTALLED
