"""Readers of models and weights: native code behind them, so that they run in a process of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safety_targets import Target

from nas.artifact import InputSpec
from nas.families.weights import read_weights
from nas.profile.graph import count_onnx, parse_onnx
from nas.profile.subject import invalid_refused
from nas.recipe_sections import TeacherConfig
from nas.safety.onnx_file import check_onnx, read_onnx
from nas.teacher.given import GivenTeacher
from nas.teacher.networks import read_file
from nas.train import Numerics

SPEC = InputSpec("uint8", (4, 4, 1))
NUMERICS = Numerics("cpu", "float32", 1)


def teacher(folder: Path) -> None:
    """A teacher in an ONNX file, run on two images."""
    path = folder / "model.onnx"
    given = GivenTeacher(TeacherConfig(path=path), read_file(path), SPEC, 3, None)
    given.logits(np.zeros((2, *SPEC.shape), np.uint8), NUMERICS)


def profile(folder: Path) -> None:
    """What ``nas profile`` counts of an ONNX file."""
    path = folder / "model.onnx"
    content = read_onnx(path)
    check_onnx(content, str(path))
    with invalid_refused(content, str(path)):
        count_onnx(parse_onnx(content, str(path)))


def weights(folder: Path) -> None:
    """Weights of a person's own, as safetensors and as a state_dict."""
    for name in ("weights.safetensors", "weights.pt"):
        if (folder / name).exists():
            read_weights(folder / name)


MODEL_TARGETS: dict[str, Target] = {target.__name__: target for target in (teacher, profile, weights)}
