"""The form in which a file stores shared weights: packed indices and a codebook, from which standard operators rebuild
the weights when a runtime loads the file.

Indices of k bits stand one after the other in a row of bytes, lowest bit first; as few as fill whole bytes (two of 4
bits, eight of 3) are a group. An index lies in at most two neighbouring bytes: a MatMul puts each pair together, Div
takes off the bits below the index and Mod those above it, Gather looks up its value. All of it depends on constants
alone, so ONNX Runtime folds it when it loads the file, and OpenVINO too; afterwards the graph is that of the float
file. Nothing in it is newer than opset 14 or wider than 32 bits (OpenVINO's 64 are not exact), and a body need not be
converted, as for UINT4, which has 4 bits only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from nas.compress.bits.inspect_graph import optimised_graph
from nas.compress.codebook import Clusters

# Constants that the decoders of all layers have in common.
PAIRS, BELOW, RANGE, FLAT, FROM = (f"shared_{part}" for part in ("pairs", "below", "range", "flat", "from"))


def group_of(bits: int) -> tuple[int, int]:
    """How many indices of so many bits fill whole bytes, and how many bytes."""
    indices = 8 // math.gcd(8, bits)
    return indices, indices * bits // 8


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of so many packed indices: count · bits / 8, the last group filled up."""
    indices, bytes_ = group_of(bits)
    return math.ceil(count / indices) * bytes_


def decoder_bytes(count: int, bits: int) -> int:
    """About how many bytes a layer's nodes, names and the shape of its weights take in a finished file, beside indices
    and values; counted on such files. What layers have in common (200 bytes in all) is left out.
    """
    if bits == 8:
        return 80
    indices, bytes_ = group_of(bits)
    return 210 + (30 if bytes_ > 1 else 0) + (120 if count % indices else 0)


def saves_room(clusters: Clusters, bits: int) -> bool:
    """Whether a layer takes less room shared than as floats: indices, values and decoder against 4 bytes a weight."""
    count = clusters.indices.size
    return packed_bytes(count, bits) + 4 * len(clusters.values) + decoder_bytes(count, bits) < 4 * count


def pack(indices: np.ndarray, bits: int) -> np.ndarray:
    """Indices below 2**bits, of any shape, packed: uint8, groups × bytes of a group.

    Raises:
        ValueError: An index does not fit.
    """
    flat = indices.reshape(-1)
    if flat.max(initial=0) >= 2**bits:
        raise ValueError(f"an index of {bits} bits must be below {2**bits}, but got {flat.max()}")
    per_group, bytes_ = group_of(bits)
    whole = np.zeros(math.ceil(flat.size / per_group) * per_group, np.uint8)
    whole[: flat.size] = flat
    single_bits = whole[:, None] >> np.arange(bits, dtype=np.uint8) & 1
    return np.packbits(single_bits, bitorder="little").reshape(-1, bytes_)


def store(body: bytes, shared: Mapping[str, Clusters], bits: int) -> bytes:
    """A body with weights in their stored form.

    Args:
        body: Holds the weights as float initializers.
        shared: What to put in their place, by the name of the initializer.
        bits: Of an index, 1 to 8.
    """
    model = onnx.load_from_string(body)
    graph = model.graph
    kept = [tensor for tensor in graph.initializer if tensor.name not in shared]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    nodes: list[NodeProto] = []
    constants: dict[str, np.ndarray] = {}
    for name, clusters in shared.items():
        layer_nodes, layer_constants = _bytes_decoder(name, clusters) if bits == 8 else _decoder(name, clusters, bits)
        nodes += layer_nodes
        constants |= layer_constants  # those that layers have in common come once
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    for position, node in enumerate(nodes):
        graph.node.insert(position, node)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _bytes_decoder(name: str, clusters: Clusters) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """Nodes and constants that rebuild a weight from indices of one byte each."""
    constants = {f"{name}_indices": clusters.indices, f"{name}_values": clusters.values}
    return [
        helper.make_node("Cast", [f"{name}_indices"], [f"{name}_whole"], to=TensorProto.INT32),
        helper.make_node("Gather", [f"{name}_values", f"{name}_whole"], [name]),
    ], constants


def _decoder(name: str, clusters: Clusters, bits: int) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """Nodes and constants that rebuild a weight from packed indices."""
    indices, bytes_ = group_of(bits)
    shape, count = clusters.indices.shape, clusters.indices.size
    starts = np.arange(indices) * bits  # of each index, in bits from the group's start
    constants = {
        f"{name}_packed": pack(clusters.indices, bits),
        f"{name}_values": clusters.values,
        f"{name}_shape": np.array(shape, np.int64),
        BELOW: (2 ** (starts % 8)).astype(np.int32),
        RANGE: np.array(2**bits, np.int32),
    }
    whole, pair, low, index, value = (f"{name}_{step}" for step in ("bytes", "pair", "low", "index", "value"))
    nodes = [helper.make_node("Cast", [f"{name}_packed"], [whole], to=TensorProto.INT32)]
    if bytes_ > 1:
        constants[PAIRS] = _pairs(starts, bytes_)
        nodes.append(helper.make_node("MatMul", [whole, PAIRS], [pair]))
    nodes += [
        helper.make_node("Div", [pair if bytes_ > 1 else whole, BELOW], [low]),
        helper.make_node("Mod", [low, RANGE], [index]),
        helper.make_node("Gather", [f"{name}_values", index], [value]),
    ]
    if count % indices:  # what fills up the last group is cut off
        constants |= {FLAT: np.array([-1]), FROM: np.array([0]), f"{name}_count": np.array([count])}
        nodes += [
            helper.make_node("Reshape", [value, FLAT], [f"{name}_flat"]),
            helper.make_node("Slice", [f"{name}_flat", FROM, f"{name}_count"], [f"{name}_cut"]),
        ]
    nodes.append(helper.make_node("Reshape", [f"{name}_cut" if count % indices else value, f"{name}_shape"], [name]))
    return nodes, constants


def _pairs(starts: np.ndarray, bytes_: int) -> np.ndarray:
    """What a group's bytes are multiplied by, bytes × indices: each index gets the byte that it starts in, and 256
    times the one after it."""
    pairs = np.zeros((bytes_ + 1, len(starts)), np.int32)
    pairs[starts // 8, np.arange(len(starts))] = 1
    pairs[starts // 8 + 1, np.arange(len(starts))] = 256
    return pairs[:bytes_]


def rebuilt_in_every_run(artifact: bytes) -> list[str]:
    """The operators that ONNX Runtime computes from constants alone in every run, as it did not fold them at load.

    Read off the graph that it optimised; an empty list says that shared weights run as float weights do.
    """
    graph = optimised_graph(artifact)
    constants = {tensor.name for tensor in graph.initializer} | {""}
    found = []
    for node in graph.node:
        if constants.issuperset(node.input):
            constants.update(node.output)
            found += [node.op_type] if node.op_type != "Constant" else []
    return found
