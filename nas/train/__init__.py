"""Training: one network, one budget, seeded, as fast as the hardware allows, to be left and taken up again."""

from __future__ import annotations

from nas.train.checkpoint import Checkpoint
from nas.train.data import Numerics, TrainingData, numerics_for
from nas.train.kernels import fast_kernels
from nas.train.randomness import seeded
from nas.train.schedule import (
    DECAY_SHARE,
    WARMUP_STEPS,
    learning_rate_factor,
    rung_epochs,
    trunk_factor,
    trunk_steps,
    whole_steps,
)
from nas.train.training import (
    Distillation,
    EpochCallback,
    predict_logits,
    steps_per_epoch,
    train,
    train_trunk,
    working_on,
)

__all__ = [
    "DECAY_SHARE",
    "WARMUP_STEPS",
    "Checkpoint",
    "Distillation",
    "EpochCallback",
    "Numerics",
    "TrainingData",
    "fast_kernels",
    "learning_rate_factor",
    "numerics_for",
    "predict_logits",
    "rung_epochs",
    "seeded",
    "steps_per_epoch",
    "train",
    "train_trunk",
    "trunk_factor",
    "trunk_steps",
    "whole_steps",
    "working_on",
]
