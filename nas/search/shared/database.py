"""A PostgreSQL database by its URL: transactions that outlast a restart of it, and errors that a person can act on.

What was asked for may be repeated, so all that is done within a transaction must bear that: where a connection breaks
in the moment of a commit nobody knows whether it took place.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from nas.errors import StudyError, UnsupportedError, one_line

T = TypeVar("T")

# For so long a database that does not answer is waited for, in seconds.
PATIENCE_SECONDS = 60.0
# Between two tries, in seconds: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
# Who holds a lock and does nothing for so long loses it: a searcher that hangs stops no other for ever. In seconds.
IDLE_SECONDS = 120
# A connection that nobody answers breaks after so many seconds, instead of after a quarter of an hour.
CONNECTION = {"connect_timeout": 10, "keepalives_idle": 20, "tcp_user_timeout": 30_000}

# States (SQLSTATE) in which PostgreSQL is for a while only, and in which a transaction lost against another.
_STARTING = frozenset({"57P03"})
_AGAIN = frozenset({"57P01", "57P02", *_STARTING, "25P03", "40001", "40P01", "53300"})
_CONNECTION_CLASS = "08"
# What no waiting mends.
_REFUSED = {
    "28P01": "the password is wrong",
    "28000": "the user may not connect",
    "3D000": "there is no such database",
    "42501": "the user may not do that",
}


def parse_url(text: str) -> URL:
    """A PostgreSQL URL, such as ``postgresql://user@host/database``.

    Raises:
        StudyError: It is none. The message has no password in it.
        UnsupportedError: The client that it needs is not installed.
    """
    hint = "write postgresql://user:password@host/database; without a password libpq takes that of ~/.pgpass"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StudyError("--storage is no URL", hint) from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise StudyError(
            f"--storage names a database of kind '{url.drivername}', but only postgresql can be shared", hint
        )
    if not url.database:
        raise StudyError(f"--storage {_shown(url)} names no database", hint)
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise UnsupportedError(
            "a study on PostgreSQL needs the package psycopg, which is not installed",
            "pip install 'nas-front[postgresql]'",
        ) from None
    return url.set(drivername="postgresql+psycopg")


def without_password(text: str) -> str:
    """A command or message in which a URL may stand, without the passwords of such."""
    text = re.sub(r"(postgres(?:ql)?(?:\+\w+)?://[^:@/\s]*):[^\s']*@", r"\1@", text)
    return re.sub(r"([?&]password=)[^&\s']*", r"\1***", text)


def _shown(url: URL) -> str:
    """A URL less password and options."""
    shown = URL.create("postgresql", url.username, host=url.host, port=url.port, database=url.database)
    return shown.render_as_string()


class Database:
    """A database that may go away for a while.

    Args:
        url: See ``parse_url``.
        patience: How long it is waited for, in seconds.
        clock: Tells the seconds.
        sleep: Lets seconds pass.
    """

    def __init__(
        self,
        url: URL,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url
        self.place = _shown(url)
        self.patience = patience
        self.clock = clock
        self.sleep = sleep
        _, arguments = sqlalchemy.create_engine(url).dialect.create_connect_args(url)
        self._arguments = {**CONNECTION, "application_name": "nas", **arguments}
        # READ COMMITTED, whatever the server's default: conditional updates are to see what others committed.
        self.engine = sqlalchemy.create_engine(
            "postgresql+psycopg://", creator=self.connect, isolation_level="READ COMMITTED"
        )

    def connect(self) -> Any:
        """A connection of psycopg; the password is in no URL that anything might print."""
        import psycopg

        return psycopg.connect(**self._arguments)

    def transaction(self, work: Callable[[Connection], T], patience: float | None = None) -> T:
        """Does work in a transaction; again from the start where the connection breaks, until patience ends.

        Args:
            work: What to do. Done twice it must come to the same.
            patience: In seconds, instead of the database's.

        Raises:
            StudyError: The database refuses, or did not answer for so long.
        """
        until = self.clock() + (self.patience if patience is None else patience)
        pause = FIRST_PAUSE
        while True:
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if not _passes(error) or self.clock() >= until:
                    raise self.refused(error) from error
            self.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    @contextmanager
    def locked(self, key: int) -> Iterator[None]:
        """Holds a lock that one at a time has; where the connection breaks, or nothing happens for long, it is lost.

        So it saves work, but nothing may depend on it.

        Raises:
            StudyError: As ``transaction``.
        """
        connection = self._lock(key)
        try:
            yield
        finally:
            # Closing it lets the lock go; a connection that broke has lost it already.
            with suppress(DBAPIError):
                connection.close()

    def _lock(self, key: int) -> Connection:
        until, pause = self.clock() + self.patience, FIRST_PAUSE
        while True:
            connection = None
            try:
                connection = self.engine.connect()
                connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
                connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
                return connection
            except BaseException as error:
                if connection is not None:
                    with suppress(DBAPIError):
                        connection.close()
                if not isinstance(error, DBAPIError):
                    raise
                if not _passes(error) or self.clock() >= until:
                    raise self.refused(error) from error
            self.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def refused(self, error: DBAPIError) -> StudyError:
        """What to say of a database that refuses or does not answer."""
        state = _state(error)
        said = self._without_password(one_line(error.orig or error))
        if state is None or state.startswith(_CONNECTION_CLASS) or _passes(error):
            why = next((why for text, why in _SAID if text in said), None)
            if why is None:
                hint = "is it running there? What was finished is kept; the same command goes on once it answers"
                return StudyError(f"the database {self.place} cannot be reached: {said}", hint)
        else:
            why = _REFUSED.get(state)
        if why is not None:
            hint = "mend the URL of --storage, or the database's settings; a password may stand in ~/.pgpass too"
            return StudyError(f"the database {self.place} refuses: {why}", hint)
        return StudyError(f"the database {self.place} cannot do that: {said}")

    def _without_password(self, text: str) -> str:
        for password in (self.url.password, self.url.query.get("password")):
            text = text.replace(str(password), "***") if password else text
        return text

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()


# While connecting, psycopg gives no state but only what the server said, in English or the server's language.
_SAID = (
    ("password authentication failed", "the password is wrong"),
    ("no password supplied", "it wants a password"),
    ("no pg_hba.conf entry", "the user may not connect"),
    ("does not exist", "there is no such database or user"),
)


def _state(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return str(state) if state else None


def _passes(error: DBAPIError) -> bool:
    """Whether trying again may help: the connection broke, the server starts or stops, another was quicker."""
    state = _state(error)
    if state is not None:
        return state in _AGAIN or state.startswith(_CONNECTION_CLASS)
    said = str(error.orig)
    if any(text in said for text, _ in _SAID):
        return False
    return error.connection_invalidated or isinstance(error, sqlalchemy.exc.OperationalError)
