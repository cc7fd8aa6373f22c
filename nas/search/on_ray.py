"""A search's evaluations on a Ray cluster: what it sends there, and what a node evaluates with.

None of it is part of a study: one that began here goes on there, and the other way round, as long as its latencies
are measured on the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas.errors import StudyError
from nas.evaluate import EvalRequest, EvalResult
from nas.measure.measurer import Measurer
from nas.measure.on_ray import RayMeasurer
from nas.measure.remote.measurer import RemoteMeasurer
from nas.outcome import Reason
from nas.packages import version_of
from nas.recipe import Recipe, parse_recipe, resolved
from nas.search.prepared import Prepared, load
from nas.search.work import Sent, packed, work_of
from nas.shared_cache import SharedStore, mark, store_in, store_on_node
from nas.stages import Progress
from nas.study import StudyFolder
from nas.wording import plural
from nas.workers.ray_cluster import Needs, RayCluster
from nas.workers.ray_workers import RayWorkers

# What artifacts are made by, beside torch, which is a part of how a network trains: the same on every node.
PACKAGES = ("nas-front", "numpy", "onnx", "onnxruntime", "torch-pruning")


@dataclass(frozen=True)
class OnRay:
    """Where and how a search evaluates on a cluster.

    Args:
        cluster: The cluster, joined.
        others: Resources that a training takes beside its threads, by name; ``CPU`` and ``GPU`` replace what it would
            take by itself.
        cache: Address of the shared cache; None where all nodes see the study's folder.
    """

    cluster: RayCluster
    others: Mapping[str, float] = field(default_factory=dict)
    cache: str | None = None

    def threads(self, recipe: Recipe) -> int:
        """Threads of each training, where the recipe names no number."""
        return recipe.training.threads or self.cluster.threads(recipe.workers.count)

    def needs(self, prepared: Prepared) -> Needs:
        """What an evaluation takes of a node: a CPU for each thread, and a GPU where it trains on one."""
        numerics, memory_mb = prepared.numerics, prepared.recipe.workers.memory_mb
        others = dict(self.others)
        gpus = others.pop("GPU", 1.0 if numerics.device == "cuda" else 0.0)
        cpus = others.pop("CPU", float(numerics.threads))
        return Needs(cpus, gpus, None if memory_mb is None else memory_mb * 10**6, others)

    def planned(self, prepared: Prepared) -> Prepared:
        """With as many workers as evaluations fit on the cluster, where the recipe names no number.

        Raises:
            UnsupportedError: None fits.
        """
        room = self.cluster.room(self.needs(prepared))
        workers = prepared.recipe.workers
        counted = workers.model_copy(update={"count": workers.count or room})
        return replace(prepared, recipe=prepared.recipe.model_copy(update={"workers": counted}))

    def words(self, prepared: Prepared, measurer: Measurer) -> str:
        """What the cluster does in a search."""
        needs, nodes = self.needs(prepared), self.cluster.nodes()
        able = [node for node in nodes if node.holds(needs)]
        text = f"Ray: {plural(len(nodes), 'node')}, {len(able)} of them to evaluate on; each evaluation takes {needs}"
        if isinstance(measurer, RayMeasurer):
            text += f"\nmeasuring at {measurer.resource}, which is {measurer.machine['host']}"
            both = [node.host for node in able if measurer.resource in node.resources]
            if both and len(able) > len(both):
                text += ", where networks train too: 'ray start --num-cpus=0' keeps it for measuring alone"
        return text


def ray_workers(
    prepared: Prepared, folder: StudyFolder, measurer: Measurer, on_ray: OnRay, count: int | None = None
) -> RayWorkers[EvalRequest, EvalResult]:
    """The executor of the cluster, after each of its nodes has shown that it can evaluate as this search does.

    Args:
        prepared: What is searched.
        folder: The study's, which is there.
        measurer: Measures latencies.
        on_ray: Where.
        count: How many evaluations run at once; None for as many as fit.

    Raises:
        NasError: One cannot.
    """
    recipe = prepared.recipe
    board = measurer if isinstance(measurer, RayMeasurer) else None
    device = measurer if isinstance(measurer, RemoteMeasurer) else None
    options = {
        "recipe": recipe.to_json(),
        "cache": str(folder.cache.resolve()),
        "token": mark(folder.cache),
        "url": on_ray.cache,
        "inputs": dict(prepared.inputs),
        "numerics": prepared.numerics.to_json(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "fingerprints": dict(prepared.here),
        "board": None if board is None else board.connection,
        "device": None if device is None else (device.address.url, device.token),
    }
    received: Callable[[EvalResult], Reason | None] = lambda result: None  # noqa: E731
    store = store_in(folder.cache, recipe.cache_limit_mb * 10**6, on_ray.cache)
    if isinstance(store, SharedStore):
        store.check()
        received = _fetching(store)
    executor: RayWorkers[EvalRequest, EvalResult] = RayWorkers(
        on_ray.cluster,
        evaluator,
        options,
        on_ray.needs(prepared),
        count,
        waiting=0 if board is None else 1,
        seconds=None if recipe.workers.minutes is None else 60 * recipe.workers.minutes,
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
    packages: Mapping[str, str],
    fingerprints: Mapping[str, str],
    board: tuple[str, str] | None,
    device: tuple[str, str] | None,
) -> Callable[[Sent, Progress | None], EvalResult]:
    """What a process of the cluster evaluates with; called there.

    Args:
        recipe: As ``Recipe.to_json`` gives it, its paths absolute.
        cache: The study's, as the search has it.
        token: By which the node tells whether it sees that folder.
        url: Of the shared cache, if there is one.
        inputs: Digests of what the recipe names, as the search found them.
        numerics: In what the search would train.
        packages: Versions that it has.
        fingerprints: Of what is measured on, by target.
        board: The actor that measures; None where there is none.
        device: Address and token of the agent that measures; None, too, where the node itself does.

    Raises:
        NasError: Something that the recipe names cannot be loaded here, or the node is not what the search expects.
    """
    _same("has", packages, {name: version_of(name) for name in packages}, "install the same on every node")
    parsed = parse_recipe(dict(recipe), "the recipe")
    parsed = parsed.model_copy(update=resolved(parsed, Path("/")))
    store = store_on_node(Path(cache), token, parsed.cache_limit_mb * 10**6, url)
    # It lasts as long as this process.
    measurer = RayMeasurer(*board) if board else RemoteMeasurer(*device) if device else Measurer()
    prepared = load(parsed, measurer, int(numerics["threads"]))
    for name in ("space", "data", "teacher", "module"):
        if name in inputs and prepared.inputs.get(name) != inputs[name]:
            raise StudyError(f"its {name} is not what the search has", "all nodes must see the same files")
    hint = "name device, precision and threads in the recipe's training"
    _same("would train in", numerics, prepared.numerics.to_json(), hint)
    for target, fingerprint in fingerprints.items():
        if (here := prepared.here[target]) != fingerprint:
            raise StudyError(
                f"it is another machine (fingerprint of {target}: {here}, not {fingerprint}), and latencies of several "
                "cannot stand on one front",
                """name the one to measure on: --resources '{"target:NAME": 1}'""",
            )
    return work_of(prepared, store, measurer)


def _same(what: str, expected: Mapping[str, Any], here: Mapping[str, Any], hint: str) -> None:
    """Refuses a node that is not what the search expects.

    Raises:
        StudyError: It is not; the message says in what.
    """
    differing = [f"{name} {here[name]}, not {expected[name]}" for name in expected if here[name] != expected[name]]
    if differing:
        raise StudyError(f"it {what} {', '.join(differing)} as the search's machine", hint)
