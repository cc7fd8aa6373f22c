"""What networks train on: numbers of which kind, images and labels as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nas.data.normalise import Normalisation
from nas.design import Value
from nas.errors import UnsupportedError
from nas.recipe_sections import TrainingConfig


@dataclass(frozen=True)
class Numerics:
    """On what and in which precision networks train: part of every key, since results depend on it."""

    device: str
    precision: str
    threads: int

    def to_json(self) -> dict[str, Value]:
        return {
            "device": self.device,
            "precision": self.precision,
            "threads": self.threads,
            "torch": torch.__version__,
        }


@dataclass(frozen=True)
class TrainingData:
    """The training split as tensors, as it is (uint8 or float32); normalised batch by batch, to save memory.

    Args:
        images: N×C×H×W.
        labels: N class numbers.
        classes: How many classes there are.
        normalisation: Mean and standard deviation of each channel.
    """

    images: Tensor
    labels: Tensor
    classes: int
    normalisation: Normalisation

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        labels: np.ndarray,
        classes: int,
        layout: str,
        normalisation: Normalisation,
        device: str,
    ) -> TrainingData:
        """Moves arrays to the device, channels first as networks take them."""
        tensor = torch.from_numpy(images)
        if layout == "NHWC":
            tensor = tensor.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        return cls(tensor.to(device), torch.from_numpy(labels).to(device), classes, normalisation)

    def normalise(self, images: Tensor) -> Tensor:
        """Float32 images with mean 0 and standard deviation 1, the same arithmetic as in the exported graph."""
        mean = torch.tensor(self.normalisation.mean, device=images.device).view(1, -1, 1, 1)
        scale = 1 / torch.tensor(self.normalisation.std, device=images.device).view(1, -1, 1, 1)
        return (images.to(torch.float32) - mean) * scale

    def class_weights(self) -> Tensor:
        """Weight of each class, inverse to its frequency, 1 on average over the samples."""
        counts = torch.bincount(self.labels, minlength=self.classes).float()
        return len(self.labels) / (int((counts > 0).sum()) * counts.clamp(min=1))


def numerics_for(config: TrainingConfig, fast_bfloat16: bool, usable_cores: int) -> Numerics:
    """Resolves ``auto`` in a recipe for this machine.

    Args:
        config: The recipe's training section.
        fast_bfloat16: Whether the CPU multiplies bfloat16 in hardware (avx512_bf16, amx).
        usable_cores: How many cores this process may use; the number of threads where the recipe leaves it at 0.

    Raises:
        UnsupportedError: The recipe asks for a device that is not there.
    """
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError("training.device is 'cuda', but torch finds no CUDA device", "use 'auto' or 'cpu'")
    precision = config.precision
    if precision == "auto":
        precision = "bfloat16" if device == "cuda" or fast_bfloat16 else "float32"
    return Numerics(device, precision, config.threads or usable_cores)
