"""The trained tensors of a graph: each is a module that gives the tensor that the graph uses, and what its file holds.

A tensor that the file stores as integers is trained as a float *master* behind fake quantisation: what the graph sees
is the master rounded to the file's grid, and the gradient goes straight through the rounding (Bengio et al.,
arXiv:1308.3432; Jacob et al., CVPR 2018).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function

# A training step moves a weight by about this many times its channel's root mean square times the learning rate, which
# is about what it does in a network with batch norm.
SPREADS_PER_UNIT = 3.0
LEAST_UNIT = 1e-12


class _FakeQuantise(Function):
    """Rounds to a grid half to even and clips to its ends, as ONNX's QuantizeLinear and DequantizeLinear do one after
    the other; the gradient is that of the identity where rounding leads into the grid's range, and zero elsewhere.

    torch's own ``fake_quantize_*`` multiplies by the inverse of the scale, which rounds differently from ONNX at the
    edges, and takes many times as long on a CPU. Nothing is kept for the gradient that is not there anyway.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | float, lowest: float, highest: float) -> Tensor:
        wide = x.float()
        steps = wide.div(scale) if wide is x else wide.div_(scale)
        if isinstance(scale, Tensor):  # a weight, so a small one
            ctx.save_for_backward(steps)
            ctx.range = (lowest - 0.5, highest + 0.5)
            steps = steps.round()
        else:
            ctx.save_for_backward(x)
            ctx.range = ((lowest - 0.5) * scale, (highest + 0.5) * scale)
            steps.round_()
        return steps.clamp_(lowest, highest).mul_(scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (position,) = ctx.saved_tensors
        # The gradient of clipping to a range, by one pass over the memory.
        return torch.ops.aten.hardtanh_backward(gradients[0], position, *ctx.range), None, None, None


def fake_quantise(x: Tensor, scale: Tensor | float, lowest: float, highest: float) -> Tensor:
    """``x`` on the grid of multiples of ``scale``, with a straight-through gradient.

    The rounding is done in float32; the result has the type of ``x``, which in training may be bfloat16.

    Args:
        x: Any shape.
        scale: One step of the grid; a tensor broadcasts with ``x``.
        lowest: The grid's lower end in steps, the zero point taken off.
        highest: Its upper end.
    """
    result: Tensor = _FakeQuantise.apply(x, scale, lowest, highest)  # type: ignore[no-untyped-call]
    return result


class GraphTensor(nn.Module):
    """A trained tensor of a graph. Calling it gives the tensor that the graph uses.

    What is trained (``master``) are its values in units of their spread, a power of two, which rounds nothing. Adam's
    steps are about as long as the learning rate whatever the gradient; in these units one rate fits channels of small
    and of large weights, as batch norm does in the network that the body was exported from. Vectors, such as biases,
    have the unit 1.

    Args:
        values: What to start from, float32.
        channel: The dimension of output channels, each of which has a unit of its own; one unit for all by default.
    """

    unit: Tensor

    def __init__(self, values: np.ndarray, channel: int | None = None) -> None:
        super().__init__()
        unit = _spread_unit(values, channel) if values.ndim > 1 else np.ones((), np.float32)
        self.register_buffer("unit", torch.from_numpy(unit), persistent=False)
        self.master = nn.Parameter(torch.from_numpy(np.asarray(values / unit, np.float32)))

    def values(self) -> Tensor:
        """The float values before any rounding."""
        return self.master * self.unit

    def stored(self) -> np.ndarray:
        """What the file holds for it, in the file's type."""
        raise NotImplementedError


class FloatTensor(GraphTensor):
    """A tensor that the file stores as floats; trained as float32, rounded to half precision where the file is.

    Args:
        values: As the file has them, float32 or float16.
    """

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(values.astype(np.float32))
        self.dtype = values.dtype

    def forward(self) -> Tensor:
        return self.values().half().float() if self.dtype == np.float16 else self.values()

    @torch.no_grad()
    def stored(self) -> np.ndarray:
        return self.values().cpu().contiguous().numpy().astype(self.dtype)


class IntegerTensor(GraphTensor):
    """A tensor that the file stores as integers: float masters on the file's grid.

    Integers beyond 24 bits, as some biases are, are exact to the 24 bits that float32 has.

    Args:
        integers: As the file has them.
        scale: One step of the grid, in the shape that broadcasts with the integers.
        zero_point: The integer that stands for 0.
        bounds: The least and the greatest integer that may be stored.
        values: Float values of the same shape to start from; those that the file stands for by default.
    """

    scale: Tensor

    def __init__(
        self,
        integers: np.ndarray,
        scale: np.ndarray,
        zero_point: int,
        bounds: tuple[int, int],
        values: np.ndarray | None = None,
    ) -> None:
        if values is None:
            values = (integers.astype(np.float32) - np.float32(zero_point)) * scale
        channels = [dimension for dimension, size in enumerate(scale.shape) if size > 1]
        super().__init__(values, channels[0] if channels else None)
        self.dtype = integers.dtype
        self.zero_point = zero_point
        self.bounds = bounds
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)), persistent=False)

    def forward(self) -> Tensor:
        low, high = (float(bound - self.zero_point) for bound in self.bounds)
        return fake_quantise(self.values(), self.scale, low, high)

    @torch.no_grad()
    def stored(self) -> np.ndarray:
        # From the very values that the graph saw, so that the file cannot differ from them. Clipped once more, as the
        # ends of int32 have no float32 of their own.
        steps = torch.round(self() / self.scale).cpu().contiguous().numpy().astype(np.int64)
        return np.clip(steps + self.zero_point, *self.bounds).astype(self.dtype)


def _spread_unit(values: np.ndarray, channel: int | None) -> np.ndarray:
    """The power of two nearest to so many root mean squares of each channel, in a shape that broadcasts."""
    others = tuple(dimension for dimension in range(values.ndim) if dimension != channel)
    spread = SPREADS_PER_UNIT * np.sqrt(np.square(values, dtype=np.float64).mean(others, keepdims=True))
    power = np.round(np.log2(np.maximum(spread, LEAST_UNIT))).astype(int)
    return np.asarray(np.ldexp(np.float32(1), power), np.float32)
