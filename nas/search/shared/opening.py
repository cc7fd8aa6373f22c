"""Finds a shared study in a database, or makes it, with all tables."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
import sqlalchemy
from optuna.study import StudyDirection
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from nas.errors import StudyError
from nas.search.optuna_tables import check_version
from nas.search.quiet import quiet
from nas.search.shared import tables
from nas.search.shared.database import Database
from nas.search.shared.tables import STUDIES


def find_or_make(
    database: Database,
    place: str,
    name: str,
    identity: Mapping[str, str],
    directions: Sequence[StudyDirection],
    names: Sequence[str],
) -> tuple[int, str]:
    """The number of a study in Optuna's tables, and its unique id.

    Args:
        database: Where.
        place: Database and study, for messages.
        name: The study's name.
        identity: What it is of.
        directions: Of the objectives.
        names: Of the objectives.

    Raises:
        StudyError: The database cannot be used, or has another study under this name.
    """
    # A wrong URL is said at once, not after the patience that a study under way deserves.
    database.transaction(lambda connection: connection.execute(sqlalchemy.text("SELECT 1")), patience=0)

    def find(connection: Connection) -> Any:
        tables.make(connection)
        return connection.execute(sqlalchemy.select(STUDIES).where(STUDIES.c.name == name)).one_or_none()

    # Two that make the same tables at once get in each other's way.
    with database.locked(lock_key("setup")), quiet(), _optuna_errors(database):
        # Optuna's tables first, as its study has the number that ours go by.
        rdb = optuna.storages.RDBStorage("postgresql+psycopg://", engine_kwargs={"creator": database.connect})
        try:
            database.transaction(check_version)
            if database.transaction(find) is None:
                study = optuna.create_study(study_name=name, storage=rdb, directions=directions, load_if_exists=True)
                if study.get_trials(deepcopy=False) or study.directions != list(directions):
                    raise StudyError(f"{place} is none of this program's", "name another study with --study-name")
                study.set_metric_names(list(names))
                row = {"study_id": rdb.get_study_id_from_name(name), "name": name, "uid": secrets.token_hex(8)}
                row["identity"] = json.dumps(dict(identity))
                statement = insert(STUDIES).values(row).on_conflict_do_nothing()
                database.transaction(lambda connection: connection.execute(statement))
            found = database.transaction(find)
        finally:
            rdb.remove_session()
            rdb.engine.dispose()
    _check_identity(place, json.loads(found.identity), identity)
    return int(found.study_id), str(found.uid)


def lock_key(name: str) -> int:
    """The number of a lock: PostgreSQL's are 64 bits, and shared by all that use a database."""
    return int.from_bytes(hashlib.sha256(f"nas {name}".encode()).digest()[:8], "big", signed=True)


def _check_identity(place: str, there: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Makes sure that two searchers search the same.

    Raises:
        StudyError: They do not.
    """
    differing = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    if differing:
        values = [f"{key}: {there.get(key, '(absent)')}, {here.get(key, '(absent)')}" for key in differing]
        raise StudyError(
            f"{place} is of another recipe, data or machine (there, here): {'; '.join(values)}",
            "use what it was begun with, or name another study with --study-name",
        )


@contextmanager
def _optuna_errors(database: Database) -> Iterator[None]:
    """What Optuna's own storage raises, said as of any other statement.

    Raises:
        StudyError: Instead.
    """
    try:
        yield
    except DBAPIError as error:
        raise database.refused(error) from error
    except optuna.exceptions.StorageInternalError as error:
        if isinstance(error.__cause__, DBAPIError):
            raise database.refused(error.__cause__) from error
        raise StudyError(f"the database {database.place} cannot do that: {error}") from error
    except RuntimeError as error:  # how Optuna refuses tables of another version
        raise StudyError(f"Optuna's tables in {database.place} are of another version: {error}") from error
