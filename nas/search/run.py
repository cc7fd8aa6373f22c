"""``nas search`` without its command line: checks everything, claims the folder, runs the loop, scores the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.estimate.estimator import Estimator
from nas.evaluate import Estimate, Evaluator
from nas.measure.complexity import Complexity
from nas.measure.measurer import Measurer
from nas.outcome import Quantity
from nas.pipeline import Pipeline
from nas.recipe import Recipe
from nas.remeasure.surroundings import surroundings_of
from nas.search.announced import Announced
from nas.search.confirm import confirm
from nas.search.loop import Ended, Loop, Watcher
from nas.search.optuna_bridge import storage_errors
from nas.search.prepare import Prepared, prepare
from nas.search.strategy import carry_out, decide
from nas.store import Store
from nas.study import Study, StudyFolder, check_one_machine, read_trials
from nas.target import ONNX, Target


def search(
    recipe: Recipe, path: Path, watcher: Watcher, fresh: bool = False, measurer: Measurer | None = None
) -> tuple[Study, Ended]:
    """Runs a study to the end of its budget, or takes up the one that lies in the folder.

    Args:
        recipe: What to search.
        path: The study's folder.
        watcher: Hears of every trial.
        fresh: Delete what the folder holds and start over; the caller has asked.
        measurer: Measures latencies; one of its own by default, which ends with the search.

    Returns:
        The study, and why it ended.

    Raises:
        NasError: The recipe, space, data or folder cannot be used; nothing was changed.
    """
    if measurer is None:
        with Measurer() as own_measurer:
            return search(recipe, path, watcher, fresh, own_measurer)
    folder = StudyFolder(path)
    prepared = prepare(recipe, measurer, watcher.progress, folder, fresh)
    for note in prepared.notes:
        watcher.note(note)
    with folder.claim(), Announced(watcher, path) as watcher:
        if fresh:
            folder.clear()
        folder.start(recipe, prepared.inputs)
        check_one_machine(folder, recipe, read_trials(folder, recipe), prepared.here)
        pipeline = prepared.pipeline(Store(folder.cache, recipe.cache_limit_mb * 10**6))
        evaluator = evaluator_for(prepared, pipeline, measurer)
        with storage_errors(folder.storage):
            decided = decide(prepared, folder, read_trials(folder, recipe), watcher, measurer)
            strategy = carry_out(decided, prepared, pipeline, evaluator.evaluate, folder, watcher)
            ended = Loop(
                folder,
                recipe,
                prepared.space,
                evaluator.evaluate,
                surroundings_of(measurer, prepared.targets),
                watcher,
                prepared.given,
                strategy.starts,
                strategy.guide,
                strategy.charged,
            ).run()
        giver = strategy.guide.shared if strategy.guide is not None else None
        study = confirm(path, pipeline, prepared.dataset, measurer, watcher, prepared.given, giver)
    return study, ended


def evaluator_for(prepared: Prepared, pipeline: Pipeline, measurer: Measurer) -> Evaluator:
    """What evaluates designs with a real clock."""
    return Evaluator(
        prepared.recipe,
        prepared.dataset,
        pipeline,
        pipeline.store,
        measurer.measure,
        measurer.outputs,
        measurer.environment_id,
        estimates_for(prepared.targets, prepared.here),
    )


def estimates_for(targets: Sequence[Target], here: Mapping[str, str]) -> Estimate | None:
    """What this machine's calibrations estimate of an artifact; None where there are none (see ``nas calibrate``).

    Args:
        targets: What latencies are measured on.
        here: Fingerprint of this machine and the runtime, by target.
    """
    found = {target.name: Estimator.load(target, here[target.name]) for target in targets if target.form == ONNX}
    estimators = {name: estimator for name, estimator in found.items() if estimator is not None}
    if not estimators:
        return None

    def estimate(content: bytes, complexity: Complexity, target: Target) -> Sequence[Quantity]:
        estimator = estimators.get(target.name)
        return estimator.quantities(content, complexity) if estimator is not None else ()

    return estimate
