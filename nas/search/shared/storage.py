"""A study's trials in a PostgreSQL database: in Optuna's tables for its dashboard, in ours for the searchers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import sqlalchemy
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from nas.record import TrialRecord
from nas.search.optuna_tables import Writer
from nas.search.shared.database import Database
from nas.search.shared.opening import find_or_make, lock_key
from nas.search.shared.tables import SEARCHERS, TRIALS

T = TypeVar("T")


class TurnLostError(Exception):
    """Another searcher started a trial in what was thought to be our turn."""


class TakenOverError(Exception):
    """A trial was taken over by another searcher, so what came of it here is of no account."""


@dataclass(frozen=True)
class Row:
    """A trial as the database has it.

    Args:
        number: Its number.
        session: The process that evaluates or evaluated it.
        searcher: The folder of that process.
        attempt: How many searchers began it.
        lost: Whether nothing is known of it but that it ended.
        params: Its parameters.
        notes: Its attributes.
        record: Of one that ended.
        free: Whether its searcher left it or died.
    """

    number: int
    session: str
    searcher: str
    attempt: int
    lost: bool
    params: Mapping[str, Any]
    notes: Mapping[str, Mapping[str, Any]]
    record: TrialRecord | None
    free: bool


class SharedStorage:
    """A study in a database, which is made where it is missing.

    Args:
        database: Where.
        name: The study's name there.
        identity: What the study is of, in words or digests by name; whoever names something else is refused.
        directions: Of the objectives.
        names: Of the objectives, for the dashboard.
        session: This process.
        stale_seconds: A searcher that was not heard of for so long is dead, by the database's clock.

    Raises:
        StudyError: The database cannot be used, or has another study under this name.
    """

    remedy = "restore the database, or name another study with --study-name"

    def __init__(
        self,
        database: Database,
        name: str,
        identity: Mapping[str, str],
        directions: Sequence[Literal["minimize", "maximize"]],
        names: Sequence[str],
        session: str,
        stale_seconds: float,
    ) -> None:
        self.database = database
        self.session = session
        self.searcher = session  # until it is known what this folder was called before
        self.stale_seconds = stale_seconds
        self.up_since: Any = func.pg_postmaster_start_time()  # since when the server hears
        self.directions = [StudyDirection[direction.upper()] for direction in directions]
        self.place = f"{database.place} (study '{name}')"
        self.study_id, self.uid = find_or_make(database, self.place, name, identity, self.directions, names)
        self._turn = lock_key(self.uid)
        self._writer = Writer(
            database.engine, self.study_id, self.place, "let nobody else add trials to it; go on under another name"
        )
        self._mine = and_(TRIALS.c.study_id == self.study_id, TRIALS.c.session == session)
        self._open_still = and_(TRIALS.c.record.is_(None), ~TRIALS.c.lost)

    def turn(self) -> Any:
        """A context in which no other searcher starts trials."""
        return self.database.locked(self._turn)

    def trials(self) -> list[FrozenTrial]:
        """None: what there is comes by ``changes``."""
        return []

    def foreign(self, searcher: str) -> int:
        """How many trials other searchers have."""
        others = and_(TRIALS.c.study_id == self.study_id, TRIALS.c.searcher != searcher)
        statement = select(func.count()).select_from(TRIALS).where(others)
        return self.database.transaction(lambda connection: int(connection.execute(statement).scalar_one()))

    # --- searchers ----------------------------------------------------------------------------------------------------

    def register(self, searcher: str) -> None:
        """Makes this process known as a searcher; ``searcher`` is its folder's name, the same at every start."""
        self.searcher = searcher
        row = {"session": self.session, "study_id": self.study_id, "searcher": searcher, "left": False}
        self._do(insert(SEARCHERS).values(**row, seen=func.clock_timestamp()).on_conflict_do_nothing())

    def leave(self, patience: float) -> None:
        """Says that this process has nothing under way any more.

        Raises:
            StudyError: The database does not answer.
        """
        statement = SEARCHERS.update().where(SEARCHERS.c.session == self.session).values(left=True)
        self.database.transaction(lambda connection: connection.execute(statement), patience)

    def adopt(self) -> None:
        """Makes ours what earlier processes in this folder, which only one at a time may own, left behind."""
        left = select(SEARCHERS.c.left).where(SEARCHERS.c.session == TRIALS.c.session).scalar_subquery()
        others = and_(TRIALS.c.searcher == self.searcher, TRIALS.c.session != self.session, self._open_still)
        attempt = TRIALS.c.attempt + sqlalchemy.case((func.coalesce(left, False), 0), else_=1)
        where = and_(TRIALS.c.study_id == self.study_id, others)
        self._do(TRIALS.update().where(where).values(session=self.session, attempt=attempt))

    def take_over(self, number: int, owner: str) -> bool:
        """Makes a trial ours whose searcher left it or died; says whether it is."""
        where = and_(TRIALS.c.study_id == self.study_id, TRIALS.c.number == number)
        left = select(SEARCHERS.c.left).where(SEARCHERS.c.session == owner).scalar_subquery()
        taken = {
            "session": self.session,
            "searcher": self.searcher,
            "attempt": TRIALS.c.attempt + sqlalchemy.case((func.coalesce(left, False), 0), else_=1),
        }
        alive = select(SEARCHERS.c.session).where(SEARCHERS.c.session == owner, ~self._gone()).exists()
        update = TRIALS.update().where(where, TRIALS.c.session == owner, self._open_still, ~alive).values(taken)

        def take(connection: Connection) -> bool:
            connection.execute(update)
            return bool(connection.execute(select(TRIALS.c.session).where(where)).scalar_one() == self.session)

        return self.database.transaction(take)

    def _gone(self) -> ColumnElement[bool]:
        """Whether a searcher left or died. While the database is down nobody is heard of, which counts for nothing."""
        heard = func.greatest(SEARCHERS.c.seen, self.up_since)
        silent = func.clock_timestamp() - heard > func.make_interval(0, 0, 0, 0, 0, 0, self.stale_seconds)
        return or_(SEARCHERS.c.left, silent)

    # --- trials -------------------------------------------------------------------------------------------------------

    def changes(self, known: int, unrecorded: Collection[int]) -> list[Row]:
        """The trials from a number on, and of those before it the named ones, by number."""
        joined = TRIALS.outerjoin(SEARCHERS, SEARCHERS.c.session == TRIALS.c.session)
        wanted = or_(TRIALS.c.number >= known, TRIALS.c.number.in_(sorted(unrecorded)))
        free = func.coalesce(self._gone(), True).label("free")
        statement = (
            select(TRIALS, free)
            .select_from(joined)
            .where(TRIALS.c.study_id == self.study_id, wanted)
            .order_by(TRIALS.c.number)
        )
        rows = self.database.transaction(lambda connection: connection.execute(statement).all())
        return [
            Row(
                number=row.number,
                session=row.session,
                searcher=row.searcher,
                attempt=row.attempt,
                lost=row.lost,
                params=json.loads(row.params),
                notes=json.loads(row.notes),
                record=TrialRecord.from_json(json.loads(row.record)) if row.record is not None else None,
                free=row.free and row.record is None and not row.lost,
            )
            for row in rows
        ]

    def add(self, trial: FrozenTrial, record: TrialRecord | None = None) -> None:
        """Adds a trial, started or ended, as ours.

        Raises:
            TurnLostError: Another searcher has given the number away.
            StudyError: Somebody else added trials to Optuna's tables.
        """
        row = {
            "study_id": self.study_id,
            "number": trial.number,
            "session": self.session,
            "searcher": self.searcher,
            "attempt": 1,
            "lost": trial.state.is_finished() and record is None,
            "params": json.dumps(trial.params),
            "notes": json.dumps({"user": trial.user_attrs, "system": trial.system_attrs}),
            "record": _text(record),
        }
        # A number that is taken by ourselves was given by an earlier try, whose commit nobody heard of.
        statement = insert(TRIALS).values(row).on_conflict_do_nothing().returning(TRIALS.c.number)
        owner = select(TRIALS.c.session).where(TRIALS.c.study_id == self.study_id, TRIALS.c.number == trial.number)

        def start(connection: Connection) -> None:
            if connection.execute(statement).one_or_none() is not None:
                self._writer.add(connection, trial)
            elif connection.execute(owner).scalar_one() != self.session:
                raise TurnLostError

        self.database.transaction(start)

    def update(self, trial: FrozenTrial, record: TrialRecord | None = None) -> None:
        """Writes how a trial of ours ended, and its record.

        Raises:
            TakenOverError: It is not ours any more, or was ended by somebody else.
        """
        assert record is not None, "a trial is written whole when it starts"
        this = and_(self._mine, TRIALS.c.number == trial.number)
        text = _text(record)
        end = TRIALS.update().where(this, self._open_still).values(record=text)
        ended = select(TRIALS.c.record).where(this)

        def finish(connection: Connection) -> bool:
            if connection.execute(end).rowcount == 1:
                self._writer.update(connection, trial)
                return True
            return connection.execute(ended).scalar_one_or_none() == text

        if not self.database.transaction(finish):
            raise TakenOverError(f"trial {trial.number}")

    def recover(self, record: TrialRecord) -> None:
        """Gives a trial of which nothing was known its record, which a folder had kept."""
        where = and_(TRIALS.c.study_id == self.study_id, TRIALS.c.number == record.number, TRIALS.c.lost)
        self._do(TRIALS.update().where(where, TRIALS.c.record.is_(None)).values(record=_text(record)))

    def _do(self, statement: Any) -> None:
        self.database.transaction(lambda connection: connection.execute(statement))


def _text(record: TrialRecord | None) -> str | None:
    return None if record is None else json.dumps(record.to_json(), allow_nan=False)
