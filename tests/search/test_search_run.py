"""A real search, as short as can be: what lies in its folder, and how it recovers what was lost."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from search_fakes import Memory

from nas.errors import StudyError, UnsupportedError
from nas.outcome import Outcome
from nas.recipe import Recipe, parse_recipe
from nas.search.run import search


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
    assert set(study.test_scores) == {record.number for record in study.front}


def test_lost_artifacts_of_the_front_are_made_again(tmp_path: Path) -> None:
    before, _ = search(tiny_recipe(), tmp_path / "s", Memory())
    artifacts = {record.number: before.artifact(record) for record in before.front}
    shutil.rmtree(tmp_path / "s" / "cache")
    with pytest.raises(StudyError, match="run the search again"):
        before.artifact(before.front[0])
    after, _ = search(tiny_recipe(), tmp_path / "s", Memory())
    assert {record.number: after.artifact(record) for record in after.front} == artifacts


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
    assert again.records[:3] == study.records
