"""Families: builders that turn an architecture's choices into a network. One file per family."""

from __future__ import annotations

from nas.families import convnet, mlp, mobilenet, resnet  # noqa: F401 - importing a family registers it
from nas.families.module import OwnNetwork, load_own
from nas.families.registry import Family, build, check_space, families, find_family
from nas.families.rules import Rule, each_stage, one_of, whole, with_rules

__all__ = [
    "Family",
    "OwnNetwork",
    "Rule",
    "build",
    "check_space",
    "each_stage",
    "families",
    "find_family",
    "load_own",
    "one_of",
    "whole",
    "with_rules",
]
