"""What to say where a study's folder cannot be written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.errors import StudyError

# Errors that say that there is no room for a file.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what writing into a study's folder raises into an error that says how to mend it.

    Raises:
        StudyError: Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StudyError(f"the disk is full at {folder}", "make room; the same command goes on") from error
        where = error.filename or folder
        raise StudyError(
            f"{where} cannot be written: {error.strerror or error}", "mend that; the same command goes on"
        ) from error
