"""The artifact: the exported, compressed ONNX file that would be deployed, and what it takes and gives.

An artifact takes the data as it is (images: uint8, batch first, in the data set's own layout) and gives class
probabilities; normalisation is inside. Whatever is claimed of a design, its accuracy, latency and size, is read off
this one file, run by the runtime that would serve it. Nothing here needs torch.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import ArtifactError, one_line, unknown_name
from nas.outcome import How, Quantity

if TYPE_CHECKING:
    import onnxruntime

VERSION = 1
INPUT_NAME = "images"
OUTPUT_NAME = "probabilities"
DTYPES = ("uint8", "float32")
LAYOUTS = ("NHWC", "NCHW")


@dataclass(frozen=True)
class Resize:
    """How images of other sizes are brought to the artifact's: Pillow's ``resize`` with the filter of that name."""

    height: int
    width: int
    filter: str = "bilinear"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Resize:
        """Reads what ``asdict`` gives.

        Raises:
            TypeError, ValueError: A field is missing, unknown, or not what it must be.
        """
        resize = cls(**data)
        whole_number("resize.height", resize.height)
        whole_number("resize.width", resize.width)
        if not isinstance(resize.filter, str):
            raise TypeError(f"resize.filter must be a text, but is {resize.filter!r:.40}")
        return resize


@dataclass(frozen=True)
class InputSpec:
    """What the artifact takes, batch dimension left out.

    Args:
        dtype: ``"uint8"`` for images, ``"float32"`` for arrays.
        shape: H×W×C for layout NHWC, C×H×W for NCHW.
        layout: ``"NHWC"`` or ``"NCHW"``; N, the batch, comes first and is free.
        resize: How images of other sizes are resized; None where the data is taken as it is.
    """

    dtype: str
    shape: tuple[int, int, int]
    layout: str = "NHWC"
    resize: Resize | None = None

    @property
    def channels_first(self) -> tuple[int, int, int]:
        """The shape as a network sees it: (C, H, W)."""
        a, b, c = self.shape
        return (c, a, b) if self.layout == "NHWC" else (a, b, c)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InputSpec:
        """Reads what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or not what it must be; the message names it.
        """
        for name, valid in (("dtype", DTYPES), ("layout", LAYOUTS)):
            if data[name] not in valid:
                raise ValueError(unknown_name(f"input.{name}", data[name], valid))
        shape = data["shape"]
        if not isinstance(shape, list | tuple) or len(shape) != 3:
            raise ValueError(f"input.shape must be three numbers, but is {shape!r:.40}")
        a, b, c = (whole_number("input.shape", size) for size in shape)
        resize = None if data["resize"] is None else Resize.from_json(data["resize"])
        return cls(data["dtype"], (a, b, c), data["layout"], resize)


@dataclass(frozen=True)
class Manifest:
    """What is needed to use an artifact: its input, its classes in the order of the output, how it was exported."""

    input: InputSpec
    class_names: tuple[str, ...]
    opset: int
    exporter: str

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "input": self.input.to_json(),
            "input_name": INPUT_NAME,
            "output_name": OUTPUT_NAME,
            "class_names": list(self.class_names),
            "opset": self.opset,
            "exporter": self.exporter,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """Reads what ``to_json`` wrote.

        Raises:
            ArtifactError: Another version, or a field is missing.
        """
        if data.get("version") != VERSION:
            raise ArtifactError(f"an artifact's manifest must have version {VERSION}, but got {data.get('version')!r}")
        try:
            return cls(
                InputSpec.from_json(data["input"]),
                texts("class_names", data["class_names"]),
                int(data["opset"]),
                str(data["exporter"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"an artifact's manifest is incomplete: {error!r}") from None


def compressed_size(artifact: bytes) -> int:
    """Bytes of a file once deflated, as a download or an app's package is: there zeros in the weights pay."""
    return len(zlib.compress(artifact, 9))


def sizes(artifact: bytes) -> list[Quantity]:
    """The size of a trial's file, as it is and deflated."""
    return [
        Quantity("size_bytes", len(artifact), "bytes", How.MEASURED),
        Quantity("compressed_size_bytes", compressed_size(artifact), "bytes", How.MEASURED),
    ]


def whole_number(name: str, value: object, most: int | None = None) -> int:
    """A value from JSON that must be a whole number from 1 on, and at most so much.

    Raises:
        ValueError: It is not; the message names it.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        range_ = "at least 1" if most is None else f"from 1 to {most}"
        raise ValueError(f"{name} must be a whole number {range_}, but got {value!r:.40}")
    return value


def texts(name: str, value: object) -> tuple[str, ...]:
    """A value from JSON that must be a list of texts.

    Raises:
        ValueError: It is not; the message names it.
    """
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} must be a list of texts, but got {value!r:.40}")
    return tuple(value)


def open_session(content: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU, as it would serve: so many threads, all graph optimisations.

    Args:
        content: The ONNX file.
        threads: Threads inside an operator; operators run one after the other.

    Raises:
        ArtifactError: The content is no ONNX model, or holds an operator that the runtime refuses.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise ArtifactError(f"ONNX Runtime cannot load the model: {one_line(error, 300)}") from error


def probabilities(session: onnxruntime.InferenceSession, images: np.ndarray, batch: int = 256) -> np.ndarray:
    """Class probabilities (N×classes, float32) of images given as the artifact takes them.

    Raises:
        ArtifactError: The runtime cannot run the model on them, such as where their shape or type is another.
    """
    name = session.get_inputs()[0].name
    try:
        parts = [session.run(None, {name: images[i : i + batch]})[0] for i in range(0, len(images), batch)]
    except MemoryError:  # the machine's fault, not the model's
        raise
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise ArtifactError(f"ONNX Runtime cannot run the model: {one_line(error, 300)}") from error
    return np.concatenate(parts)
