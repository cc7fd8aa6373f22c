"""One training run, whole or in parts: batches, losses, the optimiser, the curve."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.augment import augment
from nas.errors import DivergedError, UnsupportedError, one_line
from nas.families.layout import laid_out, layout_of
from nas.lease import Working, working
from nas.recipe_sections import TrainingConfig
from nas.train.checkpoint import Checkpoint, restore, state_of
from nas.train.data import Numerics, TrainingData
from nas.train.kernels import fast_kernels
from nas.train.randomness import Draws
from nas.train.schedule import learning_rate_factor, trunk_factor, whole_steps

# Called after each epoch with (epochs done, epochs in all).
EpochCallback = Callable[[int, int], None]
# Images that are answered at once: as many as took least time for small networks on one core.
AT_ONCE = {"float32": 64, "bfloat16": 256}
LOWER_RATE = "lower training.learning_rate"


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
    epochs: float,
    learning_rate: float,
    generator: torch.Generator,
    distillation: Distillation | None = None,
    on_epoch: EpochCallback | None = None,
    after_step: Callable[[], None] | None = None,
    parameters: Sequence[nn.Parameter] | None = None,
    resume: Checkpoint | None = None,
) -> list[dict[str, Any]]:
    """Trains a network in place and returns its curve: for each epoch the mean loss, the accuracy on the (augmented)
    training batches, and the seconds that it took.

    Call it inside ``seeded`` for repeatable results. Between batches it makes way for whoever measures on this machine
    (``nas.lease``).

    Args:
        model: Gives logits; left in evaluation mode, on the device.
        data: What it learns.
        config: Batch size, losses, augmentation.
        numerics: Device and precision.
        epochs: The budget; a part of one may end amid an epoch, which the curve then leaves out.
        learning_rate: The peak.
        generator: Its initial seed is what all random numbers follow from (``nas.train.randomness``).
        distillation: What it learns from beside the labels.
        on_epoch: Called after each epoch.
        after_step: Called after each step of the optimiser.
        parameters: What is trained; all of the network's by default.
        resume: Where ``train_trunk`` left off, of the same network, data and options, and no further than the trunk of
            this budget: the weights then are those of a training in one go, to the bit.

    Raises:
        DivergedError: The loss became NaN or infinite.
    """
    run = _Run(model, data, config, numerics, learning_rate, generator, distillation, after_step, parameters)
    run.take_up(resume)
    steps = whole_steps(epochs, run.steps_per_epoch)
    run.go(steps, steps, on_epoch)
    model.eval()
    if not all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values()):
        raise DivergedError("training diverged: a weight is NaN or infinite", LOWER_RATE)
    return run.curve


def train_trunk(
    model: nn.Module,
    data: TrainingData,
    config: TrainingConfig,
    numerics: Numerics,
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
    on_epoch: EpochCallback | None = None,
    resume: Checkpoint | None = None,
) -> Checkpoint:
    """Trains so many steps of what every budget has in common whose trunk is as long (``schedule.trunk_steps``).

    The arguments are those of ``train``; the network is left as it is then, in training mode.

    Raises:
        DivergedError: The loss or a weight became NaN or infinite.
    """
    run = _Run(model, data, config, numerics, learning_rate, generator)
    run.take_up(resume)
    run.go(steps, None, on_epoch)
    return run.checkpoint()


def steps_per_epoch(data: TrainingData, config: TrainingConfig) -> int:
    """Whole batches in an epoch; a rest waits for another order."""
    return len(data.labels) // _batch(data, config)


class _Run:
    """A training under way. The arguments are those of ``train``."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        config: TrainingConfig,
        numerics: Numerics,
        learning_rate: float,
        generator: torch.Generator,
        distillation: Distillation | None = None,
        after_step: Callable[[], None] | None = None,
        parameters: Sequence[nn.Parameter] | None = None,
    ) -> None:
        self.device = torch.device(numerics.device)
        model.to(device=self.device, memory_format=layout_of(model)).train()  # type: ignore[call-overload]
        trained = list(model.parameters() if parameters is None else parameters)
        self.optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=config.weight_decay, fused=True)
        weights = data.class_weights() if config.class_weights else None
        self.criterion = nn.CrossEntropyLoss(weight=weights, label_smoothing=config.label_smoothing)
        self.model, self.data, self.config, self.numerics = model, data, config, numerics
        self.learning_rate, self.distillation, self.after_step = learning_rate, distillation, after_step
        self.steps_per_epoch = steps_per_epoch(data, config)
        self.draws = Draws(generator.initial_seed(), self.device)
        self.quiet = working_on(self.device)
        self.step, self.curve = 0, list[dict[str, Any]]()
        self._begin_epoch()

    def take_up(self, checkpoint: Checkpoint | None) -> None:
        """Goes on from a checkpoint, where there is one."""
        if checkpoint is not None:
            restore(checkpoint.tensors, self.model, self.optimizer)
            self.step, self.curve = checkpoint.step, [dict(epoch) for epoch in checkpoint.curve]
            self._begin_epoch(checkpoint.loss, checkpoint.correct, checkpoint.seconds)

    def checkpoint(self) -> Checkpoint:
        """The state as it is, finite."""
        tensors = state_of(self.model, self.optimizer)
        loss = float(self.loss)
        if not math.isfinite(loss):
            raise self._diverged(loss)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise DivergedError("training diverged: a weight is NaN or infinite", LOWER_RATE)
        return Checkpoint(self.step, tensors, self.curve, loss, float(self.correct), self.seconds)

    def go(self, stop: int, steps: int | None, on_epoch: EpochCallback | None) -> None:
        """Trains up to a step of a budget of so many steps, or of the trunk of whatever budget."""
        whole = math.ceil((steps or stop) / self.steps_per_epoch)
        size = _batch(self.data, self.config)
        while self.step < stop:
            started = time.perf_counter()
            epoch, first = divmod(self.step, self.steps_per_epoch)
            last = min(self.steps_per_epoch, first + stop - self.step)
            order = self.draws.order(epoch, len(self.data.labels)).to(self.device)
            for chosen in torch.split(order[first * size : last * size], size):
                with self.quiet:
                    self._learn(chosen, self._factor(steps))
            self.seconds += time.perf_counter() - started
            if self.step % self.steps_per_epoch == 0:
                self._end_epoch(epoch + 1)
                if on_epoch is not None:
                    on_epoch(epoch + 1, whole)

    def _factor(self, steps: int | None) -> float:
        if steps is None:
            return trunk_factor(self.step, self.steps_per_epoch)
        return learning_rate_factor(self.step, steps, self.steps_per_epoch)

    def _learn(self, chosen: Tensor, factor: float) -> None:
        """One step on the samples of those numbers."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor
        images = self.data.normalise(self.data.images[chosen])
        images = augment(images, self.config.augmentation, self.draws.step(self.step))
        labels = self.data.labels[chosen]
        with fast_kernels(self.device, self.numerics.precision):
            logits = _forward(self.model, laid_out(images, self.model), self.numerics)
        loss: Tensor = self.criterion(logits.float(), labels)
        if self.distillation is not None:
            loss = _distilled(loss, logits.float(), self.distillation, chosen)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.after_step is not None:
            self.after_step()
        self.loss += loss.detach()
        self.correct += (logits.detach().argmax(1) == labels).sum()
        self.step += 1

    def _begin_epoch(self, loss: float = 0.0, correct: float = 0.0, seconds: float = 0.0) -> None:
        self.loss, self.correct = (torch.tensor(value, device=self.device) for value in (loss, correct))
        self.seconds = seconds

    def _end_epoch(self, number: int) -> None:
        """Notes the epoch of that number, from 1, in the curve."""
        mean = float(self.loss) / self.steps_per_epoch
        if not math.isfinite(mean):
            raise self._diverged(mean)
        accuracy = float(self.correct) / (self.steps_per_epoch * _batch(self.data, self.config))
        self.curve.append({"loss": mean, "train_accuracy": accuracy, "seconds": self.seconds})
        self._begin_epoch()

    def _diverged(self, loss: float) -> DivergedError:
        epoch = math.ceil(self.step / self.steps_per_epoch)
        return DivergedError(f"training diverged in epoch {epoch}: the loss is {loss}", LOWER_RATE)


def working_on(device: torch.device) -> Working:
    """What to hold for each batch, so that nobody's measurement is disturbed; a GPU's queue is ended for a measurer."""
    return working(settle=torch.cuda.synchronize if device.type == "cuda" else None)


def _batch(data: TrainingData, config: TrainingConfig) -> int:
    return min(config.batch_size, len(data.labels))


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
def predict_logits(
    model: nn.Module, data: TrainingData, precision: str = "float32", batch: int | None = None
) -> Tensor:
    """Logits (N×classes, float32) of the training images as they are, not augmented.

    A student that learns from them sees augmented images, so it is asked to answer a shifted or mirrored image as the
    teacher answers the plain one: cheaper by a teacher's pass over the data in each epoch, and only as right as the
    augmentation leaves an image's meaning alone. Where networks train in bfloat16 a teacher may answer in it too.
    """
    model.eval()
    quiet = working_on(data.images.device)
    parts = []
    for images in torch.split(data.images, batch or AT_ONCE[precision]):
        with quiet, fast_kernels(images.device, precision):
            parts.append(model(laid_out(data.normalise(images), model)).float())
    return torch.cat(parts)
