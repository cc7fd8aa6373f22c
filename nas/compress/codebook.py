"""Codebooks: the weights of a layer replaced by few values that they share (Han et al., Deep Compression, ICLR 2016).

The values are found by k-means on the weights, which in one dimension is cheap to bring to its end: the clusters are
intervals of the sorted weights, whose sums are differences of prefix sums. Afterwards the values, not the weights, are
trained: ``Codebook`` hands them out, and so gets the sum of its weights' gradients for each value.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nas.compress.graph.tensors import LEAST_UNIT, SPREADS_PER_UNIT

MOST_ITERATIONS = 300
BATCH = 1024
# Bins of the histogram by which starting points are laid out; more would be empty in the tails, and leave them out.
BINS = 32
# How many times k-means++ lays them out.
RESTARTS = 2
# As many weights as MiniBatchKMeans gets; the iterations after it see all.
SAMPLE = 4096


@dataclass(frozen=True)
class Clusters:
    """The weights of a layer as a few values.

    Args:
        values: Up to 2**bits float32, each used by some weight; ascending until they are trained.
        indices: Which value each weight has: uint8, in the weights' shape.
    """

    values: np.ndarray
    indices: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """The weights that they stand for, float32."""
        return np.asarray(self.values[self.indices])


def cluster(weights: np.ndarray, bits: int, seed: int) -> Clusters:
    """Groups weights by k-means, so that the sum of squared differences from their group's mean is (locally) least.

    A layer with no more different weights than there is room for keeps them exactly. Where weights are exactly zero,
    as after unstructured pruning, one value is zero and stays it, so that they do too.

    Args:
        weights: Finite floats of any shape.
        bits: There is room for 2**bits values, 1 to 8.
        seed: Of the order in which k-means sees the weights.
    """
    flat = np.asarray(weights, np.float64).reshape(-1)
    ordered = np.sort(flat)
    different = ordered[np.append(True, ordered[1:] != ordered[:-1])]
    if len(different) <= 2**bits:
        values = different
    elif 0.0 in different:
        values = np.append(_means(ordered[ordered != 0], 2**bits - 1, seed, fixed=0.0), 0.0)
    else:
        values = _means(ordered, 2**bits, seed)
    rounded = np.unique(values.astype(np.float32))
    nearest = _nearest(rounded.astype(np.float64), flat)
    used = np.bincount(nearest, minlength=len(rounded)) > 0
    indices = (np.cumsum(used) - 1).astype(np.uint8)[nearest]
    return Clusters(rounded[used], indices.reshape(np.shape(weights)))


def _means(weights: np.ndarray, count: int, seed: int, fixed: float | None = None) -> np.ndarray:
    """The means of so many groups of sorted weights; ``fixed`` is one more group, whose mean stays as it is.

    Local optima differ by up to half of the error, most of all where tails are long or weights few: the best of some.
    """
    from sklearn.cluster import MiniBatchKMeans  # here, as who does not share weights need not wait for it
    from sklearn.exceptions import ConvergenceWarning

    random = np.random.RandomState(seed)
    sample = weights[np.linspace(0, len(weights) - 1, min(len(weights), SAMPLE)).astype(np.int64), None]
    starts = [_by_density(weights, count)[:, None], *["k-means++"] * RESTARTS]
    found = []
    for start in starts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer groups than asked for are no harm
            # A starting point stays also where few weights are near it, or it would be lost to the long tails.
            search = MiniBatchKMeans(
                count, init=start, n_init=1, init_size=len(sample), batch_size=BATCH, random_state=random,
                reassignment_ratio=0.0, compute_labels=False,
            )  # fmt: skip
            means = search.fit(sample).cluster_centers_.reshape(-1)
        found.append(_converged(weights, means.astype(np.float64), fixed))
    return min(found, key=lambda means: _squared_error(weights, means, fixed))


def _by_density(weights: np.ndarray, count: int) -> np.ndarray:
    """Points laid out as densely as the cube root of the weights' density, which many levels of a quantiser have at
    their best (Panter and Dite, 1951)."""
    density, edges = np.histogram(weights, BINS)
    filled = np.concatenate([[0.0], np.cumsum(np.cbrt(density))])
    return np.asarray(np.interp((np.arange(count) + 0.5) / count, filled / filled[-1], edges))


def _squared_error(weights: np.ndarray, means: np.ndarray, fixed: float | None) -> float:
    values = np.sort(means if fixed is None else np.append(means, fixed))
    return float(np.square(weights - values[_nearest(values, weights)]).sum())


def _converged(weights: np.ndarray, means: np.ndarray, fixed: float | None) -> np.ndarray:
    """Lloyd's iterations over all weights, to their end; the mean of a group that is empty stays where it is."""
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    for _ in range(MOST_ITERATIONS):
        means = np.sort(means)
        values = means if fixed is None else np.sort(np.append(means, fixed))
        ends = np.searchsorted(weights, (values[1:] + values[:-1]) / 2)
        edges = np.concatenate([[0], ends, [len(weights)]])
        counts = np.diff(edges)
        moved = np.where(counts > 0, np.diff(sums[edges]) / np.maximum(counts, 1), values)
        if fixed is not None:
            moved = np.delete(moved, np.searchsorted(values, fixed))
        if np.array_equal(moved, means):
            break
        means = moved
    return means


def _nearest(values: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """The position of the nearest of some ascending values for each weight; where two are as near, the lower."""
    return np.searchsorted((values[1:] + values[:-1]) / 2, flat)


class Codebook(nn.Module):
    """Gives a layer's weights from the values that they share; the values can be trained.

    The gradient of a value is the sum of the gradients of the weights that have it. Adam's steps are about as long as
    the learning rate, whatever the gradient; so that one rate fits layers of small and of large weights, what is
    trained (``centroids``) is the values in units of their spread, a power of two, which rounds nothing. The unit of a
    value that is zero is zero: it gets no gradient, and pruned weights stay pruned.

    Args:
        clusters: Values and indices to start from.
    """

    indices: Tensor
    units: Tensor

    def __init__(self, clusters: Clusters) -> None:
        super().__init__()
        root_mean_square = math.sqrt(np.square(clusters.weights, dtype=np.float64).mean())
        unit = 2.0 ** round(math.log2(max(SPREADS_PER_UNIT * root_mean_square, LEAST_UNIT)))
        values = torch.from_numpy(clusters.values)
        self.shape = clusters.indices.shape
        self.centroids = nn.Parameter(values / unit)
        self.register_buffer("units", (values != 0) * unit, persistent=False)
        indices = torch.from_numpy(clusters.indices.astype(np.int32)).reshape(-1)
        self.register_buffer("indices", indices, persistent=False)

    def values(self) -> Tensor:
        """The values, in the order of the indices."""
        return self.centroids * self.units

    def forward(self) -> Tensor:
        # Of all ways to look values up, index_select has the fastest gradient by far, and on a CPU a repeatable one.
        return self.values().index_select(0, self.indices).reshape(self.shape)

    @torch.no_grad()
    def clusters(self) -> Clusters:
        """What it holds now."""
        values = self.values().cpu().float().numpy()
        return Clusters(values, self.indices.cpu().numpy().astype(np.uint8).reshape(self.shape))
