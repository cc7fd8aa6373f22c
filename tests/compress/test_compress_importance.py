"""The criteria against scores computed by hand, and which channels of a hand-made layer each of them removes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_networks import ONE_THREAD, digits, make_recipe, training_data
from torch import Tensor, nn

from nas.compress.coupling import dependency_graph, groups
from nas.compress.importance import (
    BatchNormScale,
    Criterion,
    Magnitude,
    Random,
    Taylor,
    criterion_of,
)
from nas.compress.layers import output_layers
from nas.compress.prune import prune
from nas.compress.technique import Tools
from nas.compression import CRITERIA
from nas.errors import UnsupportedError

SHAPE = (1, 8, 8)
WIDTH = 8


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_tools(images: int = 40, seed: int = 0) -> Tools:
    return Tools(training_data(digits(train=images)), SHAPE, make_recipe().training, 1, ONE_THREAD, seed)


class Layer(nn.Module):
    """One convolution whose channels are pruned, with what is coupled to it."""

    def __init__(self, norm: bool = True, flat: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, WIDTH, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTH) if norm else nn.Identity()
        self.flat = flat
        self.fc = nn.Linear(WIDTH * 64 if flat else WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(x.flatten(1) if self.flat else x.mean((2, 3)))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two convolutions whose outputs are added, and a depthwise one after them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.fc = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.fc(torch.relu(self.depthwise(x + self.second(torch.relu(x)))).mean((2, 3)))  # type: ignore[no-any-return]


def layer(seed: int = 0, **options: bool) -> Layer:
    torch.manual_seed(seed)
    made = Layer(**options).eval()
    with torch.no_grad():
        if isinstance(made.norm, nn.BatchNorm2d):
            made.norm.weight.uniform_(-1, 1)
    return made


def scores(model: nn.Module, criterion: Criterion) -> np.ndarray:
    """The scores of the network's only group."""
    graph = dependency_graph(model, SHAPE)
    criterion.prepare(model)
    (group,) = groups(graph, output_layers(model, SHAPE))
    return criterion.scores(group).numpy()


def removed(model: nn.Module, criterion: Criterion, ratio: float) -> list[int]:
    pruned = prune(model, ratio, SHAPE, criterion=criterion, rounding=1)
    return sorted(index for _, _, indices in pruned.history for index in indices)


def flat(tensor: Tensor) -> np.ndarray:
    """One row for each output channel, in double precision."""
    return tensor.detach().double().flatten(1).numpy()


# --- scores by hand


@pytest.mark.parametrize("power", [1, 2])
def test_magnitudes_are_sums_over_all_coupled_weights(power: int) -> None:
    made = layer()
    expected = (
        (np.abs(flat(made.conv.weight)) ** power).sum(1)
        + np.abs(made.norm.weight.detach().double().numpy()) ** power
        + (np.abs(made.fc.weight.detach().double().numpy()) ** power).sum(0)
    )
    np.testing.assert_allclose(scores(made, Magnitude(power)), expected, rtol=1e-6)


def test_after_flattening_a_channels_every_place_counts() -> None:
    made = layer(flat=True)
    by_channel = np.abs(made.fc.weight.detach().double().numpy()).reshape(10, WIDTH, 64).sum((0, 2))
    expected = np.abs(flat(made.conv.weight)).sum(1) + np.abs(made.norm.weight.detach().double().numpy()) + by_channel
    np.testing.assert_allclose(scores(made, Magnitude()), expected, rtol=1e-6)


def test_added_layers_count_together_and_depthwise_weights_do_not() -> None:
    torch.manual_seed(0)
    model = Residual().eval()
    expected = (
        np.abs(flat(model.first.weight)).sum(1)
        + np.abs(flat(model.second.weight)).sum(1)
        + np.abs(flat(model.second.weight.transpose(0, 1))).sum(1)
        + np.abs(flat(model.fc.weight.T)).sum(1)
    )
    np.testing.assert_allclose(scores(model, Magnitude()), expected, rtol=1e-6)


def test_batch_norm_scales_alone_count() -> None:
    made = layer()
    np.testing.assert_allclose(scores(made, BatchNormScale()), np.abs(made.norm.weight.detach().numpy()), rtol=1e-6)


def test_a_batch_norm_after_flattening_is_summed_by_channel() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, WIDTH, 3, padding=1, groups=1)
            self.norm = nn.BatchNorm1d(WIDTH * 64)
            self.fc = nn.Linear(WIDTH * 64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.norm(self.conv(x).flatten(1)))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = Flat().eval()
    with torch.no_grad():
        model.norm.weight.uniform_(-1, 1)
    expected = model.norm.weight.detach().abs().reshape(WIDTH, 64).sum(1).numpy()
    np.testing.assert_allclose(scores(model, BatchNormScale()), expected, rtol=1e-5)


@pytest.mark.parametrize("images", [40, 100])
def test_taylor_is_the_mean_over_batches_of_squared_weight_times_gradient(images: int) -> None:
    """Against gradients that are taken image by image; 100 images are two batches."""
    made, tools = layer(), make_tools(images)
    data = tools.data
    order = torch.randperm(images, generator=torch.Generator().manual_seed(tools.seed))
    expected, batches = np.zeros(WIDTH), torch.split(order, 64)
    for batch in batches:
        sums = {name: torch.zeros_like(parameter) for name, parameter in made.named_parameters()}
        for index in batch:
            twin = copy.deepcopy(made)
            logits = twin(data.normalise(data.images[index : index + 1]))
            (-torch.log_softmax(logits, 1)[0, data.labels[index]] / len(batch)).backward()
            for name, parameter in twin.named_parameters():
                sums[name] += parameter.grad
        products = {name: (parameter * sums[name]).square() for name, parameter in made.named_parameters()}
        expected += flat(products["conv.weight"]).sum(1) + products["norm.weight"].detach().numpy()
        expected += products["fc.weight"].detach().numpy().sum(0)
    found = scores(made, Taylor(tools))
    np.testing.assert_allclose(found, expected / len(batches), rtol=2e-3, atol=1e-12)


def test_taylor_leaves_weights_and_statistics_alone() -> None:
    made = layer()
    before = copy.deepcopy(made.state_dict())
    scores(made, Taylor(make_tools()))
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())
    pruned = prune(made, 0.5, SHAPE, criterion=Taylor(make_tools()), rounding=1)
    assert all(parameter.grad is None for parameter in pruned.model.parameters())


def test_taylor_judges_what_no_loss_reaches_as_nothing() -> None:
    made = layer()
    criterion = Taylor(make_tools())
    graph = dependency_graph(made, SHAPE)
    (group,) = groups(graph, output_layers(made, SHAPE))
    assert not criterion.scores(group).any(), "nothing was prepared"


# --- which channels go


def ranked(**weights: list[float]) -> Layer:
    """A layer all of whose weights are one, but for factors on single channels: of ``conv``, ``norm`` or ``fc``."""
    made = Layer().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(1)
        for name, factors in weights.items():
            shape = {"conv": (-1, 1, 1, 1), "norm": (-1,), "fc": (1, -1)}[name]
            getattr(made, name).weight.mul_(torch.tensor(factors).reshape(shape))
    return made


UP = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]
DOWN = UP[::-1]


@pytest.mark.parametrize(
    ("model", "criterion", "expected"),
    [
        (ranked(conv=UP), Magnitude(1), [0, 1, 2, 3]),
        (ranked(conv=DOWN), Magnitude(1), [4, 5, 6, 7]),
        (ranked(conv=[-value for value in DOWN]), Magnitude(1), [4, 5, 6, 7]),  # signs do not matter
        (ranked(fc=UP), Magnitude(2), [0, 1, 2, 3]),  # what reads the channel counts too
        (ranked(conv=UP, norm=DOWN), Magnitude(1), [0, 1, 2, 3]),  # nine weights against one
        (ranked(conv=UP, norm=DOWN), BatchNormScale(), [4, 5, 6, 7]),
        (ranked(conv=UP, norm=[-value for value in DOWN]), BatchNormScale(), [4, 5, 6, 7]),
        (ranked(), Magnitude(1), [0, 1, 2, 3]),  # of equals the first ones
        (ranked(norm=[0.0] * WIDTH), BatchNormScale(), [0, 1, 2, 3]),
    ],
)
def test_each_criterion_removes_its_lowest(model: Layer, criterion: Criterion, expected: list[int]) -> None:
    assert removed(model, criterion, 0.5) == expected


def test_one_large_weight_outweighs_many_small_ones_by_l2_only() -> None:
    made = Layer().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        made.conv.weight[:4, 0, 1, 1] = 3.0  # |w| sums to 3, w² to 9
        made.conv.weight[4:] = 0.5  # to 4.5 and 2.25
    assert removed(made, Magnitude(1), 0.5) == [0, 1, 2, 3]
    assert removed(made, Magnitude(2), 0.5) == [4, 5, 6, 7]


def test_taylor_removes_channels_that_nobody_reads_however_large_their_weights() -> None:
    made = layer(seed=1)
    dead = [0, 3, 4, 6]
    with torch.no_grad():
        made.norm.weight.fill_(1)
        made.fc.weight[:, dead] = 0
        made.conv.weight[dead] *= 100
    assert removed(made, Taylor(make_tools()), 0.5) == dead
    assert removed(made, Magnitude(1), 0.5) == sorted(set(range(WIDTH)) - set(dead))


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_random_scores_follow_the_seed_alone(ratio: float) -> None:
    first = removed(ranked(conv=UP), Random(3), ratio)
    assert removed(ranked(conv=DOWN), Random(3), ratio) == first
    assert len(first) == round(ratio * WIDTH)
    others = {tuple(removed(ranked(conv=UP), Random(seed), ratio)) for seed in range(10)}
    assert len(others) > 5


def test_random_scores_leave_torchs_own_random_numbers_alone() -> None:
    made = ranked()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    removed(made, Random(7), 0.5)
    removed(made, Taylor(make_tools()), 0.5)
    assert torch.rand(1) == expected


# --- without a basis


def test_where_no_batch_norm_is_the_l1_norm_judges_and_it_is_said() -> None:
    made, criterion = layer(norm=False), BatchNormScale()
    np.testing.assert_array_equal(scores(made, criterion), scores(made, Magnitude(1)))
    pruned = prune(made, 0.5, SHAPE, criterion=BatchNormScale(), rounding=1)
    assert pruned.judged_by_l1 == ("conv",)
    assert prune(layer(), 0.5, SHAPE, criterion=BatchNormScale(), rounding=1).judged_by_l1 == ()


def test_a_batch_norm_without_scales_is_none() -> None:
    made = layer()
    made.norm = nn.BatchNorm2d(WIDTH, affine=False).eval()
    assert prune(made, 0.5, SHAPE, criterion=BatchNormScale(), rounding=1).judged_by_l1 == ("conv",)


# --- by name


@pytest.mark.parametrize("name", CRITERIA)
def test_each_criterion_is_found_by_name_and_repeats_itself(name: str) -> None:
    first = scores(layer(), criterion_of(name, make_tools()))
    assert first.shape == (WIDTH,)
    assert len(set(first)) == WIDTH
    assert np.array_equal(first, scores(layer(), criterion_of(name, make_tools())))


def test_an_unknown_criterion_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"unknown pruning criterion 'L1'; did you mean 'l1'\?"):
        criterion_of("L1", make_tools())
