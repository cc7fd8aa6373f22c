"""The artifact: the exported, compressed ONNX file that would be deployed, and what it takes and gives.

An artifact takes the data as it is (images: uint8, batch first, in the data set's own layout) and gives class
probabilities; normalisation is inside. Whatever is claimed of a design, its accuracy, latency and size, is read off
this one file, run by the runtime that would serve it. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import ArtifactError

if TYPE_CHECKING:
    import onnxruntime

VERSION = 1
INPUT_NAME = "images"
OUTPUT_NAME = "probabilities"


@dataclass(frozen=True)
class Resize:
    """How images of other sizes are brought to the artifact's: Pillow's ``resize`` with the filter of that name."""

    height: int
    width: int
    filter: str = "bilinear"


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
        height, width, channels = data["shape"]
        resize = Resize(**data["resize"]) if data["resize"] else None
        return cls(data["dtype"], (height, width, channels), data["layout"], resize)


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
                tuple(data["class_names"]),
                int(data["opset"]),
                str(data["exporter"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"an artifact's manifest is incomplete: {error!r}") from None


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
        raise ArtifactError(f"ONNX Runtime cannot load the model: {' '.join(str(error).split())[:300]}") from error


def probabilities(session: onnxruntime.InferenceSession, images: np.ndarray, batch: int = 256) -> np.ndarray:
    """Class probabilities (N×classes, float32) of images given as the artifact takes them."""
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: images[i : i + batch]})[0] for i in range(0, len(images), batch)]
    return np.concatenate(parts)
