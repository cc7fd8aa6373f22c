"""What is learned from a study's records one by one: those of before are not gone through again at each trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from nas.record import TrialRecord

S = TypeVar("S")


class Growing(Generic[S]):
    """Something that is brought up to date with the records that are new; where others are gone it starts again.

    Args:
        start: Gives it as it is without records.
        learn: Adds records. The order must not matter: of workers the later trial may end first.
    """

    def __init__(self, start: Callable[[], S], learn: Callable[[S, Sequence[TrialRecord]], None]) -> None:
        self._start = start
        self._learn = learn
        self._state = start()
        self._seen: list[TrialRecord] = []

    def of(self, records: Sequence[TrialRecord]) -> S:
        """What these records, each of a number of its own, tell; not to be changed, nor kept until there are more."""
        records = list(records)
        new = records[len(self._seen) :]
        if records[: len(self._seen)] != self._seen:  # lists take no time to compare the same objects
            known = {record.number: record for record in self._seen}
            new = [record for record in records if known.get(record.number) is not record]
            if len(records) - len(new) < len(known):
                self._state, new = self._start(), records
        try:
            self._learn(self._state, new)
        except BaseException:  # half of them may be learned
            self._state, self._seen = self._start(), []
            raise
        self._seen = records
        return self._state
