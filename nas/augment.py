"""Random changes of training images, on whole batches of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.recipe_sections import Augmentation


def augment(images: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Shifts, mirrors and erases, each image by its own draw.

    Args:
        images: N×C×H×W, normalised, so that 0 is the training data's mean: the filling for what moves in or is erased.
        options: What to do; with all of it off the images come back as they are.
        generator: Where the draws come from, on the CPU.
    """
    if options.shift:
        images = _shift(images, options.shift, generator)
    if options.flip:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)
    if options.erase:
        images = _erase(images, options.erase, generator)
    return images


def _shift(images: Tensor, limit: int, generator: torch.Generator) -> Tensor:
    """Moves each image by up to ``limit`` pixels in both directions (pad, then crop)."""
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (limit, limit, limit, limit))
    offsets = torch.randint(0, 2 * limit + 1, (2, count), generator=generator).to(images.device)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = offsets[1][:, None] + torch.arange(width, device=images.device)
    each = torch.arange(count, device=images.device)[:, None, None]
    # Indexing between dimensions 0 and 2 puts the channels last; the permutation undoes it without a copy.
    return padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _erase(images: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """Sets a patch of ``side`` times height and width to 0, somewhere in half of the images."""
    count, _, height, width = images.shape
    tall, wide = max(1, round(side * height)), max(1, round(side * width))
    top = torch.randint(0, height - tall + 1, (count, 1), generator=generator)
    left = torch.randint(0, width - wide + 1, (count, 1), generator=generator)
    chosen = torch.rand(count, 1, generator=generator) < 0.5
    row, column = torch.arange(height)[None], torch.arange(width)[None]
    in_rows = (row >= top) & (row < top + tall) & chosen
    in_columns = (column >= left) & (column < left + wide)
    patch = (in_rows[:, :, None] & in_columns[:, None, :])[:, None].to(images.device)
    return images.masked_fill(patch, 0.0)
