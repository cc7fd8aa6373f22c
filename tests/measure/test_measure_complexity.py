from __future__ import annotations

import copy
import math

import foreign_networks
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas.errors import InfeasibleDesignError, NasError
from nas.measure.complexity import Complexity, LayerComplexity, count
from nas.measure.cross_check import disagreements


def article_network() -> nn.Sequential:
    """28×28×1, two valid 3×3 convolutions of 5 filters, linear layers of 128 and 10."""
    return nn.Sequential(
        nn.Conv2d(1, 5, 3),
        nn.ReLU(),
        nn.Conv2d(5, 5, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 24 * 5, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def layer(complexity: Complexity, name: str) -> LayerComplexity:
    return next(item for item in complexity.layers if item.name == name)


def check_sums(complexity: Complexity) -> None:
    """Layers add up to the totals, and 1 MAC is 2 FLOPs throughout."""
    assert sum(item.macs for item in complexity.layers) == complexity.macs
    assert sum(item.flops for item in complexity.layers) == complexity.flops == 2 * complexity.macs
    assert sum(item.params for item in complexity.layers) == complexity.params
    assert 0 <= complexity.conv_macs <= complexity.macs


def test_worked_example_of_the_article() -> None:
    result = count(article_network(), (1, 28, 28))
    assert [item.flops for item in result.layers if item.flops] == [60_840, 259_200, 737_280, 2_560]
    assert result.flops == 1_059_880
    assert result.macs == 529_940
    assert result.conv_macs == (60_840 + 259_200) // 2
    assert result.params == 50 + 230 + 368_768 + 1_290
    assert layer(result, "2").output_shape == (1, 5, 24, 24)
    assert layer(result, "2").kind == "Conv2d"
    assert result.notes == ()
    check_sums(result)


@pytest.mark.parametrize("size", [7, 12])
@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 8), (8, 16), (16, 16)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_separable_against_standard_convolution(kernel: int, channels_in: int, channels_out: int, size: int) -> None:
    """A separable convolution takes the share 1/C_out + 1/k² of a standard one (Howard et al., MobileNets, 2017)."""
    padding = kernel // 2
    standard = count(nn.Conv2d(channels_in, channels_out, kernel, padding=padding), (channels_in, size, size))
    separable = count(
        nn.Sequential(
            nn.Conv2d(channels_in, channels_in, kernel, padding=padding, groups=channels_in),
            nn.Conv2d(channels_in, channels_out, 1),
        ),
        (channels_in, size, size),
    )
    pixels = size * size
    assert standard.macs == pixels * kernel**2 * channels_in * channels_out
    assert separable.macs == pixels * channels_in * (kernel**2 + channels_out)
    assert separable.macs / standard.macs == pytest.approx(1 / channels_out + 1 / kernel**2)
    check_sums(separable)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_grouped_convolution(groups: int, stride: int) -> None:
    result = count(nn.Conv2d(8, 16, 3, padding=1, stride=stride, groups=groups), (8, 10, 10))
    assert result.macs == (10 // stride) ** 2 * 16 * (8 // groups) * 9


def test_transposed_convolution() -> None:
    result = count(nn.ConvTranspose2d(4, 6, 3, stride=2), (4, 5, 5))
    assert result.macs == result.conv_macs == 25 * 4 * 6 * 9


def test_element_wise_layers_are_listed_and_not_counted() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Hardswish(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Softmax(1),
    )
    result = count(network, (3, 8, 8))
    assert result.macs == layer(result, "0").macs == 64 * 3 * 4
    listed = {entry.split(": ")[0]: entry.split(": ")[1] for entry in result.uncounted}
    assert listed["relu"] == "2"
    assert listed["hardswish"] == "3"
    assert listed["max_pool2d_with_indices"] == "4"
    assert any("batch_norm" in name for name in listed)
    assert any("softmax" in name for name in listed)
    assert result.notes == ()
    check_sums(result)


class Functional(nn.Module):
    """A convolution, a linear layer and a matrix product without modules of their own, biases included."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 1, 3, 3))
        self.kernel_bias = nn.Parameter(torch.randn(4))
        self.weight = nn.Parameter(torch.randn(7, 256))
        self.weight_bias = nn.Parameter(torch.randn(7))
        self.matrix = nn.Parameter(torch.randn(7, 5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = F.conv2d(images, self.kernel, self.kernel_bias, padding=1).relu().flatten(1)
        return F.linear(features, self.weight, self.weight_bias) @ self.matrix


def test_functional_operators_are_counted_without_their_biases() -> None:
    result = count(nn.Sequential(Functional(), nn.Linear(5, 2)), (1, 8, 8))
    conv, linear, product = 64 * 9 * 4, 256 * 7, 7 * 5
    assert layer(result, "0").macs == conv + linear + product
    assert layer(result, "0").kind == "Functional"
    assert layer(result, "1").macs == 10
    assert result.conv_macs == conv
    assert result.uncounted == ("relu: 0",)
    check_sums(result)


def test_batched_matrix_product_and_subclass_and_parametrised_layer() -> None:
    class Conv(nn.Conv2d):
        pass

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.utils.parametrizations.weight_norm(Conv(1, 2, 1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.conv(images)
            return features @ features.transpose(2, 3)

    result = count(Network(), (1, 3, 4))
    assert result.macs == 12 * 2 + 2 * 3 * 4 * 3
    check_sums(result)


def test_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(72, 3))
    model[0].requires_grad_(False)
    model[1].eval()
    before, state = set(dir(model)), copy.deepcopy(model.state_dict())
    modes = [item.training for item in model.modules()]
    result = count(model, (1, 8, 8))
    assert [item.training for item in model.modules()] == modes
    assert set(dir(model)) == before
    assert not any(item._forward_hooks or item._forward_pre_hooks for item in model.modules())
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, True, True]
    assert result.params == 20 + 4 + 219  # frozen ones and biases included


def test_shared_layer_counts_operations_twice_and_parameters_once() -> None:
    shared = nn.Linear(4, 4)
    result = count(nn.Sequential(nn.Flatten(), shared, nn.ReLU(), shared), (1, 2, 2))
    assert (result.macs, result.params) == (32, 20)
    check_sums(result)


def test_layer_that_does_not_run_keeps_its_parameters() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Linear(4, 2)
            self.unused = nn.Linear(10, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.used(images.flatten(1))

    result = count(Network(), (1, 2, 2))
    assert (result.macs, result.params) == (8, 120)
    assert layer(result, "unused").output_shape == ()
    check_sums(result)


class Sequence(nn.Module):
    """Reads the rows of a one-channel image one after another."""

    def __init__(self, layer: nn.Module, **arguments: torch.Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.arguments = arguments

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = images.squeeze(1)
        given = self.layer(rows, rows, rows, **self.arguments) if "need_weights" in self.arguments else self.layer(rows)
        return (given[0] if isinstance(given, tuple) else given).flatten(1)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_are_the_products_that_they_are_made_of(kind: type[nn.RNNBase], gates: int) -> None:
    """Each of 3 steps multiplies the input (4), or the layer below (6), and the state (6) by a matrix for each gate."""
    result = count(Sequence(kind(4, 6, num_layers=2, batch_first=True)), (1, 3, 4))
    assert result.macs == 3 * gates * 6 * (4 + 6) + 3 * gates * 6 * (6 + 6)
    assert layer(result, "layer").macs == result.macs
    assert result.conv_macs == 0
    assert result.notes == ()


@pytest.mark.parametrize("frozen", [False, True])  # torch takes another path for a frozen one
@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_is_the_products_that_it_is_made_of(frozen: bool, need_weights: bool) -> None:
    """Four projections of 8 rows of 4 numbers, and two products of 8×8 attention with 4 numbers."""
    network = Sequence(nn.MultiheadAttention(4, 2, batch_first=True), need_weights=need_weights)
    result = count(network.requires_grad_(not frozen), (1, 8, 4))
    assert result.macs == 4 * 8 * 4 * 4 + 2 * 8 * 8 * 4
    assert result.notes == ()


def test_a_layer_of_a_transformer_is_counted_with_its_attention() -> None:
    network = Sequence(nn.TransformerEncoderLayer(4, 2, 16, batch_first=True)).requires_grad_(False)
    result = count(network, (1, 8, 4))
    assert result.macs == 4 * 8 * 4 * 4 + 2 * 8 * 8 * 4 + 2 * 8 * 4 * 16
    assert result.notes == ()


def test_how_torch_runs_fused_layers_is_left_as_it_was() -> None:
    def settings() -> tuple[bool, ...]:
        backends = torch.backends
        return (
            *(backends.mkldnn.enabled, backends.cudnn.enabled, backends.mha.get_fastpath_enabled()),
            *(backends.cuda.flash_sdp_enabled(), backends.cuda.math_sdp_enabled()),
        )

    before = settings()
    count(Sequence(nn.LSTM(4, 6, batch_first=True)), (1, 3, 4))
    assert settings() == before
    with pytest.raises(NasError, match="cannot be run"):
        count(Sequence(nn.LSTM(4, 6, batch_first=True)), (1, 3, 5))
    assert settings() == before


def test_multiply_adds_that_nobody_counts_are_noted() -> None:
    class Projection(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1) @ torch.ones(12)

    result = count(Projection(), (1, 3, 4))
    assert "mv: (network)" in result.uncounted
    assert result.notes == ("'mv' does multiply-adds that were not counted; the real total is larger",)


def test_what_one_counter_alone_counts_is_named_with_both_numbers() -> None:
    """Attention with a mask adds it in the product itself (baddbmm), which ptflops does not know."""
    masked = Sequence(
        nn.MultiheadAttention(4, 2, batch_first=True), need_weights=torch.tensor(True), attn_mask=torch.zeros(8, 8)
    )
    result = count(masked, (1, 8, 4))
    projections, product = 4 * 8 * 4 * 4, 8 * 8 * 4
    assert result.macs == projections + product
    assert "baddbmm: layer" in result.uncounted
    assert result.notes == (
        f"torch's FlopCounterMode counts {2 * product} FLOPs of 'baddbmm', which ptflops does not: the total is "
        f"{result.flops:,} FLOPs without it, {result.flops + 2 * product:,} with it",
    )


@pytest.mark.parametrize(("factor", "noted"), [(1.0, False), (1.015, False), (1.03, True), (0.5, True)])
def test_disagreement_with_torch_is_noted_with_both_numbers(factor: float, noted: bool) -> None:
    ours = {"convolution": 320_040, "addmm": 739_820}
    checked = {name: math.ceil(factor * number) for name, number in ours.items()}
    notes = list(disagreements(ours, checked))
    assert len(notes) == noted
    if noted:
        assert "ptflops counts 1,059,860 FLOPs" in notes[0]
        assert f"FlopCounterMode {sum(checked.values()):,}" in notes[0]


def test_counters_are_compared_over_the_same_operators() -> None:
    """What one of them does not know is no disagreement on what both do."""
    ours, checked = {"addmm": 1000, "matmul": 500}, {"addmm": 1000, "_flash_attention_forward": 700}
    assert list(disagreements(ours, checked)) == [
        "torch's FlopCounterMode counts 700 FLOPs of 'flash_attention_forward', which ptflops does not: "
        "the total is 1,500 FLOPs without it, 2,200 with it",
        "ptflops counts 500 FLOPs of 'matmul', which torch's FlopCounterMode does not: "
        "the total is 1,500 FLOPs with it, 1,000 without it",
    ]


@pytest.mark.parametrize(
    ("network", "macs", "params"),
    [
        (foreign_networks.resnet18(), 1_814_073_344, 11_689_512),
        (foreign_networks.mobilenet_v2(), 300_774_272, 3_504_872),
    ],
    ids=["resnet18", "mobilenet_v2"],
)
def test_well_known_networks_cost_what_is_published(network: nn.Module, macs: int, params: int) -> None:
    """1.81 and 0.30 GMACs, 11.7 and 3.5 million parameters, for images of 224×224."""
    result = count(network, (3, 224, 224))
    assert (result.macs, result.params, result.notes) == (macs, params, ())
    check_sums(result)


def test_networks_that_give_several_outputs_are_counted_and_agree() -> None:
    for form in ("tuple", "list", "dict", "training"):
        result = count(foreign_networks.with_auxiliary_output(form), (1, 12, 12))
        assert layer(result, "body.0").macs == 144 * 9 * 16
        assert result.notes == ()


def test_input_that_does_not_fit_is_an_error_that_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NasError, match=r"cannot be run on an input of 1×3×28×28: .*channels"):
        count(article_network(), (3, 28, 28))
    assert capfd.readouterr() == ("", "")


def test_errors_of_the_network_itself_pass_through() -> None:
    class Infeasible(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise InfeasibleDesignError("the map shrinks to nothing")

    with pytest.raises(InfeasibleDesignError, match="shrinks to nothing"):
        count(Infeasible(), (1, 2, 2))


def test_failure_of_ptflops_is_an_error_and_not_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class FailsWhenRunAgain(nn.Module):
        runs = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.runs += 1
            if self.runs == 2:
                raise RuntimeError("once is enough")
            return images

    with pytest.raises(NasError, match=r"ptflops cannot count the network: .*once is enough"):
        count(FailsWhenRunAgain(), (1, 2, 2))
    assert capfd.readouterr() == ("", "")


def test_half_precision_network_is_counted_alike() -> None:
    assert count(article_network().to(torch.bfloat16), (1, 28, 28)).flops == 1_059_880
