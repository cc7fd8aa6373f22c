"""Which file serves which runtime. Only the measuring process looks here: it may load torch."""

from __future__ import annotations

from nas.measure.runtimes.base import Runtime


def load_runtime(name: str) -> Runtime:
    """The runtime of that name (a key of ``nas.target.RUNTIMES``), its packages not loaded yet.

    Raises:
        KeyError: There is none.
    """
    if name == "onnxruntime":
        from nas.measure.runtimes.onnx_runtime import OnnxRuntime

        return OnnxRuntime()
    if name == "openvino":
        from nas.measure.runtimes.open_vino import OpenVino

        return OpenVino()
    if name == "torch":
        from nas.measure.runtimes.eager_torch import EagerTorch

        return EagerTorch()
    if name == "inductor":
        from nas.measure.runtimes.inductor_torch import Inductor

        return Inductor()
    raise KeyError(name)
