"""Measures on one node of a Ray cluster: a board that joined it, while other nodes train.

An actor there holds the target's resource for as long as a search lasts, and does one thing at a time. Whoever
evaluates waits for it without holding CPUs, which Ray gives to another task meanwhile.
"""

from __future__ import annotations

import socket
import time
import traceback
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import ArtifactError, MeasureError, NasError, UnsupportedError, one_line
from nas.measure.clock import Policy
from nas.measure.environment import environment_id
from nas.measure.latency import batch_of
from nas.measure.measurer import Measurer
from nas.measure.protocol import Answer, Describe, Request
from nas.outcome import Quantity
from nas.target import Target
from nas.workers.ray_cluster import Needs, RayCluster

# Images go through the cluster's object store, of which a board has little, in parts of so many bytes.
_PART_BYTES = 2**23
# So often it is looked whether the board is still there while it is waited for, in seconds.
_LOOK_S = 30.0


class Board:
    """The actor: measures on its own node, one request at a time."""

    def __init__(self) -> None:
        self.measurer = Measurer()  # each request says itself when to stop sampling

    def machine(self) -> dict[str, Any]:
        return {**self.measurer.machine, "host": socket.gethostname()}

    def ask(self, request: Request, expected: str) -> Answer:
        """Answers as a measuring process does.

        Args:
            request: What is asked.
            expected: Fingerprint of the machine that it is asked of.
        """
        return self._answer(expected, lambda: self._value(request))

    def startup(self, content: bytes, target: Target, images: np.ndarray, expected: str) -> Answer:
        return self._answer(expected, lambda: self.measurer.startup(content, target, images))

    def start_anew(self, target: Target) -> None:
        self.measurer.start_anew(target)

    def _value(self, request: Request) -> Any:
        target = request.target
        if isinstance(request, Describe):
            return dict(self.measurer.environment(target))
        self.measurer.check(target)
        return self.measurer.process(target).ask(request)

    def _answer(self, expected: str, value: Any) -> Answer:
        if (here := environment_id(self.measurer.machine, {})) != expected:
            return Answer(error=_moved(expected, here))
        try:
            return Answer(value())
        except NasError as error:
            return Answer(error=error)
        except Exception:
            return Answer(bug=traceback.format_exc())


class RayMeasurer(Measurer):
    """Measures on the node of a cluster that carries a resource; used as ``Measurer`` is.

    ``machine`` and fingerprints are that node's. ``machine`` holds beside them ``device``, the resource's name,
    ``host``, and ``asked_from``, the machine that asks.

    Args:
        name: Of the actor, see ``measure_on``.
        resource: That it holds.
        policy: When to stop sampling; the default policy where None.

    Raises:
        MeasureError: There is no such actor (any more).
    """

    on_this_machine = False

    def __init__(self, name: str, resource: str, policy: Policy | None = None) -> None:
        import ray

        super().__init__(policy)
        self.name, self.resource = name, resource
        self.ray: Any = ray
        try:
            self.board: Any = self.ray.get_actor(name)
        except ValueError:
            raise MeasureError(f"what measures at '{resource}' is gone", "start the search again") from None
        asked_from = self.machine
        told = self._wait(self.board.machine.remote())
        self._expected = environment_id(told, {})
        self.machine: Mapping[str, Any] = {**told, "device": resource, "asked_from": asked_from}

    @property
    def connection(self) -> tuple[str, str]:
        """What another process of the cluster makes the same measurer of."""
        return self.name, self.resource

    def close(self) -> None:
        """Does nothing: the actor is the search's, and ends with it."""

    def end(self) -> None:
        """Ends the actor: the resource is free again."""
        self.ray.kill(self.board)

    def check(self, target: Target) -> None:
        """Refuses nothing: cores and runtimes are the node's to know, which tells when it describes the target."""

    def _part_bytes(self) -> int:
        return _PART_BYTES

    def _new_process(self, target: Target) -> _OnBoard:
        return _OnBoard(self, target)

    def ask(self, request: Request) -> Any:
        """Puts a request to the actor and waits for what it comes to.

        Raises:
            As ``nas.measure.protocol.Answerer.ask``; MeasureError, too, where the resource is on another machine now.
        """
        return _value(self._wait(self.board.ask.remote(request, self._expected)))

    def startup(self, model: Path | bytes, target: Target, images: np.ndarray) -> tuple[Quantity, Quantity]:
        try:
            content = model if isinstance(model, bytes) else model.read_bytes()
        except OSError as error:
            raise ArtifactError(f"the model file cannot be read: {one_line(error)}") from None
        batch = batch_of(images, target.batch)
        load, memory = _value(self._wait(self.board.startup.remote(content, target, batch, self._expected)))
        return load, memory

    def _wait(self, ref: Any) -> Any:
        """What the actor answers, however long it takes while its node is there."""
        errors, missed = self.ray.exceptions, 0
        try:
            while True:
                ready, _ = self.ray.wait([ref], timeout=_LOOK_S)
                if ready:
                    return self.ray.get(ref)
                missed = 0 if self._is_there() else missed + 1
                if missed > 1:
                    raise MeasureError(
                        f"no node of the Ray cluster carries '{self.resource}' any more", "let the board join again"
                    )
        except errors.RayTaskError as error:
            raise RuntimeError(f"what measures at '{self.resource}' met a bug:\n{error}") from None
        except errors.RayError as error:
            raise MeasureError(
                f"what measures at '{self.resource}' was lost: {one_line(error)[:200]}", "its node may come back"
            ) from None

    def _is_there(self) -> bool:
        return any(node["Alive"] and node["Resources"].get(self.resource) for node in self.ray.nodes())


class _OnBoard:
    """A measuring process on the board, as ``nas.measure.protocol.Answerer``."""

    def __init__(self, measurer: RayMeasurer, target: Target) -> None:
        self.measurer = measurer
        self.target = target

    def ask(self, request: Request) -> Any:
        return self.measurer.ask(request)

    def close(self) -> None:
        self.measurer._wait(self.measurer.board.start_anew.remote(self.target))


def measure_on(
    cluster: RayCluster,
    resource: str,
    amount: float = 1.0,
    policy: Policy | None = None,
    board: type = Board,
    patience_s: float = 10.0,
) -> RayMeasurer:
    """Starts what measures on a node that carries a resource, which it holds until ``RayMeasurer.end``.

    Args:
        cluster: The cluster, joined.
        resource: Its name: ``target:raspberry-pi-5``.
        amount: How much of it is held.
        policy: When to stop sampling; the default policy where None.
        board: What measures there.
        patience_s: How long to wait for it to be free: what another search held is so some seconds after its end.

    Raises:
        UnsupportedError: No node carries it, or another search holds it.
    """
    nodes = cluster.nodes()
    carrying = [node for node in nodes if node.holds(Needs(0, 0, None, {resource: amount}))]
    if not carrying:
        known = sorted({name for node in nodes for name in node.resources if name.startswith("target:")})
        hint = f"there are: {', '.join(known)}" if known else "none carries a target"
        start = f"""on it, ray start --address=HEAD:6379 --num-cpus=0 --resources='{{"{resource}": 1}}' lets one join"""
        raise UnsupportedError(f"no node of the Ray cluster carries {amount:g} of '{resource}'", f"{hint}; {start}")
    deadline = time.monotonic() + patience_s
    while cluster.ray.available_resources().get(resource, 0.0) < amount and time.monotonic() < deadline:
        time.sleep(0.1)
    if cluster.ray.available_resources().get(resource, 0.0) < amount:
        raise UnsupportedError(f"'{resource}' is held by another search on the cluster", "wait for it, or end it")
    name = f"nas-measure-{uuid.uuid4().hex}"
    actor = cluster.ray.remote(board).options(
        name=name, num_cpus=0, resources={resource: amount}, max_restarts=-1, max_task_retries=1
    )
    handle = actor.remote()  # it ends with the last handle: the measurer keeps one
    measurer = RayMeasurer(name, resource, policy)
    measurer.board = handle
    return measurer


def _value(answer: Answer) -> Any:
    if answer.error is not None:
        raise answer.error
    if answer.bug:
        raise RuntimeError(f"what measures on the Ray cluster met a bug:\n{answer.bug}")
    return answer.value


def _moved(expected: str, here: str) -> MeasureError:
    return MeasureError(
        f"what is measured on went to another machine: its fingerprint is {here}, not {expected}",
        "its latencies cannot stand beside the earlier ones; let the former board join again",
    )
