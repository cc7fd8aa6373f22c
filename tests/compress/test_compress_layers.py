"""What gives the logits of any network, and where a forward pass stops."""

from __future__ import annotations

import pytest
import torch
from foreign_networks import tiny_mobilenet, tiny_resnet
from small_networks import SPACES, sampled_network
from torch import Tensor, nn

from nas.compress.layers import forward, output_layers, weighted_layers
from nas.errors import UnsupportedError

SHAPE = (2, 16, 12)


class Body(nn.Module):
    """Two convolutions; what follows is up to the subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 7)
        self.other = nn.Linear(8, 7)
        self.scale = nn.Parameter(torch.ones(7))

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3))


class Twice(Body):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return torch.log_softmax((self.fc(x) + self.other(x)) * self.scale, 1)


class Halves(Body):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.fc(self.features(x)), self.other(self.features(x))], 1)[:, 2:]


class Convolutional(Body):
    """The classes are channels: pooled, then flattened."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(self.second(self.first(x)).relu_(), 1).flatten(1)


class Skipping(Body):
    """The sum of a layer's and an earlier layer's outputs: both must keep them."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return (x + self.second(x)).amax((2, 3))


class Shared(Body):
    """The same layer gives features and logits."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        return self.second(torch.relu(x)).mean((2, 3))


class Weightless(Body):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Detached(Body):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x)).detach()


class Pair(Body):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.fc(x), self.other(x)


class Maps(Body):
    def forward(self, x: Tensor) -> Tensor:
        return self.first(x)


class Frozen(Body):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.features(x)
        return self.fc(x)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Twice(), {"fc", "other"}),
        (Halves(), {"fc", "other"}),
        (Convolutional(), {"second"}),
        (Skipping(), {"first", "second"}),
        (Shared(), {"second"}),
        (Frozen(), {"fc"}),
        (tiny_resnet(channels=2), {"fc"}),
        (tiny_mobilenet(channels=2), {"classifier.1"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_layers_that_give_the_logits(network: nn.Module, expected: set[str]) -> None:
    found = output_layers(network, SHAPE)
    names = {module: name for name, module in network.named_modules()}
    assert {names[layer] for layer in found} == expected
    assert len(found) == len(expected), "each once"


@pytest.mark.parametrize("space", sorted(SPACES))
def test_our_families_have_their_classifier(space: str) -> None:
    network = sampled_network(space, SHAPE)
    assert output_layers(network, SHAPE) == [network.classifier]


def test_no_hook_stays_behind() -> None:
    network = Twice()
    output_layers(network, SHAPE)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    network.fc = nn.Linear(9, 7)
    with pytest.raises(UnsupportedError):
        output_layers(network, SHAPE)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize(
    "network", [Weightless(), Detached(), Twice().requires_grad_(False)], ids=lambda n: str(type(n))
)
def test_a_network_whose_layers_do_not_lead_to_its_output_is_refused(network: nn.Module) -> None:
    with pytest.raises(
        UnsupportedError, match=r"no convolution or linear layer .* leads to its output .*requires_grad"
    ):
        output_layers(network, SHAPE)


def test_weighted_layers_are_convolutions_and_linear_layers_in_declared_order() -> None:
    assert list(weighted_layers(Body())) == ["first", "second", "fc", "other"]


# --- where a forward pass stops


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Pair(), r"fails: for one image it gives an output of type tuple, not a tensor of shape \(1, classes\)"),
        (Maps(), r"fails: for one image it gives an output of shape \(1, 8, 16, 12\), not"),
    ],
)
def test_an_output_that_is_no_row_of_logits_is_refused(network: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        forward(network, SHAPE, "fails")


def test_the_layer_that_fails_is_named_and_the_one_before_it() -> None:
    network = tiny_resnet(channels=2)
    network.layer2[0].conv2 = nn.Conv2d(4, 16, 3)
    with pytest.raises(UnsupportedError) as error:
        forward(network, SHAPE, "it fails", "see '{before}'")
    assert error.value.message.startswith(
        "it fails: in 'layer2.0.conv2' (Conv2d), after 'layer2.0.relu': Given groups=1, weight of size"
    )
    assert error.value.hint == "see 'layer2.0.conv1'"


class Raising(Body):
    def forward(self, x: Tensor) -> Tensor:
        self.first(x)
        raise ValueError("no zeros,\n  please")


def test_a_failure_of_the_networks_own_forward_is_told_in_one_line() -> None:
    with pytest.raises(
        UnsupportedError, match=r"^it fails: in the network's own forward, after 'first': no zeros, please$"
    ):
        forward(Raising(), SHAPE, "it fails")


def test_a_forward_pass_gives_the_logits_in_evaluation_mode() -> None:
    network = tiny_mobilenet(channels=2).train()
    expected = network.eval()(torch.zeros(1, *SHAPE))
    assert torch.equal(forward(network.train(), SHAPE, ""), expected)
    assert not network.training
