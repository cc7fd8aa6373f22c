"""Several searchers on one study in a real PostgreSQL: nothing twice, nothing lost, whoever dies."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import pytest
import shared_searcher
import sqlalchemy
from optuna.trial import TrialState
from postgres_cluster import Cluster, binaries, runs_as
from search_fakes import FakeEvaluate, fake_recipe, make_space, run_loop
from shared_searcher import INPUTS, open_ledger, record_of, searcher

from nas.errors import StudyError, UnsupportedError
from nas.outcome import Outcome
from nas.record import read_records
from nas.search.ledger import LocalLedger
from nas.search.optuna_bridge import Asked, Bridge
from nas.search.shared.database import Database, parse_url, without_password
from nas.search.shared.ledger import SharedLedger
from nas.search.told import told_as
from nas.study import SHARED_FILE, StudyFolder, counted

pytestmark = [
    pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed (apt-get install postgresql)"),
    pytest.mark.skipif(runs_as() is None, reason="PostgreSQL does not run as root, and there is no user postgres"),
]
pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'nas-front[postgresql]')")

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([shared_searcher.__name__])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


@pytest.fixture
def url(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own."""
    name = f"test_{abs(hash(request.node.name))}"
    connect = Database(parse_url(cluster.url())).connect
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "poolclass": sqlalchemy.NullPool}
    server = sqlalchemy.create_engine("postgresql+psycopg://", creator=connect, **options)
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield cluster.url(name)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def opened() -> Iterator[list[SharedLedger]]:
    """Ledgers that end with the test."""
    ledgers: list[SharedLedger] = []
    yield ledgers
    for ledger in ledgers:
        ledger.close()


class Study:
    """Opens ledgers of one study, each with its folder, and looks into its database."""

    def __init__(self, url: str, path: Path, opened: list[SharedLedger]) -> None:
        self.url, self.path, self.opened = url, path, opened
        self.database = Database(parse_url(url))

    def ledger(self, folder: str, start: bool = True, young: bool = False, **options: Any) -> SharedLedger:
        ledger = open_ledger(self.url, self.path / folder, beat_seconds=options.pop("beat_seconds", 30.0), **options)
        self.opened.append(ledger)
        if not young:
            ledger.storage.up_since = sqlalchemy.text("timestamptz 'epoch'")  # the tests' server is young
        if start:
            ledger.start()
        return ledger

    def sql(self, text: str, **values: Any) -> Any:
        def work(connection: sqlalchemy.Connection) -> Any:
            result = connection.execute(sqlalchemy.text(text), values)
            return result.all() if result.returns_rows else None

        return self.database.transaction(work)

    def silence(self, ledger: SharedLedger) -> None:
        """As if nothing had been heard of a searcher for an hour, while the server ran."""
        ledger._heart.stop()
        self.sql("UPDATE nas_searchers SET seen = 'epoch' WHERE session = :of", of=ledger.session)

    @contextmanager
    def storage(self) -> Iterator[optuna.storages.RDBStorage]:
        """As optuna-dashboard opens the URL."""
        storage = optuna.storages.RDBStorage(self.url.replace("postgresql:", "postgresql+psycopg:"))
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def optuna(self) -> list[optuna.trial.FrozenTrial]:
        with self.storage() as storage:
            return optuna.load_study(study_name="study", storage=storage).get_trials()


@pytest.fixture
def study(url: str, tmp_path: Path, opened: list[SharedLedger]) -> Iterator[Study]:
    made = Study(url, tmp_path, opened)
    yield made
    made.database.close()


def ask(ledger: SharedLedger) -> Asked:
    return ledger.in_turn(lambda: ledger.take_over() or ledger.bridge.ask())


def go_on(ledger: SharedLedger, trials: int) -> list[Asked]:
    """Asks and finishes so many trials."""
    all_asked = []
    for _ in range(trials):
        all_asked.append(ask(ledger))
        assert ledger.finished(record_of(ledger, all_asked[-1]))
    return all_asked


def start(url: str, *folders: Path, trials: int, **options: Any) -> list[BaseProcess]:
    """Starts searchers in these folders, all at once."""
    processes = []
    for folder in folders:
        folder.mkdir()
        processes.append(PROCESSES.Process(target=searcher, args=(url, str(folder), trials), kwargs=options))
        processes[-1].start()
    for folder in folders:
        wait_for(folder / "ready")
    (folders[0].parent / "go").touch()
    return processes


def wait_for(path: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} did not come"
        time.sleep(0.02)


def join(*processes: BaseProcess) -> None:
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def numbers_in(folder: Path) -> list[int]:
    return [record.number for record in read_records(folder / "trials")]


def check_whole(study: Study, folders: list[Path], trials: int) -> None:
    """Every folder has every trial, all the same, and so has Optuna; no design was evaluated twice."""
    every = [[record.to_json() for record in read_records(folder / "trials")] for folder in folders]
    assert all(records == every[0] for records in every)
    records = read_records(folders[0] / "trials")
    assert [record.number for record in records] == list(range(len(records)))
    assert len(counted(records)) == trials, "the budget is spent exactly"
    evaluated = Counter((r.design.digest, r.teacher) for r in records if r.outcome is not Outcome.DUPLICATE)
    assert set(evaluated.values()) == {1}
    told = study.optuna()
    assert [trial.number for trial in told] == list(range(len(records)))
    assert all(trial.state.is_finished() for trial in told)
    assert [trial.user_attrs["design"] for trial in told] == [record.design.digest[:12] for record in records]
    recipe = fake_recipe()
    for trial, record in zip(told, records, strict=True):
        original = records[record.duplicate_of] if record.duplicate_of is not None else None
        expected = told_as(record, original, recipe.parsed_objectives, recipe.parsed_constraints)
        assert trial.state is expected.state
        assert trial.values == (None if expected.values is None else list(expected.values))
        assert trial.user_attrs["outcome"] == record.outcome


# --- together --------------------------------------------------------------------------------------------------------


def test_three_searchers_do_sixty_trials(study: Study) -> None:
    folders = [study.path / name for name in "abc"]
    join(*start(study.url, *folders, trials=60))
    check_whole(study, folders, 60)
    own = [{int(number) for number in (folder / "own").read_text().split()} for folder in folders]
    assert all(own), "each did its part"
    evaluated = {r.number for r in read_records(folders[0] / "trials") if r.outcome is not Outcome.DUPLICATE}
    assert set.union(*own) == evaluated
    assert sum(map(len, own)) == len(evaluated), "no trial by two"


def test_a_searcher_sees_what_others_run_and_found(study: Study) -> None:
    a, b = study.ledger("a"), study.ledger("b")
    first, second = ask(a), ask(b)
    assert (first.number, second.number) == (0, 1)
    assert b.bridge.run_elsewhere() == [first]
    assert b.bridge.running() == [1]
    assert [trial.state for trial in b.bridge.trials] == [TrialState.RUNNING] * 2, "a sampler counts on both"
    assert b.bridge.trials[0].params == a.bridge.trials[0].params
    assert a.finished(record_of(a, first))
    assert b.records == []
    b.in_turn(lambda: None)
    assert b.bridge.run_elsewhere() == []
    assert b.records == a.records == b.arrived()
    assert b.arrived() == []
    assert numbers_in(study.path / "b") == [0]
    assert b.finished(record_of(b, second))
    assert [b.is_own(number) for number in (0, 1)] == [False, True]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_all_searchers_know_the_same(study: Study, sampler: str) -> None:
    recipe = fake_recipe(sampler)
    a, b = study.ledger("a", recipe=recipe), study.ledger("b", recipe=recipe)
    for _ in range(9):
        for ledger in (a, b):
            go_on(ledger, 1)
    late = study.ledger("c", recipe=recipe)
    for ledger in (a, b, late):
        ledger.in_turn(lambda: None)
    ignored = ("_datetime_start", "datetime_complete")
    trials = [[{k: v for k, v in vars(t).items() if k not in ignored} for t in x.bridge.trials] for x in (a, b, late)]
    assert trials[0] == trials[1] == trials[2], "generation and all"
    assert a.bridge.propose() == b.bridge.propose() == late.bridge.propose()
    assert a.records == b.records == late.records
    assert late.arrived() == [], "what was there before is no news"


def test_only_one_searcher_asks_at_a_time(study: Study) -> None:
    a, b = study.ledger("a"), study.ledger("b")

    def ask_beside() -> None:
        locks = study.sql("SELECT pg_try_advisory_xact_lock(:key)", key=b.storage._turn)
        assert locks == [(False,)]

    a.in_turn(ask_beside)
    assert study.sql("SELECT pg_try_advisory_xact_lock(:key)", key=b.storage._turn) == [(True,)]


def test_whose_turn_was_lost_asks_again(study: Study) -> None:
    """Its connection broke, or it hung, so that the lock was another's meanwhile."""
    a, b = study.ledger("a"), study.ledger("b")
    calls: list[int] = []

    def slow() -> Asked:
        calls.append(a.bridge.known)
        if len(calls) == 1:
            waiting = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            study.sql(waiting)
            go_on(b, 2)
        return a.bridge.ask()

    asked = a.in_turn(slow)
    assert calls == [0, 2]
    assert asked.number == 2
    assert len(study.optuna()) == 3


# --- who dies --------------------------------------------------------------------------------------------------------


def test_a_killed_searcher_loses_nothing(study: Study) -> None:
    killed, other = study.path / "killed", study.path / "other"
    (process,) = start(study.url, killed, trials=12, hang_at=4, beat_seconds=0.2)
    wait_for(killed / "began")
    hung = int((killed / "began").read_text())
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    done = numbers_in(killed)
    assert hung not in done
    join(*start(study.url, other, trials=12, beat_seconds=0.2))
    own = [int(number) for number in (other / "own").read_text().split()]
    assert hung in own, "taken over after it was silent for long"
    assert not set(own) & set(done)
    assert study.sql("SELECT attempt FROM nas_trials WHERE number = :number", number=hung) == [(2,)]
    again = study.ledger("killed")
    assert again.orphans() == []
    check_whole(study, [killed, other], 12)


def test_a_searcher_that_starts_again_takes_up_its_own_at_once(study: Study) -> None:
    killed = study.ledger("a")
    go_on(killed, 2)
    asked = ask(killed)
    killed._heart.stop()  # and nothing else: it died
    other = study.ledger("b")
    assert other.in_turn(other.take_over) is None, "not heard of for a moment only"
    again = study.ledger("a")
    assert again.orphans() == [asked]
    assert again.orphans() == []
    assert again.attempt(asked.number) == 2
    assert again.finished(record_of(again, asked))
    assert [again.is_own(number) for number in range(3)] == [True] * 3


def test_what_a_searcher_leaves_is_free_at_once(study: Study) -> None:
    leaving, other = study.ledger("a"), study.ledger("b")
    asked = ask(leaving)
    leaving.close()
    taken = other.in_turn(other.take_over)
    assert taken == asked
    assert other.attempt(asked.number) == 1, "nobody died over it"
    assert other.bridge.running() == [0]
    assert other.bridge.run_elsewhere() == []


def test_a_late_finisher_is_refused(study: Study) -> None:
    slow, other = study.ledger("slow"), study.ledger("other")
    asked = ask(slow)
    study.silence(slow)
    taken = ask(other)
    assert taken == asked
    assert other.attempt(0) == 2
    assert not slow.finished(record_of(slow, asked)), "it is somebody else's now"
    assert numbers_in(study.path / "slow") == []
    assert slow.records == []
    assert study.optuna()[0].state is TrialState.RUNNING
    assert other.finished(record_of(other, taken))
    assert not slow.finished(record_of(slow, asked))
    slow.in_turn(lambda: None)
    assert slow.records == other.records
    check_whole(study, [study.path / "slow", study.path / "other"], 1)


def test_only_one_takes_a_trial_over(study: Study) -> None:
    dead, a, b = (study.ledger(name) for name in ("dead", "a", "b"))
    ask(dead)
    study.silence(dead)
    b.in_turn(lambda: None)  # it has seen that the trial is free, and is too late
    assert a.in_turn(a.take_over) is not None
    assert b.take_over() is None
    study.silence(dead)
    assert b.in_turn(b.take_over) is None


def test_a_result_that_was_not_handed_in_is_at_the_next_start(study: Study) -> None:
    first = study.ledger("a")
    asked = ask(first)
    record = record_of(first, asked)
    (study.path / "a" / "trials" / "00000.json").write_text(json.dumps(record.to_json(), indent=1))
    first._heart.stop()
    again = study.ledger("a")
    assert again.records == [record]
    assert again.orphans() == []
    assert study.optuna()[0].state is TrialState.COMPLETE


def test_a_searcher_that_beats_is_alive(study: Study) -> None:
    study.ledger("a", beat_seconds=0.05)
    seen = [study.sql("SELECT max(seen) FROM nas_searchers")[0][0]]
    until = time.monotonic() + 30
    while len(set(seen)) < 4:
        assert time.monotonic() < until
        seen.append(study.sql("SELECT max(seen) FROM nas_searchers")[0][0])
        time.sleep(0.01)
    assert seen == sorted(seen)


# --- the database goes away ------------------------------------------------------------------------------------------


def test_the_database_restarts_in_mid_study(study: Study, cluster: Cluster) -> None:
    folders = [study.path / name for name in "ab"]
    processes = start(study.url, *folders, trials=40)
    for number in (5, 20):
        wait_for(folders[0] / "trials" / f"{number:05d}.json")
        cluster.pg_ctl("restart", "-m", "immediate")
    join(*processes)
    check_whole(study, folders, 40)


def test_while_the_database_is_down_nobody_dies(study: Study, cluster: Cluster) -> None:
    a, b = study.ledger("a", young=True), study.ledger("b", young=True)
    ask(a)
    study.sql("UPDATE nas_searchers SET seen = clock_timestamp() - interval '1 hour'")
    cluster.pg_ctl("restart", "-m", "fast")
    assert b.in_turn(b.take_over) is None, "the server was not there to hear"


@pytest.mark.parametrize("after", [True, False])
def test_a_commit_of_which_nobody_heard(study: Study, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    """Whether or not it took place, a trial is started once and a record counts once."""
    import psycopg

    ledger = study.ledger("a")
    ledger.database.sleep = lambda seconds: None
    dialect = ledger.database.engine.dialect
    commit = dialect.do_commit
    broken = 0

    def breaking(connection: Any) -> None:
        nonlocal broken
        broken += 1
        if broken % 3:
            commit(connection)
            return
        if after:
            commit(connection)
        connection.dbapi_connection.close()
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(dialect, "do_commit", breaking)
    go_on(ledger, 8)
    monkeypatch.undo()
    assert broken > 20
    ledger.in_turn(lambda: None)
    assert [record.number for record in ledger.records] == list(range(8))
    check_records = study.sql("SELECT count(*), count(DISTINCT number) FROM nas_trials")
    assert check_records == [(8, 8)]
    assert [trial.state.is_finished() for trial in study.optuna()] == [True] * 8


def test_a_database_that_stays_away_is_said_after_a_while(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    database = Database(parse_url("postgresql://nas:hush@/none?host=/nowhere"), 60, lambda: now[0], sleep)
    with pytest.raises(StudyError, match=r"^the database postgresql://nas@/none cannot be reached: .*goes on") as said:
        database.transaction(lambda connection: None)
    assert 60 <= sum(slept) < 70
    assert slept[0] < 1
    assert "hush" not in str(said.value)


def test_a_database_made_anew_is_filled_from_a_folder(study: Study) -> None:
    first = study.ledger("a")
    go_on(first, 5)
    open_still = ask(first)
    first.close()
    assert open_still.number == 5
    study.sql("DROP TABLE nas_version, nas_studies, nas_searchers, nas_trials")
    study.sql("DELETE FROM alembic_version")
    for name in ("trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes", "trials"):
        study.sql(f"DELETE FROM {name}")
    again = study.ledger("a")
    assert [record.number for record in again.records] == list(range(5))
    go_on(again, 1)
    study.ledger("b")
    check_whole(study, [study.path / "a", study.path / "b"], 6)


def test_a_study_of_a_folder_is_shared(study: Study) -> None:
    """One that began alone goes on with several; the trial that has no record is one of which nothing is known."""
    alone, _ = run_loop(study.path / "a", fake_recipe(trials=6), FakeEvaluate())
    records = alone.records
    (study.path / "a" / "trials" / "00002.json").unlink()
    ledger = study.ledger("a")
    assert [record.number for record in ledger.records] == [0, 1, 3, 4, 5]
    other = study.ledger("b")
    assert other.records == ledger.records
    assert ask(other).number == 6
    third = study.ledger("c")
    shutil.copy(study.path / "a" / "trials" / "00001.json", study.path / "c" / "trials" / "00001.json")
    (study.path / "a" / "trials" / "00002.json").write_text(json.dumps(records[2].to_json(), indent=1))
    again = study.ledger("a")
    assert [record.number for record in again.records] == list(range(6)), "a record that turned up again counts"
    third.in_turn(lambda: None)
    assert third.arrived() == [records[2]]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_another_recipe_is_refused(study: Study) -> None:
    study.ledger("a")
    with pytest.raises(StudyError, match=r"\(study 'study'\) is of another recipe.*there, here\): recipe: \w+, \w+ \("):
        study.ledger("b", recipe=fake_recipe("nsga2"))
    INPUTS["data"] = "others"
    try:
        with pytest.raises(StudyError, match=r"there, here\): data: none, others \(use what it was begun with"):
            study.ledger("b")
    finally:
        INPUTS["data"] = "none"
    assert study.ledger("b", recipe=fake_recipe("nsga2"), name="second").bridge.known == 0
    budget = {"trials": 99, "epochs": 1}
    assert study.ledger("c", recipe=fake_recipe().model_copy(update={"budget": fake_recipe().budget.model_copy(
        update={"trials": budget["trials"]})})).bridge.known == 0, "how long it goes on may differ"  # fmt: skip


def test_a_folder_with_trials_of_its_own_is_refused(study: Study) -> None:
    go_on(study.ledger("a"), 2)
    run_loop(study.path / "b", fake_recipe(trials=3), FakeEvaluate())
    with pytest.raises(StudyError, match=r"/b has 3 trials of its own, .*\(study 'study'\) 2 others.*--output"):
        study.ledger("b")
    assert len(numbers_in(study.path / "b")) == 3
    assert not (study.path / "b" / SHARED_FILE).exists()


def test_a_folder_of_a_study_of_another_name_is_refused(study: Study) -> None:
    first = study.ledger("a")
    go_on(first, 2)
    first.close()
    with pytest.raises(StudyError, match=r"/a has 2 trials of the study 'study', not of 'second' .*--study-name study"):
        study.ledger("a", name="second")
    assert study.sql("SELECT name FROM nas_studies") == [("study",)], "the database did not hear of it"
    assert len(study.ledger("a").records) == 2
    assert study.ledger("b", name="second").records == []


def test_a_folder_that_does_not_know_its_studys_name_goes_on(study: Study) -> None:
    first = study.ledger("a")
    go_on(first, 2)
    first.close()
    path = study.path / "a" / SHARED_FILE
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "name"}))
    assert len(study.ledger("a").records) == 2
    assert json.loads(path.read_text())["name"] == "study"


def test_a_shared_folder_is_not_searched_alone(study: Study) -> None:
    go_on(study.ledger("a"), 1)
    folder = StudyFolder(study.path / "a")
    bridge = Bridge(folder.storage, fake_recipe(), make_space())
    with pytest.raises(StudyError, match=r"/a belongs to a study that several searchers share.*--storage"):
        LocalLedger(folder, bridge, [])


def test_a_wrong_url_is_said_at_once_and_no_password(study: Study, cluster: Cluster) -> None:
    for wrong, said in (
        (cluster.url(password="hush&more"), "refuses: the password is wrong"),
        (cluster.url(password=None), "refuses: it wants a password"),
        (cluster.url("nothing"), "refuses: there is no such database or user"),
        ("postgresql://nas:hush@127.0.0.1:1/x", "postgresql://nas@127.0.0.1:1/x cannot be reached"),
    ):
        began = time.monotonic()
        with pytest.raises(StudyError, match=said) as error:
            open_ledger(wrong, study.path / "a")
        assert time.monotonic() - began < 30
        assert "hush" not in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mysql://u:hush@host/x", "kind 'mysql', but only postgresql"),
        ("sqlite:///x", "kind 'sqlite'"),
        ("hush", "--storage is no URL"),
        ("postgresql://u:hush@host", "--storage postgresql://u@host names no database"),
        ("postgresql://u:hush@host:port/x", "is no URL"),
    ],
)
def test_what_is_no_url_of_a_database_is_refused(text: str, said: str) -> None:
    with pytest.raises(StudyError, match=said) as error:
        parse_url(text)
    assert "hush" not in error.value.message


def test_without_its_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UnsupportedError, match=r"psycopg, which is not installed \(pip install 'nas-front\[postgresql"):
        parse_url("postgresql://host/x")


def test_passwords_are_taken_out_of_commands() -> None:
    command = (
        "nas search r.yaml --storage 'postgresql://me:hu@sh/1@host/x?password=hush2&a=b' --storage=postgres://u@h/x"
    )
    shown = without_password(command)
    assert "hu@sh" not in shown
    assert "hush2" not in shown
    assert "postgresql://me@host/x?password=***&a=b" in shown
    assert shown.endswith("--storage=postgres://u@h/x")


def test_other_tables_are_refused(study: Study) -> None:
    study.ledger("a")
    study.sql("UPDATE nas_version SET version = 2")
    with pytest.raises(StudyError, match=r"tables are of version 2, but this program knows 1 \(upgrade"):
        study.ledger("b")
    study.sql("UPDATE nas_version SET version = 1")
    study.sql("UPDATE version_info SET schema_version = 11")
    with pytest.raises(StudyError, match=r"tables of version 11, but only 12"):
        study.ledger("b")


def test_a_study_of_somebody_else_is_refused(study: Study) -> None:
    study.ledger("a", name="ours")
    with study.storage() as storage:
        optuna.create_study(study_name="theirs", storage=storage, directions=["maximize", "minimize"]).ask()
    with pytest.raises(StudyError, match=r"\(study 'theirs'\) is none of this program's .*--study-name"):
        study.ledger("b", name="theirs")


def test_somebody_else_who_adds_trials_is_found_out(study: Study) -> None:
    ledger = study.ledger("a")
    with study.storage() as storage:
        optuna.load_study(study_name="study", storage=storage).enqueue_trial({"stages": 1})
    with pytest.raises(StudyError, match=r"\(study 'study'\) holds 1 trials, but the next is trial 0.*nobody else"):
        ask(ledger)
    assert study.sql("SELECT count(*) FROM nas_trials") == [(0,)]
