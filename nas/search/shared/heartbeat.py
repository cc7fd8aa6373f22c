"""A sign of life of this process, every few seconds, on a connection of its own."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType

import sqlalchemy
from sqlalchemy.exc import DBAPIError

from nas.search.shared.database import Database
from nas.search.shared.tables import SEARCHERS


class Heartbeat:
    """Beats from ``start`` until ``stop``; what fails is tried again at the next beat.

    Args:
        database: Where to; its address, that is: the thread has its own connections.
        session: Whose heart it is.
        seconds: Between two beats.
    """

    def __init__(self, database: Database, session: str, seconds: float) -> None:
        self._database = Database(database.url)
        self._seconds = seconds
        # By the database's clock: those of several machines need not agree.
        self._beat = (
            SEARCHERS.update().where(SEARCHERS.c.session == session).values(seen=sqlalchemy.func.clock_timestamp())
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Starts to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it; a beat under way may still come."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._seconds)

    def _run(self) -> None:
        try:
            while not self._stopped.wait(self._seconds):
                with suppress(DBAPIError), self._database.engine.begin() as connection:
                    connection.execute(self._beat)
        finally:
            self._database.close()

    def __enter__(self) -> Heartbeat:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
