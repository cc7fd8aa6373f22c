"""Operations and parameters of a network, counted by ptflops and checked with torch's own counter.

FLOPs are no well-defined number, so the definition stands here once and holds everywhere:

- counted are the **multiply-adds (MACs) of convolutions and linear layers**, matrix products included, whether they
  are modules or functions; **1 MAC = 2 FLOPs**;
- left out are biases and element-wise layers: activations, normalisation, pooling, additions, softmax;
- for **one image** (batch 1), in evaluation mode, on the **float network** after pruning, before conversion.

So a convolution of k×k from C_in to C_out channels in g groups takes H_out · W_out · C_out · C_in / g · k² MACs, and a
linear layer inputs · outputs. Attention and recurrent layers are the matrix products that they are made of: they are
counted with torch's fused operators for them switched off. What was run but not counted is listed by name.

What activations take, and how many bytes are moved, is defined in ``nas.measure.activations``.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ptflops import get_model_complexity_info
from ptflops.aten_ops import ATEN_OPS_MAPPING
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nas.errors import NasError
from nas.measure.activations import LayerStack, Memory, watch_memory
from nas.measure.cross_check import counted_by_torch, disagreements, unfused

FLOPS_PER_MAC = 2

# Operators without arithmetic (views, copies, shapes), which are not worth listing as uncounted.
_MOVES_DATA = frozenset(
    {
        "view",
        "_unsafe_view",
        "reshape",
        "permute",
        "transpose",
        "t",
        "expand",
        "repeat",
        "unsqueeze",
        "squeeze",
        "slice",
    }
    | {"select", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack", "narrow", "flatten", "as_strided"}
    | {"unsafe_split", "unsafe_chunk"}
    | {"detach", "clone", "copy", "copy_", "alias", "contiguous", "_to_copy", "to", "lift_fresh", "pad", "arange"}
    | {"constant_pad_nd", "empty", "empty_like", "new_empty", "zeros", "zeros_like", "ones", "full", "full_like"}
)
_CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten._convolution)

# Names of operators that do multiply-adds: uncounted, they make the total too small.
_MULTIPLIES = re.compile(
    r"(^|_)(mm|mv|bmm|dot|addmv|baddbmm|addbmm|addr|lstm|gru|rnn|attention|encoder|conv\w*|linear)(_|$)"
)


@dataclass(frozen=True)
class LayerComplexity:
    """One layer's share.

    Args:
        name: Its path in the network (``stages.0.conv``); for an ONNX file the node's name.
        kind: Its class (``Conv2d``); for an ONNX file the operator.
        output_shape: With a batch of 1; empty where the layer did not run.
        params: Its own parameters, biases and frozen ones included; a shared one counts at the first that holds it.
        macs: Its multiply-adds, 0 where it has none.
        flops: 2 · macs.
        activation_bytes: Of what it gives, all its outputs together; where it runs several times, the last time.
        bytes_moved: What it reads (inputs, weights) and writes, in all its runs; 0 where it only gives another view.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int
    flops: int
    activation_bytes: int
    bytes_moved: int


@dataclass(frozen=True)
class Complexity:
    """A network's operations, parameters and memory, in total and per layer.

    The layers add up to the total of multiply-adds and parameters. Not so of the memory: not all activations live at
    the same time, and functions between layers move bytes too, such as the addition of a shortcut.

    Args:
        macs: Multiply-adds of one image.
        flops: 2 · macs.
        conv_macs: The part of ``macs`` that convolutions do; linear layers do the rest.
        params: Number of parameters, biases and frozen ones included.
        peak_activation_bytes: The most that activations take at once, the image included, parameters not.
        bytes_moved: What operators read (weights included) and write.
        layers: In the order in which they first ran.
        uncounted: What ran and was not counted, each with where or how often.
        notes: What a reader should know, such as a disagreement of the two counters.
    """

    macs: int
    flops: int
    conv_macs: int
    params: int
    peak_activation_bytes: int
    bytes_moved: int
    layers: tuple[LayerComplexity, ...]
    uncounted: tuple[str, ...]
    notes: tuple[str, ...] = ()


def count(model: nn.Module, input_shape: tuple[int, int, int]) -> Complexity:
    """Counts a network's multiply-adds, parameters and activations (see the definitions at the top of this file).

    ptflops (``backend="aten"``) counts every convolution and matrix product that torch dispatches; it is given its own
    formulae with the bias left out. It changes what it counts (evaluation mode, added methods), so it gets a copy. Not
    for use in several threads at once: ptflops' failures are printed, and are caught by redirecting the output.

    Args:
        model: The float network; left as it is.
        input_shape: (C, H, W) of one image.

    Raises:
        NasError: The network cannot be run on such an input.
    """
    network = copy.deepcopy(model).eval()
    image = _zeros(network, input_shape)
    with unfused(network):
        checked_flops = counted_by_torch(network, image)
        stack = LayerStack(network)
        watch = _Watch(stack)
        with watch:
            macs = _count_with_ptflops(network, image, watch.ptflops_formulae())
    stack.reset()
    memory = watch_memory(network, image, stack)
    params = _own_parameters(model)
    return Complexity(
        macs=macs,
        flops=macs * FLOPS_PER_MAC,
        conv_macs=watch.conv_macs,
        params=sum(params.values()),
        peak_activation_bytes=memory.peak_bytes,
        bytes_moved=sum(memory.moved.values()),
        layers=_layers(model, stack, watch.macs, memory, params),
        uncounted=watch.uncounted(),
        notes=(*disagreements(watch.flops_by_operator, checked_flops), *watch.missed_multiply_adds(checked_flops)),
    )


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees which layer each operator runs in, while ptflops counts.

    ptflops' formulae, wrapped, book what they count on the layer that runs; as a dispatch mode around ptflops' own it
    sees the operators that none counts.
    """

    def __init__(self, stack: LayerStack) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: dict[str, int] = defaultdict(int)
        self.flops_by_operator: dict[str, int] = defaultdict(int)
        self.conv_macs = 0
        self._stack = stack
        self._uncounted: dict[str, list[str]] = defaultdict(list)

    def ptflops_formulae(self) -> dict[Any, Callable[[Any, Any], int]]:
        """ptflops' formulae by operator, each without the bias and booked on the layer that runs."""
        return {operator: self._booked(operator, formula) for operator, formula in ATEN_OPS_MAPPING.items()}

    def uncounted(self) -> tuple[str, ...]:
        """Operators with arithmetic that were not counted: ``relu: stages.0.act, stages.1.act``."""
        return tuple(f"{name}: {', '.join(dict.fromkeys(where))}" for name, where in self._uncounted.items())

    def missed_multiply_adds(self, checked_flops: Mapping[str, int]) -> list[str]:
        """A warning for each operator that does multiply-adds and was counted by neither counter."""
        checked = {name.strip("_") for name in checked_flops}
        return [
            f"'{name}' does multiply-adds that were not counted; the real total is larger"
            for name in self._uncounted
            if _MULTIPLIES.search(name) and name not in checked
        ]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        name = func.overloadpacket.__name__
        if func.overloadpacket not in ATEN_OPS_MAPPING and name not in _MOVES_DATA:
            self._uncounted[name.strip("_")].append(self._stack.innermost or "(network)")
        return func(*args, **(kwargs or {}))

    def _booked(self, operator: Any, formula: Callable[[Any, Any], int]) -> Callable[[Any, Any], int]:
        def counted(inputs: Any, outputs: Any) -> int:
            macs = int(formula(_without_bias(operator, inputs), outputs))
            self.macs[self._stack.innermost] += macs
            self.flops_by_operator[operator.__name__] += FLOPS_PER_MAC * macs
            if operator in _CONVOLUTIONS:
                self.conv_macs += macs
            return macs

        return counted


def _without_bias(operator: Any, inputs: Any) -> Any:
    """An operator's inputs as ptflops' formula wants them where there is no bias to count."""
    if operator is torch.ops.aten.addmm:
        return [None, *inputs[1:]]
    if operator in _CONVOLUTIONS:
        return [inputs[0], inputs[1], None, *inputs[3:9]]
    return inputs


def _count_with_ptflops(network: nn.Module, image: torch.Tensor, formulae: Mapping[Any, Any]) -> int:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        macs, _ = get_model_complexity_info(
            network,
            tuple(image.shape[1:]),
            print_per_layer_stat=False,
            as_strings=False,
            input_constructor=lambda _: image,
            custom_modules_hooks=formulae,
            backend="aten",
        )
    if macs is None:
        reason = " ".join(printed.getvalue().split())
        raise NasError(f"ptflops cannot count the network: {reason[:500]}")
    return int(macs)


def _zeros(network: nn.Module, input_shape: tuple[int, int, int]) -> torch.Tensor:
    """One image of zeros of the network's floating-point type, on its device."""
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device)


def _own_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters that each layer holds itself, a shared one only at the first layer that holds it."""
    seen: set[int] = set()
    own: dict[str, int] = {}
    for name, module in model.named_modules():
        mine = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(id(p) for p in mine)
        own[name] = sum(p.numel() for p in mine)
    return own


def _layers(
    model: nn.Module, stack: LayerStack, macs: Mapping[str, int], memory: Memory, params: Mapping[str, int]
) -> tuple[LayerComplexity, ...]:
    """Rows for the layers that have no layers inside, and for others that compute or hold something themselves."""
    modules = dict(model.named_modules())
    ran = stack.output_shapes
    order = [*ran, *(name for name in modules if name not in ran)]
    return tuple(
        LayerComplexity(
            name=name or "(network)",
            kind=type(modules[name]).__name__,
            output_shape=ran.get(name, ()),
            params=params[name],
            macs=macs.get(name, 0),
            flops=FLOPS_PER_MAC * macs.get(name, 0),
            activation_bytes=stack.output_bytes.get(name, 0),
            bytes_moved=memory.moved.get(name, 0),
        )
        for name in order
        if macs.get(name) or params[name] or (name in ran and not any(True for _ in modules[name].children()))
    )
