"""The agent's side of HTTP: who may ask, how much, and what.

    GET    /device            what the device is, and its limits
    PUT    /blobs/SHA256      a file or images, under the hash of its bytes
    POST   /jobs/NUMBER       a request as JSON (``nas.measure.remote.wire``); 409 names the blobs that are missing
    GET    /jobs/NUMBER       waits a few seconds for its answer: JSON and raw numbers; 202 while there is none
    DELETE /jobs/NUMBER       forgets it, and ends it where it runs

Every request carries the token and the version of the protocol.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6, SHUT_WR, socket
from socketserver import TCPServer
from typing import Any

from nas.measure.remote.blobs import SHA256, Blobs, NoRoomError, WrongHashError
from nas.measure.remote.frame import read_json
from nas.measure.remote.jobs import JOB_NAME, FullError, Jobs
from nas.measure.remote.wire import PROTOCOL, named_blobs

PROTOCOL_HEADER = "Nas-Protocol"
# Another one after each start of an agent: whoever asks can tell that its answers may come from elsewhere now.
AGENT_HEADER = "Nas-Agent"

# Of a request's JSON: enough for thousands of files' hashes.
LONGEST_REQUEST = 2**18
# A job's answer is waited for so long at a time, so that no connection is silent for longer.
WAIT_SECONDS = 10.0
# Whoever sends nothing for so long is hung up on, and so are more than so many at once.
SILENT_SECONDS = 60.0
MOST_CONNECTIONS = 64
# Whoever is refused may still send so much, unread.
REFUSED_BYTES, REFUSED_SECONDS = 2**24, 2.0


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: Of HTTP.
        message: Why.
        more: Further fields of the JSON.
    """

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.more = more


class Agent:
    """What requests are about.

    Args:
        token: Whoever has it may ask.
        device: What is told of the device.
        blobs: Keeps what is sent.
        jobs: Does what is asked.
        blob_bytes: Largest file, and most bytes of images.
    """

    def __init__(self, token: str, device: Mapping[str, Any], blobs: Blobs, jobs: Jobs, blob_bytes: int) -> None:
        self.number = secrets.token_hex(8)
        self._token = token.encode()
        self.device = device
        self.blobs = blobs
        self.jobs = jobs
        self.blob_bytes = blob_bytes

    def knows(self, token: str) -> bool:
        """Whether it is the token, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(token.encode("utf-8", "replace"), self._token)


class AgentServer(ThreadingHTTPServer):
    """Answers each connection in a thread of its own, but not in endless many."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, host: str, port: int, agent: Agent) -> None:
        self.agent = agent
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.address_family = AF_INET6 if ":" in host else AF_INET
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Without asking the network for this machine's name, for which some networks take seconds."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """Whoever vanishes in the midst of a request is nothing to tell of."""


class Handler(BaseHTTPRequestHandler):
    """Answers one request, and hangs up."""

    server: AgentServer
    timeout = SILENT_SECONDS
    server_version = "nas-agent"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is written about requests."""

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.close_connection = True
        try:
            self._check_caller()
            status, content = self._routed()
            refuses = False
        except Refused as refused:
            status, content = refused.status, _json(error=refused.message, **refused.more)
            refuses = True
        self.send_response(status)
        self.send_header(PROTOCOL_HEADER, str(PROTOCOL))
        self.send_header(AGENT_HEADER, self.server.agent.number)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        if refuses:
            self._let_finish()

    def _let_finish(self) -> None:
        """Takes what is still on its way, up to a limit: else the end of the connection could overtake the answer."""
        self.wfile.flush()
        self.connection.settimeout(REFUSED_SECONDS)
        left = REFUSED_BYTES
        with suppress(OSError):
            self.connection.shutdown(SHUT_WR)
            while left > 0 and (part := self.rfile.read1(min(left, 2**16))):
                left -= len(part)

    def _check_caller(self) -> None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not self.server.agent.knows(token):
            raise Refused(401, "the token is wrong or missing")
        theirs = self.headers.get(PROTOCOL_HEADER)
        if theirs != str(PROTOCOL):
            raise Refused(400, f"the agent speaks version {PROTOCOL} of the protocol, but got {theirs!r:.20}")

    def _routed(self) -> tuple[int, bytes]:
        agent = self.server.agent
        match self.command, self.path.split("/")[1:]:
            case "GET", ["device"]:
                return 200, _json(**agent.device)
            case "PUT", ["blobs", name]:
                return self._put(agent, name)
            case command, ["jobs", name] if not JOB_NAME.fullmatch(name):
                raise Refused(400, f"a job's number has 32 hexadecimal digits, but {command} got {name!r:.80}")
            case "POST", ["jobs", name]:
                return self._post(agent, name)
            case "GET", ["jobs", name]:
                job = agent.jobs.wait(name, WAIT_SECONDS)
                if job is None:
                    raise Refused(404, "there is no such job")
                return (202, _json(started=job.started)) if job.answer is None else (200, job.answer)
            case "DELETE", ["jobs", name]:
                agent.jobs.drop(name)
                return 200, _json()
        raise Refused(404, f"there is nothing to {self.command} at {self.path!r:.80}")

    def _put(self, agent: Agent, name: str) -> tuple[int, bytes]:
        if not SHA256.fullmatch(name):
            raise Refused(400, f"a file is named by its SHA-256, 64 hexadecimal digits, but got {name!r:.80}")
        size = self._size(agent.blob_bytes)
        try:
            agent.blobs.put(name, self.rfile, size)
        except WrongHashError as error:
            raise Refused(422, str(error)) from None
        except NoRoomError as error:
            raise Refused(507, str(error)) from None
        return 201, _json()

    def _post(self, agent: Agent, name: str) -> tuple[int, bytes]:
        content = self.rfile.read(self._size(LONGEST_REQUEST))
        if agent.jobs.known(name):
            return 200, _json()
        try:
            data = read_json(content)
            blobs = named_blobs(data)
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(400, f"the request is not understood: {error!r:.200}") from None
        if missing := agent.blobs.hold(blobs):
            raise Refused(409, "files are missing", missing=missing)
        added = False
        try:
            added = agent.jobs.add(name, data, blobs)
        except FullError:
            raise Refused(503, "too many measurements wait") from None
        finally:
            if not added:
                agent.blobs.release(blobs)
        return 201, _json()

    def _size(self, most: int) -> int:
        """How long the body is; what is too long is not read."""
        text = self.headers.get("Content-Length", "")
        if not text.isascii() or not text.isdigit() or len(text) > 15:
            raise Refused(411, "the request does not say how long it is")
        if int(text) > most:
            raise Refused(413, f"{int(text):,} bytes are more than the {most:,} that are taken", most=most)
        return int(text)


def _json(**data: Any) -> bytes:
    return json.dumps(data).encode()
