"""How well a number that is known without a clock agrees with the measured latency.

Kendall's τ-b (M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945) is the share of pairs
that two orders agree on, less the share that they disagree on, corrected for ties: 1 for the same order, 0 for none, −1
for the reverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.wording import ESTIMATE_WORDS

FLOPS = "flops"
# With fewer designs even the same order arises by chance more often than once in 20 times (5: 2 of 120 orders are ±1).
LEAST_DESIGNS = 5
TOLERANCE = 0.1  # an estimate within this share of the measured latency counts as right


@dataclass(frozen=True)
class Agreement:
    """How well a number known without a clock agrees with the measured latency.

    Args:
        name: Of the quantity: ``flops``, ``roofline_ms``.
        designs: How many have both.
        tau: Kendall's τ-b of the two; None where there are too few designs, or one of the two is the same for all.
        within: The share of the designs for which it is within ±10 % of the measured latency; None for FLOPs.
    """

    name: str
    designs: int
    tau: float | None
    within: float | None = None

    @property
    def title(self) -> str:
        """What it is made from, in words."""
        return ESTIMATE_WORDS.get(self.name, "FLOPs")


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's τ-b of two rankings; None for fewer than 5 values, or where all of one ranking are equal."""
    if len(first) < LEAST_DESIGNS or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


def within(estimated: Sequence[float], measured: Sequence[float]) -> float:
    """The share of estimates that differ from the measured value, greater than 0, by at most 10 % of it."""
    right = sum(abs(guess / value - 1) <= TOLERANCE for guess, value in zip(estimated, measured, strict=True))
    return right / len(measured)


def signed(value: float) -> str:
    """A coefficient with two decimals and a real minus sign: ``0.71``, ``−0.20``."""
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")
