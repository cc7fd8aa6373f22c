"""What the tensors of an ONNX graph take: the bytes of each, and the most that live at once.

By liveness over the file's own order of nodes, which is the order that runtimes keep to: a tensor lives from the node
that gives it to the last that reads it; what the caller gives, throughout. Parameters, and what is computed from them
alone, are no activations. Views (Reshape, Flatten) take nothing of their own. Nor do conversions that every runtime
fuses into their neighbours: what a DequantizeLinear gives is as large as what it is given, and what nothing but a
QuantizeLinear reads as large as what that gives. No node is taken to work in place; a runtime that does needs less.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto

Shape = tuple[int, ...]

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
_FOUR_BITS = frozenset({TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1})


@dataclass(frozen=True)
class GraphMemory:
    """Bytes of a graph's tensors.

    Args:
        peak_bytes: The most that activations take at once.
        sizes: Bytes of each tensor by name, parameters too; a view's are those of what it views.
        moved: Bytes that each node reads and writes, by the name of its first output; 0 for views and what is fused.
        unknown: Activations whose shape or type is unknown, which count as nothing.
    """

    peak_bytes: int
    sizes: Mapping[str, int]
    moved: Mapping[str, int]
    unknown: tuple[str, ...]


def graph_memory(
    graph: onnx.GraphProto,
    shapes: Mapping[str, Shape | None],
    types: Mapping[str, int],
    constants: Collection[str],
) -> GraphMemory:
    """Memory of a graph.

    Args:
        graph: Its nodes, in order.
        shapes: Of each tensor, as far as they are known.
        types: Element type of each tensor (``TensorProto.FLOAT``), as far as they are known.
        constants: Tensors that are parameters or follow from parameters alone.
    """
    holders = _holders(graph, constants)
    stored = {holders.get(name, name) for node in graph.node for name in (*node.input, *node.output) if name}
    stored |= {item.name for item in graph.input}
    as_stored = _quantised_at_once(graph, holders)
    own: dict[str, int | None] = {}
    for name in stored:
        kind = types.get(as_stored.get(name, name))
        shape = shapes.get(name)
        own[name] = None if shape is None or kind is None else _bytes(shape, kind)
    sizes = {name: own[holders.get(name, name)] or 0 for name in {*stored, *holders}}
    unknown = tuple(
        name
        for node in graph.node
        for name in node.output
        if name in own and own[name] is None and name not in constants
    )
    return GraphMemory(_peak(graph, holders, sizes, constants), sizes, _moved(graph, holders, sizes), unknown)


def _holders(graph: onnx.GraphProto, constants: Collection[str]) -> dict[str, str]:
    """For tensors without memory of their own the one whose memory it is."""
    holders: dict[str, str] = {}
    readers = _readers(graph)
    made = {name for node in graph.node for name in node.output}
    for node in graph.node:
        if not node.input or not node.output:
            continue
        given, gives = node.input[0], node.output[0]
        fused = node.op_type == "DequantizeLinear" or (
            node.op_type == "QuantizeLinear"
            and given in made
            and given not in holders
            and given not in constants
            and all(reader == "QuantizeLinear" for reader in readers[given])
        )
        if fused or node.op_type in _VIEWS:
            holders[gives] = holders.get(given, given)
    return holders


def _quantised_at_once(graph: onnx.GraphProto, holders: Mapping[str, str]) -> dict[str, str]:
    """For tensors that exist in their quantised form alone, that form."""
    return {
        node.input[0]: node.output[0]
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.output[0] in holders
    }


def _readers(graph: onnx.GraphProto) -> dict[str, list[str]]:
    """The operators that read each tensor; the caller, who reads the outputs, has an empty name."""
    readers: dict[str, list[str]] = defaultdict(list)
    for node in graph.node:
        for name in _read(node):
            readers[name].append(node.op_type)
    for item in graph.output:
        readers[item.name].append("")
    return readers


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node reads, those inside its own graphs (of an If or Loop) too."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        inside: Sequence[onnx.GraphProto] = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
        for graph in inside:
            for other in graph.node:
                yield from _read(other)


def _peak(
    graph: onnx.GraphProto, holders: Mapping[str, str], sizes: Mapping[str, int], constants: Collection[str]
) -> int:
    given = {item.name for item in graph.input} - set(constants)
    kept = given | {holders.get(item.name, item.name) for item in graph.output}
    last: dict[str, int] = {}
    for position, node in enumerate(graph.node):
        for name in (*_read(node), *node.output):
            last[holders.get(name, name)] = position
    dying: dict[int, list[str]] = defaultdict(list)
    for name, position in last.items():
        if name not in kept:
            dying[position].append(name)
    alive = set(given)
    now = peak = sum(sizes[name] for name in given)
    for position, node in enumerate(graph.node):
        for name in node.output:
            if name and name not in holders and name not in constants and name not in alive:
                alive.add(name)
                now += sizes[name]
        peak = max(peak, now)
        for name in dying[position]:
            if name in alive:
                alive.remove(name)
                now -= sizes[name]
    return peak


def _moved(graph: onnx.GraphProto, holders: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, int]:
    moved = {}
    for node in graph.node:
        names = () if not node.output or node.output[0] in holders else (*node.input, *node.output)
        if node.output:
            moved[node.output[0]] = sum(sizes[name] for name in names if name)
    return moved


def _bytes(shape: Shape, kind: int) -> int:
    count = math.prod(shape)
    if kind in _FOUR_BITS:
        return (count + 1) // 2
    if kind == TensorProto.STRING:
        return 0
    return count * int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
