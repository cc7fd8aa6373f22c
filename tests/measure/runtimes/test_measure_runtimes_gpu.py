"""ONNX Runtime on a GPU, as far as it can be tried without one.

What is bound, copied and run is tried for real, in the CPU's memory. What a GPU's provider says or refuses is played.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_models import make_model, tiny_artifact
from runtime_cases import make_images, two_inputs_onnx

from nas.errors import ArtifactError
from nas.measure.runtimes.bound import BoundSession, OnnxFile
from nas.measure.runtimes.nvidia import UNKNOWN, Card, first_card
from nas.measure.runtimes.onnx_runtime_gpu import ENGINES_KEPT_SECONDS, OnnxRuntimeCuda, TensorRt
from nas.measure.runtimes.registry import load_runtime
from nas.target import Target

CUDA, CPU, TENSORRT = "CUDAExecutionProvider", "CPUExecutionProvider", "TensorrtExecutionProvider"
ON_CUDA = Target.parse("onnxruntime-cuda-b3")
ON_TENSORRT = Target.parse("tensorrt-cuda-b1-fp16")
CARD = Card("NVIDIA Test", "555.1")
REAL_SESSION = onnxruntime.InferenceSession


@dataclass
class Part:
    """Nodes that ONNX Runtime gives to one provider."""

    ep_name: str
    nodes: tuple[Any, ...]

    def get_nodes(self) -> tuple[Any, ...]:
        return self.nodes


@dataclass
class Gpu:
    """How the GPU that is played behaves, and what was asked of it.

    Args:
        starts: Whether its provider starts; else ONNX Runtime goes on with the CPU's.
        refuses: Options of the provider that make it raise.
        fails_recorded: Whether runs fail in a session that records a CUDA graph.
        elsewhere: Operators that its provider leaves to the CPU's.
        wrong: Added to all outputs.
    """

    starts: bool = True
    refuses: tuple[str, ...] = ()
    fails_recorded: bool = False
    elsewhere: tuple[str, ...] = ()
    wrong: float = 0.0
    asked: list[dict[str, Any]] = field(default_factory=list)

    def session(self, content: bytes, settings: Any, **options: Any) -> PlayedSession:
        name, chosen = options["providers"][0]
        self.asked.append({"provider": name, "options": chosen, **options})
        for option in self.refuses:
            if option in chosen:
                raise RuntimeError(f"the graph cannot be partitioned\nwith {option}")
        return PlayedSession(self, name, chosen, REAL_SESSION(content, settings, providers=[CPU]))


class PlayedSession:
    """A session on the CPU that says that it is another provider's."""

    def __init__(self, gpu: Gpu, provider: str, options: Mapping[str, str], real: onnxruntime.InferenceSession) -> None:
        self.gpu, self.provider, self.options, self.real = gpu, provider, options, real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def get_providers(self) -> list[str]:
        return [self.provider, CPU] if self.gpu.starts else [CPU]

    def get_provider_graph_assignment_info(self) -> list[Part]:
        parts = []
        for part in self.real.get_provider_graph_assignment_info():
            nodes = tuple(part.get_nodes())
            left = any(node.op_type in self.gpu.elsewhere for node in nodes)
            parts.append(Part(CPU if left else self.provider, nodes))
        return parts

    def run(self, names: Any, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [output + np.float32(self.gpu.wrong) for output in self.real.run(names, feeds)]

    def run_with_iobinding(self, binding: Any) -> None:
        if self.gpu.fails_recorded and "enable_cuda_graph" in self.options:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.real.run_with_iobinding(binding)


class InHostMemory(OnnxRuntimeCuda):
    """The CUDA runtime with its buffers in the host's memory."""

    device = "cpu"


class TensorRtInHostMemory(TensorRt):
    device = "cpu"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()

    class Session:
        get_provider_graph_assignment_info = None  # ONNX Runtime has it

        def __new__(cls, content: bytes, settings: Any, **options: Any) -> PlayedSession:  # type: ignore[misc]
            return gpu.session(content, settings, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    return gpu


def cuda(card: Card = CARD) -> InHostMemory:
    return InHostMemory(lambda: card)


def plain(content: bytes, images: np.ndarray) -> np.ndarray:
    session = REAL_SESSION(content, providers=[CPU])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


# --- bound memory


def bound(content: bytes, batch: int) -> BoundSession:
    file = OnnxFile.read(content)
    settings = onnxruntime.SessionOptions()
    settings.add_free_dimension_override_by_name(file.batch_name, batch)
    return BoundSession(REAL_SESSION(file.content, settings, providers=[CPU]), "cpu", batch)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_any_number_of_images_goes_through_the_bound_memory(count: int) -> None:
    session = bound(tiny_artifact(), 3)
    images = make_images(count)
    np.testing.assert_allclose(session.run(images), plain(tiny_artifact(), images), atol=1e-6)
    assert session.threads is None


def test_a_call_copies_its_images_in_each_time() -> None:
    session = bound(tiny_artifact(), 2)
    first, second = make_images(2, seed=1), make_images(2, seed=2)
    one, two = session.call(first), session.call(second)
    for call, images in ((one, first), (two, second), (one, first)):
        np.testing.assert_allclose(np.asarray(call()), plain(tiny_artifact(), images), atol=1e-6)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (make_images(2)[:1], "loaded for batches of 2, but got 1 images"),
        (make_images(2).astype(np.float32), r"it takes 2×4×4×1 uint8, but got 2×4×4×1 float32"),
        (make_images(2)[:, :3], r"it takes 2×4×4×1 uint8, but got 2×3×4×1 uint8"),
    ],
)
def test_what_would_fill_the_memory_in_part_is_refused(images: np.ndarray, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        bound(tiny_artifact(), 2).call(images)


def test_a_size_that_is_not_known_is_refused() -> None:
    nodes = [onnx.helper.make_node("Relu", ["images"], ["probabilities"])]
    with pytest.raises(ArtifactError, match=r"all sizes but the batch must be known .* 'images' is 2×height"):
        bound(make_model(nodes, {}, ["batch", "height"]), 2)


@pytest.mark.parametrize(("shape", "name"), [(["N", 4], "N"), ([None, 4], "batch"), ([3, 4], ""), (None, "")], ids=str)
def test_a_free_batch_has_a_name(shape: list[int | str | None] | None, name: str) -> None:
    nodes = [onnx.helper.make_node("Relu", ["images"], ["probabilities"])]
    file = OnnxFile.read(make_model(nodes, {}, shape))
    assert file.batch_name == name
    assert not file.quantised
    dimensions = onnx.load_from_string(file.content).graph.input[0].type.tensor_type.shape.dim
    assert not name or dimensions[0].dim_param == name


def test_an_initializer_among_the_inputs_is_none_and_two_inputs_are_refused() -> None:
    model = onnx.load_from_string(tiny_artifact())
    model.graph.input.append(onnx.helper.make_tensor_value_info("weight", onnx.TensorProto.FLOAT, [16, 3]))
    assert OnnxFile.read(model.SerializeToString()).batch_name == "batch"
    with pytest.raises(ArtifactError, match="one input, but has left, right"):
        OnnxFile.read(two_inputs_onnx())
    with pytest.raises(ArtifactError, match="cannot load the model"):
        OnnxFile.read(b"no model")


# --- where it runs


def test_a_model_is_recorded_where_it_runs_on_the_card_whole(gpu: Gpu) -> None:
    session = cuda().load(tiny_artifact(), ON_CUDA)
    assert isinstance(session, BoundSession)
    assert session.recorded
    images = make_images(4)
    np.testing.assert_allclose(session.run(images), plain(tiny_artifact(), images), atol=1e-6)
    [asked] = gpu.asked
    assert asked["providers"] == [(CUDA, {"device_id": "0", "enable_cuda_graph": "1"})]
    assert asked["enable_fallback"] == 0


@pytest.mark.parametrize("failure", [{"refuses": ("enable_cuda_graph",)}, {"fails_recorded": True}], ids=str)
def test_else_it_runs_unrecorded(gpu: Gpu, failure: dict[str, Any]) -> None:
    for name, value in failure.items():
        setattr(gpu, name, value)
    session = cuda().load(tiny_artifact(), ON_CUDA)
    assert isinstance(session, BoundSession)
    assert not session.recorded
    assert session.run(make_images(2)).shape == (2, 3)
    assert [asked["options"] for asked in gpu.asked] == [
        {"device_id": "0", "enable_cuda_graph": "1"},
        {"device_id": "0"},
    ]


def test_what_is_refused_either_way_is_an_error_in_a_line(gpu: Gpu) -> None:
    gpu.refuses = ("device_id",)
    with pytest.raises(ArtifactError, match="cannot load the model: the graph cannot be partitioned with device_id"):
        cuda().load(tiny_artifact(), ON_CUDA)


def test_going_on_with_another_provider_is_refused(gpu: Gpu) -> None:
    gpu.starts = False
    with pytest.raises(ArtifactError, match=f"cannot load the model: ONNX Runtime would go on with {CPU}"):
        cuda().load(tiny_artifact(), ON_CUDA)


def test_a_layer_that_runs_elsewhere_is_refused_by_name(gpu: Gpu) -> None:
    gpu.elsewhere = ("Gemm", "Cast")
    with pytest.raises(
        ArtifactError, match=f"{CUDA} does not take all of the model: ONNX Runtime would run 1 Gemm by {CPU}"
    ):
        cuda().load(tiny_artifact(), ON_CUDA)


def test_what_only_converts_may_run_elsewhere(gpu: Gpu) -> None:
    gpu.elsewhere = ("Cast", "Flatten")
    assert cuda().load(tiny_artifact(), ON_CUDA).run(make_images(1)).shape == (1, 3)


# --- what is missing


@pytest.mark.parametrize("target", ["onnxruntime-cuda-b1", "tensorrt-cuda-b1-fp16"])
def test_a_provider_that_is_not_built_in(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    parsed = Target.parse(target)
    missing = load_runtime(parsed.runtime).missing(parsed)
    assert missing is not None
    provider = TENSORRT if parsed.runtime == "tensorrt" else CUDA
    assert f"has no {provider}, only {CPU}" in missing.message
    assert parsed.kind.install["cuda"] in missing.hint


def test_no_card(gpu: Gpu) -> None:
    gpu.starts = False
    missing = cuda(Card()).missing(ON_CUDA)
    assert missing is not None
    assert missing.message.startswith("nvidia-smi finds no NVIDIA GPU")
    assert "a machine with a card" in missing.hint


def test_a_card_whose_libraries_are_missing(gpu: Gpu) -> None:
    gpu.starts = False
    missing = cuda().missing(ON_CUDA)
    assert missing is not None
    assert f"{CUDA} does not start on NVIDIA Test, driver 555.1: ONNX Runtime would go on with {CPU}" == missing.message
    assert "onnxruntime-gpu[cuda,cudnn]" in missing.hint


def test_a_card_that_computes_wrongly(gpu: Gpu) -> None:
    gpu.wrong = 1.0
    missing = cuda().missing(ON_CUDA)
    assert missing is not None
    assert "its results are wrong" in missing.message


def test_an_onnx_runtime_that_does_not_tell_where_nodes_run(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info")
    missing = cuda().missing(ON_CUDA)
    assert missing is not None
    assert "does not tell which nodes run on the GPU" in missing.message
    assert "--upgrade" in missing.hint


def test_a_card_that_works_is_tried_once(gpu: Gpu) -> None:
    runtime = cuda()
    assert runtime.missing(ON_CUDA) is None
    assert runtime.missing(ON_CUDA) is None
    assert len(gpu.asked) == 1


# --- TensorRT


def quantised_model() -> bytes:
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["probabilities"]),
    ]
    return make_model(nodes, {"scale": np.float32(0.1), "zero": np.int8(0)}, ["batch", 2])


@pytest.mark.parametrize(
    ("content", "target", "fp16", "int8"),
    [
        (tiny_artifact(), "tensorrt-cuda-b1", "0", "0"),
        (tiny_artifact(), "tensorrt-cuda-b1-fp16", "1", "0"),
        (quantised_model(), "tensorrt-cuda-b8", "0", "1"),
        (quantised_model(), "tensorrt-cuda-b8-fp16", "1", "1"),
    ],
)
def test_tensorrt_is_told_the_precision(
    gpu: Gpu, tmp_path: Path, content: bytes, target: str, fp16: str, int8: str
) -> None:
    TensorRtInHostMemory(lambda: CARD, tmp_path).load(content, Target.parse(target))
    [asked] = gpu.asked
    (name, options), companion = asked["providers"]
    assert (name, companion) == (TENSORRT, (CUDA, {}))
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (fp16, int8)
    assert options["trt_cuda_graph_enable"] == "1"
    assert options["trt_engine_cache_enable"] == "1"
    assert "enable_cuda_graph" not in options
    assert asked["disabled_optimizers"] == ["WeightBiasQuantization"]


def test_networks_that_differ_in_weights_alone_do_not_share_an_engine(gpu: Gpu, tmp_path: Path) -> None:
    model = onnx.load_from_string(tiny_artifact())
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]) + 1
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "weight"))
    runtime = TensorRtInHostMemory(lambda: CARD, tmp_path)
    for content in (tiny_artifact(), model.SerializeToString(), tiny_artifact()):
        runtime.load(content, ON_TENSORRT)
    runtime.load(tiny_artifact(), Target.parse("tensorrt-cuda-b1"))
    one, two, again, other_precision = [Path(asked["options"]["trt_engine_cache_path"]) for asked in gpu.asked]
    assert one == again
    assert len({one, two, other_precision}) == 3
    assert all(folder.is_dir() and folder.parent == tmp_path for folder in (one, two, other_precision))


def test_engines_that_were_not_used_for_long_are_removed(gpu: Gpu, tmp_path: Path) -> None:
    old, recent = tmp_path / "old", tmp_path / "recent"
    for folder in (old, recent):
        folder.mkdir()
        (folder / "x.engine").write_bytes(b"")
    ago = recent.stat().st_mtime - ENGINES_KEPT_SECONDS - 60
    os.utime(old, (ago, ago))
    TensorRtInHostMemory(lambda: CARD, tmp_path).load(tiny_artifact(), ON_TENSORRT)
    assert not old.exists()
    assert recent.exists()


def test_engines_lie_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert TensorRt().folder == tmp_path / "nas" / "tensorrt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert TensorRt().folder == tmp_path / ".cache" / "nas" / "tensorrt"


# --- the environment


def test_the_environment_names_provider_card_and_driver(tmp_path: Path) -> None:
    expected = {
        "onnxruntime": onnxruntime.__version__,
        "provider": CUDA,
        "device": "NVIDIA Test",
        "driver": "555.1",
    }
    assert cuda().environment(ON_CUDA) == expected
    found = TensorRt(lambda: CARD, tmp_path).environment(ON_TENSORRT)
    assert found.pop("tensorrt").strip()
    assert found == expected | {"provider": TENSORRT}


@pytest.mark.parametrize(
    ("said", "card"),
    [
        ("NVIDIA H100, 555.42.06\nNVIDIA L4, 555.42.06\n", Card("NVIDIA H100", "555.42.06")),
        ("No devices were found\n", Card()),
        ("", Card()),
    ],
)
def test_the_card_is_read_off_what_the_drivers_tool_says(
    said: str, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[0] == "nvidia-smi"
        assert options["check"]
        return subprocess.CompletedProcess(command, 0, said, "")

    monkeypatch.setattr(subprocess, "run", run)
    assert first_card() == card
    assert card.known == (card.name != UNKNOWN)


@pytest.mark.parametrize(
    "error", [FileNotFoundError("nvidia-smi"), subprocess.CalledProcessError(9, "nvidia-smi"),
              subprocess.TimeoutExpired("nvidia-smi", 20)], ids=lambda error: type(error).__name__
)  # fmt: skip
def test_without_the_tool_the_card_is_unknown(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    assert first_card() == Card(UNKNOWN, UNKNOWN)
    assert not first_card().known
