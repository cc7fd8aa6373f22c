"""Where a search evaluates: what its options say of that, checked before anything is loaded, and a cluster joined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.commands.terminal import make_console
from nas.errors import RecipeError, unknown_name

if TYPE_CHECKING:
    from nas.measure.measurer import Measurer
    from nas.search.on_ray import OnRay

EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class Cluster:
    """What the options say of a Ray cluster.

    Args:
        address: Where it is; None for ``RAY_ADDRESS``, or else one of this machine alone.
        target: The resource where is measured, and how much of it; None where each node measures itself.
        others: What an evaluation takes beside its threads.
        cache: Address of the shared cache.
    """

    address: str | None
    target: tuple[str, float] | None
    others: Mapping[str, float]
    cache: str | None


def named_cluster(
    executor: str,
    address: str | None,
    resources: str | None,
    cache: str | None,
    device: str | None,
    shared: bool = False,
) -> Cluster | None:
    """The cluster that the options name; None for this machine.

    Args:
        executor: ``local`` or ``ray``.
        address, resources, cache: As they were given.
        device: What ``--target`` says.
        shared: Whether the study is one that searchers share, who have a cache, too.

    Raises:
        RecipeError: There is no such executor, or an option is of another one.
        StudyError: The resources cannot be read.
    """
    if cache == "":
        raise RecipeError("--cache is empty", "name a folder that all machines reach, or s3://bucket/path")
    if executor not in EXECUTORS:
        raise RecipeError(f"--executor: {unknown_name('executor', executor, EXECUTORS)}")
    if executor == "local":
        options = {"--address": address, "--resources": resources, "--cache": None if shared else cache}
        given = [name for name, value in options.items() if value is not None]
        if given:
            also = "" if given != ["--cache"] else ", or with --storage"
            raise RecipeError(f"{', '.join(given)}: only for --executor ray{also}")
        return None
    from nas.workers.ray_cluster import given_resources

    target, others = given_resources(resources) if resources is not None else (None, {})
    if target is not None and device is not None:
        raise RecipeError(f"--target {device} and --resources with '{target[0]}' both say where to measure", "name one")
    return Cluster(address, target, others, cache)


@contextmanager
def evaluated_on(cluster: Cluster | None, measurer: Measurer | None) -> Iterator[tuple[OnRay | None, Measurer | None]]:
    """Joins the cluster, and has the node that carries the target measure.

    Args:
        cluster: What the options name.
        measurer: What measures where no node does; None for one of the search's own.

    Raises:
        UnsupportedError: Ray is not installed, or no node carries the target.
        StudyError: No cluster answers.
    """
    if cluster is None:
        yield None, measurer
        return
    from nas.workers.ray_cluster import RayCluster

    console = make_console()
    with RayCluster(cluster.address, lambda text: console.print(f"{text} …", style="dim", soft_wrap=True)) as joined:
        with console.status("loading torch …"):
            from nas.measure.on_ray import measure_on
            from nas.search.on_ray import OnRay
        on_ray = OnRay(joined, cluster.others, cluster.cache)
        if cluster.target is None:
            yield on_ray, measurer
            return
        board = measure_on(joined, *cluster.target)
        try:
            yield on_ray, board
        finally:
            board.end()
