"""The command line: what it prints, how it fails, and that it loses nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from fakes import make_record, write_study

from nas import __version__, cli

ROOT = Path(__file__).parent.parent
SMOKE = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text())


class Ran:
    """What a command printed and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Runs the command line in this process."""
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return call


def write_recipe(folder: Path, **changes: object) -> Path:
    """The smoke recipe with some keys changed; a key set to None is left out."""
    path = folder / "recipe.yaml"
    data = {key: value for key, value in (SMOKE | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(data))
    return path


BAD_RECIPES = [
    ({"sampler": "tpee"}, r"unknown sampler 'tpee'; did you mean 'tpe'"),
    ({"budgett": {}}, r"unknown key 'budgett'; did you mean 'budget'"),
    ({"data": {"source": "digitz"}}, r"unknown data source 'digitz'; did you mean 'digits'"),
    ({"data": None}, r"'data' is missing"),
    ({"space": "convnett"}, r"unknown search space 'convnett'; did you mean 'convnet'"),
    ({"objectives": ["accuracy", "latency"]}, r"unknown objective 'latency'; did you mean 'latency_ms'"),
    ({"objectives": ["accuracy"]}, r"needs 2 to 4 objectives, but got 1"),
    ({"objectives": ["accuracy", "latency_ms@onnxruntime-cpu"]}, r"onnxruntime-cpu"),
    ({"objectives": ["accuracy", "latency_ms@tensorrt-cuda-1t-b1"]}, r"tensorrt"),
    ({"constraints": ["size_bytes < 3"]}, r"a constraint must read"),
    ({"budget": {"epochs": 1}}, r"needs 'trials' or 'minutes'"),
    ({"data": {"source": "digits", "validation": 0.9, "test": 0.3}}, r"must leave data to train on"),
    ({"data": {"source": "npz", "path": "nowhere.npz"}}, r"nowhere\.npz"),
    ({"data": {"source": "idx", "path": "."}}, r"train-images"),
    ({"teacher": {"path": "nowhere.onnx"}}, r"the teacher nowhere\.onnx is not there"),
]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("plot", "s", "--trial", "-1"), r"Invalid value for '--trial' / '-t': .*0", "nas plot --help"),
        (("search", "r.yaml", "--patience", "nan"), r"Invalid value for '--patience': .*0\.01", "nas search --help"),
        (("front",), r"Missing argument 'STUDY'", "nas front --help"),
        (("front", "s", "--nope"), r"No such option: --nope", "nas front --help"),
        (("serch",), r"No such command 'serch'", "nas --help"),
    ],
)
def test_wrong_arguments_are_one_line_and_where_to_look(
    run, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    first, second = ran.err.strip().splitlines()
    assert re.fullmatch(rf"error: {message}.*", first)
    assert second.strip().endswith(f"{hint}' says what it takes")
    assert ran.out == ""


def test_without_arguments_it_says_what_there_is(run) -> None:
    ran = run()
    assert ran.code == 2
    assert "Usage:" in ran.out + ran.err
    assert "search" in ran.out + ran.err


@pytest.mark.parametrize(("changes", "message"), BAD_RECIPES, ids=lambda value: str(value)[:40])
def test_a_bad_recipe_is_one_clear_line(run, tmp_path: Path, changes, message: str) -> None:  # type: ignore[no-untyped-def]
    ran = run("search", write_recipe(tmp_path, **changes), "--output", tmp_path / "study")
    assert ran.code == 2
    assert re.search(message, ran.err), ran.err
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err + ran.out
    assert len(ran.err.strip().splitlines()) <= 2, "one line, and a hint"
    assert not (tmp_path / "study").exists(), "a bad recipe leaves nothing behind"


BAD_SPACES = [
    ("family: convnett\narchitecture: {stem.width: [8]}", r"unknown family 'convnett'; did you mean 'convnet'"),
    ("family: convnet\narchitecture: {stem.width: {range: {low: 9, high: 3, step: 1}}}", r"low"),
    ("family: convnet\narchitecture: {stem.widht: [8]}", r"stem\.widht"),
    ("family: convnet\narchitecture: [", r"YAML"),
]


@pytest.mark.parametrize(("text", "message"), BAD_SPACES, ids=lambda value: str(value)[:40])
def test_a_bad_space_is_one_clear_line(run, tmp_path: Path, text: str, message: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "own.yaml").write_text(text)
    ran = run("search", write_recipe(tmp_path, space="own.yaml"), "--output", tmp_path / "study")
    assert ran.code == 2
    assert re.search(message, ran.err), ran.err
    assert "own.yaml" in ran.err or "family" in ran.err
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "nowhere.yaml"], r"there is no recipe nowhere\.yaml"),
        (["front", "nowhere"], r"there is no study in nowhere"),
        (["report", "nowhere"], r"there is no study in nowhere"),
        (["pick", "nowhere"], r"there is no study in nowhere"),
        (["predict", "nowhere", "x.png"], r"nowhere"),
        (["spaces", "convnett"], r"did you mean 'convnet'"),
        (["profile", "convnett"], r"did you mean 'convnet'"),
        (["profile", "convnet", "--set", "stem.width=7"], r"'stem\.width' cannot be '7'"),
        (["profile", "convnet", "--set", "stem.widht=8"], r"did you mean 'stem\.width'"),
        (["profile", "convnet", "--input-shape", "28"], r"HEIGHTxWIDTHxCHANNELS"),
        (["profile", "convnet", "--input-shape", "28x00x1"], r"HEIGHTxWIDTHxCHANNELS"),
        (["profile", "convnet", "--input-shape", "100000x100000x3"], r"30,000,000,000 values an image"),
        (["profile", "convnet", "--target", "onnxrun"], r"onnxrun"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_arguments_are_one_clear_line(run, arguments, message: str) -> None:  # type: ignore[no-untyped-def]
    ran = run(*arguments)
    assert ran.code == 2
    assert re.search(message, ran.err), ran.err
    assert "Traceback" not in ran.err + ran.out


def test_a_file_that_is_no_onnx_model(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    ran = run("profile", tmp_path / "model.onnx")
    assert ran.code == 2
    assert "model.onnx" in ran.err
    assert "Traceback" not in ran.err


def test_version(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("--version")
    assert (ran.code, ran.out.strip()) == (0, __version__)


def test_whoever_interrupts_it_while_it_loads_gets_no_traceback() -> None:
    script = """
import sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "nas.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from nas.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_it_runs_as_a_module_as_well() -> None:
    ended = subprocess.run([sys.executable, "-m", "nas", "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == __version__


def test_debug_shows_the_traceback(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("--debug", "front", "nowhere")
    assert ran.code == 2
    assert "Traceback" in ran.err


def test_a_damaged_record_is_named(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_study(tmp_path / "s", [make_record(0), make_record(1)])
    (tmp_path / "s" / "trials" / "00001.json").write_text("{")
    ran = run("front", tmp_path / "s")
    assert ran.code == 2
    assert "00001.json" in ran.err


def test_names_that_look_like_markup_are_printed_as_they_are(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "[red]x[/k]"
    write_study(folder, [make_record(0)])
    ran = run("front", folder)
    assert ran.code == 0
    assert "wrote" in ran.out
    assert "[red]x[/k]/front.csv" in ran.out
    (tmp_path / "own.yaml").write_text("family: convnet\narchitecture: {'[/q]': [1, 2]}")
    ran = run("spaces", tmp_path / "own.yaml")
    assert ran.code == 0
    assert "[/q]" in ran.out


def test_pick_without_output_writes_nothing(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_study(tmp_path / "s", [make_record(0, 0.9, 0.05), make_record(1, 0.95, 0.2)])
    before = sorted(tmp_path.rglob("*"))
    ran = run("pick", tmp_path / "s", "--max-latency-ms", "0.1")
    assert ran.code == 0
    assert "Trial 0" in ran.out
    assert sorted(tmp_path.rglob("*")) == before


def test_pick_with_limits_that_nobody_meets_exits_with_1(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_study(tmp_path / "s", [make_record(0, 0.9, 0.05), make_record(1, 0.95, 0.2)])
    ran = run("pick", tmp_path / "s", "--max-latency-ms", "0.01", "--min-accuracy", "0.99", "-o", tmp_path / "deploy")
    assert ran.code == 1
    assert not (tmp_path / "deploy").exists()


@pytest.mark.parametrize("command", ["search", "front", "report", "pick", "predict", "spaces", "profile"])
def test_every_command_explains_itself_by_an_example(run, command: str) -> None:  # type: ignore[no-untyped-def]
    ran = run(command, "--help")
    assert ran.code == 0
    assert f"nas {command}" in ran.out


def test_fresh_does_not_delete_unasked(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_study(tmp_path / "s", [make_record(0)])
    ran = run("search", write_recipe(tmp_path), "--output", tmp_path / "s", "--fresh")
    assert ran.code == 2
    assert "add --yes" in ran.err
    assert (tmp_path / "s" / "trials" / "00000.json").exists()


def test_another_recipes_folder_is_refused_with_the_difference(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_study(tmp_path / "s", [make_record(0)])
    ran = run("search", write_recipe(tmp_path), "--output", tmp_path / "s")
    assert ran.code == 2
    assert "seed: 0, 3" in ran.err


def nas(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the installed command."""
    command = [str(Path(sys.executable).parent / "nas"), *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "120"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment, check=False)


def test_the_whole_way_through_the_installed_command(tmp_path: Path) -> None:
    """search → front → report → pick → predict, then the search again, which finds its budget met."""
    recipe = ROOT / "studies" / "smoke.yaml"
    searched = nas("search", recipe, "--output", "study", cwd=tmp_path)
    assert searched.returncode == 0, searched.stderr
    assert "Traceback" not in searched.stderr
    for number in range(4):
        assert re.search(rf"^ +{number} measured", searched.stdout, re.MULTILINE), searched.stdout
    assert "next: nas pick study" in searched.stdout
    study = tmp_path / "study"
    for name in ("front.csv", "front.json", "pareto.png", "report.html", "optuna.sqlite3", "recipe.yaml"):
        assert (study / name).stat().st_size > 0

    shown = nas("front", "study", cwd=tmp_path)
    assert shown.returncode == 0
    assert "hypervolume" in shown.stdout
    assert nas("report", "study", cwd=tmp_path).returncode == 0

    picked = nas("pick", "study", "--knee", "--output", "deploy", cwd=tmp_path)
    assert picked.returncode == 0, picked.stderr
    assert sorted(path.name for path in (tmp_path / "deploy").iterdir()) == [
        "README.md",
        "deployment.json",
        "model.onnx",
    ]

    from sklearn.datasets import load_digits

    np.save(tmp_path / "one.npy", load_digits().images[0].astype(np.uint8)[..., None])
    predicted = nas("predict", "deploy", "one.npy", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert re.match(r"one\.npy: \d \d+\.\d%", predicted.stdout)

    records = [path.read_bytes() for path in sorted((study / "trials").iterdir())]
    again = nas("search", recipe, "--output", "study", cwd=tmp_path)
    assert again.returncode == 0
    assert "continuing study" in again.stdout
    assert [path.read_bytes() for path in sorted((study / "trials").iterdir())] == records
