from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nas.errors import RecipeError, UnsupportedError
from nas.target import Target, usable_cores


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("batch", [1, 8, 256])
def test_parse_and_name_are_inverse(threads: int, batch: int) -> None:
    text = f"onnxruntime-cpu-{threads}t-b{batch}"
    target = Target.parse(f" {text} ")
    assert target == Target("onnxruntime", "cpu", threads, batch)
    assert target.name == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onnxrutime-cpu-1t-b1", r"unknown runtime 'onnxrutime'; did you mean 'onnxruntime'\?"),
        ("onnxruntime-gpu-1t-b1", "unknown device 'gpu'"),
        ("onnxruntime", "not of the form RUNTIME-DEVICE-THREADSt-bBATCH"),
        ("onnxruntime-cpu", "not of the form RUNTIME-DEVICE-THREADSt-bBATCH"),
        ("onnxruntime-cpu-b1", "not of the form"),
        ("onnxruntime-cpu-1t", "not of the form"),
        ("onnxruntime-cpu-1-1", r"not of the form.*such as onnxruntime-cpu-1t-b1"),
        ("onnxruntime-cpu-1t-b1-fp16", "not of the form"),
        ("onnxruntime-cpu-0t-b1", "threads must be at least 1, but got 0"),
        ("onnxruntime-cpu-1t-b0", "batch must be at least 1, but got 0"),
        ("onnxruntime-cpu--1t-b1", "threads must be at least 1, but got -1"),
        ("", "unknown runtime ''"),
    ],
)
def test_malformed_targets_are_explained(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Target.parse(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("openvino-cpu-2t-b1", "openvino"),
        ("torch-cpu-1t-b8", "torch"),
        ("inductor-cpu-1t-b1", "inductor"),
        ("tensorrt-cuda-b1", "tensorrt"),
        ("torch-cuda-b1-fp16", "torch"),
        ("onnxruntime-cuda-1t-b1", "cuda"),
    ],
)
def test_known_but_unavailable_targets_are_unsupported(text: str, name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"the (runtime|device) '{name}' is not supported yet \(available: "):
        Target.parse(text)


def test_more_threads_than_cores_are_refused_only_when_measuring() -> None:
    cores = usable_cores()
    Target("onnxruntime", "cpu", cores, 1).check_cores()
    too_many = Target.parse(f"onnxruntime-cpu-{cores + 1}t-b1")
    with pytest.raises(UnsupportedError, match=f"wants {cores + 1} threads, but this process may use {cores} cores"):
        too_many.check_cores()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_usable_cores_follow_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_measuring_needs_no_torch_and_starts_cheaply() -> None:
    modules = ["clock", "environment", "latency", "startup", "target"]
    imports = "; ".join(f"import nas.measure.{module}" for module in modules)
    heavy = ("torch", "onnxruntime", "optuna", "sklearn", "pydantic")
    code = f"import sys; {imports}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
