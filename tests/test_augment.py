"""Augmentation: against slow loops, image by image, and what its draws must have in common."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from nas.augment import augment
from nas.recipe_sections import Augmentation


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int, channels: int = 1, height: int = 6, width: int = 5) -> Tensor:
    """Images in which no two pixels are equal and none is 0, as a network gets them: channels last in memory."""
    pixels = 1.0 + torch.arange(count * channels * height * width, dtype=torch.float32)
    return pixels.view(count, channels, height, width).contiguous(memory_format=torch.channels_last)


def moved(image: Tensor, down: int, right: int) -> Tensor:
    """One C×H×W image moved, pixel by pixel; what moves in is 0."""
    result = torch.zeros_like(image)
    _, height, width = image.shape
    for row, column in itertools.product(range(height), range(width)):
        if 0 <= row - down < height and 0 <= column - right < width:
            result[:, row, column] = image[:, row - down, column - right]
    return result


@pytest.mark.parametrize(("limit", "channels"), [(1, 1), (2, 3), (7, 2)])
def test_shifts_move_whole_images_and_fill_with_zero(limit: int, channels: int) -> None:
    originals = images(8, channels)
    results = augment(originals, Augmentation(shift=limit), seeded())
    assert results.shape == originals.shape
    steps = range(-limit, limit + 1)
    for original, result in zip(originals, results, strict=True):
        assert any(torch.equal(result, moved(original, *offset)) for offset in itertools.product(steps, steps))


def test_every_offset_is_drawn_about_equally_often_and_each_image_has_its_own() -> None:
    count = 1800
    centre = torch.zeros(count, 1, 5, 5)
    centre[:, :, 2, 2] = 1
    results = augment(centre, Augmentation(shift=1), seeded())
    places = results.sum(0)[0]
    assert places.sum() == count
    assert (places[1:4, 1:4] > 0.75 * count / 9).all()
    assert (places[1:4, 1:4] < 1.25 * count / 9).all()


def test_flips_mirror_left_to_right_in_about_half_of_the_images() -> None:
    originals = images(400, 2)
    results = augment(originals, Augmentation(flip=True), seeded())
    mirrored = [torch.equal(r, o.flip(2)) for r, o in zip(results, originals, strict=True)]
    same = [torch.equal(r, o) for r, o in zip(results, originals, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 160 < sum(mirrored) < 240


@pytest.mark.parametrize(
    ("side", "height", "width", "patch"),
    [(0.5, 6, 5, (3, 2)), (0.3, 10, 20, (3, 6)), (0.01, 6, 5, (1, 1)), (0.99, 6, 5, (6, 5))],
)
def test_erasing_zeroes_one_patch_of_the_right_size_in_about_half(
    side: float, height: int, width: int, patch: tuple[int, int]
) -> None:
    originals = images(400, 2, height, width)
    results = augment(originals, Augmentation(erase=side), seeded())
    erased = results == 0
    assert torch.equal(results[~erased], originals[~erased])
    assert torch.equal(erased[:, 0], erased[:, 1])
    touched = erased[:, 0].flatten(1).any(1)
    assert 160 < int(touched.sum()) < 240
    for mask in erased[touched, 0]:
        assert (int(mask.any(1).sum()), int(mask.any(0).sum())) == patch
        assert int(mask.sum()) == patch[0] * patch[1]
    assert erased[touched].any(0).all(), "every pixel is erased in some image"


def test_with_all_off_the_images_come_back_and_nothing_is_drawn() -> None:
    originals, generator = images(3), seeded()
    state = generator.get_state()
    assert augment(originals, Augmentation(), generator) is originals
    assert torch.equal(generator.get_state(), state)


ALL = Augmentation(shift=2, flip=True, erase=0.4)


def test_the_generator_alone_decides() -> None:
    originals = images(20, 3)
    kept = originals.clone()
    torch.manual_seed(1)
    first = augment(originals, ALL, seeded(5))
    torch.manual_seed(2)
    assert torch.equal(augment(originals, ALL, seeded(5)), first)
    assert not torch.equal(augment(originals, ALL, seeded(6)), first)
    assert torch.equal(originals, kept), "the originals stay as they are"


def test_all_three_keep_shape_and_type_and_invent_no_value() -> None:
    originals = images(50, 3)
    results = augment(originals, ALL, seeded())
    assert (results.shape, results.dtype) == (originals.shape, originals.dtype)
    for original, result in zip(originals, results, strict=True):
        kept = result[result != 0]
        assert torch.isin(kept, original).all()
