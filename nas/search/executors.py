"""What runs a search's evaluations: this process, workers on this machine, or a cluster."""

from __future__ import annotations

from nas.evaluate import EvalRequest, EvalResult
from nas.measure.measurer import Measurer
from nas.recipe import Recipe
from nas.search.evaluation import Evaluate
from nas.search.on_ray import OnRay, ray_workers
from nas.search.prepared import Prepared
from nas.search.work import local_workers
from nas.study import StudyFolder
from nas.workers.executor import Executor
from nas.workers.here import Here


def executor_for(
    recipe: Recipe,
    prepared: Prepared,
    folder: StudyFolder,
    measurer: Measurer,
    evaluate: Evaluate,
    on_ray: OnRay | None = None,
    cache: str | None = None,
) -> Executor[EvalRequest, EvalResult]:
    """The executor that recipe and cluster call for.

    Args:
        recipe: As it was given, with the number of workers that it names.
        prepared: What is searched.
        folder: The study's, which is there.
        measurer: Measures latencies.
        evaluate: Evaluates in this process.
        on_ray: The cluster; None for this machine.
        cache: Address of a cache that machines share.

    Raises:
        NasError: A node of the cluster cannot evaluate as this search would.
    """
    if on_ray is not None:
        return ray_workers(prepared, folder, measurer, on_ray, recipe.workers.count or None)
    if recipe.workers.count:
        return local_workers(prepared, folder, measurer, cache)
    return Here(evaluate)
