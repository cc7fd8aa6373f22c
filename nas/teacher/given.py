"""The teacher that a recipe names: loaded, checked against the data before anything is spent, and asked for logits."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from nas.artifact import InputSpec
from nas.data.dataset import Dataset
from nas.data.normalise import Normalisation, given_normalisation
from nas.design import sha256_of
from nas.errors import DataError, TeacherError
from nas.lease import working
from nas.outcome import Quantity
from nas.packages import version_of
from nas.recipe_sections import TeacherConfig
from nas.safety.programs import announce_program
from nas.scoring import score
from nas.store import sha256_bytes
from nas.teacher.networks import (
    Network,
    last_line,
    open_exported_program,
    open_onnx,
    open_torchscript,
    open_weights,
    read_file,
    sizes_text,
)
from nas.train import Numerics, seeded

# Raised by one when the code here changes the logits that a file gives.
VERSION = 1
CHECK_IMAGES = 16
# What runs code that its file holds.
PROGRAMS = ("torchscript", "exported program")
# By how much the classes' probabilities may miss a sum of 1, as those of a quantised softmax do.
PROBABILITY_TOLERANCE = 0.02


def _unwatched(share: float) -> None:
    """The progress of whoever does not watch."""


@dataclass(frozen=True)
class GivenTeacher:
    """A trained network from a file. ``load_teacher`` makes one.

    Args:
        config: The recipe's section: where the file lies and how it is read.
        content: The file.
        input: What the data's images are.
        classes: How many classes the data has.
        normalisation: What images are normalised by; None where the network takes them as they are.
    """

    config: TeacherConfig
    content: bytes = field(repr=False)
    input: InputSpec
    classes: int
    normalisation: Normalisation | None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.config.path.name

    @property
    def input_words(self) -> str:
        """What it is given, for whoever has to judge whether that is what it was trained with."""
        if self.normalisation is None:
            return "images as they are"
        source = "this study's networks get them" if self.config.mean is None else "the recipe says"
        return f"images normalised as {source}"

    @cached_property
    def sha256(self) -> str:
        """Digest of the file; of an ONNX file whose weights lie beside it, of both together."""
        return sha256_bytes(self.content)

    @cached_property
    def digest(self) -> str:
        """Digest of all that the logits depend on beside the images and the numeric policy."""
        reading: dict[str, Any] = {
            "version": VERSION,
            "content": self.sha256,
            "kind": self.config.kind,
            "family": self.config.family,
            "architecture": self.config.architecture,
            "mean": self.normalisation and list(self.normalisation.mean),
            "std": self.normalisation and list(self.normalisation.std),
        }
        if self.config.kind == "onnx":
            reading["onnxruntime"] = version_of("onnxruntime")
        return sha256_of(reading)

    def logits(
        self, images: np.ndarray, numerics: Numerics, progress: Callable[[float], None] = _unwatched
    ) -> np.ndarray:
        """Logits (N×classes, float32) of images in the data's own type and layout.

        Where the network gives probabilities (no output is negative and each row adds up to 1) these are their
        logarithms, which are its logits up to a constant for each image, so that the softmax of both at any
        temperature is the same.

        Raises:
            TeacherError: The network cannot be loaded, cannot run on the images, or gives something else than finite
                numbers for this many classes.
        """
        with _named(self.name), seeded(0, numerics.threads):
            network = _open(self.config, self.content, self.input, self.classes, numerics)
            return _as_logits(self._outputs(network, images, progress))

    def accuracy(
        self, images: np.ndarray, labels: np.ndarray, numerics: Numerics, progress: Callable[[float], None] = _unwatched
    ) -> Quantity:
        """Its accuracy, with an interval, on images in the data's own type and layout."""
        accuracy, _ = score(self.logits(images, numerics, progress), labels)
        return accuracy

    def _outputs(self, network: Network, images: np.ndarray, progress: Callable[[float], None]) -> np.ndarray:
        """What the network gives, batch by batch; the last batch is filled up with its last image."""
        parts = []
        for start in range(0, len(images), network.batch):
            batch = images[start : start + network.batch]
            filled = np.concatenate([batch, np.repeat(batch[-1:], network.batch - len(batch), axis=0)])
            with working():
                parts.append(_run(network, self._prepared(filled), self.classes)[: len(batch)])
            progress((start + len(batch)) / len(images))
        return np.concatenate(parts)

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        """Images as they are, or (x − mean) / std, channels first, float32, by the arithmetic of the study's own."""
        if self.normalisation is None:
            return images
        first = images.transpose(0, 3, 1, 2) if self.input.layout == "NHWC" else images
        mean = np.asarray(self.normalisation.mean, np.float32).reshape(1, -1, 1, 1)
        scale = 1 / np.asarray(self.normalisation.std, np.float32).reshape(1, -1, 1, 1)
        return np.ascontiguousarray((first.astype(np.float32) - mean) * scale)


def load_teacher(
    config: TeacherConfig, dataset: Dataset, normalisation: Normalisation, numerics: Numerics
) -> GivenTeacher:
    """Loads a teacher and runs it on a few training images, so that one that does not fit costs nothing.

    Args:
        config: The recipe's section.
        dataset: What it is to teach.
        normalisation: What the study's own networks get, for a teacher that neither normalises itself nor comes with
            a mean and std of its own.
        numerics: On what it runs.

    Raises:
        TeacherError: The file is missing or cannot be loaded, or the network does not fit the data; one line says why.
    """
    classes = len(dataset.class_names)
    with _named(config.path.name):
        content = read_file(config.path)
        if config.kind in PROGRAMS and zipfile.is_zipfile(io.BytesIO(content)):  # else torch opens it not at all
            announce_program(config.path)
        network = _open(config, content, dataset.input, classes, numerics)
        own = None if network.raw is not None else _own_normalisation(config, dataset.input) or normalisation
    teacher = GivenTeacher(config, content, dataset.input, classes, own)
    teacher.logits(dataset.train.images[:CHECK_IMAGES], numerics)
    return teacher


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Begins the messages of errors with the teacher's name."""
    try:
        yield
    except TeacherError as error:
        raise TeacherError(f"the teacher {name} {error.message}", error.hint) from error


def _open(config: TeacherConfig, content: bytes, spec: InputSpec, classes: int, numerics: Numerics) -> Network:
    """The file's network, whose declared input fits the data.

    Raises:
        TeacherError: It cannot be loaded, or takes other images.
    """
    if config.kind == "weights":
        network = open_weights(content, config, spec.channels_first, classes, numerics)
    elif config.kind == "onnx":
        network = open_onnx(content, numerics)
    elif config.kind == "torchscript":
        network = open_torchscript(content, numerics)
    else:
        network = open_exported_program(content, numerics)
    if network.raw is not None and network.raw != spec.dtype:
        raise TeacherError(f"takes {network.raw} images as they are, but the data is {spec.dtype}")
    if network.raw is not None and config.mean is not None:
        raise TeacherError("normalises images itself", "leave out 'mean' and 'std'")
    wanted, layout = (spec.channels_first, "NCHW") if network.raw is None else (spec.shape, spec.layout)
    shape = network.shape
    if shape is not None and not (
        len(shape) == 3 and all(size in (None, own) for size, own in zip(shape, wanted, strict=True))
    ):
        raise TeacherError(
            f"takes images of {sizes_text(shape)}, but the data's are {sizes_text(wanted)} ({'×'.join(layout[1:])})"
        )
    return network


def _run(network: Network, images: np.ndarray, classes: int) -> np.ndarray:
    """The network's outputs for one batch, checked: finite float32, images×classes."""
    try:
        outputs = network.run(images)
    except (TeacherError, MemoryError):
        raise
    except Exception as error:  # neither torch nor ONNX Runtime has a common base for its errors
        raise TeacherError(f"cannot run on images of {sizes_text(images.shape[1:])}: {last_line(error)}") from error
    if outputs.ndim != 2 or len(outputs) != len(images):
        raise TeacherError(
            f"gives {sizes_text(outputs.shape)} numbers for {len(images)} images, "
            f"but {len(images)}×{classes} logits or probabilities are needed",
            "export it for any number of images at a time" if outputs.ndim == 2 else "",
        )
    if outputs.shape[1] != classes:
        raise TeacherError(f"gives {outputs.shape[1]} classes, but the data has {classes}")
    if not np.isfinite(outputs).all():
        raise TeacherError("gives NaN or infinity", "check its weights, and 'mean' and 'std'")
    return outputs.astype(np.float32, copy=False)


def _own_normalisation(config: TeacherConfig, spec: InputSpec) -> Normalisation | None:
    """The section's ``mean`` and ``std`` in the units of the data; None where it names none."""
    if config.mean is None or config.std is None:
        return None
    try:
        return given_normalisation(config.mean, config.std, spec)
    except DataError as error:
        raise TeacherError(f"cannot be used: {error.message}", error.hint) from error


def _as_logits(outputs: np.ndarray) -> np.ndarray:
    """Logits as they are; of probabilities the logarithm, at least that of the smallest normal float32."""
    sums = outputs.sum(axis=1, dtype=np.float64)
    if outputs.min() < 0 or np.abs(sums - 1).max() > PROBABILITY_TOLERANCE:
        return outputs
    logarithms: np.ndarray = np.log(np.maximum(outputs, np.finfo(np.float32).tiny))
    return logarithms
