"""Training: one network, one budget, seeded, as fast as the hardware allows.

The learning rate follows warm-up, stable, decay (Hu et al., MiniCPM, 2024): it rises over the first steps, stays, and
falls linearly to zero over the last part. What comes before the decay does not depend on the budget, so a longer
budget continues a shorter one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.augment import augment
from nas.data.normalise import Normalisation
from nas.design import Value
from nas.errors import DivergedError, UnsupportedError, one_line
from nas.families.layout import laid_out, layout_of
from nas.lease import Working, working
from nas.recipe import TrainingConfig

WARMUP_STEPS = 20
DECAY_SHARE = 0.4

# Called after each epoch with (epochs done, epochs in all).
EpochCallback = Callable[[int, int], None]


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


@contextmanager
def seeded(seed: int, threads: int) -> Iterator[torch.Generator]:
    """Runs a block with seeded random numbers and so many threads, and puts both back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield torch.Generator().manual_seed(seed)
    finally:
        torch.set_num_threads(before)


def learning_rate_factor(step: int, steps: int, steps_per_epoch: int) -> float:
    """Warm-up, stable, decay: the learning rate at a step, relative to its peak.

    Args:
        step: From 0.
        steps: Steps in all. Only the decay, the last ``DECAY_SHARE`` of them, depends on it.
        steps_per_epoch: The warm-up takes no longer than an epoch.
    """
    warmup = min(WARMUP_STEPS, steps_per_epoch)
    decay = max(1, round(DECAY_SHARE * steps))
    return min(1.0, (step + 1) / warmup, (steps - step) / decay)


@dataclass(frozen=True)
class Distillation:
    """What a student learns from: the teacher's logits of each training sample (N×classes), see Hinton et al., 2015."""

    logits: Tensor
    temperature: float
    weight: float


def train(
    model: nn.Module,
    data: TrainingData,
    config: TrainingConfig,
    numerics: Numerics,
    epochs: int,
    learning_rate: float,
    generator: torch.Generator,
    distillation: Distillation | None = None,
    on_epoch: EpochCallback | None = None,
    after_step: Callable[[], None] | None = None,
    parameters: Sequence[nn.Parameter] | None = None,
) -> list[dict[str, Any]]:
    """Trains a network in place and returns its curve: for each epoch the mean loss, the accuracy on the (augmented)
    training batches, and the seconds that it took.

    Call it inside ``seeded`` for repeatable results. Between batches it makes way for whoever measures on this machine
    (``nas.lease``). ``after_step`` is called after each step of the optimiser; ``parameters`` are what is trained, all
    of the network's by default.

    Raises:
        DivergedError: The loss became NaN or infinite.
    """
    device = torch.device(numerics.device)
    model.to(device=device, memory_format=layout_of(model)).train()  # type: ignore[call-overload]
    trained = list(model.parameters() if parameters is None else parameters)
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=config.weight_decay, fused=True)
    weights = data.class_weights() if config.class_weights else None
    criterion = nn.CrossEntropyLoss(weight=weights, label_smoothing=config.label_smoothing)
    batch = min(config.batch_size, len(data.labels))
    steps_per_epoch = len(data.labels) // batch
    steps, step = epochs * steps_per_epoch, 0
    quiet = working_on(device)
    curve = []
    for epoch in range(epochs):
        started = time.perf_counter()
        order = torch.randperm(len(data.labels), generator=generator).to(device)
        loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
        for chosen in torch.split(order[: steps_per_epoch * batch], batch):
            with quiet:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * learning_rate_factor(step, steps, steps_per_epoch)
                images = augment(data.normalise(data.images[chosen]), config.augmentation, generator)
                labels = data.labels[chosen]
                with torch.autocast(device.type, torch.bfloat16, enabled=numerics.precision == "bfloat16"):
                    logits = _forward(model, laid_out(images, model), numerics)
                loss = criterion(logits.float(), labels)
                if distillation is not None:
                    loss = _distilled(loss, logits.float(), distillation, chosen)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                if after_step is not None:
                    after_step()
                loss_sum += loss.detach()
                correct += (logits.detach().argmax(1) == labels).sum()
                step += 1
        mean_loss = float(loss_sum) / steps_per_epoch
        if not math.isfinite(mean_loss):
            raise DivergedError(
                f"training diverged in epoch {epoch + 1}: the loss is {mean_loss}", "lower training.learning_rate"
            )
        accuracy = float(correct) / (steps_per_epoch * batch)
        curve.append({"loss": mean_loss, "train_accuracy": accuracy, "seconds": time.perf_counter() - started})
        if on_epoch is not None:
            on_epoch(epoch + 1, epochs)
    model.eval()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values()):
        raise DivergedError("training diverged: a weight is NaN or infinite", "lower training.learning_rate")
    return curve


def working_on(device: torch.device) -> Working:
    """What to hold for each batch, so that nobody's measurement is disturbed; a GPU's queue is ended for a measurer."""
    return working(settle=torch.cuda.synchronize if device.type == "cuda" else None)


def _forward(model: nn.Module, images: Tensor, numerics: Numerics) -> Tensor:
    """The network's logits; what its forward raises, but for want of memory, is the network's own fault.

    Raises:
        UnsupportedError: The forward fails.
    """
    try:
        logits: Tensor = model(images)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if "memory" in str(error):
            raise
        low = numerics.precision == "bfloat16"
        hint = "set training.precision to float32: in bfloat16 not every operator runs" if low else ""
        raise UnsupportedError(f"the network's forward fails in training: {one_line(error)}", hint) from error
    return logits


def _distilled(hard: Tensor, logits: Tensor, distillation: Distillation, chosen: Tensor) -> Tensor:
    """The mixed loss: labels, and the teacher's softened classes (scaled by T², so that gradients keep their size)."""
    temperature = distillation.temperature
    student = torch.log_softmax(logits / temperature, 1)
    teacher = torch.log_softmax(distillation.logits[chosen] / temperature, 1)
    soft = nn.functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
    return (1 - distillation.weight) * hard + distillation.weight * soft


@torch.no_grad()
def predict_logits(model: nn.Module, data: TrainingData, batch: int = 512) -> Tensor:
    """Logits (N×classes, float32) of the training images as they are, not augmented.

    A student that learns from them sees augmented images, so it is asked to answer a shifted or mirrored image as the
    teacher answers the plain one: cheaper by a teacher's pass over the data in each epoch, and only as right as the
    augmentation leaves an image's meaning alone.
    """
    model.eval()
    quiet = working_on(data.images.device)
    parts = []
    for images in torch.split(data.images, batch):
        with quiet:
            parts.append(model(laid_out(data.normalise(images), model)))
    return torch.cat(parts).float()
