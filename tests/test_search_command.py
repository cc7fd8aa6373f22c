"""``nas search``: what its options do to a recipe, the dry run, and how both fail."""

from __future__ import annotations

import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from fakes import make_design, make_recipe, make_record, write_study
from rich.console import Console

from nas import cli
from nas.commands.dry_run import render
from nas.recipe import Recipe
from nas.search.costs import PARTS, Costs, DesignCost
from nas.search.dry_run import DryRun
from nas.search.plan import plan
from nas.space import load_space

ROOT = Path(__file__).parent.parent
SMOKE = ROOT / "studies" / "smoke.yaml"

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process; gives exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return SimpleNamespace(code=int(ended.value.code or 0), out=captured.out, err=captured.err)

    return call


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes of searches that would have started."""
    found: list[Recipe] = []
    monkeypatch.setattr("nas.commands.search.run_study", lambda recipe, *rest: found.append(recipe))
    return found


# --- options


def test_options_stand_in_for_what_the_recipe_says(run: Run, started: list[Recipe]) -> None:
    assert run("search", SMOKE, "--strategy", "plain", "--sampler", "gp", "--patience", "2.5", "--minutes", 3).code == 0
    recipe = started[0]
    assert (recipe.strategy, recipe.sampler) == ("plain", "gp")
    assert (recipe.budget.patience_minutes, recipe.budget.minutes, recipe.budget.trials) == (2.5, 3, 4)
    assert recipe.budget.epochs == 2, "what is not named stays"


def test_without_options_the_recipe_is_as_written(run: Run, started: list[Recipe]) -> None:
    run("search", SMOKE)
    written = yaml.safe_load(SMOKE.read_text())
    assert started[0].sampler == written["sampler"]
    assert started[0].budget.patience_minutes is None
    assert started[0].warm_start == ()


def test_earlier_studies_are_added_to_the_recipes_and_found_from_here(
    run: Run, started: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recipes" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(yaml.safe_load(SMOKE.read_text()) | {"warm_start": ["near"]}))
    monkeypatch.chdir(tmp_path)
    run("search", path, "--warm-start", "one", "--warm-start", tmp_path / "two")
    assert started[0].warm_start == (path.parent / "near", tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "guidet"], r"--strategy: unknown strategy 'guidet'; did you mean 'guided'\?"),
        (["--sampler", "TPEE"], r"--sampler: unknown sampler 'TPEE'; did you mean 'tpe'\?"),
        (["--warm-start", "nowhere"], r"there is no study in .*nowhere"),
        (["--warm-start", "nowhere", "--dry-run"], r"there is no study in .*nowhere"),
    ],
)
def test_a_bad_option_is_one_clear_line_and_leaves_nothing_behind(
    run: Run, tmp_path: Path, options: list[str], message: str
) -> None:
    ran = run("search", SMOKE, "--output", tmp_path / "study", *options)
    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert re.search(message, ran.err.replace("\n", " ")), ran.err
    assert "Traceback" not in ran.out + ran.err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_study_cannot_start_from_itself(run: Run, tmp_path: Path, more: list[str]) -> None:
    write_study(tmp_path / "study", [make_record(0, design=make_design())])
    ran = run("search", SMOKE, "--output", tmp_path / "study", "--warm-start", tmp_path / "x" / ".." / "study", *more)
    assert ran.code == 2
    assert "this study itself" in ran.err


def test_a_dry_run_refuses_what_the_search_would_refuse(run: Run, tmp_path: Path) -> None:
    resnet = tmp_path / "resnet.yaml"
    resnet.write_text(yaml.safe_dump(yaml.safe_load(SMOKE.read_text()) | {"space": "resnet", "strategy": "supernet"}))
    ran = run("search", resnet, "--dry-run")
    assert ran.code == 2
    assert "strategy 'supernet' is for families" in ran.err
    write_study(tmp_path / "other", [make_record(0, design=make_design())])
    (tmp_path / "other" / "inputs.json").write_text("{}")
    ran = run("search", SMOKE, "--dry-run", "--output", tmp_path / "other")
    assert ran.code == 2
    assert "holds a study of another recipe" in ran.err


# --- the dry run


def test_a_dry_run_tells_what_a_trial_costs_and_writes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one, which tries the smoke recipe's designs in small."""
    monkeypatch.setattr("nas.search.probe.PROBE_DESIGNS", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    recipe = tmp_path / "smoke.yaml"
    recipe.write_text(SMOKE.read_text())
    ran = run("search", recipe, "--dry-run")
    assert ran.code == 0, ran.err
    assert max(len(line.rstrip()) for line in ran.out.splitlines()) <= 80
    assert "5.1 × 10⁸ designs" in ran.out
    for stage in ("train 2 epochs", "export", "measure", "a whole trial"):
        assert re.search(rf"^{stage} +[\d.]+ s +[\d.]+ s +[\d.]+ s$", ran.out, re.MULTILINE), stage
    said = " ".join(ran.out.split())
    assert "extrapolated from 2 designs tried in small" in said
    assert "Strategy plain: the budget holds about 4 trials" in said
    assert "It begins with the baseline. About 4 trials in about" in said
    assert "Nothing was written." in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["smoke.yaml", "temporary"]
    assert list((tmp_path / "temporary").glob("nas-dry-run-*")) == []


def rendered(recipe: Recipe, **changes: Any) -> str:
    """A dry run as a terminal of 80 columns shows it."""
    seconds = {part: 3.0 * number for number, part in enumerate(PARTS)}
    designs = (DesignCost({part: 1000 * spent for part, spent in seconds.items()}, baseline=True), DesignCost(seconds))
    costs = Costs(designs, 9, 100, "by a test")
    space = load_space("convnet")
    fields = {"plan": plan(recipe, space, costs), "records": (), "starts": {}, "notes": ("digits\n  of all sorts",)}
    console = Console(width=80, record=True, file=io.StringIO(), color_system=None)
    console.print(render(DryRun(recipe, space, costs, **(fields | changes))))
    return console.export_text()


def test_the_table_has_a_row_for_each_stage_that_takes_time_and_fits_80_columns() -> None:
    text = rendered(make_recipe(budget={"trials": 60, "minutes": 500, "patience_minutes": 2}))
    rows = {line.split("  ")[0] for line in text.splitlines()}
    assert {"prune and fine-tune", "quantise or share weights", "score on validation images", "a whole trial"} <= rows
    assert not any(line.startswith("train ") for line in text.splitlines()), "no epoch takes any time"
    assert re.search(r"^export +50\.0 min +6\.0 s +1\.7 h", text, re.MULTILINE)
    assert "budget: 60 trials or 500 minutes, whichever comes first" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_budget_that_is_too_small_is_minded() -> None:
    text = " ".join(rendered(make_recipe(budget={"minutes": 0.5})).split())
    assert "Mind The budget of 0.5 minutes is too small" in text
