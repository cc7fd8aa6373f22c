"""Which trials cannot be told apart: what their intervals leave open, nobody should read into their numbers.

Every accuracy has the sampling error of its images, every latency its measured interval, both at 95 %. The difference
of two such numbers has an interval of its own: its lower end lies below the difference by the root of the summed
squares of the two arms that face each other (R. G. Newcombe, "Interval estimation for the difference between
independent proportions", Statistics in Medicine 17, 1998; G. Y. Zou and A. Donner, Statistics in Medicine 27, 2008).
Where that reaches 0 the two are not told apart. Two designs that are scored on the same images differ by less than
this allows for, so that rather too many are called equal than too few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.objectives import Objective
from nas.outcome import Quantity
from nas.record import TrialRecord
from nas.scoring import Z_95


def told_apart(first: Quantity, second: Quantity, spread: float | None = None) -> bool:
    """Whether two numbers differ by more than chance, at 95 %.

    Args:
        first: Of one design; without an interval it is exact.
        second: The same quantity of the other design.
        spread: Standard deviation of the quantity from training seed to training seed, in its own unit; None where no
            training was repeated, so that what a seed does is not known and not allowed for.

    Raises:
        ValueError: The spread is negative.
    """
    if spread is not None and spread < 0:
        raise ValueError(f"a standard deviation must be at least 0, but got {spread}")
    above, below = (first, second) if first.value >= second.value else (second, first)
    arms = (
        above.value - (above.value if above.low is None else above.low),
        (below.value if below.high is None else below.high) - below.value,
        Z_95 * math.sqrt(2) * (spread or 0.0),  # each of the two was trained once
    )
    return above.value - below.value > math.hypot(*arms)


def tied_with(
    record: TrialRecord,
    others: Sequence[TrialRecord],
    quality: Objective,
    cost: Objective,
    spread: float | None = None,
) -> list[TrialRecord]:
    """Those of the others that cannot be told apart from a trial in quality nor in cost, in their order.

    Args:
        record: The trial; it is never among what is given.
        others: Measured trials; one that lacks one of the numbers is told apart.
        quality: Such as accuracy.
        cost: Such as a latency.
        spread: Of the quality, see ``told_apart``.
    """
    return [
        other
        for other in others
        if other.number != record.number
        and _alike(record.quantity(quality.key), other.quantity(quality.key), spread)
        and _alike(record.quantity(cost.key), other.quantity(cost.key), None)
    ]


def smallest_of_tied(
    leader: TrialRecord,
    candidates: Sequence[TrialRecord],
    quality: Objective,
    cost: Objective,
    spread: float | None = None,
) -> TrialRecord:
    """Of those that cannot be told apart from the leader, itself included, the one with the smallest file.

    Of equal files the leader, then the lower number. One whose size is not known does not take the leader's place.

    Args:
        leader: What a rule takes by the numbers as they stand.
        candidates: What it was taken from.
        quality: As for ``tied_with``.
        cost: As for ``tied_with``.
        spread: As for ``tied_with``.
    """
    tied = [leader, *tied_with(leader, candidates, quality, cost, spread)]

    def rank(record: TrialRecord) -> tuple[float, bool, int]:
        size = record.quantity("size_bytes")
        return size.value if size is not None else math.inf, record.number != leader.number, record.number

    return min(tied, key=rank)


def _alike(first: Quantity | None, second: Quantity | None, spread: float | None) -> bool:
    return first is not None and second is not None and not told_apart(first, second, spread)
