"""The article's arithmetic: operations per layer, the time they should take, and the time that they take."""

from __future__ import annotations

from nas.profile.compute import Profile, profile_design, profile_onnx
from nas.profile.render import render

__all__ = ["Profile", "profile_design", "profile_onnx", "render"]
