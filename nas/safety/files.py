"""Files read no further than a limit, and names from files held inside their folder."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from nas.errors import NasError
from nas.safety.limits import size_words


def read_bytes(path: Path, most: int, error: type[NasError], hint: str = "") -> bytes:
    """A file's content, which must be a plain file of so many bytes at most.

    What is no plain file (a pipe, a device) is not opened: it may never end, or never begin.

    Args:
        path: The file; links are followed.
        most: In bytes.
        error: Of what kind an error is to be.
        hint: How to mend a file that is too large.

    Raises:
        NasError: Of that kind: it is no plain file, or larger.
        OSError: It cannot be read.
    """
    require_plain(path, error)
    with path.open("rb") as file:
        content = file.read(most + 1)  # not the size that the file system states: it may grow meanwhile
    if len(content) > most:
        raise error(f"{path} has more than {size_words(most)}, which is the most that is read of such a file", hint)
    return content


def require_plain(path: Path, error: type[NasError]) -> None:
    """Refuses what is neither a plain file nor a folder.

    Raises:
        NasError: Of that kind: it is a pipe, a device or a socket.
        OSError: It is not there, or cannot be looked at.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise error(f"{path} is no plain file", "a pipe or a device may never end: copy it into a file first")


def confined(folder: Path, name: str, error: type[NasError], what: str) -> Path:
    """The file of that name, which was read in a file, in a folder: it must lie there, links followed.

    Args:
        folder: Where it must lie, at whatever depth.
        name: A relative path.
        error: Of what kind an error is to be.
        what: What names it, for messages: ``model.onnx``.

    Raises:
        NasError: Of that kind: the name is absolute, goes up, or leads out by a link.
    """
    pure = PurePosixPath(name)
    windows = PureWindowsPath(name)
    wrong = not name or "\0" in name or pure.is_absolute() or windows.drive or windows.root or ".." in windows.parts
    path = folder / name
    if not wrong:
        try:
            wrong = not path.resolve().is_relative_to(folder.resolve())
        except (OSError, RuntimeError):  # links that lead to one another
            wrong = True
    if wrong:
        raise error(
            f"{what} names the file {name!r:.80}, which does not lie in its folder",
            "a file may name only what lies beside or below it",
        )
    return path
