"""A person's own objective: declared by a recipe, measured on the file, a number like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from own_files import Silent, forgotten

from nas.commands.terminal import make_console, print_front
from nas.deploy.choose import Limits, choose
from nas.errors import NasError, RecipeError, StudyError
from nas.objectives import KINDS, Constraint, Objective, declare_own
from nas.outcome import How, Outcome
from nas.own_code import OwnCodeError
from nas.own_objective import OwnObjectives
from nas.recipe import Recipe, load_recipe, parse_recipe
from nas.search.run import search
from nas.study import Study
from nas.target import ONNX, TORCH_PROGRAM

PAGES = "def pages(path, manifest):\n    return -(-path.stat().st_size // 4096)\n"
BASE: dict[str, Any] = {
    "data": {"source": "digits", "train_limit": 200, "validation_limit": 100},
    "space": "mlp",
    "budget": {"trials": 3, "epochs": 1, "finetune_epochs": 1},
    "training": {"threads": 1, "precision": "float32"},
    "sampler": "random",
}


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    with forgotten():
        yield


def write(folder: Path, source: str = PAGES, **changes: Any) -> Recipe:
    folder.mkdir(exist_ok=True)
    (folder / "my.py").write_text(source)
    pages = "pages" if "own_objectives" in changes else "my.py:pages"
    defaults = {"objectives": ["accuracy", "latency_ms@onnxruntime-cpu-1t-b1", pages]}
    (folder / "my.yaml").write_text(yaml.safe_dump(BASE | defaults | changes))
    return load_recipe(folder / "my.yaml")


def measured(folder: Path, source: str, content: bytes = b"x" * 5000, form: str = ONNX, **own: Any) -> float:
    recipe = write(folder, source, own_objectives={"pages": {"source": "my.py:pages", **own}})
    return OwnObjectives(recipe).quantities(content, form, {"class_names": ["a", "b"]})[0].value


# --- recipes


def test_a_function_among_objectives_and_constraints_is_declared_by_its_name(tmp_path: Path) -> None:
    recipe = write(tmp_path, constraints=["my.py:pages <= 40"])
    assert recipe.objectives[2] == "pages"
    assert recipe.parsed_constraints == (Constraint(Objective("pages"), True, 40),)
    own = recipe.own_objectives["pages"]
    assert own.source == f"{tmp_path / 'my.py'}:pages"
    assert own.sha256 is not None
    assert (KINDS["pages"].unit, KINDS["pages"].maximise, KINDS["pages"].title) == ("1", False, "pages")


def test_unit_and_direction(tmp_path: Path) -> None:
    own = {
        "energy": {"source": "my.py:pages", "unit": "mJ"},
        "recall": {"source": "my.py:pages", "direction": "maximise"},
    }
    recipe = write(tmp_path, own_objectives=own, objectives=["recall", "energy"])
    assert [objective.direction for objective in recipe.parsed_objectives] == ["maximize", "minimize"]
    assert (KINDS["energy"].unit, KINDS["energy"].title) == ("mJ", "energy (mJ)")


def test_a_recipe_that_was_written_and_read_again_is_the_same_wherever_the_file_lies(tmp_path: Path) -> None:
    here, there = write(tmp_path / "a"), write(tmp_path / "b")
    assert not here.differences(there)
    assert not here.differences(parse_recipe(here.to_json(), "the same"))
    changed = write(tmp_path / "b", PAGES + "# another\n")
    assert [line.partition(":")[0] for line in here.differences(changed)] == ["own_objectives.pages.sha256"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": ["accuracy", "my.py:paegs"]}, r"unknown function of .*my\.py: 'paegs'; did you mean"),
        ({"objectives": ["accuracy", "no.py:pages"]}, r"there is no Python file .*no\.py \(Python files there"),
        ({"objectives": ["accuracy", "my.py:pages", "a/my.py:pages"]}, r"'pages' is declared with the source my"),
        ({"own_objectives": {"pages": {"source": "my.py"}}}, r"must read FILE\.py:FUNCTION, but got 'my\.py'"),
        ({"own_objectives": {"pages": {}}}, r"'own_objectives\.pages\.source' is missing"),
        (
            {"own_objectives": {"pages": {"source": "my.py:pages", "unti": "J"}}},
            r"unknown key in 'own_objectives\.pages': 'unti'; did you mean 'unit'",
        ),
        (
            {"own_objectives": {"pages": {"source": "my.py:pages", "direction": "max"}}},
            r"unknown direction 'max'; did you mean 'maximise'",
        ),
        ({"own_objectives": {"pages": {"source": "my.py:pages", "unit": "<b>"}}}, r"the unit of 'pages' must be up"),
        ({"own_objectives": {"accuracy": {"source": "my.py:pages"}}}, r"'accuracy' cannot be the name of an own"),
        ({"own_objectives": {"test_x": {"source": "my.py:pages"}}}, r"'test_x' cannot be the name of an own objective"),
        ({"objectives": ["accuracy", "my.py:pages@onnxruntime-cpu-1t-b1"]}, r"must read FILE\.py:FUNCTION, but got"),
        ({"objectives": ["accuracy", "pages"], "own_objectives": {}}, r"unknown objective 'pages'"),
    ],
)  # fmt: skip
def test_what_a_recipe_must_not_say(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(NasError, match=message) as raised:
        write(tmp_path, **changes)
    assert "\n" not in str(raised.value)


def test_one_name_has_one_meaning() -> None:
    declare_own("energy", "mJ", maximise=False)
    declare_own("energy", "mJ", maximise=False)
    with pytest.raises(RecipeError, match=r"'energy' is declared twice with another meaning: less is better, unit mJ;"):
        declare_own("energy", "J", maximise=False)


# --- numbers


def test_the_function_gets_the_file_and_the_manifest_where_it_takes_that(tmp_path: Path) -> None:
    assert measured(tmp_path, PAGES) == 2
    assert measured(tmp_path, "def pages(path):\n    return len(path.read_bytes())\n") == 5000
    assert measured(tmp_path, "def pages(path, manifest):\n    return len(manifest['class_names'])\n") == 2
    assert measured(tmp_path, "def pages(*given):\n    return len(given)\n") == 2
    assert measured(tmp_path, "import numpy\ndef pages(path):\n    return numpy.float32(2.5)\n") == 2.5
    names = "def pages(path):\n    return ['model.onnx', 'model.pt2'].index(path.name)\n"
    assert measured(tmp_path, names) == 0
    assert measured(tmp_path, names, form=TORCH_PROGRAM) == 1


REFUSED = [
    ("return None", {}, r"my\.py:pages must give a number, but gave None \(my\.py, line 1\)$"),
    ("return '3'", {}, r"must give a number, but gave a str"),
    ("return True", {}, r"must give a number, but gave a bool"),
    ("return float('nan')", {}, r"my\.py:pages must give a finite number, but gave nan \(my\.py, line 1\)"),
    ("return 10 ** 400", {}, r"must give a finite number, but gave inf"),
    ("return -1", {}, r"must give 0 or more, as a cost, but gave -1 .*\(add a constant\)"),
    (
        "return 97.5",
        {"direction": "maximise"},
        r"must give a share from 0 to 1, as it is to be maximised, but gave 97\.5",
    ),
    ("return 1 / 0", {}, r"my\.py:pages raised ZeroDivisionError: division by zero \(my\.py, line 2\)$"),
]


@pytest.mark.parametrize(("body", "own", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_number_is_one_line_with_the_persons_own(
    tmp_path: Path, body: str, own: dict[str, Any], message: str
) -> None:
    with pytest.raises(OwnCodeError, match=message) as raised:
        measured(tmp_path, f"def pages(path):\n    {body}\n", **own)
    assert "\n" not in str(raised.value)


def test_a_file_that_changed_since_the_recipe_was_read_is_refused(tmp_path: Path) -> None:
    recipe = write(tmp_path)
    (tmp_path / "my.py").write_text(PAGES + "# another\n")
    with pytest.raises(RecipeError, match=r"my\.py:pages changed since the study began"):
        OwnObjectives(recipe)


def test_what_was_loaded_stays_what_it_was_when_its_file_is_edited_meanwhile(tmp_path: Path) -> None:
    own = OwnObjectives(write(tmp_path))
    (tmp_path / "my.py").write_text("raise RuntimeError")
    assert own.quantities(b"x", ONNX, {})[0].value == 1


# --- searches


def test_a_search_for_it(tmp_path: Path) -> None:
    recipe = write(tmp_path, constraints=["pages <= 1000"])
    study, _ = search(recipe, tmp_path / "study", Silent())
    for record in study.records:
        assert record.outcome is Outcome.MEASURED
        quantity = record.quantity("pages")
        assert quantity is not None
        assert (quantity.how, quantity.unit, quantity.detail["source"]) == (How.MEASURED, "1", "my.py:pages")
        assert quantity.value == -(-len(study.artifact(record)) // 4096)
    (tmp_path / "my.py").unlink()
    assert Study.open(study.folder.path).front  # reading needs no function


def test_a_study_whose_function_changed_is_not_continued(tmp_path: Path) -> None:
    search(write(tmp_path, budget={"trials": 1, "epochs": 1}), tmp_path / "study", Silent())
    changed = write(tmp_path, PAGES + "# another\n", budget={"trials": 1, "epochs": 1})
    with pytest.raises(StudyError, match=r"own_objectives\.pages\.sha256: "):
        search(changed, tmp_path / "study", Silent())


def test_front_and_pick_without_a_latency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = {"pages": {"source": "my.py:pages", "unit": "pages"}}
    study, _ = search(write(tmp_path, objectives=["accuracy", "pages"], own_objectives=own), tmp_path / "s", Silent())
    print_front(make_console(), study)
    assert "pages" in capsys.readouterr().out
    choice = choose(study, Limits(min_accuracy=0.01))
    assert choice.rule == "cheapest"
    assert choice.record.value("pages") == min(record.value("pages") for record in study.front)


def test_a_failure_in_it_fails_the_trial_with_its_reason(tmp_path: Path) -> None:
    source = "def pages(path):\n    raise RuntimeError('no board')\n"
    study, _ = search(write(tmp_path, source, budget={"trials": 1, "epochs": 1}), tmp_path / "study", Silent())
    (record,) = study.records
    assert record.outcome is Outcome.FAILED
    assert record.reason is not None
    assert record.reason.kind == "own code"
    assert record.reason.message == "my.py:pages raised RuntimeError: no board (my.py, line 2)"
