"""Stratified splitting: every class stands in every part, in proportion, and the seed alone decides which samples.

scikit-learn's stratified splitters keep the total exact instead, and so may leave a small class out of a part; a
validation set that lacks a class cannot select designs that know it. The random orders come from generators of their
own, one for each purpose: the test set does not change with the size of the validation set, nor with any limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas.errors import DataError

Purpose = Literal["test", "validation", "train_limit", "validation_limit", "rung"]

_STREAMS: dict[Purpose, int] = {"test": 0, "validation": 1, "train_limit": 2, "validation_limit": 3, "rung": 4}


@dataclass(frozen=True, eq=False)
class SplitIndices:
    """Which samples go where; a part that is not split off is empty.

    All are in random order, so that any prefix is a fair sample, however the file is sorted.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def generator(seed: int, purpose: Purpose) -> np.random.Generator:
    """The source of randomness for one purpose; independent of the others and of numpy's global state.

    Raises:
        DataError: The seed is negative.
    """
    if seed < 0:
        raise DataError(f"'split_seed' must be 0 or greater, but got {seed}")
    return np.random.default_rng([seed, _STREAMS[purpose]])


def split_indices(
    labels: np.ndarray,
    class_names: Sequence[str],
    validation: float | None,
    test: float | None,
    seed: int,
    where: str = "the data",
) -> SplitIndices:
    """Splits samples into train, validation and test.

    Args:
        labels: N class numbers; every class of ``class_names`` has samples.
        class_names: One name for each class number, for messages.
        validation: Fraction of all N samples for validation; None where that part comes from elsewhere.
        test: Fraction of all N samples for testing; None where that part comes from elsewhere.
        seed: Decides which samples go where.
        where: What is split, for messages.

    Raises:
        DataError: A class has fewer samples than there are parts.
    """
    parts = ["train"] + ["validation"] * (validation is not None) + ["test"] * (test is not None)
    counts = np.bincount(labels, minlength=len(class_names))
    smallest = int(counts.argmin())
    too_small = np.count_nonzero(counts < len(parts))
    if too_small:
        raise DataError(
            f"{where}: class '{class_names[smallest]}' has too few samples to split: {counts[smallest]}, but "
            f"{' and '.join(parts)} need one each ({too_small} of {len(counts)} classes are too small)",
            "add samples, or leave the class out",
        )
    rest = np.arange(len(labels))
    held_out = np.empty(0, dtype=np.int64)
    if test is not None:
        # Where validation is to be taken too, a class keeps two samples: one for it and one for train.
        keep = len(parts) - 1
        rest, held_out = draw(labels, share_of(counts, test, keep), generator(seed, "test"))
    if validation is None:
        return SplitIndices(generator(seed, "validation").permutation(rest), np.empty(0, dtype=np.int64), held_out)
    remaining = labels[rest]
    wanted = share_of(np.bincount(remaining), validation / (1 - (test or 0.0)))
    train, chosen = draw(remaining, wanted, generator(seed, "validation"))
    return SplitIndices(rest[train], rest[chosen], held_out)


def limit_indices(
    labels: np.ndarray, class_names: Sequence[str], limit: int | None, purpose: Purpose, seed: int
) -> np.ndarray:
    """A stratified subset of at most ``limit`` samples; all of them, in their order, where that is no limit.

    Raises:
        DataError: The limit is less than the number of classes.
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    counts = np.bincount(labels, minlength=len(class_names))
    present = counts > 0
    if limit < present.sum():
        raise DataError(
            f"'{purpose}' must allow one sample for each class, but got {limit} for {present.sum()} classes",
            f"set it to {present.sum()} or more",
        )
    wanted = np.zeros_like(counts)
    wanted[present] = apportion(counts[present], limit)
    return draw(labels, wanted, generator(seed, purpose))[1]


def share_of(counts: np.ndarray, fraction: float, keep: int = 1) -> np.ndarray:
    """That fraction of each class, to the nearest whole sample: at least one, and at least ``keep`` stay behind."""
    return np.clip(np.floor(counts * fraction + 0.5).astype(np.int64), 1, counts - keep)


def apportion(counts: np.ndarray, total: int) -> np.ndarray:
    """Shares ``total`` among classes in proportion to their counts, at least one each.

    The method of the largest remainder (Hamilton's, as for seats in a parliament); classes whose proportion is less
    than one get one first, the others share what is left.

    Args:
        counts: Samples of each class, none of them 0.
        total: From the number of classes to the sum of the counts.
    """
    small = np.zeros(len(counts), dtype=bool)
    while True:
        seats, base = total - int(small.sum()), int(counts[~small].sum())
        too_small = ~small & (counts * seats < base)
        if not too_small.any():
            break
        small |= too_small
    wanted = np.where(small, 1, counts * seats // base)
    remainder = np.where(small, 0, counts * seats % base)
    largest = np.argsort(-remainder, kind="stable")[: total - int(wanted.sum())]
    wanted[largest] += 1
    return wanted


def draw(labels: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws so many samples of each class at random.

    Args:
        labels: N class numbers.
        wanted: How many of each class; at most as many as there are.
        rng: Decides which.

    Returns:
        The indices that stay and those that are drawn, both in random order; together each index once.
    """
    order = rng.permutation(len(labels))
    counts = np.bincount(labels, minlength=len(wanted))
    by_class = order[np.argsort(labels[order], kind="stable")]
    rank_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = np.zeros(len(labels), dtype=bool)
    drawn[by_class[rank_in_class < np.repeat(wanted, counts)]] = True
    return order[~drawn[order]], order[drawn[order]]
