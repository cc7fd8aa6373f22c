"""A result written as JSON beside what is printed: ``--json FILE`` of several commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import StudyError


def check_json_file(path: Path | None) -> None:
    """Makes sure, before anything is spent, that a file can be written there; None for no file.

    Raises:
        StudyError: It cannot.
    """
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise StudyError(f"{path} cannot be written", "name a file in a folder that exists")


def write_json_file(path: Path, data: Mapping[str, Any]) -> None:
    """Writes it whole or not at all.

    Raises:
        StudyError: The file cannot be written.
    """
    from nas.store import write_atomically

    try:
        write_atomically(path, json.dumps(data, indent=1, allow_nan=False).encode() + b"\n")
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror}", "name another file") from None
