"""Who has which trial, and what came of it: between the loop on one side and records and the sampler on the other.

A study in a folder has one owner, who has all trials; one in a database has several searchers (see
``nas.search.shared``). The loop does the same for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from nas.errors import StudyError
from nas.record import TrialRecord, write_record
from nas.search.optuna_bridge import Asked, Bridge
from nas.study import SHARED_FILE, StudyFolder

T = TypeVar("T")


class Ledger(Protocol):
    """Used by one thread: ``start`` first, ``close`` last, whatever happened between."""

    @property
    def bridge(self) -> Bridge:
        """The sampler."""

    @property
    def records(self) -> list[TrialRecord]:
        """All trials that ended, by number. It is another list whenever there are more."""

    def start(self) -> None:
        """Brings records and the sampler's memory in line.

        Raises:
            StudyError: They cannot be: of another study, damaged, not reached.
        """

    def orphans(self) -> list[Asked]:
        """Trials to begin with: asked here before, and ended by nobody. Each is given once."""

    def in_turn(self, work: Callable[[], T]) -> T:
        """Does what asks for a trial while no other searcher asks; ``records`` and ``bridge`` are up to date within it.

        Args:
            work: Asks the bridge for one trial at most. It is done again where it was in vain, so what it changes
                besides it must change anew each time.

        Returns:
            What it gave.
        """

    def take_over(self) -> Asked | None:
        """Within a turn: a trial whose searcher died, which is ours from now on; None where there is none."""

    def attempt(self, number: int) -> int:
        """How many searchers began a trial that is ours, from 1: more than one where the others died over it."""

    def finished(self, record: TrialRecord) -> bool:
        """Keeps the record of a trial that was asked here, and tells the sampler of it unless it has heard.

        Returns:
            Whether it counts: not if the trial was taken over meanwhile, since this process was thought dead. Then its
            record is somebody else's to write.

        Raises:
            OSError: The record cannot be written.
            StudyError: The storage refuses.
        """

    def arrived(self) -> list[TrialRecord]:
        """The records that others wrote and that came here since this was last asked, by number."""

    def is_own(self, number: int) -> bool:
        """Whether the time that a trial that ended took was this folder's."""

    def rest(self, seconds: float) -> None:
        """Lets seconds pass while others finish what they have."""

    def close(self) -> None:
        """Leaves the study; what is not finished is for whoever comes next."""


class LocalLedger:
    """The ledger of a study that lies in a folder, which this process owns: every trial is its own.

    Args:
        folder: The folder.
        bridge: Of the storage there.
        records: Its trials.

    Raises:
        StudyError: The study is one that several searchers share.
    """

    def __init__(self, folder: StudyFolder, bridge: Bridge, records: list[TrialRecord]) -> None:
        refuse_shared(folder)
        self.folder = folder
        self.bridge = bridge
        self.records = records
        self._orphans: list[Asked] = []

    def start(self) -> None:
        self.bridge.rebuild(self.records)
        known = {record.number: record for record in self.records}
        for number in self.bridge.running():
            if number in known:
                self.bridge.resume(number)
                self.bridge.tell(known[number], original_of(known[number], self.records))
        self._orphans = self.bridge.told_without_record(known)
        self._orphans += [self.bridge.resume(number) for number in self.bridge.running()]

    def orphans(self) -> list[Asked]:
        given, self._orphans = self._orphans, []
        return given

    def in_turn(self, work: Callable[[], T]) -> T:
        return work()

    def take_over(self) -> Asked | None:
        return None

    def attempt(self, number: int) -> int:
        return 1

    def finished(self, record: TrialRecord) -> bool:
        write_record(self.folder.trials, record)
        self.records = with_records(self.records, [record])
        if not self.bridge.heard(record.number):
            self.bridge.tell(record, original_of(record, self.records))
        return True

    def arrived(self) -> list[TrialRecord]:
        return []

    def is_own(self, number: int) -> bool:
        return True

    def rest(self, seconds: float) -> None:
        raise AssertionError("there is nobody to wait for")

    def close(self) -> None:
        pass


def refuse_shared(folder: StudyFolder) -> None:
    """Makes sure that a folder does not belong to a study that several searchers share: numbers would be given twice.

    Raises:
        StudyError: It does.
    """
    if (folder.path / SHARED_FILE).exists():
        raise StudyError(
            f"{folder.path} belongs to a study that several searchers share",
            f"name its database with --storage; to go on alone, delete {folder.path / SHARED_FILE}",
        )


def with_records(records: list[TrialRecord], more: list[TrialRecord]) -> list[TrialRecord]:
    """Records and more of them, by number; of two of a number the later one counts."""
    if not records or all(record.number > records[-1].number for record in more):  # as it is nearly always
        return [*records, *sorted(more, key=lambda record: record.number)]
    by_number = {record.number: record for record in (*records, *more)}
    return [by_number[number] for number in sorted(by_number)]


def original_of(record: TrialRecord, records: list[TrialRecord]) -> TrialRecord | None:
    """The trial whose values a duplicate is given; None for any other."""
    if record.duplicate_of is None:
        return None
    return next(other for other in records if other.number == record.duplicate_of)
