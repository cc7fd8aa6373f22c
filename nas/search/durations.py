"""How long a trial will take, from how long others took: one number of seconds for its training, one for the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import solve

from nas.outcome import Outcome
from nas.record import TRAINING, TrialRecord

# With fewer trials than this the median stands for all.
FEWEST = 5
# Weight of the ridge on standardised columns.
RIDGE = 1.0
SHORTEST = 1e-3


class Durations:
    """Regressions of log seconds on encoded designs (ridge: there are few trials and many columns).

    Args:
        records: Trials of the study.
        encoded: N×D, one row for each.
        epochs: What a whole training has.
    """

    def __init__(self, records: Sequence[TrialRecord], encoded: np.ndarray, epochs: int) -> None:
        rows, whole, rest_rows, rest = [], [], [], []
        for record, row in zip(records, encoded, strict=True):
            if (seconds := training_seconds(record, epochs)) is not None:
                rows.append(row)
                whole.append(seconds)
            if record.outcome is Outcome.MEASURED:
                rest_rows.append(row)
                other = sum(stage.seconds for stage in record.stages if stage.stage == "supernet")
                rest.append(max(SHORTEST, record.seconds - other - (record.trained_seconds or 0.0)))
        self.training = _Regression(np.array(rows), np.array(whole))
        self.rest = _Regression(np.array(rest_rows), np.array(rest))

    def seconds(self, encoded: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Expected seconds of designs.

        Args:
            encoded: N×D.
            shares: How much of the training each has still before it: 0 where the network is trained already.
        """
        return np.asarray(shares * self.training.predict(encoded) + self.rest.predict(encoded))


def training_seconds(record: TrialRecord, epochs: int) -> float | None:
    """How long a whole training of a trial's network takes, of so many epochs; None where the trial does not tell."""
    if record.trained_seconds is None:
        return None
    done = [stage for stage in record.stages if stage.stage in TRAINING and not stage.cached]
    if all("epochs" in stage.detail for stage in done):  # they know what was begun before, and of decay branches
        trained = sum(float(stage.detail["epochs"]) for stage in done)
        return record.trained_seconds * epochs / trained if trained > 0 else None
    if record.origin == "promotion":
        return None
    return record.trained_seconds * epochs / (record.epochs or epochs)


class _Regression:
    """Seconds by ridge regression of their logarithm; their median while there are few, 1 where there are none."""

    def __init__(self, x: np.ndarray, seconds: np.ndarray) -> None:
        self.median = float(np.median(seconds)) if len(seconds) else 1.0
        self.slopes = None
        if len(seconds) >= FEWEST:
            logs = np.log(np.maximum(seconds, SHORTEST))
            self.middle, self.mean = x.mean(axis=0), float(logs.mean())
            centred = x - self.middle
            squares = centred.T @ centred + RIDGE * np.eye(x.shape[1])
            self.slopes = solve(squares, centred.T @ (logs - self.mean), assume_a="pos")
            self.bounds = float(logs.min()) - 1, float(logs.max()) + 1  # nothing is believed far beyond what was seen

    def predict(self, x: np.ndarray) -> np.ndarray:
        if self.slopes is None:
            return np.full(len(x), self.median)
        return np.asarray(np.exp(np.clip((x - self.middle) @ self.slopes + self.mean, *self.bounds)))
