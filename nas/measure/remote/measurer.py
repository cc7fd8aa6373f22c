"""A measurer whose processes are on a device."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import ArtifactError, MeasureError, UnsupportedError, one_line
from nas.measure.clock import Policy
from nas.measure.environment import LATENCY_DEPENDS_ON, environment, environment_id
from nas.measure.latency import batch_of
from nas.measure.measurer import PART_BYTES, Measurer
from nas.measure.protocol import Describe
from nas.measure.remote.address import Address
from nas.measure.remote.client import PATIENCE_SECONDS, Client
from nas.measure.remote.wire import RemoteRequest, StartAnew, Startup
from nas.outcome import Quantity
from nas.target import Target


class RemoteMeasurer(Measurer):
    """Measures models on a device where an agent answers (``nas measure --serve``); used as ``Measurer`` is.

    ``machine`` and fingerprints are the device's. ``machine`` holds beside them ``device``, the agent's address,
    ``host``, what the device calls itself, and ``asked_from``, the machine that asks, on which networks are trained.

    Args:
        url: Where the agent answers: ``http://device:8765``.
        token: What it accepts.
        policy: When to stop sampling; the default policy where None.
        patience_seconds: How long a lost connection is tried again. However long the device measures is waited for.

    Raises:
        MeasureError: No agent answers there, it is another version's, or it does not accept the token.
        NasError: The address is none.
    """

    on_this_machine = False

    def __init__(
        self,
        url: str | Address,
        token: str,
        policy: Policy | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        super().__init__(policy)
        address = url if isinstance(url, Address) else Address.parse(url)
        self.address = address
        self.token = token
        self.client = Client(address, token, patience_seconds)
        self._lock = threading.Lock()
        self.device = self.client.device()
        self.machine = _machine(self.device, address)
        self._limit = _limit(self.device, address)
        self._agent = self.client.agent

    def close(self) -> None:
        """Does nothing: the processes are the agent's, which others may use."""

    def ask(self, request: RemoteRequest) -> Any:
        """Puts a request to the agent and gives what it came to.

        Raises:
            As ``nas.measure.protocol.Answerer.ask``; MeasureError, too, where an agent answers that was started
            since on another machine, or with another runtime, whose latencies must not stand beside earlier ones.
        """
        self._check_size(request)
        answer = self.client.ask(request)
        with self._lock:
            if self.client.agent != self._agent:
                self._meet_again()
        if answer.error is not None:
            raise answer.error
        if answer.bug:
            raise RuntimeError(f"the agent at {self.address.url} met a bug:\n{answer.bug}")
        return answer.value

    def _new_process(self, target: Target) -> _RemoteProcess:
        return _RemoteProcess(self, target)

    def _meet_again(self) -> None:
        """Makes sure that an agent which was started since is where the former one was."""
        agent, device = self.client.agent, self.client.device()
        machine = _machine(device, self.address)
        known: dict[str, Mapping[str, Any]] = dict(self._environments)
        pairs = [("its machine", environment_id(self.machine, {}), environment_id(machine, {}))]
        for name, told in known.items():
            now = self.client.ask(Describe(Target.parse(name))).value
            pairs.append((name, environment_id(self.machine, told), environment_id(machine, now) if now else "unknown"))
        for name, former, now in pairs:
            if now != former:
                raise MeasureError(
                    f"the agent at {self.address.url} was started anew and is not what it was: the fingerprint of "
                    f"{name} is {now}, not {former}",
                    "its latencies cannot stand beside the earlier ones; nas measure takes those of a study again",
                )
        self.device, self.machine, self._limit = device, machine, _limit(device, self.address)
        self._agent = agent

    def check(self, target: Target) -> None:
        """Refuses a target of a runtime that the agent does not offer; its cores are the device's to count."""
        offered = self.device.get("runtimes", [])
        if target.runtime not in offered:
            raise UnsupportedError(
                f"target '{target.name}': the agent at {self.address.url} measures on {', '.join(offered)} alone",
                "what else there is must be measured on the device itself",
            )

    def _part_bytes(self) -> int:
        return min(PART_BYTES, self._limit)

    def _check_size(self, request: RemoteRequest) -> None:
        """Tells before it is sent what the agent would refuse."""
        contents = getattr(request, "contents", None) or (getattr(request, "content", b""),)
        largest = max([*(len(content) for content in contents), getattr(request, "images", np.empty(0)).nbytes])
        if largest > self._limit:
            raise ArtifactError(
                f"the agent at {self.address.url} takes at most {self._limit:,} bytes, "
                f"but the model or its images have {largest:,}",
                "start it with a larger --limit-mb",
            )

    def startup(self, model: Path | bytes, target: Target, images: np.ndarray) -> tuple[Quantity, Quantity]:
        fingerprint = self.environment_id(target)
        try:
            content = model if isinstance(model, bytes) else model.read_bytes()
        except OSError as error:
            raise ArtifactError(f"the model file cannot be read: {one_line(error)}") from None
        load, memory = self.ask(Startup(content, target, batch_of(images, target.batch)))
        return _with_fingerprint(load, fingerprint), _with_fingerprint(memory, fingerprint)


class _RemoteProcess:
    """A measuring process on a device, as ``nas.measure.protocol.Answerer``."""

    def __init__(self, measurer: RemoteMeasurer, target: Target) -> None:
        self.measurer = measurer
        self.target = target

    def ask(self, request: RemoteRequest) -> Any:
        return self.measurer.ask(request)

    def close(self) -> None:
        self.measurer.ask(StartAnew(self.target))


def _with_fingerprint(quantity: Quantity, fingerprint: str) -> Quantity:
    return Quantity.from_json({**quantity.to_json(), "environment_id": fingerprint})


def _machine(device: Mapping[str, Any], address: Address) -> dict[str, Any]:
    machine = device.get("machine")
    if not isinstance(machine, dict) or not set(LATENCY_DEPENDS_ON) <= set(machine):
        raise MeasureError(f"the agent at {address.url} does not tell what machine it is on")
    return {**machine, "device": address.url, "host": str(device.get("host")), "asked_from": environment()}


def _limit(device: Mapping[str, Any], address: Address) -> int:
    limit = device.get("blob_bytes")
    if not isinstance(limit, int) or limit < 1:
        raise MeasureError(f"the agent at {address.url} does not tell how much it takes")
    return limit
