"""``nas sensitivity`` on a tiny study: what it writes, what it says, how it fails."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from fakes import make_record, write_study
from rich.console import Console

from nas import cli
from nas.console import TerminalWatcher
from nas.outcome import Outcome
from nas.recipe import parse_recipe
from nas.search.run import search
from nas.sensitivity.result import load_sensitivity
from nas.study import Study, StudyFolder

RECIPE = {
    "data": {"source": "digits", "train_limit": 200, "validation_limit": 100},
    "space": "mlp",
    "budget": {"trials": 2, "epochs": 1, "finetune_epochs": 1},
    "training": {"threads": 1, "precision": "float32"},
    "sampler": "random",
}


class Ran:
    """What a command printed and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Runs the command line in this process."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two trials, searched once."""
    path = tmp_path_factory.mktemp("studies") / "tiny"
    with TerminalWatcher(Console(file=io.StringIO())) as watcher:
        search(parse_recipe(RECIPE, "a test's recipe"), path, watcher)
    return path


@pytest.fixture
def study(searched: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(searched, tmp_path / "tiny"))


def test_it_prints_the_table_and_writes_three_files(run, study: Path) -> None:  # type: ignore[no-untyped-def]
    ran = run("sensitivity", study, "--trial", 0)
    assert ran.code == 0, ran.err
    assert "Sensitivity of trial 0 of tiny" in ran.out
    assert "on 100 images" in ran.out
    for name in ("head.0", "head.2", "classifier"):
        assert re.search(rf"^{re.escape(name)} +\d+\.\d +\d+\.\d", ran.out, re.MULTILINE), ran.out
    for suffix in ("json", "csv", "png"):
        assert f"wrote {study}/sensitivity-00000.{suffix}" in ran.out
        assert (study / f"sensitivity-00000.{suffix}").stat().st_size > 0
    found = load_sensitivity(study / "sensitivity-00000.json")
    record = Study.open(study).record(0)
    assert found.design.architecture == record.design.architecture
    assert found.accuracy == record.value("accuracy"), "the baseline is not compressed"


def test_without_a_number_it_takes_the_most_accurate_of_the_front(run, study: Path) -> None:  # type: ignore[no-untyped-def]
    front = Study.open(study).front
    best = max(front, key=lambda record: (record.value("accuracy"), -record.number)).number
    ran = run("sensitivity", study, "--images", 20, "--layers")
    assert ran.code == 0, ran.err
    assert f"Sensitivity of trial {best} of tiny" in ran.out
    assert load_sensitivity(study / f"sensitivity-{best:05d}-layers.json").images == 20


def test_a_network_that_the_cache_lost_is_trained_again_and_found_the_same(run, study: Path) -> None:  # type: ignore[no-untyped-def]
    assert "training it again" not in run("sensitivity", study, "--trial", 0).out
    before = (study / "sensitivity-00000.json").read_bytes()
    shutil.rmtree(study / "cache")
    ran = run("sensitivity", study, "--trial", 0)
    assert ran.code == 0
    assert "the trained network of trial 0 is not in the cache; training it again" in ran.out
    assert (study / "sensitivity-00000.json").read_bytes() == before


def test_the_records_stay_as_they_are(run, study: Path) -> None:  # type: ignore[no-untyped-def]
    before = {path: path.read_bytes() for path in study.glob("trials/*")} | {
        study: (study / "recipe.yaml").read_bytes()
    }
    run("sensitivity", study, "--trial", 1, "--images", 10)
    after = {path: path.read_bytes() for path in study.glob("trials/*")} | {study: (study / "recipe.yaml").read_bytes()}
    assert before == after


def test_clearing_a_study_takes_its_sensitivities_and_no_other_file(study: Path) -> None:
    folder = StudyFolder(study)
    ours = [folder.sensitivity(12, layers, suffix) for layers in (False, True) for suffix in (".json", ".csv", ".png")]
    theirs = [study / name for name in ("sensitivity-notes.png", "sensitivity-12.json", "sensitivity-00012.txt")]
    for path in (*ours, *theirs):
        path.write_text("")
    folder.clear()
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in theirs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], r"there is no study in nowhere"),
        (["{study}", "--trial", "99"], r"there is no trial 99 in .*\n +trials run from 0 to 3"),
        (["{study}", "--trial", "1"], r"trial 1 has no network to analyse, it ended as infeasible: the feature map"),
        (["{study}", "--trial", "2"], r"trial 2 only repeats the design of trial 0\n +--trial 0"),
        (["{study}", "--trial", "3"], r"it ended as failed"),
    ],
)
def test_what_cannot_be_analysed_is_one_clear_line(run, tmp_path: Path, arguments, message: str) -> None:  # type: ignore[no-untyped-def]
    records = [
        make_record(0),
        make_record(1, outcome=Outcome.INFEASIBLE),
        make_record(2, outcome=Outcome.DUPLICATE, design=make_record(0).design, duplicate_of=0),
        make_record(3, outcome=Outcome.FAILED),
    ]
    write_study(tmp_path / "study", records)
    before = sorted(tmp_path.rglob("*"))
    ran = run("sensitivity", *(argument.format(study=tmp_path / "study") for argument in arguments))
    assert ran.code == 2
    assert re.search(message, ran.err), ran.err
    assert "Traceback" not in ran.err + ran.out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_study_without_a_front_needs_a_number(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_study(tmp_path / "study", [make_record(0, outcome=Outcome.FAILED)])
    ran = run("sensitivity", tmp_path / "study")
    assert ran.code == 2
    assert re.search(r"has no front yet\n +name a measured trial with --trial", ran.err)


@pytest.mark.parametrize("arguments", [["--trial", "-1"], ["--images", "0"], ["--trial", "x"]])
def test_numbers_that_are_none(run, tmp_path: Path, arguments: list[str]) -> None:  # type: ignore[no-untyped-def]
    assert run("sensitivity", tmp_path, *arguments).code == 2


def test_data_that_changed_is_refused(run, study: Path) -> None:  # type: ignore[no-untyped-def]
    inputs = json.loads((study / "inputs.json").read_text())
    (study / "inputs.json").write_text(json.dumps(inputs | {"data": "0" * 64}))
    ran = run("sensitivity", study, "--trial", 0)
    assert ran.code == 2
    assert "changed since the study began" in ran.err
    assert not list(study.glob("sensitivity-*"))


def test_a_search_at_work_is_not_disturbed(run, study: Path) -> None:  # type: ignore[no-untyped-def]
    with StudyFolder(study).claim():
        ran = run("sensitivity", study, "--trial", 0)
    assert ran.code == 2
    assert "another search is at work" in ran.err
    assert not list(study.glob("sensitivity-*"))


def test_help_shows_examples(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("sensitivity", "--help")
    assert ran.code == 0
    assert "nas sensitivity studies/digits --trial 12 --layers" in ran.out


# --- as a prior ------------------------------------------------------------------------------------------------------


def write_recipe(folder: Path, prior: Path | str | None, **changes: object) -> Path:
    path = folder / "next.yaml"
    data = RECIPE | changes | ({"prior": str(prior)} if prior is not None else {})
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.long
def test_a_search_begins_with_what_the_prior_proposes(run, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The path is meant from the recipe's folder; where the file lies does not matter afterwards, what it says does."""
    assert run("sensitivity", study, "--trial", 0).code == 0
    recipe = write_recipe(tmp_path, "tiny/sensitivity-00000.json", budget=RECIPE["budget"] | {"trials": 3})  # type: ignore[operator]
    ran = run("search", recipe)
    assert ran.code == 0, ran.err
    assert re.search(r"prior: trial 0 of tiny; begins with \d designs? of it", ran.out)
    records = Study.open(tmp_path / "next").records
    origins = [record.origin for record in records]
    assert origins[:2] == ["baseline", "prior"]
    architecture = Study.open(study).record(0).design.architecture
    assert all(record.design.architecture == architecture for record in records if record.origin == "prior")

    moved = (tmp_path / "tiny/sensitivity-00000.json").rename(tmp_path / "moved.json")
    assert run("search", write_recipe(tmp_path, moved, budget=RECIPE["budget"] | {"trials": 4})).code == 0  # type: ignore[operator]
    assert [record.origin for record in Study.open(tmp_path / "next").records][: len(origins)] == origins

    data = json.loads(moved.read_text())
    moved.write_text(json.dumps(data | {"accuracy": data["accuracy"] / 2}))
    ran = run("search", write_recipe(tmp_path, moved))
    assert ran.code == 2
    assert "prior: changed since the study began" in ran.err
    ran = run("search", write_recipe(tmp_path, None))
    assert ran.code == 2
    assert 'prior: "given", null' in ran.err


def test_starting_over_does_not_delete_the_prior_that_it_needs(run, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert run("sensitivity", study, "--trial", 0, "--images", 10).code == 0
    recipe = write_recipe(tmp_path, study / "sensitivity-00000.json")
    ran = run("search", recipe, "--output", study, "--fresh", "--yes")
    assert ran.code == 2
    assert "lies in the study that --fresh would delete" in ran.err
    assert (study / "sensitivity-00000.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"the prior .*prior\.json cannot be read"), ("{}", r"the prior .*prior\.json holds no sensitivity")],
)
def test_a_bad_prior_is_said_before_anything_is_spent(run, tmp_path: Path, content: str | None, message: str) -> None:  # type: ignore[no-untyped-def]
    if content is not None:
        (tmp_path / "prior.json").write_text(content)
    ran = run("search", write_recipe(tmp_path, "prior.json"))
    assert ran.code == 2
    assert re.search(message, ran.err), ran.err
    assert not (tmp_path / "next").exists()
