"""``nas plot`` and ``nas compare``: what they write and say, and what they refuse."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import typer
from fakes import LATENCY, make_recipe, make_record, write_study
from large_study import make
from PIL import Image
from report.compared_studies import study_of
from sensitivity.sensitivity_fakes import two_stages
from typer.testing import CliRunner, Result

from nas.commands.compare import compare
from nas.commands.plot import KINDS, plot
from nas.errors import NasError
from nas.report.compare import compare as compare_studies
from nas.study import Study

SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF-"}


def run(*words: str) -> Result:
    """The command, whose errors come through as they are raised, at 80 columns."""
    app = typer.Typer()
    app.command()(plot)
    app.command()(compare)
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "80"}, catch_exceptions=True)


def refused(*words: str) -> NasError:
    result = run(*words)
    assert isinstance(result.exception, NasError), result.output
    assert result.exception.exit_code == 2
    assert "\n" not in result.exception.message
    return result.exception


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make(tmp_path_factory.mktemp("studies") / "large", trials=150)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [*(("front", suffix) for suffix in SIGNATURES), *((kind, ".pdf") for kind in KINDS[1:] if kind != "sensitivity")],
)
def test_every_kind_and_every_format(study: Study, tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    result = run("plot", str(study.folder.path), "--kind", kind, "--output", str(path))
    assert result.exception is None, result.output
    assert path.read_bytes().startswith(SIGNATURES[suffix])
    caption, wrote = result.output.splitlines()
    assert len(caption) > 30
    assert wrote == f"wrote {path}"


def test_without_output_it_lies_in_the_study_s_folder(study: Study) -> None:
    assert run("plot", str(study.folder.path)).exception is None
    assert (study.folder.path / "plot-front.png").is_file()


def test_a_wider_picture_has_more_pixels(study: Study, tmp_path: Path) -> None:
    sizes = []
    for width in ("3.4", "7"):
        path = tmp_path / f"{width}.png"
        assert run("plot", str(study.folder.path), "--width", width, "--output", str(path)).exception is None
        with Image.open(path) as image:
            sizes.append(image.width)
    assert sizes == [1020, 2100]


def test_the_sensitivity_that_was_made_last_or_of_a_trial(tmp_path: Path) -> None:
    study = write_study(tmp_path / "digits", [make_record(0)])
    missing = refused("plot", str(study.folder.path), "--kind", "sensitivity")
    assert missing.message == f"there is no sensitivity in {study.folder.path}"
    assert missing.hint == f"run first: nas sensitivity {study.folder.path}"
    hint = refused("plot", str(study.folder.path), "--kind", "sensitivity", "--trial", "7").hint
    assert hint == f"run first: nas sensitivity {study.folder.path} --trial 7"
    for trial, time in ((3, 2000), (12, 1000)):
        path = study.folder.sensitivity(trial, False, ".json")
        data = two_stages().to_json()
        path.write_text(json.dumps(data | {"trial": trial}))
        os.utime(path, (time, time))
    output = tmp_path / "sensitivity.svg"
    words = ["plot", str(study.folder.path), "--kind", "sensitivity", "--output", str(output)]
    assert "that trial 3 of digits loses" in run(*words).output
    assert "that trial 12 of digits loses" in run(*words, "--trial", "12").output
    assert output.read_bytes().startswith(b"<?xml")
    study.folder.sensitivity(12, False, ".json").write_text("{}")
    assert "sensitivity-00012.json holds no sensitivity" in refused(*words, "--trial", "12").message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "frnt"], "unknown kind of picture 'frnt'; did you mean 'front'?"),
        (["--output", "x.jpg"], "must end in .png, .svg or .pdf"),
        (["--width", "0.5"], "2.5 to 20 inches wide, but got 0.5"),
        (["--kind", "flops-latency", "--width", "3.4"], "is 8.4 inches wide"),
        (["--trial", "3"], "--trial goes with --kind sensitivity"),
    ],
)
def test_what_cannot_be_plotted_is_refused(study: Study, words: list[str], message: str) -> None:
    error = refused("plot", str(study.folder.path), *words)
    assert message in error.message
    assert error.hint


def test_importance_needs_trials(tmp_path: Path) -> None:
    study = write_study(tmp_path / "digits", [make_record(n) for n in range(3)])
    error = refused("plot", str(study.folder.path), "--kind", "importance")
    assert "3 trials were measured" in error.message
    assert not (study.folder.path / "plot-importance.png").exists()


def test_no_study(tmp_path: Path) -> None:
    assert "there is no study" in refused("plot", str(tmp_path)).message
    assert "there is no study" in refused("compare", str(tmp_path / "a"), str(tmp_path / "b")).message


def test_two_studies_are_compared_and_drawn(study: Study, tmp_path: Path) -> None:
    other = make(tmp_path / "other" / "large", trials=60, seed=1)
    path = tmp_path / "compare.pdf"
    result = run("compare", str(study.folder.path), str(other.folder.path), "--output", str(path))
    assert result.exception is None, result.output
    *lines, wrote = result.output.rstrip("\n").splitlines()
    assert wrote == f"wrote {path}"
    assert path.read_bytes().startswith(b"%PDF-")
    assert max(map(len, lines)) <= 80
    assert "A " in result.output
    assert "other/large" in result.output
    without = run("compare", str(study.folder.path), str(other.folder.path))
    assert without.output.endswith("nothing was drawn; add --output compare.png for the picture\n")


def test_a_comparison_as_json_has_the_tables_numbers(tmp_path: Path) -> None:
    a = study_of(tmp_path / "a", (0.8, 0.1), (0.86, 0.3), (0.9, 0.9))
    b = study_of(tmp_path / "b", (0.7, 0.1), (0.85, 0.3), (0.95, 0.8))
    path = tmp_path / "compare.json"
    result = run("compare", str(a.folder.path), str(b.folder.path), "--json", str(path))
    assert result.exception is None, result.output
    assert f"wrote {path}\n" in result.output
    found = json.loads(path.read_text())
    assert found["objectives"] == ["accuracy", LATENCY]
    assert [study["name"] for study in found["studies"]] == ["a", "b"]
    assert [member["trial"] for member in found["studies"][1]["front"]] == [0, 1, 2]
    assert found["studies"][1]["front"][2] == {"trial": 2, "accuracy": 0.95, LATENCY: 0.8}
    assert found["covered"] == [[3, 2], [1, 3]]
    assert found["lacks"][0][0] is None
    assert found["lacks"][0][1] == pytest.approx(0.05)  # 0.95 where the other has 0.90
    comparison = compare_studies([a, b])
    assert [study["hypervolume"] for study in found["studies"]] == [one.volume for one in comparison.contenders]
    assert [lead["leader"] for lead in found["leads"]] == [lead.leader for lead in comparison.leads] == [0, 1]
    assert sum(found["shares_ahead"]) == pytest.approx(1)


def test_json_that_cannot_be_written_is_refused_at_once(study: Study, tmp_path: Path) -> None:
    words = ["compare", str(study.folder.path), str(study.folder.path), "--json", str(tmp_path / "no" / "c.json")]
    assert "c.json cannot be written" in refused(*words).message


def test_studies_of_two_machines_are_refused_unless_asked_for(study: Study, tmp_path: Path) -> None:
    other = make(tmp_path / "elsewhere", trials=30, seed=1, environment_id="b45dcc2588c4", faster=1.3)
    words = ["compare", str(study.folder.path), str(other.folder.path)]
    error = refused(*words)
    assert "elsewhere on Example processor b45, 2 cores (b45dcc2588c4)" in error.message
    assert error.hint.endswith("or add --anyway")
    result = run(*words, "--anyway")
    assert result.exception is None
    assert result.output.startswith("warning: not comparable: latency_ms@")


def test_one_study_alone_and_an_impossible_picture_are_refused(study: Study, tmp_path: Path) -> None:
    assert "a comparison is of 2 to 8 studies, but got 1" in refused("compare", str(study.folder.path)).message
    twice = [str(study.folder.path)] * 2
    assert "is named twice" in refused("compare", *twice).message
    other = write_study(tmp_path / "b", [make_record(0)], make_recipe(objectives=["accuracy", LATENCY]))
    words = ["compare", str(study.folder.path), str(other.folder.path), "--output", "x.gif"]
    assert "must end in" in refused(*words).message
