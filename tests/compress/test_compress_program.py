"""The torch program gives what the ONNX artifact gives, from the same input, and holds nothing else."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from foreign_networks import ResNet
from small_networks import make_design, sampled_network, with_statistics
from torch import Tensor, nn

from nas.artifact import InputSpec, open_session, probabilities
from nas.compress.export import attach_front_end, export_body
from nas.compress.fold import fold_batch_norms
from nas.compress.program import export_program, unrealised
from nas.compression import CHOICES
from nas.data.normalise import Normalisation
from nas.errors import UnsupportedError
from nas.families.layout import keep_contiguous
from nas.measure.runtimes.program_torch import FRONT_END, LAYOUT_FILE

_aten = torch.ops.aten

GREY = InputSpec("uint8", (12, 12, 1))
COLOURS = InputSpec("uint8", (16, 16, 3))
ARRAYS = InputSpec("float32", (3, 16, 16), "NCHW")


def normalisation(spec: InputSpec, given: bool = False) -> Normalisation:
    """As it is computed of bytes, or as a person gives it: another for each channel, no whole numbers."""
    channels = spec.channels_first[0]
    if given:
        return Normalisation(tuple(0.3 + 10.7 * n for n in range(channels)), tuple(1.1 + n for n in range(channels)))
    return Normalisation((73.0,) * channels, (90.5,) * channels)


def images_for(spec: InputSpec, count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    if spec.dtype == "uint8":
        return rng.integers(0, 256, (count, *spec.shape), dtype=np.uint8)
    return rng.normal(5, 3, (count, *spec.shape)).astype(np.float32)


def outputs(program: bytes, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        result: Tensor = torch.export.load(io.BytesIO(program)).module()(torch.from_numpy(images))
    return result.numpy()


def graph_of(program: bytes) -> torch.fx.Graph:
    return torch.export.load(io.BytesIO(program)).module().graph


class Scaled(nn.Module):
    """Constants of its own that are no parameters, in names that differ by their separators alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Module()
        self.a.register_buffer("b", torch.tensor(2.0))
        self.register_buffer("a_b", torch.tensor(3.0))
        self.layer = nn.Linear(3 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        halves = torch.tensor([0.5, 0.25, 0.5, 0.25, 0.5])
        out: Tensor = self.layer((x * self.a.b + self.a_b).flatten(1)) * halves
        return out


class Viewing(nn.Module):
    """What runs on contiguous tensors alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Linear(8 * 16 * 16, 5)
        keep_contiguous(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(self.conv(x)).view(x.shape[0], -1))
        return out


def resnet() -> nn.Module:
    torch.manual_seed(1)
    return with_statistics(ResNet((1, 1), 5, width=8, stem="small"))


NETWORKS = {
    "convnet": (lambda: sampled_network("convnet", (1, 12, 12)), GREY),
    "mobilenet": (lambda: sampled_network("mobilenet", (3, 16, 16)), COLOURS),
    "resnet": (lambda: sampled_network("resnet", (3, 16, 16)), COLOURS),
    "mlp": (lambda: sampled_network("mlp", (1, 12, 12)), GREY),
    "foreign, in place": (resnet, COLOURS),
    "arrays": (resnet, ARRAYS),
    "own constants": (Scaled, COLOURS),
    "contiguous": (lambda: with_statistics(Viewing()), COLOURS),
}


# --- the same as the ONNX artifact -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_the_program_gives_what_the_onnx_artifact_gives(name: str) -> None:
    build, spec = NETWORKS[name]
    network = build().eval().to(memory_format=torch.channels_last if name != "contiguous" else torch.contiguous_format)
    given = name in ("foreign, in place", "arrays")
    onnx = attach_front_end(export_body(network, spec.channels_first), spec, normalisation(spec, given))
    program = export_program(network, spec, normalisation(spec, given))
    for count in (1, 2, 5):
        images = images_for(spec, count)
        expected = probabilities(open_session(onnx), images)
        assert np.abs(outputs(program, images) - expected).max() <= 1e-4
        assert expected.std() > 1e-3, "all alike would hide a difference"


def test_it_takes_what_the_artifact_takes() -> None:
    program = export_program(sampled_network("convnet", (1, 12, 12)), GREY, normalisation(GREY))
    (images,) = graph_of(program).find_nodes(op="placeholder")
    value = images.meta["val"]
    assert images.target == "images"
    assert (value.dtype, tuple(value.shape[1:])) == (torch.uint8, GREY.shape)
    assert not isinstance(value.shape[0], int), "the batch is free"


# --- what is in the file ---------------------------------------------------------------------------------------------


def test_the_same_network_gives_the_same_bytes() -> None:
    first, second = (export_program(resnet(), COLOURS, normalisation(COLOURS)) for _ in range(2))
    assert first == second


def test_it_holds_no_source_paths_and_no_pixels() -> None:
    content = export_program(resnet(), COLOURS, normalisation(COLOURS))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert {name: data for name, data in files.items() if "sample_inputs" in name and data} == {}
    for name, data in files.items():
        assert not any(word in data for word in (b".py", b"ResNet", b"stack_trace")), name


def test_exporting_leaves_the_network_as_it_was() -> None:
    network = resnet().to(memory_format=torch.channels_last)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    export_program(network, COLOURS, normalisation(COLOURS))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network.conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("name", "layout"), [("foreign, in place", "channels_last"), ("contiguous", "contiguous")])
def test_it_says_how_tensors_lie_and_stores_them_contiguous(name: str, layout: str) -> None:
    build, spec = NETWORKS[name]
    extra = {LAYOUT_FILE: ""}
    program = torch.export.load(io.BytesIO(export_program(build(), spec, normalisation(spec))), extra_files=extra)
    assert extra == {LAYOUT_FILE: layout}
    assert all(tensor.is_contiguous() for tensor in program.state_dict.values())


def test_the_front_end_s_constants_can_be_told_from_the_network_s() -> None:
    program = export_program(sampled_network("convnet", (1, 12, 12)), GREY, normalisation(GREY))
    names = {str(node.target) for node in graph_of(program).find_nodes(op="get_attr")}
    assert {name for name in names if name.startswith(FRONT_END)} == {f"{FRONT_END}mean", f"{FRONT_END}scale"}


# --- batch norm ------------------------------------------------------------------------------------------------------


class TwoUses(nn.Module):
    """The convolution's output goes on beside the batch norm, which cannot be folded into it then."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        out: Tensor = (y + self.norm(y)).mean((2, 3))
        return out


def linear_norm() -> nn.Module:
    norm = nn.BatchNorm1d(6)
    norm.running_mean, norm.running_var = torch.randn(6), torch.rand(6) + 0.5
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 6, bias=False), norm)


def shared_layer() -> nn.Module:
    conv = nn.Conv2d(3, 3, 1)
    norms = nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False)
    return with_affine(nn.Sequential(conv, norms[0], conv, norms[1], nn.Flatten()))


def with_affine(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (resnet, 0),
        (linear_norm, 0),
        (shared_layer, 0),
        (lambda: with_affine(TwoUses()), 1),
        (lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten()), 1),
    ],
    ids=["residual", "linear", "a layer used twice", "two uses", "statistics of its own"],
)
def test_batch_norms_are_folded_where_they_can_be(network: nn.Module, left: int) -> None:
    torch.manual_seed(0)
    float_network = network().eval()
    images = torch.randn(4, 3, 16, 16)
    program = torch.export.export(float_network, (images,), strict=False)
    folded = fold_batch_norms(program.module())
    norms = [node for node in folded.graph.nodes if node.target is _aten.batch_norm.default]
    assert len(norms) == left
    with torch.no_grad():
        torch.testing.assert_close(folded(images), float_network(images), rtol=1e-4, atol=1e-5)


# --- what it cannot do -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compression", "expected"),
    [
        ({}, ()),
        ({"pruning_ratio": 0.5, "sparsity": 0.5, "distillation": True}, ()),
        ({"weight_bits": 8, "activation_bits": 8, "calibration": "entropy"}, (
            "activation_bits", "calibration", "weight_bits"
        )),
        ({"weight_bits": 8, "quantisation_aware": True, "pruning_ratio": 0.25}, ("quantisation_aware", "weight_bits")),
        ({"weight_sharing": "kmeans", "codebook_bits": 5}, ("codebook_bits", "weight_sharing")),
        ({"stage1.weight_bits": 8}, ("stage1.weight_bits",)),
        ({"weight_bits": 8, "stage1.weight_bits": 32}, ("weight_bits",)),
        ({"weight_bits": 32, "activation_bits": 32, "weight_sharing": "none"}, ()),
    ],
    ids=lambda value: " ".join(value) or "none",
)  # fmt: skip
def test_choices_without_effect_are_named(compression: dict[str, object], expected: tuple[str, ...]) -> None:
    assert sorted(unrealised(make_design(**compression))) == sorted(expected)  # type: ignore[arg-type]


def test_every_choice_has_an_effect_or_is_named() -> None:
    """A new choice must be thought of here too."""
    on_the_network = {
        *("pruning_ratio", "pruning_criterion", "pruning_steps", "pruning_rounding", "sparsity"),
        *("distillation", "distillation_temperature", "distillation_weight"),
    }
    on_the_graph = {
        *("weight_sharing", "codebook_bits", "weight_bits", "activation_bits", "calibration", "quantisation_aware")
    }
    assert set(CHOICES) == on_the_network | on_the_graph


class Deciding(nn.Module):
    """A part of it looks at its values, which no export can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Flatten()
        self.gate = Gate()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.gate(self.first(x))
        return out


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_decides_by_its_values_is_refused_by_its_layer() -> None:
    with pytest.raises(UnsupportedError, match="cannot be exported as a torch program at layer 'gate': ") as raised:
        export_program(Deciding(), COLOURS, normalisation(COLOURS))
    assert "\n" not in raised.value.message
    assert "must not decide by the values" in raised.value.hint


class OneImage(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1)


def test_a_network_for_one_number_of_images_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="cannot be exported as a torch program"):
        export_program(OneImage(), COLOURS, normalisation(COLOURS))
