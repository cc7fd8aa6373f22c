"""What a supernet's networks are worth: accuracies as inherited, to rank by.

An inherited accuracy says little of what a network reaches when it is trained for itself, but much of which of two is
better. It is never a trial's accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import safetensors.torch
import torch
from torch import Tensor, nn

from nas.design import Design
from nas.families.layout import laid_out, layout_of
from nas.supernet.shared import Supernet, architecture_of
from nas.train import Numerics, TrainingData, fast_kernels, seeded, working_on

_BATCH = 256
# Batch norms' statistics come from so many training images: they are means over all positions of a map, too.
CALIBRATION_IMAGES = 512


@dataclass(frozen=True)
class Inherited:
    """A design and the accuracy of its network with inherited weights, from 0 to 1."""

    design: Design
    accuracy: float


@torch.no_grad()
def recalibrate(network: nn.Module, images: Tensor, precision: str = "float32", batch: int = _BATCH) -> None:
    """Gives the batch norms of a network the statistics of images, and leaves it in evaluation mode.

    They are averages over whole batches, each of which is normalised by its own statistics, as in training.

    Args:
        network: Changed in place; on the device of the images.
        images: N×C×H×W, normalised; at least one batch, a rest that fills none is left out.
        precision: ``float32`` or ``bfloat16``.
        batch: The batches' size.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    network.train()
    size = min(batch, len(images))
    for start in range(0, len(images) - size + 1, size):
        _forward(network, images[start : start + size], precision)
    for norm, value in zip(norms, momentum, strict=True):
        norm.momentum = value
    network.eval()


class Ranker:
    """Judges a supernet's networks, each at the cost of a forward pass; what was judged once is remembered.

    Args:
        supernet: Trained, and not trained on while this is in use.
        data: The training images, for batch norms' statistics: not augmented, as networks see images in the end.
        validation: What accuracy is of; with the training data's normalisation.
        numerics: Device, precision, threads.
        validation_images: At most so many of them are looked at, the same ones for all designs.
        calibration_images: So many training images give the statistics.
        seed: Draws both.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: TrainingData,
        validation: TrainingData,
        numerics: Numerics,
        validation_images: int | None = None,
        calibration_images: int = CALIBRATION_IMAGES,
        seed: int = 0,
    ) -> None:
        self.supernet, self.numerics = supernet, numerics
        self._device = torch.device(numerics.device)
        supernet.to(self._device)
        self._quiet = working_on(self._device)
        generator = torch.Generator().manual_seed(seed)
        self._calibration = data.normalise(_some(data, calibration_images, generator).images)
        chosen = _some(validation, validation_images, generator)
        self._images, self._labels = chosen.normalise(chosen.images), chosen.labels
        self._known: dict[str, float] = {}

    def network(self, design: Design) -> nn.Module:
        """The design's network with inherited weights and statistics of its own, for evaluation, on the device.

        Raises:
            InfeasibleDesignError: The design does not fit the images.
        """
        network = self.supernet.subnet(design)
        network.to(device=self._device, memory_format=layout_of(network))  # type: ignore[call-overload]
        with self._quiet:
            recalibrate(network, self._calibration, self.numerics.precision)
        return network

    @torch.no_grad()
    def accuracy(self, design: Design) -> float:
        """The share of the validation images that the design's network gets right with inherited weights.

        Raises:
            InfeasibleDesignError: The design does not fit the images.
        """
        key = architecture_of(design).digest
        if key not in self._known:
            with seeded(0, self.numerics.threads):
                network = self.network(design)
                right = torch.zeros((), device=self._device)
                for images, labels in zip(*(torch.split(t, _BATCH) for t in (self._images, self._labels)), strict=True):
                    with self._quiet:
                        logits = _forward(network, images, self.numerics.precision)
                        right += (logits.argmax(1) == labels).sum()
            self._known[key] = float(right) / len(self._labels)
        return self._known[key]

    def rank(self, designs: Iterable[Design], on_each: Callable[[int], None] | None = None) -> list[Inherited]:
        """Designs and their inherited accuracies, best first; equals in the order given.

        Args:
            designs: Compression has no part in it.
            on_each: Called with how many are judged.

        Raises:
            InfeasibleDesignError: A design does not fit the images.
        """
        found = []
        for count, design in enumerate(designs, 1):
            found.append(Inherited(design, self.accuracy(design)))
            if on_each is not None:
                on_each(count)
        return sorted(found, key=lambda inherited: -inherited.accuracy)

    def finetune_start(self, design: Design) -> bytes:
        """The inherited weights of the design's network, its own statistics included, as a safetensors file: a training
        that starts from them fine-tunes.

        Raises:
            InfeasibleDesignError: The design does not fit the images.
        """
        with seeded(0, self.numerics.threads):
            state = self.network(design).state_dict()
        return safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in state.items()})


def _some(data: TrainingData, count: int | None, generator: torch.Generator) -> TrainingData:
    """So many of the images at random, or all."""
    if count is None or count >= len(data.labels):
        return data
    chosen = torch.randperm(len(data.labels), generator=generator)[:count].to(data.images.device)
    return replace(data, images=data.images[chosen], labels=data.labels[chosen])


def _forward(network: nn.Module, images: Tensor, precision: str) -> Tensor:
    with fast_kernels(images.device, precision):
        logits: Tensor = network(laid_out(images, network))
    return logits
