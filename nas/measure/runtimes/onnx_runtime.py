"""ONNX Runtime on the CPU; what it does on GPUs is in ``onnx_runtime_gpu``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.artifact import open_session
from nas.errors import ArtifactError, one_line
from nas.measure.runtimes.base import HostTimed, Missing, Session, not_installed
from nas.measure.runtimes.identity import identity_onnx
from nas.target import Target

if TYPE_CHECKING:
    import onnxruntime


class OnnxRuntimeSession(HostTimed):
    """A session of ONNX Runtime on the CPU: with one thread it runs in the caller's."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise ArtifactError(f"the model must have one input, but has {', '.join(item.name for item in inputs)}")
        self.session = session
        self.input_name = inputs[0].name

    @property
    def threads(self) -> int | None:
        return int(self.session.get_session_options().intra_op_num_threads)

    def run(self, images: np.ndarray) -> np.ndarray:
        if len(images) == 0:
            raise ArtifactError("the model cannot be run on no images")
        try:
            outputs = self.session.run(None, {self.input_name: images})
        except MemoryError:  # the machine's fault, not the model's
            raise
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ArtifactError(f"the model cannot be run: {one_line(error, 300)}") from error
        return np.asarray(outputs[0])

    def call(self, images: np.ndarray) -> Callable[[], object]:
        self.run(images)  # refuses what does not fit
        session, feeds = self.session, {self.input_name: images}
        return lambda: session.run(None, feeds)


class OnnxRuntime:
    """ONNX Runtime's own kernels on the CPU."""

    def missing(self, target: Target) -> Missing | None:
        return not_installed(target)

    def load(self, content: bytes, target: Target) -> Session:
        return OnnxRuntimeSession(open_session(content, target.threads or 1))

    def environment(self, target: Target) -> dict[str, Any]:
        import onnxruntime  # which tells its version under whatever name it was installed

        return {"onnxruntime": str(onnxruntime.__version__), "provider": "CPUExecutionProvider"}

    def identity(self, images: np.ndarray) -> bytes:
        return identity_onnx(images)
