"""``nas search`` without its command line: checks everything, claims the folder, runs the loop, scores the front."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from nas import data, families
from nas.artifact import open_session, probabilities
from nas.data.dataset import Dataset
from nas.errors import StudyError
from nas.evaluate import Evaluator, Measure
from nas.measure.environment import environment, environment_id, has_fast_bfloat16, has_vnni
from nas.measure.latency import measure_latency
from nas.measure.target import Target, usable_cores
from nas.pipeline import Pipeline, Teacher, Trace
from nas.recipe import Recipe
from nas.record import record_path
from nas.scoring import score
from nas.search.loop import Ended, Loop, Watcher
from nas.search.optuna_bridge import storage_errors
from nas.space import SearchSpace, load_space, size_words
from nas.store import Store, sha256_bytes, write_atomically
from nas.study import Study, StudyFolder
from nas.train import Numerics, numerics_for
from nas.wording import plural


def search(
    recipe: Recipe, path: Path, watcher: Watcher, fresh: bool = False, measure: Measure | None = None
) -> tuple[Study, Ended]:
    """Runs a study to the end of its budget, or takes up the one that lies in the folder.

    Args:
        recipe: What to search.
        path: The study's folder.
        watcher: Hears of every trial.
        fresh: Delete what the folder holds and start over; the caller has asked.
        measure: How latency is measured; the real thing by default.

    Returns:
        The study, and why it ended.

    Raises:
        NasError: The recipe, space, data or folder cannot be used; nothing was changed.
    """
    space = load_space(recipe.space)
    families.check_space(space)
    for target in recipe.all_targets:
        Target.parse(target).check_cores()
    dataset = data.load(recipe.data)
    numerics = numerics_for(recipe.training, has_fast_bfloat16(), usable_cores())
    watcher.note(_summary(recipe, space, dataset, numerics))
    folder = StudyFolder(path)
    with folder.claim():
        if fresh:
            folder.clear()
        folder.start(recipe, {"space": space.digest, "data": dataset.digest})
        store = Store(folder.cache, recipe.cache_limit_mb * 10**6)
        surroundings = environment()
        fingerprint = environment_id(surroundings)
        measure = measure or partial(measure_latency, environment_id=fingerprint)
        pipeline = Pipeline(recipe, dataset, store, numerics, reduce_range=not has_vnni())
        evaluator = Evaluator(recipe, dataset, pipeline, store, measure, fingerprint)
        with storage_errors(folder.storage):
            ended = Loop(folder, recipe, space, evaluator.evaluate, surroundings, watcher).run()
        study = Study.open(path)
        restore_artifacts(study, pipeline, watcher)
        score_front(study, dataset)
    return study, ended


def restore_artifacts(study: Study, pipeline: Pipeline, watcher: Watcher) -> None:
    """Makes the front's artifacts again where the cache lost them, and keeps them only if they are the same files."""
    for record in study.front:
        if record.artifact_sha256 is None or study.store.read_blob(record.artifact_sha256) is not None:
            continue
        watcher.note(f"the artifact of trial {record.number} is gone from the cache; making it again")
        teacher = None
        if record.teacher_trial is not None:
            teacher = Teacher(record.teacher_trial, study.record(record.teacher_trial).design)
        artifact = pipeline.run(record.design, record.seed, teacher, Trace(watcher.progress)).artifact
        if sha256_bytes(artifact) != record.artifact_sha256:
            raise StudyError(
                f"the artifact of trial {record.number} is gone from the cache, and this machine makes another one",
                f"move {record_path(study.folder.trials, record.number)} away; the next search evaluates it anew",
            )
        study.store.put(f"artifact-{record.number:05d}", artifact, {"trial": record.number})


def score_front(study: Study, dataset: Dataset) -> None:
    """Scores the front's artifacts on the test data, which no trial saw, and writes the scores into the folder."""
    threads = usable_cores()
    scores = {}
    for record in study.front:
        session = open_session(study.artifact(record), threads)
        quantities = score(probabilities(session, dataset.test.images), dataset.test.labels, "test_")
        scores[str(record.number)] = [quantity.to_json() for quantity in quantities]
    write_atomically(study.folder.test_scores, json.dumps(scores, indent=1).encode())


def _summary(recipe: Recipe, space: SearchSpace, dataset: Dataset, numerics: Numerics) -> str:
    """What is about to be searched, in two lines."""
    counts = ", ".join(
        f"{len(split.labels):,} {name}"
        for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    )
    shape = "×".join(str(size) for size in dataset.input.shape)
    trains = f"{numerics.precision} on {numerics.device}, {plural(numerics.threads, 'thread')}"
    return (
        f"{recipe.data.source}: {counts} images of {shape}, {len(dataset.class_names)} classes\n"
        f"{space.name}: {size_words(space.size())} designs, sampled by {recipe.sampler}; training in {trains}"
    )
