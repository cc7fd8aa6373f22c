"""One node of an ONNX graph, as those see it who turn it into a function of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from nas.errors import UnsupportedError

HINT = "set quantisation_aware to false and weight_sharing to none for this network"

# Runs a node: its inputs in, its output (or the tuple of its outputs) out; an input that is left out is None.
Run = Callable[..., Any]


@dataclass(frozen=True)
class Node:
    """One node, as a builder sees it.

    Args:
        operator: Its ONNX operator.
        name: Its name, for messages.
        attributes: Its attributes, as Python values.
        inputs: The names of its inputs; empty where one is left out.
        constants: Those of its inputs that are constant and not trained, by position.
        outputs: How many outputs it has.
    """

    operator: str
    name: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    constants: Mapping[int, np.ndarray]
    outputs: int

    @classmethod
    def of(cls, node: onnx.NodeProto, constants: Mapping[str, np.ndarray]) -> Node:
        """Reads a node; ``constants`` are those of the graph, by name."""
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        own = {position: constants[name] for position, name in enumerate(node.input) if name in constants}
        name = node.name or (node.output[0] if node.output else "")
        return cls(node.op_type, name, attributes, tuple(node.input), own, len(node.output))

    def unsupported(self, why: str = "") -> UnsupportedError:
        """The error that says that this node cannot be trained."""
        reason = f": {why}" if why else ""
        return UnsupportedError(
            f"an exported network with operator {self.operator} (node '{self.name}') cannot be trained{reason}", HINT
        )

    def constant(self, position: int) -> np.ndarray | None:
        """A constant input; None where it is left out.

        Raises:
            UnsupportedError: The input is no constant.
        """
        if position >= len(self.inputs) or not self.inputs[position]:
            return None
        if position not in self.constants:
            raise self.unsupported(f"its input '{self.inputs[position]}' is computed, but must be a constant here")
        return self.constants[position]

    def numbers(self, attribute: str, position: int | None = None) -> list[int] | None:
        """Whole numbers from an attribute or, as later opsets have it, from a constant input; None without either."""
        if attribute in self.attributes:
            return [int(value) for value in self.attributes[attribute]]
        array = None if position is None else self.constant(position)
        return None if array is None else [int(value) for value in array.reshape(-1)]
