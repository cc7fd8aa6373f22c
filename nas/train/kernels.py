"""Ways around kernels that are slow on the CPU, for whatever network runs in here: same results, but for rounding.

- **Depthwise convolutions in bfloat16.** Nothing is multiplied there that a matrix unit could help with, and the
  gradient of a 5×5 one in bfloat16 takes 4 to 10 times as long as in float32 (measured on a processor with AMX, torch
  2.13, 64×32×14×14: 16 ms against 4), so these run in float32 amid all else.
- **Gradients that lie otherwise in memory than what they are the gradient of.** Averaging or flattening the last
  feature map, which lies channels last, hands a contiguous gradient back, on which batch norm and rectifier take 5 to
  20 times as long. One copy puts it right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# What a feature map ends in, so that its gradient comes back contiguous.
_ENDINGS = frozenset({functional.adaptive_avg_pool2d, torch.flatten, Tensor.flatten, Tensor.mean, torch.mean})


@contextmanager
def fast_kernels(device: torch.device, precision: str) -> Iterator[None]:
    """Runs what is in it in a precision (``float32``, ``bfloat16`` by autocast), with the ways around on a CPU."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        if device.type != "cpu":
            yield
            return
        with _Around():
            yield


class _Around(TorchFunctionMode):
    """Sees every function of torch that a forward calls, in modules and beside them."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        run: Any = func
        if func is functional.conv2d and torch.is_autocast_enabled("cpu") and _is_depthwise(args, kwargs):
            tensors = [part.float() if isinstance(part, Tensor) else part for part in args]
            named = {name: part.float() if isinstance(part, Tensor) else part for name, part in kwargs.items()}
            with torch.autocast("cpu", enabled=False):
                return run(*tensors, **named)
        if func in _ENDINGS and args and _is_map(args[0]):
            args[0].register_hook(_channels_last)
        return func(*args, **kwargs)


def _is_depthwise(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether these are the arguments of a convolution of each channel by itself."""
    groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
    image = args[0] if args else kwargs.get("input")
    return groups > 1 and isinstance(image, Tensor) and image.dim() == 4 and groups == image.shape[1]


def _is_map(value: object) -> bool:
    """Whether it is a feature map that lies channels last and has a gradient to come."""
    return (
        isinstance(value, Tensor)
        and value.dim() == 4
        and value.requires_grad
        and value.is_contiguous(memory_format=torch.channels_last)
        and not value.is_contiguous()
    )


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)
