"""Two ``nas search`` of one study in a PostgreSQL: each folder ends as a whole study, with the front's artifacts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_cluster import Cluster, binaries, runs_as

from nas.study import Study

pytestmark = [
    pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed (apt-get install postgresql)"),
    pytest.mark.skipif(runs_as() is None, reason="PostgreSQL does not run as root, and there is no user postgres"),
]
pytest.importorskip("psycopg", reason="psycopg is not installed (pip install 'nas-front[postgresql]')")

RECIPE = """\
data: {source: digits, train_limit: 200}
space: mlp
budget: {trials: 6, epochs: 1, finetune_epochs: 1}
training: {threads: 1, precision: float32}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


def start(recipe: Path, folder: Path, url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from nas.cli import main; main()", "search", str(recipe), "--output", str(folder)]
    command += ["--storage", url, "--cache", str(folder.parent / "cache")]
    own = os.environ | {"COLUMNS": "100"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=own)


def test_two_searchers_end_with_the_same_study(cluster: Cluster, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    searchers = [start(recipe, tmp_path / name, cluster.url()) for name in "ab"]
    said = [searcher.communicate(timeout=240)[0] for searcher in searchers]
    assert [searcher.returncode for searcher in searchers] == [0, 0], "\n".join(said)
    assert all("shared: study 'recipe' in postgresql://" in text for text in said)
    assert not any("p@ss" in text or "p%40ss" in text for text in said), "no password is shown"
    studies = [Study.open(tmp_path / name) for name in "ab"]
    assert [record.to_json() for record in studies[0].as_told] == [record.to_json() for record in studies[1].as_told]
    assert [study.spent for study in studies] == [6, 6]
    for study in studies:
        for record in study.front:
            study.artifact(record)  # raises where it is not there, or another one


def test_a_database_that_refuses_is_one_clear_line(cluster: Cluster, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    searcher = start(recipe, tmp_path / "a", cluster.url("no_such_database"))
    said = searcher.communicate(timeout=120)[0]
    assert searcher.returncode == 2
    assert "refuses: there is no such database" in said
    assert "Traceback" not in said
    assert not (tmp_path / "a").exists()
