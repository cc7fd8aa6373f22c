"""A search's evaluations on a Ray cluster: what it sends there, and what a node evaluates with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas.errors import StudyError
from nas.evaluate import EvalRequest, EvalResult
from nas.measure.measurer import Measurer
from nas.measure.on_ray import RayMeasurer
from nas.outcome import Reason
from nas.recipe import Recipe, parse_recipe, resolved
from nas.search.evaluators import evaluator_for
from nas.search.prepared import Prepared, load
from nas.search.work import Sent, packed
from nas.shared_cache import SharedStore, mark, store_on_node
from nas.stages import Progress
from nas.study import StudyFolder
from nas.workers.ray_cluster import Needs, RayCluster
from nas.workers.ray_workers import RayWorkers


@dataclass(frozen=True)
class OnRay:
    """Where and how a search evaluates on a cluster.

    Args:
        cluster: The cluster, joined.
        others: Resources that a training takes beside its threads, by name; ``CPU`` and ``GPU`` replace what it would
            take by itself.
        cache: Address of the shared cache; None where all nodes see the study's folder.
        elsewhere: Whether another node measures, so that some evaluations wait for it and others train meanwhile.
    """

    cluster: RayCluster
    others: Mapping[str, float] = field(default_factory=dict)
    cache: str | None = None
    elsewhere: bool = False

    def threads(self, recipe: Recipe) -> int:
        """Threads of each training, where the recipe names no number."""
        return recipe.training.threads or self.cluster.threads(recipe.workers.count)

    def needs(self, threads: int, device: str, memory_bytes: int | None) -> Needs:
        """What an evaluation takes of a node: a CPU for each thread, and a GPU where it trains on one."""
        others = dict(self.others)
        gpus = others.pop("GPU", 1.0 if device == "cuda" else 0.0)
        return Needs(others.pop("CPU", float(threads)), gpus, memory_bytes, others)


def ray_workers(
    prepared: Prepared, folder: StudyFolder, measurer: Measurer, on_ray: OnRay
) -> RayWorkers[EvalRequest, EvalResult]:
    """The executor of the cluster, after each of its nodes has shown that it can evaluate as this search does.

    Raises:
        NasError: One cannot.
    """
    recipe = prepared.recipe
    workers, limit = recipe.workers, recipe.cache_limit_mb * 10**6
    memory = None if workers.memory_mb is None else workers.memory_mb * 10**6
    board = measurer if isinstance(measurer, RayMeasurer) else None
    options = {
        "recipe": recipe.to_json(),
        "cache": str(folder.cache.resolve()),
        "token": mark(folder.cache),
        "url": on_ray.cache,
        "inputs": dict(prepared.inputs),
        "numerics": prepared.numerics.to_json(),
        "fingerprints": dict(prepared.here),
        "board": None if board is None else board.connection,
    }
    received: Callable[[EvalResult], Reason | None] = lambda result: None  # noqa: E731
    if on_ray.cache is not None:
        shared = SharedStore(folder.cache, limit, on_ray.cache)
        shared.check()
        received = _fetching(shared)
    executor: RayWorkers[EvalRequest, EvalResult] = RayWorkers(
        on_ray.cluster,
        evaluator,
        options,
        on_ray.needs(prepared.numerics.threads, prepared.numerics.device, memory),
        workers.count or None,
        waiting=1 if on_ray.elsewhere else 0,
        seconds=None if workers.minutes is None else 60 * workers.minutes,
        pack=packed,
        received=received,
    )
    executor.check()
    return executor


def _fetching(shared: SharedStore) -> Callable[[EvalResult], Reason | None]:
    """Brings a result's artifacts into the study's folder, where all that reads a study looks for them."""

    def fetch(result: EvalResult) -> Reason | None:
        try:
            for sha in filter(None, (result.artifact_sha256, *result.forms.values())):
                if shared.read_blob(sha) is None:
                    return Reason("disk", f"its artifact is not in the shared cache {shared.url}", transient=True)
        except OSError as error:
            return Reason("disk", f"its artifact did not come: {error}", transient=True)
        return None

    return fetch


def evaluator(
    recipe: Mapping[str, Any],
    cache: str,
    token: str,
    url: str | None,
    inputs: Mapping[str, str],
    numerics: Mapping[str, Any],
    fingerprints: Mapping[str, str],
    board: tuple[str, str] | None,
) -> Callable[[Sent, Progress | None], EvalResult]:
    """What a process of the cluster evaluates with; called there.

    Args:
        recipe: As ``Recipe.to_json`` gives it, its paths absolute.
        cache: The study's, as the search has it.
        token: By which the node tells whether it sees that folder.
        url: Of the shared cache, if there is one.
        inputs: Digests of what the recipe names, as the search found them.
        numerics: In what the search would train.
        fingerprints: Of what is measured on, by target.
        board: The actor that measures; None where the node itself does.

    Raises:
        NasError: Something that the recipe names cannot be loaded here, or the node is not what the search expects.
    """
    parsed = parse_recipe(dict(recipe), "the recipe")
    parsed = parsed.model_copy(update=resolved(parsed, Path("/")))
    store = store_on_node(Path(cache), token, parsed.cache_limit_mb * 10**6, url)
    measurer = Measurer() if board is None else RayMeasurer(*board)  # it lasts as long as this process
    prepared = load(parsed, measurer, int(numerics["threads"]))
    for name in ("space", "data", "teacher", "module"):
        if name in inputs and prepared.inputs.get(name) != inputs[name]:
            raise StudyError(f"its {name} is not what the search has", "all nodes must see the same files")
    if (own := prepared.numerics.to_json()) != numerics:
        differing = ", ".join(
            f"{name} {own[name]}, not {numerics[name]}" for name in own if own[name] != numerics[name]
        )
        raise StudyError(
            f"it would train otherwise than the search's machine: {differing}",
            "name device, precision and threads in the recipe's training",
        )
    for target, fingerprint in fingerprints.items():
        if (here := prepared.here[target]) != fingerprint:
            raise StudyError(
                f"it is another machine (fingerprint of {target}: {here}, not {fingerprint}), and latencies of several "
                "cannot stand on one front",
                """name the one to measure on: --resources '{"target:NAME": 1}'""",
            )
    evaluate = evaluator_for(prepared, prepared.pipeline(store), measurer).evaluate

    def work(sent: Sent, progress: Progress | None) -> EvalResult:
        request = replace(sent.request, teacher=prepared.given) if sent.given else sent.request
        return evaluate(request, progress)

    return work
