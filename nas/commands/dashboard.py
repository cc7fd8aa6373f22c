"""``nas dashboard``: Optuna's dashboard on a copy of a study's trials."""

from __future__ import annotations

import contextlib
import signal
import socketserver
import tempfile
import threading
import wsgiref.simple_server
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.terminal import make_console
from nas.errors import NasError, StudyError, UnsupportedError, one_line

if TYPE_CHECKING:
    from nas.watch.storage_view import StorageView

HOST = "127.0.0.1"  # it asks nobody who they are, so nobody else may come
REFRESH_SECONDS = 5.0


def dashboard(
    study: Annotated[Path, typer.Argument(help="A study's folder, such as studies/digits.", metavar="STUDY")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 for any that is free.")] = 8080,
) -> None:
    """Show a study in Optuna's dashboard, in the browser, on this machine only.

    It shows a copy that follows the study while it is searched: whatever is changed or deleted there, the study stays
    as it is. Ctrl-C ends it. It needs: pip install 'nas-front[dashboard]'

    Examples:

        nas dashboard studies/digits

        nas dashboard studies/digits --port 9000
    """
    from nas.study import StudyFolder
    from nas.watch.storage_view import StorageView

    console = make_console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the copy goes with it
    with tempfile.TemporaryDirectory(prefix="nas-dashboard-") as place:
        view = StorageView(StudyFolder(study), Path(place) / "study.sqlite3")
        with console.status("loading Optuna's dashboard …"):
            application = load_application(view.copy)
        with _listening(application, port) as server, followed(view):
            console.print(f"http://{HOST}:{server.server_port}/dashboard", style="bold")
            console.print(f"shows a copy of the trials in {study}; Ctrl-C ends it", soft_wrap=True)
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()


def load_application(storage: Path) -> Any:
    """Optuna's dashboard on a storage, as a WSGI application.

    Raises:
        UnsupportedError: It is not installed, or does not go with the rest of what is.
    """
    try:
        import optuna_dashboard
    except ImportError as error:
        missing = error.name == "optuna_dashboard"
        raise UnsupportedError(
            "Optuna's dashboard is not installed"
            if missing
            else f"Optuna's dashboard does not load: {one_line(error)}",
            "pip install 'nas-front[dashboard]'",
        ) from error
    return optuna_dashboard.wsgi(f"sqlite:///{storage}")


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """Answers several requests at once, as the page asks for much at the same time."""

    daemon_threads = True


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    """Does not print a line for every request."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def _listening(application: Any, port: int) -> Iterator[_Server]:
    """A server on this machine's own address.

    Raises:
        NasError: The port is taken or not for everybody.
    """
    try:
        server = wsgiref.simple_server.make_server(HOST, port, application, _Server, _Quiet)
    except OSError as error:
        raise NasError(
            f"port {port} of {HOST} cannot be used: {(error.strerror or str(error)).lower()}",
            "name another with --port, or 0 for any that is free",
        ) from error
    with server:
        yield server


@contextlib.contextmanager
def followed(view: StorageView, seconds: float = REFRESH_SECONDS) -> Iterator[None]:
    """Brings a view up to date again and again for the time of the block.

    Args:
        view: The view.
        seconds: Between two looks.
    """
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(seconds):
            with contextlib.suppress(StudyError):  # such as a study that is started over at this moment
                view.refresh()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
