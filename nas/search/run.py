"""``nas search`` without its command line: checks everything, claims the folder, runs the loop, scores the front."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from nas.measure.measurer import Measurer
from nas.recipe import Recipe
from nas.remeasure.surroundings import surroundings_of
from nas.search.announced import Announced
from nas.search.confirm import confirm
from nas.search.evaluators import evaluator_for
from nas.search.executors import executor_for
from nas.search.loop import Ended, Loop, Watcher
from nas.search.on_ray import OnRay
from nas.search.optuna_bridge import storage_errors
from nas.search.prepare import prepare
from nas.search.shared.sharing import Sharing
from nas.search.stopping import Stopping
from nas.search.strategy import carry_out, decide
from nas.search.writing import writing
from nas.shared_cache import store_in
from nas.store import remove_unfinished
from nas.study import Study, StudyFolder, check_one_machine, read_trials


def search(
    recipe: Recipe,
    path: Path,
    watcher: Watcher,
    fresh: bool = False,
    measurer: Measurer | None = None,
    stopping: Stopping | None = None,
    on_ray: OnRay | None = None,
    sharing: Sharing | None = None,
) -> tuple[Study, Ended]:
    """Runs a study to the end of its budget, or takes up the one that lies in the folder.

    Args:
        recipe: What to search.
        path: The study's folder.
        watcher: Hears of every trial.
        fresh: Delete what the folder holds and start over; the caller has asked.
        measurer: Measures latencies; one of its own by default, which ends with the search. Workers have their own.
        stopping: Says whether a person wants it to end.
        on_ray: The cluster that evaluates; None for this machine.
        sharing: How it shares the study with other searchers; None for a study that lies in the folder alone.

    Returns:
        The study, and why it ended.

    Raises:
        NasError: The recipe, space, data or folder cannot be used; nothing was changed.
    """
    if measurer is None:
        with Measurer() as own_measurer:
            return search(recipe, path, watcher, fresh, own_measurer, stopping, on_ray, sharing)
    folder = StudyFolder(path)
    prepared = prepare(recipe, measurer, watcher.progress, folder, fresh, on_ray)
    for note in prepared.notes:
        watcher.note(note)
    if sharing is not None:
        folder.check(recipe, prepared.inputs, may_be_emptied=False)  # before the database hears of it
        watcher.note(sharing.join(prepared, folder))
    with folder.claim(), writing(path), Announced(watcher, path) as watcher:
        if fresh:
            folder.clear()
        remove_unfinished(path)  # of a process that was killed
        folder.start(recipe, prepared.inputs)
        check_one_machine(folder, recipe, read_trials(folder, recipe), prepared.here)
        url = sharing.cache if sharing is not None else on_ray.cache if on_ray is not None else None
        pipeline = prepared.pipeline(store_in(folder.cache, recipe.cache_limit_mb * 10**6, url))
        evaluator = evaluator_for(prepared, pipeline, measurer)
        executor = executor_for(recipe, prepared, folder, measurer, evaluator.evaluate, on_ray, url)
        with storage_errors(folder.storage) if sharing is None else nullcontext():
            decided = decide(prepared, folder, read_trials(folder, recipe), watcher, measurer)
            strategy = carry_out(decided, prepared, pipeline, evaluator.evaluate, folder, watcher)
            ended = Loop(
                folder,
                recipe,
                prepared.space,
                executor,
                surroundings_of(measurer, prepared.targets) | {"training": prepared.numerics.to_json()},
                watcher,
                prepared.given,
                strategy.starts,
                strategy.guide,
                strategy.charged,
                stopping,
                ledger=None if sharing is None else sharing.ledger(prepared, folder),
                fetch=pipeline.store.read_blob,
            ).run()
        giver = strategy.guide.insight.shared if strategy.guide is not None else None
        study = confirm(path, pipeline, prepared.dataset, measurer, watcher, prepared.given, giver)
    return study, ended
