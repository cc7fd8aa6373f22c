"""The trials on the disk: an SQLite file as Optuna keeps it, which its dashboard opens, and a search goes on from."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import optuna
import sqlalchemy
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from nas.errors import StudyError
from nas.record import TrialRecord
from nas.search.optuna_tables import Writer, check_version, read_trials
from nas.search.quiet import quiet

STUDY_NAME = "search"
REMEDY = "delete that file; the next search makes it again from the trial records"


class Storage(Protocol):
    """Where trials are kept: the file of a study that one process owns, or the database of one that several share."""

    @property
    def place(self) -> str:
        """Where that is, for messages."""

    @property
    def remedy(self) -> str:
        """What to do where it is damaged."""

    @property
    def directions(self) -> list[StudyDirection]:
        """Of the objectives."""

    def trials(self) -> list[FrozenTrial]:
        """The trials that a search goes on from, by number."""

    def add(self, trial: FrozenTrial, record: TrialRecord | None = None) -> None:
        """Adds a trial, started or ended, under its number, which must be the next.

        Args:
            trial: The trial.
            record: Of one that ended, which a database keeps too; a file leaves that to the folder.

        Raises:
            StudyError: It is not the next.
        """

    def update(self, trial: FrozenTrial, record: TrialRecord | None = None) -> None:
        """Writes what became of a trial that was added before, and with it the record of one that ended."""


class Durable:
    """A study's trials in an SQLite file, which is made where it is missing; one process at a time may own it.

    Args:
        path: The file.
        directions: Of the objectives.
        names: Of the objectives, for the dashboard.

    Raises:
        StudyError: The file is no such storage.
    """

    def __init__(self, path: Path, directions: Sequence[Literal["minimize", "maximize"]], names: Sequence[str]) -> None:
        self.path = path
        with storage_errors(path), quiet():
            # The path goes in by the connection, since in a URL its special characters would mean something.
            storage = optuna.storages.RDBStorage("sqlite:///study", engine_kwargs={"creator": self._connect})
            self.study = optuna.create_study(
                study_name=STUDY_NAME, storage=storage, directions=directions, load_if_exists=True
            )
            if self.study.metric_names is None:
                self.study.set_metric_names(list(names))
            self.engine = storage.engine
            with self.engine.connect() as connection:
                check_version(connection)
            self.study_id = storage.get_study_id_from_name(STUDY_NAME)
            self.writer = Writer(
                self.engine,
                self.study_id,
                str(path),
                "let nobody else add trials to it; delete that file, and the next search makes it again",
            )

    def _connect(self) -> sqlite3.Connection:
        """Write-ahead logging with relaxed syncing is three times faster and safe against a killed process; what a
        power cut could lose is made again from the records.
        """
        connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    @property
    def place(self) -> str:
        return str(self.path)

    @property
    def remedy(self) -> str:
        return REMEDY

    @property
    def directions(self) -> list[StudyDirection]:
        return self.study.directions

    def trials(self) -> list[FrozenTrial]:
        with self.engine.connect() as connection:
            return read_trials(connection, self.study_id)

    def add(self, trial: FrozenTrial, record: TrialRecord | None = None) -> None:
        with self.engine.begin() as connection:
            self.writer.add(connection, trial)

    def update(self, trial: FrozenTrial, record: TrialRecord | None = None) -> None:
        with self.engine.begin() as connection:
            self.writer.update(connection, trial)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns what a damaged or full storage raises, at any moment, into an error that says how to mend it.

    Raises:
        StudyError: Instead of any exception of SQLite, SQLAlchemy or Optuna's storage.
    """
    try:
        yield
    except (sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        text = " ".join(f"{error} {error.__cause__ or ''}".split())
        if "disk is full" in text:
            raise StudyError(f"the disk is full at {path}", "make room; the same command goes on") from error
        raise StudyError(f"the sampler's memory {path} is damaged: {text[:160]}", REMEDY) from error
