"""What else there was to do when a new design was chosen, and how much of its promise is left once its costs are known.

The best of thousands of designs, by what is expected of them, is one of which too much is expected: its costs come out
higher when they are looked at, and then something else is worth more after all. How much of what they promised was left
on average is held against the next ones, so that fewer looks are for nothing.
"""

from __future__ import annotations

from collections import OrderedDict, deque

# Of so many of the latest new designs it is remembered what else there was to do; workers have several under way.
MOST = 64
# So many of the latest looks tell how much of a promise is left, and as many count in which all of it was.
LATEST, PRIOR = 16, 4
# No look counts for more than this: a promise that was nothing may be kept very many times over.
MOST_KEPT = 1.5


class Rivals:
    """The new designs of one search that were chosen lately."""

    def __init__(self) -> None:
        self._chosen: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._kept: deque[float] = deque(maxlen=LATEST)

    def chosen(self, digest: str, promise: float, rival: float) -> None:
        """Notes that a new design was chosen.

        Args:
            digest: The design's.
            promise: What it was worth, by what is expected of it.
            rival: What the best of all else was worth.
        """
        self._chosen[digest] = promise, rival
        while len(self._chosen) > MOST:
            self._chosen.popitem(last=False)

    def of(self, digest: str) -> float | None:
        """What the best of all else was worth when a design was chosen; None where that is not known."""
        return self._chosen[digest][1] if digest in self._chosen else None

    def looked(self, digest: str, worth: float) -> None:
        """Notes what a chosen design is worth now that its costs are known."""
        promise, _ = self._chosen[digest]
        if promise > 0:
            self._kept.append(min(MOST_KEPT, worth / promise))

    @property
    def kept(self) -> float:
        """Which share of a promise is left after a look, 0 to 1."""
        return min(1.0, (PRIOR + sum(self._kept)) / (PRIOR + len(self._kept)))
