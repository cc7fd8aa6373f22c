"""How an ONNX body is executed: trained tensors, constants, and the steps in their order, all looked up once."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from nas.compress.bits.grid import LARGEST, LARGEST_FOUR_BIT, LARGEST_REDUCED, broadcast
from nas.compress.bits.pack import FOUR_BIT
from nas.compress.bits.pooling import WEIGHT_SUFFIX
from nas.compress.bits.qdq import QUANTISED
from nas.compress.graph.node import HINT, Node, Run
from nas.compress.graph.operators import build
from nas.compress.graph.tensors import FloatTensor, GraphTensor, IntegerTensor, fake_quantise
from nas.errors import UnsupportedError

# Which inputs of which operators are trained, and whether each is a weight: the others are biases, scales, offsets.
TRAINED_INPUTS: Mapping[str, Mapping[int, bool]] = {
    "Conv": {1: True, 2: False},
    "ConvTranspose": {1: True, 2: False},
    "Gemm": {0: True, 1: True, 2: False},
    "MatMul": {0: True, 1: True},
    "BatchNormalization": {1: False, 2: False},
    "LayerNormalization": {1: False, 2: False},
}
# What hands on the values that it gets, so that what lay on a grid still does.
MOVES = ("Flatten", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
# The slot of the image, and that of an input that a node leaves out.
IMAGE, NOTHING = 0, 1

# Step, zero point, least and greatest integer.
Grid = tuple[float, int, int, int]


@dataclass(frozen=True)
class Step:
    """One node's work: a function of some slots into others; ``spent`` are slots that nothing needs afterwards."""

    run: Run
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    spent: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A body made ready to run.

    Args:
        slots: How many values there are.
        steps: What fills them, in order.
        logits: The slot of what goes into the final Softmax.
        tensors: Trained tensors by the name of their initializer.
        weights: Names of those that are weights.
        places: The slot of each trained tensor, by name.
        constants: What lies in slots from the start.
    """

    slots: int
    steps: tuple[Step, ...]
    logits: int
    tensors: Mapping[str, GraphTensor]
    weights: tuple[str, ...]
    places: Mapping[str, int]
    constants: Mapping[int, np.ndarray]


def plan(model: onnx.ModelProto, masters: Mapping[str, np.ndarray]) -> Plan:
    """Makes a body ready to run.

    Args:
        model: The body.
        masters: Float values to start from, by the name of the integer initializer that was made of them.

    Raises:
        UnsupportedError: An operator, or how it is used, is not known here; the message names the node.
        ValueError: A master names no integer initializer that is trained, or has another shape.
    """
    made = _Planner(model, masters).plan()
    integers = {name for name, tensor in made.tensors.items() if isinstance(tensor, IntegerTensor)}
    if unknown := sorted(masters.keys() - integers):
        raise ValueError(f"masters of no trained integers: {', '.join(unknown)}")
    return made


def bounds_of(name: str, values: np.ndarray) -> tuple[int, int]:
    """The least and greatest integer that an initializer of a quantised body may hold.

    Those of 4 bits are marked by their name. Of the others, signed ones are symmetric and use 7 or 8 bits; since their
    scale is such that each channel's largest weight lies at the end of the range, the values tell which.
    """
    if values.dtype != np.int8:
        limits = np.iinfo(values.dtype)
        return int(limits.min), int(limits.max)
    largest = int(np.abs(values.astype(np.int16)).max(initial=0))
    if largest > LARGEST:
        return -128, 127
    limit = LARGEST_FOUR_BIT if name.endswith(FOUR_BIT) else LARGEST_REDUCED if largest <= LARGEST_REDUCED else LARGEST
    return -limit, limit


class _Planner:
    """Walks the nodes once. Names of the graph stand for slots, constants or trained tensors."""

    def __init__(self, model: onnx.ModelProto, masters: Mapping[str, np.ndarray]) -> None:
        self.graph = graph = model.graph
        self.opsets = {declared.domain: declared.version for declared in model.opset_import}
        self.masters = masters
        self.producers = {output: node for node in graph.node for output in node.output}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.slots: dict[str, int] = {graph.input[0].name: IMAGE, "": NOTHING}
        self.count = 2
        self.steps: list[tuple[Run, tuple[int, ...], tuple[int, ...]]] = []
        self.tensors: dict[str, GraphTensor] = {}
        self.used_constants: dict[int, np.ndarray] = {}
        self.grids: dict[str, Grid] = {}
        self.roles = dict(self._roles())

    def plan(self) -> Plan:
        for name in self.roles:
            values = self.constants[name]
            if values.dtype.kind == "f":
                self._train(name, FloatTensor(values), name)
        last = self._last()
        for node in self.graph.node:
            if node is not last:
                self._add(node)
        places = {name: self.slots[name] for name in self.tensors}
        weights = tuple(name for name in self.tensors if self.roles[name])
        steps = tuple(self._with_spent(self._slot(last.input[0])))
        return Plan(self.count, steps, self._slot(last.input[0]), self.tensors, weights, places, self.used_constants)

    def _roles(self) -> Iterator[tuple[str, bool]]:
        """The initializers that are trained, and whether each is a weight."""
        for node in self.graph.node:
            positions = dict(TRAINED_INPUTS.get(node.op_type, {}))
            if node.op_type == "Add" and any(self._made_by(name) == "MatMul" for name in node.input):
                positions = {0: False, 1: False}  # the bias of a linear layer on more than two dimensions
            for position, is_weight in positions.items():
                name = self._initializer(node.input[position]) if position < len(node.input) else None
                # The window of an average that became a convolution is no weight.
                if name is not None and not name.removesuffix(QUANTISED).endswith(WEIGHT_SUFFIX):
                    yield name, is_weight

    def _initializer(self, name: str) -> str | None:
        """The initializer that a node's input hands on, as it is or off its grid; None where it is anything else."""
        node = self.producers.get(name)
        while node is not None and node.op_type in ("Identity", "Cast", "DequantizeLinear"):
            dequantised, name = node.op_type == "DequantizeLinear", node.input[0]
            node = self.producers.get(name)
            if dequantised:
                return name if name in self.constants else None
        return name if name in self.constants and self.constants[name].dtype.kind == "f" else None

    def _made_by(self, name: str) -> str:
        """The operator that computes a value, quantisation aside."""
        node = self.producers.get(name)
        while node is not None and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node = self.producers.get(node.input[0])
        return "" if node is None else node.op_type

    def _last(self) -> onnx.NodeProto:
        """The node that makes probabilities of logits."""
        last: onnx.NodeProto | None = self.producers.get(self.graph.output[0].name)
        if last is None or last.op_type != "Softmax":
            kind = "nothing" if last is None else last.op_type
            raise UnsupportedError(f"an exported network must end in Softmax to be trained, but ends in {kind}", HINT)
        return last

    def _slot(self, name: str) -> int:
        if name not in self.slots:
            self.slots[name] = self._new_slot()
            if name in self.constants:
                self.used_constants[self.slots[name]] = self.constants[name]
        return self.slots[name]

    def _new_slot(self) -> int:
        self.count += 1
        return self.count - 1

    def _train(self, name: str, tensor: GraphTensor, output: str) -> None:
        """Lets a trained tensor stand for an initializer's name and for the node's output that hands it on."""
        self.tensors[name] = tensor
        self.constants.pop(name)
        self.slots[output] = self._slot(name)

    def _add(self, node: onnx.NodeProto) -> None:
        if node.op_type == "QuantizeLinear":
            self._quantise(node)
        elif node.op_type == "DequantizeLinear":
            self._dequantise(node)
        elif all(name in self.constants or not name for name in node.input):
            self._fold(node)
        elif node.op_type == "Identity":
            self._same(node.output[0], node.input[0])
        else:
            self._compute(node, build(Node.of(node, self.constants)))

    def _compute(self, node: onnx.NodeProto, run: Run) -> None:
        inputs = tuple(self._slot(name) for name in node.input)
        self.steps.append((run, inputs, tuple(self._slot(name) for name in node.output)))
        if node.op_type in MOVES and node.input[0] in self.grids:
            self.grids.update(dict.fromkeys(node.output, self.grids[node.input[0]]))

    def _same(self, output: str, name: str) -> None:
        """Lets ``output`` stand for the value that ``name`` stands for."""
        self.slots[output] = self._slot(name)
        if name in self.grids:
            self.grids[output] = self.grids[name]

    def _fold(self, node: onnx.NodeProto) -> None:
        """Computes what does not depend on the image, nor on what is trained, once and for all."""
        held = [numpy_helper.from_array(self.constants[name], name) for name in dict.fromkeys(node.input) if name]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
        try:
            results = ReferenceEvaluator(helper.make_graph([node], "", [], outputs, held), self.opsets).run(None, {})
        except Exception as error:  # an operator's implementation raises whatever it raises
            raise Node.of(node, self.constants).unsupported() from error
        self.constants.update(zip(node.output, map(np.asarray, results), strict=True))

    def _grid(self, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray]:
        """Scale and zero point of a node that quantises or dequantises."""
        reader = Node.of(node, self.constants)
        scale, zero = reader.constant(1), reader.constant(2)
        if scale is None:
            raise reader.unsupported("it has no scale")
        return scale.astype(np.float32), np.zeros(scale.shape, np.uint8) if zero is None else zero

    def _quantise(self, node: onnx.NodeProto) -> None:
        """An activation is rounded to its grid here; the DequantizeLinear that follows then has nothing to do."""
        scale, zero = self._grid(node)
        if scale.size != 1:
            raise Node.of(node, self.constants).unsupported("activations with a scale for each channel are not known")
        limits = np.iinfo(zero.dtype)
        grid = (float(scale.item()), int(zero.item()), int(limits.min), int(limits.max))
        name, output = node.input[0], node.output[0]
        if self.grids.get(name) == grid:
            self._same(output, name)
            return
        step, zero_point, low, high = grid
        run = functools.partial(
            fake_quantise, scale=step, lowest=float(low - zero_point), highest=float(high - zero_point)
        )
        self.steps.append((run, (self._slot(name),), (self._slot(output),)))
        self.grids[output] = grid

    def _dequantise(self, node: onnx.NodeProto) -> None:
        name, output = node.input[0], node.output[0]
        scale, zero = self._grid(node)
        if name in self.constants:
            self._dequantise_constant(node, name, scale, zero)
        elif name in self.tensors:  # handed on a second time
            self.slots[output] = self.slots[name]
        elif name in self.grids and self.grids[name][:2] == (float(scale.item()), int(zero.item())):
            self._same(output, name)
        else:
            raise Node.of(node, self.constants).unsupported("what it dequantises was not quantised with the same scale")

    def _dequantise_constant(self, node: onnx.NodeProto, name: str, scale: np.ndarray, zero: np.ndarray) -> None:
        values = self.constants[name]
        if scale.size > 1:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1) % values.ndim
            scale, zero = broadcast(scale, axis, values.ndim), broadcast(zero, axis, values.ndim)
        if name not in self.roles:
            steps = values.astype(np.float32) - zero.astype(np.float32)
            self.constants[node.output[0]] = np.asarray(steps * scale, np.float32)
            return
        if np.any(zero != zero.reshape(-1)[0]):
            raise Node.of(node, self.constants).unsupported("its channels have different zero points")
        master = self.masters.get(name)
        if master is not None and master.shape != values.shape:
            raise ValueError(f"the master of '{name}' has the shape {master.shape}, the integers {values.shape}")
        tensor = IntegerTensor(values, scale, int(zero.reshape(-1)[0]), bounds_of(name, values), master)
        self._train(name, tensor, node.output[0])

    def _with_spent(self, logits: int) -> Iterator[Step]:
        """The steps, each with the slots that no later one reads."""
        kept = {logits, NOTHING}
        last_use: dict[int, int] = {}
        for position, (_, inputs, outputs) in enumerate(self.steps):
            last_use.update(dict.fromkeys((*inputs, *outputs), position))
        for position, (run, inputs, outputs) in enumerate(self.steps):
            used = sorted({*inputs, *outputs} - kept)
            yield Step(run, inputs, outputs, tuple(slot for slot in used if last_use[slot] == position))
