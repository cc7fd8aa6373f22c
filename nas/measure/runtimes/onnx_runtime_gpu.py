"""ONNX Runtime on NVIDIA GPUs: its own CUDA kernels, and the engines that TensorRT builds.

A call is timed from host to host: images into memory on the card that stays bound, the model, its output back. Where
all of a model runs on the card its launches are recorded once, as a CUDA graph, and replayed.

ONNX Runtime goes on elsewhere, without a word, where a provider does not start or does not take a node. So a provider
must show that it starts, and a model of which anything that computes is not the provider's is refused. Arithmetic in
float32 may use TF32 on cards that have it: these libraries' own default.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.errors import ArtifactError, one_line
from nas.measure.runtimes.base import Missing, Session, not_installed
from nas.measure.runtimes.bound import BoundSession, OnnxFile
from nas.measure.runtimes.identity import identity_onnx
from nas.measure.runtimes.nvidia import UNKNOWN, Card, first_card
from nas.target import Target

if TYPE_CHECKING:
    import onnxruntime

# The operators that take a network's time, by any of the names under which a model may hold them.
COMPUTES = (
    *("Conv", "ConvInteger", "ConvTranspose", "QLinearConv", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"),
    *("LSTM", "GRU", "RNN", "Attention", "Einsum"),
)
# An engine takes seconds to minutes to build, so it is kept for later processes, so long after its last use.
ENGINES_KEPT_SECONDS = 30 * 24 * 3600


class _NotOpened(Exception):
    """A session could not be opened in one way; there may be another."""


class OnnxRuntimeCuda:
    """ONNX Runtime's CUDA kernels, on the ONNX file as it is.

    Args:
        card: Tells of the card.
    """

    # The provider's name in ONNX Runtime, of those that take the nodes which it does not, and of its device's memory.
    provider = "CUDAExecutionProvider"
    companions: tuple[str, ...] = ()
    device = "cuda"
    # What makes it record CUDA graphs.
    graph_options: Mapping[str, str] = {"enable_cuda_graph": "1"}
    libraries = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    # Passes of ONNX Runtime's own that would spoil a model for the provider.
    without_passes: tuple[str, ...] = ()

    def __init__(self, card: Callable[[], Card] = first_card) -> None:
        self._read_card = card

    @cached_property
    def card(self) -> Card:
        """The card that models run on."""
        return self._read_card()

    def missing(self, target: Target) -> Missing | None:
        if (nothing := not_installed(target)) is not None:
            return nothing
        import onnxruntime

        version, available = onnxruntime.__version__, onnxruntime.get_available_providers()
        if self.provider not in available:
            return Missing(
                f"target '{target.name}': ONNX Runtime {version} as it is installed has no {self.provider}, "
                f"only {', '.join(available)}",
                f"pip uninstall onnxruntime, then {target.kind.install[target.device]}: they share their files",
            )
        if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
            return Missing(
                f"ONNX Runtime {version} does not tell which nodes run on the GPU",
                "pip install --upgrade onnxruntime-gpu",
            )
        if not self._why_not_started:
            return None
        if not self.card.known:
            return Missing(
                f"nvidia-smi finds no NVIDIA GPU, and {self.provider} does not start: {self._why_not_started}",
                "measure on a machine with a card and its driver",
            )
        return Missing(
            f"{self.provider} does not start on {self.card.name}, driver {self.card.driver}: {self._why_not_started}",
            f"install the libraries that it needs: {self.libraries}",
        )

    @cached_property
    def _why_not_started(self) -> str:
        """Why a model that computes nothing does not run; empty where it does.

        What a provider needs beside itself, a driver and libraries of the right version, shows in no other way.
        """
        images = np.zeros((1, 1), np.float32)
        try:
            session = self._session(OnnxFile.read(self.identity(images)), 1, {"device_id": "0"})
        except _NotOpened as error:
            return str(error)
        try:
            return "" if np.array_equal(session.run(None, {"images": images})[0], images) else "its results are wrong"
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            return one_line(error, 300)

    def load(self, content: bytes, target: Target) -> Session:
        file = OnnxFile.read(content)
        options = self.options(file, target)
        try:
            return self._loaded(file, target, {**options, **self.graph_options}, recorded=True)
        except _NotOpened:  # it does not run on the card whole, or waits for it halfway
            pass
        try:
            return self._loaded(file, target, options, recorded=False)
        except _NotOpened as error:
            raise ArtifactError(f"ONNX Runtime cannot load the model: {error}") from error

    def options(self, file: OnnxFile, target: Target) -> dict[str, str]:
        """The provider's options for a model, but for those of CUDA graphs."""
        return {"device_id": "0"}

    def environment(self, target: Target) -> dict[str, str]:
        import onnxruntime

        return {
            "onnxruntime": str(onnxruntime.__version__),
            "provider": self.provider,
            "device": self.card.name,
            "driver": self.card.driver,
        }

    def identity(self, images: np.ndarray) -> bytes:
        return identity_onnx(images)

    def _loaded(self, file: OnnxFile, target: Target, options: Mapping[str, str], recorded: bool) -> BoundSession:
        session = self._session(file, target.batch, options)
        self._check_nodes(session)
        bound = BoundSession(session, self.device, target.batch, recorded)
        if recorded:
            try:
                bound.run(np.zeros(bound.shape, bound.dtype))
            except ArtifactError as error:
                raise _NotOpened(error.message) from error
        return bound

    def _session(self, file: OnnxFile, batch: int, options: Mapping[str, str]) -> onnxruntime.InferenceSession:
        import onnxruntime

        _load_libraries()
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if file.batch_name:
            settings.add_free_dimension_override_by_name(file.batch_name, batch)
        providers = [(self.provider, dict(options)), *((name, {}) for name in self.companions)]
        try:
            session = onnxruntime.InferenceSession(
                file.content,
                settings,
                providers=providers,
                disabled_optimizers=list(self.without_passes) or None,
                enable_fallback=0,
            )
        except MemoryError:  # the machine's fault, not the model's
            raise
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise _NotOpened(one_line(error, 300)) from error
        if session.get_providers()[:1] != [self.provider]:
            raise _NotOpened(f"ONNX Runtime would go on with {', '.join(session.get_providers())}")
        return session

    def _check_nodes(self, session: onnxruntime.InferenceSession) -> None:
        """Makes sure that whatever computes is the provider's.

        Raises:
            ArtifactError: Something is not; the message names the operators.
        """
        elsewhere: Counter[str] = Counter()
        for part in session.get_provider_graph_assignment_info():
            if part.ep_name != self.provider:
                elsewhere.update(
                    f"{node.op_type} by {part.ep_name}" for node in part.get_nodes() if node.op_type in COMPUTES
                )
        if elsewhere:
            which = ", ".join(f"{count} {name}" for name, count in sorted(elsewhere.items()))
            raise ArtifactError(f"{self.provider} does not take all of the model: ONNX Runtime would run {which}")


class TensorRt(OnnxRuntimeCuda):
    """TensorRT's engines by way of ONNX Runtime, on the model's symmetric form.

    Args:
        card: Tells of the card.
        folder: Where engines are kept; by default in the user's cache.
    """

    provider = "TensorrtExecutionProvider"
    companions = (OnnxRuntimeCuda.provider,)
    graph_options: Mapping[str, str] = {"trt_cuda_graph_enable": "1"}
    libraries = "pip install 'onnxruntime-gpu[cuda,cudnn]' tensorrt"
    # It makes int32 biases of floats, which TensorRT does not take, before providers are asked.
    without_passes = ("WeightBiasQuantization",)

    def __init__(self, card: Callable[[], Card] = first_card, folder: Path | None = None) -> None:
        super().__init__(card)
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.folder = folder or cache / "nas" / "tensorrt"

    def options(self, file: OnnxFile, target: Target) -> dict[str, str]:
        """Precision, and where engines lie.

        ONNX Runtime knows an engine by the names and shapes of its graph alone, whatever the weights. So each model
        has a folder of its own: else one network would be measured with the weights of another.
        """
        _remove_old(self.folder)
        own = hashlib.sha256(f"{target.name}\n".encode() + file.content).hexdigest()[:32]
        engines = self.folder / own
        engines.mkdir(parents=True, exist_ok=True)
        os.utime(engines)
        return super().options(file, target) | {
            "trt_fp16_enable": "1" if target.precision == "fp16" else "0",
            "trt_int8_enable": "1" if file.quantised else "0",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(engines),
        }

    def environment(self, target: Target) -> dict[str, str]:
        try:
            version = metadata.version("tensorrt")
        except metadata.PackageNotFoundError:  # it came with the system, of which pip does not know
            version = UNKNOWN
        return super().environment(target) | {"tensorrt": version}


@cache
def _load_libraries() -> None:
    """Finds CUDA's libraries where pip put them, which the dynamic linker does not."""
    import onnxruntime

    onnxruntime.preload_dlls()


def _remove_old(folder: Path) -> None:
    """Removes the engines that were not used for long."""
    if not folder.is_dir():
        return
    for engines in folder.iterdir():
        with contextlib.suppress(OSError):  # another process was faster
            if time.time() - engines.stat().st_mtime > ENGINES_KEPT_SECONDS:
                shutil.rmtree(engines)
