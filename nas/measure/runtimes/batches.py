"""Any number of images through a model that was loaded for batches of one size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nas.errors import ArtifactError


def in_batches(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray, batch: int) -> np.ndarray:
    """The outputs for all images, by batches of exactly that size; the last one is filled up with images again.

    So what is scored is the very model that is timed, shapes and kernels included.

    Args:
        run: Gives the first output for ``batch`` images, batch first; it may be overwritten by the next call.
        images: N×…, at least one.
        batch: At least 1.

    Raises:
        ArtifactError: There are no images, or the output does not hold one row for each.
    """
    if len(images) == 0:
        raise ArtifactError("the model cannot be run on no images")
    parts = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        result = run(part if len(part) == batch else part[np.arange(batch) % len(part)])
        if result.shape[:1] != (batch,):
            raise ArtifactError(
                f"the model cannot be run: for {batch} images its first output has the shape {result.shape}"
            )
        parts.append(np.array(result[: len(part)]))
    return np.concatenate(parts)


def check_batch(images: np.ndarray, batch: int) -> None:
    """Refuses to time another number of images than the model was loaded for.

    Raises:
        ArtifactError: It is another.
    """
    if len(images) != batch:
        raise ArtifactError(f"the model was loaded for batches of {batch}, but got {len(images)} images")
