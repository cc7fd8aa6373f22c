"""What a training at a rung comes to at its end, compression included: learned from those that went through.

The logarithm of a network's error changes from a rung to the end of the training by what the training still brings, and
from there to the file that ships by what compression costs. Both are estimated together from measured trials by a ridge
regression (Hoerl & Kennard, 1970): for each rung an intercept and a slope, as whoever is behind there catches up, and
a term for each value of each compression choice but the one that leaves the network as it is. Terms are drawn to
nothing, slopes and those of pruning to what is usual. So a large network that is pruned to a small one's speed is not
taken, at a rung, for as accurate as the large one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.compression import choices_made
from nas.design import Value

# What pruning adds to the logarithm of the error before any trial tells, by the square of the ratio: on Fashion-MNIST
# half of the channels add 0.1 to 0.2, three quarters 0.25 to 0.3.
PRUNING_COSTS = 0.45
# By how much the change grows with the logarithm of the error at the rung before any trial tells, and how strongly it
# is drawn there: of 186 networks on Fashion-MNIST it was -0.22 after a third of an epoch, -0.13 after one of three.
CATCHING_UP, CATCHING_UP_RIDGE = -0.15, 0.25
# How strongly terms of compression are drawn to nothing, in trials: one that was seen once counts for four fifths.
RIDGE = 0.25
# The spread of changes of the logarithm of an error where it cannot be told: that of 116 networks on Fashion-MNIST.
# With much more, surrogates would make nothing of what was only begun.
GAIN_SPREAD = 0.06
# So many networks tell what the rest of a training brings, and so many how far that scatters.
FEWEST_GAINS, FEWEST_TO_SPREAD = 3, 5


class RungGains:
    """Changes of the logarithm of an error from rungs to the end, with what explains them.

    Compressions are named by numbers, the same for the same choices, so that what is expected of thousands of trials
    takes one look at a table. It does not matter in which order things are learned.
    """

    def __init__(self) -> None:
        self._compressions: dict[frozenset[tuple[str, Value]], int] = {}
        self._terms: dict[tuple[str, Value], int] = {}
        self._of_compression: list[list[int]] = []
        self._stood: defaultdict[str, dict[float, float]] = defaultdict(dict)
        self._ended: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
        self._networks: defaultdict[float, set[str]] = defaultdict(set)
        self._rows = np.empty((0, 4))
        self._count = 0
        self._fitted: tuple[int, _Fit] | None = None

    def compression(self, choices: Mapping[str, Value]) -> int:
        """The number of what is done to a network."""
        said = choices_made(choices)
        if said not in self._compressions:
            self._compressions[said] = len(self._compressions)
            terms = [self._terms.setdefault(term, len(self._terms)) for term in sorted(said, key=repr)]
            self._of_compression.append(terms)
        return self._compressions[said]

    def stood(self, network: str, epochs: float, error: float) -> None:
        """Adds a float network at a rung.

        Args:
            network: Its name.
            epochs: Of the rung.
            error: The logarithm of its error there.
        """
        if epochs not in self._stood[network]:
            self._stood[network][epochs] = error
            for compression, at_end in self._ended[network]:
                self._add(network, epochs, error, compression, at_end - error)

    def ended(self, network: str, compression: int, error: float) -> None:
        """Adds a measured file of a network; of how many compressions does not matter.

        Args:
            network: Its name.
            compression: By its number.
            error: The logarithm of the file's error.
        """
        self._ended[network].append((compression, error))
        for epochs, before in self._stood[network].items():
            self._add(network, epochs, before, compression, error - before)

    def _add(self, network: str, epochs: float, error: float, compression: int, change: float) -> None:
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty((max(256, self._count), 4))])
        self._rows[self._count] = epochs, error, compression, change
        self._count += 1
        self._networks[epochs].add(network)

    def expected(self, epochs: float, errors: np.ndarray, compressions: Sequence[int] | np.ndarray) -> np.ndarray:
        """The expected changes of N trials at a rung, with such logarithms of their errors there; NaN where too few
        went on from it to tell."""
        if len(self._networks[epochs]) < FEWEST_GAINS:
            return np.full(len(compressions), np.nan)
        middle, intercept, slope = self._fit().rungs[epochs]
        changes: np.ndarray = intercept + slope * (np.asarray(errors) - middle) + self.by_compression(compressions)
        return changes

    def by_compression(self, compressions: Sequence[int] | np.ndarray) -> np.ndarray:
        """What of the expected changes of N trials is by compression."""
        return np.asarray(self._fit().effects[np.asarray(compressions, dtype=int)])

    def spread(self, epochs: float) -> float:
        """How far changes lie from what is expected of them, as a standard deviation; NaN where too few tell."""
        networks = len(self._networks[epochs])
        if networks < FEWEST_GAINS:
            return float("nan")
        return GAIN_SPREAD if networks < FEWEST_TO_SPREAD else self._fit().spreads[epochs]

    def _fit(self) -> _Fit:
        state = self._count + len(self._of_compression)
        if self._fitted is None or self._fitted[0] != state:
            self._fitted = state, self._solved()
        return self._fitted[1]

    def _solved(self) -> _Fit:
        of_compression = np.zeros((len(self._of_compression), len(self._terms)))
        for place, terms in enumerate(self._of_compression):
            of_compression[place, terms] = 1.0
        usual = np.array([_usual(*term) for term in self._terms])
        if not self._count:
            return _Fit({}, of_compression @ usual, {})
        epochs, errors, compressions, changes = self._rows[: self._count].T
        rungs, at = np.unique(epochs, return_inverse=True)
        own = np.eye(len(rungs))[at]
        middles = own.T @ errors / own.sum(axis=0)
        behind = errors - middles[at]
        x = np.hstack([own, own * behind[:, None], of_compression[compressions.astype(int)]])
        start = np.concatenate([np.zeros(len(rungs)), np.full(len(rungs), CATCHING_UP), usual])
        penalty = np.diag([1e-9] * len(rungs) + [CATCHING_UP_RIDGE] * len(rungs) + [RIDGE] * len(usual))
        weights = start + np.linalg.solve(x.T @ x + penalty, x.T @ (changes - x @ start))
        residuals = changes - x @ weights
        spreads = {rung: _deviation(residuals[at == place]) for place, rung in enumerate(rungs.tolist())}
        lines = np.stack([middles, weights[: len(rungs)], weights[len(rungs) : 2 * len(rungs)]], axis=1)
        of_rungs = dict(zip(rungs.tolist(), map(tuple, lines.tolist()), strict=True))
        return _Fit(of_rungs, of_compression @ weights[2 * len(rungs) :], spreads)


@dataclass(frozen=True)
class _Fit:
    """By rung the mean error, the change there and its slope; the effect by compression; by rung what is left."""

    rungs: Mapping[float, tuple[float, ...]]
    effects: np.ndarray
    spreads: Mapping[float, float]


def _deviation(residuals: np.ndarray) -> float:
    """The standard deviation, by the median absolute one: a single network that fell behind does not count."""
    return 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))


def _usual(name: str, value: Value) -> float:
    """What a choice adds to the logarithm of the error before any trial tells."""
    return PRUNING_COSTS * value**2 if name == "pruning_ratio" and isinstance(value, float) else 0.0
