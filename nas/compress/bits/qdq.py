"""Post-training quantisation of an exported body: its canonical form, in which each layer has bits of its own.

The canonical form is what ONNX Runtime's static quantiser makes, a float graph in which DequantizeLinear stands before
each weight, and QuantizeLinear with DequantizeLinear at each activation (QDQ). Weights of any integer bits are int8
there, with zero point 0 and one scale for each output channel; those of 4 bits hold −7 to 7 and are marked by their
name. Layers that keep float activations have the DequantizeLinear before the weight alone. ``bits.pack`` turns
all this into the form that a file stores.

Activations are asymmetric, uint8, which ONNX Runtime's kernels on a CPU want and which spends no level on values that
do not occur. TensorRT wants them symmetric: int8, zero point 0, biases in floats (``nas.compress.forms``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from nas.compress.bits.body import LEFT_FLOAT, Bits, quiet, serialised, weighted
from nas.compress.bits.calibrate import ranges
from nas.compress.bits.fused import round_after_activation
from nas.compress.bits.grid import LARGEST, LEAST_PEAK, Grid, channel_axis, grid_of
from nas.compress.bits.pack import FOUR_BIT, with_small_integers
from nas.compress.bits.pooling import pooling_as_convolution
from nas.compress.refusal import refused
from nas.compress.stages import path_of_node
from nas.errors import UnsupportedError

# The quantiser lets the outputs of these share the grid of their input.
SHARING_GRID = (
    *("AveragePool", "Flatten", "Gather", "GatherElements", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "Split"),
    *("Squeeze", "TopK", "Transpose", "Unsqueeze"),
)
# What the quantiser adds to the name of a weight that it quantised, so does ``quantise_weights``.
QUANTISED = "_quantized"


@dataclass(frozen=True)
class Calibration:
    """What activations are calibrated on, and how.

    Args:
        images: N×C×H×W normalised float32 training images.
        method: How ranges are chosen, see ``nas.compress.bits.calibrate``.
        pixels: Scale and zero point of the input where it is uint8 images, so that they serve as they are.
        symmetric: Whether activations are to be int8 with zero point 0, and biases floats; for 8 bits only.
    """

    images: np.ndarray
    method: str = "minmax"
    pixels: tuple[float, int] | None = None
    symmetric: bool = False


def quantise_weights(body: bytes, bits: Mapping[str, Bits], reduce_range: bool = False) -> bytes:
    """Quantises the weights of the layers that have weights of 8 or 4 bits, and float activations or no integer form.

    Args:
        body: A float body whose nodes have names.
        bits: Those of each node, by its name.
        reduce_range: As for ``quantise_layers``; has no use here but that all weights of 8 bits are alike.

    Raises:
        UnsupportedError: Layers that share a weight have different bits.
    """
    model = onnx.load_from_string(body)
    graph = model.graph
    layers = weighted(graph)
    _check_shared(layers, bits)
    decoders: dict[str, onnx.NodeProto] = {}
    for name, (node, tensor) in layers.items():
        if bits[name].weights not in (8, 4) or _runs_in_integers(node, bits) or tensor.name in decoders:
            continue
        weights = numpy_helper.to_array(tensor)
        grid = grid_of(weights, channel_axis(node), bits[name].weights, reduce_range)
        stored = _stored_name(tensor.name, bits[name].weights)
        initializers = {
            stored: grid.integers(weights),
            f"{tensor.name}_scale": grid.scale,
            f"{tensor.name}_zero_point": np.zeros(grid.scale.shape, np.int8),
        }
        graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in initializers.items())
        decoders[tensor.name] = helper.make_node(
            "DequantizeLinear", list(initializers), [tensor.name], f"{tensor.name}_DequantizeLinear", axis=grid.axis
        )
    for position in reversed(range(len(graph.initializer))):
        if graph.initializer[position].name in decoders:
            del graph.initializer[position]
    for position, node in enumerate(decoders.values()):
        graph.node.insert(position, node)
    return serialised(model)


def quantise_layers(
    prepared: bytes, bits: Mapping[str, Bits], calibration: Calibration, reduce_range: bool = False
) -> bytes:
    """Quantises weights and activations of the layers that have integers for both.

    An activation between layers of 8 and of 16 bits gets 8, without which the former could not run in integers.

    Args:
        prepared: From ``nas.compress.bits.body.prepare``; its weights may have been quantised by ``quantise_weights``.
        bits: Those of each node, by its name; nodes that are not named stay as they are.
        calibration: Shows the range of activations.
        reduce_range: Use 7 bits for weights of 8, where the CPU's int8 products saturate (without VNNI).

    Raises:
        UnsupportedError: The images do not fit the network, layers that share a weight have different bits, or ONNX
            Runtime cannot quantise an operator.
    """
    model = onnx.load_from_string(prepared)
    _check_images(model.graph, calibration.images)
    chosen = {node.name: bits[node.name] for node in model.graph.node if _runs_in_integers(node, bits)}
    layers = {name: layer for name, layer in weighted(model.graph).items() if name in chosen}
    _check_shared(layers, bits)
    overrides: dict[str, list[dict[str, Any]]] = {}
    four_bit = []
    for name, (node, tensor) in layers.items():
        grid = grid_of(numpy_helper.to_array(tensor), channel_axis(node), chosen[name].weights, reduce_range)
        # On its grid already here, so that the ranges of activations are those of the quantised weights.
        values = grid.values(grid.integers(numpy_helper.to_array(tensor)))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        overrides[tensor.name] = _weight_override(grid)
        four_bit += [tensor.name] if chosen[name].weights == 4 else []
    if not calibration.symmetric:  # pooling as convolution is for ONNX Runtime's kernels
        windows = pooling_as_convolution(model.graph, [name for name in chosen if chosen[name].activations == 8])
        overrides |= {name: [_scale_override(value / LARGEST, QuantType.QInt8)] for name, value in windows.items()}
    if any(each.activations == 16 for each in chosen.values()):
        model = with_small_integers(model)
    overrides |= _activation_overrides(model, chosen, calibration)
    quantised = _quantise_static(model, sorted(chosen), calibration, overrides)
    if calibration.symmetric:
        round_after_activation(quantised.graph)
    for name in four_bit:
        _rename(quantised.graph, f"{name}{QUANTISED}", _stored_name(name, 4))
    return serialised(quantised)


def _runs_in_integers(node: onnx.NodeProto, bits: Mapping[str, Bits]) -> bool:
    """Whether a node is to be quantised with its activations.

    Not a transposed convolution in groups: its weights have scales for the channels of a group, the bias for all.
    """
    if node.op_type == "ConvTranspose" and any(part.name == "group" and part.i > 1 for part in node.attribute):
        return False
    return node.name in bits and bits[node.name].in_integers and node.op_type not in LEFT_FLOAT


def _stored_name(weight: str, bits: int) -> str:
    """The name of a weight's integers in the canonical form."""
    return f"{weight}{QUANTISED}{FOUR_BIT if bits == 4 else ''}"


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for tensor in graph.initializer:
        if tensor.name == old:
            tensor.name = new
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def _check_images(graph: onnx.GraphProto, images: np.ndarray) -> None:
    wanted = [dimension.dim_value for dimension in graph.input[0].type.tensor_type.shape.dim][1:]
    if list(images.shape[1:]) != wanted:
        given, takes = ("×".join(map(str, shape)) for shape in (images.shape[1:], wanted))
        raise UnsupportedError(
            f"calibration images are {given} (channels × height × width), but the network takes {takes}",
            "calibrate with images of the data that the network was trained on",
        )
    if len(images) == 0:
        raise UnsupportedError("there are no calibration images", "the training split must not be empty")


def _check_shared(layers: Mapping[str, tuple[onnx.NodeProto, onnx.TensorProto]], bits: Mapping[str, Bits]) -> None:
    """Makes sure that layers which share a weight want it in the same bits."""
    first: dict[str, str] = {}
    for name, (_, tensor) in layers.items():
        other = first.setdefault(tensor.name, name)
        if bits[other].weights != bits[name].weights:
            one, two = path_of_node(other), path_of_node(name)
            raise UnsupportedError(
                f"layers '{one}' and '{two}' share one weight, which cannot have both {bits[other].weights} and "
                f"{bits[name].weights} bits",
                "give both stages the same weight_bits",
            )


def _weight_override(grid: Grid) -> list[dict[str, Any]]:
    """A weight's own grid, in the quantiser's words."""
    channels = [_scale_override(scale, QuantType.QInt8) for scale in grid.scale]
    channels[0]["axis"] = grid.axis
    return channels


def _scale_override(scale: float, kind: QuantType, zero_point: int = 0) -> dict[str, Any]:
    dtype = np.uint8 if kind is QuantType.QUInt8 else np.int8
    return {"quant_type": kind, "scale": np.array(scale, np.float32), "zero_point": np.array(zero_point, dtype)}


def _activation_overrides(
    model: onnx.ModelProto, chosen: Mapping[str, Bits], calibration: Calibration
) -> dict[str, list[dict[str, Any]]]:
    """Range and type of each activation that a chosen node reads or makes, in the quantiser's words."""
    image = model.graph.input[0].name
    bits = _activation_bits(model.graph, chosen)
    overrides: dict[str, list[dict[str, Any]]] = {}
    if image in bits and calibration.pixels is not None:
        scale, zero_point = calibration.pixels
        overrides[image] = [_scale_override(scale, QuantType.QUInt8, zero_point)]
        del bits[image]
    found = ranges(model.SerializeToString(), list(bits), calibration.images, calibration.method)
    for name, (low, high) in found.items():
        if calibration.symmetric:
            peak = max(-low, high, LEAST_PEAK)
            overrides[name] = [_scale_override(peak / LARGEST, QuantType.QInt8)]
            continue
        kind = QuantType.QUInt16 if bits[name] == 16 else QuantType.QUInt8
        overrides[name] = [{"quant_type": kind, "rmin": np.array(low, np.float32), "rmax": np.array(high, np.float32)}]
    return overrides


def _activation_bits(graph: onnx.GraphProto, chosen: Mapping[str, Bits]) -> dict[str, int]:
    """Bits of each activation that a chosen node reads or makes: 8 where any of these nodes has 8.

    Activations that share a grid share the bits.
    """
    values = (*graph.input, *graph.value_info, *graph.output)
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    group: dict[str, str] = {}

    def root(name: str) -> str:
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    nodes = [node for node in graph.node if node.name in chosen]
    for node in (node for node in nodes if node.op_type in SHARING_GRID):
        for output in node.output:
            group[root(output)] = root(node.input[0])
    least: dict[str, int] = {}
    touched: dict[str, None] = {}
    for node in nodes:
        for name in (*node.input, *node.output):
            if name in floats:
                touched[name] = None
                least[root(name)] = min(least.get(root(name), 16), chosen[node.name].activations)
    return {name: least[root(name)] for name in touched}


class _OneBatch(CalibrationDataReader):  # type: ignore[misc]
    """For the quantiser, which insists on a calibration of its own although every range is given."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self.batches: Iterator[dict[str, np.ndarray]] = iter([{name: images}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def _quantise_static(
    model: onnx.ModelProto,
    nodes: Sequence[str],
    calibration: Calibration,
    overrides: Mapping[str, list[dict[str, Any]]],
) -> onnx.ModelProto:
    """ONNX Runtime's static quantiser on some nodes, with every grid or range given."""
    image = model.graph.input[0].name
    operators = {node.op_type for node in model.graph.node if node.name in nodes}
    # Unasked, the quantiser would put a Flatten of the input before the input's quantisation, and so turn pixels into
    # floats and back. Average pooling of pixels is faster in floats.
    first = {node.op_type for node in model.graph.node if image in node.input}
    options = {
        "TensorQuantOverrides": dict(overrides),
        "ForceQuantizeNoInputCheck": "AveragePool" not in first,
        "ActivationSymmetric": calibration.symmetric,
        "QuantizeBias": not calibration.symmetric,
    }
    with tempfile.TemporaryDirectory() as folder, quiet():
        source, target = str(Path(folder) / "float.onnx"), str(Path(folder) / "quantised.onnx")
        onnx.save(model, source)
        try:
            quantize_static(
                source,
                target,
                _OneBatch(image, calibration.images[:1]),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8 if calibration.symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=list(nodes),
                op_types_to_quantize=sorted(operators),
                extra_options=options,
            )
        except Exception as error:  # the quantiser raises whatever its passes raise
            raise refused("the network cannot be quantised", error, model.graph) from error
        return onnx.load(target)
