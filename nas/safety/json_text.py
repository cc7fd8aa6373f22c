"""JSON that someone else may have written: bounded in size, and in how deep it lies within itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nas.errors import NasError
from nas.safety.files import read_bytes
from nas.safety.limits import MOST_JSON_BYTES


def read_json(path: Path, error: type[NasError] = NasError, most: int = MOST_JSON_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        NasError: Of the given kind: it is no plain file, or has more bytes than that.
        OSError: It cannot be read.
        ValueError: It is no JSON, no UTF-8, or lists lie within one another too deep.
    """
    return parse_json(read_bytes(path, most, error))


def parse_json(content: bytes | str) -> Any:
    """What a JSON text holds.

    Raises:
        ValueError: It is no JSON, no UTF-8, or lists lie within one another too deep.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("lists or mappings lie within one another too deep") from None
