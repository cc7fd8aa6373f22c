"""What is known of trials as arrays, which take no time to read off a study of thousands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


class Table:
    """Rows of numbers by the trials' numbers.

    Args:
        columns: How many numbers a row has.
    """

    def __init__(self, columns: int) -> None:
        self._rows = np.full((1024, columns), np.nan)
        self._there = np.zeros(1024, dtype=bool)

    @classmethod
    def of(cls, rows: Mapping[int, Sequence[float]], columns: int) -> Table:
        """Rows that are given by number."""
        table = cls(columns)
        for trial, row in rows.items():
            table[trial] = row
        return table

    @classmethod
    def of_rows(cls, trials: np.ndarray, rows: np.ndarray) -> Table:
        """N rows of N trials."""
        table = cls(rows.shape[1])
        if len(trials):
            table._grow(int(trials.max()))
            table._rows[trials], table._there[trials] = rows, True
        return table

    def __setitem__(self, trial: int, row: Sequence[float]) -> None:
        self._grow(trial)
        self._rows[trial] = row
        self._there[trial] = True

    def _grow(self, trial: int) -> None:
        """Makes room for a trial."""
        while trial >= len(self._there):
            self._rows = np.concatenate([self._rows, np.full_like(self._rows, np.nan)])
            self._there = np.concatenate([self._there, np.zeros_like(self._there)])

    @property
    def trials(self) -> np.ndarray:
        """The numbers of the trials that have a row, ascending."""
        return np.flatnonzero(self._there)

    def __len__(self) -> int:
        return int(self._there.sum())

    def __contains__(self, trial: int) -> bool:
        return trial < len(self._there) and bool(self._there[trial])

    def has(self, trials: np.ndarray) -> np.ndarray:
        """Which trials, all of them of numbers that others have got before, have a row."""
        there = np.zeros(len(trials), dtype=bool)
        within = trials < len(self._there)
        there[within] = self._there[trials[within]]
        return there

    def rows(self, trials: np.ndarray) -> np.ndarray:
        """The rows of trials that have one."""
        return np.take(self._rows, trials, axis=0)

    def with_row(self, trial: int, row: Sequence[float]) -> Table:
        """Another table with one row more, or another one."""
        table = Table(self._rows.shape[1])
        table._rows, table._there = self._rows.copy(), self._there.copy()
        table[trial] = row
        return table
