"""``nas serve``: a deployment behind HTTP on this machine, for a try-out.

``POST /predict`` classifies, ``GET /health`` tells what is served, ``GET /`` is a page to drop an image on. It listens
on 127.0.0.1 alone, and answers only what was addressed to this machine by name, so that no web page that a browser
shows can reach it by a name of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.deploy.batching import Batcher, BusyError
from nas.deploy.deployment import Deployment, image_mode
from nas.deploy.engine import engine
from nas.deploy.predict import TOP
from nas.deploy.upload import UploadError, read_upload
from nas.errors import NasError, UnsupportedError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
PAGE_FILE = "page.html"
# Nothing but the page itself, and nothing from anywhere else.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src blob:"
)
NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})

# Bodies of more bytes are decoded in a thread, so that others need not wait for it; for smaller ones that would cost
# more than the decoding.
SMALL_BYTES = 2**16

# After Ctrl-C requests in work may take so long to end.
GRACE_SECONDS = 5

ROUTES = "POST /predict, GET /health and GET /"

MOST_FILES = 256  # in one form


@dataclass(frozen=True)
class Options:
    """How it is served.

    Args:
        port: Of 127.0.0.1; 0 for any free one.
        batch: So many images in one call at most.
        threads: Of the runtime; None for as many as the deployment was measured with.
        limit_bytes: Larger requests are refused.
    """

    port: int = 8000
    batch: int = 8
    threads: int | None = None
    limit_bytes: int = 16_000_000


def run(deployment: Deployment, options: Options, started: Callable[[str], None]) -> int:
    """Serves until Ctrl-C or SIGTERM; requests in work are answered first.

    Args:
        deployment: What.
        options: How.
        started: Told the address once it listens.

    Returns:
        How many images were classified.

    Raises:
        UnsupportedError: The packages for it, or the runtime that serves the deployment, are not installed.
        NasError: The port is taken.
    """
    uvicorn = _uvicorn()
    with engine(deployment, options.threads) as network, _listening(options.port) as listener:
        batcher = Batcher(network, options.batch)
        app = application(deployment, batcher, options.limit_bytes)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_SECONDS, server_header=False
        )
        started(f"http://{HOST}:{listener.getsockname()[1]}")
        with suppress(KeyboardInterrupt):  # which uvicorn raises again once it has ended
            uvicorn.Server(config).run(sockets=[listener])
        return batcher.answered


def application(deployment: Deployment, batcher: Batcher, limit_bytes: int) -> Starlette:
    """The three routes as an ASGI application, which closes the batcher when it ends."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    page = files("nas.deploy").joinpath(PAGE_FILE).read_text(encoding="utf-8")
    about = _about(deployment, batcher)

    async def home(request: Request) -> Response:
        return HTMLResponse(page, headers={"content-security-policy": PAGE_POLICY})

    async def health(request: Request) -> Response:
        return _answer(200, about | {"answered": batcher.answered})

    async def predict(request: Request) -> Response:
        images = await _images(request, deployment, limit_bytes)
        rows = await batcher.classify(images)
        return _answer(200, {"predictions": _predictions(rows, deployment.class_names)})

    async def failed(request: Request, error: Exception) -> Response:
        return _failure(error)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        batcher.close()

    routes = [
        Route("/predict", _addressed_here(predict), methods=["POST"]),
        Route("/health", _addressed_here(health)),
        Route("/", _addressed_here(home)),
    ]
    handlers = {NasError: failed, HTTPException: failed, Exception: failed}
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


def _about(deployment: Deployment, batcher: Batcher) -> dict[str, Any]:
    """What is served."""
    return {
        "status": "ok",
        "study": deployment.study,
        "trial": deployment.trial,
        "design": deployment.design_words,
        "model_sha256": deployment.sha256,
        "served_by": deployment.serving.words,
        "class_names": list(deployment.class_names),
        "input": deployment.input.to_json() | {"image_mode": image_mode(deployment.input)},
        "batch": batcher.batch,
    }


def _addressed_here(endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """Refuses what was sent to another name, which a web page made point here, or by another site's page."""

    async def checked(request: Request) -> Response:
        name = request.headers.get("host", "").lower()
        origin = request.headers.get("origin", "").lower().partition("://")[2] or name  # browsers say whose page it is
        if not {_without_port(name), _without_port(origin)} <= NAMES:
            raise UploadError(403, "this server answers this machine only, by 127.0.0.1 or localhost")
        response: Response = await endpoint(request)
        return response

    return checked


def _without_port(name: str) -> str:
    return re.sub(r":\d+$", "", name)


async def _images(request: Request, deployment: Deployment, limit_bytes: int) -> np.ndarray:
    """What a request sends to be classified."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (encoding := request.headers.get("content-encoding", "identity").lower()) != "identity":
        raise UploadError(415, f"the content encoding {encoding:.40} is not taken", "send it as it is")
    body = await _body(request, limit_bytes)

    def read() -> np.ndarray:
        return read_upload(body, kind, deployment.input)

    if kind == "multipart/form-data":
        uploads = await _form(request, body)

        def read() -> np.ndarray:
            parts = [read_upload(content, type_, deployment.input, name) for name, type_, content in uploads]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return read() if len(body) <= SMALL_BYTES else await asyncio.to_thread(read)


async def _body(request: Request, limit_bytes: int) -> bytes:
    """The body, refused as soon as it is known to be too large."""
    from starlette.requests import ClientDisconnect

    large = UploadError(413, f"the request has more than {limit_bytes:,} bytes", "send less, or serve with --limit-mb")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limit_bytes:
        raise large
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit_bytes:
                raise large
            parts.append(part)
    except ClientDisconnect:
        raise UploadError(400, "the request ended before its body did") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _form(request: Request, body: bytes) -> list[tuple[str, str, bytes]]:
    """A form's files: name, content type, content."""
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        parser = MultiPartParser(request.headers, stream(), max_files=MOST_FILES, max_fields=MOST_FILES)  # type: ignore[arg-type]
        form = await parser.parse()
    except MultiPartException as error:
        raise UploadError(400, f"the form cannot be read: {error.message}") from error
    except (KeyError, ValueError, UnicodeError) as error:
        raise UploadError(400, "the form cannot be read", "send it as multipart/form-data with a boundary") from error
    found = []
    for _, item in form.multi_items():
        if isinstance(item, UploadFile):
            found.append((item.filename or "the upload", (item.content_type or "").lower(), await item.read()))
    await form.close()
    if not found:
        raise UploadError(400, "the form holds no file", "such as: curl --form image=@photo.png")
    return found


def _predictions(rows: np.ndarray, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """For each image the most probable class, and the next ones."""
    order = np.argsort(-rows, axis=1, kind="stable")[:, :TOP]
    shares = rows[np.arange(len(rows))[:, np.newaxis], order].tolist()
    tops = [
        [{"class": class_names[i], "probability": share} for i, share in zip(of_row, of_shares, strict=True)]
        for of_row, of_shares in zip(order.tolist(), shares, strict=True)
    ]
    return [{**top[0], "top": top} for top in tops]


def _answer(status: int, data: dict[str, Any]) -> Response:
    from starlette.responses import Response

    # ASCII only: a class may be named by a folder whose name is no Unicode, which UTF-8 has no bytes for.
    return Response(json.dumps(data), status, media_type="application/json")


def _failure(error: Exception) -> Response:
    """What went wrong, as JSON with a reason."""
    from starlette.exceptions import HTTPException

    if isinstance(error, HTTPException):
        answer = _answer(error.status_code, {"error": f"{error.detail}: there are {ROUTES}"})
        answer.headers.update(error.headers or {})
        return answer
    if not isinstance(error, NasError):  # a fault of ours; the terminal shows the traceback
        return _answer(500, {"error": f"the server failed: {one_line(error)}"})
    message, hint = error.message, error.hint
    status = error.status if isinstance(error, UploadError) else 503 if isinstance(error, BusyError) else 500
    return _answer(status, {"error": message} | ({"hint": hint} if hint else {}))


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """A socket on a port of this machine alone."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(128)  # whoever comes before the server is up waits
        except OSError as error:
            raise NasError(
                f"port {port} of {HOST} cannot be used: {error.strerror}",
                "name another with --port; 0 takes a free one",
            ) from error
        yield listener
    finally:
        listener.close()


def _uvicorn() -> Any:
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UnsupportedError(
            f"serving needs packages that are not installed ({error.name})", "pip install 'nas-front[serve]'"
        ) from error
    return uvicorn
