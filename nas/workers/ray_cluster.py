"""A Ray cluster: joined or started quietly, what its nodes have, and what a job needs of one."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from nas.errors import StudyError, UnsupportedError, one_line

INSTALL = "pip install 'nas-front[ray]'"
# What a resource's name begins with that says what can be measured on a node.
TARGET = "target:"
# Started for one search: its objects are requests, results and small files.
_OBJECT_STORE_BYTES = 256 * 2**20
_ALIKE = (
    "it must be of this Python's and this Ray's version; RAY_AUTH_MODE and RAY_AUTH_TOKEN must be what its nodes were "
    "started with"
)
# How long an address may take to answer.
_CONNECT_S = 10.0
# Telling nobody of its use, uploading no folder, trying once more what ran out of memory. Read when Ray is imported or
# begins; what a person has set stays.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_task_oom_retries": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@dataclass(frozen=True)
class Needs:
    """What a job takes of the node that it runs on.

    Args:
        cpus: The threads of its training.
        gpus: GPUs.
        memory_bytes: Memory that is reckoned with when jobs are placed; None for no reckoning.
        others: Further resources by name, as a person gave them to nodes.
    """

    cpus: float = 1
    gpus: float = 0
    memory_bytes: int | None = None
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, float]:
        """As Ray names them in what a node has."""
        memory = {} if self.memory_bytes is None else {"memory": float(self.memory_bytes)}
        return {"CPU": self.cpus, "GPU": self.gpus, **memory, **self.others}

    @property
    def options(self) -> dict[str, Any]:
        """As Ray takes them for a task."""
        memory = {} if self.memory_bytes is None else {"memory": self.memory_bytes}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.others), **memory}

    def __str__(self) -> str:
        return ", ".join(f"{amount:,g} {name}" for name, amount in self.by_name.items() if amount)


@dataclass(frozen=True)
class Node:
    """A node that is alive: Ray's identifier, its host's name, its resources by name."""

    identifier: str
    host: str
    resources: Mapping[str, float]

    def holds(self, needs: Needs) -> int:
        """How many jobs of these needs fit at once."""
        wanted = [(self.resources.get(name, 0.0), amount) for name, amount in needs.by_name.items() if amount > 0]
        return int(min((math.floor(has / amount) for has, amount in wanted), default=0))


def given_resources(text: str) -> tuple[tuple[str, float] | None, dict[str, float]]:
    """What ``--resources`` says: a JSON object of Ray resources by name.

    Returns:
        The one that begins with ``target:``, where is measured (None where there is none), and those of trainings.

    Raises:
        StudyError: It is no such object, or names several targets.
    """
    example = """write them as '{"target:raspberry-pi-5": 1}'"""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StudyError(f"--resources is no JSON: {one_line(error)}", example) from None
    if not isinstance(found, dict):
        raise StudyError(f"--resources must be a JSON object, but got {text!r:.80}", example)
    for name, amount in found.items():
        number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not number or not 0 < amount < math.inf:
            raise StudyError(f"resource '{name}' must be a positive number, but got {amount!r:.40}", example)
    targets = [(name, float(amount)) for name, amount in found.items() if name.startswith(TARGET)]
    if len(targets) > 1:
        names = ", ".join(name for name, _ in targets)
        raise StudyError(f"--resources names several targets: {names}", "latencies of one search are one machine's")
    others = {name: float(amount) for name, amount in found.items() if not name.startswith(TARGET)}
    return (targets[0] if targets else None), others


class RayCluster:
    """A connection to Ray, as a context manager; of one that was started here it is the end too.

    Args:
        address: ``auto`` or ``HOST:PORT`` joins from a node of the cluster, ``ray://HOST:10001`` from elsewhere. None
            takes ``RAY_ADDRESS``, else it starts a cluster of this machine alone, which ends with the block.
        say: Told when something takes long.
        options: For ``ray.init``, such as ``num_cpus`` of a cluster that is started.

    Raises:
        UnsupportedError: Ray is not installed.
        StudyError: No cluster answers, or none can be started.
    """

    def __init__(
        self, address: str | None = None, say: Callable[[str], None] = lambda text: None, **options: Any
    ) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise UnsupportedError(f"Ray is not installed ({one_line(error)})", INSTALL) from None
        self.ray: Any = ray
        self.ours = not ray.is_initialized()
        if not self.ours:
            return
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        starts = address == "local"
        say(
            "starting Ray on this machine, which takes some seconds" if starts else f"joining the Ray cluster {address}"
        )
        if starts:
            options = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES, **options}
        client = address.startswith("ray://")
        _check_answers(address)
        quiet = {} if client else {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            with _signals_kept():
                self._loud = _silenced(self.ray)
                self.ray.init(address=address, **quiet, **options)
        except (ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
            message = "Ray does not start here" if starts else f"the Ray cluster {address} cannot be joined"
            raise StudyError(f"{message}: {one_line(error)}", "" if starts else _ALIKE) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the cluster, and ends it where it was started here; what somebody else had joined stays so."""
        if self.ours:
            self.ours = False
            self.ray.shutdown()
            _silenced(self.ray, self._loud)

    def nodes(self) -> list[Node]:
        """The nodes that are alive."""
        return [
            Node(node["NodeID"], node["NodeManagerHostname"], dict(node["Resources"]))
            for node in self.ray.nodes()
            if node["Alive"]
        ]

    def room(self, needs: Needs) -> int:
        """How many jobs of these needs fit at once, on all nodes together; at least one.

        Raises:
            UnsupportedError: No node has what one needs.
        """
        nodes = self.nodes()
        room = sum(node.holds(needs) for node in nodes)
        if not room:
            most = "; ".join(f"{node.host}: {_listed(node.resources)}" for node in nodes[:5])
            raise UnsupportedError(
                f"no node of the Ray cluster has what an evaluation needs ({needs})", f"the nodes have {most}"
            )
        return room

    def threads(self, count: int = 0) -> int:
        """Threads for each of so many trainings at once: those of the cluster divided, but no more than the smallest
        node has that trains; one where no number is asked for, since many small trainings gain most that way.
        """
        cpus = [node.resources.get("CPU", 0.0) for node in self.nodes()]
        able = [int(amount) for amount in cpus if amount >= 1]
        return max(1, min(sum(able) // count, *able)) if count and able else 1


def _check_answers(address: str) -> None:
    """Looks whether anything answers at ``HOST:PORT``, which Ray itself would wait for for a minute or more.

    Raises:
        StudyError: Nothing does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise StudyError(
            f"no Ray cluster answers at {address}: {one_line(error)}",
            "'ray status' on a node tells; 'ray start --head' starts one",
        ) from None


def _listed(resources: Mapping[str, float]) -> str:
    """A node's resources in words, without those that Ray gives each."""
    own = {name: amount for name, amount in resources.items() if not name.startswith(("node:", "object_store"))}
    return ", ".join(f"{amount:,g} {name}" for name, amount in sorted(own.items())) or "nothing"


def _silenced(ray: Any, instead: Callable[..., None] | None = None) -> Callable[..., None] | None:
    """Replaces what prints a node's log of twenty lines to the terminal when it is lost, for which Ray has no option
    (``log_to_driver`` is for what tasks print); gives what was there. The search says itself what became of a job.
    """
    worker, name = ray._private.worker, "print_to_stdstream"
    former: Callable[..., None] | None = getattr(worker, name, None)
    if former is not None:
        setattr(worker, name, instead or (lambda *args, **options: None))
    return former


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it begins: Ctrl-C and SIGTERM stay what they were."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            if handler is not None:
                signal.signal(number, handler)
