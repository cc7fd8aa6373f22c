"""``nas compress``: the files that it writes, the study that it runs, and what it refuses."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_networks
import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from nas import cli
from nas.commands.compress import data_section, parse_arguments, parse_numbers
from nas.errors import DataError, RecipeError
from nas.families import check_space
from nas.outcome import Outcome
from nas.recipe import load_recipe
from nas.space import load_space
from nas.study import Study

FAST = ("--trials", "3", "--finetune-epochs", "1")
FIRST = "\nfirst: [{weight_bits: 8, activation_bits: 8}, {pruning_ratio: 0.5}]\n"
CHOICES = """
compression:
  pruning_ratio: [0.0, 0.5]
  weight_bits: [32, 8]
  activation_bits: {values: [32, 8], when: {weight_bits: [8]}}
"""


class Ran:
    """What a command printed and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's own project: a network in a file, its weights, 64 small colour images, a set of choices."""
    (tmp_path / "nets.py").write_text(Path(foreign_networks.__file__).read_text())
    torch.manual_seed(0)
    network = foreign_networks.tiny_resnet(classes=2, channels=3)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "net.safetensors")
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    images = rng.integers(0, 156, (64, 12, 12, 3)) + 100 * labels[:, None, None, None]
    np.savez(tmp_path / "images.npz", images=images.astype(np.uint8), labels=labels)
    like = f"family: module\nmodule: {{source: 'nets.py:tiny_resnet'}}\n{CHOICES}{FIRST}"
    (tmp_path / "few.yaml").write_text(like)
    monkeypatch.chdir(tmp_path)
    return tmp_path


OWN = ("compress", "nets.py:tiny_resnet", "--arg", "classes=2", "--arg", "channels=3")
WHOLE = (*OWN, "--weights", "net.safetensors", "--data", "images.npz", "--imagenet", "--space", "few.yaml", *FAST)


# --- the whole way


def test_the_network_as_it_is_comes_first_and_stands_in_the_table(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run(*WHOLE)
    assert ran.code == 0, ran.err
    assert "wrote studies/tiny_resnet.space.yaml" in ran.out
    assert "nets.py:tiny_resnet with" in ran.out
    assert "images normalised by the given mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225" in ran.out
    assert re.search(r"^ +0 measured .*tiny_resnet · float32$", ran.out, re.MULTILINE)
    assert re.search(r"^ +1 measured .*tiny_resnet · int8$", ran.out, re.MULTILINE)
    assert re.search(r"^ +2 measured .*tiny_resnet · pruned 50 %$", ran.out, re.MULTILINE)
    assert "next: nas pick studies/tiny_resnet --min-accuracy" in ran.out
    study = Study.open(project / "studies" / "tiny_resnet")
    assert [record.origin for record in study.records] == ["baseline", "first", "first"]
    assert all(record.outcome is Outcome.MEASURED for record in study.records)
    assert [stage.stage for stage in study.records[0].stages if stage.stage in ("load", "train", "export")] == [
        "export"
    ]
    assert 0 in study.test_scores, "the baseline is scored on test data, on the front or not"
    assert "module" in json.loads(study.folder.inputs.read_text())

    assert study.folder.page.is_file()

    monkeypatch.setattr("nas.commands.search.write_reports", lambda *arguments: None)  # once is enough
    records = {path: path.read_bytes() for path in (study.folder.trials).iterdir()}
    again = run(*WHOLE)
    assert again.code == 0, again.err
    assert "wrote studies/tiny_resnet.space.yaml" not in again.out
    assert {path: path.read_bytes() for path in (study.folder.trials).iterdir()} == records
    searched = run("search", "studies/tiny_resnet.yaml", "--trials", "4")
    assert searched.code == 0, "the files that were written serve nas search"
    assert len(Study.open(study.folder.path).counted) == 4

    network = foreign_networks.tiny_resnet(classes=2, channels=3)
    safetensors.torch.save_file(network.state_dict(), project / "net.safetensors")
    changed = run(*WHOLE)
    assert changed.code == 2
    assert "module: changed since the study began" in changed.err
    assert "start over with --fresh" in changed.err
    fresh = run(*WHOLE, "--fresh", "--yes", "--trials", "1")
    assert fresh.code == 0, fresh.err
    assert len(Study.open(study.folder.path).records) == 1


def test_without_weights_it_is_trained_first(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.commands.search.write_reports", lambda *arguments: None)
    (project / "few.yaml").write_text((project / "few.yaml").read_text().replace(FIRST, "\n"))
    ran = run(*OWN, "--data", "images.npz", "--space", "few.yaml", "--trials", "1", "--output", "out/mine")
    assert ran.code == 0, ran.err
    assert "nets.py:tiny_resnet without weights: trained for 10 epochs first" in ran.out
    assert "images normalised by the training images, as no mean and std are given" in ran.out
    (record,) = Study.open(project / "out" / "mine").records
    assert "train" in [stage.stage for stage in record.stages]


# --- the files


def written(run: Run, *arguments: str) -> tuple[Path, Path]:
    """Recipe and space that a command writes, which is stopped before it searches."""
    run(*arguments)
    folder = Path("studies")
    return folder / "tiny_resnet.yaml", folder / "tiny_resnet.space.yaml"


@pytest.fixture
def _no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.commands.search.run_study", lambda *arguments: None)


@pytest.mark.usefixtures("_no_search")
def test_the_files_say_what_the_command_said(run: Run, project: Path) -> None:
    limits = (
        "--minutes",
        "2.5",
        "--finetune-epochs",
        "4",
        "--learning-rate",
        "1e-3",
        "--target",
        "onnxruntime-cpu-2t-b1",
    )
    recipe_path, space_path = written(run, *OWN, "--data", "images.npz", "--weights", "net.safetensors", *limits)
    recipe, space = load_recipe(recipe_path), load_space(str(space_path))
    assert recipe.data.source == "npz"
    assert recipe.data.path is not None
    assert recipe.data.path.resolve() == project / "images.npz"
    assert recipe.space.endswith("studies/tiny_resnet.space.yaml")
    assert recipe.objectives == ("accuracy", "latency_ms@onnxruntime-cpu-2t-b1", "size_bytes")
    assert (recipe.budget.trials, recipe.budget.minutes, recipe.budget.finetune_epochs) == (None, 2.5, 4)
    assert recipe.training.finetune_learning_rate == 1e-3
    assert space.module is not None
    assert space.module.to_json() == {
        "source": f"{project / 'nets.py'}:tiny_resnet",
        "arguments": {"classes": 2, "channels": 3},
        "weights": str(project / "net.safetensors"),
        "mean": None,
        "std": None,
    }
    check_space(space)
    assert {
        "pruning_ratio",
        "pruning_criterion",
        "distillation",
        "weight_sharing",
        "codebook_bits",
    } < space.by_name.keys()
    assert set(space.by_name["weight_bits"].values) == {32, 16, 8, 4}
    assert space.by_name["activation_bits"].values == (32, 8)
    assert len(space.first) >= 4
    assert all(space.contains(design) for design in (space.baseline, *space.first) if design)
    assert "../nets.py:tiny_resnet" in space_path.read_text(), "paths within the project are relative"


@pytest.mark.usefixtures("_no_search")
def test_defaults_and_paths_outside_the_project(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    command = ("compress", "../nets.py:tiny_resnet", "--data", "digits", "--mean", "0.5", "--std", "0.25")
    recipe_path, space_path = written(run, *command)
    recipe, space = load_recipe(recipe_path), load_space(str(space_path))
    assert (recipe.budget.trials, recipe.budget.minutes) == (30, None)
    assert f"{project / 'nets.py'}:tiny_resnet" in space_path.read_text()
    assert space.module is not None
    assert (space.module.mean, space.module.std, space.module.weights) == ((0.5,), (0.25,), None)


@pytest.mark.usefixtures("_no_search")
@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((), (), True),
        ((), ("--trials", "9"), True),
        ((), ("--minutes", "9"), True),
        ((), ("--finetune-epochs", "5"), False),
        ((), ("--arg", "width=16"), False),
        ((), ("--data", "digits"), False),
        (("--weights", "net.safetensors"), (), False),
        ((), ("--space", "few.yaml"), False),
        (("--space", "few.yaml"), ("--space", "studies/tiny_resnet.space.yaml"), True),
    ],
    ids=str,
)
def test_files_that_say_something_else_are_left_alone(
    first: tuple[str, ...], second: tuple[str, ...], same: bool, run: Run, project: Path
) -> None:
    paths = written(run, *OWN, "--data", "images.npz", *first)
    for path in paths:
        path.write_text(f"{path.read_text()}# a note of mine\n")
    before = [path.read_text() for path in paths]
    ran = run(*OWN, *(() if "--data" in second else ("--data", "images.npz")), *second)
    assert [path.read_text() for path in paths] == before
    assert ran.code == (0 if same else 2), ran.err
    if not same:
        assert re.search(r"tiny_resnet\S*\.yaml is there already and says something else than this command", ran.err)
        assert "nas search studies/tiny_resnet.yaml" in ran.err


@pytest.mark.usefixtures("_no_search")
def test_a_file_of_another_kind_is_left_alone(run: Run, project: Path) -> None:
    (project / "studies").mkdir()
    (project / "studies" / "tiny_resnet.yaml").write_text("shopping: [milk]")
    ran = run(*OWN, "--data", "images.npz")
    assert ran.code == 2
    assert "says something else" in ran.err
    assert [path.name for path in (project / "studies").iterdir()] == ["tiny_resnet.yaml"]


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("nets.py:resnet19", "--data", "digits"),
            r"unknown callable of nets\.py: 'resnet19'; did you mean 'resnet18'",
        ),
        (("nets.py", "--data", "digits"), r"a module's source must read FILE\.py:CALLABLE or MODULE:CALLABLE"),
        (("nowhere.py:net", "--data", "digits"), r"there is no Python file .*nowhere\.py"),
        (("nets.py:tiny_resnet", "--data", "images.npz"), r"cannot run on the data's images \(3 channels of 12×12\)"),
        ((*OWN[1:], "--arg", "classes=3", "--data", "images.npz"), r"gives 3 classes, but the data has 2"),
        ((*OWN[1:], "--data", "images.npz", "--weights", "no.pth"), r"there is no weights file .*no\.pth"),
        (
            (*OWN[1:], "--arg", "width=16", "--data", "images.npz", "--weights", "net.safetensors"),
            r"do not fit .*'conv1",
        ),
        ((*OWN[1:], "--arg", "widht=16", "--data", "images.npz"), r"raised TypeError.*widht"),
        (
            (*OWN[1:], "--data", "images.npz", "--mean", "1,2", "--std", "1,2"),
            r"given for 2 channels, but the data has 3",
        ),
        (
            (*OWN[1:], "--data", "images.npz", "--mean", "1,x", "--std", "1"),
            r"--mean takes numbers separated by commas",
        ),
        ((*OWN[1:], "--data", "images.npz", "--mean", "1"), r"'mean' and 'std' in 'module' go together"),
        ((*OWN[1:], "--data", "images.npz", "--mean", "1", "--std", "1", "--imagenet"), r"--imagenet stands for"),
        ((*OWN[1:], "--data", "images.npz", "--resize", "9by9"), r"--resize must read HEIGHTxWIDTH, but got '9by9'"),
        (
            (*OWN[1:], "--data", "images.npz", "--resize", "9x9"),
            r"'resize' is for the data sources 'folder' and 'huggingface' only",
        ),
        ((*OWN[1:], "--data", "images.npz", "--layout", "HWCN"), r"'data\.layout'"),
        ((*OWN[1:], "--data", "nowhere"), r"there is no data nowhere"),
        ((*OWN[1:], "--data", "nets.py"), r"nets\.py must be an \.npz file or a folder"),
        ((*OWN[1:], "--data", "images.npz", "--arg", "classes"), r"--arg takes NAME=VALUE, but got 'classes'"),
        ((*OWN[1:], "--data", "images.npz", "--target", "onnxrun"), r"onnxrun"),
        ((*OWN[1:], "--data", "images.npz", "--target", "cpu-b1"), r"target 'cpu-b1' is a place, where several"),
        ((*OWN[1:], "--data", "images.npz", "--space", "convnett"), r"unknown search space 'convnett'"),
        ((*OWN[1:], "--data", "images.npz", "--learning-rate", "0"), r"--learning-rate must be greater than 0"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    arguments: tuple[str, ...], message: str, run: Run, project: Path
) -> None:
    before = sorted(path.name for path in project.iterdir() if path.name != "__pycache__")
    ran = run("compress", *arguments)
    assert ran.code == 2
    assert re.search(message, ran.err), ran.err
    said = re.sub(r"\Aruns .*\n", "", ran.err)  # the person's own code, before it does
    assert said.startswith("error: ")
    assert "Traceback" not in ran.err + ran.out
    assert len(said.strip().splitlines()) <= 2, "one line, and a hint"
    left = sorted(path.name for path in project.iterdir() if path.name != "__pycache__")
    assert left in (before, sorted([*before, "studies"]))
    assert not list(project.glob("studies/*"))


def test_help_shows_examples_and_says_that_code_is_run(run: Run) -> None:
    ran = run("compress", "--help")
    assert ran.code == 0
    assert ran.out.count("nas compress ") >= 2
    words = " ".join(ran.out.split())
    assert "is run, as if you ran it yourself" in words
    assert "Weights are read without running anything" in words


# --- options


def test_data_is_recognised(project: Path) -> None:
    for name in ("photos/cat", "mnist"):
        (project / name).mkdir(parents=True)
    (project / "mnist" / "train-images-idx3-ubyte.gz").touch()
    assert data_section("digits", None, "NHWC") == {"source": "digits"}
    assert data_section("mnist", None, "NHWC") == {"source": "idx", "path": str(project / "mnist")}
    assert data_section("images.npz", None, "NCHW") == {
        "source": "npz", "path": str(project / "images.npz"), "layout": "NCHW"
    }  # fmt: skip
    photos = {"source": "folder", "path": str(project / "photos"), "resize": [32, 48]}
    assert data_section("photos", "32x48", "NHWC") == photos
    with pytest.raises(DataError, match="there is no data elsewhere"):
        data_section("elsewhere", None, "NHWC")


def test_arguments_have_the_type_that_they_look_like() -> None:
    texts = [
        "a=10",
        "b=1e-3",
        "c=true",
        "d=True",
        "e=[1, 2]",
        "f=resnet",
        "g=null",
        "h=",
        "i=x=y",
        "j={k: 1}",
        "k=[",
        "l=0.5",
    ]
    expected: dict[str, Any] = {"a": 10, "b": 1e-3, "c": True, "d": True, "e": [1, 2], "f": "resnet", "g": None}
    expected |= {"h": None, "i": "x=y", "j": {"k": 1}, "k": "[", "l": 0.5}
    assert parse_arguments(texts) == expected
    with pytest.raises(RecipeError, match="--arg takes NAME=VALUE, but got '1=2'"):
        parse_arguments(["1=2"])


def test_numbers_are_separated_by_commas() -> None:
    assert parse_numbers("--mean", "0.5,1, 2e-1") == [0.5, 1.0, 0.2]
    with pytest.raises(RecipeError, match="--mean takes numbers separated by commas, but got ''"):
        parse_numbers("--mean", "")


@pytest.mark.usefixtures("_no_search")
def test_odd_names_survive_the_files(run: Run, project: Path) -> None:
    odd = project / "my: #net's"
    odd.mkdir()
    (odd / "own-net.py").write_text((project / "nets.py").read_text())
    ran = run(
        "compress", f"{odd}/own-net.py:tiny_resnet", "--data", "digits", "--arg", "classes=10", "-o", odd / "a.b: c"
    )
    assert ran.code == 0, ran.err
    assert yaml.safe_load((odd / "a.b: c.yaml").read_text())["space"] == "a.b: c.space.yaml"
    space = load_space(str(odd / "a.b: c.space.yaml"))
    assert space.module is not None
    assert space.module.place == str(odd / "own-net.py")
