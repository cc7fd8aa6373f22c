"""The form in which a file stores shared weights: packed indices and a codebook, from which standard operators rebuild
the weights when a runtime loads the file.

Eight indices of k bits are k bytes: one integer, lowest byte and lowest index first. Its bytes are put together by a
MatMul with the powers of 256, each index is cut out by a shift to the left and one to the right, Gather looks up its
value. Indices of 8 bits are bytes as they are. All of it depends on constants alone, so ONNX Runtime folds it when it
loads the file, and OpenVINO does too; afterwards the graph is that of the float file. Nothing in it is newer than
opset 13, so a body need not be converted (as it would for UINT4, which has 4 bits only).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from nas.compress.codebook import Clusters

GROUP = 8
# What a layer's nodes, the shape of its weights and all names add to a file, beside indices and values; at most.
DECODER_BYTES = 400

SHIFT_OUT, SHIFT_DOWN, PLACES, FLAT, FROM = (f"shared_{part}" for part in ("out", "down", "places", "flat", "from"))


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of so many packed indices: count · bits / 8, the last group of eight filled up."""
    return count if bits == 8 else math.ceil(count / GROUP) * bits


def saves_room(clusters: Clusters, bits: int) -> bool:
    """Whether a layer takes less room shared than as floats: indices, values and decoder against 4 bytes a weight."""
    count = clusters.indices.size
    return packed_bytes(count, bits) + 4 * len(clusters.values) + DECODER_BYTES < 4 * count


def pack(indices: np.ndarray, bits: int) -> np.ndarray:
    """Indices below 2**bits, of any shape, as groups of eight: uint8, groups × bits (1 to 7) bytes.

    Raises:
        ValueError: An index does not fit.
    """
    flat = indices.reshape(-1).astype(np.uint64)
    if flat.max(initial=0) >= 2**bits:
        raise ValueError(f"an index of {bits} bits must be below {2**bits}, but got {flat.max()}")
    groups = np.zeros((math.ceil(flat.size / GROUP), GROUP), np.uint64)
    groups.reshape(-1)[: flat.size] = flat
    whole = (groups << np.arange(GROUP, dtype=np.uint64) * np.uint64(bits)).sum(1, dtype=np.uint64)
    return np.ascontiguousarray(whole.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :bits])


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
    shape, count = clusters.indices.shape, clusters.indices.size
    # An integer that holds a group of eight: 32 bits are faster to decode than 64.
    width, whole = (32, np.uint32) if bits * GROUP <= 32 else (64, np.uint64)
    constants = {
        f"{name}_packed": pack(clusters.indices, bits),
        f"{name}_values": clusters.values,
        f"{name}_shape": np.array(shape, np.int64),
        PLACES: (np.uint64(256) ** np.arange(bits, dtype=np.uint64)).astype(whole)[:, None],
        SHIFT_OUT: (width - bits * np.arange(1, GROUP + 1)).astype(whole),
        SHIFT_DOWN: np.array(width - bits, whole),
    }
    group, high, index, number, value = (f"{name}_{step}" for step in ("group", "high", "index", "number", "value"))
    bytes_, result = f"{name}_bytes", value
    nodes = [
        helper.make_node("Cast", [f"{name}_packed"], [bytes_], to=helper.np_dtype_to_tensor_dtype(np.dtype(whole))),
        helper.make_node("MatMul", [bytes_, PLACES], [group]),
        helper.make_node("BitShift", [group, SHIFT_OUT], [high], direction="LEFT"),
        helper.make_node("BitShift", [high, SHIFT_DOWN], [index], direction="RIGHT"),
        helper.make_node("Cast", [index], [number], to=TensorProto.INT32),
        helper.make_node("Gather", [f"{name}_values", number], [value]),
    ]
    if count % GROUP:  # what fills up the last group is cut off
        result = f"{name}_cut"
        constants |= {FLAT: np.array([-1]), FROM: np.array([0]), f"{name}_count": np.array([count])}
        nodes += [
            helper.make_node("Reshape", [value, FLAT], [f"{name}_flat"]),
            helper.make_node("Slice", [f"{name}_flat", FROM, f"{name}_count"], [result]),
        ]
    nodes.append(helper.make_node("Reshape", [result, f"{name}_shape"], [name]))
    return nodes, constants


def rebuilt_in_every_run(artifact: bytes) -> list[str]:
    """The operators that ONNX Runtime computes from constants alone in every run, as it did not fold them at load.

    Read off the graph that it optimised; an empty list says that shared weights run as float weights do.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    constants = {tensor.name for tensor in graph.initializer} | {""}
    found = []
    for node in graph.node:
        if constants.issuperset(node.input):
            constants.update(node.output)
            found += [node.op_type] if node.op_type != "Constant" else []
    return found
