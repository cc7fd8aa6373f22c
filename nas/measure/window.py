"""A window of samples, taken in parts with a look at the machine after each, and the verdict on it.

A neighbour on the same core may come and go ten times a second, so a window is not taken in one go: what nothing
disturbed of it counts, and what was disturbed is taken again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from nas.measure.clock import NANOSECONDS_PER_MS, Policy, Summary, Timed, sample_timed, summarise, troubles_of
from nas.measure.quiet import Look, Surroundings, joined

# As many whole windows are taken at most, until one is undisturbed: neighbours on a shared machine come and go, and a
# second look costs less than a wrong number.
MAXIMUM_WINDOWS = 3
# Parts take so long at least, have so many samples, and are so many to a window at most.
PART_MS, PART_SAMPLES, MOST_PARTS = 30.0, 20, 50
# What is undisturbed counts where it makes this share of a window, and has the samples of a whole one.
ENOUGH_UNDISTURBED = 0.25


class Watcher(Protocol):
    """Looks at the machine around a part; ``nas.measure.quiet.Watch`` is the real one."""

    def look(self) -> Look: ...

    def between(self, first: Look, second: Look) -> Surroundings: ...


@dataclass(frozen=True)
class Window:
    """The samples that count, in nanoseconds and in the order taken, and what else the machine did meanwhile."""

    samples_ns: np.ndarray
    summary: Summary
    surroundings: Surroundings

    @property
    def troubles(self) -> tuple[str, ...]:
        """Names of all thresholds that were exceeded, of the samples and of the machine."""
        return (*self.summary.troubles, *self.surroundings.troubles)


@dataclass(frozen=True)
class Taken:
    """What came of sampling.

    Args:
        window: What counts of it.
        windows: How many windows' time it took.
        calm: Whether anything was undisturbed, so that waiting for more of it is not in vain.
    """

    window: Window
    windows: int
    calm: bool


@dataclass(frozen=True)
class _Part:
    samples_ns: np.ndarray
    milliseconds: float
    troubles: tuple[str, ...]
    spread: float
    surroundings: Surroundings

    @classmethod
    def of(cls, samples_ns: np.ndarray, surroundings: Surroundings) -> _Part:
        first, median, third = (float(value) for value in np.percentile(samples_ns, [25, 50, 75]))
        spread = (third - first) / median if median > 0 else 0.0
        troubles = (*troubles_of(samples_ns), *surroundings.troubles)
        return cls(samples_ns, float(samples_ns.sum()) / NANOSECONDS_PER_MS, troubles, spread, surroundings)

    @property
    def badness(self) -> tuple[bool, float, float]:
        """By which parts are ordered, the least disturbed first: pace before scatter, as a slow spell scatters less
        than a fast one beside a neighbour."""
        return bool(self.troubles), round(self.surroundings.slowdown, 1), self.spread


def take_window(timed: Timed, policy: Policy, watch: Watcher, batch: int, most_windows: int = MAXIMUM_WINDOWS) -> Taken:
    """Samples a call, part by part, until what is undisturbed makes a window, or ``most_windows`` were taken.

    Then what is undisturbed counts; where that is too little, the least disturbed parts that are as much as would have
    been enough.

    Args:
        timed: The call, which gives its own duration.
        policy: When a window is whole.
        watch: Looks at the machine around each part.
        batch: Images in one call.
        most_windows: As many windows are taken at most.

    Raises:
        ValueError: The clock is too coarse for the call.
    """
    part = replace(
        policy,
        minimum_ms=min(policy.minimum_ms, max(PART_MS, policy.minimum_ms / MOST_PARTS)),
        minimum_samples=min(policy.minimum_samples, PART_SAMPLES),
    )
    parts: list[_Part] = []
    of_one = 0  # parts that the first window took
    before = watch.look()
    while True:
        samples_ns = sample_timed(timed, replace(part, warmup_ms=0.0) if parts else part)
        after = watch.look()
        parts.append(_Part.of(samples_ns, watch.between(before, after)))
        before = after
        if not of_one and _makes(parts, policy):
            of_one = len(parts)
        calm = [each for each in parts if not each.troubles]
        if of_one and _makes(calm, policy) and not _troubles_of_all(calm):
            break
        if of_one and len(parts) >= of_one * most_windows:
            break
    kept = calm if _makes(calm, policy, ENOUGH_UNDISTURBED) else _least_disturbed(parts, policy)
    samples_ns = np.concatenate([each.samples_ns for each in kept])
    window = Window(samples_ns, summarise(samples_ns, batch), joined([each.surroundings for each in kept]))
    return Taken(window, max(1, int(len(parts) / of_one + 0.5)), bool(calm))


def _makes(parts: Sequence[_Part], policy: Policy, share: float = 1.0) -> bool:
    """Whether parts take as long as such a share of a window, and have the samples of a whole one."""
    spent = sum(part.milliseconds for part in parts)
    enough = sum(len(part.samples_ns) for part in parts) >= policy.minimum_samples or spent >= policy.maximum_ms
    return bool(parts) and spent >= share * policy.minimum_ms and enough


def _troubles_of_all(parts: Sequence[_Part]) -> tuple[str, ...]:
    """What parts tell together that each is too short for: a drift from one to the other, a load of a few ticks."""
    samples = np.concatenate([part.samples_ns for part in parts])
    return (*troubles_of(samples), *joined([part.surroundings for part in parts]).troubles)


def _least_disturbed(parts: Sequence[_Part], policy: Policy) -> list[_Part]:
    """As many as would be enough if they were undisturbed, in the order taken: more would only be more disturbed."""
    kept: list[int] = []
    for place in sorted(range(len(parts)), key=lambda place: parts[place].badness):
        if not _makes([parts[place] for place in kept], policy, ENOUGH_UNDISTURBED):
            kept.append(place)
    return [parts[place] for place in sorted(kept)]
