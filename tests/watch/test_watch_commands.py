"""``nas watch`` and ``nas dashboard`` as a person starts them."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
import threading
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
import typer
from fakes import make_record, write_study
from search_fakes import FakeEvaluate, fake_recipe, run_loop
from typer.testing import CliRunner

from nas.commands.dashboard import HOST, _listening, dashboard, followed, load_application
from nas.commands.watch import watch
from nas.describe import describe
from nas.errors import NasError, StudyError, UnsupportedError
from nas.study import Study, StudyFolder
from nas.watch.storage_view import StorageView

CONSTRAINTS = ["size_bytes <= 30000", "accuracy >= 0.5"]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(watch)
    app.command()(dashboard)
    return app


def searched(path: Path, trials: int = 10) -> Study:
    return run_loop(path, fake_recipe("random", trials=trials, constraints=CONSTRAINTS), FakeEvaluate())[0]


def files(path: Path) -> dict[str, int]:
    return {str(found): found.stat().st_mtime_ns for found in [path, *path.rglob("*")]}


# --- watch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [["--once"], []])  # without a terminal, as here, both are the same
def test_without_a_terminal_one_frame_is_printed(
    app: typer.Typer, tmp_path: Path, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_study(tmp_path / "s", [make_record(0), make_record(1, 0.95, 0.3)])
    before = files(tmp_path)
    ran = CliRunner().invoke(app, ["watch", str(tmp_path / "s"), *more])
    assert ran.exit_code == 0, ran.output
    assert ran.output.startswith("s  no search is at work\n")
    assert max(map(len, ran.output.splitlines())) <= 80
    assert len(ran.output.splitlines()) <= 24
    assert files(tmp_path) == before


def test_no_study_is_one_clear_error(app: typer.Typer, tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["watch", str(tmp_path / "none"), "--once"])
    assert isinstance(ran.exception, StudyError)
    assert ran.exception.message == f"there is no study in {tmp_path / 'none'}"


# --- the copy that the dashboard shows -------------------------------------------------------------------------------


def test_the_copy_has_constraints_and_words_where_the_dashboard_looks_and_the_study_stays(tmp_path: Path) -> None:
    study = searched(tmp_path / "s")
    with closing(sqlite3.connect(study.folder.storage)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        study.folder.storage.with_name(study.folder.storage.name + suffix).unlink(missing_ok=True)
    before = files(tmp_path / "s")
    StorageView(study.folder, tmp_path / "copy.sqlite3")
    assert files(tmp_path / "s") == before, "not even SQLite's own files came to lie beside it"
    with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as copy:
        assert copy.execute("SELECT study_name FROM studies").fetchall() == [("s",)]
        rows = copy.execute(
            "SELECT number, value_json FROM trials JOIN trial_system_attributes USING (trial_id) WHERE key = ?",
            ("constraints",),
        )
        told = {number: json.loads(value) for number, value in rows}
        rows = copy.execute(
            "SELECT number, value_json FROM trials JOIN trial_user_attributes USING (trial_id) WHERE key = 'words'"
        )
        words = {number: json.loads(value) for number, value in rows}
    assert words == {record.number: describe(record.design) for record in study.records}
    assert study.measured
    for record in study.measured:
        constraints = study.recipe.parsed_constraints
        assert told[record.number] == [c.violation(record.value(c.quantity.key)) for c in constraints]


def test_the_copy_follows_a_search_that_holds_the_file_open(tmp_path: Path) -> None:
    study = searched(tmp_path / "s", trials=6)
    view = StorageView(study.folder, tmp_path / "copy.sqlite3")
    assert not view.refresh(), "nothing changed"

    def count() -> int:
        with closing(sqlite3.connect(tmp_path / "copy.sqlite3")) as copy:
            return int(copy.execute("SELECT COUNT(*) FROM trials").fetchone()[0])

    before = count()
    with closing(sqlite3.connect(study.folder.storage)) as search:
        search.execute("PRAGMA journal_mode=WAL")
        sql = "INSERT INTO trials (number, study_id, state) VALUES (?, 1, 'RUNNING')"
        search.execute(sql, (before,))
        search.commit()
        assert view.refresh()
        assert count() == before + 1
        search.execute(sql, (before + 1,))  # not committed: no part of it is seen
        view.refresh()
        assert count() == before + 1


def test_what_cannot_be_shown_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudyError, match=r"there is no study in .*none"):
        StorageView(StudyFolder(tmp_path / "none"), tmp_path / "copy.sqlite3")
    folder = write_study(tmp_path / "s", []).folder
    with pytest.raises(StudyError, match=r"has no optuna\.sqlite3.*'nas search'"):
        StorageView(folder, tmp_path / "copy.sqlite3")
    folder.storage.write_bytes(b"no database at all" * 100)
    monkeypatch.setattr("nas.watch.storage_view.PAUSE_SECONDS", 0.0)
    with pytest.raises(StudyError, match=r"cannot be read: file is not a database \(delete that file"):
        StorageView(folder, tmp_path / "copy.sqlite3")


# --- the dashboard ---------------------------------------------------------------------------------------------------


def test_without_the_extra_it_says_what_to_install(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    ran = CliRunner().invoke(app, ["dashboard", str(searched(tmp_path / "s").folder.path)])
    assert isinstance(ran.exception, UnsupportedError)
    assert str(ran.exception) == "Optuna's dashboard is not installed (pip install 'nas-front[dashboard]')"


def test_a_port_that_is_taken_is_one_clear_error() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NasError, match=f"port {port} of {HOST} cannot be used: .*--port"), _listening(None, port):
            pass


def test_a_view_is_refreshed_until_the_block_ends(tmp_path: Path) -> None:
    refreshed = threading.Event()

    class View(StorageView):
        def __init__(self) -> None:
            self.count = 0

        def refresh(self) -> bool:
            self.count += 1
            if self.count == 3:
                refreshed.set()
            raise StudyError("started over at this moment")

    view = View()
    with followed(view, seconds=0.001):
        assert refreshed.wait(60)
    assert view.count >= 3
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(follow)")]


def test_the_page_is_answered_on_this_machine_with_names_and_constraints(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    study = searched(tmp_path / "s")
    view = StorageView(study.folder, tmp_path / "copy.sqlite3")
    with _listening(load_application(view.copy), 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:

            def fetch(path: str) -> bytes:
                url = f"http://{HOST}:{server.server_port}{path}"
                with urllib.request.urlopen(url, timeout=60) as answer:
                    return bytes(answer.read())

            assert b"<html" in fetch("/dashboard").lower()
            number = json.loads(fetch("/api/studies"))["study_summaries"][0]["study_id"]
            shown = json.loads(fetch(f"/api/studies/{number}"))
        finally:
            server.shutdown()
            thread.join()
    assert shown["name"] == "s"
    assert shown["objective_names"] == list(study.recipe.objectives)
    assert len(shown["trials"]) == len(study.records)
    by_number = {trial["number"]: trial for trial in shown["trials"]}
    for record in study.measured:
        feasible = all(value <= 0 for value in by_number[record.number]["constraints"])
        assert feasible == record.feasible(study.recipe.parsed_constraints)
