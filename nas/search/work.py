"""What a worker of a search does: it loads what the recipe names once, then evaluates whatever it is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nas.errors import StudyError
from nas.evaluate import EvalRequest, EvalResult
from nas.measure.measurer import Measurer
from nas.measure.remote.measurer import RemoteMeasurer
from nas.recipe import parse_recipe, resolved
from nas.search.evaluators import evaluator_for
from nas.search.prepared import Prepared, load
from nas.shared_cache import store_in
from nas.stages import Progress
from nas.store import Store
from nas.study import StudyFolder
from nas.teacher.given import GivenTeacher
from nas.workers.local import LocalWorkers
from nas.workers.worker import Setup

MODULE = "nas.search.worker"


@dataclass(frozen=True)
class Sent:
    """A request on its way to a worker, which has the teacher that the recipe names itself.

    Args:
        request: The request, without such a teacher.
        given: Whether it has one.
    """

    request: EvalRequest
    given: bool


def packed(request: EvalRequest) -> Sent:
    """What is sent of a request."""
    given = isinstance(request.teacher, GivenTeacher)
    return Sent(replace(request, teacher=None) if given else request, given)


def options_for(
    prepared: Prepared, folder: StudyFolder, measurer: Measurer, cache: str | None = None
) -> dict[str, Any]:
    """What ``evaluator`` needs to evaluate as this process would."""
    remote = measurer if isinstance(measurer, RemoteMeasurer) else None
    return {
        "recipe": prepared.recipe.to_json(),
        "folder": str(folder.path.resolve()),
        "inputs": dict(prepared.inputs),
        "threads": prepared.numerics.threads,
        "device": None if remote is None else (remote.address.url, remote.token),
        "cache": cache,
    }


def local_workers(
    prepared: Prepared, folder: StudyFolder, measurer: Measurer, cache: str | None = None
) -> LocalWorkers[EvalRequest, EvalResult]:
    """The workers on this machine that the recipe asks for; ``cache`` is the address of one that machines share."""
    workers = prepared.recipe.workers
    memory = None if workers.memory_mb is None else workers.memory_mb * 10**6
    setup = Setup(options_for(prepared, folder, measurer, cache), memory)
    seconds = None if workers.minutes is None else 60 * workers.minutes
    return LocalWorkers(MODULE, setup, workers.count, seconds, packed, prepared.numerics.threads)


def evaluator(
    recipe: Mapping[str, Any],
    folder: str,
    inputs: Mapping[str, str],
    threads: int,
    device: tuple[str, str] | None = None,
    cache: str | None = None,
) -> Callable[[Sent, Progress | None], EvalResult]:
    """What a worker evaluates with; called in the worker.

    Args:
        recipe: As ``Recipe.to_json`` gives it, its paths absolute.
        folder: The study's.
        inputs: Digests of what the recipe names, as the search found them.
        threads: That training may use.
        device: Address and token of the agent that measures; None for this machine.
        cache: Address of a cache that machines share.

    Raises:
        NasError: Something that the recipe names cannot be loaded, or is not what the search found any more.
    """
    parsed = parse_recipe(dict(recipe), "the recipe")
    parsed = parsed.model_copy(update=resolved(parsed, Path("/")))  # its paths are absolute: what they name is noted
    measurer = Measurer() if device is None else RemoteMeasurer(*device)  # it lasts as long as this process
    prepared = load(parsed, measurer, threads)
    for name in ("space", "data", "teacher", "module"):
        if name in inputs and prepared.inputs.get(name) != inputs[name]:
            raise StudyError(f"the {name} changed since the search began", "start the search again")
    store = store_in(StudyFolder(Path(folder)).cache, parsed.cache_limit_mb * 10**6, cache)
    return work_of(prepared, store, measurer)


def work_of(prepared: Prepared, store: Store, measurer: Measurer) -> Callable[[Sent, Progress | None], EvalResult]:
    """What evaluates whatever was packed."""
    evaluate = evaluator_for(prepared, prepared.pipeline(store), measurer).evaluate

    def work(sent: Sent, progress: Progress | None) -> EvalResult:
        request = replace(sent.request, teacher=prepared.given) if sent.given else sent.request
        return evaluate(request, progress)

    return work
