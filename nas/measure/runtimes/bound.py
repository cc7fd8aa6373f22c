"""A session of ONNX Runtime whose input and output stay bound to memory on a device, for batches of one size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import ArtifactError, UnsupportedError, one_line
from nas.measure.runtimes.base import HostTimed
from nas.measure.runtimes.batches import check_batch, in_batches

if TYPE_CHECKING:
    import onnxruntime

# The name that a free batch gets where a model gives it none.
_BATCH = "batch"


@dataclass(frozen=True)
class OnnxFile:
    """What must be known of an ONNX file before it is loaded.

    Args:
        content: The file.
        batch_name: The name of its input's first dimension where that is free; empty where it is not.
        quantised: Whether it quantises activations.
    """

    content: bytes
    batch_name: str
    quantised: bool

    @classmethod
    def read(cls, content: bytes) -> OnnxFile:
        """Reads a file.

        Raises:
            ArtifactError: It is no ONNX file, or has not one input.
            UnsupportedError: The package ``onnx``, a dependency of this one, is missing, as on a device.
        """
        try:
            import onnx
        except ImportError:
            raise UnsupportedError(
                "a GPU's models are read by the package onnx, which is missing", "pip install onnx"
            ) from None

        try:
            model = onnx.load_from_string(content)
        except Exception as error:  # protobuf's errors have no common base of their own
            raise ArtifactError(f"ONNX Runtime cannot load the model: {one_line(error, 300)}") from error
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in constants]
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs)
            raise ArtifactError(f"the model must have one input, but has {names or 'none'}")
        quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        dimensions = inputs[0].type.tensor_type.shape.dim
        if not dimensions or dimensions[0].dim_value > 0:
            return cls(content, "", quantised)
        if not dimensions[0].dim_param:
            dimensions[0].dim_param = _BATCH
            content = bytes(model.SerializeToString(deterministic=True))
        return cls(content, dimensions[0].dim_param, quantised)


@dataclass(frozen=True)
class Bound:
    """A session, and the memory on the device that it reads its input from and writes its first output to."""

    session: onnxruntime.InferenceSession
    images: onnxruntime.OrtValue
    outputs: onnxruntime.OrtValue
    binding: onnxruntime.IOBinding


class BoundSession(HostTimed):
    """A model that copies its images to a device, runs there, and copies its first output back.

    Args:
        session: Loaded for one size of batch.
        device: The name by which ONNX Runtime knows the device's memory: ``cuda`` or ``cpu``.
        batch: That size.
        recorded: Whether the session records its first run and replays it (a CUDA graph).

    Raises:
        ArtifactError: A size of the input or of the output is not known before it runs.
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: str, batch: int, recorded: bool = False) -> None:
        self.batch = batch
        self.recorded = recorded
        source, result = session.get_inputs()[0], session.get_outputs()[0]
        self.shape, self.dtype = _known_shape(source), _dtype(source)
        self._bound: Bound | None = _bind(session, device, self.shape, _known_shape(result))

    @property
    def threads(self) -> int | None:
        return None

    def run(self, images: np.ndarray) -> np.ndarray:
        return in_batches(lambda part: self._prepared(part)(), images, self.batch)

    def call(self, images: np.ndarray) -> Callable[[], object]:
        check_batch(images, self.batch)
        self.run(images)  # refuses what does not fit; where runs are recorded, it is here
        return self._prepared(images)

    def close(self) -> None:
        self._bound = None

    def _prepared(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Copies these images in, runs, copies the output out; each step has ended when the next begins."""
        bound = self._bound
        assert bound is not None, "used after it was closed"
        # ONNX Runtime itself would take a smaller array of the same kind, and leave the rest as it was.
        if images.shape != self.shape or images.dtype != self.dtype:
            takes, got = _words(self.shape, self.dtype), _words(images.shape, images.dtype)
            raise ArtifactError(f"the model cannot be run: it takes {takes}, but got {got}")
        session, source, result, binding = bound.session, bound.images, bound.outputs, bound.binding
        images = np.ascontiguousarray(images)

        def run() -> np.ndarray:
            try:
                source.update_inplace(images)
                session.run_with_iobinding(binding)
                return np.asarray(result.numpy())
            except MemoryError:  # the machine's fault, not the model's
                raise
            except Exception as error:  # onnxruntime's exceptions have no common base of their own
                raise ArtifactError(f"the model cannot be run: {one_line(error, 300)}") from error

        return run


def _bind(
    session: onnxruntime.InferenceSession, device: str, shape: tuple[int, ...], result_shape: tuple[int, ...]
) -> Bound:
    from onnxruntime import OrtValue

    source, result = session.get_inputs()[0], session.get_outputs()[0]
    images = OrtValue.ortvalue_from_shape_and_type(list(shape), _dtype(source).type, device, 0)
    outputs = OrtValue.ortvalue_from_shape_and_type(list(result_shape), _dtype(result).type, device, 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input(source.name, images)
    binding.bind_ortvalue_output(result.name, outputs)
    return Bound(session, images, outputs, binding)


def _known_shape(value: onnxruntime.NodeArg) -> tuple[int, ...]:
    shape = tuple(value.shape)
    if not all(isinstance(size, int) for size in shape):
        named = "×".join(str(size) for size in shape)
        raise ArtifactError(
            f"all sizes but the batch must be known before the model runs, but '{value.name}' is {named}",
            "export the model with fixed sizes",
        )
    return shape


def _dtype(value: onnxruntime.NodeArg) -> np.dtype[Any]:
    """The numpy type of ``tensor(uint8)`` or ``tensor(float)``."""
    name = value.type.removeprefix("tensor(").removesuffix(")")
    dtype: np.dtype[Any] = np.dtype({"float": "float32", "double": "float64"}.get(name, name))
    return dtype


def _words(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"{'×'.join(map(str, shape))} {dtype}"
