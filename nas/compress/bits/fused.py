"""Leaves what a runtime fuses in one piece: no rounding between a layer and the activation function after it."""

from __future__ import annotations

import onnx

# What TensorRT computes in one kernel with the layer before it.
FUSED = ("Clip", "Relu")


def round_after_activation(graph: onnx.GraphProto) -> None:
    """Takes away QuantizeLinear and DequantizeLinear before activation functions that nothing else reads, in place.

    What the function gives is rounded, once. TensorRT runs a layer, its function and the rounding as one kernel, which
    a rounding in between would split (*Developer Guide*, working with quantized types: placement of Q/DQ layers).
    """
    makers = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
    results = {value.name for value in graph.output}
    for node in list(graph.node):
        decoder = makers.get(node.input[0]) if node.op_type in FUSED else None
        if decoder is None or decoder.op_type != "DequantizeLinear":
            continue
        encoder = makers.get(decoder.input[0])
        if encoder is None or encoder.op_type != "QuantizeLinear" or encoder.input[0] not in makers:
            continue
        between = (encoder.input[0], encoder.output[0], decoder.output[0])
        if all(len(readers[name]) == 1 and name not in results for name in between):
            node.input[0] = encoder.input[0]
            graph.node.remove(encoder)
            graph.node.remove(decoder)
