"""A real search, as short as can be: what lies in its folder, and how it recovers what was lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import make_model
from search_fakes import Listener, Memory
from torch import nn

from nas import data
from nas.choice import Choice
from nas.compress.export import export_body
from nas.errors import RecipeError, SpaceError, StudyError, TeacherError, UnsupportedError
from nas.families import build
from nas.gains import finalists
from nas.outcome import Outcome
from nas.proxies import rung_accuracy
from nas.recipe import Recipe, parse_recipe
from nas.recipe_sections import TeacherConfig
from nas.report.payload import page_data
from nas.search.prepared import check_teaching
from nas.search.run import search
from nas.space import SearchSpace
from nas.store import sha256_bytes
from nas.study import Study
from nas.train import schedule


def tiny_recipe(**changes: object) -> Recipe:
    data = {
        "data": {"source": "digits", "train_limit": 200, "validation_limit": 100},
        "space": "mlp",
        "budget": {"trials": 3, "epochs": 1, "finetune_epochs": 1},
        "training": {"threads": 1, "precision": "float32"},
        "sampler": "random",
    }
    return parse_recipe(data | changes, "a test's recipe")


def test_a_search_records_all_that_a_trial_is_made_of(tmp_path: Path) -> None:
    study, ended = search(tiny_recipe(), tmp_path / "s", Memory())
    assert "3 trials" in ended.why
    for record in study.records:
        assert record.outcome is Outcome.MEASURED
        assert record.environment["onnxruntime"]
        assert record.environment["cpu"]
        latency = record.quantity("latency_ms@onnxruntime-cpu-1t-b1")
        assert latency is not None
        assert latency.environment_id
        assert (study.folder.path / str(latency.samples_ref)).is_file()
    assert study.records[0].origin == "baseline"
    assert set(study.test_scores) == {record.number for record in finalists(study)}


def test_a_search_is_judged_amid_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a training of two epochs, 12 steps, after four of them; as with much data, where a part tells enough."""
    monkeypatch.setattr(schedule, "LEAST_STEPS", 2)
    budget = {"trials": 8, "epochs": 2, "finetune_epochs": 1}
    recipe = tiny_recipe(budget=budget, strategy="guided", space="convnet-small", training={"batch_size": 32})
    study, _ = search(recipe, tmp_path / "s", Memory())
    stopped = [record for record in study.records if record.outcome is Outcome.STOPPED and record.epochs]
    assert stopped
    assert {record.epochs for record in stopped} == {0.667}
    first = stopped[0]
    assert rung_accuracy(first, 0.667) is not None
    assert first.reason is not None
    assert first.reason.message.startswith("after 0.667 of 2 epochs: accuracy")
    assert study.measured
    assert 8 <= study.spent < 9
    again = Study.open(tmp_path / "s")
    assert [record.epochs for record in again.records] == [record.epochs for record in study.records]
    assert "0.667 of 2 epochs" in json.dumps(page_data(again))


def test_lost_artifacts_of_the_front_are_made_again(tmp_path: Path) -> None:
    before, _ = search(tiny_recipe(), tmp_path / "s", Memory())
    artifacts = {record.number: before.artifact(record) for record in before.front_as_told}
    shutil.rmtree(tmp_path / "s" / "cache")
    with pytest.raises(StudyError, match="run the search again"):
        before.artifact(before.front[0])
    after, _ = search(tiny_recipe(), tmp_path / "s", Memory())
    assert {record.number: after.artifact(record) for record in after.front_as_told} == artifacts


@pytest.mark.parametrize("name", ["a?b=c", "%41 #h", "{x}", "[red]x[k]", "ünï çødé"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    study, _ = search(tiny_recipe(budget={"trials": 1, "epochs": 1}), tmp_path / name, Memory())
    assert study.folder.storage.is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_the_machine_cannot_do_is_said_before_anything_is_spent(tmp_path: Path) -> None:
    recipe = tiny_recipe(objectives=["accuracy", "latency_ms@onnxruntime-cpu-9999t-b1"])
    with pytest.raises(UnsupportedError, match="9999"):
        search(recipe, tmp_path / "s", Memory())
    assert not (tmp_path / "s").exists()


def test_a_folder_with_somebodys_own_recipe_is_no_study(tmp_path: Path) -> None:
    own = tmp_path / "recipe.yaml"
    own.write_text("# mine\n")
    with pytest.raises(StudyError, match="exists and is no study"):
        search(tiny_recipe(), tmp_path, Memory(), fresh=True)
    assert own.read_text() == "# mine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_a_storage_damaged_inside_is_one_clear_line(tmp_path: Path) -> None:
    study, _ = search(tiny_recipe(), tmp_path / "s", Memory())
    with closing(sqlite3.connect(study.folder.storage)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that nothing stands in the log beside the file
    content = bytearray(study.folder.storage.read_bytes())
    content[8192:60000] = b"\0" * (60000 - 8192)
    study.folder.storage.write_bytes(content)
    recipe = tiny_recipe(budget={"trials": 4, "epochs": 1, "finetune_epochs": 1})
    with pytest.raises(StudyError, match=r"the sampler's memory .* is damaged"):
        search(recipe, tmp_path / "s", Memory())
    study.folder.storage.unlink()
    again, _ = search(recipe, tmp_path / "s", Memory())
    assert len(again.records) == 4
    assert again.as_told[:3] == study.as_told


# --- a given teacher


DISTILLED = """
family: mlp
architecture: {layers: [1], layer1.width: [16, 24, 32]}
compression: {distillation: [true], distillation_temperature: [2.0]}
"""


def taught_recipe(folder: Path, content: bytes | None = None, **changes: object) -> Recipe:
    """A search of distilled designs alone, and a teacher that knows the digits by their nearest mean image."""
    (folder / "own.yaml").write_text(DISTILLED)
    (folder / "t.onnx").write_bytes(nearest_mean() if content is None else content)
    own = {"space": str(folder / "own.yaml"), "teacher": {"path": str(folder / "t.onnx")}}
    return tiny_recipe(**(own | {"budget": {"trials": 2, "epochs": 1, "finetune_epochs": 1}} | changes))


def nearest_mean(shift: float = 0.0) -> bytes:
    """Logits 2 x·m − m², which order classes as the distance |x − m|² does, of raw digits."""
    train = data.load(tiny_recipe().data).train
    flat = train.images.reshape(len(train), -1).astype(np.float32)
    means = np.stack([flat[train.labels == label].mean(0) for label in range(10)])
    arrays = {"weight": 2 * means.T, "bias": -np.square(means).sum(1) + shift}
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["probabilities"]),
    ]
    return make_model(nodes, arrays, ["batch", 8, 8, 1], TensorProto.UINT8)


def test_a_search_learns_from_the_teacher_that_its_recipe_names(tmp_path: Path) -> None:
    recipe, listener = taught_recipe(tmp_path), Listener()
    study, _ = search(recipe, tmp_path / "s", listener)
    assert "teacher t.onnx: validation accuracy 91.00 %; it gets images as they are" in listener.notes
    digest = sha256_bytes((tmp_path / "t.onnx").read_bytes())
    assert [(record.outcome, record.teacher, record.teacher_trial) for record in study.records] == [
        (Outcome.MEASURED, digest, None)
    ] * 2
    assert json.loads((tmp_path / "s" / "inputs.json").read_text())["teacher"] == digest
    stages = [{stage.stage: stage.cached for stage in record.stages} for record in study.records]
    assert [stage["teacher"] for stage in stages] == [False, True]
    # Lost artifacts are made again with the same teacher, also where its file lies elsewhere now.
    artifacts = {record.number: study.artifact(record) for record in study.front_as_told}
    shutil.rmtree(tmp_path / "s" / "cache")
    (tmp_path / "t.onnx").rename(tmp_path / "moved.onnx")
    moved = recipe.model_copy(update={"teacher": TeacherConfig(path=tmp_path / "moved.onnx")})
    again, _ = search(moved, tmp_path / "s", Memory())
    assert {record.number: again.artifact(record) for record in again.front_as_told} == artifacts
    # Another teacher is another study.
    (tmp_path / "moved.onnx").write_bytes(nearest_mean(shift=1.0))
    with pytest.raises(StudyError, match=r"holds a study of another recipe .*: teacher: changed since the study began"):
        search(moved, tmp_path / "s", Memory())


def test_a_teacher_that_guesses_is_told(tmp_path: Path) -> None:
    """As one whose classes are in another order."""
    model = onnx.load_from_string(nearest_mean())
    turned = helper.make_node("Neg", ["logits"], ["probabilities"])
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(turned)
    listener = Listener()
    recipe = taught_recipe(tmp_path, model.SerializeToString(), budget={"trials": 1, "epochs": 1, "finetune_epochs": 1})
    search(recipe, tmp_path / "s", listener)
    assert any("no better than a guess: are its classes in this order (0, 1, 2, …, 9)" in n for n in listener.notes)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (lambda: b"junk", "the teacher t.onnx cannot be read: it is no ONNX file"),
        (lambda: export_body(tiny_network(7), (1, 8, 8)), "the teacher t.onnx gives 7 classes, but the data has 10"),
        (
            lambda: export_body(tiny_network(10, 9), (1, 9, 9)),
            "the teacher t.onnx takes images of 1×9×9, but the data's are 1×8×8",
        ),
        (lambda: nearest_mean(np.nan), "the teacher t.onnx gives NaN or infinity"),
    ],
    ids=["junk", "classes", "shape", "nan"],
)
def test_a_bad_teacher_costs_nothing(teacher: Callable[[], bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=message) as caught:
        search(taught_recipe(tmp_path, teacher()), tmp_path / "s", Memory())
    assert caught.value.exit_code == 2
    assert not (tmp_path / "s").exists()


def tiny_network(classes: int, size: int = 8) -> nn.Module:
    return build("mlp", {"layers": 1, "layer1.width": 16}, (1, size, size), classes)


def distilling(*values: bool) -> SearchSpace:
    choices = [Choice("a", "architecture", (1,))]
    choices += [Choice("distillation", "compression", values)] if values else []
    return SearchSpace("test", "any", "", tuple(choices))


GIVEN = tiny_recipe(teacher={"path": "t.onnx"})


@pytest.mark.parametrize(
    ("space", "recipe"),
    [
        (distilling(), tiny_recipe()),
        (distilling(False), tiny_recipe()),
        (distilling(False, True), tiny_recipe()),
        (distilling(True), GIVEN),
        (distilling(False, True), GIVEN),
    ],
)
def test_where_there_is_somebody_to_teach_there_is_a_teacher(space: SearchSpace, recipe: Recipe) -> None:
    check_teaching(space, recipe)


def test_who_has_no_teacher_or_nobody_to_teach_is_refused() -> None:
    with pytest.raises(
        SpaceError, match=r"choice 'distillation' must offer false: .*\[false, true\], or name a 'teacher'"
    ):
        check_teaching(distilling(True), tiny_recipe())
    for space in (distilling(), distilling(False)):
        with pytest.raises(RecipeError, match="names a teacher, but no design of search space 'test' is distilled"):
            check_teaching(space, GIVEN)


def test_a_space_without_a_first_teacher_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    recipe = taught_recipe(tmp_path, teacher=None)
    with pytest.raises(SpaceError, match="must offer false: before the first trial there is no teacher"):
        search(recipe, tmp_path / "s", Memory())
    assert not (tmp_path / "s").exists()
