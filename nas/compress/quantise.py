"""Quantisation: weights, and where asked activations, as 8-bit integers in the ONNX file.

Static post-training quantisation by ONNX Runtime in its QDQ form: weights int8, symmetric, one scale for each output
channel; activations uint8, one scale for each tensor, from the range that calibration on training data shows
(Jacob et al., CVPR 2018). The form is a request: what the runtime makes of it is read off its optimised graph.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from nas.compress.export import BODY_INPUT
from nas.compress.technique import CALIBRATION_IMAGES, Account, GraphTechnique, Tools
from nas.design import Design
from nas.errors import UnsupportedError
from nas.outcome import Realisation

# Softmax gives the probabilities, whose small values 8 bits would erase.
LEFT_FLOAT = ("Softmax",)
WEIGHTED = ("Conv", "Gemm", "MatMul")


class _OneBatch(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: np.ndarray) -> None:
        self.batches: Iterator[dict[str, np.ndarray]] = iter([{BODY_INPUT: images}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def quantise_body(body: bytes, calibration: np.ndarray, pixels: tuple[float, int] | None, reduce_range: bool) -> bytes:
    """Quantises weights and activations of an exported body to 8 bits.

    Args:
        body: From ``nas.compress.export.export_body``.
        calibration: N×C×H×W normalised float32 training images.
        pixels: Scale and zero point of the input where it is uint8 images, so that they serve as they are.
        reduce_range: Use 7 bits for the weights, where the CPU's int8 products saturate (without VNNI).

    Raises:
        UnsupportedError: ONNX Runtime cannot quantise an operator.
    """
    options: dict[str, object] = {}
    if pixels is not None:
        scale, zero_point = pixels
        options["TensorQuantOverrides"] = {
            BODY_INPUT: [
                {
                    "quant_type": QuantType.QUInt8,
                    "scale": np.array(scale, np.float32),
                    "zero_point": np.array(zero_point, np.uint8),
                }
            ]
        }
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared, quantised = Path(folder) / "prepared.onnx", Path(folder) / "quantised.onnx"
        try:
            quant_pre_process(onnx.load_from_string(body), str(prepared), skip_symbolic_shape=True)
            nodes = onnx.load(str(prepared)).graph.node
            operators = {node.op_type for node in nodes} - set(LEFT_FLOAT)
            # Unasked, the quantiser would put a Flatten of the input before the input's quantisation, and so turn
            # pixels into floats and back. Average pooling of pixels is faster in floats.
            first = {node.op_type for node in nodes if BODY_INPUT in node.input}
            options["ForceQuantizeNoInputCheck"] = "AveragePool" not in first
            quantize_static(
                str(prepared),
                str(quantised),
                _OneBatch(calibration),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=sorted(operators),
                extra_options=options,
            )
        except Exception as error:  # the quantiser raises whatever its passes raise
            message = " ".join(str(error).split())[:200]
            raise UnsupportedError(f"the network cannot be quantised: {message}", "set weight_bits to 32") from error
        return quantised.read_bytes()


def quantise_weights(body: bytes) -> bytes:
    """Stores the weights of convolutions and linear layers as int8, one scale a channel; the arithmetic stays float32.

    The file is about a quarter of the size; the runtime turns the weights back into floats when it loads them.
    """
    model = onnx.load_from_string(body)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    decoders = []
    for node in [node for node in graph.node if node.op_type in WEIGHTED]:
        tensor = tensors.get(node.input[1])
        if tensor is None or len(tensor.dims) < 2:
            continue
        del tensors[tensor.name]  # a shared weight is stored once
        axis = 0 if node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute) else 1
        weights = numpy_helper.to_array(tensor)
        others = tuple(i for i in range(weights.ndim) if i != axis)
        scale = np.maximum(np.abs(weights).max(others), 1e-12).astype(np.float32) / 127
        shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
        integers = np.clip(np.round(weights / scale.reshape(shape)), -127, 127).astype(np.int8)
        name = tensor.name
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(integers, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale.reshape(shape), f"{name}_scale"))
        # Cast and Mul rather than DequantizeLinear, which ONNX Runtime keeps for its integer kernels and so decodes
        # anew in every run; these two it folds when it loads the file.
        decoders += [
            helper.make_node("Cast", [f"{name}_int8"], [f"{name}_float"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [name]),
        ]
    for position, decoder in enumerate(decoders):
        graph.node.insert(position, decoder)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def runs_in_int8(artifact: bytes) -> tuple[Realisation, dict[str, int]]:
    """Whether ONNX Runtime really computes an artifact in 8 bits, read off the graph that it optimised.

    Returns:
        ``REALISED`` where every convolution and linear layer became an integer kernel, ``SIMULATED`` where one stays
        float; and how often each kind of operator stands in the optimised graph.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    operators = Counter(node.op_type for node in graph.node)
    still_float = sum(operators[name] for name in ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"))
    return (Realisation.SIMULATED if still_float else Realisation.REALISED), dict(sorted(operators.items()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the quantiser's advice, which is followed here, off the terminal."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


@dataclass(frozen=True)
class QuantiseConfig:
    """Bits of weights and activations."""

    weight_bits: int
    activation_bits: int


class Quantise(GraphTechnique[QuantiseConfig]):
    """Fewer bits for weights and activations."""

    name = "quantise"
    choices = ("weight_bits", "activation_bits", "calibration", "quantisation_aware")
    version = 2
    packages = ("onnxruntime",)

    def config(self, design: Design) -> QuantiseConfig | None:
        config = QuantiseConfig(int(design.step("weight_bits")), int(design.step("activation_bits")))
        return None if config == QuantiseConfig(32, 32) else config

    def looked_at(self, tools: Tools) -> Mapping[str, Any]:
        return {"images": CALIBRATION_IMAGES, "reduce_range": tools.reduce_range}

    def apply(self, body: bytes, config: QuantiseConfig, tools: Tools) -> tuple[bytes, dict[str, Any]]:
        if config.activation_bits == 32:
            return quantise_weights(body), {}
        return quantise_body(body, tools.calibration, tools.pixels, tools.reduce_range), {}

    def account(self, config: QuantiseConfig, detail: Mapping[str, Any], artifact: bytes) -> Account:
        if config.activation_bits == 32:
            note = f"weights are stored in {config.weight_bits} bits, which saves size; the arithmetic is float32"
            return Account({"weight_bits": Realisation.SIMULATED}, (note,))
        label, operators = runs_in_int8(artifact)
        ran = ", ".join(f"{count} {name}" for name, count in operators.items())
        return Account({"weight_bits": label, "activation_bits": label}, (f"operators that ONNX Runtime runs: {ran}",))
