"""The graph in torch: what ONNX Runtime makes of the same file, with gradients, and written back exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from small_networks import SPACES, sampled_network
from torch import Tensor, nn
from torch.nn import functional

from nas.artifact import open_session, probabilities
from nas.compress.body import Bits, prepare, weighted
from nas.compress.export import export_body
from nas.compress.graph import GraphNetwork
from nas.compress.pack import with_small_integers
from nas.compress.qdq import Calibration, quantise_layers, quantise_weights

SHAPES = ((3, 16, 16), (1, 28, 28))
# Float sums in another order: ONNX Runtime and torch differ in the last digits.
CLOSE = 1e-4


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images_of(shape: tuple[int, int, int], count: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def run(network: GraphNetwork, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(torch.softmax(network.eval()(torch.from_numpy(images)), 1).numpy())


def initializers(body: bytes) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(body).graph.initializer}


def quantised(body: bytes, images: np.ndarray, weights: int, activations: int, reduce_range: bool = False) -> bytes:
    """The canonical form of a body with the same bits in every layer."""
    prepared = prepare(body)
    graph = onnx.load_from_string(prepared).graph
    bits = {node.name: Bits(weights, activations) for node in graph.node}
    if activations == 32:
        return quantise_weights(prepared, {name: bits[name] for name in weighted(graph)}, reduce_range)
    return quantise_layers(prepared, bits, Calibration(images), reduce_range)


FORMS = {"8/8": (8, 8), "8/8 reduced": (8, 8, True), "4/8": (4, 8), "8/16": (8, 16), "4/32": (4, 32), "8/32": (8, 32)}


def body_of(space: str, shape: tuple[int, int, int] = (3, 16, 16), seed: int = 0) -> bytes:
    return export_body(sampled_network(space, shape, seed=seed), shape)


# --- the same as ONNX Runtime


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("space", sorted(SPACES))
def test_a_float_body_computes_what_onnxruntime_computes(space: str, shape: tuple[int, int, int]) -> None:
    body, images = body_of(space, shape), images_of(shape)
    network = GraphNetwork(body)
    assert np.abs(run(network, images) - probabilities(open_session(body), images)).max() < CLOSE
    assert all(weight().ndim > 1 for weight in network.weights.values())
    assert sum(parameter.numel() for parameter in network.parameters()) == sum(
        array.size for array in initializers(network.body()).values()
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("space", ["convnet", "mlp", "mobilenet", "resnet"])
def test_a_quantised_body_computes_what_onnxruntime_computes(space: str, form: str) -> None:
    """Where two runtimes' sums fall on different sides of the middle between two steps, an activation differs by a
    whole step, and what follows with it. That is rare, and moves a probability by about what one step does."""
    shape = (3, 16, 16)
    images = images_of(shape)
    body = quantised(body_of(space), images, *FORMS[form])
    difference = np.abs(run(GraphNetwork(body), images) - probabilities(open_session(body), images)).max(1)
    assert np.median(difference) < CLOSE
    assert difference.max() < 0.02


class Layers(nn.Module):
    """A function on the output of a convolution, then a classifier."""

    def __init__(self, function: Callable[[Tensor], Tensor], *layers: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(layers)
        self.function = function
        for layer in layers:
            for values in layer.state_dict().values():
                if values.is_floating_point():
                    values.uniform_(0.5, 1.5)
        with torch.no_grad():
            features = self.features(torch.zeros(1, 3, 8, 8)).shape[1]
        self.classifier = nn.Linear(features, 5)

    def features(self, x: Tensor) -> Tensor:
        x = self.function(self.convolution(x))
        for layer in self.layers:
            x = layer(x)
        return x.flatten(1) if x.ndim == 4 else x

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x))
        return logits


def _identity(x: Tensor) -> Tensor:
    return x


def _attention(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    return (torch.softmax(tokens @ tokens.transpose(1, 2) / 8**0.5, -1) @ tokens).mean(1)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "view": lambda x: x.view(x.size(0), -1),
    "reshape": lambda x: x.reshape(-1, 8 * 64),
    "shuffle": lambda x: x.view(x.size(0), 2, 4, x.size(2), x.size(3)).transpose(1, 2).reshape(x.shape),
    "mean": lambda x: x.mean((2, 3)),
    "mean kept": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "attention": _attention,
    "concatenate": lambda x: torch.cat([x, x.tanh()], 1),
    "chunk": lambda x: torch.cat([part * scale for part, scale in zip(x.chunk(4, 1), (1, -2, 3, 4), strict=True)], 1),
    "slice": lambda x: x[:, 2:6, ::2, 1:-1],
    "gather": lambda x: x[:, :, 3, -1],
    "pad": lambda x: functional.pad(x, (1, 0, 2, 1), value=0.5),
    "squeeze": lambda x: x.mean((2, 3), keepdim=True).squeeze(3).squeeze(2).unsqueeze(1).squeeze(1),
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu by tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "hard sigmoid": functional.hardsigmoid,
    "hard swish": functional.hardswish,
    "leaky relu": lambda x: functional.leaky_relu(x, 0.2),
    "elu": lambda x: functional.elu(x, 0.7),
    "relu6": functional.relu6,
    "clamp below": lambda x: x.clamp(min=-0.25),
    "arithmetic": lambda x: (x.abs() + 0.5).sqrt() - x.pow(2) / 3 + (-x).exp(),
    "between": lambda x: torch.maximum(torch.minimum(x, x.flip(1) if False else 0.5 * x + 0.1), 0.1 * x),
}
LAYERS: dict[str, tuple[nn.Module, ...]] = {
    "batch norm that cannot be folded": (nn.ReLU(), nn.BatchNorm2d(8)),
    "layer norm": (nn.Flatten(), nn.LayerNorm(512)),
    "strided": (nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=4),),
    "dilated": (nn.Conv2d(8, 4, 3, dilation=2, bias=False),),
    "even kernel": (nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(8, 4, 2)),
    "transposed": (nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1, groups=2),),
    "max pooling": (nn.MaxPool2d(3, stride=2, padding=1),),
    "max pooling that hangs over": (nn.MaxPool2d(3, stride=2, ceil_mode=True),),
    "average pooling": (nn.AvgPool2d(3, stride=2, padding=1),),
    "average pooling of what is there": (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),),
    "linear layer on places": (nn.Flatten(2), nn.Linear(64, 6), nn.Flatten()),
    "hidden layer": (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16), nn.ReLU()),
}
NETWORKS = {name: Layers(function) for name, function in FUNCTIONS.items()} | {
    name: Layers(_identity, *layers) for name, layers in LAYERS.items()
}


@pytest.mark.parametrize("name", NETWORKS)
def test_operators_of_a_users_network(name: str) -> None:
    shape = (3, 8, 8)
    body, images = export_body(NETWORKS[name], shape), images_of(shape, 5)
    expected = probabilities(open_session(body), images)
    network = GraphNetwork(body)
    assert np.abs(run(network, images) - expected).max() < CLOSE
    # In the later opset, which 4-bit weights need, some attributes have become inputs.
    later = with_small_integers(onnx.load_from_string(body)).SerializeToString()
    assert np.abs(run(GraphNetwork(later), images) - expected).max() < CLOSE
    assert network.train()(torch.from_numpy(images)).square().sum().backward() is None
    assert all(parameter.grad is not None for parameter in network.parameters())
