"""Targets and places: read, written, and refused with a reason."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import RecipeError, UnsupportedError
from nas.target import DEVICES, ONNX, RUNTIMES, SYMMETRIC, TORCH_PROGRAM, Place, Target, usable_cores


@st.composite
def targets(draw: st.DrawFn) -> Target:
    """Any target that some runtime has."""
    runtime = draw(st.sampled_from(sorted(RUNTIMES)))
    device = draw(st.sampled_from(sorted(RUNTIMES[runtime].forms)))
    precision = draw(st.sampled_from([None, *RUNTIMES[runtime].precisions.get(device, ())]))
    threads = None if device == "cuda" else draw(st.integers(1, 512))
    return Target(runtime, device, threads, draw(st.integers(1, 4096)), precision)


@given(targets())
def test_parse_and_name_are_inverse(target: Target) -> None:
    assert Target.parse(f" {target.name} ") == target
    assert Place.parse(target.place.name) == target.place
    assert Place.parse(target.name) is None


@pytest.mark.parametrize(
    ("text", "target", "form"),
    [
        ("onnxruntime-cpu-1t-b1", Target("onnxruntime", "cpu", 1, 1), ONNX),
        ("onnxruntime-cuda-b8", Target("onnxruntime", "cuda", None, 8), ONNX),
        ("openvino-cpu-2t-b1", Target("openvino", "cpu", 2, 1), ONNX),
        ("openvino-cpu-2t-b1-bf16", Target("openvino", "cpu", 2, 1, "bf16"), ONNX),
        ("torch-cpu-1t-b8", Target("torch", "cpu", 1, 8), TORCH_PROGRAM),
        ("torch-cuda-b1-fp16", Target("torch", "cuda", None, 1, "fp16"), TORCH_PROGRAM),
        ("inductor-cpu-16t-b256", Target("inductor", "cpu", 16, 256), TORCH_PROGRAM),
        ("inductor-cuda-b1-bf16", Target("inductor", "cuda", None, 1, "bf16"), TORCH_PROGRAM),
        ("tensorrt-cuda-b1-fp16", Target("tensorrt", "cuda", None, 1, "fp16"), SYMMETRIC),
    ],
)
def test_every_runtime_is_read(text: str, target: Target, form: str) -> None:
    assert Target.parse(text) == target
    assert target.name == text
    assert target.form == form
    assert target.place == Place(target.device, target.batch)


@pytest.mark.parametrize("name", sorted(RUNTIMES))
def test_what_is_known_of_a_runtime_is_complete(name: str) -> None:
    kind = RUNTIMES[name]
    assert kind.title
    assert set(kind.forms) <= set(DEVICES)
    assert set(kind.install) == set(kind.forms)
    assert set(kind.precisions) <= set(kind.forms)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown runtime ''"),
        ("onnxrutime-cpu-1t-b1", r"unknown runtime 'onnxrutime'; did you mean 'onnxruntime'\?"),
        ("cpu-b1", r"target 'cpu-b1' is a place, .* \(name one, such as onnxruntime-cpu-1t-b1\)"),
        ("cuda-b8", r"'cuda-b8' is a place, where several .* such as torch-cuda-b8\)"),
        ("onnxruntime-gpu-1t-b1", "unknown device 'gpu'"),
        ("onnxruntime", "not of the form RUNTIME-cpu-THREADSt-bBATCH"),
        ("onnxruntime-cpu", "not of the form RUNTIME-cpu-THREADSt-bBATCH"),
        ("onnxruntime-cpu-b1", "not of the form RUNTIME-cpu-THREADSt-bBATCH"),
        ("onnxruntime-cpu-1t", "not of the form"),
        ("onnxruntime-cpu-1-1", r"not of the form.*such as onnxruntime-cpu-1t-b1"),
        ("onnxruntime-cpu-1t-b1-fp-16", "not of the form"),
        ("torch-cuda-1t-b1", r"not of the form RUNTIME-cuda-bBATCH.*threads are the CPU's"),
        ("torch-cuda", "not of the form RUNTIME-cuda-bBATCH"),
        ("onnxruntime-cpu-0t-b1", "threads must be at least 1, but got 0"),
        ("onnxruntime-cpu--1t-b1", "threads must be at least 1, but got -1"),
        ("onnxruntime-cpu-1t-b0", "batch must be at least 1, but got 0"),
        ("torch-cuda-b-2", "batch must be at least 1, but got -2"),
        ("openvino-cuda-b1", "OpenVINO does not run on 'cuda'.*it runs on cpu"),
        ("tensorrt-cpu-1t-b1", "TensorRT does not run on 'cpu'.*it runs on cuda"),
        ("onnxruntime-cpu-1t-b1-fp16", "ONNX Runtime on cpu has no precision 'fp16'.*the design decides it"),
        ("torch-cpu-1t-b1-fp16", r"torch on cpu has no precision 'fp16' \(it knows bf16\)"),
        ("torch-cuda-b1-int8", r"torch on cuda has no precision 'int8' \(it knows fp16, bf16\)"),
    ],
)
def test_malformed_targets_are_explained(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Target.parse(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("cpu-b1", Place("cpu", 1)),
        (" cuda-b32 ", Place("cuda", 32)),
        ("cpu-b0", None),
        ("cpu-b-1", None),
        ("gpu-b1", None),
        ("cpu", None),
        ("cpu-1t-b1", None),
        ("cpu-b1-fp16", None),
        ("onnxruntime-cpu-1t-b1", None),
    ],
)
def test_places(text: str, place: Place | None) -> None:
    assert Place.parse(text) == place


def test_targets_of_one_place_differ_in_what_serves() -> None:
    names = ("onnxruntime-cpu-1t-b1", "openvino-cpu-2t-b1-bf16", "torch-cpu-1t-b1")
    assert {Target.parse(name).place.name for name in names} == {"cpu-b1"}


def test_more_threads_than_cores_are_refused_only_when_measuring() -> None:
    cores = usable_cores()
    Target("onnxruntime", "cpu", cores, 1).check_cores()
    Target("torch", "cuda", None, 1).check_cores()
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
    modules = ["target", *(f"measure.{name}" for name in ("clock", "environment", "latency", "startup", "measurer"))]
    imports = "; ".join(f"import nas.{module}" for module in modules)
    heavy = ("torch", "onnxruntime", "optuna", "sklearn", "pydantic")
    code = f"import sys; {imports}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
