"""How OpenVINO loads a model, and what it says is missing; what every runtime owes is in the contract suite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx_models import make_model, tiny_artifact

from nas.errors import ArtifactError
from nas.measure.runtimes.open_vino import OpenVino, OpenVinoSession, options, reason
from nas.target import Target

openvino = pytest.importorskip("openvino")

TARGET = Target.parse("openvino-cpu-1t-b4")


def test_the_batch_is_fixed_and_the_rest_left_as_it_is() -> None:
    session = OpenVino().load(tiny_artifact(), TARGET)
    assert isinstance(session, OpenVinoSession)
    assert list(session.compiled.input(0).shape) == [4, 4, 4, 1]
    assert list(session.compiled.output(0).shape) == [4, 3]


def test_a_model_of_another_fixed_batch_takes_no_other() -> None:
    fixed = make_model([helper.make_node("Relu", ["images"], ["probabilities"])], {}, [2, 3])
    images = np.ones((2, 3), np.float32)
    session = OpenVino().load(fixed, Target.parse("openvino-cpu-1t-b2"))
    np.testing.assert_array_equal(session.run(images[:1]), images[:1])
    with pytest.raises(ArtifactError, match="the model cannot be run"):
        OpenVino().load(fixed, TARGET).call(np.ones((4, 3), np.float32))


def test_sizes_other_than_the_batch_may_be_free() -> None:
    free = make_model([helper.make_node("Relu", ["images"], ["probabilities"])], {}, ["batch", "width"])
    session = OpenVino().load(free, TARGET)
    for width in (3, 5):
        images = np.ones((6, width), np.float32)
        np.testing.assert_array_equal(session.run(images), images)


def test_its_threads_are_read_off_the_compiled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    session = OpenVino().load(tiny_artifact(), TARGET)
    assert isinstance(session, OpenVinoSession)

    class Compiled:
        def get_property(self, name: str) -> int:
            return {"INFERENCE_NUM_THREADS": 5}[name]

    monkeypatch.setattr(session, "compiled", Compiled())
    assert session.threads == 5


def test_a_precision_that_is_not_kept_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_bfloat16(target: Target) -> dict[str, Any]:
        return options(target) | {"INFERENCE_PRECISION_HINT": "bf16"}

    runtime = OpenVino()
    if runtime.missing(Target.parse("openvino-cpu-1t-b4-bf16")) is not None:
        pytest.skip("the CPU has no bfloat16")
    monkeypatch.setattr("nas.measure.runtimes.open_vino.options", in_bfloat16)
    with pytest.raises(ArtifactError, match="computes the model in bf16 where f32 was asked for"):
        runtime.load(tiny_artifact(), TARGET)


# --- what is missing


class Core:
    """A core without a CPU, or whose CPU has no bfloat16."""

    def __init__(self, devices: list[str]) -> None:
        self.available_devices = devices

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return ["FP32", "INT8"]


@pytest.mark.parametrize(
    ("devices", "target", "said"),
    [
        ([], "openvino-cpu-1t-b1", "has no plugin for this CPU"),
        (["CPU"], "openvino-cpu-1t-b1-bf16", "this CPU has no bfloat16 arithmetic"),
    ],
)
def test_a_device_or_an_arithmetic_that_is_missing(
    devices: list[str], target: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino, "Core", lambda: Core(devices))
    missing = OpenVino().missing(Target.parse(target))
    assert missing is not None
    assert said in missing.message
    assert missing.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Exception from src/a.cpp:1:\nCheck 'x' failed at src/b.cpp:2:\nthe shape\n is wrong\n\n",
            "the shape is wrong",
        ),
        ("plain", "plain"),
        ("Exception from src/a.cpp:1:\n", "Exception from src/a.cpp:1:"),
        ("", "RuntimeError"),
    ],
)
def test_what_it_says_of_an_error_is_one_line_without_its_own_source(text: str, said: str) -> None:
    assert reason(RuntimeError(text)) == said
