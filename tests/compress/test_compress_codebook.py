"""Codebooks: k-means groups that no small change improves, zeros that stay, and gradients that add up per value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from nas.compress.codebook import Clusters, Codebook, cluster
from nas.compress.graph.tensors import SPREADS_PER_UNIT


def gaussian(count: int = 4000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, count).astype(np.float32)


def squared_error(weights: np.ndarray, found: Clusters) -> float:
    return float(np.square(weights.astype(np.float64) - found.weights).sum())


# --- k-means


@pytest.mark.parametrize("bits", range(1, 9))
def test_values_are_few_ascending_used_and_indices_point_at_the_nearest(bits: int) -> None:
    weights = gaussian().reshape(40, 100)
    found = cluster(weights, bits, 0)
    assert found.values.dtype == np.float32
    assert found.indices.dtype == np.uint8
    assert found.indices.shape == weights.shape
    assert 0.95 * 2**bits < len(found.values) <= 2**bits  # of 256 a few may end up with no weight near them
    assert (np.diff(found.values) > 0).all()
    assert set(np.unique(found.indices)) == set(range(len(found.values)))
    nearest = np.abs(weights[..., None].astype(np.float64) - found.values).min(-1)
    np.testing.assert_allclose(np.abs(weights - found.weights), nearest, atol=1e-8)


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_each_value_is_the_mean_of_its_weights(bits: int) -> None:
    weights = gaussian()
    found = cluster(weights, bits, 0)
    means = [weights[found.indices == position].mean(dtype=np.float64) for position in range(len(found.values))]
    np.testing.assert_allclose(found.values, means, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_it_beats_a_uniform_grid_of_as_many_values_on_gaussian_weights(bits: int) -> None:
    weights = gaussian()
    low, high = weights.min(), weights.max()
    steps = np.round((weights - low) / (high - low) * (2**bits - 1))
    grid = (steps / (2**bits - 1) * (high - low) + low).astype(np.float32)
    uniform = float(np.square(weights.astype(np.float64) - grid).sum())
    assert squared_error(weights, cluster(weights, bits, 0)) < 0.85 * uniform


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("tails", ["gaussian", "long", "two humps"])
def test_it_is_as_good_as_the_best_of_ten_runs_of_kmeans(tails: str, bits: int) -> None:
    rng = np.random.default_rng(1)
    weights = {
        "gaussian": gaussian(1500),
        "long": rng.standard_t(4, 1500).astype(np.float32),
        "two humps": np.concatenate([rng.normal(-1, 0.2, 500), rng.normal(2, 0.4, 1000)]).astype(np.float32),
    }[tails]
    best = KMeans(2**bits, n_init=10, random_state=0).fit(weights[:, None].astype(np.float64)).inertia_
    assert squared_error(weights, cluster(weights, bits, 0)) < 1.08 * best


def test_one_value_is_the_known_optimum_of_one_bit() -> None:
    """The best two levels for a normal distribution are ±√(2/π) standard deviations (Lloyd, 1982)."""
    weights = gaussian(200_000)
    np.testing.assert_allclose(cluster(weights, 1, 0).values, np.array([-1, 1]) * np.sqrt(2 / np.pi) * 0.05, rtol=0.02)


@pytest.mark.parametrize("different", [1, 2, 3, 4])
def test_no_more_different_weights_than_there_is_room_for_are_kept_exactly(different: int) -> None:
    values = gaussian(different)
    weights = np.resize(values, (30, 7))
    found = cluster(weights, 2, 0)
    assert len(found.values) == different
    assert np.array_equal(found.weights, weights)


@given(st.lists(st.floats(-10, 10, width=32, allow_subnormal=False), min_size=1, max_size=60), st.integers(1, 8))
def test_whatever_the_weights_each_gets_one_of_the_values(weights: list[float], bits: int) -> None:
    array = np.array(weights, np.float32)
    found = cluster(array, bits, 0)
    assert 1 <= len(found.values) <= 2**bits
    assert found.indices.max() < len(found.values)
    assert array.min() - 1e-5 <= found.values.min()
    assert found.values.max() <= array.max() + 1e-5
    assert (found.weights[array == 0] == 0).all()
    if len(np.unique(array)) <= 2**bits:
        assert np.array_equal(found.weights, array)


def test_the_same_seed_gives_the_same_values() -> None:
    weights = gaussian()
    first, again = cluster(weights, 4, 3), cluster(weights.copy(), 4, 3)
    assert np.array_equal(first.values, again.values)
    assert np.array_equal(first.indices, again.indices)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("sparsity", [0.001, 0.5, 0.95])
def test_zeros_stay_zero_and_the_other_values_are_for_the_other_weights(sparsity: float, bits: int) -> None:
    weights = gaussian(6000) + np.float32(0.02)  # off centre: without a place of its own zero would be no value
    weights[: int(sparsity * len(weights))] = 0
    found = cluster(weights, bits, 0)
    assert (found.values == 0).sum() == 1
    assert (found.weights[weights == 0] == 0).all()
    assert len(found.values) <= 2**bits
    for position, value in enumerate(found.values):
        if value != 0:
            mean = weights[found.indices == position].mean(dtype=np.float64)
            np.testing.assert_allclose(value, mean, rtol=1e-4, atol=1e-7)


def test_a_layer_larger_than_what_mini_batches_see_is_still_brought_to_its_end() -> None:
    weights = gaussian(200_000)
    found = cluster(weights, 3, 0)
    means = [weights[found.indices == position].mean(dtype=np.float64) for position in range(8)]
    np.testing.assert_allclose(found.values, means, rtol=1e-4, atol=1e-7)


# --- the module


def by_hand(values: list[float], indices: list[list[int]]) -> Codebook:
    return Codebook(Clusters(np.array(values, np.float32), np.array(indices, np.uint8)))


def test_it_gives_the_weights_bit_for_bit() -> None:
    weights = gaussian().reshape(10, 4, 10, 10)
    found = cluster(weights, 4, 0)
    book = Codebook(found)
    with torch.no_grad():
        assert np.array_equal(book().numpy(), found.weights)
    assert np.array_equal(book.clusters().values, found.values)
    assert np.array_equal(book.clusters().indices, found.indices)


def test_the_gradient_of_a_value_is_the_sum_of_its_weights_gradients() -> None:
    book = by_hand([-1.0, 0.5, 2.0], [[0, 1, 1], [2, 0, 1]])
    gradient = torch.tensor([[1.0, 10.0, 100.0], [1000.0, 10000.0, 100000.0]])
    values = book.values()
    values.retain_grad()
    book.values = lambda: values  # type: ignore[method-assign]
    (book() * gradient).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [10001.0, 100110.0, 1000.0]


def test_the_gradient_agrees_with_that_of_a_one_hot_product() -> None:
    found = cluster(gaussian(3000), 5, 0)
    book = Codebook(found)
    gradient = torch.randn(3000, generator=torch.Generator().manual_seed(0))
    book().backward(gradient)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(found.indices.astype(np.int64))).double()
    expected = (gradient.double() @ one_hot) * book.units
    assert book.centroids.grad is not None
    torch.testing.assert_close(book.centroids.grad.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-4, 0.05, 30.0])
def test_a_step_moves_values_in_proportion_to_the_spread_of_the_weights(scale: float) -> None:
    """So that one learning rate fits layers of any size of weights; Adam's first step is as long as the rate."""
    weights = gaussian(1000) / 0.05 * np.float32(scale)
    book = Codebook(cluster(weights, 3, 0))
    before = book.values().detach().clone()
    book().sum().backward()
    torch.optim.AdamW(book.parameters(), lr=0.01, weight_decay=0.0, fused=True).step()
    moved = (before - book.values().detach()) / (0.01 * weights.std())
    assert (moved > SPREADS_PER_UNIT / 1.5).all()
    assert (moved < SPREADS_PER_UNIT * 1.5).all()


def test_training_moves_the_values_but_not_zero() -> None:
    weights = gaussian(2000)
    weights[:500] = 0
    book = Codebook(cluster(weights, 3, 0))
    optimizer = torch.optim.AdamW(book.parameters(), lr=0.1, weight_decay=0.1, fused=True)
    for _ in range(5):
        optimizer.zero_grad()
        ((book() - 1) ** 2).sum().backward()
        optimizer.step()
    after = book.clusters()
    assert (after.weights[weights == 0] == 0).all()
    moved = np.abs(after.weights - weights) > 0.01
    assert moved[500:].mean() > 0.8


def test_a_layer_of_zeros_can_be_trained_and_stays_one() -> None:
    book = Codebook(cluster(np.zeros((4, 3), np.float32), 4, 0))
    book().sum().backward()
    torch.optim.AdamW(book.parameters(), lr=0.1, fused=True).step()
    assert not book().detach().any()


@pytest.mark.parametrize("value", [1e-41, 1e-20, 7.0])
def test_a_layer_of_one_value_however_small_can_be_trained(value: float) -> None:
    book = Codebook(cluster(np.full((4, 3), value, np.float32), 4, 0))
    assert (book() == torch.tensor(value)).all()
    book().sum().backward()
    torch.optim.AdamW(book.parameters(), lr=0.1, weight_decay=0.0, fused=True).step()
    assert torch.isfinite(book()).all()
    assert (book() != torch.tensor(value)).all()


def test_indices_and_units_are_not_trained() -> None:
    assert [name for name, _ in by_hand([0.0, 1.0], [[0, 1]]).named_parameters()] == ["centroids"]
