"""A supernet's training as it is kept between epochs: one file, replaced each time, without pickle.

Tensors are stored as safetensors (shared weights, AdamW's state of each), all else as JSON in the file's metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nas.errors import StudyError
from nas.store import write_atomically
from nas.supernet.shared import Supernet
from nas.train import TrainingData

_METADATA = "supernet"
_WEIGHTS, _OPTIMIZER = "weights/", "optimizer/"


@dataclass(frozen=True)
class Kept:
    """The state of a supernet's training after a step.

    Args:
        step: Steps done.
        steps: Steps in all, where that is known: with a time limit only once the learning rate falls.
        seconds: What they took.
        curve: An entry for each epoch.
        tensors: Shared weights and AdamW's state by name, see ``state_of``.
    """

    step: int
    steps: int | None
    seconds: float
    curve: Sequence[Mapping[str, float]]
    tensors: Mapping[str, Tensor] = field(repr=False)

    def write(self, path: Path, identity: str) -> None:
        """Replaces the file.

        Args:
            path: Of the file.
            identity: Of all that the training depends on.
        """
        numbers = {"step": self.step, "steps": self.steps, "seconds": self.seconds, "curve": list(self.curve)}
        metadata = {_METADATA: json.dumps({"identity": identity, **numbers}, allow_nan=False)}
        write_atomically(path, safetensors.torch.save(dict(self.tensors), metadata))


def read(path: Path, identity: str) -> Kept | None:
    """What ``Kept.write`` wrote; None where there is no file.

    Raises:
        StudyError: It is damaged, or of another training.
    """
    if not path.exists():
        return None
    hint = "remove it to train the supernet anew"
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            found: dict[str, Any] = json.loads(file.metadata()[_METADATA])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        kept = Kept(found["step"], found["steps"], found["seconds"], found["curve"], tensors)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"the supernet's checkpoint {path} cannot be read: {error}", hint) from error
    if found["identity"] != identity:
        raise StudyError(
            f"the supernet's checkpoint {path} is of another training: of other data, another space, seed, budget, "
            "precision or other training options",
            hint,
        )
    return kept


def state_of(supernet: Supernet, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of all tensors that a training goes on from."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in supernet.tensors.items():
        tensors[f"{_WEIGHTS}{name}"] = parameter
        for kind, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{_OPTIMIZER}{kind}/{name}"] = value
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def restore_weights(supernet: Supernet, tensors: Mapping[str, Tensor]) -> None:
    """Puts the shared weights back; before the optimiser is made."""
    for full, tensor in tensors.items():
        if full.startswith(_WEIGHTS):
            supernet.put(full.removeprefix(_WEIGHTS), tensor)


def restore_optimizer(supernet: Supernet, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts AdamW's state back."""
    for full, tensor in tensors.items():
        if full.startswith(_OPTIMIZER):
            kind, _, name = full.removeprefix(_OPTIMIZER).partition("/")
            parameter = supernet.tensors[name]
            optimizer.state[parameter][kind] = tensor.to(parameter.device)


def digest_of(data: TrainingData) -> str:
    """SHA-256 of images, labels and normalisation, in hexadecimal."""
    digest = hashlib.sha256(repr((tuple(data.images.shape), data.classes, data.normalisation)).encode())
    for tensor in (data.images, data.labels):
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()
