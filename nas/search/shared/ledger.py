"""The ledger of a study that several searchers share: what each has, what the others found, and who died.

Every searcher has a folder with all records, so that each of them is a whole study; the database says which of them
count. A record is written into the folder first and then, if the trial is still this searcher's, into the database
together with what the sampler is told; what a searcher that died in between had written is handed in at its next
start. The lock of a turn saves work, no more: that numbers are given once, and results counted once, follows from
statements that check it.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from nas.errors import StudyError
from nas.recipe import Recipe
from nas.record import TrialRecord, read_records, record_path, write_record
from nas.search.ledger import original_of, with_records
from nas.search.optuna_bridge import Asked, Bridge
from nas.search.samplers import SamplerHints
from nas.search.shared.database import Database
from nas.search.shared.heartbeat import Heartbeat
from nas.search.shared.storage import Row, SharedStorage, TakenOverError, TurnLostError
from nas.space import SearchSpace
from nas.store import write_atomically
from nas.study import SHARED_FILE, StudyFolder, read_trials
from nas.wording import plural

T = TypeVar("T")

# Between two signs of life, and after how many that did not come a searcher is dead.
BEAT_SECONDS, BEATS_MISSED = 5.0, 12
# For so long a searcher that ends tries to say so, in seconds.
FAREWELL_SECONDS = 2.0


class SharedLedger:
    """One searcher of several.

    Args:
        database: Where the study is.
        name: Its name there.
        folder: This searcher's folder, which it has claimed.
        recipe: The study's.
        space: Where designs come from.
        inputs: Digests of what the recipe only names, and of what else must be the same for all searchers, by name.
        hints: As for the bridge.
        beat_seconds: Between two signs of life.

    Raises:
        StudyError: The database cannot be used, or has another study under this name.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        folder: StudyFolder,
        recipe: Recipe,
        space: SearchSpace,
        inputs: Mapping[str, str],
        hints: Callable[[], SamplerHints] | None = None,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self.name = name
        self.folder = folder
        self.recipe = recipe
        self.session = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.beat_seconds = beat_seconds
        objectives = recipe.parsed_objectives
        self.database = database
        try:
            check_name(folder, name)
            self.storage = SharedStorage(
                database,
                name,
                {"recipe": recipe.identity, **inputs},
                [objective.direction for objective in objectives],
                [objective.key for objective in objectives],
                self.session,
                BEATS_MISSED * beat_seconds,
            )
        except BaseException:
            database.close()
            raise
        self.bridge = Bridge(self.storage, recipe, space, hints)
        self.records: list[TrialRecord] = []
        self._heart = Heartbeat(database, self.session, beat_seconds)
        self._registered = False
        self._lost: set[int] = set()  # trials of which nothing is known but that they ended
        self._free: dict[int, Row] = {}  # trials whose searcher left or died
        self._attempts: dict[int, int] = {}
        self._own: set[int] = set()
        self._arrived: list[TrialRecord] = []
        self._orphans: list[Asked] = []

    def start(self) -> None:
        kept = read_records(self.folder.trials)
        self._heart.start()
        self._while_ours(lambda: self._join(kept))
        self.records = read_trials(self.folder, self.recipe)
        self._arrived = []
        self._orphans = [self.bridge.resume(number) for number in self.bridge.running()]

    def orphans(self) -> list[Asked]:
        given, self._orphans = self._orphans, []
        return given

    def in_turn(self, work: Callable[[], T]) -> T:
        def up_to_date() -> T:
            self._sync()
            return work()

        return self._while_ours(up_to_date)

    def take_over(self) -> Asked | None:
        for number, row in sorted(self._free.items()):
            del self._free[number]
            if self.storage.take_over(number, row.session):
                self._sync()  # its attempt
                return self.bridge.resume(number)
        return None

    def attempt(self, number: int) -> int:
        return self._attempts.get(number, 1)

    def finished(self, record: TrialRecord) -> bool:
        path = write_record(self.folder.trials, record)
        try:
            self.bridge.tell(record, original_of(record, self.records))
        except TakenOverError:
            path.unlink()
            self.bridge.elsewhere.add(record.number)
            return False
        self._own.add(record.number)
        self.records = with_records(self.records, [record])
        return True

    def arrived(self) -> list[TrialRecord]:
        given, self._arrived = self._arrived, []
        return given

    def is_own(self, number: int) -> bool:
        return number in self._own

    def rest(self, seconds: float) -> None:
        time.sleep(min(seconds, self.beat_seconds))

    def close(self) -> None:
        self._heart.stop()
        if self._registered:
            with suppress(StudyError):  # then it is found out by its silence
                self.storage.leave(FAREWELL_SECONDS)
        self.database.close()

    def _while_ours(self, work: Callable[[], T]) -> T:
        """Does work in a turn; again in another one where that was lost."""
        while True:
            with self.storage.turn(), suppress(TurnLostError):
                return work()

    def _sync(self) -> None:
        """Brings records and bridge up to what the database has.

        Raises:
            StudyError: A trial is missing there.
        """
        rows = self.storage.changes(self.bridge.known, self._unrecorded())
        self._free = {}
        news: list[TrialRecord] = []
        for row in rows:
            if row.number >= self.bridge.known:
                if row.number > self.bridge.known:
                    raise StudyError(f"{self.storage.place} lacks trial {self.bridge.known}", self.storage.remedy)
                self.bridge.trials.append(self.bridge.restored(row.number, row.params, row.notes))
            self._attempts[row.number] = row.attempt
            if row.searcher == self.storage.searcher:
                self._own.add(row.number)
            if row.record is not None:
                news.append(row.record)
            elif row.lost:
                self._lost.add(row.number)
            else:
                ours = row.session == self.session
                (self.bridge.elsewhere.discard if ours else self.bridge.elsewhere.add)(row.number)
                if row.free and not ours:
                    self._free[row.number] = row
        self._take_in(news)

    def _unrecorded(self) -> set[int]:
        """Trials that are known, but not what came of them."""
        return {*self.bridge.running(), *self.bridge.elsewhere, *self._lost}

    def _take_in(self, news: list[TrialRecord]) -> None:
        """Keeps the records of others."""
        records = with_records(self.records, news)
        for record in news:
            if not self._is_kept(record):
                write_record(self.folder.trials, record)
            if not self.bridge.heard(record.number):
                self.bridge.trials[record.number] = self.bridge.ended(record, original_of(record, records))
            self.bridge.elsewhere.discard(record.number)
            self._lost.discard(record.number)
            self._attempts.pop(record.number, None)
        if news:
            self.records = records
            self._arrived += news

    def _is_kept(self, record: TrialRecord) -> bool:
        """Whether the folder has this very record."""
        try:
            text = record_path(self.folder.trials, record.number).read_text()
        except FileNotFoundError:
            return False
        return text == json.dumps(record.to_json(), indent=1)

    def _join(self, kept: list[TrialRecord]) -> None:
        """Makes this folder one of the study's: takes up what an earlier process here left, and hands in what the
        folder has and the database has not, be it that it was not said any more, or that the database lost it.

        Raises:
            StudyError: The folder has trials of its own, or of another study, and the database has others.
        """
        uid, searcher, _ = _membership(self.folder)
        if uid != self.storage.uid:
            if kept and (others := self.storage.foreign(searcher)):
                raise StudyError(
                    f"{self.folder.path} has {len(kept)} trials of its own, {self.storage.place} {others} others",
                    "name another folder with --output, or another study with --study-name",
                )
            self._write_membership("", searcher)
        self.storage.register(searcher)
        self._registered = True
        self.storage.adopt()
        self._sync()
        for record in kept:
            if record.number in self._unrecorded():
                self._hand_in(record)
        if any(record.number >= self.bridge.known for record in kept):
            before = self.bridge.known
            self.bridge.rebuild(with_records(self.records, kept))
            there = {record.number for record in kept}
            self._lost |= set(range(before, self.bridge.known)) - there
            self._own |= there - set(range(before))
        self._write_membership(self.storage.uid, searcher)

    def _hand_in(self, record: TrialRecord) -> None:
        """Gives the database a record that it lacks, unless somebody else evaluates the trial now."""
        number = record.number
        if self.bridge.heard(number):
            self.storage.recover(record)
        elif number in self.bridge.elsewhere:
            record_path(self.folder.trials, number).unlink()
        else:
            self.finished(record)

    def _write_membership(self, uid: str, searcher: str) -> None:
        content = json.dumps({"study": uid, "searcher": searcher, "name": self.name}, indent=1)
        write_atomically(self.folder.path / SHARED_FILE, content.encode())


def check_name(folder: StudyFolder, name: str) -> None:
    """Makes sure that a folder has no trials of a study of another name.

    A study of the same name may be another one all the same: the database lost it, and is filled from the folder.

    Raises:
        StudyError: It has.
    """
    _, _, own = _membership(folder)
    if own not in ("", name) and (kept := len(read_records(folder.trials))):
        raise StudyError(
            f"{folder.path} has {plural(kept, 'trial')} of the study '{own}', not of '{name}'",
            f"name another folder with --output, or go on with --study-name {shlex.quote(own)}",
        )


def _membership(folder: StudyFolder) -> tuple[str, str, str]:
    """Of the study that a folder is of: its unique id, the name that the folder has there (a new one where it is of
    none), and the study's name. Empty where unknown.

    Raises:
        StudyError: The file that says so is damaged.
    """
    path = folder.path / SHARED_FILE
    try:
        known = json.loads(path.read_text())
        return str(known["study"]), str(known["searcher"]), str(known.get("name", ""))
    except FileNotFoundError:
        return "", f"{socket.gethostname()}:{secrets.token_hex(4)}", ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path} cannot be read: {error}", "name another folder with --output; all trials come there too"
        ) from error
