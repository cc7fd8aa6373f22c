"""An exported ONNX body as a torch module, so that it can be trained further on the very grid that its file stores.

The body may be float, or quantised in the QDQ form: integers with a DequantizeLinear behind them, activations that pass
a QuantizeLinear and a DequantizeLinear. Scales and zero points stay those of the file; so what training sees is what
the file computes, up to the order of sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from nas.compress.graph.plan import IMAGE, plan
from nas.compress.graph.tensors import GraphTensor
from nas.errors import unknown_name

# Operators whose third input is a bias.
BIASED = ("Conv", "ConvTranspose", "Gemm")


class GraphNetwork(nn.Module):
    """Executes an ONNX body: normalised N×C×H×W float32 images in, N×classes logits out (what the final Softmax gets).

    Weights, biases, scales and offsets of layers are parameters; other constants are not trained. A weight that the
    body stores as integers is a float master behind fake quantisation to its grid; an activation that passes a
    QuantizeLinear and a DequantizeLinear is rounded to its grid, the gradient goes straight through inside the range.

    Args:
        body: From ``nas.compress.export.export_body``, float or in the QDQ form.
        masters: Float values to start from in place of those that integers stand for, by the integers' initializer.

    Raises:
        UnsupportedError: An operator, or how it is used, is not known here; the message names the node.
        ValueError: A master names no integer initializer that is trained, or has another shape.
    """

    def __init__(self, body: bytes, masters: Mapping[str, np.ndarray] | None = None) -> None:
        super().__init__()
        model = onnx.load_from_string(body)
        _untie_biases(model.graph)
        made = plan(model, masters or {})
        self._model = bytes(model.SerializeToString(deterministic=True))
        self._slots, self._steps, self._logits = made.slots, made.steps, made.logits
        self._names = tuple(made.tensors)
        self._weights = made.weights
        self._places = tuple(made.places[name] for name in self._names)
        self.tensors = nn.ModuleList(made.tensors.values())
        self._float_places: list[tuple[int, str]] = []
        self._whole_numbers: list[tuple[int, Tensor]] = []
        for slot, array in made.constants.items():
            if array.dtype.kind == "f":
                self._float_places.append((slot, f"constant{slot}"))
                values = torch.from_numpy(np.array(array, np.float32))
                self.register_buffer(f"constant{slot}", values, persistent=False)
            else:  # shapes and indices, which stay on the CPU
                self._whole_numbers.append((slot, torch.from_numpy(np.array(array))))

    @property
    def weights(self) -> dict[str, nn.Module]:
        """The modules that give the weights of convolutions and linear layers, by the name of their initializer."""
        return {name: self.tensors[self._names.index(name)] for name in self._weights}

    def forward(self, images: Tensor) -> Tensor:
        values: list[Any] = [None] * self._slots
        values[IMAGE] = images
        for slot, tensor in zip(self._places, self.tensors, strict=True):
            values[slot] = tensor()
        for slot, name in self._float_places:
            values[slot] = self._buffers[name]
        for slot, whole in self._whole_numbers:
            values[slot] = whole
        for step in self._steps:
            result = step.run(*[values[slot] for slot in step.inputs])
            if len(step.outputs) == 1:
                values[step.outputs[0]] = result
            else:
                for slot, part in zip(step.outputs, result, strict=True):
                    values[slot] = part
            for slot in step.spent:
                values[slot] = None
        logits: Tensor = values[self._logits]
        return logits

    def replace(self, name: str, source: nn.Module) -> None:
        """Lets another module give a weight, such as the entries of a codebook.

        Args:
            name: The weight's initializer.
            source: Called without arguments, gives a tensor of the weight's shape. Where the file stores the weight
                as integers it has to be a ``GraphTensor``, which says which.

        Raises:
            ValueError: There is no such weight, or the shape is another.
        """
        if name not in self._weights:
            raise ValueError(unknown_name("weight", name, self._weights))
        position = self._names.index(name)
        with torch.no_grad():
            before, after = self.tensors[position]().shape, source().shape
        if before != after:
            raise ValueError(f"weight '{name}' has the shape {tuple(before)}, but its source gives {tuple(after)}")
        self.tensors[position] = source

    def body(self) -> bytes:
        """The ONNX body with what was trained written back; a weight that was replaced as the floats that it gives."""
        model = onnx.load_from_string(self._model)
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for name, source in zip(self._names, self.tensors, strict=True):
            held = tensors[name]
            dtype = onnx.helper.tensor_dtype_to_np_dtype(held.data_type)
            held.CopyFrom(numpy_helper.from_array(_stored(name, source, dtype), name))
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _stored(name: str, source: nn.Module, dtype: np.dtype[Any]) -> np.ndarray:
    """What the file holds for a trained tensor, of the type that it has there."""
    if isinstance(source, GraphTensor):
        values = source.stored()
    elif dtype.kind == "f":
        with torch.no_grad():
            values = source().detach().cpu().contiguous().float().numpy().astype(dtype)
    else:
        raise ValueError(f"weight '{name}' is stored as {dtype}, so its source must be a GraphTensor")
    if values.dtype != dtype:
        raise ValueError(f"weight '{name}' is stored as {dtype}, but its source gives {values.dtype}")
    return np.ascontiguousarray(values)


def _untie_biases(graph: onnx.GraphProto) -> None:
    """Gives each layer a bias of its own, in place.

    The exporter stores equal vectors once, such as the zeros of two new biases, and hands them out by Identity nodes,
    which a simplified graph no longer has. Trained, they would differ. Weights that are equal are meant to be, and
    stay one.
    """
    held = {tensor.name: tensor for tensor in graph.initializer}
    handed_on = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    taken = {*held, *(name for node in graph.node for name in node.output)}
    used: set[str] = set()
    for node in graph.node:
        if node.op_type not in BIASED or len(node.input) < 3:
            continue
        name = node.input[2]
        while name in handed_on:
            name = handed_on[name]
        if name not in held:
            continue
        node.input[2] = name
        if name in used:
            node.input[2] = next(new for n in itertools.count(2) if (new := f"{name}_{n}") not in taken)
            taken.add(node.input[2])
            copied = graph.initializer.add()
            copied.CopyFrom(held[name])
            copied.name = node.input[2]
        used.add(name)
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in [node for node in graph.node if node.op_type == "Identity" and node.output[0] not in read]:
        graph.node.remove(node)
