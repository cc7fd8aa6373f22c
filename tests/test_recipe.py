"""The recipe: what is refused and in which words, what a study's identity depends on, the files that are shipped."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import make_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import RecipeError
from nas.recipe import SAMPLERS, Recipe, load_recipe, parse_recipe
from nas.target import Place

SHIPPED = sorted((Path(__file__).parent.parent / "studies").glob("*.yaml"))
LATENCY = "latency_ms@onnxruntime-cpu-1t-b1"
FOLDER = {"source": "folder", "path": "pictures"}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# --- shipped recipes -------------------------------------------------------------------------------------------------


def test_the_recipes_that_the_documents_name_are_shipped() -> None:
    assert {"digits", "fashion-mnist", "smoke"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_comes_back_from_its_own_json(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.parsed_objectives[0].key == "accuracy"
    assert recipe.all_targets[0] == "onnxruntime-cpu-1t-b1"
    again = parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.to_json())), "again")
    assert again == recipe
    assert again.identity == recipe.identity
    assert recipe.differences(again) == []


# --- what is accepted ------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    recipe = make_recipe()
    assert [item.key for item in recipe.parsed_objectives] == ["accuracy", LATENCY]
    assert recipe.parsed_constraints == ()
    assert (recipe.sampler, recipe.seed, recipe.budget.trials, recipe.budget.minutes) == ("predictor", 0, 8, None)
    assert not recipe.needs_fresh_process


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_known(sampler: str) -> None:
    assert make_recipe(sampler=sampler).sampler == sampler


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("0.5", 0.5), ("1e-3", 0.001), ("2E+1", 20.0), ("1.e-2", 0.01), ("5.0e-1", 0.5), ("+1e0", 1.0)],
)
def test_numbers_in_yaml_and_in_what_yaml_takes_for_text(text: str, value: float, tmp_path: Path) -> None:
    recipe = load_recipe(
        write(
            tmp_path,
            f"data: {{source: digits}}\nspace: convnet\nbudget: {{minutes: {text}}}\n"
            f"training: {{learning_rate: {text}, weight_decay: {text}, distillation_temperature: {text}}}\n",
        )
    )
    found = (recipe.budget.minutes, recipe.training.learning_rate, recipe.training.weight_decay)
    assert found == (value, value, value)
    assert type(recipe.training.distillation_temperature) is float


def test_lists_and_paths_as_yaml_holds_them() -> None:
    recipe = make_recipe(
        data=FOLDER | {"resize": [32, 48], "class_names": ["cat", "dog"]}, objectives=["accuracy", "macs"]
    )
    assert recipe.data.path == Path("pictures")
    assert recipe.data.resize == (32, 48)
    assert recipe.data.class_names == ("cat", "dog")
    assert recipe.objectives == ("accuracy", "macs")


def test_objectives_and_constraints_have_one_spelling() -> None:
    spelt = make_recipe(objectives=[" accuracy", "macs "], constraints=["size_bytes<=1e5"])
    plain = make_recipe(objectives=["accuracy", "macs"], constraints=["size_bytes <= 100000"])
    assert spelt == plain
    assert spelt.identity == plain.identity


def test_all_targets_are_those_listed_then_those_named_each_once() -> None:
    a, b, c, d = (f"onnxruntime-cpu-{threads}t-b1" for threads in (1, 2, 3, 4))
    recipe = make_recipe(
        targets=[b, a],
        objectives=["accuracy", f"latency_ms@{a}", f"load_ms@{c}"],
        constraints=[f"latency_ms@{d} <= 1", f"peak_memory_bytes@{b} <= 1e9"],
    )
    assert recipe.all_targets == (b, a, c, d)
    assert recipe.served == (a, c, d, b)


def test_a_place_is_served_by_the_targets_there_and_is_none_itself() -> None:
    listed = ["onnxruntime-cpu-1t-b1", "openvino-cpu-2t-b1", "onnxruntime-cpu-1t-b8", "torch-cuda-b1-fp16"]
    recipe = make_recipe(targets=listed, objectives=["accuracy", "latency_ms@cpu-b1", "latency_ms@cuda-b1"])
    assert recipe.all_targets == tuple(listed)
    assert recipe.served == ("cpu-b1", "cuda-b1")
    assert recipe.targets_at(Place("cpu", 1)) == tuple(listed[:2])
    assert recipe.targets_at(Place("cuda", 1)) == ("torch-cuda-b1-fp16",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": ["accuracy", "latency_ms@cpu-b1"]}, "'cpu-b1' is served by the fastest of the recipe's target"),
        (
            {"objectives": ["accuracy", "latency_ms@cuda-b8"], "targets": ["onnxruntime-cpu-1t-b1"]},
            r"'targets' lists none \(such as targets: \[torch-cuda-b8-fp16, tensorrt-cuda-b8-fp16\]\)",
        ),
        ({"objectives": ["accuracy", "latency_ms@no-such-thing"]}, "unknown runtime 'no'"),
        ({"targets": ["openvno-cpu-1t-b1"]}, "unknown runtime 'openvno'; did you mean 'openvino'"),
        ({"targets": ["torch-cpu-1t-b1", " torch-cpu-1t-b1"]}, "a target stands twice"),
        ({"targets": ["cpu-b1"]}, "target 'cpu-b1' is a place, where several targets may serve"),
    ],
)
def test_targets_that_nothing_could_measure_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_recipe(**changes)


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"objectives": ["accuracy", "load_ms@onnxruntime-cpu-1t-b1"]}, True),
        ({"objectives": ["accuracy", "peak_memory_bytes@onnxruntime-cpu-1t-b1"]}, True),
        ({"constraints": ["load_ms@onnxruntime-cpu-1t-b1 <= 5"]}, True),
        ({"constraints": [f"{LATENCY} <= 5"]}, False),
    ],
)
def test_a_fresh_process_is_needed_for_load_time_and_memory(changes: dict[str, Any], needed: bool) -> None:
    assert make_recipe(**changes).needs_fresh_process is needed


@pytest.mark.parametrize("target", ["openvino-cpu-64t-b1", "torch-cuda-b1-fp16", "tensorrt-cuda-b8"])
def test_whether_a_target_can_be_measured_here_is_left_to_what_measures(target: str) -> None:
    assert make_recipe(objectives=["accuracy", f"latency_ms@{target}"]).all_targets == (target,)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_recipe().seed = 3


# --- what is refused -------------------------------------------------------------------------------------------------

BUDGET = {"trials": 8}
REFUSED: list[tuple[dict[str, Any], str]] = [
    # Unknown names and keys, at every depth.
    ({"sampler": "tpee"}, "'sampler': unknown sampler 'tpee'; did you mean 'tpe'? valid: gp, nsga2, predictor, random"),
    (
        {"data": {"source": "digist"}},
        "'data.source': unknown data source 'digist'; did you mean 'digits'? valid: digits",
    ),
    ({"sampelr": "tpe"}, "unknown key 'sampelr'; did you mean 'sampler'? valid: budget, cache_limit_mb"),
    ({"data": {"source": "digits", "pth": 1}}, "unknown key in 'data': 'pth'; did you mean 'path'?"),
    ({"budget": BUDGET | {"epoch": 1}}, "unknown key in 'budget': 'epoch'; did you mean 'epochs'?"),
    ({"training": {"batchsize": 1}}, "unknown key in 'training': 'batchsize'; did you mean 'batch_size'?"),
    (
        {"training": {"augmentation": {"flop": True}}},
        "unknown key in 'training.augmentation': 'flop'; did you mean 'flip'?",
    ),
    (
        {"data": {"source": "npz", "path": "x", "arrays": {"image": "x"}}},
        "unknown key in 'data.arrays': 'image'; did you",
    ),
    ({"training": {"device": "gpu"}}, "'training.device': Input should be 'auto', 'cpu' or 'cuda', but got 'gpu'"),
    ({"training": {"precision": "int8"}}, "'training.precision': Input should be 'auto', 'float32' or 'bfloat16'"),
    (
        {"data": {"source": "digits", "layout": "HWC"}},
        "'data.layout': Input should be 'NHWC', 'NCHW' or 'auto', but got 'HWC'",
    ),
    ({"training": {7: 8}}, "'training.7': Keys should be strings"),
    ({"teacher": {"pth": "t.onnx"}}, "unknown key in 'teacher': 'pth'; did you mean 'path'?"),
    # Sections that are none.
    ({"teacher": "t.onnx"}, "'teacher': must be a mapping of keys to values, but got 't.onnx'"),
    ({"data": 5}, "'data': must be a mapping of keys to values, but got 5"),
    ({"budget": None}, "'budget': must be a mapping of keys to values, but got None"),
    ({"training": ["adam"]}, "'training': must be a mapping of keys to values, but got ['adam']"),
    ({"objectives": "accuracy"}, "'objectives': must be a list, but got 'accuracy'"),
    ({"targets": {"a": 1}}, "'targets': must be a list, but got {'a': 1}"),
    # Nothing is coerced.
    ({"budget": {"trials": "40"}}, "'budget.trials': Input should be a valid integer, but got '40'"),
    ({"budget": {"trials": 40.0}}, "'budget.trials': Input should be a valid integer, but got 40.0"),
    ({"budget": {"trials": True}}, "'budget.trials': Input should be a valid integer, but got True"),
    ({"budget": BUDGET | {"epochs": 2.5}}, "'budget.epochs': Input should be a valid integer, but got 2.5"),
    ({"budget": {"minutes": "soon"}}, "'budget.minutes': Input should be a valid number, but got 'soon'"),
    ({"budget": {"minutes": "10"}}, "'budget.minutes': Input should be a valid number, but got '10'"),
    ({"budget": {"minutes": True}}, "'budget.minutes': Input should be a valid number, but got True"),
    ({"seed": True}, "'seed': Input should be a valid integer, but got True"),
    ({"space": 5}, "'space': Input should be a valid string, but got 5"),
    ({"objectives": ["accuracy", 5]}, "'objectives.1': Input should be a valid string, but got 5"),
    ({"training": {"class_weights": 1}}, "'training.class_weights': Input should be a valid boolean, but got 1"),
    ({"training": {"augmentation": {"flip": "yes"}}}, "'training.augmentation.flip': Input should be a valid boolean"),
    ({"data": {"source": "idx", "path": 5}}, "'data.path': must be a path, but got 5"),
    (
        {"data": {"source": "digits", "class_names": [False, "on"]}},
        "'data.class_names.0': Input should be a valid string",
    ),
    ({"data": FOLDER | {"resize": [28]}}, "'data.resize.1' is missing"),
    ({"data": FOLDER | {"resize": [28, 28, 3]}}, "'data.resize': has too many items, but got (28, 28, 3)"),
    ({"data": FOLDER | {"resize": [28.0, 28]}}, "'data.resize.0': Input should be a valid integer, but got 28.0"),
    # Numbers out of range, upside down, not finite.
    ({"budget": {"trials": 0}}, "'budget.trials': Input should be greater than 0, but got 0"),
    ({"budget": {"minutes": 0}}, "'budget.minutes': Input should be greater than 0, but got 0"),
    ({"budget": {"minutes": float("nan")}}, "'budget.minutes': Input should be a finite number, but got nan"),
    ({"budget": {"minutes": float("inf")}}, "'budget.minutes': Input should be a finite number, but got inf"),
    ({"budget": {"minutes": "1e999"}}, "'budget.minutes': Input should be a finite number, but got inf"),
    ({"budget": BUDGET | {"epochs": -1}}, "'budget.epochs': Input should be greater than 0, but got -1"),
    ({"budget": BUDGET | {"finetune_epochs": 0}}, "'budget.finetune_epochs': Input should be greater than 0"),
    ({"seed": -1}, "'seed': Input should be greater than or equal to 0, but got -1"),
    ({"seed": 2**32}, "'seed': Input should be less than 4294967296"),
    ({"data": {"source": "digits", "split_seed": -1}}, "'data.split_seed': Input should be greater than or equal to 0"),
    ({"cache_limit_mb": 0}, "'cache_limit_mb': Input should be greater than 0, but got 0"),
    ({"training": {"batch_size": 0}}, "'training.batch_size': Input should be greater than 0"),
    ({"training": {"learning_rate": 0}}, "'training.learning_rate': Input should be greater than 0"),
    ({"training": {"finetune_learning_rate": -1}}, "'training.finetune_learning_rate': Input should be greater than 0"),
    ({"training": {"learning_rate": float("nan")}}, "'training.learning_rate': Input should be a finite number"),
    ({"training": {"weight_decay": -0.1}}, "'training.weight_decay': Input should be greater than or equal to 0"),
    ({"training": {"label_smoothing": 1}}, "'training.label_smoothing': Input should be less than 1, but got 1"),
    ({"training": {"threads": -1}}, "'training.threads': Input should be greater than or equal to 0"),
    (
        {"training": {"distillation_temperature": 0}},
        "'training.distillation_temperature': Input should be greater than 0",
    ),
    (
        {"training": {"distillation_weight": 1.5}},
        "'training.distillation_weight': Input should be less than or equal to 1",
    ),
    (
        {"training": {"augmentation": {"shift": -1}}},
        "'training.augmentation.shift': Input should be greater than or equal",
    ),
    ({"training": {"augmentation": {"erase": 1}}}, "'training.augmentation.erase': Input should be less than 1"),
    ({"data": {"source": "digits", "validation": 0}}, "'data.validation': Input should be greater than 0, but got 0"),
    ({"data": {"source": "digits", "validation": 1}}, "'data.validation': Input should be less than 1, but got 1"),
    ({"data": {"source": "digits", "test": float("nan")}}, "'data.test': Input should be a finite number, but got nan"),
    ({"data": {"source": "digits", "train_limit": 0}}, "'data.train_limit': Input should be greater than 0"),
    ({"data": {"source": "digits", "validation_limit": 0}}, "'data.validation_limit': Input should be greater than 0"),
    ({"data": FOLDER | {"resize": [0, 28]}}, "'data.resize.0': Input should be greater than 0, but got 0"),
    # A teacher's file, and what is said of it.
    ({"teacher": {}}, "'teacher.path' is missing"),
    ({"teacher": {"path": "t.h5"}}, "'teacher': 'path' must end in .onnx, .pt, .pth, .ts, .pt2, .safetensors, but is"),
    ({"teacher": {"path": "teacher"}}, "'teacher': 'path' must end in .onnx, .pt, .pth, .ts, .pt2, .safetensors, but"),
    ({"teacher": {"path": "t.safetensors"}}, "'teacher': a .safetensors file holds weights alone: give 'family' and"),
    ({"teacher": {"path": "t.safetensors", "family": "mlp"}}, "'teacher': 'family' and 'architecture' go together"),
    ({"teacher": {"path": "t.pt", "architecture": {}}}, "'teacher': 'family' and 'architecture' go together"),
    (
        {"teacher": {"path": "t.onnx", "family": "mlp", "architecture": {}}},
        "'teacher': 'family' is for weights (.safetensors, .pt, .pth), but 'path' is 't.onnx'",
    ),
    (
        {"teacher": {"path": "t.pt", "family": "mlp", "architecture": {"layers": [1]}}},
        "architecture choice 'layers' must be a number, text or boolean, but got [1]",
    ),
    ({"teacher": {"path": "t.onnx", "mean": [0.5]}}, "'teacher': 'mean' and 'std' go together"),
    ({"teacher": {"path": "t.onnx", "mean": 0.5, "std": [1]}}, "'teacher.mean': must be a list, but got 0.5"),
    ({"teacher": {"path": "t.onnx", "mean": [], "std": []}}, "'teacher.mean': Tuple should have at least 1 item"),
    (
        {"teacher": {"path": "t.onnx", "mean": [0.5], "std": [1, 1]}},
        "'teacher': 'mean' has 1 numbers, but 'std' has 2",
    ),
    ({"teacher": {"path": "t.onnx", "mean": [0], "std": [0]}}, "'teacher': 'std' must be greater than 0, but got 0"),
    # What contradicts itself or is too little.
    ({"data": {"source": "digits", "path": "x"}}, "'data': data source 'digits' needs no 'path'"),
    *(
        ({"data": {"source": name}}, f"'data': data source '{name}' needs a 'path'")
        for name in ("idx", "npz", "folder")
    ),
    (
        {"data": {"source": "digits", "resize": [8, 8]}},
        "'data': 'resize' is for the data sources 'folder' and 'huggingface' only",
    ),
    ({"data": {"source": "digits", "validation": 0.5, "test": 0.5}}, "must leave data to train on, but 0.5 + 0.5 >= 1"),
    ({"budget": {"epochs": 3}}, "'budget': needs 'trials' or 'minutes', or both"),
    ({"objectives": []}, "'objectives': needs 2 to 4 objectives, but got 0"),
    ({"objectives": ["accuracy"]}, "'objectives': needs 2 to 4 objectives, but got 1"),
    ({"objectives": ["accuracy", "macs", "flops", "params", "size_bytes"]}, "needs 2 to 4 objectives, but got 5"),
    ({"objectives": ["accuracy", "macs", "macs "]}, "'objectives': an objective stands twice in accuracy, macs, macs"),
    (
        {"objectives": ["accuracy", "balanced_accuracy"]},
        "needs at least one quality (accuracy, balanced_accuracy) and one",
    ),
    ({"objectives": ["macs", "params"]}, "needs at least one quality"),
    ({"objectives": ["accuracy", "latency"]}, "unknown objective 'latency'; did you mean 'latency_ms'?"),
    ({"objectives": ["accuracy", "latency_ms"]}, "'latency_ms' must say what it is measured on"),
    ({"constraints": ["size_bytes < 5"]}, "a constraint must read 'NAME <= LIMIT' or 'NAME >= LIMIT'"),
    ({"constraints": ["size_bytes <= .nan"]}, "the limit of a constraint must be a number, but got '.nan'"),
    ({"constraints": ["size_bytes <= 0"]}, "the limit of a constraint must be greater than 0"),
    (
        {"constraints": ["macs <= 100", "macs<=1e2"]},
        "'constraints': a constraint stands twice in macs <= 100, macs <= 100",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
def test_bad_input_is_refused_with_file_field_and_value(changes: dict[str, Any], message: str) -> None:
    data = {"data": {"source": "digits"}, "space": "convnet", "budget": BUDGET} | changes
    with pytest.raises(RecipeError) as caught:
        parse_recipe(data, "my.yaml")
    assert caught.value.message.startswith("my.yaml: ")
    assert message in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["data", "space", "budget"])
def test_a_missing_key_is_named(key: str) -> None:
    data = {"data": {"source": "digits"}, "space": "convnet", "budget": BUDGET}
    del data[key]
    with pytest.raises(RecipeError, match=f"^my.yaml: '{key}' is missing$"):
        parse_recipe(data, "my.yaml")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(RecipeError, match=r"'data' is missing; .*'seed': Input should.*; unknown key 'sampelr'"):
        parse_recipe({"space": "convnet", "budget": BUDGET, "seed": -1, "sampelr": "tpe"}, "my.yaml")


def test_constraints_whose_limits_differ_late_are_two() -> None:
    assert len(make_recipe(constraints=["macs <= 12345678", "macs <= 12345679"]).parsed_constraints) == 2


# --- the file --------------------------------------------------------------------------------------------------------

MINIMAL = "data: {source: digits}\nspace: convnet\nbudget: {trials: 8}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "recipe.yaml must be a mapping of keys to values, but is empty"),
        ("# nothing\n", "but is empty"),
        ("- a\n", "must be a mapping of keys to values, but is list"),
        ("plain", "must be a mapping of keys to values, but is str"),
        ("data: [", r"recipe.yaml is not valid YAML: .*line 1, column 8"),
        ("a: b: c", r"is not valid YAML: mapping values are not allowed here in line 1, column 5"),
        ("\tdata: x", "is not valid YAML: .*cannot start any token"),
        ("seed: 2024-13-45\n", "is not valid YAML: month must be in 1..12"),
        ("seed: !!python/object/apply:os.getcwd []\n", "is not valid YAML: could not determine a constructor"),
        ("\x00", "is not valid YAML: .*special characters are not allowed"),
        ("[" * 600, "is not valid YAML"),
        (MINIMAL + "seed: 1\nseed: 2\n", "is not valid YAML: the key 'seed' stands twice in line 5, column 1"),
        ("data: {source: digits, source: idx}\n", "the key 'source' stands twice in line 1, column 24"),
        ("training: {augmentation: {flip: true, flip: false}}\n", "the key 'flip' stands twice"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "recipe.yaml") in caught.value.message


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.binary(max_size=40) | st.text(alphabet="ab:[]{}-&*!?|>'\"%@`#,.<= \n\t019éx\\", max_size=40).map(str.encode))
def test_whatever_a_file_holds_it_is_a_recipe_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_bytes(content)
        with pytest.raises(RecipeError, match=r"recipe.yaml"):
            load_recipe(path)


def test_a_mapping_may_be_merged_and_overridden(tmp_path: Path) -> None:
    text = "data: {source: digits}\nspace: convnet\nbudget: &b {trials: 8, epochs: 2}\n"
    base = load_recipe(write(tmp_path, text))
    merged = load_recipe(write(tmp_path, text.replace("&b {trials: 8, ", "{<<: {trials: 3, epochs: 1}, trials: 8, ")))
    assert merged == base


def test_a_missing_recipe_lists_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL)
    with pytest.raises(RecipeError, match=r"there is no recipe .*digts.yaml \(recipes there: .*recipe.yaml\)"):
        load_recipe(tmp_path / "digts.yaml")
    with pytest.raises(RecipeError, match=r"there is no recipe .*nowhere/digits.yaml$"):
        load_recipe(tmp_path / "nowhere" / "digits.yaml")


def test_what_is_no_readable_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"is a folder, not a recipe \(name the YAML file\)"):
        load_recipe(tmp_path)
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits.yaml").write_text("")
    with pytest.raises(RecipeError, match=r"is a folder, not a recipe \(did you mean .*digits.yaml\?\)"):
        load_recipe(tmp_path / "digits")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RecipeError, match=r"binary.yaml cannot be read: 'utf-8' codec"):
        load_recipe(tmp_path / "binary.yaml")


def test_paths_are_relative_to_the_recipes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    text = "data: {source: npz, path: ../data/x.npz}\nspace: mine.yaml\nbudget: {trials: 8}\nteacher: {path: t.onnx}\n"
    write(folder, text)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("studies/recipe.yaml"))
    assert recipe.data.path == folder / "../data/x.npz"
    assert recipe.teacher is not None
    assert recipe.teacher.path == folder / "t.onnx"
    assert recipe.space == str(folder / "mine.yaml")


def test_absolute_paths_home_and_names_of_spaces_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    path = write(tmp_path, "data: {source: npz, path: ~/x.npz}\nspace: ~/mine.yml\nbudget: {trials: 8}\n")
    recipe = load_recipe(path)
    assert (recipe.data.path, recipe.space) == (Path("/home/me/x.npz"), "/home/me/mine.yml")
    path.write_text(MINIMAL.replace("digits", "npz, path: /data/x.npz"))
    recipe = load_recipe(path)
    assert (recipe.data.path, recipe.space) == (Path("/data/x.npz"), "convnet")


def test_a_project_that_moves_keeps_its_studies(tmp_path: Path) -> None:
    """Data, teacher and space of one's own are held by their digests, not by where they lie."""
    text = "data: {source: npz, path: x.npz}\nspace: mine.yaml\nbudget: {trials: 8}\nteacher: {path: t.onnx}\n"
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = (load_recipe(write(tmp_path / name, text)) for name in ("here", "there"))
    assert here.data.path != there.data.path
    assert here.identity == there.identity
    assert not here.differences(there)


def test_a_home_that_is_none_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace("digits", "npz, path: ~no-such-user-here/x.npz"))
    with pytest.raises(
        RecipeError, match=r"'data.path', 'teacher.path'.* or 'space' cannot be resolved: Could not determine home"
    ):
        load_recipe(path)


def test_a_recipe_is_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace("digits", "digits, class_names: [zéro, один]"))
    script = (
        "import sys, pathlib, nas.recipe as r; print(ascii(r.load_recipe(pathlib.Path(sys.argv[1])).data.class_names))"
    )
    ascii_locale = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, env=ascii_locale, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == ascii(("zéro", "один")), done.stderr


# --- a teacher -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ({"path": "a.onnx"}, "onnx"),
        ({"path": "A.ONNX", "mean": [0.5], "std": [1]}, "onnx"),
        ({"path": "a.pt"}, "torchscript"),
        ({"path": "a.pth"}, "torchscript"),
        ({"path": "a.ts"}, "torchscript"),
        ({"path": "a.pt2"}, "exported program"),
        ({"path": "a.pt", "family": "mlp", "architecture": {"layers": 1}}, "weights"),
        ({"path": "a.safetensors", "family": "mlp", "architecture": {"layers": 1, "x": "y", "z": True}}, "weights"),
    ],
)
def test_a_teacher_comes_back_from_yaml_and_its_suffix_says_what_it_is(section: dict[str, Any], kind: str) -> None:
    recipe = make_recipe(teacher=section)
    assert recipe.teacher is not None
    assert recipe.teacher.kind == kind
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.to_json())), "again") == recipe


# --- identity --------------------------------------------------------------------------------------------------------

SAME_STUDY: list[dict[str, Any]] = [
    {"budget": {"trials": 99, "epochs": 1}},
    {"budget": {"trials": 8, "minutes": 3, "epochs": 1}},
    {"budget": {"minutes": 3, "epochs": 1}},
    {"cache_limit_mb": 5},
]
ANOTHER_STUDY: list[tuple[dict[str, Any], str]] = [
    ({"seed": 1}, "seed: 0, 1"),
    ({"space": "mlp"}, 'space: "convnet", "mlp"'),
    ({"sampler": "random"}, 'sampler: "predictor", "random"'),
    ({"objectives": ["accuracy", "macs"]}, f'objectives: ["accuracy","{LATENCY}"], ["accuracy","macs"]'),
    ({"objectives": [LATENCY, "accuracy"]}, f'objectives: ["accuracy","{LATENCY}"], ["{LATENCY}","accuracy"]'),
    ({"constraints": ["macs <= 5"]}, 'constraints: [], ["macs <= 5"]'),
    ({"targets": ["torch-cpu-1t-b1"]}, 'targets: [], ["torch-cpu-1t-b1"]'),
    ({"budget": {"trials": 8, "epochs": 2}}, "budget.epochs: 1, 2"),
    ({"budget": {"trials": 8, "epochs": 1, "finetune_epochs": 9}}, "budget.finetune_epochs: 3, 9"),
    ({"data": {"source": "digits", "split_seed": 4}}, "data.split_seed: 0, 4"),
    ({"data": {"source": "digits", "validation": 0.3}}, "data.validation: 0.2, 0.3"),
    ({"data": {"source": "digits", "train_limit": 9}}, "data.train_limit: null, 9"),
    ({"data": {"source": "digits", "class_names": ["a"]}}, 'data.class_names: null, ["a"]'),
    ({"training": {"learning_rate": 0.5}}, "training.learning_rate: 0.002, 0.5"),
    ({"training": {"augmentation": {"flip": True}}}, "training.augmentation.flip: false, true"),
    ({"training": {"precision": "float32"}}, 'training.precision: "auto", "float32"'),
]
GIVEN = {"path": "a.onnx", "mean": [0.5], "std": [1.0]}


@pytest.mark.parametrize("changes", SAME_STUDY, ids=str)
def test_budget_and_cache_size_do_not_make_another_study(changes: dict[str, Any]) -> None:
    recipe, changed = make_recipe(), make_recipe(**changes)
    assert changed != recipe
    assert changed.identity == recipe.identity
    assert recipe.differences(changed) == []


@pytest.mark.parametrize(("changes", "line"), ANOTHER_STUDY, ids=[line for _, line in ANOTHER_STUDY])
def test_anything_else_makes_another_study_and_is_shown(changes: dict[str, Any], line: str) -> None:
    recipe, changed = make_recipe(), make_recipe(**changes)
    assert changed.identity != recipe.identity
    assert recipe.differences(changed) == [line]


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"path": "elsewhere/b.onnx"}, []),
        ({"mean": [0.4]}, ["teacher.mean: [0.5], [0.4]"]),
        ({"path": "a.ts"}, ['teacher.kind: "onnx", "torchscript"']),
    ],
    ids=str,
)
def test_how_a_teacher_is_read_makes_another_study_and_where_it_lies_does_not(
    changes: dict[str, Any], lines: list[str]
) -> None:
    recipe, changed = make_recipe(teacher=GIVEN), make_recipe(teacher=GIVEN | changes)
    assert recipe.differences(changed) == lines
    assert (recipe.identity == changed.identity) == (not lines)


def test_a_teacher_makes_another_study_than_none() -> None:
    lines = make_recipe().differences(make_recipe(teacher={"path": "a.onnx"}))
    assert lines == ["teacher: null, (absent)", 'teacher.kind: (absent), "onnx"']


def test_every_field_but_budget_workers_and_cache_counts() -> None:
    counted = set(make_recipe().comparable())
    assert counted == set(Recipe.model_fields) - {"cache_limit_mb", "workers"}
    assert set(make_recipe().comparable()["budget"]) == {"epochs", "finetune_epochs"}


@settings(deadline=None, max_examples=50)
@given(
    rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    names=st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_recipe_comes_back_from_yaml(rate: float, names: list[str], seed: int) -> None:
    recipe = make_recipe(data={"source": "digits", "class_names": names}, training={"learning_rate": rate}, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_bytes(yaml.safe_dump(recipe.to_json(), sort_keys=False).encode())
        assert load_recipe(path) == recipe
