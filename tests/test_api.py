"""The Python API: thin calls over what the commands use, cheap to import, at home in a notebook."""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import io
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import LATENCY, make_design, make_recipe, make_record, write_study

import nas
from nas import api, progress_bar
from nas.describe import describe
from nas.errors import (
    ArtifactError,
    DataError,
    NasError,
    NothingFeasibleError,
    RecipeError,
    StudyError,
    UnsupportedError,
)
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.study import Study as OwnStudy

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "deploy"), str(HERE / "examples")]

from deploy_fakes import CLASS_NAMES, Example, make_example  # noqa: E402
from percent import cells_of, notebook_of  # noqa: E402

SCRIPT = HERE / "examples" / "notebook.py"
TINY = {
    "data": {"source": "digits", "train_limit": 200, "validation_limit": 100},
    "space": "mlp",
    "budget": {"trials": 2, "epochs": 1, "finetune_epochs": 1},
    "training": {"threads": 1, "precision": "float32"},
    "sampler": "random",
}


def fresh(script: str, **environment: str) -> str:
    """What a script prints in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- importing -------------------------------------------------------------------------------------------------------


def test_importing_the_package_loads_nothing_else() -> None:
    loaded = json.loads(fresh("import sys, nas, json; print(json.dumps(sorted(sys.modules)))"))
    assert [name for name in loaded if name.startswith("nas.")] == []
    assert not {"numpy", "yaml", "pydantic", "rich", "torch", "tqdm"} & set(loaded)


def test_opening_a_study_loads_neither_torch_nor_optuna(tmp_path: Path) -> None:
    write_study(tmp_path / "s", [make_record(0)])
    script = (
        f"import sys, nas; nas.open({str(tmp_path / 's')!r}).front(); print({{'torch', 'optuna'}} & set(sys.modules))"
    )
    assert fresh(script).strip() == "set()"


def test_every_name_that_is_promised_is_there() -> None:
    for name in nas.__all__:
        assert getattr(nas, name) is not None
        assert name in dir(nas)
    with pytest.raises(AttributeError, match="module 'nas' has no attribute 'serach'"):
        nas.serach  # noqa: B018


@pytest.mark.parametrize("before", ["", "import nas.search.announced", "from nas.search import announced, told"])
def test_the_search_is_a_call_and_a_package_whatever_was_imported_first(before: str) -> None:
    script = f"""
import nas
{before}
from nas.search import announced
assert nas.search.announced is announced
try:
    nas.search({{"space": "mlp"}}, "nowhere")
except nas.errors.NasError as error:
    print(error)
"""
    assert fresh(script).startswith("the recipe: 'data' is missing")


@pytest.mark.parametrize(
    ("first", "policy", "warned"), [("torch", None, True), ("torch", "ACTIVE", False), ("nas", None, False)]
)
def test_torch_before_this_package_is_warned_of_where_it_matters(first: str, policy: str | None, warned: bool) -> None:
    script = f"import sys, types; sys.modules['torch'] = types.ModuleType('torch') if {first == 'torch'} else None\n"
    script += "import nas; print(nas.torch_came_first)"
    if first == "nas":
        script = "import nas; print(nas.torch_came_first)"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if policy is not None:
        environment["OMP_WAIT_POLICY"] = policy
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(warned)


# --- the recipe ------------------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Recipe, Path, bool]]:
    """The searches that would have run."""
    found: list[tuple[Recipe, Path, bool]] = []

    def run(recipe: Recipe, path: Path, watcher: object, fresh: bool) -> tuple[OwnStudy, Any]:
        found.append((recipe, path, fresh))
        return write_study(tmp_path / "written", [make_record(0)], recipe), types.SimpleNamespace(why="it is spent")

    monkeypatch.setattr("nas.search.run.search", run)
    return found


def test_a_recipe_is_a_file_a_mapping_or_a_recipe(
    started: list[tuple[Recipe, Path, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(json.dumps(TINY))
    assert nas.search("mine.yaml").ended == "it is spent"
    nas.search(Path("mine.yaml"), "elsewhere", fresh=True)
    nas.search(TINY, tmp_path / "one")
    nas.search(make_recipe(**TINY), tmp_path / "two", progress=False)
    assert [path for _, path, _ in started] == [Path("mine"), Path("elsewhere"), tmp_path / "one", tmp_path / "two"]
    assert [fresh for _, _, fresh in started] == [False, True, False, False]
    assert len({recipe.identity for recipe, _, _ in started}) == 1


def test_paths_in_a_mapping_start_at_the_working_directory(
    started: list[tuple[Recipe, Path, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nas.search(TINY | {"data": {"source": "folder", "path": "photos"}, "space": "own.yaml"}, "s")
    recipe = started[0][0]
    assert recipe.data.path == tmp_path / "photos"
    assert recipe.space == str(tmp_path / "own.yaml")


def test_a_mapping_needs_a_folder_and_is_checked(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"needs a folder for its study \(nas.search\(recipe, 'studies/mine'\)\)"):
        nas.search(TINY)
    with pytest.raises(RecipeError, match="the recipe: unknown key 'spcae'; did you mean 'space'"):
        nas.search(TINY | {"spcae": "mlp"}, tmp_path / "s")
    with pytest.raises(RecipeError, match="there is no recipe"):
        nas.search(tmp_path / "none.yaml")
    assert list(tmp_path.iterdir()) == []


# --- a study ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> nas.Study:
    records = [make_record(0, 0.8, 0.1), make_record(1, 0.9, 0.2), make_record(2, 0.7, 0.3)]
    write_study(tmp_path / "<b>s", [*records, make_record(3, outcome=Outcome.FAILED)])
    return nas.open(tmp_path / "<b>s")


def test_a_study_is_read_as_the_commands_read_it(study: nas.Study) -> None:
    own = OwnStudy.open(study.folder)
    assert [trial.number for trial in study.front()] == [0, 1] == [trial.number for trial in own.front]
    assert len(study.trials) == 4
    assert 0 < study.hypervolume < 1
    assert repr(study) == f"<nas.Study {str(study.folder)!r}: 4 trials, 2 on the front>"
    assert "Front of <b>s: 2 of 4 trials" in str(study)
    assert study._repr_html_().startswith("<pre>Front of &lt;b&gt;s: 2 of 4 trials")


def test_the_front_that_is_given_is_a_copy(study: nas.Study) -> None:
    study.front().clear()
    study.trials.clear()
    assert (len(study.front()), len(study.trials)) == (2, 4)


def test_rows_hold_every_trial_with_the_same_keys(study: nas.Study) -> None:
    rows = study.rows()
    assert len({tuple(row) for row in rows}) == 1
    assert [row["trial"] for row in rows] == [0, 1, 2, 3]
    assert [row["on_front"] for row in rows] == [True, True, False, False]
    assert [row["outcome"] for row in rows] == ["measured"] * 3 + ["failed"]
    assert [row["accuracy"] for row in rows] == [0.8, 0.9, 0.7, None]
    assert [row[LATENCY] for row in rows] == [0.1, 0.2, 0.3, None]
    assert rows[0]["test_accuracy"] == 0.8
    assert rows[1]["weight_bits"] == 8
    assert rows[0]["stem.width"] == 16
    assert rows[0]["words"] == describe(study.trials[0].design)
    json.dumps(rows)


def test_an_empty_study_is_one(tmp_path: Path) -> None:
    write_study(tmp_path / "s", [])
    empty = nas.open(tmp_path / "s")
    assert (empty.front(), empty.rows(), empty.hypervolume) == ([], [], 0.0)
    with pytest.raises(NothingFeasibleError, match=r"no trial of .* was measured"):
        empty.pick()


def test_a_data_frame_needs_pandas(study: nas.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UnsupportedError, match=r"needs pandas \(pip install pandas, or use rows\(\)\)"):
        study.to_dataframe()


def test_a_data_frame_is_the_rows_by_trial(study: nas.Study) -> None:
    pandas = pytest.importorskip("pandas")
    frame = study.to_dataframe()
    assert list(frame.index) == [0, 1, 2, 3]
    assert frame.loc[1, "accuracy"] == 0.9
    assert pandas.isna(frame.loc[3, "accuracy"])


def test_a_report_is_written_into_the_study(study: nas.Study) -> None:
    page = study.report()
    assert page == study.folder / "report.html"
    for name in ("report.html", "pareto.png", "front.csv", "front.json"):
        assert (study.folder / name).stat().st_size > 0


def test_no_study_and_no_deployment_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no study in"):
        nas.open(tmp_path / "none")
    with pytest.raises(ArtifactError, match="is no deployment"):
        nas.load(str(tmp_path))


# --- picking, deploying, predicting ----------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Example:
    example = make_example(tmp_path / "example")
    monkeypatch.setattr("nas.data.load", lambda config: example.dataset)
    return example


def test_what_is_picked_is_deployed_and_predicts(example: Example, tmp_path: Path) -> None:
    study = nas.open(example.study.folder.path)
    picked = study.pick(min_accuracy=0.5)
    assert picked.trial.number == 1
    assert picked.why == str(picked)
    assert "Trial 1" in picked.why
    assert picked.runner_up is None
    with picked.deploy(tmp_path / "deploy") as deployment:
        images, labels = example.dataset.validation.images, example.dataset.validation.labels
        given = deployment.predict(images)
        right = np.mean([CLASS_NAMES[label] == given.labels[index] for index, label in enumerate(labels)])
        assert right == picked.trial.value("accuracy")
        assert len(given) == len(images)
        assert given.probabilities.shape == (len(images), 4)
        np.testing.assert_allclose(given.probabilities.sum(axis=1), 1, rtol=1e-5)
        assert given.labels[0] == deployment.class_names[given.probabilities[0].argmax()]
        again = nas.load(deployment.folder)
        np.testing.assert_array_equal(again.predict(images).probabilities, given.probabilities)
        assert "nas.Deployment" in repr(again)


def test_one_image_with_or_without_its_channel_is_a_batch_of_one(example: Example, tmp_path: Path) -> None:
    deployment = nas.open(example.study.folder.path).pick().deploy(tmp_path / "deploy")
    images = example.dataset.validation.images
    batch = deployment.predict(images[:2])
    for one in (images[0], images[0, :, :, 0], images[:1], images[:1, :, :, 0]):
        np.testing.assert_allclose(deployment.predict(one).probabilities, batch.probabilities[:1], rtol=1e-5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3), np.uint8), "images must hold an array 6×5×1 or a batch"),
        (np.zeros((0, 6, 5, 1), np.uint8), "images must hold an array"),
        (np.zeros((6, 5, 1), np.float32), "images must hold uint8, but holds float32"),
        (3, "but holds a single number"),
        ("image.png", "images must hold"),
    ],
)
def test_what_the_model_does_not_take_is_refused(example: Example, tmp_path: Path, array: Any, message: str) -> None:
    deployment = nas.open(example.study.folder.path).pick().deploy(tmp_path / "deploy")
    with pytest.raises(DataError, match=message):
        deployment.predict(array)


def test_limits_that_nobody_meets_and_a_folder_of_others_are_clear_errors(example: Example, tmp_path: Path) -> None:
    study = nas.open(example.study.folder.path)
    with pytest.raises(NothingFeasibleError, match="no trial has latency at most"):
        study.pick(max_latency_ms=1e-6)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(NasError, match="is no deployment, so it is not replaced"):
        study.pick().deploy(tmp_path / "taken")
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine.txt"]


# --- the bar ---------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def watched(bar: progress_bar.ProgressBar, study: OwnStudy) -> None:
    with bar:
        bar.note("a note")
        bar.began(study)
        bar.asked(2, make_design())
        bar.progress("train", 0.4)
        bar.told(study.records[-1], study)


def test_a_terminal_sees_a_bar_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    monkeypatch.setattr(progress_bar, "OFTEN", 0.0)
    study = write_study(tmp_path / "digits", [make_record(0), make_record(1, 0.95, 0.2)])
    watched(progress_bar.ProgressBar(), study)
    shown = stream.getvalue()
    assert "train 40 %" in shown
    assert re.search(r"digits: 2 measured, 2 on the front, hypervolume 0\.\d{3} .* 100 %", shown.splitlines()[-1])


@pytest.mark.parametrize(("shown", "terminal"), [(False, True), (True, False)])
def test_nothing_is_shown_where_nobody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shown: bool, terminal: bool
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    watched(progress_bar.ProgressBar(shown), write_study(tmp_path / "s", [make_record(0)]))
    assert stream.getvalue() == capsys.readouterr().out == ""


def test_a_notebook_is_told_from_other_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = types.ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", shell)
    for found, expected in (
        (None, False),
        (types.SimpleNamespace(config={"TerminalIPythonApp": {}}), False),
        (types.SimpleNamespace(config={"IPKernelApp": {}}), True),
    ):
        monkeypatch.setattr(shell, "get_ipython", lambda found=found: found, raising=False)
        assert progress_bar.in_notebook() is expected
    monkeypatch.delitem(sys.modules, "IPython")
    assert not progress_bar.in_notebook()


# --- for real --------------------------------------------------------------------------------------------------------


def test_a_search_runs_where_an_event_loop_runs(tmp_path: Path) -> None:
    """As in a notebook, whose cells are run by one; the measuring process is a program of its own."""

    async def cell() -> nas.Study:
        assert asyncio.get_running_loop().is_running()
        return nas.search(TINY, tmp_path / "s", progress=False)

    study = asyncio.run(cell())
    assert "2 trials" in study.ended
    assert len(study.trials) == 2
    again = nas.search(TINY, tmp_path / "s", progress=False)
    assert again.study.as_told == study.study.as_told, "there is nothing left to do"


def test_the_example_runs_as_a_script() -> None:
    code = "\n".join(text for kind, text in cells_of(SCRIPT) if kind == "code")
    assert "Trial" in fresh(code)


@pytest.mark.long
def test_the_example_runs_as_a_notebook(tmp_path: Path) -> None:
    """In a kernel of its own, which has an event loop, a bar, and no terminal."""
    nbclient = pytest.importorskip("nbclient")
    notebook = notebook_of(SCRIPT)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.output_type == "error"] == []
    # A widget's state is the notebook's; it has figure spaces.
    text = json.dumps([outputs, notebook.metadata], ensure_ascii=False).replace("\u2007", " ")
    assert "the budget of 3 trials is spent" in text
    assert "on the front, hypervolume" in text, "the bar"
    assert "<pre>Front of digits" in text


# --- what the documentation says -------------------------------------------------------------------------------------


def examples(text: str) -> list[str]:
    """The indented blocks of a docstring, less those of its sections."""
    body = re.split(r"\n(?:Args|Returns|Raises):\n", inspect.cleandoc(text))[0]
    return re.findall(r"(?:^ {4}.*\n?)+", body + "\n", re.MULTILINE)


def documented() -> list[str]:
    """Every example in the docstrings of the API, in an order in which they can run."""
    found = []
    for thing in (nas, api, api.search, api.open, api.load, api.Study, api.Picked, api.Deployment):
        members = vars(thing).values() if inspect.isclass(thing) else ()
        for member in [thing, *(one for one in members if inspect.isfunction(one) or isinstance(one, property))]:
            found += examples(member.__doc__ or "")
    return found


def test_the_examples_in_the_docstrings_run(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small study in place of the one that they name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    example.study.folder.path.rename(tmp_path / "studies" / "digits")
    (tmp_path / "studies" / "digits.yaml").write_text(json.dumps(TINY))
    path = tmp_path / "studies" / "digits"
    monkeypatch.setattr(
        "nas.search.run.search", lambda *_, **__: (OwnStudy.open(path), types.SimpleNamespace(why="it is spent"))
    )
    chosen = api.study.choose
    # The numbers of the examples are those of the digits; the small study's are worse.
    monkeypatch.setattr(
        "nas.api.study.choose", lambda study, limits, **given: chosen(study, api.study.Limits(), **given)
    )
    monkeypatch.setattr("nas.finalize.run.finalize", lambda *_: types.SimpleNamespace(designs=()))
    blocks = documented()
    assert len(blocks) >= 8
    names: dict[str, Any] = {"images": example.dataset.validation.images}
    for block in blocks:
        source = inspect.cleandoc(block)
        ast.parse(source)
        exec(source, names)
    assert isinstance(names["study"], nas.Study)
    assert isinstance(names["deployment"], nas.Deployment)


def test_there_is_no_doctest_that_nobody_runs() -> None:
    finder = doctest.DocTestFinder()
    for module in (api, api.calls, api.study, api.deployment):
        assert [test.name for test in finder.find(module) if test.examples] == []


def test_designs_are_trained_fully_as_the_command_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.finalize import run
    from nas.finalize.plan import Asked

    study = api.open(write_study(tmp_path / "s", [make_record(0)]).folder.path)
    heard: list[tuple[Path, Asked]] = []

    def finalize(path: Path, asked: Asked, note: Any, progress: Any) -> types.SimpleNamespace:
        heard.append((path, asked))
        note("said")
        progress("training", 0.5)
        return types.SimpleNamespace(designs=("done",))

    monkeypatch.setattr(run, "finalize", finalize)
    assert study.finalize(0, epochs=7, seeds=2) == ["done"]
    assert heard == [(study.folder, Asked((0,), 7, None, 2))]


def test_studies_are_compared(tmp_path: Path) -> None:
    one, other = (
        api.open(write_study(tmp_path / name, [make_record(0, accuracy, 0.1)]).folder.path)
        for name, accuracy in (("a", 0.9), ("b", 0.8))
    )
    found = one.compare(other)
    assert found.contenders[0].volume > found.contenders[1].volume
