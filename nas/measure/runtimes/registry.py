"""Which file serves which runtime. Only the measuring process looks here: it may load torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nas.measure.runtimes.base import Missing, Runtime, Session
from nas.target import Target


class ByDevice:
    """A runtime that is served by one file for each device; all take the same form of a model.

    Args:
        runtimes: By device.
    """

    def __init__(self, runtimes: Mapping[str, Runtime]) -> None:
        self.runtimes = runtimes

    def missing(self, target: Target) -> Missing | None:
        return self.runtimes[target.device].missing(target)

    def load(self, content: bytes, target: Target) -> Session:
        return self.runtimes[target.device].load(content, target)

    def environment(self, target: Target) -> dict[str, str]:
        return self.runtimes[target.device].environment(target)

    def identity(self, images: np.ndarray) -> bytes:
        return next(iter(self.runtimes.values())).identity(images)


def load_runtime(name: str) -> Runtime:
    """The runtime of that name (a key of ``nas.target.RUNTIMES``), its packages not loaded yet.

    Raises:
        KeyError: There is none.
    """
    if name == "onnxruntime":
        from nas.measure.runtimes.onnx_runtime import OnnxRuntime
        from nas.measure.runtimes.onnx_runtime_gpu import OnnxRuntimeCuda

        return ByDevice({"cpu": OnnxRuntime(), "cuda": OnnxRuntimeCuda()})
    if name == "openvino":
        from nas.measure.runtimes.open_vino import OpenVino

        return OpenVino()
    if name == "tensorrt":
        from nas.measure.runtimes.onnx_runtime_gpu import TensorRt

        return TensorRt()
    if name == "torch":
        from nas.measure.runtimes.eager_torch import EagerTorch

        return EagerTorch()
    if name == "inductor":
        from nas.measure.runtimes.inductor_torch import Inductor

        return Inductor()
    raise KeyError(name)
