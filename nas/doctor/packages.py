"""Optional packages: which are here, what they are good for, and how to have them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

from nas.doctor.findings import PackageFinding

# (package, what it is good for, how to install it)
OPTIONAL = (
    ("openvino", "a second runtime for the CPU, often the faster one", "pip install 'nas-front[openvino]'"),
    ("optuna-dashboard", "watching a search in the browser", "pip install 'nas-front[dashboard]'"),
    ("torchvision", "networks to compress, such as torchvision.models:mobilenet_v2", "pip install torchvision"),
)


def version_of(package: str) -> str | None:
    """The installed version; None where it is not installed. Nothing is imported."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def package_findings(version: Callable[[str], str | None] = version_of) -> tuple[PackageFinding, ...]:
    """Each optional package with its version."""
    return tuple(PackageFinding(name, version(name), purpose, install) for name, purpose, install in OPTIONAL)
