"""Finalists of compared searches trained again: from several seeds, one teacher for all of them, paid for once."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.efficiency_retraining import FIRST_SEED, Retrained, Trainer, retrain, seeds_of
from benchmarks.search_efficiency import again_of
from small_networks import make_design, make_recipe

from nas.recipe import Recipe
from nas.space import load_space

SPACE = """
family: convnet
architecture:
  stem.width: [16, 32]
  stages: [1]
  stage1.conv: [standard]
  stage1.width: [32]
  stage1.depth: [1]
  stage1.pooling: [max]
  head.pooling: [flatten]
  head.hidden: [0]
baseline:
  stem.width: 16
  stages: 1
  stage1.conv: standard
  stage1.width: 32
  stage1.depth: 1
  stage1.pooling: max
  head.pooling: flatten
  head.hidden: 0
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = tmp_path / "small.yaml"
    path.write_text(SPACE)
    return make_recipe(epochs=1, space=str(path), objectives=["accuracy", "latency_ms@onnxruntime-cpu-1t-b1"])


def test_each_design_is_trained_again_from_every_seed_and_only_what_is_missing(recipe: Recipe, tmp_path: Path) -> None:
    designs = [make_design(), make_design(architecture={"stem.width": 32})]
    retrained = Retrained(tmp_path / "retrained")
    retrained.folder.mkdir()
    assert retrain(recipe, designs, seeds_of(1), retrained, 0, 1) == 2
    first = retrained.rows()
    assert first.keys() == {(design.digest, FIRST_SEED) for design in designs}
    assert retrain(recipe, designs, seeds_of(3), retrained, 0, 1) == 4
    rows = retrained.rows()
    assert rows.keys() == {(design.digest, seed) for design in designs for seed in seeds_of(3)}
    assert first.items() <= rows.items(), "what was there stays"
    files = {row["artifact"] for row in rows.values()}
    assert len(files) == 6, "other seeds are other networks"
    assert all(retrained.artifact(file).exists() for file in files)
    assert retrain(recipe, designs, seeds_of(3), retrained, 0, 1) == 0


def test_distilled_designs_of_all_seeds_learn_from_one_teacher(recipe: Recipe, tmp_path: Path) -> None:
    trainer = Trainer(recipe, seeds_of(2), tmp_path / "store")
    distilled = make_design(distillation=True, pruning_ratio=0.5, pruning_criterion="l1")
    teacher = trainer.teacher([distilled])
    assert teacher is not None
    assert teacher.design == load_space(recipe.space).baseline
    stored = [trainer.store.get(trainer.pipeline.train_key(teacher.design, seed)) for seed in seeds_of(2)]
    assert stored[0] is not None
    assert stored[0] == stored[1], "trained from the first seed alone"
    rows = [trainer.again(distilled, seed, teacher)[0] for seed in seeds_of(2)]
    assert rows[0]["artifact"] != rows[1]["artifact"]
    baselines = [trainer.again(teacher.design, seed, teacher)[0] for seed in seeds_of(2)]
    assert all(row["stages"] for row in baselines), "what the teacher's own training took is known of every seed"


def test_without_distilled_designs_no_teacher_is_trained(recipe: Recipe, tmp_path: Path) -> None:
    assert Trainer(recipe, seeds_of(2), tmp_path / "store").teacher([make_design()]) is None


def test_seeds_are_averaged_and_the_first_one_is_paid_for() -> None:
    rows = [
        {"design": "d", "seed": seed, "accuracy": accuracy, "artifact": f"file{seed}", "stages": {f"train {seed}": 9.0}}
        for seed, accuracy in enumerate((0.91, 0.88, 0.88))
    ]
    again = again_of(rows, {"file0": 0.2, "each": 1.5})
    assert again is not None
    assert again.accuracy == pytest.approx(0.89)
    assert again.latency_ms == 0.2
    assert again.stages == {"train 0": 9.0, "time d": 1.5}
    assert again_of([*rows, {"design": "d", "seed": 3, "error": "no"}], {"file0": 0.2, "each": 1.5}) is None
