"""A training that was left in its trunk, kept so that it can be taken up again, to the bit, in whatever process.

Kept are the network's parameters and buffers, AdamW's state, the step and what the curve needs. Random numbers are not:
they follow from the seed and the step (``nas.train.randomness``). Nor is anything that a person's own network keeps in
plain attributes. There is no pickle in it: tensors are stored as safetensors, the rest as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from nas.errors import NasError

# What tensors' names begin with in the file: of the network, and of each kind of the optimiser's state (``step``,
# ``exp_avg``, ``exp_avg_sq``).
NETWORK, OPTIMIZER = "network/", "optimizer/"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training between two steps.

    Args:
        step: How many steps were done.
        tensors: By name, on the CPU.
        curve: Of the epochs that are done, see ``nas.train.train``.
        loss: Sum of the losses of the epoch that is not done.
        correct: How many of its images were right.
        seconds: How long it took so far.
    """

    step: int
    tensors: Mapping[str, Tensor] = field(repr=False)
    curve: Sequence[Mapping[str, float]] = ()
    loss: float = 0.0
    correct: float = 0.0
    seconds: float = 0.0

    def to_entry(self) -> tuple[bytes, dict[str, Any]]:
        """A safetensors file and JSON, as the cache keeps them."""
        numbers = {"loss": self.loss, "correct": self.correct, "seconds": self.seconds}
        return safetensors.torch.save(dict(self.tensors)), {"step": self.step, "curve": list(self.curve), **numbers}

    @classmethod
    def from_entry(cls, blob: bytes, detail: Mapping[str, Any]) -> Checkpoint:
        """Reads what ``to_entry`` gave.

        Raises:
            NasError: It is something else.
        """
        try:
            tensors = safetensors.torch.load(blob)
            numbers = {name: float(detail[name]) for name in ("loss", "correct", "seconds")}
            return cls(int(detail["step"]), tensors, list(detail["curve"]), **numbers)
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise NasError(f"this is no checkpoint of a training: {error}") from error


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of the tensors that a training goes on from: of the network, and the optimiser's for each parameter."""
    tensors = {f"{NETWORK}{name}": tensor for name, tensor in _tensors(model).items()}
    for name, parameter in _trained(model, optimizer).items():
        for kind, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{OPTIMIZER}{kind}/{name}"] = value
    # The clone is for tensors that lie as the file wants them already, and would change as the training goes on.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def restore(tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Puts back what ``state_of`` copied.

    Raises:
        NasError: The network is another one.
    """
    own = _tensors(model)
    stored = {name.removeprefix(NETWORK): value for name, value in tensors.items() if name.startswith(NETWORK)}
    wrong = own.keys() ^ stored.keys() | {n for n in own.keys() & stored.keys() if own[n].shape != stored[n].shape}
    if wrong:
        raise NasError(f"a checkpoint of another network cannot be continued: they differ in '{min(wrong)}'")
    for name, tensor in own.items():
        tensor.copy_(stored[name])
    parameters = _trained(model, optimizer)
    optimizer.state.clear()
    for full, value in tensors.items():
        if full.startswith(OPTIMIZER):
            kind, _, name = full.removeprefix(OPTIMIZER).partition("/")
            parameter = parameters[name]
            # Laid out as the parameter is, since the fused optimiser goes through both in the order of memory. For
            # the same reason Optimizer.load_state_dict will not do: it leaves a tensor as it lay in the file.
            like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
            optimizer.state[parameter][kind] = like.to(parameter.device).copy_(value)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those too that a state_dict leaves out; tensors that layers share once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    """The parameters that the optimiser changes, by name."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in trained}
