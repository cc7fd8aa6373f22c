"""The graph in torch: what ONNX Runtime makes of the same file, with gradients, and written back exactly."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest
import torch
from integer_products import skip_where_integers_saturate
from onnx import helper, numpy_helper
from onnx_models import make_model
from small_networks import ONE_THREAD, SPACES, digits, sampled_network, training_data
from torch import Tensor, nn
from torch.nn import functional

from nas.artifact import open_session, probabilities
from nas.compress.bits.aware import masters
from nas.compress.bits.body import Bits, prepare, weighted
from nas.compress.bits.half import compute_in_half, halve_weights
from nas.compress.bits.pack import with_small_integers
from nas.compress.bits.qdq import Calibration, quantise_layers, quantise_weights
from nas.compress.export import export_body
from nas.compress.graph.network import GraphNetwork
from nas.compress.graph.plan import bounds_of
from nas.compress.graph.tensors import FloatTensor, GraphTensor, IntegerTensor, fake_quantise
from nas.errors import UnsupportedError
from nas.recipe_sections import TrainingConfig
from nas.train import seeded, train

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
# Every form on one family, every family in the form that quantises most.
CASES = [("convnet", form) for form in FORMS] + [(space, "4/8") for space in ("mlp", "mobilenet", "resnet")]


@functools.cache
def case(space: str, form: str) -> bytes:
    return quantised(body_of(space), images_of(SHAPES[0]), *FORMS[form])


@functools.cache
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


@pytest.mark.parametrize(("space", "form"), CASES)
def test_a_quantised_body_computes_what_onnxruntime_computes(space: str, form: str) -> None:
    """Where two runtimes' sums fall on different sides of the middle between two steps, an activation differs by a
    whole step, and what follows with it. That is rare, and moves a probability by about what one step does."""
    skip_where_integers_saturate(form)
    body, images = case(space, form), images_of(SHAPES[0])
    difference = np.abs(run(GraphNetwork(body), images) - probabilities(open_session(body), images)).max(1)
    assert np.median(difference) < CLOSE
    assert difference.max() < 0.02


@pytest.mark.parametrize("convert", [halve_weights, compute_in_half])
def test_half_precision_is_rounded_to(convert: Callable[..., bytes]) -> None:
    prepared, images = prepare(body_of("convnet")), images_of(SHAPES[0])
    body = convert(prepared, [node.name for node in onnx.load_from_string(prepared).graph.node])
    network = GraphNetwork(body)
    # Half precision has 11 bits, and the runtime may sum in them.
    assert np.abs(run(network, images) - probabilities(open_session(body), images)).max() < 2e-3
    assert network.weights
    assert initializers(network.body()).keys() == initializers(body).keys()
    for name, array in initializers(network.body()).items():
        assert array.dtype == initializers(body)[name].dtype
        np.testing.assert_array_equal(array, initializers(body)[name])


def onnxruntime_on_grid(values: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, axis: int) -> np.ndarray:
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["whole"], axis=axis),
        helper.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["probabilities"], axis=axis),
    ]
    model = make_model(nodes, {"scale": scale, "zero": zero_point}, values.shape, opset=21)
    return np.asarray(open_session(model).run(None, {"images": values})[0])


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"),
    [("uint8", 0.0173, 117), ("int8", 0.0173, -3), ("uint16", 3.1e-5, 30000), ("int16", 0.25, 0), ("int8", None, 0)],
)
def test_rounding_is_onnxruntimes_to_the_last_bit(dtype: str, scale: float | None, zero_point: int) -> None:
    rng = np.random.default_rng(0)
    steps = np.array([0.02]) if scale is None else np.array(scale)
    if scale is None:
        steps = np.repeat(steps, 4) * [1, 0.3, 2, 0.01]
    steps = steps.astype(np.float32)
    values = rng.normal(size=(4, 5000)).astype(np.float32)
    broad = steps.reshape(-1, 1) if steps.ndim else steps
    values[:, :1000] = (np.arange(1000) - 500 + 0.5) * broad  # in the middle between two steps, where they are exact
    limits = np.iinfo(dtype)
    ours = fake_quantise(
        torch.from_numpy(values), torch.from_numpy(np.array(broad)), limits.min - zero_point, limits.max - zero_point
    )
    expected = onnxruntime_on_grid(values, steps, np.full(steps.shape, zero_point, dtype), axis=0)
    np.testing.assert_array_equal(ours.numpy(), expected)
    assert len(np.unique(expected)) > 200


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
    "between": lambda x: torch.maximum(torch.minimum(x, 0.5 * x + 0.1), 0.1 * x),
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


# --- gradients


def tiny(scale: float = 0.5, zero_point: int = 128) -> bytes:
    """Two numbers, rounded to steps of a half from −64 to 63.5, through a linear layer of 4-bit weights."""
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "step", "zero"], ["whole"]),
        helper.make_node("DequantizeLinear", ["whole", "step", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["w_quantized_int4", "w_scale", "w_zero"], ["w"], axis=0),
        helper.make_node("DequantizeLinear", ["b_quantized", "b_scale", "b_zero"], ["b"], axis=0),
        helper.make_node("Gemm", ["rounded", "w", "b"], ["logits"], "classifier", transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    steps = np.array([0.25, 0.5], np.float32)
    arrays = {
        "step": np.array(scale, np.float32),
        "zero": np.array(zero_point, np.uint8),
        "w_quantized_int4": np.array([[4, -2], [1, 7]], np.int8),
        "w_scale": steps,
        "w_zero": np.zeros(2, np.int8),
        "b_quantized": np.array([3, -5], np.int32),
        "b_scale": steps * np.float32(scale),
        "b_zero": np.zeros(2, np.int32),
    }
    return make_model(nodes, arrays, ["batch", 2])


def test_gradients_go_straight_through_inside_the_range_alone() -> None:
    # Row by row on a grid of 0.25 and of 0.5: 1.07 → 1.0; 9 is beyond 7 · 0.25; −1.2 → −1.0; −0.3 → −0.5.
    masters = {"w_quantized_int4": np.array([[1.07, 9.0], [-1.2, -0.3]], np.float32)}
    network = GraphNetwork(tiny(), masters)
    x = torch.tensor([[-100.0, 0.3], [0.74, 70.0]], requires_grad=True)
    logits = network(x)
    on_grid = np.array([[-64.0, 0.5], [0.5, 63.5]])
    weights = np.array([[1.0, 1.75], [-1.0, -0.5]])
    bias = np.array([3 * 0.125, -5 * 0.25])
    np.testing.assert_allclose(logits.detach().numpy(), on_grid @ weights.T + bias)
    upstream = np.array([[1.0, 2.0], [3.0, -1.0]])
    logits.backward(torch.from_numpy(upstream).float())
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), (upstream @ weights) * [[0, 1], [1, 0]])
    [weight] = network.weights.values()
    assert isinstance(weight, IntegerTensor)
    full = upstream.T @ on_grid
    expected = full * [[1, 0], [1, 1]]
    np.testing.assert_allclose(of_master(weight), expected)
    assert initializers(network.body())["w_quantized_int4"].tolist() == [[4, 7], [-2, -1]]


def of_master(tensor: GraphTensor) -> np.ndarray:
    """The gradient of the float weights that the integers are made of."""
    assert tensor.master.grad is not None
    return np.asarray((tensor.master.grad / tensor.unit).numpy())


def test_a_float_weight_gets_the_gradient_that_torch_gives_the_network() -> None:
    network = sampled_network("resnet", SHAPES[0])
    folded = GraphNetwork(export_body(network, SHAPES[0]))
    images, labels = torch.from_numpy(images_of(SHAPES[0])), torch.arange(16) % 7
    functional.cross_entropy(network(images), labels).backward()
    functional.cross_entropy(folded(images), labels).backward()
    # The classifier has no batch norm behind it, so its weight is the same in both.
    classifier = folded.weights["model.classifier.weight"]
    assert isinstance(classifier, FloatTensor)
    np.testing.assert_allclose(of_master(classifier), network.classifier.weight.grad.numpy(), rtol=1e-5, atol=1e-6)


# --- written back


@pytest.mark.parametrize(("space", "form"), [*CASES, ("convnet", "float"), ("resnet", "float")])
def test_untrained_what_is_written_back_is_what_was_read(space: str, form: str) -> None:
    body = body_of(space) if form == "float" else case(space, form)
    before, after = initializers(body), initializers(GraphNetwork(body).body())
    assert before.keys() <= after.keys()  # biases that were one are several
    for name, array in before.items():
        assert after[name].dtype == array.dtype
        # float32 has 24 bits, the bias of a layer with 16-bit activations more.
        tolerance = 2**-22 if array.dtype == np.int32 else 0
        np.testing.assert_allclose(after[name], array, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_float_weights_to_start_from_round_to_the_integers_in_the_file(form: str) -> None:
    body = case("convnet", form)
    weights = masters(body_of("convnet"), body)
    network = GraphNetwork(body, weights)
    assert weights.keys() == network.weights.keys()
    for name, weight in network.weights.items():
        assert isinstance(weight, IntegerTensor)
        np.testing.assert_array_equal(weight.values().detach().numpy(), weights[name])
        np.testing.assert_array_equal(weight.stored(), initializers(body)[name])


def trained(form: str) -> tuple[GraphNetwork, list[dict[str, float]]]:
    """The network of a body after a short training at a rate that moves integers."""
    body = digits_case(form)
    network = GraphNetwork(body, masters(digits_case("float"), body))
    config = TrainingConfig(batch_size=50, weight_decay=0)
    with seeded(0, 1) as generator:
        curve = train(network, training_data(digits()), config, ONE_THREAD, 5, 2e-2, generator)
    return network, curve


@functools.cache
def digits_case(form: str) -> bytes:
    images = training_data(digits()).normalise(training_data(digits()).images[:64]).contiguous().numpy()
    network = export_body(sampled_network("convnet-small", (1, 8, 8), classes=10), (1, 8, 8))
    return network if form == "float" else quantised(network, images, *FORMS[form])


@pytest.mark.parametrize("form", ["float", "8/8", "4/8", "4/32", "8/16"])
def test_training_changes_weights_and_the_file_computes_what_was_trained(form: str) -> None:
    skip_where_integers_saturate(form)
    body = digits_case(form)
    network, curve = trained(form)
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]
    after = network.body()
    changed = {
        name for name, array in initializers(body).items() if not np.array_equal(array, initializers(after)[name])
    }
    assert changed >= network.weights.keys()
    assert not any("scale" in name or "zero" in name for name in changed)
    images = images_of((1, 8, 8), 64)
    difference = np.abs(run(network, images) - probabilities(open_session(after), images)).max(1)
    assert np.median(difference) < CLOSE
    assert difference.max() < 0.03
    if form != "float":
        for name, weight in network.weights.items():
            assert isinstance(weight, IntegerTensor)
            low, high = weight.bounds
            stored = initializers(after)[name]
            assert (low, high) == bounds_of(name, stored)
            assert stored.dtype == np.int8
            # Bit for bit what the last forward multiplied with.
            np.testing.assert_array_equal(stored * weight.scale.numpy(), weight().detach().numpy())
    assert trained(form)[0].body() == after, "training is not repeatable"


def test_copies_are_independent_and_layout_and_mode_do_not_matter() -> None:
    body, images = case("mobilenet", "4/8"), images_of(SHAPES[0])
    network = GraphNetwork(body)
    expected = run(network, images)
    copied = copy.deepcopy(network).train().to(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = copied(torch.from_numpy(images).contiguous(memory_format=torch.channels_last))
        difference = np.abs(torch.softmax(logits, 1).numpy() - expected).max(1)
        assert np.median(difference) < CLOSE
        for parameter in copied.parameters():
            parameter.mul_(0.5)
    assert initializers(copied.body()).keys() == initializers(body).keys()
    assert copied.body() != network.body()
    np.testing.assert_array_equal(run(network, images), expected)


def test_activations_keep_their_type_and_are_rounded_in_float32() -> None:
    x = torch.from_numpy(images_of((3, 8, 8))).bfloat16().requires_grad_()
    rounded = fake_quantise(x, 0.0371, -20, 31)
    rounded.sum().backward()
    assert rounded.dtype == torch.bfloat16
    wide = x.detach().float()
    assert torch.equal(rounded, fake_quantise(wide, 0.0371, -20, 31).bfloat16())
    assert x.grad is not None
    assert torch.equal(x.grad.float(), ((wide > -20.5 * 0.0371) & (wide < 31.5 * 0.0371)).float())


def test_bfloat16_autocast_leaves_the_rounding_in_float32() -> None:
    body, images = case("resnet", "4/8"), images_of(SHAPES[0])
    network = GraphNetwork(body)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.from_numpy(images))
        weights = [weight() for weight in network.weights.values()]
    assert {weight.dtype for weight in weights} == {torch.float32}
    assert np.abs(torch.softmax(logits.float(), 1).numpy() - run(network, images)).max() < 0.05
    assert network.body() == GraphNetwork(network.body()).body()


# --- what is trained


class Twins(nn.Module):
    """Two convolutions with equal zero biases, which the exporter stores once, and a weight that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        for layer in (self.first, self.second):
            nn.init.zeros_(layer.bias)
        self.classifier = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(self.first(x).relu()).relu()).relu()
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize("form", ["float", "4/8", "4/32"])
def test_biases_that_start_equal_part_and_a_shared_weight_stays_one(form: str) -> None:
    torch.manual_seed(0)
    body, images = export_body(Twins(), (3, 8, 8)), images_of((3, 8, 8))
    assert any(node.op_type == "Identity" for node in onnx.load_from_string(body).graph.node)
    body = body if form == "float" else quantised(body, images, *FORMS[form])
    network = GraphNetwork(body)
    assert len(network.weights) == 3
    vectors = [parameter for parameter in network.parameters() if parameter.ndim == 1]
    assert len(vectors) == 4  # each use of the shared layer has a bias of its own
    network(torch.from_numpy(images)).square().sum().backward()
    with torch.no_grad():
        for vector in vectors:
            assert vector.grad is not None
            vector -= 0.01 * vector.grad
    after = network.body()
    assert np.abs(run(network, images) - probabilities(open_session(after), images)).max() < 0.02
    assert len({array.tobytes() for array in initializers(after).values() if array.shape == (3,)}) > 1


def test_the_window_of_an_average_is_not_trained() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, 4))
    body = quantised(export_body(network, (3, 8, 8)), images_of((3, 8, 8)), 8, 8)
    assert sum(node.op_type == "Conv" for node in onnx.load_from_string(body).graph.node) == 2
    assert len(GraphNetwork(body).weights) == 2


class Shared(nn.Module):
    """A weight of two values."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.centroids = nn.Parameter(torch.tensor([-0.1, 0.1]))
        self.register_buffer("indices", (like > 0).long())

    def forward(self) -> Tensor:
        return self.centroids[self.indices]


def test_a_weight_can_come_from_another_module() -> None:
    body, images = body_of("convnet"), images_of(SHAPES[0])
    network = GraphNetwork(body)
    name = max(network.weights, key=lambda name: network.weights[name]().numel())
    source = Shared(network.weights[name]().detach())
    network.replace(name, source)
    assert network.weights[name] is source
    network(torch.from_numpy(images)).square().sum().backward()
    assert source.centroids.grad is not None
    assert source.centroids.grad.abs().min() > 0
    after = network.body()
    values = np.unique(initializers(after)[name])
    np.testing.assert_array_equal(values, np.array([-0.1, 0.1], np.float32))
    assert np.abs(run(network, images) - probabilities(open_session(after), images)).max() < CLOSE


# --- refused


def test_an_unknown_operator_is_named_with_its_node_and_a_remedy() -> None:
    with pytest.raises(UnsupportedError, match=r"operator Sin \(node '/model/Sin'\) cannot be trained") as caught:
        GraphNetwork(export_body(Layers(torch.sin), (3, 8, 8)))
    assert "quantisation_aware" in caught.value.hint
    assert "weight_sharing" in caught.value.hint


def test_a_network_must_end_in_softmax() -> None:
    body = make_model([helper.make_node("Relu", ["images"], ["probabilities"])], {}, ["batch", 3])
    with pytest.raises(UnsupportedError, match="must end in Softmax to be trained, but ends in Relu"):
        GraphNetwork(body)


def edited(body: bytes, **arrays: np.ndarray) -> bytes:
    """A body with other initializers."""
    model = onnx.load_from_string(body)
    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return bytes(model.SerializeToString())


def test_grids_that_are_not_understood_are_refused() -> None:
    steps = np.array([0.5, 0.25], np.float32)
    with pytest.raises(UnsupportedError, match=r"QuantizeLinear .* a scale for each channel"):
        GraphNetwork(edited(tiny(), step=steps, zero=np.array([128, 128], np.uint8)))
    with pytest.raises(UnsupportedError, match=r"DequantizeLinear .* different zero points"):
        GraphNetwork(edited(tiny(), w_zero=np.array([0, 1], np.int8)))
    other = tiny().replace(b"rounded", b"rounded")
    model = onnx.load_from_string(other)
    model.graph.node[1].input[1] = "other_step"
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.25, np.float32), "other_step"))
    with pytest.raises(UnsupportedError, match="not quantised with the same scale"):
        GraphNetwork(model.SerializeToString())


def test_wrong_masters_and_sources_are_refused() -> None:
    with pytest.raises(ValueError, match="masters of no trained integers: w_scale"):
        GraphNetwork(tiny(), {"w_scale": np.zeros(2)})
    with pytest.raises(ValueError, match=r"'w_quantized_int4' has the shape \(2,\), the integers \(2, 2\)"):
        GraphNetwork(tiny(), {"w_quantized_int4": np.zeros(2, np.float32)})
    network = GraphNetwork(tiny())
    with pytest.raises(ValueError, match=r"unknown weight 'w'.*valid: w_quantized_int4"):
        network.replace("w", Shared(torch.zeros(2, 2)))
    with pytest.raises(ValueError, match=r"has the shape \(2, 2\), but its source gives \(3,\)"):
        network.replace("w_quantized_int4", Shared(torch.zeros(3)))
    network.replace("w_quantized_int4", Shared(torch.zeros(2, 2)))
    with pytest.raises(ValueError, match="stored as int8, so its source must be a GraphTensor"):
        network.body()


@pytest.mark.parametrize(
    ("name", "values", "bounds"),
    [
        ("w_quantized", [-127, 3], (-127, 127)),
        ("w_quantized", [-64, 64], (-64, 64)),
        ("w_quantized", [-128, 3], (-128, 127)),
        ("w_quantized_int4", [-7, 7], (-7, 7)),
        ("w_quantized_int4", [0, 0], (-7, 7)),
    ],
)
def test_the_range_of_integers(name: str, values: list[int], bounds: tuple[int, int]) -> None:
    assert bounds_of(name, np.array(values, np.int8)) == bounds


def test_the_range_of_other_types_is_all_of_it() -> None:
    assert bounds_of("b", np.zeros(1, np.int32)) == (-(2**31), 2**31 - 1)
    assert bounds_of("b", np.zeros(1, np.uint8)) == (0, 255)
    far = IntegerTensor(np.array([2**31 - 1, -(2**31)], np.int32), np.array(1.0), 0, (-(2**31), 2**31 - 1))
    assert far.stored().tolist() == [2**31 - 1, -(2**31)]
