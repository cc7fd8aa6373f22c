"""Activations' peak and bytes moved, against sums by hand; float32 throughout, so 4 bytes a number."""

from __future__ import annotations

from collections.abc import Callable

import foreign_networks
import pytest
import torch
from torch import Tensor, nn

from nas.measure.activations import LayerStack, Memory, watch_memory
from nas.measure.complexity import Complexity, LayerComplexity, count

PIXELS = 8 * 8


class Calls(nn.Module):
    """A network of one function."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> object:
        return self.function(images)


def watched(network: nn.Module, channels: int = 1) -> Memory:
    return watch_memory(network.eval(), torch.zeros(1, channels, 8, 8), LayerStack(network))


def layer(complexity: Complexity, name: str) -> LayerComplexity:
    return next(item for item in complexity.layers if item.name == name)


def test_worked_example_of_the_article() -> None:
    """The peak is at the first ReLU, of which input and output live beside the image."""
    network = nn.Sequential(
        *(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 5, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(2880, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    result = count(network, (1, 28, 28))
    first, second = 4 * 5 * 26 * 26, 4 * 5 * 24 * 24
    assert result.peak_activation_bytes == 4 * 28 * 28 + 2 * first
    assert [item.activation_bytes for item in result.layers] == [first, first, second, second, second, 512, 512, 40]
    weights = [4 * item.params for item in result.layers]
    between = [4 * 28 * 28, *(item.activation_bytes for item in result.layers)]
    moved = [item.bytes_moved for item in result.layers]
    assert moved[4] == 0  # to flatten is to look at it otherwise
    for number in (0, 1, 2, 3, 5, 6, 7):
        assert moved[number] == between[number] + weights[number] + between[number + 1]
    assert result.bytes_moved == sum(moved)


@pytest.mark.parametrize(
    ("function", "tensors"),
    [
        (lambda x: x, 1),
        (lambda x: x + 1, 2),
        (lambda x: x.relu().exp(), 3),  # the ReLU's output lives while exp reads it
        (lambda x: x.relu().exp_(), 2),
        (lambda x: x.relu().exp().sin().cos(), 3),  # each is freed once the next is there
        (lambda x: [x.exp(), x.sin(), x.cos()], 4),
        (lambda x: (x.exp() + x.sin()).cos(), 4),  # cos needs two, the addition three
        (lambda x: {"a": x.exp(), "b": (x.sin(),)}, 3),
        (lambda x: x.flatten(1).reshape(8, 8).t(), 1),
        (lambda x: x.expand(5, 1, 8, 8), 1),
        (lambda x: x.repeat(5, 1, 1, 1), 6),
        (lambda x: torch.cat([x, x, x]), 4),
        (lambda x: torch.zeros(2, 64) + x.sum(), 5),  # and the sum itself, see below
    ],
)
def test_peak_is_the_most_that_lives_at_once(function: Callable[[Tensor], object], tensors: int) -> None:
    extra = 4 if tensors == 5 else 0
    assert watched(Calls(function)).peak_bytes == tensors * 4 * PIXELS + extra


def test_nothing_is_kept_for_a_gradient() -> None:
    layers = [nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(10)]
    assert watched(nn.Sequential(*layers), 4).peak_bytes == 3 * 4 * 4 * PIXELS


def test_parameters_buffers_and_views_of_them_are_no_activations() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(64, 1000))
            self.register_buffer("table", torch.zeros(1000, 64))

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) @ self.weight @ self.table.t().t()

    assert watched(Network()).peak_bytes == 4 * (64 + 1000 + 64)


def test_weights_that_are_computed_are_activations() -> None:
    plain = nn.Conv2d(1, 2, 3, bias=False)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3, bias=False))
    assert watched(normed).peak_bytes > watched(plain).peak_bytes


def test_what_an_operator_makes_besides_counts_while_it_runs() -> None:
    """Max pooling also gives the positions, 8 bytes each, which torch drops at once."""
    assert watched(nn.MaxPool2d(2)).peak_bytes == 4 * PIXELS + 16 * (4 + 8)
    assert watched(nn.Sequential(nn.MaxPool2d(2), nn.ReLU())).peak_bytes == 4 * PIXELS + 16 * (4 + 8)


def test_shortcut_keeps_its_input_alive() -> None:
    block = foreign_networks.BasicBlock(4, 4)
    tensor = 4 * 4 * PIXELS
    # At bn2: the image, which is the shortcut; the convolution's output and the normalised one; and what went into the
    # convolution, which the block's variable "out" names until the next is there.
    assert watched(block, 4).peak_bytes == 4 * tensor


@pytest.mark.parametrize(
    ("function", "numbers"),
    [
        (lambda x: x.flatten(1), 0),
        (lambda x: x[:, :, 2:4].transpose(2, 3), 0),
        (lambda x: x.exp(), 2 * PIXELS),
        (lambda x: x.clone().exp_(), 4 * PIXELS),  # in place: read and written too
        (lambda x: x.clone() + x, 5 * PIXELS),
        (lambda x: torch.add(x.expand(100, 1, 8, 8), 1), PIXELS + 100 * PIXELS),  # what repeats itself is there once
        (lambda x: torch.cat([x, x]), 4 * PIXELS),
    ],
)
def test_bytes_moved_are_those_read_and_written(function: Callable[[Tensor], object], numbers: int) -> None:
    memory = watched(Calls(function))
    assert sum(memory.moved.values()) == 4 * numbers


def test_bytes_are_moved_in_the_layer_that_runs() -> None:
    network = nn.Sequential(Calls(torch.exp), nn.Sequential(nn.ReLU(), Calls(lambda x: x + x)))
    assert watched(network).moved == {"0": 8 * PIXELS, "1.0": 8 * PIXELS, "1.1": 12 * PIXELS}


def test_functions_between_layers_move_bytes_that_no_row_has() -> None:
    result = count(foreign_networks.tiny_resnet(), (1, 8, 8))
    rows = sum(item.bytes_moved for item in result.layers)
    additions = 3 * 4 * (8 * 64 + 16 * 16)  # out += identity: two read, one written; 8 channels at 8×8, 16 at 4×4
    assert result.bytes_moved == rows + additions


def test_layers_that_run_twice_move_twice_and_keep_the_last_output() -> None:
    shared = nn.MaxPool2d(2)
    result = count(nn.Sequential(shared, shared), (1, 8, 8))
    assert layer(result, "0").activation_bytes == 4 * 4
    assert layer(result, "0").bytes_moved == (4 * 64 + 12 * 16) + (4 * 16 + 12 * 4)


def test_several_outputs_add_up() -> None:
    result = count(Calls(lambda x: (x, [x[:, :, :2]], {"sum": x.sum(), "name": "sum"})), (1, 8, 8))
    assert layer(result, "(network)").activation_bytes == 4 * (64 + 16 + 1)


@pytest.mark.parametrize(
    ("network", "peak"),
    [
        # The normalisation of the stem: image, and two maps of 64 channels at half the size.
        (foreign_networks.resnet18(), 4 * (3 * 64**2 + 2 * 64 * 32**2)),
        # That of the first expansion, 96 channels, beside the block's input of 16, at half the size.
        (foreign_networks.mobilenet_v2(), 4 * (3 * 64**2 + (16 + 2 * 96) * 32**2)),
    ],
    ids=["resnet18", "mobilenet_v2"],
)
def test_peaks_of_well_known_networks(network: nn.Module, peak: int) -> None:
    assert count(network, (3, 64, 64)).peak_activation_bytes == peak


def test_half_precision_takes_half() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    whole, half = (count(network.to(kind), (1, 8, 8)) for kind in (torch.float32, torch.bfloat16))
    assert half.peak_activation_bytes * 2 == whole.peak_activation_bytes
    assert half.bytes_moved * 2 == whole.bytes_moved


def test_sparse_tensors_are_passed_over() -> None:
    memory = watched(Calls(lambda x: torch.sparse.mm(torch.eye(8).to_sparse(), x[0, 0])))
    assert memory.peak_bytes >= 2 * 4 * PIXELS
