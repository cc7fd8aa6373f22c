"""Which channels go together in other people's networks, what is refused, and what is left as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from channel_networks import CLASSES, SHAPE, Plain, run
from foreign_networks import tiny_mobilenet, tiny_resnet
from small_networks import with_statistics
from torch import Tensor, nn

from nas.compress.importance import Random
from nas.compress.layers import output_layers, weighted_layers
from nas.compress.prune import prune, replay
from nas.compress.widths import channels_to_keep
from nas.errors import UnsupportedError


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- other people's networks


class Concatenated(Plain):
    """Two branches side by side, a convolution that reads both, batch norm over both."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(2, 48, 3, padding=1)
        self.both = nn.BatchNorm2d(80)
        self.second = nn.Conv2d(80, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.branch(x), self.first(x)], 1)
        return self.classifier(torch.relu(self.second(torch.relu(self.both(x)))).mean((2, 3)))


class Grouped(Plain):
    """A convolution in four groups (arXiv:1611.05431), group norm in eight."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(32, 64, 3, padding=1, groups=4)
        self.groupnorm = nn.GroupNorm(8, 64)
        self.classifier = nn.Linear(64, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.classifier(torch.relu(self.groupnorm(self.second(x))).mean((2, 3)))


class DepthwiseOnTheImage(Plain):
    """The image's channels are no choice; what reads the depthwise ones is."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv2d(2, 2, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.filter(x))


class Scaled(Plain):
    """Parameters outside of layers: a scale for each channel, and flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(32, 1, 1))
        self.classifier = nn.Linear(32 * SHAPE[1] * SHAPE[2], 7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.classifier((self.second(x) * self.scale).flatten(1))


class ConvolutionalClassifier(Plain):
    """The classes are the channels of the last convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(32, 40, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.classifier(torch.relu(self.second(x))).mean((2, 3))


FOREIGN = {
    "resnet": lambda: tiny_resnet(CLASSES, width=32, channels=2),
    "mobilenet": lambda: tiny_mobilenet(CLASSES, channels=2),
    "concatenated": Concatenated,
    "grouped": Grouped,
    "depthwise on the image": DepthwiseOnTheImage,
    "scaled": Scaled,
    "convolutional classifier": ConvolutionalClassifier,
    "sequential": lambda: nn.Sequential(
        nn.Conv2d(2, 32, 3), nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.Conv2d(32, 32, 3, groups=32),
        nn.Conv2d(32, 16, 1), nn.Flatten(), nn.Linear(16 * 12 * 8, 64), nn.Dropout(0.5), nn.Linear(64, CLASSES),
    ),
}  # fmt: skip


def foreign(name: str) -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(FOREIGN[name]())


@pytest.mark.parametrize("name", FOREIGN)
def test_any_classifier_can_be_pruned_and_keeps_its_classes(name: str) -> None:
    network = foreign(name)
    logits = [layer for layer in weighted_layers(network).values() if layer in output_layers(network, SHAPE)]
    pruned = prune(network, 0.5, SHAPE)
    names = {module: path for path, module in network.named_modules()}
    for path, (old, new) in pruned.widths.items():
        kept = old if path in {names[layer] for layer in logits} else channels_to_keep(old, 0.5)
        assert new == kept, path
    assert run(pruned.model).shape == run(network).shape
    assert pruned.left == {}
    again = replay(network, json.loads(json.dumps(pruned.history)), SHAPE)
    assert torch.equal(run(again), run(pruned.model))


def silence(layer: nn.Module, channels: list[int]) -> None:
    """Nothing comes out of these channels."""
    layer.weight[channels] = 0
    layer.bias[channels] = 0


@torch.no_grad()
def concatenated() -> tuple[nn.Module, dict[str, list[int]]]:
    model, rng = foreign("concatenated"), np.random.default_rng(0)
    dead = {"branch": sorted(rng.choice(48, 24, False).tolist()), "first": sorted(rng.choice(32, 16, False).tolist())}
    both = [*dead["branch"], *(48 + index for index in dead["first"])]
    for name, indices in dead.items():
        silence(getattr(model, name), indices)
    silence(model.both, both)
    model.both.running_mean[both] = 0
    model.second.weight[:, both] = 0
    return model, dead


@torch.no_grad()
def grouped() -> tuple[nn.Module, dict[str, list[int]]]:
    model, places = foreign("grouped"), [1, 2, 4, 7]
    dead = [8 * group + place for group in range(4) for place in places]
    silence(model.first, dead)
    silence(model.norm, dead)
    model.norm.running_mean[dead] = 0
    model.second.weight[:, places] = 0
    return model, {"first": dead}


@torch.no_grad()
def scaled() -> tuple[nn.Module, dict[str, list[int]]]:
    model, dead = foreign("scaled"), [0, 3, 4, 5, 9, 10, 12, 13, 17, 20, 21, 22, 26, 27, 30, 31]
    silence(model.second, dead)
    size = SHAPE[1] * SHAPE[2]
    for index in dead:
        model.classifier.weight[:, index * size : (index + 1) * size] = 0
    return model, {"second": dead}


@pytest.mark.parametrize("made", [concatenated(), grouped(), scaled()], ids=["concatenated", "grouped", "scaled"])
def test_channels_are_followed_through_concatenation_groups_and_flattening(
    made: tuple[nn.Module, dict[str, list[int]]],
) -> None:
    model, dead = made
    pruned = prune(model, 0.0, SHAPE, stages=dict.fromkeys(dead, 0.5))
    assert {name: sorted(indices) for name, _, indices in pruned.history} == dead
    torch.testing.assert_close(run(pruned.model), run(model), rtol=1e-4, atol=1e-5)


def test_a_grouped_convolution_loses_the_same_places_in_each_group() -> None:
    pruned = prune(foreign("grouped"), 0.3, SHAPE, criterion=Random(0), rounding=1)
    assert pruned.widths["first"] == [32, 24]  # 22 are rounded up to four equal parts
    assert pruned.widths["second"] == [64, 48]  # 45, to eight
    for name, _, indices in pruned.history:
        parts, size = (4, 8) if name == "first" else (8, 8)
        places = [sorted(index % size for index in indices if index // size == part) for part in range(parts)]
        assert all(part == places[0] for part in places), name


# --- what cannot be pruned


class Counting(Plain):
    """Relies on its number of channels."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.classifier(torch.relu(self.second(x)).reshape(-1, 32, SHAPE[1] * SHAPE[2]).mean(2))


class Detached(Plain):
    """Leaves autograd's graph after its first layer."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.from_numpy(np.maximum(self.first(x).detach().numpy(), 0))
        return self.classifier(self.second(x).mean((2, 3)))


class Raising(Plain):
    """Its forward raises for the traced input, over two lines."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no zeros,\n  please")


def test_a_network_that_would_not_run_afterwards_is_refused_and_the_place_named() -> None:
    with pytest.raises(UnsupportedError) as error:
        prune(Counting().eval(), 0.5, SHAPE)
    assert error.value.message.startswith(
        "the network does not run after pruning: in the network's own forward, after 'second': "
    )
    assert "a ratio of 0, such as 'second.pruning_ratio'" in error.value.hint
    pruned = prune(Counting().eval(), 0.5, SHAPE, stages={"second": 0.0})  # the remedy
    assert pruned.widths == {"first": [32, 16], "second": [32, 32], "classifier": [7, 7]}


class Padding(Plain):
    """Fills its features up to a number."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(torch.relu(self.norm(self.first(x)))).mean((2, 3))
        return self.classifier(nn.functional.pad(x, (0, 32 - x.shape[1])))


def test_a_layer_that_no_longer_fits_is_named() -> None:
    message = r"^the network does not run after pruning: in 'classifier' \(Linear\), after 'second': mat1 and mat2"
    with pytest.raises(UnsupportedError, match=message):
        prune(Padding().eval(), 0.5, SHAPE)


class Leaking(Plain):
    """Gives its features with the logits, behind autograd's back."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(torch.relu(self.norm(self.first(x)))).mean((2, 3))
        return torch.cat([self.classifier(x), x.detach()], 1)


def test_other_logits_than_before_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="does not run after pruning: it gives 23 logits, not 39"):
        prune(Leaking().eval(), 0.5, SHAPE)


def test_layers_before_a_cut_in_the_graph_stay_and_it_is_said() -> None:
    pruned = prune(Detached().eval(), 0.5, SHAPE)
    assert pruned.widths == {"first": [32, 32], "second": [32, 16], "classifier": [7, 7]}
    assert pruned.left == {"first": "does not lead to the logits in autograd's graph"}
    assert run(pruned.model).shape == (3, 7)
    assert prune(Detached().eval(), 0.5, SHAPE, stages={"first": 0.0}).left == {}


def test_a_network_that_does_not_run_at_all_is_refused_in_one_line() -> None:
    with pytest.raises(
        UnsupportedError, match="does not run on an image of zeros: in the network's own forward: no zeros, please"
    ):
        prune(Raising().eval(), 0.5, SHAPE)


class Attending(nn.Module):
    """A transformer block (arXiv:1706.03762): the heads share the channels, the hidden layer is free."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(2, 32, 4, 4)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.hidden = nn.Linear(32, 64)
        self.back = nn.Linear(64, 32)
        self.classifier = nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.classifier((x + self.back(torch.relu(self.hidden(x)))).mean(1))


class Multiplied(Plain):
    """A depthwise convolution that makes two channels of one: its input cannot lose any."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(32, 64, 3, groups=32)
        self.classifier = nn.Linear(64, 7)


class Paired(Plain):
    """A convolution that makes one channel of two of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(32, 16, 3, groups=16)
        self.classifier = nn.Linear(16, 7)


class PartOfGroups(Plain):
    """Two branches side by side are read in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(2, 32, 3, padding=1)
        self.second = nn.Conv2d(64, 32, 3, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.first(x), self.branch(x)], 1)
        return self.classifier(torch.relu(self.second(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("network", "left", "shrunk"),
    [
        (Attending(), {"back": "is coupled to attention", "attention.out_proj": "does not lead to"}, {"hidden"}),
        (DepthwiseOnTheImage(), {"filter": "shares its channels with the image"}, {"first", "second"}),
        (Multiplied(), {}, {"second"}),
        (Paired(), {"second": "is coupled to a convolution that takes several input channels to one"}, set()),
        (
            PartOfGroups(),
            {"first": "is only a part of what a Conv2d in 4 groups takes", "branch": "is only"},
            {"second"},
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_lose_channels_is_left_and_it_is_said_why(
    network: nn.Module, left: dict[str, str], shrunk: set[str]
) -> None:
    if isinstance(network, DepthwiseOnTheImage):
        network.filter = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        network.first = nn.Conv2d(8, 32, 3, padding=1)
    shape = (8, 16, 12) if isinstance(network, DepthwiseOnTheImage) else SHAPE
    pruned = prune(network.eval(), 0.5, shape, rounding=1)
    assert {name for name, (old, new) in pruned.widths.items() if new < old} == shrunk
    assert pruned.left.keys() == left.keys()
    assert all(pruned.left[name].startswith(reason) for name, reason in left.items())
    assert run(pruned.model, shape).shape == (3, 7)
