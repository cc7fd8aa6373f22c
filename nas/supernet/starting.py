"""Whether a supernet's networks are better fine-tuned from inherited weights or trained anew, decided by trying both.

Fine-tuning is mostly cheaper and, after a long training of the supernet, as good; after a short one it starts from
weights that had to serve all. Which holds is measured on a few designs that are trained in both ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nas.design import Design

# Errors fall about with the seconds to the power of -0.15 where learning curves are power laws (Hestness et al., Deep
# Learning Scaling is Predictable, Empirically, arXiv:1712.00409, gives exponents of 0.07 to 0.35): a doubling takes
# away a tenth of them.
WORTH = 0.1


@dataclass(frozen=True)
class Tried:
    """What came of training a design in one way.

    Args:
        design: Which.
        accuracy: Measured, from 0 to 1.
        seconds: What it took, greater than 0.
    """

    design: Design
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Decision:
    """Which way to go on with.

    Args:
        way: The better for its cost.
        designs: How many were trained in both ways.
        errors_ratio: Errors of retrained networks by those of fine-tuned ones (geometric mean); below 1 retraining is
            more accurate.
        seconds_ratio: Seconds of retraining by those of fine-tuning (geometric mean).
        reason: In words.
    """

    way: Literal["finetune", "retrain"]
    designs: int
    errors_ratio: float
    seconds_ratio: float
    reason: str


def better_for_its_cost(
    retrained: Sequence[Tried], finetuned: Sequence[Tried], samples: int, worth: float = WORTH
) -> Decision | None:
    """Which of the two is better for its cost.

    One that is no dearer and at least as accurate is. Otherwise the dearer one must take away at least the share
    ``worth`` of the errors for each doubling of the seconds.

    Args:
        retrained: Designs trained from random weights.
        finetuned: Designs trained from inherited weights; only those that stand in both are compared.
        samples: Images that the accuracies are of. Half an error is added to each count, so that none is without.
        worth: Between 0 and 1.

    Returns:
        None where no design was trained in both ways.

    Raises:
        ValueError: An accuracy is not between 0 and 1, seconds or samples are not positive, or ``worth`` is out of
            range.
    """
    _check(retrained, finetuned, samples, worth)
    others = {tried.design: tried for tried in finetuned}
    pairs = [(tried, others[tried.design]) for tried in retrained if tried.design in others]
    if not pairs:
        return None
    errors = _mean_log([(_errors(anew, samples), _errors(tuned, samples)) for anew, tuned in pairs])
    seconds = _mean_log([(anew.seconds, tuned.seconds) for anew, tuned in pairs])
    # The logarithm of the errors that each way is charged for beside its own: its seconds, at their worth in errors.
    charge = -math.log2(math.exp(seconds)) * math.log(1 - worth)
    way: Literal["finetune", "retrain"] = "retrain" if errors + charge < 0 else "finetune"
    ratio, dearer = math.exp(errors), math.exp(seconds)
    reason = (
        f"over {len(pairs)} designs trained in both ways, retraining makes {ratio:.2f} times the errors of fine-tuning "
        f"and takes {dearer:.2f} times as long; a doubling of the time is worth {worth:.0%} of the errors"
    )
    return Decision(way, len(pairs), ratio, dearer, reason)


def _check(retrained: Sequence[Tried], finetuned: Sequence[Tried], samples: int, worth: float) -> None:
    for tried in (*retrained, *finetuned):
        if not 0 <= tried.accuracy <= 1:
            raise ValueError(f"an accuracy must be from 0 to 1, but got {tried.accuracy}")
        if not tried.seconds > 0:
            raise ValueError(f"seconds must be greater than 0, but got {tried.seconds}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, but got {samples}")
    if not 0 < worth < 1:
        raise ValueError(f"'worth' must be between 0 and 1, but got {worth}")


def _errors(tried: Tried, samples: int) -> float:
    return (1 - tried.accuracy) * samples + 0.5


def _mean_log(pairs: Sequence[tuple[float, float]]) -> float:
    """The mean logarithm of the first by the second."""
    return sum(math.log(first / second) for first, second in pairs) / len(pairs)
