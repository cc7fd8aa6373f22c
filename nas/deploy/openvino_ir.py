"""OpenVINO's own form of a model, IR, made of the ONNX file: a graph (``.xml``) and its weights (``.bin``)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np

from nas.errors import UnsupportedError
from nas.measure.runtimes.batches import in_batches
from nas.measure.runtimes.open_vino import DEVICE, OpenVino, options, reason
from nas.target import Target

# Which kernels OpenVINO takes depends on the batch, and one may be wrong where the other is right: both are looked at.
BATCHES = (1, 32)


def write_ir(onnx: Path, xml: Path) -> str:
    """Converts an ONNX file, with all weights as they are; the batch stays free.

    Args:
        onnx: The ONNX file.
        xml: Where to write the graph; the weights are written beside it, as ``.bin``.

    Returns:
        Package and version that made it.

    Raises:
        UnsupportedError: OpenVINO is not installed, or has no operator for a part of the model.
    """
    runtime = _runtime()
    import openvino

    try:
        openvino.save_model(runtime.core.read_model(str(onnx)), str(xml), compress_to_fp16=False)
    except MemoryError:
        raise
    except Exception as error:  # OpenVINO raises RuntimeError, and whatever its bindings raise
        raise UnsupportedError(
            f"the network cannot be brought into OpenVINO's form: {reason(error)}", "leave out --also openvino"
        ) from error
    return f"openvino {metadata.version('openvino')}"


def outputs_of_ir(xml: Path, images: np.ndarray, threads: int = 1) -> list[np.ndarray]:
    """Class probabilities by OpenVINO on the CPU (N×classes), in float32, once for each of ``BATCHES``.

    Raises:
        UnsupportedError: OpenVINO is not installed, or cannot run the file.
    """
    runtime = _runtime()
    try:
        model = runtime.core.read_model(str(xml))
        compiled = runtime.core.compile_model(model, DEVICE, options(Target("openvino", "cpu", threads, 1)))
        request = compiled.create_infer_request()

        def run(part: np.ndarray) -> np.ndarray:
            return np.array(request.infer([np.ascontiguousarray(part)])[0])

        return [in_batches(run, images, batch) for batch in BATCHES]
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise UnsupportedError(f"OpenVINO cannot run {xml}: {reason(error)}") from error


def _runtime() -> OpenVino:
    runtime = OpenVino()
    if (missing := runtime.missing(Target("openvino", "cpu", 1, 1))) is not None:
        raise UnsupportedError(f"the form 'openvino' cannot be made: {missing.message}", missing.hint)
    return runtime
