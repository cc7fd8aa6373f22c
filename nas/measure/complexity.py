"""Operations and parameters of a network, counted by ptflops and checked with torch's own counter.

FLOPs are no well-defined number, so the definition stands here once and holds everywhere:

- counted are the **multiply-adds (MACs) of convolutions and linear layers**, matrix products included, whether they
  are modules or functions; **1 MAC = 2 FLOPs**;
- left out are biases and element-wise layers: activations, normalisation, pooling, additions, softmax;
- for **one image** (batch 1), in evaluation mode, on the **float network** after pruning, before conversion.

So a convolution of k×k from C_in to C_out channels in g groups takes H_out · W_out · C_out · C_in / g · k² MACs, and a
linear layer inputs · outputs. What was run but not counted is listed by name.
"""

from __future__ import annotations

import contextlib
import copy
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ptflops import get_model_complexity_info
from ptflops.aten_ops import ATEN_OPS_MAPPING
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import NasError

FLOPS_PER_MAC = 2

# ptflops and torch's counter disagreeing by more than this share is worth a warning.
CROSS_CHECK_TOLERANCE = 0.02

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
    | {"detach", "clone", "copy", "copy_", "alias", "contiguous", "_to_copy", "to", "lift_fresh", "pad", "arange"}
    | {"constant_pad_nd", "empty", "empty_like", "new_empty", "zeros", "zeros_like", "ones", "full", "full_like"}
)
_CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten._convolution)

# Names of operators that do multiply-adds: uncounted, they make the total too small.
_MULTIPLIES = re.compile(r"(^|_)(mm|mv|bmm|dot|addmv|baddbmm|addbmm|addr|lstm|gru|rnn|attention|conv\w*|linear)(_|$)")


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
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    params: int
    macs: int
    flops: int


@dataclass(frozen=True)
class Complexity:
    """A network's operations and parameters, in total and per layer; the layers add up to the total.

    Args:
        macs: Multiply-adds of one image.
        flops: 2 · macs.
        conv_macs: The part of ``macs`` that convolutions do; linear layers do the rest.
        params: Number of parameters, biases and frozen ones included.
        layers: In the order in which they first ran.
        uncounted: What ran and was not counted, each with where or how often.
        notes: What a reader should know, such as a disagreement of the two counters.
    """

    macs: int
    flops: int
    conv_macs: int
    params: int
    layers: tuple[LayerComplexity, ...]
    uncounted: tuple[str, ...]
    notes: tuple[str, ...] = ()


def count(model: nn.Module, input_shape: tuple[int, int, int]) -> Complexity:
    """Counts a network's multiply-adds and parameters (see the definition at the top of this file).

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
    checked_flops = _cross_check(network, image)
    watch = _Watch(network)
    with watch:
        macs = _count_with_ptflops(network, image, watch.ptflops_formulae())
    params = _own_parameters(model)
    notes = [*_disagreement(macs * FLOPS_PER_MAC, checked_flops), *watch.missed_multiply_adds()]
    return Complexity(
        macs=macs,
        flops=macs * FLOPS_PER_MAC,
        conv_macs=watch.conv_macs,
        params=sum(params.values()),
        layers=_layers(model, watch, params),
        uncounted=watch.uncounted(),
        notes=tuple(notes),
    )


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees which layer each operator runs in, while ptflops counts.

    Hooks on every layer of the (copied) network keep a stack of the layers being run; ptflops' formulae, wrapped, book
    what they count on the innermost; as a dispatch mode around ptflops' own it sees the operators that none counts.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs: dict[str, int] = defaultdict(int)
        self.conv_macs = 0
        self.output_shapes: dict[str, tuple[int, ...]] = {}
        self._running = [""]
        self._uncounted: dict[str, list[str]] = defaultdict(list)
        for name, module in network.named_modules():
            module.register_forward_pre_hook(self._enter(name))
            module.register_forward_hook(self._leave(name))

    def ptflops_formulae(self) -> dict[Any, Callable[[Any, Any], int]]:
        """ptflops' formulae by operator, each without the bias and booked on the layer that runs."""
        return {operator: self._booked(operator, formula) for operator, formula in ATEN_OPS_MAPPING.items()}

    def uncounted(self) -> tuple[str, ...]:
        """Operators with arithmetic that were not counted: ``relu: stages.0.act, stages.1.act``."""
        return tuple(f"{name}: {', '.join(dict.fromkeys(where))}" for name, where in self._uncounted.items())

    def missed_multiply_adds(self) -> list[str]:
        """A warning for each operator that does multiply-adds and was not counted."""
        return [
            f"'{name}' does multiply-adds that were not counted; the real total is larger"
            for name in self._uncounted
            if _MULTIPLIES.search(name)
        ]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        name = func.overloadpacket.__name__
        if func.overloadpacket not in ATEN_OPS_MAPPING and name not in _MOVES_DATA:
            self._uncounted[name.strip("_")].append(self._running[-1] or "(network)")
        return func(*args, **(kwargs or {}))

    def _booked(self, operator: Any, formula: Callable[[Any, Any], int]) -> Callable[[Any, Any], int]:
        def counted(inputs: Any, outputs: Any) -> int:
            macs = int(formula(_without_bias(operator, inputs), outputs))
            self.macs[self._running[-1]] += macs
            if operator in _CONVOLUTIONS:
                self.conv_macs += macs
            return macs

        return counted

    def _enter(self, name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._running.append(name)
            self.output_shapes.setdefault(name, ())

        return hook

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self._running.pop()
            first = output[0] if isinstance(output, tuple | list) and output else output
            self.output_shapes[name] = tuple(first.shape) if isinstance(first, torch.Tensor) else ()

        return hook


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


def _cross_check(network: nn.Module, image: torch.Tensor) -> int:
    """FLOPs by torch's own counter; also the first run of the network, so that its errors are seen as they are."""
    try:
        with FlopCounterMode(display=False) as counter:
            network(image)
    except NasError:
        raise
    except Exception as error:
        shape = "×".join(str(size) for size in image.shape)
        raise NasError(f"the network cannot be run on an input of {shape}: {' '.join(str(error).split())}") from error
    return int(counter.get_total_flops())


def _disagreement(flops: int, checked_flops: int) -> Iterator[str]:
    difference = abs(flops - checked_flops)
    if difference > CROSS_CHECK_TOLERANCE * max(flops, checked_flops):
        yield (
            f"ptflops counts {flops:,} FLOPs but torch's FlopCounterMode {checked_flops:,}, "
            f"{100 * difference / max(flops, checked_flops):.1f} % apart"
        )


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


def _layers(model: nn.Module, watch: _Watch, params: Mapping[str, int]) -> tuple[LayerComplexity, ...]:
    """Rows for the layers that have no layers inside, and for others that compute or hold something themselves."""
    modules = dict(model.named_modules())
    order = [*watch.output_shapes, *(name for name in modules if name not in watch.output_shapes)]
    rows: list[LayerComplexity] = []
    for name in order:
        module, macs = modules[name], watch.macs.get(name, 0)
        ran_alone = name in watch.output_shapes and not any(True for _ in module.children())
        if ran_alone or macs or params[name]:
            shape = watch.output_shapes.get(name, ())
            kind = type(module).__name__
            rows.append(LayerComplexity(name or "(network)", kind, shape, params[name], macs, FLOPS_PER_MAC * macs))
    return tuple(rows)
