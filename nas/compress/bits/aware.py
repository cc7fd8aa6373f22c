"""Quantisation-aware fine-tuning: a quantised body is trained on the very grid that its file stores.

The network is trained as it will run: weights and activations are rounded to their grids, the gradient goes straight
through the rounding (Jacob et al., CVPR 2018). Scales stay those of the calibration: learning those of 4-bit weights
too (Esser et al., arXiv:1902.08153) gained nothing in trials on Fashion-MNIST.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from nas.compress.bits.pack import FOUR_BIT
from nas.compress.bits.qdq import QUANTISED
from nas.compress.graph.network import GraphNetwork
from nas.compress.technique import Tools

# The peak learning rate, relative to the recipe's for fine-tuning. Of 1, 1/2, 1/4 and 1/10 none is best for every
# network of those tried on Fashion-MNIST; this one is for none far from the best.
RATE = 0.5


def masters(body: bytes, quantised: bytes) -> dict[str, np.ndarray]:
    """The float weights that a quantised body's integers were made of, by the name of the integers.

    A weight that has another name or shape in the float body is left out: training then starts from what its integers
    stand for.

    Args:
        body: The float body.
        quantised: The quantised body that was made of it, in the canonical form of ``nas.compress.bits.qdq``.
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
        quantised: In the canonical form of ``nas.compress.bits.qdq``.
        tools: Data, options, and the teacher where there is one.
        epochs: How many.

    Returns:
        The quantised body with new integers, and the curve, see ``nas.train.train``.

    Raises:
        UnsupportedError: The body has an operator that cannot be trained.
        DivergedError: The loss became NaN or infinite.
    """
    network = GraphNetwork(quantised, masters(body, quantised))
    # Weight decay is for networks with batch norm, which make up for it. Here it is folded: smaller weights would be
    # smaller outputs, and fewer steps of the grid.
    undecayed = replace(tools, training=tools.training.model_copy(update={"weight_decay": 0.0}))
    curve = undecayed.finetune(network, epochs, RATE * tools.training.finetune_learning_rate)
    return network.body(), curve
