"""The model that a person uses today: found, and scored on the study's data where that fits its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nas.artifact import InputSpec
from nas.data.dataset import Dataset, Split
from nas.data.normalise import Normalisation
from nas.deploy.deployment import DEPLOYMENT_FILE, Deployment, load_deployment
from nas.errors import ArtifactError, NasError
from nas.outcome import Quantity
from nas.scoring import score
from nas.serving import Outputs
from nas.target import Target

SUFFIXES = (".onnx", ".pt2")
AT_ONCE = 2048  # images that are converted at a time, so that a large data set is never there as floats


@dataclass(frozen=True)
class PresentModel:
    """A model file that is no trial's.

    Args:
        path: The file.
        deployment: Where it lies in a deployment's folder, that; it says how its images are taken, and its classes.
    """

    path: Path
    deployment: Deployment | None = None

    @property
    def name(self) -> str:
        """What it is called beside a trial: the file's name, or the folder's of a deployment."""
        if self.deployment is not None:
            return self.deployment.folder.resolve().name
        return self.path.name


@dataclass(frozen=True)
class Scored:
    """Accuracies by name (``accuracy``, ``test_accuracy``, …), or why there are none."""

    scores: Mapping[str, Quantity] = field(default_factory=dict)
    why_not: str = ""


@dataclass(frozen=True)
class Present:
    """What was measured of a present model.

    Args:
        name: What it is called.
        target: What it was timed on: what serves the pick.
        latency: Taken now, here.
        size_bytes: Of its file.
        scored: Its accuracy on the study's data.
        here: The processor and the fingerprint of this machine and the target's runtime.
        there: Those of the study's latency of the pick; the fingerprint is None where the study holds none.
        pick_latency: The pick's file timed now, beside it; None where that was not possible.
        why_not_timed: Why not, where it was not.
        normalised_outside: Whether its images are normalised before they reach the file, which its latency leaves out.
    """

    name: str
    target: Target
    latency: Quantity
    size_bytes: int
    scored: Scored
    here: tuple[str, str]
    there: tuple[str, str | None]
    pick_latency: Quantity | None = None
    why_not_timed: str = ""
    normalised_outside: bool = False

    @property
    def same_machine(self) -> bool:
        """Whether the study's latencies may stand beside the one taken now."""
        return self.here[1] == self.there[1]


def find_present(path: Path) -> PresentModel:
    """The model file that ``--baseline`` names: itself, or that of a deployment's folder.

    Raises:
        ArtifactError: There is none; or a deployment's was changed after it was deployed.
    """
    if path.is_dir():
        if not (path / DEPLOYMENT_FILE).is_file():
            raise ArtifactError(
                f"--baseline {path} is a folder without {DEPLOYMENT_FILE}",
                "name a model file (.onnx, .pt2), or a folder that 'nas pick --output' wrote",
            )
        deployment = load_deployment(path)
        return PresentModel(deployment.model_path, deployment)
    if not path.is_file():
        raise ArtifactError(
            f"--baseline: there is no model file {path}", "name an .onnx file, or a deployment's folder"
        )
    if path.suffix not in SUFFIXES:
        kinds = " or ".join(f"a {suffix} file" for suffix in SUFFIXES)
        raise ArtifactError(f"--baseline must be {kinds} or a deployment's folder, but got {path}", "export it to ONNX")
    return PresentModel(path)


def score_present(
    model: PresentModel,
    target: Target,
    taken: np.ndarray,
    dataset: Dataset,
    normalisation: Normalisation | None,
    outputs: Outputs,
) -> Scored:
    """A present model's accuracy on validation and test data, as the target's runtime computes it.

    Its outputs must be one number for each of the data's classes, in their order; the largest is the answer, whether
    they are logits or probabilities.

    Args:
        model: The model.
        target: What runs it.
        taken: A batch as the model takes it: its type and shape say whether the data fits.
        dataset: The study's data.
        normalisation: What its images are normalised by before they reach it; None where it takes them as they are.
        outputs: Runs a file.
    """
    classes = dataset.class_names
    if model.deployment is not None and model.deployment.class_names != classes:
        return Scored(why_not=f"its classes are not the data's ({len(classes)} of these, in their order)")
    as_taken = _way_in(taken, dataset.input, normalisation)
    if isinstance(as_taken, str):
        return Scored(why_not=as_taken)
    content = model.path.read_bytes()
    scores: dict[str, Quantity] = {}
    for prefix, split in (("", dataset.validation), ("test_", dataset.test)):
        try:
            found = _outputs(content, target, split, as_taken, outputs)
        except NasError as error:
            return Scored(why_not=f"it cannot be run on the data: {error.message}")
        if found.shape != (len(split), len(classes)):
            shape = "×".join(str(size) for size in found.shape)
            return Scored(why_not=f"it gives {shape} numbers for {len(split)} images of {len(classes)} classes")
        if not np.isfinite(found).all():
            return Scored(why_not="it gives numbers that are not finite on the data")
        scores |= {quantity.name: quantity for quantity in score(found, split.labels, prefix)}
    return Scored(scores)


@dataclass(frozen=True)
class _Way:
    """How images of the data become what the model takes."""

    input: InputSpec
    channels_first: bool
    normalisation: Normalisation | None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        is_first = self.input.layout == "NCHW"
        if self.normalisation is not None:
            shape = (1, -1, 1, 1) if is_first else (1, 1, 1, -1)
            mean, std = (
                np.array(values, np.float32).reshape(shape)
                for values in (self.normalisation.mean, self.normalisation.std)
            )
            images = (images.astype(np.float32) - mean) / std
        if self.channels_first != is_first:
            images = images.transpose((0, 3, 1, 2) if self.channels_first else (0, 2, 3, 1))
        return np.ascontiguousarray(images)


def _way_in(taken: np.ndarray, input: InputSpec, normalisation: Normalisation | None) -> _Way | str:
    """How the data gets into the model, or why it does not fit."""
    shape = tuple(taken.shape[1:])
    channels, height, width = input.channels_first
    layouts = {(height, width, channels): False, (channels, height, width): True}
    wants = f"it takes {taken.dtype} of {'×'.join(map(str, shape))}"
    data = f"the data is {input.dtype} of {'×'.join(map(str, input.shape))}"
    if shape not in layouts:
        return f"{wants}, but {data}"
    as_is = str(taken.dtype) == input.dtype
    if normalisation is not None:
        if taken.dtype != np.float32:
            return f"{wants}, so nothing can be normalised for it: leave --baseline-mean and --baseline-std out"
        return _Way(input, layouts[shape], normalisation)
    if not as_is:
        return f"{wants}, but {data}: say by --baseline-mean and --baseline-std how it was normalised"
    return _Way(input, input.layout == "NCHW" if shape == input.shape else layouts[shape], None)


def _outputs(content: bytes, target: Target, split: Split, way: _Way, outputs: Outputs) -> np.ndarray:
    """The outputs for all images, in parts of whole batches: a file may fix the batch that it takes."""
    step = max(1, AT_ONCE // target.batch) * target.batch
    parts = []
    for start in range(0, len(split), step):
        images = split.images[start : start + step]
        count = len(images)
        filled = images[np.arange(-(-count // target.batch) * target.batch) % count]
        parts.append(outputs(content, target, way(filled))[:count])
    return np.concatenate(parts)
