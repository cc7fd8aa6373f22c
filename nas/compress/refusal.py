"""What a tool says when it refuses a graph, as an error that names the layer and how to go on without it."""

from __future__ import annotations

import onnx

from nas.compress.stages import path_of_node
from nas.errors import UnsupportedError, one_line


def refused(what: str, error: Exception, graph: onnx.GraphProto) -> UnsupportedError:
    """The error for a graph that a tool refuses.

    Args:
        what: What cannot be done, such as ``"the network cannot be quantised"``.
        error: What the tool raised.
        graph: What it was given; the layer is the one that the text mentions first, by its node or by its result.
    """
    layer = _mentioned(str(error), graph)
    where = f" at layer '{layer}'" if layer else ""
    remedy = f"give it full precision: '{layer}.weight_bits': 32 and '{layer}.activation_bits': 32" if layer else ""
    return UnsupportedError(f"{what}{where}: {one_line(error)}", remedy or "set weight_bits to 32")


def _mentioned(text: str, graph: onnx.GraphProto) -> str:
    """The path of the layer whose node or result a text mentions first; empty where it mentions none."""
    places = {
        name: (text.index(name), -len(name), node)
        for node in graph.node
        for name in (node.name, *node.output)
        if name and name in text
    }
    # Of names that begin at one place the longest: it is the one that was meant.
    return path_of_node(min(places.values(), key=lambda place: place[:2])[2].name) if places else ""
