"""The layers of any network: which hold the weights, which give the logits, and where a forward pass fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import UnsupportedError, one_line

WeightedLayer = nn.Conv2d | nn.Linear


def weighted_layers(model: nn.Module) -> dict[str, WeightedLayer]:
    """Convolutions and linear layers by their dotted path, in the order in which they are declared."""
    return {name: module for name, module in model.named_modules() if isinstance(module, WeightedLayer)}


def output_layers(model: nn.Module, input_shape: tuple[int, int, int]) -> list[nn.Module]:
    """The convolutions and linear layers whose outputs reach the network's output through no other such layer.

    They give the logits: mostly one last linear layer, several where their outputs are added or concatenated. They
    are found by walking autograd's graph of one forward pass back from the output, so any network has them, whatever
    its layers are called.

    Args:
        model: A classifier, N×C×H×W to N×classes; left in evaluation mode.
        input_shape: (C, H, W).

    Raises:
        UnsupportedError: The forward pass fails, gives no single tensor, or no such layer leads to its output.
    """
    made_by: dict[Any, nn.Module] = {}  # autograd's node → the layer whose output it is; the key keeps the node alive

    def remember(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.grad_fn is not None:
            made_by[output.grad_fn] = module

    hooks = [layer.register_forward_hook(remember) for layer in weighted_layers(model).values()]
    try:
        with torch.enable_grad():
            output = forward(model, input_shape, "the network does not run on an image of zeros")
    finally:
        for hook in hooks:
            hook.remove()
    found: list[nn.Module] = []
    pending: list[Any] = [output.grad_fn]
    seen: set[Any] = {None}
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in made_by:
            found.append(made_by[node])
        else:
            pending += [before for before, _ in node.next_functions]
    if not found:
        raise UnsupportedError(
            "no convolution or linear layer of the network leads to its output",
            "its parameters need requires_grad, and its forward must not leave autograd's graph (no detach, numpy or "
            "no_grad) between the last layer and the logits",
        )
    return list(dict.fromkeys(found))


def forward(model: nn.Module, input_shape: tuple[int, int, int], failure: str, hint: str = "") -> Tensor:
    """The outputs of a network, in evaluation mode, for one image of zeros.

    Args:
        model: The network.
        input_shape: (C, H, W).
        failure: What to say where it fails, such as "the network does not run after pruning"; the layer follows.
        hint: The remedy; ``{before}`` in it becomes the name of the last layer with weights that did run.

    Raises:
        UnsupportedError: The forward pass raises, or gives something else than one tensor of one row.
    """
    model.eval()
    with _followed(model) as position:
        try:
            output = model(torch.zeros(1, *input_shape))
        except Exception as error:  # a forward pass raises whatever its author wrote
            reason = one_line(error)
            hint = hint.replace("{before}", position.layer)
            raise UnsupportedError(f"{failure}: {position.words(model)}: {reason}", hint) from error
    hint = hint.replace("{before}", position.layer)
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[0] != 1:
        shape = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
        raise UnsupportedError(
            f"{failure}: for one image it gives an output of {shape}, not a tensor of shape (1, classes)", hint
        )
    return output


@dataclass
class _Position:
    """How far a forward pass has come: the modules that are running, outermost first, the last one that ended, and the
    last convolution or linear layer that did."""

    running: list[str] = field(default_factory=list)
    ended: str | None = None
    layer: str = "<layer>"

    def words(self, model: nn.Module) -> str:
        """Where the pass stopped, for a message."""
        name = self.running[-1] if self.running else ""
        where = f"in '{name}' ({type(model.get_submodule(name)).__name__})" if name else "in the network's own forward"
        return where if self.ended is None else f"{where}, after '{self.ended}'"


@contextmanager
def _followed(model: nn.Module) -> Iterator[_Position]:
    """Follows a forward pass through the modules, for the message where it fails."""
    position = _Position()

    def enter(name: str) -> Any:
        return lambda module, inputs: position.running.append(name)

    def leave(name: str) -> Any:
        def ended(module: nn.Module, inputs: Any, output: Any) -> None:
            position.running.pop()
            position.ended = name
            if isinstance(module, WeightedLayer):
                position.layer = name

        return ended

    hooks = [
        hook
        for name, module in model.named_modules()
        for hook in (module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave(name)))
    ]
    try:
        yield position
    finally:
        for hook in hooks:
            hook.remove()
