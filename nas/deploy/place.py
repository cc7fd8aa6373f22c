"""Where a deployment's folder goes: whole or not at all, and only where nothing of anyone else's would be lost."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.deploy.deployment import DEPLOYMENT_FILE, FILES
from nas.errors import NasError
from nas.store import sync_folder


def check_output(output: Path) -> None:
    """Refuses a place that no deployment would be written to, before anything is chosen or computed. Writes nothing.

    Lets through what does not exist, an empty folder, and a folder that holds a deployment and nothing else.
    ``write_deployment`` checks the same again.

    Raises:
        NasError: The place, or a part of its path, is a file, or a folder that holds something else, is unreadable or
            not writable.
    """
    with os_errors(output):
        place = output.resolve()
        refuse_strangers(place, output)
        # It is made beside its place and renamed, so its parent, or what exists of it, is what is written to.
        above = next(path for path in place.parents if path.exists())
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextmanager
def os_errors(output: Path) -> Iterator[None]:
    """Whatever the operating system refuses is an error that names the place."""
    try:
        yield
    except OSError as error:
        message = f"the deployment {output} cannot be written: {error.strerror or error}"
        raise NasError(message, "name another folder with --output") from error


def refuse_strangers(place: Path, output: Path) -> None:
    """Lets through what does not exist, an empty folder, and a folder that holds a deployment and nothing else.

    Args:
        place: The folder, resolved.
        output: The same as a person wrote it, for what is said.

    Raises:
        NasError: Something else lies there.
    """
    hint = "name another folder with --output"
    for path in (place, *place.parents):
        if path.exists() and not path.is_dir():
            raise NasError(f"the deployment {output} cannot be written: {path} is a file", hint)
    if not place.exists():
        return
    present = {path.name for path in place.iterdir()}
    if present and DEPLOYMENT_FILE not in present:
        raise NasError(f"{output} exists and is no deployment, so it is not replaced", hint)
    if strangers := sorted(present - FILES):
        others = ", ".join(strangers[:3])
        raise NasError(f"{output} holds more than a deployment ({others}), so it is not replaced", hint)


@contextmanager
def beside(place: Path) -> Iterator[Path]:
    """A new folder next to a place, on the same file system; gone afterwards unless it was renamed."""
    aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".part"))
    aside.chmod(0o755)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def put_in_place(aside: Path, place: Path) -> None:
    """Renames a finished folder to its place; what lies there is moved away first, and back where that fails."""
    if not place.exists() or not any(place.iterdir()):
        os.rename(aside, place)  # replaces an empty folder
    else:
        with beside(place) as grave:
            old = grave / "old"
            os.rename(place, old)
            try:
                os.rename(aside, place)
            except BaseException:
                os.rename(old, place)
                raise
    sync_folder(place.parent)
