"""A data set as everything after it sees it: three splits of images and class numbers, and a digest of it all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from nas.artifact import InputSpec
from nas.design import canonical_json


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Args:
        images: N×H×W×C or N×C×H×W, as the data set's input says; uint8 or float32, the values of the file untouched.
        labels: N class numbers (int64) from 0 to the number of classes − 1.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory, split for a study.

    Args:
        train: What networks are trained, calibrated and normalised on.
        validation: What designs are selected by.
        test: What only the finished front is scored on.
        class_names: One name for each class number.
        input: What an artifact for this data takes.
        digest: SHA-256 of all arrays, class names, layout and splits; where the files lay has no part in it.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    input: InputSpec
    digest: str


def digest_of(splits: dict[str, Split], class_names: tuple[str, ...], input: InputSpec) -> str:
    """SHA-256, in hexadecimal, of a data set's content.

    A header in canonical JSON names the classes, the input and each array's type and shape, so that the bytes that
    follow can be cut in one way only.
    """
    arrays = [
        (f"{name}.{field}", getattr(split, field)) for name, split in splits.items() for field in ("images", "labels")
    ]
    header = {
        "class_names": list(class_names),
        "input": input.to_json(),
        "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in arrays],
    }
    digest = hashlib.sha256(canonical_json(header).encode())
    for _, array in arrays:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
