"""Classifies image files, or arrays in ``.npy`` files, with a deployment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.artifact import InputSpec, open_session
from nas.data.images import read_image
from nas.deploy.deployment import Deployment
from nas.deploy.model import checked_model, is_onnx
from nas.deploy.running import Runner
from nas.errors import DataError
from nas.safety.arrays import read_npy
from nas.safety.files import require_plain
from nas.serving import Outputs
from nas.target import usable_cores

TOP = 5
AT_ONCE = 64  # files read before they are classified, so that many files need little memory


@dataclass(frozen=True)
class Prediction:
    """What one image or array was taken for.

    Args:
        path: The file.
        index: Which one of the file's arrays; None where it holds one only.
        label: The most probable class.
        probability: Its probability.
        top: The most probable classes with their probabilities, at most ``TOP``, falling.
    """

    path: Path
    index: int | None
    label: str
    probability: float
    top: tuple[tuple[str, float], ...]


def predict(deployment: Deployment, paths: Sequence[Path], outputs: Outputs | None = None) -> list[Prediction]:
    """Classifies files by the runtime that the deployment names, in the order given.

    Image files are read as the training images were. ``.npy`` files hold one array as the model takes it (H×W×C, or
    C×H×W), or a batch of them (N first), of which each is classified; with one channel its axis may be absent.

    As many threads are used as the deployment states, or as there are cores where those are fewer.

    Args:
        deployment: With what.
        paths: The files.
        outputs: Runs what does not run in this process; a measuring process that ends with the call where None.

    Raises:
        DataError: A file is missing, cannot be read, or does not hold what the model takes.
        ArtifactError: The model was changed, is not what the deployment describes, or cannot be run.
        UnsupportedError: The runtime or its device is missing here.
    """
    if outputs is None:
        with Runner() as runner:
            return predict(deployment, paths, runner)
    content = deployment.read_model()
    threads = min(deployment.serving.threads or 1, usable_cores())
    session = open_session(content, threads) if is_onnx(deployment) else None
    run = checked_model(deployment, content, session, outputs)
    predictions: list[Prediction] = []
    for start in range(0, len(paths), AT_ONCE):
        read = [item for path in paths[start : start + AT_ONCE] for item in _inputs(path, deployment.input)]
        rows = run(np.stack([array for _, _, array in read]))
        predictions += [
            _prediction(path, index, row, deployment.class_names)
            for (path, index, _), row in zip(read, rows, strict=True)
        ]
    return predictions


def _prediction(path: Path, index: int | None, row: np.ndarray, class_names: Sequence[str]) -> Prediction:
    order = np.argsort(-row, kind="stable")[:TOP]
    top = tuple((class_names[i], float(row[i])) for i in order)
    return Prediction(path, index, *top[0], top)


def _inputs(path: Path, input: InputSpec) -> Iterator[tuple[Path, int | None, np.ndarray]]:
    """What a file holds, each as the model takes it without a batch axis."""
    if path.suffix.lower() != ".npy":
        yield path, None, read_image(path, input)
        return
    arrays = read_arrays(path, input)
    if arrays.ndim == len(input.shape):
        yield path, None, arrays
    else:
        yield from ((path, index, array) for index, array in enumerate(arrays))


def read_arrays(path: Path, input: InputSpec) -> np.ndarray:
    """One array, or a batch of them, from a ``.npy`` file, as the model takes it; see ``fitted``.

    Raises:
        DataError: The file is missing, is no ``.npy`` file of numbers, or its shape, type or values do not fit.
    """
    return fitted(_load(path), input, str(path))


def fitted(array: np.ndarray, input: InputSpec, name: str) -> np.ndarray:
    """One array, or a batch of them, as the model takes it.

    Where the model takes one channel, arrays H×W and N×H×W are given that axis. This is never ambiguous: H×W×1 and
    N×H×W agree only where all are 1, 1×H×W and N×H×W only where N is 1, and then the values are the same.

    Args:
        array: Of any shape and type.
        input: What the model takes.
        name: Where it is from, for what is said.

    Returns:
        Of shape ``input.shape``, or N followed by it.

    Raises:
        DataError: Its shape, type or values do not fit.
    """
    channels, height, width = input.channels_first
    if channels == 1 and array.ndim in (2, 3) and array.shape[-2:] == (height, width) and array.shape != input.shape:
        array = array.reshape(*array.shape[:-2], *input.shape)
    if array.shape[-3:] != input.shape or array.ndim not in (3, 4) or not array.size:
        shape = "×".join(str(size) for size in input.shape)
        got = "×".join(str(size) for size in array.shape) or "a single number"
        raise DataError(f"{name} must hold an array {shape} or a batch N×{shape} ({input.layout}), but holds {got}")
    kinds = "u" if input.dtype == "uint8" else "f"
    if array.dtype.kind not in kinds or (input.dtype == "uint8" and array.dtype != np.uint8):
        raise DataError(
            f"{name} must hold {input.dtype}, but holds {array.dtype}", f"convert it: array.astype(numpy.{input.dtype})"
        )
    if input.dtype == "uint8":
        return array
    with np.errstate(over="ignore"):  # what overflows is refused below
        array = array.astype(input.dtype, copy=False)
    if not np.isfinite(array).all():
        raise DataError(f"{name} holds values that are NaN, infinite or too large for {input.dtype}", "replace them")
    return array


def _load(path: Path) -> np.ndarray:
    try:
        require_plain(path, DataError)
        with path.open("rb") as stream:
            return read_npy(stream, path.stat().st_size, path)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as .npy: {error}", "write it with numpy.save, numbers only") from error
