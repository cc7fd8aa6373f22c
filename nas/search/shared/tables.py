"""Our own tables in the database of a shared study, beside Optuna's.

====================  =================================================================================================
``nas_version``       the version of these tables
``nas_studies``       what a study is of, so that nobody searches another one under its name
``nas_searchers``     the processes that search, and when each was last heard of, by the database's clock
``nas_trials``        every trial: who evaluates it, how it began (for searchers that have not heard of it), its record
====================  =================================================================================================

A trial without a record is being evaluated, unless it is ``lost``: one of which nothing is known but its number. A
heartbeat is a searcher's, not a trial's: it tells the same of all that one process has under way.
"""

from __future__ import annotations

import sqlalchemy
from sqlalchemy import BigInteger, Boolean, Column, Connection, DateTime, Integer, Table, Text

from nas.errors import StudyError

VERSION = 1

METADATA = sqlalchemy.MetaData()
VERSIONS = Table("nas_version", METADATA, Column("version", Integer, primary_key=True, autoincrement=False))
STUDIES = Table(
    "nas_studies",
    METADATA,
    Column("study_id", Integer, primary_key=True, autoincrement=False),  # Optuna's
    Column("name", Text, nullable=False, unique=True),
    Column("uid", Text, nullable=False),  # a database made anew under the same name is another one
    Column("identity", Text, nullable=False),  # JSON
)
SEARCHERS = Table(
    "nas_searchers",
    METADATA,
    Column("session", Text, primary_key=True),  # one process
    Column("study_id", Integer, nullable=False),
    Column("searcher", Text, nullable=False),  # its folder: what it left behind when it died is for the next one there
    Column("seen", DateTime(timezone=True), nullable=False),
    Column("left", Boolean, nullable=False),  # it ended in order, and has nothing under way
)
TRIALS = Table(
    "nas_trials",
    METADATA,
    Column("study_id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("session", Text, nullable=False),
    Column("searcher", Text, nullable=False),
    Column("attempt", Integer, nullable=False),  # from 1; higher where a searcher died over it
    Column("lost", Boolean, nullable=False),
    Column("params", Text, nullable=False),  # JSON, as Optuna has them
    Column("notes", Text, nullable=False),  # JSON, its attributes
    Column("record", Text),  # JSON
)


def make(connection: Connection) -> None:
    """Makes the tables where they are missing. Nobody else may do so meanwhile.

    Raises:
        StudyError: They are of another version.
    """
    METADATA.create_all(connection)
    found = connection.execute(sqlalchemy.select(VERSIONS.c.version)).scalars().all()
    if not found:
        connection.execute(VERSIONS.insert(), {"version": VERSION})
    elif found != [VERSION]:
        newer = max(found) > VERSION
        raise StudyError(
            f"the database's tables are of version {max(found)}, but this program knows {VERSION}",
            "upgrade nas-front" if newer else "go on with the version that began the study, or use another database",
        )
