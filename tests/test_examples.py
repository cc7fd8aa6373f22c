"""The README's examples of what a person may bring: each is run, in small, as it stands there."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from own_files import forgotten

from nas import cli
from nas.outcome import Outcome
from nas.study import Study

ROOT = Path(__file__).parent.parent
EXAMPLES = Path(__file__).parent / "examples"
FILES = sorted(EXAMPLES.glob("own_*.*"))
MOST_LINES = 5

Run = Callable[..., Study]


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    with forgotten():
        yield


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a folder with the examples; gives the study that it wrote."""
    monkeypatch.chdir(tmp_path)
    for path in FILES:
        shutil.copy(path, tmp_path)

    def call(*arguments: str, says: str = "", trials: int = 1) -> Study:
        monkeypatch.setattr(sys, "argv", ["nas", *arguments, "--trials", str(trials), "--output", "study"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert ended.value.code == 0, printed.out + printed.err
        assert says in printed.out + printed.err
        study = Study.open(tmp_path / "study")
        assert [record.outcome for record in study.records] == [Outcome.MEASURED] * trials
        return study

    return call


def with_space(name: str) -> str:
    """A recipe of the digits for a space, as the README says to write it: that of own data with another space."""
    text = (EXAMPLES / "own_data.yaml").read_text().replace("convnet-small", name)
    Path("recipe.yaml").write_text(text)
    return "recipe.yaml"


def test_own_data(run: Run) -> None:
    study = run("search", "own_data.yaml", says="runs own_data.py")
    assert len(study.record(0).manifest["class_names"]) == 10


def test_own_space(run: Run) -> None:
    study = run("search", with_space("own_space.yaml"))
    assert all(record.design.architecture["layer1.width"] in (16, 32, 64) for record in study.records)


def test_own_family(run: Run) -> None:
    study = run("search", with_space("own_family.yaml"), says="runs own_family.py", trials=2)
    assert all(record.design.family.startswith("own_family.py:build@") for record in study.records)


def test_own_objective(run: Run) -> None:
    study = run("search", "own_objective.yaml", says="runs own_objective.py", trials=2)
    for record in study.records:
        assert record.value("flash_pages") == -(-len(study.artifact(record)) // 4096)


def test_own_model(run: Run) -> None:
    study = run("compress", "own_model.py:make", "--arg", "classes=10", "--data", "digits")
    assert study.record(0).design.family == "module"
    assert study.record(0).value("accuracy") > 0.5


# --- what the README shows


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_readme_shows_the_file_as_it_is(path: Path) -> None:
    language = {".py": "python", ".yaml": "yaml"}[path.suffix]
    block = f"`{path.name}`:\n\n```{language}\n{path.read_text()}```\n"
    assert block in (ROOT / "README.md").read_text(), f"the README must show:\n\n{block}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_is_as_short_as_the_readme_says(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not re.match(r"(from|import) ", line)]
    assert len(lines) <= MOST_LINES
