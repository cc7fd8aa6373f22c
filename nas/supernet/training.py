"""Training a supernet: in each step the largest and the smallest network and others at random, of which the largest
teaches the rest.

This is the sandwich rule with in-place distillation (Yu and Huang, Universally Slimmable Networks, ICCV 2019,
arXiv:1903.05134): all networks of a step see the same images, their gradients add up in the shared weights, and the
classes that the largest one gives, softened, are what the others learn from beside the labels.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.augment import augment
from nas.design import Design, sha256_of
from nas.errors import DivergedError
from nas.recipe_sections import TrainingConfig
from nas.supernet.checkpoint import Kept, digest_of, read, restore_optimizer, restore_weights, state_of
from nas.supernet.shared import Supernet
from nas.train import (
    DECAY_SHARE,
    Numerics,
    TrainingData,
    fast_kernels,
    learning_rate_factor,
    seeded,
    steps_per_epoch,
    trunk_factor,
    working_on,
)
from nas.train.randomness import Draws

# Called after each step with the share that is done, from 0 to 1.
Progress = Callable[[float], None]
LOWER_RATE = "lower training.learning_rate"


@dataclass(frozen=True)
class SupernetBudget:
    """How long a supernet trains: so many epochs, or so many minutes.

    With a time limit the learning rate stays until 1 − ``DECAY_SHARE`` of the time has gone, and then falls over as
    many steps as make up the rest, so that the schedule is that of a training whose length was known. It takes as long
    as asked only as far as steps take the same time; and at least two steps.

    Args:
        epochs: Passes over the data; None where ``minutes`` is given.
        minutes: The time limit; None where ``epochs`` is given.
        subnets: Networks in each step, at least 2: the largest, the smallest, the others drawn at random.

    Raises:
        ValueError: Not exactly one of the two limits, one that is not positive, or fewer than 2 networks.
    """

    epochs: int | None = None
    minutes: float | None = None
    subnets: int = 4

    def __post_init__(self) -> None:
        given = [limit for limit in (self.epochs, self.minutes) if limit is not None]
        if len(given) != 1 or given[0] <= 0:
            raise ValueError(
                f"a supernet needs either epochs or minutes, greater than 0, but got {self.epochs} and {self.minutes}"
            )
        if self.subnets < 2:
            raise ValueError(f"a step needs at least 2 subnets, the largest and the smallest, but got {self.subnets}")


def train_supernet(
    supernet: Supernet,
    data: TrainingData,
    config: TrainingConfig,
    numerics: Numerics,
    budget: SupernetBudget,
    seed: int = 0,
    checkpoint: Path | None = None,
    on_progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """Trains a supernet in place and returns its curve: for each epoch the mean loss of the largest network, the mean
    loss of all others, the largest's accuracy on the (augmented) training batches, and the seconds that it took.

    Between networks it makes way for whoever measures on this machine (``nas.lease``). All random numbers follow from
    the seed and the step, so that a training which goes on from a checkpoint gives the same weights as one in one go.

    Args:
        supernet: As it was made; left on the device.
        data: What it learns.
        config: Batch size, losses, augmentation; ``distillation_weight`` and ``distillation_temperature`` say how the
            largest network teaches.
        numerics: Device, precision, threads.
        budget: How long, and how many networks in each step.
        seed: What all random numbers follow from.
        checkpoint: A file that is replaced at the end of each epoch and of the training, and from which it goes on
            where it is there already; a training that was completed is read from it.
        on_progress: Called after each step.
        clock: Gives seconds.

    Raises:
        DivergedError: The loss or a weight became NaN or infinite.
        StudyError: The checkpoint is damaged, or of another training.
    """
    with seeded(seed, numerics.threads):
        run = _Run(supernet, data, config, numerics, budget, seed, checkpoint, clock)
        run.go(on_progress)
    return run.curve


class _Run:
    """A training under way. The arguments are those of ``train_supernet``."""

    def __init__(
        self,
        supernet: Supernet,
        data: TrainingData,
        config: TrainingConfig,
        numerics: Numerics,
        budget: SupernetBudget,
        seed: int,
        checkpoint: Path | None,
        clock: Callable[[], float],
    ) -> None:
        self.supernet, self.data, self.config, self.numerics = supernet, data, config, numerics
        self.budget, self.seed, self.path, self.clock = budget, seed, checkpoint, clock
        self.device = torch.device(numerics.device)
        self.steps_per_epoch = steps_per_epoch(data, config)
        self.steps = None if budget.epochs is None else budget.epochs * self.steps_per_epoch
        self.draws = Draws(seed, self.device)
        self.quiet = working_on(self.device)
        weights = data.class_weights() if config.class_weights else None
        self.criterion = nn.CrossEntropyLoss(weight=weights, label_smoothing=config.label_smoothing)
        self.step, self.seconds, self.curve = 0, 0.0, list[dict[str, Any]]()
        self.identity = self._identity() if checkpoint is not None else ""
        kept = read(checkpoint, self.identity) if checkpoint is not None else None
        supernet.to(self.device)
        if kept is not None:
            restore_weights(supernet, kept.tensors)
            self.step, self.steps, self.seconds = kept.step, kept.steps, kept.seconds
            self.curve = [dict(epoch) for epoch in kept.curve]
        for design in (supernet.largest, supernet.smallest):
            supernet.parameters(design)  # so that the optimiser has what to begin with
        parameters = list(supernet.tensors.values())
        self.optimizer = torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        if kept is not None:
            restore_optimizer(supernet, self.optimizer, kept.tensors)
        self._begin_epoch()

    def go(self, on_progress: Progress | None) -> None:
        """Trains to the end."""
        while not self._done():
            epoch, first = divmod(self.step, self.steps_per_epoch)
            size = min(self.config.batch_size, len(self.data.labels))
            order = self.draws.order(epoch, len(self.data.labels)).to(self.device)
            for number in range(first, self.steps_per_epoch):
                started = self.clock()
                self._learn(order[number * size : (number + 1) * size])
                self.seconds += self.clock() - started
                self._look_at_the_time()
                if on_progress is not None:
                    on_progress(self._share())
                if self._done():
                    break
            self._end_epoch()

    def _done(self) -> bool:
        return self.steps is not None and self.step >= self.steps

    def _share(self) -> float:
        if self.steps is not None:
            return self.step / self.steps
        assert self.budget.minutes is not None
        return min(1 - DECAY_SHARE, self.seconds / (60 * self.budget.minutes))

    def _look_at_the_time(self) -> None:
        """With a time limit: once the trunk's share of it has gone, fixes how many steps there are in all."""
        if self.steps is None:
            assert self.budget.minutes is not None
            if self.seconds >= (1 - DECAY_SHARE) * 60 * self.budget.minutes:
                self.steps = max(self.step + 1, round(self.step / (1 - DECAY_SHARE)))

    def _learn(self, chosen: Tensor) -> None:
        """One step of all its networks on the samples of those numbers."""
        factor = (
            trunk_factor(self.step, self.steps_per_epoch)
            if self.steps is None
            else learning_rate_factor(self.step, self.steps, self.steps_per_epoch)
        )
        images = self.data.normalise(self.data.images[chosen])
        images = augment(images, self.config.augmentation, self.draws.step(self.step))
        labels = self.data.labels[chosen]
        self.optimizer.zero_grad(set_to_none=True)
        teacher: Tensor | None = None
        for design in self._designs():
            with self.quiet:
                logits = self._logits(design, images)
                loss = self._loss(logits, labels, teacher)
                loss.backward()  # type: ignore[no-untyped-call]
            if teacher is None:
                teacher = logits.detach()
                self.largest += loss.detach()
                self.correct += (teacher.argmax(1) == labels).sum()
            else:
                self.others += loss.detach()
                self.other_count += 1
        self._adopt()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        self.optimizer.step()
        self.step += 1

    def _designs(self) -> Iterator[Design]:
        """The networks of this step, the largest first."""
        yield self.supernet.largest
        yield self.supernet.smallest
        rng = random.Random(f"{self.seed} subnets {self.step}")
        for _ in range(self.budget.subnets - 2):
            yield self.supernet.draw(rng)

    def _logits(self, design: Design, images: Tensor) -> Tensor:
        with fast_kernels(self.device, self.numerics.precision):
            logits = self.supernet.forward(design, images)
        return logits.float()

    def _loss(self, logits: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        hard: Tensor = self.criterion(logits, labels)
        if teacher is None:
            return hard
        temperature, weight = self.config.distillation_temperature, self.config.distillation_weight
        student, soft = (torch.log_softmax(values / temperature, 1) for values in (logits, teacher))
        taught = nn.functional.kl_div(student, soft, reduction="batchmean", log_target=True) * temperature**2
        return (1 - weight) * hard + weight * taught

    def _adopt(self) -> None:
        """Hands to the optimiser the shared tensors that this step was the first to use."""
        trained = self.optimizer.param_groups[0]["params"]
        trained.extend(list(self.supernet.tensors.values())[len(trained) :])

    def _begin_epoch(self) -> None:
        self.largest, self.others, self.correct = (torch.zeros((), device=self.device) for _ in range(3))
        self.other_count, self.begun, self.before = 0, self.step, self.seconds

    def _end_epoch(self) -> None:
        """Notes the epoch, or the part of one with which a time limit ends, in the curve, and keeps the state."""
        steps = self.step - self.begun
        loss, others = float(self.largest) / steps, float(self.others) / self.other_count
        for value in (loss, others):
            if not math.isfinite(value):
                number = len(self.curve) + 1
                raise DivergedError(
                    f"the supernet's training diverged in epoch {number}: the loss is {value}", LOWER_RATE
                )
        if not all(bool(torch.isfinite(tensor).all()) for tensor in self.supernet.tensors.values()):
            raise DivergedError("the supernet's training diverged: a weight is NaN or infinite", LOWER_RATE)
        accuracy = float(self.correct) / (steps * min(self.config.batch_size, len(self.data.labels)))
        seconds = self.seconds - self.before
        self.curve.append({"loss": loss, "other_loss": others, "train_accuracy": accuracy, "seconds": seconds})
        self._begin_epoch()
        if self.path is not None:
            tensors = state_of(self.supernet, self.optimizer)
            Kept(self.step, self.steps, self.seconds, self.curve, tensors).write(self.path, self.identity)

    def _identity(self) -> str:
        """Of all that the weights depend on."""
        supernet = self.supernet
        network = {"space": supernet.space.digest, "input": list(supernet.input_shape), "seed": supernet.seed}
        return sha256_of(
            {
                **network,
                "data": digest_of(self.data),
                "config": self.config.model_dump(mode="json"),
                "numerics": self.numerics.to_json(),
                "budget": asdict(self.budget),
                "draws": self.seed,
            }
        )
