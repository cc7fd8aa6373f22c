"""Quantisation-aware fine-tuning: the integers of a quantised body are trained, on the grid that its file stores.

The network is trained as it will run: weights and activations rounded to their grids, the gradient straight through
the rounding (Jacob et al., CVPR 2018). Scales stay those of the calibration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from nas.compress.graph import GraphNetwork
from nas.compress.pack import FOUR_BIT
from nas.compress.qdq import QUANTISED
from nas.compress.technique import Tools

# The peak learning rate, relative to the recipe's for fine-tuning.
RATE = 0.1


def masters(body: bytes, quantised: bytes) -> dict[str, np.ndarray]:
    """The float weights that a quantised body's integers were made of, by the name of the integers.

    A weight that has another name or shape in the float body is left out: training then starts from what its integers
    stand for.

    Args:
        body: The float body.
        quantised: The quantised body that was made of it, in the canonical form of ``nas.compress.qdq``.
    """
    floats = {tensor.name: tensor for tensor in onnx.load_from_string(body).graph.initializer}
    found = {}
    for tensor in onnx.load_from_string(quantised).graph.initializer:
        origin = floats.get(tensor.name.removesuffix(FOUR_BIT).removesuffix(QUANTISED))
        if tensor.data_type == TensorProto.INT8 and origin is not None and origin.dims == tensor.dims:
            found[tensor.name] = numpy_helper.to_array(origin)
    return found


def train_quantised(body: bytes, quantised: bytes, tools: Tools, epochs: int) -> tuple[bytes, list[dict[str, Any]]]:
    """Fine-tunes a quantised body on its own grid.

    Args:
        body: The float body that it was made of, whose weights training starts from.
        quantised: In the canonical form of ``nas.compress.qdq``.
        tools: Data, options, and the teacher where there is one.
        epochs: How many.

    Returns:
        The quantised body with new integers, and the curve, see ``nas.train.train``.

    Raises:
        UnsupportedError: The body has an operator that cannot be trained.
        DivergedError: The loss became NaN or infinite.
    """
    network = GraphNetwork(quantised, masters(body, quantised))
    curve = tools.finetune(network, epochs, RATE * tools.training.finetune_learning_rate)
    return network.body(), curve
