from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fakes import make_design
from onnx import TensorProto, helper
from onnx_models import article_network, make_model, tiny_artifact
from rich.console import Console
from torch import nn

from nas.errors import ArtifactError, InfeasibleDesignError, UnsupportedError
from nas.measure.clock import Policy
from nas.measure.complexity import LayerComplexity
from nas.measure.measurer import Measurer
from nas.measure.platform import Platform
from nas.outcome import How, Quantity
from nas.profile import Profile, profile_design, profile_onnx, render
from nas.profile.names import short_names
from nas.target import Target, usable_cores

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
SHORT = Policy(warmup_ms=0, minimum_samples=10, minimum_ms=0, maximum_ms=1000)
CONV_SPEED, MATMUL_SPEED = 1e9, 4e9


MEASURER = Measurer(SHORT)  # its processes start when they are asked for the first time


@pytest.fixture(scope="module", autouse=True)
def one_measuring_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Stays up for all tests here, and waits for nothing else on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_LEASE_FOLDER", str(tmp_path_factory.mktemp("lease") / "folder"))
        yield
        MEASURER.close()


def fake_platform(threads: int) -> Platform:
    return Platform(MATMUL_SPEED, CONV_SPEED, threads)


def profiled(tmp_path: Path, content: bytes, target: Target = TARGET) -> Profile:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    return profile_onnx(path, target, MEASURER, fake_platform)


def printed(profile: Profile, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(render(profile))
    return out.getvalue()


def test_worked_example_takes_one_millisecond_at_one_gflops(tmp_path: Path) -> None:
    profile = profiled(tmp_path, article_network())
    assert [layer.flops for layer in profile.complexity.layers if layer.flops] == [60_840, 259_200, 737_280, 2_560]
    assert profile.complexity.flops == 1_059_880
    assert profile.flops_per_second == 1e9
    assert round(profile.estimate_ms) == 1
    assert profile.estimated_fps == pytest.approx(1e9 / 1_059_880)


def test_measured_time_is_that_of_the_file(tmp_path: Path) -> None:
    content = article_network()
    profile = profiled(tmp_path, content)
    assert profile.latency.key == f"latency_ms@{TARGET.name}"
    assert profile.latency.how is How.MEASURED
    assert profile.latency.detail["samples"] == 10
    assert profile.size_bytes == len(content)
    assert profile.measured_fps == pytest.approx(1000 / profile.latency.value)
    assert profile.measured_over_estimated == pytest.approx(profile.latency.value / 1.05988)


def test_networks_without_convolutions_are_estimated_by_the_matrix_product(tmp_path: Path) -> None:
    profile = profiled(tmp_path, tiny_artifact(classes=3))
    assert profile.calibration == "matrix product"
    assert profile.estimate_ms == pytest.approx(1000 * 2 * 48 / MATMUL_SPEED)


def test_batch_multiplies_estimate_and_fps(tmp_path: Path) -> None:
    one = profiled(tmp_path, article_network())
    eight = profiled(tmp_path, article_network(), Target.parse("onnxruntime-cpu-1t-b8"))
    assert eight.estimate_ms == pytest.approx(8 * one.estimate_ms)
    assert eight.estimated_fps == pytest.approx(one.estimated_fps)
    assert eight.latency.detail["batch"] == 8
    assert eight.measured_fps == pytest.approx(8000 / eight.latency.value)


def fixed(batch: int) -> bytes:
    node = helper.make_node("MatMul", ["images", "w"], ["probabilities"])
    return make_model([node], {"w": np.zeros((12, 5), np.float32)}, [batch, 12])


def test_file_with_a_fixed_batch_needs_a_target_with_that_batch(tmp_path: Path) -> None:
    profile = profiled(tmp_path, fixed(4), Target.parse("onnxruntime-cpu-1t-b4"))
    assert profile.complexity.macs == 240
    assert profile.estimate_ms == pytest.approx(1000 * 480 / MATMUL_SPEED)
    with pytest.raises(ArtifactError, match=r"takes batches of 4 only, .*profile it on 'onnxruntime-cpu-1t-b4'"):
        profiled(tmp_path, fixed(4))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL])
def test_inputs_of_every_type_are_made_up(tmp_path: Path, kind: int) -> None:
    node = helper.make_node("Cast", ["images"], ["probabilities"], to=TensorProto.FLOAT)
    profile = profiled(tmp_path, make_model([node], {}, ["n", 3], kind))
    assert profile.latency.value > 0
    assert profile.estimate_ms == 0
    assert "no multiply-adds were counted" in printed(profile)


def test_input_that_cannot_be_made_up_is_an_error(tmp_path: Path) -> None:
    node = helper.make_node("StringNormalizer", ["images"], ["strings"])
    size = helper.make_node("Size", ["strings"], ["count"])
    cast = helper.make_node("Cast", ["count"], ["probabilities"], to=TensorProto.FLOAT)
    with pytest.raises(ArtifactError, match=r"input 'images' is of type tensor\(string\)"):
        profiled(tmp_path, make_model([node, size, cast], {}, [3], TensorProto.STRING))


def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"there is no model file .*absent\.onnx"):
        profile_onnx(tmp_path / "absent.onnx", TARGET, MEASURER, fake_platform)
    with pytest.raises(ArtifactError, match=r"the model file .* cannot be read: Is a directory"):
        profile_onnx(tmp_path, TARGET, MEASURER, fake_platform)
    with pytest.raises(ArtifactError, match=r"model\.onnx is no ONNX file") as caught:
        profiled(tmp_path, b"a text, not a model")
    assert "\n" not in str(caught.value)
    unknown = make_model([helper.make_node("Nonsense", ["images"], ["probabilities"])], {}, ["n", 3])
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot load the model"):
        profiled(tmp_path, unknown)


def test_more_threads_than_cores_are_unsupported(tmp_path: Path) -> None:
    too_many = Target("onnxruntime", "cpu", usable_cores() + 1, 1)
    with pytest.raises(UnsupportedError, match="threads, but this process may use"):
        profile_onnx(tmp_path / "absent.onnx", too_many)


@pytest.mark.parametrize("text", ["torch-cpu-1t-b1", "inductor-cpu-1t-b1"])
def test_an_onnx_file_is_not_profiled_by_what_takes_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArtifactError, match=rf"\({text}\) takes torch programs, but .*model\.onnx"):
        profiled(tmp_path, tiny_artifact(), Target.parse(text))


@pytest.mark.parametrize("text", ["torch-cuda-b1", "onnxruntime-cuda-b8"])
def test_there_is_no_estimate_for_a_gpu(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"the estimate is for a CPU, not for '{text}'.*nas measure FILE"):
        profiled(tmp_path, tiny_artifact(), Target.parse(text))


def test_a_file_of_two_inputs_is_an_error(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["images", "more"], ["probabilities"])
    model = onnx.load_from_string(make_model([node], {}, ["n", 3]))
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["n", 3]))
    with pytest.raises(ArtifactError, match="the model must have one input, but has images, more"):
        profiled(tmp_path, model.SerializeToString())


class FakeMeasurer(Measurer):
    """Measures nothing, and keeps what it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[bytes, Target, np.ndarray]] = []

    def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        self.asked.append((content, target, images))
        return Quantity("latency_ms", 2.0, "ms", How.MEASURED, target=target.name), np.full(6, 2.0, np.float32)


def test_a_torch_target_is_measured_on_the_design_as_a_program() -> None:
    measurer, target = FakeMeasurer(), Target.parse("torch-cpu-1t-b4")
    profile = profile_design(make_design(), (1, 8, 8), 10, target, lambda network: b"pt2", measurer, fake_platform)
    ((content, asked, images),) = measurer.asked
    assert (content, asked) == (b"pt2", target)
    assert (images.shape, images.dtype) == ((4, 8, 8, 1), np.uint8)
    assert (profile.latency.value, profile.latency.how) == (2.0, How.PROXY)


def test_design_is_built_counted_exported_and_timed() -> None:
    exported: list[nn.Module] = []

    def export(network: nn.Module) -> bytes:
        exported.append(network)
        return tiny_artifact()

    state = torch.random.get_rng_state()
    design = make_design(pruning_ratio=0.5, weight_bits=8, distillation=False)
    profile = profile_design(design, (1, 8, 8), 10, TARGET, export, MEASURER, fake_platform)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert profile.complexity.params == sum(p.numel() for p in exported[0].parameters())
    assert profile.complexity.conv_macs > 0
    assert profile.calibration == "convolution"
    assert profile.size_bytes == len(tiny_artifact())
    assert profile.latency.how is How.PROXY
    assert any(note.startswith("pruning_ratio, weight_bits: not applied") for note in profile.notes)
    assert "convnet on 8×8×1 (H×W×C), 10 classes" in printed(profile)
    assert "untrained" in printed(profile)


def test_infeasible_design_is_an_error() -> None:
    design = make_design()
    architecture = dict(design.architecture) | {"stem.stride": 2}
    design = replace(design, architecture=architecture)
    with pytest.raises(InfeasibleDesignError):
        profile_design(design, (1, 1, 1), 10, TARGET, lambda network: tiny_artifact(), MEASURER, fake_platform)


def test_page_holds_every_number_of_the_article(tmp_path: Path) -> None:
    text = printed(profiled(tmp_path, article_network()))
    for number in ("60,840", "259,200", "737,280", "2,560", "1,059,880", "529,940", "370,338", "368,768"):
        assert re.search(rf"(?<![\d,]){number}(?![\d,])", text), number
    assert "4.0 GFLOP/s matrix product, 1.0 GFLOP/s convolution" in text
    assert "1.06 ms = FLOPs / FLOP/s (convolution); 944 fps" in text
    assert "measured / estimated = " in text
    assert "not counted: Relu (3×)" in text


def test_page_fits_80_columns_whatever_the_names_and_sizes(tmp_path: Path) -> None:
    profile = profiled(tmp_path, article_network())
    layers = (
        LayerComplexity(
            "features.stages.3.blocks.11.inverted_residual.depthwise.convolution",
            "NonDynamicallyQuantizableLinear",
            (1, 2048, 112, 112),
            925_557_032,
            999_999_999,
            1_999_999_998,
            102_760_448,
            205_520_896,
        ),
        LayerComplexity("conv[0]", "Conv2d", (1, 2048, 7, 7), 1, 123_456_789_012, 246_913_578_024, 401_408, 1_204_224),
    )
    huge = replace(profile.complexity, layers=layers, macs=124_456_789_011, flops=248_913_578_022)
    text = printed(replace(profile, complexity=huge))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    for number in (
        "925,557,032",
        "999,999,999",
        "2.000 G",
        "123.457 G",
        "246.914 G",
        "2048×112×112",
        "conv[0]",
        "102,760",
    ):
        assert number in text


def test_disturbed_measurements_are_marked(tmp_path: Path) -> None:
    profile = profiled(tmp_path, tiny_artifact())
    calm = replace(profile, latency=replace(profile.latency, detail={**profile.latency.detail, "unstable": False}))
    assert "unstable" not in printed(calm)
    disturbed = replace(calm, latency=replace(calm.latency, detail={**calm.latency.detail, "unstable": True}))
    assert "unstable: something else ran meanwhile" in printed(disturbed, 200)
    calibrated_badly = replace(calm, platform=replace(calm.platform, unstable=True))
    assert "unstable: something else ran meanwhile" in printed(calibrated_badly, 200)


def layer(name: str, kind: str) -> LayerComplexity:
    return LayerComplexity(name, kind, (1, 24, 16, 16), 5_184, 1_327_104, 2_654_208, 24_576, 69_888)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ([("/model/features/stem/stem.0/Conv", "Conv")], ["stem.0"]),
        ([("/model/head/head.0/GlobalAveragePool", "GlobalAveragePool")], ["head.0"]),
        ([("/model/features/a/Conv_1", "Conv"), ("/model/features/a/Conv", "Conv")], ["a Conv_1", "a"]),
        ([("/a/Conv", "Conv"), ("/a/Relu", "Relu")], ["a", "a"]),  # the column beside tells them apart
        ([("/x/body/body.0/Conv", "Conv"), ("/y/body/body.0/Conv", "Conv")], ["x/body.0", "y/body.0"]),
        ([("/p/x/b/Add", "Add"), ("/q/x/b/Add", "Add"), ("/q/c/Add", "Add")], ["p/b", "q/b", "c"]),
        (
            [(f"/{outer}/{inner}/b/Add", "Add") for outer in "pq" for inner in "xy"],
            ["p/x/b", "p/y/b", "q/x/b", "q/y/b"],
        ),
        ([("channels_first", "Transpose"), ("/Add", "Add")], ["channels_first", "Add"]),
        ([("twice", "Add"), ("twice", "Add")], ["twice", "twice"]),
    ],
)
def test_nodes_have_short_names(named: list[tuple[str, str]], expected: list[str]) -> None:
    assert short_names([layer(name, kind) for name, kind in named]) == expected


def test_no_row_of_an_exported_network_breaks_in_80_columns(tmp_path: Path) -> None:
    stage = "/model/features/stage4/stage4."
    names = [
        f"{stage}{n}/{module}/Conv" for n in (1, 2) for module in ("body/body.6/gate/gate.0", "shortcut/shortcut.0")
    ]
    layers = (
        *(layer(name, "Conv") for name in names),
        layer("/model/head/head.0/GlobalAveragePool", "GlobalAveragePool"),
    )
    profile = profiled(tmp_path, article_network())
    text = printed(replace(profile, complexity=replace(profile.complexity, layers=layers)))
    rows = [line for line in text.splitlines() if "1,327,104" in line]
    assert len(rows) == len(layers)
    for row, name in zip(rows, short_names(layers), strict=True):
        assert row.startswith(f"{name} ")


def test_time_is_written_with_its_interval_as_everywhere(tmp_path: Path) -> None:
    profile = profiled(tmp_path, tiny_artifact())
    latency = replace(profile.latency, value=0.0116, low=0.01158, high=0.01163)
    assert "0.0116 ms (0.01158 to 0.01163) median on" in printed(replace(profile, latency=latency))


def test_title_may_be_given(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(tiny_artifact())
    assert profile_onnx(path, TARGET, MEASURER, fake_platform).title == "blob"
    assert profile_onnx(path, TARGET, MEASURER, fake_platform, "trial 3 of digits").title == "trial 3 of digits"


def test_activations_are_shown_per_layer_and_their_peak_in_words(tmp_path: Path) -> None:
    text = printed(profiled(tmp_path, article_network()))
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["layer"][2:4] == ["output", "kB"]
    assert rows["conv1"][2:4] == ["5×26×26", "13.5"]
    assert rows["dense2"][2:4] == ["10", "0.04"]
    assert "activations take 30.2 kB at most at one time (one image)" in text
    batches = profiled(tmp_path, fixed(4), Target.parse("onnxruntime-cpu-1t-b4"))
    assert "activations take 272 B at most at one time (4 images)" in printed(batches)
