"""Calibration: the range of each activation, from what a network does on training images.

Three ways to choose it. ``minmax`` takes all that was seen. ``percentile`` leaves out the most extreme hundredth of a
per cent (Wu et al., arXiv:2004.09602). ``entropy`` takes the range in which 256 levels tell most about the values as
they were: the least Kullback-Leibler divergence of the quantised from the true distribution (Migacz, *8-bit inference
with TensorRT*, 2017).

ONNX Runtime has calibrators of these names. Its entropy one, at its own settings, compares a single candidate and so
gives the whole range, and both keep every activation of every image in memory; so the ranges are found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from nas.artifact import open_session

# Images go through the network in batches with at most so many activations in all (128 MB of float32).
ACTIVATIONS_AT_ONCE = 2**25
# From each activation so many values are kept at most, evenly spread over images, channels and places.
SAMPLES = 2**18
PERCENTILE = 99.99
LEVELS, MOST_BINS, SAMPLES_PER_BIN, CANDIDATES = 256, 2048, 16, 128

Range = tuple[float, float]


def ranges(body: bytes, tensors: Sequence[str], images: np.ndarray, method: str) -> dict[str, Range]:
    """The range of each activation; 0 always lies in it.

    Args:
        body: A float body, normalised N×C×H×W float32 in.
        tensors: Names of activations in it.
        images: What to run it on.
        method: ``minmax``, ``entropy`` or ``percentile``.
    """
    extremes: dict[str, Range] = dict.fromkeys(tensors, (0.0, 0.0))
    samples: dict[str, list[np.ndarray]] = {name: [] for name in tensors}
    for values in _activations(body, tensors, images):
        for name, array in values.items():
            low, high = extremes[name]
            extremes[name] = min(low, float(array.min())), max(high, float(array.max()))
            if method != "minmax":
                samples[name].append(_spread(array, len(images)))
    choose = METHODS[method]
    return {name: choose(np.concatenate([[0], *samples[name]], dtype="f4"), extremes[name]) for name in tensors}


def _activations(body: bytes, tensors: Sequence[str], images: np.ndarray) -> Iterator[Mapping[str, np.ndarray]]:
    """The activations of one batch after another."""
    model = onnx.load_from_string(body)
    graph = model.graph
    given = {value.name for value in graph.output}
    computed = {output for node in graph.node for output in node.output}
    names = [name for name in tensors if name in computed]
    # By the float type alone: what the body says of shapes may be wrong after it was edited.
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in given
    )
    del graph.value_info[:]
    session = open_session(model.SerializeToString())
    image = graph.input[0].name

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        values = dict(zip(names, session.run(names, {image: batch}), strict=True)) if names else {}
        return values | ({image: batch} if image in tensors else {})

    first = run(images[:1])
    size = max(1, ACTIVATIONS_AT_ONCE // max(1, sum(array.size for array in first.values())))
    for start in range(0, len(images), size):
        yield run(images[start : start + size])


def _spread(array: np.ndarray, images: int) -> np.ndarray:
    """Evenly spread values of one batch, its part of ``SAMPLES``."""
    wanted = max(1, SAMPLES * len(array) // images)
    # An odd step, so that it does not fall on the same places or channels again and again.
    return array.reshape(-1)[:: (array.size // wanted) | 1].copy()  # a view would keep the whole batch


def _minmax(samples: np.ndarray, extremes: Range) -> Range:
    return extremes


def _percentile(samples: np.ndarray, extremes: Range) -> Range:
    tail = (100 - PERCENTILE) / 2
    low, high = np.percentile(samples, [tail, 100 - tail])
    return min(0.0, float(low)), max(0.0, float(high))


def _entropy(samples: np.ndarray, extremes: Range) -> Range:
    """The range within ±t, of the t with the least divergence; it keeps at least a bin for each level."""
    low, high = extremes
    samples = samples[samples != 0]  # exact on every grid, and so many after a ReLU that they would decide alone
    bins = min(MOST_BINS, samples.size // SAMPLES_PER_BIN)
    if bins <= LEVELS:  # too few to tell a distribution from chance
        return extremes
    counts, edges = np.histogram(samples, bins, range=(low, high))
    zero = int(np.searchsorted(edges, 0.0, side="right")) - 1  # the bin in which 0 lies
    best, least = extremes, np.inf
    for reach in np.linspace(max(zero, bins - zero), 1, CANDIDATES):
        start, end = max(0, round(zero - reach)), min(bins, round(zero + reach))
        if end - start < LEVELS:
            break
        divergence = _divergence(counts, start, end)
        if divergence < least:
            best, least = (min(0.0, float(edges[start])), max(0.0, float(edges[end]))), divergence
    return best


def _divergence(counts: np.ndarray, start: int, end: int) -> float:
    """Kullback-Leibler divergence of a histogram's quantised part from the whole, clipped to that part."""
    kept = counts[start:end].astype(np.float64)
    true = kept.copy()
    true[0] += counts[:start].sum()
    true[-1] += counts[end:].sum()
    firsts = np.arange(LEVELS) * len(kept) // LEVELS
    filled = np.add.reduceat((kept > 0).astype(np.float64), firsts)
    level = np.add.reduceat(kept, firsts) / np.maximum(filled, 1)
    told = np.repeat(level, np.diff(np.append(firsts, len(kept)))) * (kept > 0)
    if told.sum() == 0:
        return float("inf")
    p, q = true / true.sum(), told / told.sum()
    seen = p > 0
    # Values that were clipped into an empty bin: unlikely after quantisation, not impossible.
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-9))).sum())


METHODS: Mapping[str, Callable[[np.ndarray, Range], Range]] = {
    "minmax": _minmax,
    "entropy": _entropy,
    "percentile": _percentile,
}
