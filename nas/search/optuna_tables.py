"""Optuna's tables, as far as trials are written and read by hand; the same statements for SQLite and PostgreSQL.

Writing a trial of 20 parameters through Optuna takes over 100 statements in six transactions; here it is a few in one
when it starts and one when it ends. Reading 10,000 trials through Optuna takes 400 MB, as each parameter of each trial
gets a distribution of its own.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Column, Connection, DateTime, Engine, Enum, Float, Integer, String, Table, Text
from sqlalchemy.dialects import postgresql, sqlite

from nas.errors import StudyError

# The version of Optuna's tables that is written here; theirs since 3.2.
VERSION = 12

_METADATA = sqlalchemy.MetaData()
TRIALS = Table(
    "trials",
    _METADATA,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", Integer),
    Column("state", Enum(*(state.name for state in TrialState), name="trialstate")),
    Column("datetime_start", DateTime),
    Column("datetime_complete", DateTime),
)
PARAMS = Table(
    "trial_params",
    _METADATA,
    Column("trial_id", Integer),
    Column("param_name", String),
    Column("param_value", Float(precision=53)),
    Column("distribution_json", Text),
)
VALUES = Table(
    "trial_values",
    _METADATA,
    Column("trial_id", Integer),
    Column("objective", Integer),
    Column("value", Float(precision=53)),
    Column("value_type", Enum("FINITE", "INF_POS", "INF_NEG", name="trialvaluetype")),
)
USER_ATTRIBUTES, SYSTEM_ATTRIBUTES = (
    Table(name, _METADATA, Column("trial_id", Integer), Column("key", String), Column("value_json", Text))
    for name in ("trial_user_attributes", "trial_system_attributes")
)


_INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf}


def check_version(connection: Connection) -> None:
    """Makes sure that the tables are those that are known here.

    Raises:
        StudyError: They are of another version.
    """
    version = connection.execute(sqlalchemy.text("SELECT schema_version FROM version_info")).scalar_one()
    if version != VERSION:
        raise StudyError(
            f"Optuna {optuna.__version__} keeps trials in tables of version {version}, but only {VERSION} is known",
            "install optuna 5.0",
        )


def read_trials(connection: Connection, study_id: int) -> list[FrozenTrial]:
    """The trials of a study by number, without intermediate values; equal distributions are one object.

    Args:
        connection: To the tables.
        study_id: The study's row.
    """
    distributions: dict[str, BaseDistribution] = {}

    def distribution(text: str) -> BaseDistribution:
        if text not in distributions:
            distributions[text] = json_to_distribution(text)
        return distributions[text]

    here = TRIALS.c.study_id == study_id
    trials: dict[int, FrozenTrial] = {}
    for row in connection.execute(sqlalchemy.select(TRIALS).where(here).order_by(TRIALS.c.trial_id)):
        state = TrialState[row.state]
        times = row.datetime_start, row.datetime_complete
        trials[row.trial_id] = FrozenTrial(row.number, state, None, *times, {}, {}, {}, {}, {}, row.trial_id)

    def rows(table: Table, *order: Any) -> Iterator[tuple[FrozenTrial, Any]]:
        chosen = sqlalchemy.select(table).join(TRIALS, TRIALS.c.trial_id == table.c.trial_id).where(here)
        for row in connection.execute(chosen.order_by(*order)):
            yield trials[row.trial_id], row

    for trial, row in rows(PARAMS, sqlalchemy.text("param_id")):
        name, found = sys.intern(row.param_name), distribution(row.distribution_json)
        trial.distributions[name], trial.params[name] = found, found.to_external_repr(row.param_value)
    values: dict[int, dict[int, float]] = {}
    for trial, row in rows(VALUES):
        values.setdefault(trial.number, {})[row.objective] = _INFINITE.get(row.value_type, row.value)
    for table, name in ((USER_ATTRIBUTES, "user_attrs"), (SYSTEM_ATTRIBUTES, "system_attrs")):
        for trial, row in rows(table):
            getattr(trial, name)[sys.intern(row.key)] = json.loads(row.value_json)
    for trial in trials.values():
        if (own := values.get(trial.number)) is not None:
            trial.values = [own[objective] for objective in sorted(own)]
    return sorted(trials.values(), key=lambda trial: trial.number)


class Writer:
    """Writes the trials of one study, within transactions that the caller begins.

    Args:
        engine: Whose dialect is spoken.
        study_id: The study's row.
        place: Where the tables are, for messages.
        mend: What to do where somebody else added trials.
    """

    def __init__(self, engine: Engine, study_id: int, place: str, mend: str) -> None:
        self.study_id = study_id
        self.place = place
        self.mend = mend
        insert = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[engine.dialect.name]
        # Made once: compiling a statement takes longer than executing it.
        self._upserts = {
            table.name: _upsert(insert(table), keys)
            for table, *keys in (
                (PARAMS, "trial_id", "param_name"),
                (VALUES, "trial_id", "objective"),
                (USER_ATTRIBUTES, "trial_id", "key"),
                (SYSTEM_ATTRIBUTES, "trial_id", "key"),
            )
        }
        self._insert = TRIALS.insert()
        here = TRIALS.c.study_id == study_id
        self._count = sqlalchemy.select(sqlalchemy.func.count()).select_from(TRIALS).where(here)
        self._row = sqlalchemy.select(TRIALS.c.trial_id).where(here, TRIALS.c.number == sqlalchemy.bindparam("of"))
        self._end = TRIALS.update().where(TRIALS.c.trial_id == sqlalchemy.bindparam("of"))

    def add(self, connection: Connection, trial: FrozenTrial) -> None:
        """Adds a trial, started or ended, under its number, which must be the next.

        Raises:
            StudyError: It is not, since somebody else added trials meanwhile.
        """
        began = {"number": trial.number, "study_id": self.study_id, "state": trial.state.name}
        times = {"datetime_start": _utc(trial.datetime_start), "datetime_complete": _utc(trial.datetime_complete)}
        made = connection.execute(self._insert, began | times).inserted_primary_key
        assert made is not None
        row = int(made[0])
        count = connection.execute(self._count).scalar_one()
        if count != trial.number + 1:
            raise StudyError(f"{self.place} holds {count - 1} trials, but the next is trial {trial.number}", self.mend)
        self._write(connection, row, trial)

    def update(self, connection: Connection, trial: FrozenTrial) -> None:
        """Writes what became of a trial that was added before."""
        row = connection.execute(self._row, {"of": trial.number}).scalar_one()
        self._write(connection, row, trial)
        ended = {"state": trial.state.name, "datetime_complete": _utc(trial.datetime_complete)}
        connection.execute(self._end, {"of": row} | ended)

    def _write(self, connection: Connection, row: int, trial: FrozenTrial) -> None:
        """Parameters, attributes and values; what is there already is replaced by the same or newer."""
        params = [
            {"param_name": name, "param_value": distribution.to_internal_repr(trial.params[name])}
            | {"distribution_json": distribution_to_json(distribution)}
            for name, distribution in trial.distributions.items()
        ]
        values = [
            {"objective": index, "value": value, "value_type": "FINITE"}
            for index, value in enumerate(trial.values or ())
        ]
        for table, rows in (
            (PARAMS, params),
            (USER_ATTRIBUTES, _attributes(trial.user_attrs)),
            (SYSTEM_ATTRIBUTES, _attributes(trial.system_attrs)),
            (VALUES, values),
        ):
            if rows:
                connection.execute(self._upserts[table.name], [{"trial_id": row} | one for one in rows])


def _upsert(insert: Any, keys: Sequence[str]) -> Any:
    """The statement that inserts a row, or gives the one of the same keys its values."""
    given = {column.name: insert.excluded[column.name] for column in insert.table.columns if column.name not in keys}
    return insert.on_conflict_do_update(index_elements=list(keys), set_=given)


def _attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def _utc(moment: datetime | None) -> datetime | None:
    """A local moment as Optuna's tables have it: UTC, which is not said."""
    return None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)
