"""The trials on the disk: an SQLite file as Optuna keeps it, which its dashboard opens, and a search goes on from.

Optuna reads it. Writing a trial of 20 parameters through Optuna takes over 100 statements in six transactions; here it
is a few in one when it starts and one when it ends, into the same tables, whose version is checked.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import optuna
import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial

from nas.errors import StudyError
from nas.search.quiet import quiet

STUDY_NAME = "search"
# The version of Optuna's tables that is written here; theirs since 3.2.
TABLES = 12


class Durable:
    """A study's trials in an SQLite file, which is made where it is missing.

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
            self._study_id = storage.get_study_id_from_name(STUDY_NAME)
            with self.engine.connect() as connection:
                version = connection.exec_driver_sql("SELECT schema_version FROM version_info").scalar_one()
        if version != TABLES:
            raise StudyError(
                f"Optuna {optuna.__version__} keeps trials in tables of version {version}, but only {TABLES} is known",
                "install optuna 5.0",
            )

    def _connect(self) -> sqlite3.Connection:
        """Write-ahead logging with relaxed syncing is three times faster and safe against a killed process; what a
        power cut could lose is made again from the records.
        """
        connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    def add(self, trial: FrozenTrial) -> None:
        """Adds a trial, started or ended, under its number, which must be the next.

        Raises:
            StudyError: It is not, since another process added trials meanwhile.
        """
        with self.engine.begin() as connection:
            sql = "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) VALUES (?,?,?,?,?)"
            times = (_time(trial.datetime_start), _time(trial.datetime_complete))
            row = connection.exec_driver_sql(sql, (trial.number, self._study_id, trial.state.name, *times)).lastrowid
            sql = "SELECT COUNT(*) FROM trials WHERE study_id = ?"
            count = connection.exec_driver_sql(sql, (self._study_id,)).scalar_one()
            if count != trial.number + 1:
                raise StudyError(
                    f"{self.path} holds {count - 1} trials, but the next is trial {trial.number}",
                    "let nobody else add trials to it; delete that file, and the next search makes it again",
                )
            self._write(connection, row, trial)

    def update(self, trial: FrozenTrial) -> None:
        """Writes what became of a trial that was added before."""
        with self.engine.begin() as connection:
            where = (self._study_id, trial.number)
            sql = "SELECT trial_id FROM trials WHERE study_id = ? AND number = ?"
            row = connection.exec_driver_sql(sql, where).scalar_one()
            self._write(connection, row, trial)
            sql = "UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ?"
            connection.exec_driver_sql(sql, (trial.state.name, _time(trial.datetime_complete), row))

    @staticmethod
    def _write(connection: sqlalchemy.Connection, row: int, trial: FrozenTrial) -> None:
        """Parameters, attributes and values; what is there already is replaced by the same or newer."""
        params = [
            (row, name, distribution.to_internal_repr(trial.params[name]), distribution_to_json(distribution))
            for name, distribution in trial.distributions.items()
        ]
        values = [(row, index, value, "FINITE") for index, value in enumerate(trial.values or ())]
        for table, columns, rows in (
            ("trial_params", ("trial_id", "param_name", "param_value", "distribution_json"), params),
            ("trial_user_attributes", ("trial_id", "key", "value_json"), _attributes(row, trial.user_attrs)),
            ("trial_system_attributes", ("trial_id", "key", "value_json"), _attributes(row, trial.system_attrs)),
            ("trial_values", ("trial_id", "objective", "value", "value_type"), values),
        ):
            if rows:
                names, places = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
                connection.exec_driver_sql(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({places})", rows)


def _attributes(row: int, attributes: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(row, key, json.dumps(value)) for key, value in attributes.items()]


def _time(moment: datetime | None) -> str | None:
    """A moment as SQLAlchemy keeps it in SQLite."""
    return None if moment is None else moment.isoformat(sep=" ", timespec="microseconds")


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
        raise StudyError(
            f"the sampler's memory {path} is damaged: {text[:160]}",
            "delete that file; the next search makes it again from the trial records",
        ) from error
