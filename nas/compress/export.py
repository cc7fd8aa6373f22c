"""Freezing and export: a trained network becomes one ONNX file with batch norm folded and normalisation inside.

The file is made in two parts. The *body* is the network on normalised N×C×H×W float32 input, exported by torch; it
is what quantisation works on. The *front end* is put before it at the end: it takes the data as it is, brings the
channels to the front and normalises. For images it is one ``DequantizeLinear`` (x − mean) / std, so that a quantised
body can use the uint8 pixels as its first activations, without ever turning them into floats.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from nas.artifact import INPUT_NAME, OUTPUT_NAME, InputSpec
from nas.compress.bits.pack import keep_floats_float, pack
from nas.compress.stages import path_of_node
from nas.data.normalise import Normalisation
from nas.errors import UnsupportedError, one_line
from nas.target import ONNX, SYMMETRIC

OPSET = 17
EXPORTER = "torch.onnx (TorchScript)"
BODY_INPUT = "normalised"
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "Cast")


class _WithProbabilities(nn.Module):
    """The network with the softmax that a deployment wants."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.model(images), 1)


def export_body(model: nn.Module, input_shape: tuple[int, int, int]) -> bytes:
    """Exports a network as the body: normalised N×C×H×W float32 in, class probabilities out, N free.

    Batch norm is folded into the convolutions and constants are folded.

    Raises:
        UnsupportedError: The exporter refuses an operator of the network.
    """
    whole = _WithProbabilities(model).cpu().eval()
    written: list[str] = []
    try:
        with _log_kept_in(written):
            return _exported(whole, input_shape)
    except Exception as error:  # the exporter has no common base for its errors
        raise _refused(error, "\n".join(written)) from error


@contextmanager
def _log_kept_in(lines: list[str]) -> Iterator[None]:
    """Keeps what the exporter logs off the terminal: its whole graph, many long lines, where it refuses something."""
    log = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *parts: lines.append("".join(str(part) for part in parts))
    try:
        yield
    finally:
        torch._C._jit_onnx_log = log


def _exported(whole: nn.Module, input_shape: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter is chosen on purpose: 10 to 100 times faster, and its pooling quantises.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            whole,
            (torch.zeros(1, *input_shape),),
            buffer,  # type: ignore[arg-type]  # the TorchScript exporter takes a file object
            dynamo=False,
            opset_version=OPSET,
            input_names=[BODY_INPUT],
            output_names=[OUTPUT_NAME],
            dynamic_axes={BODY_INPUT: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
        )
    return buffer.getvalue()


def _refused(error: Exception, written: str) -> UnsupportedError:
    """The error for a network that the exporter refuses; the layer is read off the graph that it wrote."""
    operator = re.search(r"'([\w]+::[\w]+)'", str(error))
    layer = ""
    if operator and (line := re.search(rf"= {re.escape(operator[1])}\(.*?scope: (\S+)", written)):
        layer = path_of_node("/".join(["", *(part.rpartition("::")[2] for part in line[1].split("/")[1:]), ""]))
    where = f" at layer '{layer}'" if layer else ""
    name = operator[1].partition("::")[2] if operator else "what it names"
    return UnsupportedError(
        f"the network cannot be exported{where}: {one_line(error)}",
        f"in its forward, write {name} with operations that ONNX has",
    )


def attach_front_end(body: bytes, spec: InputSpec, normalisation: Normalisation, form: str = ONNX) -> bytes:
    """Finishes an artifact: weights in the form in which they are stored, and what takes the data as it is in front.

    Where the body's first node quantises its input (a quantised body on images) the pixels go in as they are: that
    node and the normalisation are then the same step, see ``nas.compress.quantise``.

    Args:
        body: From ``export_body``, quantised or not.
        spec: What the artifact takes.
        normalisation: Mean and standard deviation of each channel.
        form: ``nas.target.SYMMETRIC`` for what TensorRT can run: it has no arithmetic on uint8, so the pixels become
            floats at once, before their axes are put in order.

    Raises:
        UnsupportedError: The weights have a form that the network's operators do not allow, see ``bits.pack``.
    """
    model = onnx.load_from_string(pack(body))
    graph = model.graph
    values, nodes = INPUT_NAME, list[onnx.NodeProto]()
    element_type = TensorProto.UINT8 if spec.dtype == "uint8" else TensorProto.FLOAT
    floats = spec.dtype != "uint8"
    if form == SYMMETRIC and not floats:
        values, floats = "pixels_float", True
        nodes.append(helper.make_node("Cast", [INPUT_NAME], [values], to=TensorProto.FLOAT))
    if spec.layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [values], ["images_nchw"], "channels_first", perm=[0, 3, 1, 2]))
        values = "images_nchw"
    front_end = _float_front_end if floats else _uint8_front_end
    nodes += front_end(graph, values, normalisation)
    for position, node in enumerate(nodes):
        graph.node.insert(position, node)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(INPUT_NAME, element_type, ["batch", *spec.shape]))
    if form == ONNX:  # TensorRT quantises nothing by itself
        keep_floats_float(graph)
    _shorten_names(graph)
    _strip_metadata(model)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def opset_of(artifact: bytes) -> int:
    """The version of ONNX's own operators that an artifact is in; 4-bit weights need a later one than the others."""
    declared = onnx.load_from_string(artifact).opset_import
    return next(int(entry.version) for entry in declared if entry.domain == "")


def input_quantisation(normalisation: Normalisation) -> tuple[float, int]:
    """Scale and zero point with which ``DequantizeLinear`` normalises uint8 images.

    (x − zero_point) · scale = (x − mean) / std, exactly, since the mean of images is an integer by construction.
    """
    return float(np.float32(1) / np.float32(normalisation.std[0])), int(normalisation.mean[0])


def _float_front_end(graph: onnx.GraphProto, values: str, normalisation: Normalisation) -> list[onnx.NodeProto]:
    """Normalisation of float values, channel by channel."""
    shape = (1, -1, 1, 1)
    mean = np.asarray(normalisation.mean, np.float32).reshape(shape)
    scale = (1 / np.asarray(normalisation.std, np.float32)).reshape(shape)
    graph.initializer.append(numpy_helper.from_array(mean, "normalise_mean"))
    graph.initializer.append(numpy_helper.from_array(scale, "normalise_scale"))
    return [
        helper.make_node("Sub", [values, "normalise_mean"], ["centred"], "subtract_mean"),
        helper.make_node("Mul", ["centred", "normalise_scale"], [BODY_INPUT], "divide_by_deviation"),
    ]


def _uint8_front_end(graph: onnx.GraphProto, pixels: str, normalisation: Normalisation) -> list[onnx.NodeProto]:
    """Normalisation of uint8 pixels; takes the place of the body's own input quantisation where it has one.

    Where a person's own normalisation is none that DequantizeLinear can do, the pixels become floats first.
    """
    if not normalisation.is_one_dequantisation:
        cast = helper.make_node("Cast", [pixels], ["pixels_float"], to=TensorProto.FLOAT)
        return [cast, *_float_front_end(graph, "pixels_float", normalisation)]
    consumers = [node for node in graph.node if BODY_INPUT in node.input]
    if consumers and all(node.op_type == "QuantizeLinear" for node in consumers):
        for node in consumers:
            for user in graph.node:
                for position, name in enumerate(user.input):
                    if name == node.output[0]:
                        user.input[position] = pixels
            graph.node.remove(node)
        return []
    scale, zero_point = input_quantisation(normalisation)
    graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), "pixel_scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(zero_point, np.uint8), "pixel_zero_point"))
    return [helper.make_node("DequantizeLinear", [pixels, "pixel_scale", "pixel_zero_point"], [BODY_INPUT])]


def _shorten_names(graph: onnx.GraphProto) -> None:
    """Numbers the tensors, and leaves nodes that only convert without a name; layers keep or get one.

    A tensor's name is the path of its layer, and the quantiser makes it longer and repeats it: more than half of the
    file of a small quantised network.
    """
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    constants = {tensor.name for tensor in graph.initializer} | {""}
    numbers: dict[str, str] = {}

    def short(name: str) -> str:
        return name if name in kept else numbers.setdefault(name, f"t{len(numbers)}")

    for node in graph.node:
        decodes = constants.issuperset(node.input)
        constants |= set(node.output) if decodes else set()
        node.name = "" if decodes or node.op_type in CONVERSIONS else node.name or node.output[0]
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = short(tensor.name)


def _strip_metadata(model: onnx.ModelProto) -> None:
    """Drops what a deployment has no use for: source files, docs, intermediate shapes, unused sets of operators."""
    model.producer_name, model.producer_version, model.doc_string = "nas", "", ""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    # The quantiser declares every set that its ONNX Runtime knows, which another runtime may refuse.
    used = {node.domain for node in model.graph.node}
    for declared in [declared for declared in model.opset_import if declared.domain not in used]:
        model.opset_import.remove(declared)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
