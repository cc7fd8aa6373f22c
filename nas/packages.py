"""Versions of installed packages, read from their metadata, so that nothing is imported for it."""

from __future__ import annotations

from importlib import metadata

NOT_INSTALLED = "not installed"

# Packages that are also published under other names, of which one is installed.
_ALSO_NAMED = {"onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")}


def version_of(package: str) -> str:
    """The version of an installed package, also where it goes by another name; ``"not installed"`` where it is not."""
    for name in (package, *_ALSO_NAMED.get(package, ())):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return NOT_INSTALLED
