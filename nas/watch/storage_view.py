"""A copy of the sampler's memory for Optuna's dashboard, so that whatever is done there harms no study.

The copy has what the dashboard cannot find by itself: constraints under the one key that it looks at, and each trial's
design in words. Needs SQLite alone.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from nas.describe import describe
from nas.errors import StudyError
from nas.record import read_records
from nas.study import SHARED_FILE, StudyFolder

# Where Optuna keeps the violation of a constraint: one attribute for each, "constraints:size_bytes <= 1000000".
CONSTRAINT = "constraints:"
# Where its dashboard looks for them: the list of all. A trial of which none is above 0 is feasible.
DASHBOARD_CONSTRAINTS = "constraints"

TRIES, PAUSE_SECONDS = 5, 0.2  # where a search opens or closes the file in the moment that it is read


class StorageView:
    """A study's trials in a file of their own, brought up to date on demand.

    Args:
        folder: The study's.
        copy: The file to write; SQLite's own side files may come to lie beside it.

    Raises:
        StudyError: The study has no such trials yet, or they cannot be read.
    """

    def __init__(self, folder: StudyFolder, copy: Path) -> None:
        if not folder.is_study():
            raise StudyError(f"there is no study in {folder.path}", "run 'nas search RECIPE' first, or name its folder")
        if (folder.path / SHARED_FILE).exists():
            raise StudyError(
                f"{folder.path} belongs to a study that several searchers share, whose trials are in their database",
                "optuna-dashboard shows it by the database's URL",
            )
        if not folder.storage.is_file():
            raise StudyError(
                f"{folder.path} has no {folder.storage.name}, which a dashboard shows",
                "the next 'nas search' of that study makes it again",
            )
        self.folder = folder
        self.copy = copy
        self._seen: object = None
        self.refresh()

    def refresh(self) -> bool:
        """Copies the trials again if any changed, in one step as its readers see it; says whether it did.

        Raises:
            StudyError: They cannot be read.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        with contextlib.closing(self._read()) as memory, contextlib.closing(sqlite3.connect(self.copy)) as copy:
            _add_constraints(memory)
            _add_words(memory, self._words())
            memory.execute("UPDATE studies SET study_name = ?", (self.folder.path.resolve().name,))
            memory.commit()
            memory.backup(copy)
        self._seen = stamps
        return True

    def _read(self) -> sqlite3.Connection:
        """All of the file, in memory."""
        for attempt in range(TRIES):
            memory = sqlite3.connect(":memory:")
            try:
                with contextlib.closing(self._opened()) as source:
                    source.backup(memory)
                return memory
            except sqlite3.Error as error:
                memory.close()
                if attempt == TRIES - 1:
                    raise StudyError(
                        f"{self.folder.storage} cannot be read: {error}",
                        "delete that file; the next search makes it again from the trial records",
                    ) from error
            time.sleep(PAUSE_SECONDS)
        raise AssertionError("the last try returns or raises")

    def _opened(self) -> sqlite3.Connection:
        """The file opened so that nothing is made beside it.

        SQLite makes side files even for whoever only reads, unless they are there, as they are while a search is at
        work, or the file is said not to change, which it does not when no search is.
        """
        log = self.folder.storage.with_name(f"{self.folder.storage.name}-wal")
        how = "mode=ro" if log.exists() else "immutable=1"
        return sqlite3.connect(f"{self.folder.storage.absolute().as_uri()}?{how}", uri=True, timeout=10)

    def _words(self) -> Mapping[int, str]:
        """Designs in words by trial; of none where a record cannot be read, which the next look may."""
        try:
            return {record.number: describe(record.design) for record in read_records(self.folder.trials)}
        except StudyError:
            return {}

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return list(_stamps(self.folder.storage))


def _stamps(storage: Path) -> Iterator[tuple[int, int, int] | None]:
    """What tells that the file or its log is another than before."""
    for path in (storage, storage.with_name(f"{storage.name}-wal")):
        try:
            status = path.stat()
        except OSError:
            yield None
        else:
            yield status.st_ino, status.st_size, status.st_mtime_ns


def _add_constraints(memory: sqlite3.Connection) -> None:
    """Gives each trial the list of its violations, in the order in which they were told."""
    found: dict[int, list[float]] = {}
    rows = memory.execute(
        "SELECT trial_id, value_json FROM trial_system_attributes WHERE substr(key, 1, ?) = ? "
        "ORDER BY trial_system_attribute_id",
        (len(CONSTRAINT), CONSTRAINT),
    )
    for trial, value in rows:
        found.setdefault(trial, []).append(float(json.loads(value)))
    sql = "INSERT OR REPLACE INTO trial_system_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
    memory.executemany(sql, [(trial, DASHBOARD_CONSTRAINTS, json.dumps(values)) for trial, values in found.items()])
    memory.commit()


def _add_words(memory: sqlite3.Connection, words: Mapping[int, str]) -> None:
    """Gives each trial its design in words, as an attribute that the dashboard lists."""
    ids = dict(memory.execute("SELECT number, trial_id FROM trials"))
    sql = "INSERT OR REPLACE INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, 'words', ?)"
    memory.executemany(sql, [(ids[number], json.dumps(text)) for number, text in words.items() if number in ids])
    memory.commit()
