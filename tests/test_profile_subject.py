"""What ``nas profile`` was asked to profile."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import make_record, write_study
from onnx_models import tiny_artifact
from torch import nn

from nas.artifact import open_session, probabilities
from nas.describe import describe
from nas.errors import NasError, SpaceError
from nas.profile import subject as profiling
from nas.profile.subject import profile_subject
from nas.store import sha256_bytes
from nas.target import Target

NESTED = """
family: convnet
architecture:
  a: [1, 2]
  b: {values: [false, true], when: {a: [2]}}
  c: {values: [1, 2], when: {b: [true]}}
"""
TARGET = Target.parse("onnxruntime-cpu-1t-b1")


def asked(monkeypatch: pytest.MonkeyPatch, subject: str, *settings: str) -> dict[str, Any]:
    """What would be profiled, without the measurement."""
    calls: dict[str, Any] = {}
    monkeypatch.setattr(profiling, "profile_design", lambda design, shape, *_: calls.update(design=design, shape=shape))
    monkeypatch.setattr(profiling, "profile_onnx", lambda path, target, title: calls.update(path=path, title=title))
    profile_subject(subject, settings, (28, 20, 1), 10, TARGET)
    return calls


def test_settings_of_active_choices_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = asked(monkeypatch, "convnet", "stages=3", "stage3.width=128")
    assert calls["design"].architecture["stage3.width"] == 128
    assert calls["shape"] == (1, 28, 20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["stage3.width=128"],
            r"'stage3\.width' cannot be set: .* only where stages is 3.*, but here stages is 1 \(add --set stages=3",
        ),
        (["stages=2", "stage3.width=128"], r"but here stages is 2"),
        (["stage3.width=7"], r"'stage3\.width' cannot be set"),
        (["stage3.width"], r"--set takes NAME=VALUE"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(
    monkeypatch: pytest.MonkeyPatch, settings: list[str], message: str
) -> None:
    with pytest.raises(NasError, match=message):
        asked(monkeypatch, "convnet", *settings)


def test_the_condition_may_be_a_choice_that_is_not_made_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = tmp_path / "own.yaml"
    space.write_text(NESTED)
    with pytest.raises(SpaceError, match=r"only where b is true, but here b is not chosen at all \(add --set b=true"):
        asked(monkeypatch, str(space), "c=2")
    with pytest.raises(SpaceError, match=r"only where a is 2, but here a is 1 \(add --set a=2, or drop --set b\)"):
        asked(monkeypatch, str(space), "b=true")


def test_a_trial_is_titled_by_number_study_and_design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tiny_artifact()
    record = make_record(3, artifact_sha256=sha256_bytes(content))
    study = write_study(tmp_path / "digits", [record])
    study.store.put("key", content, {})
    calls = asked(monkeypatch, f"{study.folder.path}:3")
    assert calls["path"].read_bytes() == content
    assert calls["title"] == f"trial 3 of digits: {describe(record.design)}"


def test_a_study_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = write_study(tmp_path / "digits", [make_record(3)])
    with pytest.raises(NasError, match="is a study, not one model"):
        asked(monkeypatch, str(study.folder.path))


def test_a_file_needs_no_title(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").write_bytes(tiny_artifact())
    assert asked(monkeypatch, str(tmp_path)) == {"path": tmp_path / "model.onnx", "title": ""}


@pytest.mark.parametrize("target", ["onnxruntime-cpu-1t-b1", "openvino-cpu-1t-b1", "torch-cpu-1t-b1"])
def test_a_design_is_exported_as_its_target_takes_it(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    exporters: list[Any] = []
    monkeypatch.setattr(
        profiling, "profile_design", lambda design, shape, classes, target, export: exporters.append(export)
    )
    profile_subject("convnet", [], (8, 8, 1), 4, Target.parse(target))
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    content = exporters[0](network)
    if target.startswith("torch"):
        program = torch.export.load(io.BytesIO(content)).module()
        outputs = program(torch.zeros(3, 8, 8, 1, dtype=torch.uint8)).detach().numpy()
    else:
        outputs = probabilities(open_session(content), np.zeros((3, 8, 8, 1), np.uint8))
    assert outputs.shape == (3, 4)
    np.testing.assert_allclose(outputs.sum(axis=1), np.ones(3), rtol=1e-5)
