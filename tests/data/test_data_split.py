from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.data.split import apportion, draw, generator, limit_indices, share_of, split_indices
from nas.errors import DataError

NAMES = tuple(f"class-{number}" for number in range(12))
FRACTIONS = st.floats(0.01, 0.49)
SEEDS = st.integers(0, 2**32)


@st.composite
def class_labels(draw_value: st.DrawFn, smallest: int = 3) -> np.ndarray:
    """Shuffled class numbers, every class with at least so many samples."""
    counts = draw_value(st.lists(st.integers(smallest, 60), min_size=2, max_size=8))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw_value(st.integers(0, 1000))).permutation(labels)


def names_of(labels: np.ndarray) -> tuple[str, ...]:
    return NAMES[: labels.max() + 1]


@settings(deadline=None)
@given(class_labels(), FRACTIONS, FRACTIONS, SEEDS)
def test_parts_are_disjoint_and_complete_and_hold_every_class(
    labels: np.ndarray, validation: float, test: float, seed: int
) -> None:
    parts = split_indices(labels, names_of(labels), validation, test, seed)
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert np.array_equal(np.sort(together), np.arange(len(labels)))
    for part in (parts.train, parts.validation, parts.test):
        assert set(labels[part]) == set(labels)


@settings(deadline=None)
@given(class_labels(), FRACTIONS, FRACTIONS, SEEDS)
def test_parts_are_stratified_to_within_one_sample(
    labels: np.ndarray, validation: float, test: float, seed: int
) -> None:
    parts = split_indices(labels, names_of(labels), validation, test, seed)
    counts = np.bincount(labels)
    # A class so small that a part's share of it is less than one sample gets one all the same, at the others' cost.
    large = counts * min(validation, test, 1 - validation - test) >= 1
    for part, fraction in ((parts.train, 1 - validation - test), (parts.validation, validation), (parts.test, test)):
        difference = np.abs(np.bincount(labels[part], minlength=len(counts)) - counts * fraction)
        assert (difference[large] < 1 + 1e-9).all()


@settings(deadline=None)
@given(class_labels(), FRACTIONS, FRACTIONS, SEEDS, st.integers(0, 2**31))
def test_the_seed_alone_decides(
    labels: np.ndarray, validation: float, test: float, seed: int, global_seed: int
) -> None:
    first = split_indices(labels, names_of(labels), validation, test, seed)
    np.random.seed(global_seed)
    before = np.random.get_state()[1].copy()
    second = split_indices(labels, names_of(labels), validation, test, seed)
    assert np.array_equal(before, np.random.get_state()[1])
    for name in ("train", "validation", "test"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_another_seed_splits_otherwise() -> None:
    labels = np.arange(60) % 3
    one, two = (split_indices(labels, NAMES[:3], 0.2, 0.2, seed) for seed in (0, 1))
    assert set(one.test) != set(two.test)
    assert set(one.validation) != set(two.validation)


def test_the_test_set_does_not_depend_on_the_size_of_the_validation_set() -> None:
    labels = np.arange(60) % 3
    one, two = (split_indices(labels, NAMES[:3], validation, 0.2, 0) for validation in (0.1, 0.5))
    assert np.array_equal(one.test, two.test)
    assert len(one.validation) < len(two.validation)


@pytest.mark.parametrize(
    ("validation", "test", "sizes"),
    [(0.2, 0.2, (60, 20, 20)), (0.2, None, (80, 20, 0)), (None, 0.2, (80, 0, 20)), (None, None, (100, 0, 0))],
)
def test_parts_that_come_from_elsewhere_are_not_split_off(
    validation: float | None, test: float | None, sizes: tuple[int, int, int]
) -> None:
    labels = np.repeat(np.arange(4), 25)
    parts = split_indices(labels, NAMES[:4], validation, test, 0)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == sizes
    assert len(set(labels[parts.train[:20]])) > 1, "a prefix of a sorted file's train part must not be one class"


def test_counts_agree_with_scikit_learn_to_within_one_sample() -> None:
    from sklearn.model_selection import train_test_split

    labels = np.repeat(np.arange(4), [40, 33, 27, 11])
    theirs = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0)[1]
    ours = split_indices(labels, NAMES[:4], None, 0.3, 0).test
    assert np.abs(np.bincount(labels[theirs]) - np.bincount(labels[ours])).max() <= 1


@pytest.mark.parametrize(
    ("validation", "test", "count", "message"),
    [
        (0.2, 0.2, 2, r"class 'class-1' has too few samples to split: 2, but train and validation and test need one"),
        (0.2, None, 1, r"class 'class-1' has too few samples to split: 1, but train and validation need one each"),
        (0.2, 0.2, 2, r"1 of 3 classes are too small.*leave the class out"),
    ],
)
def test_a_class_with_too_few_samples(validation: float, test: float | None, count: int, message: str) -> None:
    labels = np.repeat(np.arange(3), [10, count, 10])
    with pytest.raises(DataError, match=message):
        split_indices(labels, NAMES[:3], validation, test, 0)


def test_a_class_with_just_enough_samples_is_split_whatever_the_fractions() -> None:
    labels = np.repeat(np.arange(2), [3, 50])
    for validation, test in ((0.5, 0.4), (0.01, 0.9), (0.9, 0.01)):
        parts = split_indices(labels, NAMES[:2], validation, test, 0)
        assert [np.count_nonzero(labels[part] == 0) for part in (parts.train, parts.validation, parts.test)] == [
            1,
            1,
            1,
        ]


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(DataError, match=r"'split_seed' must be 0 or greater, but got -1"):
        generator(-1, "test")


@settings(deadline=None)
@given(class_labels(smallest=1), st.data(), SEEDS)
def test_a_limit_draws_a_stratified_subset(labels: np.ndarray, data: st.DataObject, seed: int) -> None:
    counts = np.bincount(labels)
    limit = data.draw(st.integers(len(counts), len(labels)))
    chosen = limit_indices(labels, names_of(labels), limit, "train_limit", seed)
    assert len(chosen) == len(set(chosen)) == limit
    drawn = np.bincount(labels[chosen], minlength=len(counts))
    assert (drawn >= 1).all()
    proportion = counts * limit / len(labels)
    if (proportion >= 1).all():
        assert (np.abs(drawn - proportion) < 1).all()
    assert np.array_equal(chosen, limit_indices(labels, names_of(labels), limit, "train_limit", seed))


@pytest.mark.parametrize("limit", [None, 30, 31])
def test_a_limit_that_is_none_keeps_all_in_order(limit: int | None) -> None:
    chosen = limit_indices(np.arange(30) % 3, NAMES[:3], limit, "train_limit", 0)
    assert np.array_equal(chosen, np.arange(30))


def test_a_limit_below_the_number_of_classes() -> None:
    with pytest.raises(
        DataError, match=r"'validation_limit' must allow one sample .* got 2 for 3 classes \(set it to 3"
    ):
        limit_indices(np.arange(30) % 3, NAMES[:3], 2, "validation_limit", 0)


@pytest.mark.parametrize(
    ("counts", "total", "expected"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([47, 16, 37], 10, [5, 1, 4]),  # proportions 4.7, 1.6, 3.7: floors 4, 1, 3; the two largest remainders are .7
        ([96, 2, 2], 10, [8, 1, 1]),  # proportions 9.6, 0.2, 0.2: one each for the small ones first
        ([1, 1, 1], 3, [1, 1, 1]),
        ([5, 5], 3, [2, 1]),  # a tie goes to the lower class number
    ],
)
def test_apportion_worked_examples(counts: list[int], total: int, expected: list[int]) -> None:
    assert apportion(np.array(counts), total).tolist() == expected


@settings(deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=20), st.data())
def test_apportion_never_asks_for_more_than_there_is(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(len(counts), sum(counts)))
    wanted = apportion(np.array(counts), total)
    assert wanted.sum() == total
    assert (wanted >= 1).all()
    assert (wanted <= counts).all()


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.2, [1, 2, 2]), (0.25, [1, 3, 3]), (0.99, [2, 9, 11]), (0.001, [1, 1, 1])]
)
def test_share_is_the_nearest_whole_sample_and_leaves_one(fraction: float, expected: list[int]) -> None:
    assert share_of(np.array([3, 10, 12]), fraction).tolist() == expected


def test_draw_takes_any_sample_with_equal_chance() -> None:
    labels = np.array([0] * 4 + [1] * 4)
    times = np.zeros(8)
    for seed in range(400):
        times[draw(labels, np.array([1, 3]), np.random.default_rng(seed))[1]] += 1
    # Binomial, 400 draws of chance 1/4 and 3/4: standard deviation 8.7, so 5 of them to either side.
    assert np.abs(times[:4] - 100).max() < 44
    assert np.abs(times[4:] - 300).max() < 44
