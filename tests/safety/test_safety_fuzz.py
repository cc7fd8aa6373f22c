"""Readers of what comes from outside, let at damaged and harmful files: a NasError, in time, and nothing written.

Few examples each; many with NAS_SLOW=1. What was found so is a test of its own in ``test_safety_limits.py``.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from deploy_fakes import make_example
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safety_inputs import (
    RECIPE,
    SPACE,
    damaged_bytes,
    idx_folders,
    image_folders,
    json_files,
    npz_files,
    uploads,
    yaml_files,
)
from safety_models import onnx_files
from safety_sandbox import sandbox, tried
from safety_targets import FILES, KEY, TARGETS
from safety_worker import Worker

from nas.deploy import Limits, choose, write_deployment

SLOW = os.environ.get("NAS_SLOW") == "1"
EXAMPLES = int(os.environ.get("NAS_FUZZ_EXAMPLES", "3000" if SLOW else "25"))


def fuzzed(examples: int = EXAMPLES) -> settings:
    """So many examples, none of which is timed by hypothesis: ``tried`` does."""
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not SLOW,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a study and its deployment wrote: a deployment's description, its model, and a trial's record."""
    place = tmp_path_factory.mktemp("written")
    study = make_example(place / "birds").study
    folder = write_deployment(study, choose(study, Limits(max_latency_ms=1)), place / "deploy")
    record = dataclasses.replace(study.records[0], number=0)
    return {
        "deployment": json.loads((folder / "deployment.json").read_text()),
        "model": (folder / "model.onnx").read_bytes(),
        "records": json.loads(json.dumps(record.to_json())),
        "cache": {"sha256": KEY, "detail": {"curve": []}},
    }


@pytest.mark.parametrize("target", ["recipe", "space"])
def test_yaml(target: str) -> None:
    @fuzzed()
    @given(yaml_files({"recipe": RECIPE, "space": SPACE}[target]))
    def holds(content: bytes) -> None:
        tried(TARGETS[target], {FILES[target]: content})

    holds()


@pytest.mark.parametrize("target", ["deployment", "records", "cache"])
def test_json(target: str, written: dict[str, Any]) -> None:
    @fuzzed()
    @given(json_files(written[target]))
    def holds(content: bytes) -> None:
        tried(TARGETS[target], {FILES[target]: content, "model.onnx": written["model"]})

    holds()


@fuzzed()
@given(npz_files())
def test_npz(content: bytes) -> None:
    tried(TARGETS["npz"], {"data.npz": content})


@fuzzed()
@given(idx_folders())
def test_idx(files: dict[str, bytes]) -> None:
    tried(TARGETS["idx"], files)


@pytest.mark.parametrize("target", ["images", "resized"])
def test_images(target: str) -> None:
    @fuzzed()
    @given(image_folders())
    def holds(files: dict[str, bytes]) -> None:
        tried(TARGETS[target], files)

    holds()


@fuzzed()
@given(uploads())
def test_uploads(content: bytes) -> None:
    tried(TARGETS["upload"], {"upload": content})


@fuzzed()
@given(onnx_files())
def test_onnx_is_walked_through(content: bytes) -> None:
    tried(TARGETS["onnx_bytes"], {"model.onnx": content})


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    found = Worker()
    yield found
    found.close()


def _asked(worker: Worker, target: str, files: dict[str, bytes]) -> None:
    with sandbox(files) as folder:
        state, words = worker.ask(target, folder)
    assert state in ("ok", "refused"), f"{state}: {words}"


@pytest.mark.parametrize("target", ["teacher", "profile"])
def test_models_run_in_a_process_of_their_own(target: str, worker: Worker) -> None:
    @fuzzed(EXAMPLES)
    @given(onnx_files())
    def holds(content: bytes) -> None:
        _asked(worker, target, {"model.onnx": content, "w.bin": b"\0" * 192})

    holds()


def _weights(path: Path) -> dict[str, bytes]:
    tensors = {"a.weight": torch.zeros(3, 2), "a.bias": torch.zeros(3, dtype=torch.float16)}
    torch.save(tensors, path)
    return {"weights.safetensors": safetensors.torch.save(tensors), "weights.pt": path.read_bytes()}


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_weights(name: str, worker: Worker, tmp_path: Path) -> None:
    content = _weights(tmp_path / "w.pt")[name]

    @fuzzed(EXAMPLES)
    @given(st.one_of(damaged_bytes(content), st.binary(max_size=100)))
    def holds(damaged: bytes) -> None:
        _asked(worker, "weights", {name: damaged})

    holds()
