"""The searcher's side of HTTP: asks an agent, and asks again where the connection was lost."""

from __future__ import annotations

import hashlib
import http.client
import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nas.errors import ArtifactError, DeviceGoneError, MeasureError, NasError, one_line
from nas.measure.protocol import Answer
from nas.measure.remote.address import Address
from nas.measure.remote.frame import read_json
from nas.measure.remote.web import AGENT_HEADER, PROTOCOL_HEADER, WAIT_SECONDS
from nas.measure.remote.wire import PROTOCOL, Outgoing, RemoteRequest, read_answer

# A connection that is lost is tried again for so long: a device's network may be away for a moment.
PATIENCE_SECONDS = 30.0
# Longest that nothing is heard from an agent, which answers at least every ``WAIT_SECONDS``.
SILENCE_SECONDS = WAIT_SECONDS + 20
# Longest to wait while the agent has too much to do for others.
BUSY_SECONDS = 900.0
# Beyond this an answer is none of ours.
LONGEST_ANSWER = 2**29
# Blobs may have to make room for others' between their arrival and the request that needs them.
_TRIES = 5

_START_HINT = "start it there: nas measure --serve, or python -m nas.measure.remote.agent"


@dataclass(frozen=True)
class Reply:
    """What an agent answered: the status of HTTP, and the body."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as JSON; nothing where it is none."""
        try:
            return read_json(self.body)
        except ValueError:
            return {}


class Client:
    """Speaks with one agent. Threads may share it.

    Args:
        address: Where it answers.
        token: Its token.
        patience_seconds: How long a lost connection is tried again.
        clock: Gives seconds, monotonic.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        address: Address,
        token: str,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address
        self._token = token
        self.patience_seconds = patience_seconds
        self._clock = clock
        self._sleep = sleep
        self.agent: str | None = None  # the agent that answered last; it has another number after each start

    def device(self) -> dict[str, Any]:
        """What the agent tells of its device.

        Raises:
            MeasureError: No agent answers, it is another version's, or it does not accept the token.
        """
        try:
            return self._checked("GET", "/device", patience_seconds=0).json()
        except _Lost as lost:
            raise MeasureError(f"no agent answers at {self.address.url}: {lost}", _START_HINT) from None

    def ask(self, request: RemoteRequest) -> Answer:
        """Sends a request, with what the agent lacks for it, and waits for the answer however long it measures.

        Raises:
            DeviceGoneError: The agent is gone.
            MeasureError: It does not take the request, or lost it.
            ArtifactError: A file is too large for it.
        """
        outgoing = Outgoing(request, lambda content: hashlib.sha256(content).hexdigest())
        job = f"/jobs/{secrets.token_hex(16)}"
        try:
            self._hand_over(job, outgoing)
            content = self._answer_to(job)
        except _Lost as lost:
            raise DeviceGoneError(
                f"the agent at {self.address.url} is gone: {lost}",
                "start it again on the device; a measurement under way there is lost",
            ) from None
        except BaseException:  # interrupted: nobody wants the answer any more
            self._forget(job)
            raise
        self._forget(job)
        try:
            return read_answer(request, content)
        except ValueError as error:
            raise MeasureError(
                f"the agent at {self.address.url} answered what is no answer: {one_line(error)}"
            ) from None

    def _hand_over(self, job: str, outgoing: Outgoing) -> None:
        """Puts the request into the agent's queue. The same number is given again: a second time it does nothing."""
        content = json.dumps(outgoing.data, separators=(",", ":")).encode()
        until, tries = self._clock() + BUSY_SECONDS, 0
        while True:
            reply = self._checked("POST", job, content, also=(409, 503, 507))
            if reply.status in (200, 201):
                return
            if reply.status == 409:
                tries += 1
                if tries > _TRIES:
                    raise MeasureError(f"the agent at {self.address.url} does not keep the files that it is sent")
                no_room = self._send_blobs(reply.json().get("missing"), outgoing.blobs)
                if no_room is None:
                    continue
                reply = no_room
            if self._clock() > until:
                why = reply.json().get("error", "it is busy")
                raise MeasureError(f"the agent at {self.address.url} took no request for {BUSY_SECONDS:g} s: {why}")
            self._sleep(1.0)

    def _send_blobs(self, names: object, blobs: Mapping[str, bytes]) -> Reply | None:
        """Sends what is missing; a reply where there is no room for it at the moment."""
        if not isinstance(names, list) or not set(names) <= set(blobs):
            raise MeasureError(f"the agent at {self.address.url} asks for files that nobody named")
        for name in names:
            reply = self._checked("PUT", f"/blobs/{name}", blobs[name], also=(422, 507))
            if reply.status == 422:  # torn on its way: once more
                reply = self._checked("PUT", f"/blobs/{name}", blobs[name], also=(507,))
            if reply.status == 507:
                return reply
        return None

    def _answer_to(self, job: str) -> bytes:
        while True:
            reply = self._checked("GET", job, also=(404,))
            if reply.status == 404:
                raise MeasureError(
                    f"the agent at {self.address.url} knows nothing of the measurement any more",
                    "it was stopped or started anew meanwhile",
                )
            if reply.status == 200:
                return reply.body

    def _forget(self, job: str) -> None:
        with suppress(_Lost, NasError):
            self._checked("DELETE", job, patience_seconds=0)

    def _checked(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        also: tuple[int, ...] = (),
        patience_seconds: float | None = None,
    ) -> Reply:
        """An answer whose status is a good one, or among ``also``; a lost connection is tried again."""
        until = self._clock() + (self.patience_seconds if patience_seconds is None else patience_seconds)
        pause = 0.1
        while True:
            try:
                reply = self._once(method, path, body)
                break
            except _Lost:
                if self._clock() + pause > until:
                    raise
            self._sleep(pause)
            pause = min(2 * pause, 2.0)
        if reply.status in (200, 201, 202) or reply.status in also:
            return reply
        raise self._refusal(reply)

    def _refusal(self, reply: Reply) -> NasError:
        said = str(reply.json().get("error", f"status {reply.status}"))
        url = self.address.url
        if reply.status == 401:
            return MeasureError(f"the agent at {url} does not accept the token", "it prints the one that it made")
        if reply.status == 413:
            return ArtifactError(f"the agent at {url} refuses the file: {said}", "start it with a larger --limit-mb")
        if reply.status >= 500:
            return MeasureError(f"the agent at {url} could not answer: {said}")
        return MeasureError(f"the agent at {url} refuses the request: {said}")

    def _once(self, method: str, path: str, body: bytes | None) -> Reply:
        """One request in a connection of its own.

        Raises:
            _Lost: There was no answer.
            MeasureError: Whoever answers is no agent of this version.
        """
        kind = http.client.HTTPSConnection if self.address.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.address.host, self.address.port, timeout=SILENCE_SECONDS)
        headers = {"Authorization": f"Bearer {self._token}", PROTOCOL_HEADER: str(PROTOCOL)}
        try:
            connection.connect()
            with suppress(ConnectionError):  # an agent that refuses a large body answers before it has come
                connection.request(method, path, body, headers)
            response = connection.getresponse()
            version, length = response.getheader(PROTOCOL_HEADER), response.length
            content = response.read() if length is not None and length <= LONGEST_ANSWER else b""
        except (OSError, http.client.HTTPException) as error:
            raise _Lost(_words(error)) from None
        finally:
            connection.close()
        if version is None:
            raise MeasureError(f"what answers at {self.address.url} is no agent that measures", _START_HINT)
        if version != str(PROTOCOL):
            raise MeasureError(
                f"the agent at {self.address.url} speaks version {version:.20} of the protocol, and this is {PROTOCOL}",
                "install the same version on both machines",
            )
        if length is None or length > LONGEST_ANSWER:
            raise MeasureError(f"the agent at {self.address.url} answers more than {LONGEST_ANSWER:,} bytes")
        if response.status != 401:  # what it says of itself to strangers counts for nothing
            self.agent = response.getheader(AGENT_HEADER)
        return Reply(response.status, content)


class _Lost(Exception):
    """There was no answer."""


def _words(error: BaseException) -> str:
    if isinstance(error, http.client.HTTPException) and not isinstance(error, ConnectionError):
        return "it hung up in mid-answer" if isinstance(error, http.client.IncompleteRead) else one_line(error)
    return error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
