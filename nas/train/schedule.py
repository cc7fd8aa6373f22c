"""The learning rate over a training: warm-up, stable, decay (Hu et al., MiniCPM, 2024).

It rises over the first steps, stays, and falls linearly to zero over the last part. What comes before the decay, the
trunk, does not depend on the budget, so a longer budget continues the trunk of a shorter one.
"""

from __future__ import annotations

WARMUP_STEPS = 20
DECAY_SHARE = 0.4
# Rungs of less than an epoch come where there are fewer than so many of whole ones, and have so many steps at least.
ENOUGH_RUNGS, LEAST_STEPS = 2, 60


def trunk_factor(step: int, steps_per_epoch: int) -> float:
    """Warm-up, then stable: the learning rate at a step, relative to its peak, as if there were no end.

    Args:
        step: From 0.
        steps_per_epoch: The warm-up takes no longer than an epoch.
    """
    return min(1.0, (step + 1) / min(WARMUP_STEPS, steps_per_epoch))


def learning_rate_factor(step: int, steps: int, steps_per_epoch: int) -> float:
    """Warm-up, stable, decay: the learning rate at a step, relative to its peak.

    Args:
        step: From 0.
        steps: Steps in all. Only the decay, the last ``DECAY_SHARE`` of them, depends on it.
        steps_per_epoch: The warm-up takes no longer than an epoch.
    """
    return min(trunk_factor(step, steps_per_epoch), (steps - step) / _decay_steps(steps))


def trunk_steps(steps: int) -> int:
    """How many of so many steps come before the decay: those in which a longer training is the same."""
    return steps - _decay_steps(steps)


def whole_steps(epochs: float, steps_per_epoch: int) -> int:
    """The steps of a training of so many epochs, or of a part of one: at least one, but none of no epochs."""
    return max(1, round(epochs * steps_per_epoch)) if epochs > 0 else 0


def rung_epochs(epochs: int, reduction: int, steps_per_epoch: int = 1) -> tuple[float, ...]:
    """The rungs of a training of so many epochs: ``epochs`` over ``reduction``, over its square, …, ascending.

    They are whole numbers of epochs, but for those that a short training of much data is judged at (``ENOUGH_RUNGS``).
    The last, where the training ends, is not among them. Empty where there are fewer steps than can be judged.
    """
    rungs: list[float] = []
    last = epochs
    while (last := last // reduction) >= 1:
        rungs.append(last)
    while len(rungs) < ENOUGH_RUNGS:
        part = round((rungs[-1] if rungs else epochs) / reduction, 3)
        if whole_steps(part, steps_per_epoch) < LEAST_STEPS:
            break
        rungs.append(part)
    return tuple(reversed(rungs))


def _decay_steps(steps: int) -> int:
    return max(1, round(DECAY_SHARE * steps))
