"""Families: builders that turn an architecture's choices into a network. One file per family."""

from __future__ import annotations

from nas.families import convnet, mlp, mobilenet, resnet  # noqa: F401 - importing a family registers it
from nas.families.module import OwnNetwork, load_own
from nas.families.registry import Family, build, check_space, families, find_family

__all__ = ["Family", "OwnNetwork", "build", "check_space", "families", "find_family", "load_own"]
