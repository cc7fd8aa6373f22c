"""``nas search --executor`` and ``--storage``: what is refused before anything is loaded, and what the options name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas import cli
from nas.commands.executor import Cluster, named_cluster
from nas.commands.sharing import SharedStudy, named_study

SMOKE = Path(__file__).parent.parent / "studies" / "smoke.yaml"
URL = "postgresql://nas:secret@127.0.0.1:1/nas"

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a search's command line in this process; gives exit code and what it printed. It leaves nothing behind."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> SimpleNamespace:
        study = tmp_path / "study"
        monkeypatch.setattr(sys, "argv", ["nas", "search", str(SMOKE), "-o", str(study), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not study.exists()
        captured = capsys.readouterr()
        return SimpleNamespace(code=int(ended.value.code or 0), out=captured.out, err=captured.err)

    return call


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--address", "auto"], "--address: only for --executor ray"),
        (["--cache", "s3://x/y", "--resources", "{}"], "--resources, --cache: only for --executor ray"),
        (["--executor", "local", "--address", "auto"], "--address: only for --executor ray"),
        (["--executor", "rey"], "--executor: unknown executor 'rey'; did you mean 'ray'? valid: local, ray"),
    ],
)
def test_options_of_another_executor_are_one_clear_line(run: Run, options: list[str], message: str) -> None:
    ran = run(*options)
    assert ran.code == 2
    assert ran.err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resources", "target:board"], "--resources is no JSON"),
        (["--resources", '{"target:a": 1}', "--target", "http://board:8765"], "both say where to measure"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_resources_are_read_before_anything_else(run: Run, options: list[str], message: str, more: list[str]) -> None:
    ran = run("--executor", "ray", *options, *more)
    assert ran.code == 2
    assert message in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_without_ray_it_says_how_to_install_it(run: Run, monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = run("--executor", "ray", *more)
    assert ran.code == 2
    assert "Ray is not installed" in ran.err
    assert "pip install 'nas-front[ray]'" in ran.err


def test_the_options_name_a_cluster() -> None:
    assert named_cluster("local", None, None, None, "http://board:8765") is None
    assert named_cluster("ray", None, None, None, "http://board:8765") == Cluster(None, None, {}, None)
    found = named_cluster("ray", "head:6379", '{"target:board": 1, "fast": 0.5, "CPU": 2}', "s3://bucket/x", None)
    assert found == Cluster("head:6379", ("target:board", 1.0), {"fast": 0.5, "CPU": 2.0}, "s3://bucket/x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--study-name", "x"], "--study-name: only with --storage"),
        (["--cache", "/tmp/x"], "--cache: only for --executor ray, or with --storage"),
        (["--storage", URL], "--storage needs --cache"),
        (["--storage", URL, "--cache", ""], "--storage needs --cache"),
        (["--storage", URL, "--cache", "c", "--study-name", ""], "--study-name is empty"),
        (["--storage", URL, "--cache", "c", "--dry-run"], "--dry-run looks at this machine and folder alone"),
        (["--storage", URL, "--cache", "c", "--fresh"], "name another one with --study-name"),
        (["--storage", "nonsense", "--cache", "c"], "--storage is no URL"),
        (["--storage", "sqlite:///x.db", "--cache", "c"], "only postgresql can be shared"),
        (["--storage", "postgresql://host", "--cache", "c"], "names no database"),
    ],
)
def test_options_that_do_not_go_with_storage_are_one_clear_line(run: Run, options: list[str], message: str) -> None:
    ran = run(*options)
    assert ran.code == 2
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert "secret" not in ran.err


def test_without_psycopg_it_says_how_to_install_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    ran = run("--storage", URL, "--cache", "c")
    assert ran.code == 2
    assert "pip install 'nas-front[postgresql]'" in ran.err


def test_the_options_name_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'nas-front[postgresql]')")
    assert named_study(None, None, None, SMOKE, True, True) is None
    assert named_study(URL, None, "c", SMOKE, False, False) == SharedStudy(URL, "smoke", "c")
    assert named_study(URL, "mine", "c", SMOKE, False, False) == SharedStudy(URL, "mine", "c")
