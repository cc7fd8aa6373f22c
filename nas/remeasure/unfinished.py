"""A measurement of a whole study that is under way: what is finished lies on the disk, trial by trial."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import StudyError
from nas.outcome import Quantity
from nas.safety.json_text import read_json
from nas.store import write_atomically

HEADER = "measured-in.json"


class Unfinished:
    """The trials that were measured so far, in a folder of their own beside the finished measurements.

    Nothing here counts for the study before all of it is there, so that a process that dies leaves no study of which
    one half was measured on this machine and the other on another.

    Args:
        folder: Where it lies.
        fingerprints: Of each target's environment here. What lies there of other targets, or of another environment,
            is thrown away.
    """

    def __init__(self, folder: Path, fingerprints: Mapping[str, str]) -> None:
        self.folder = folder
        header = folder / HEADER
        if _read(header) != dict(fingerprints):
            self.delete()
            write_atomically(header, json.dumps(dict(fingerprints), indent=1).encode())
        self.quantities: dict[int, tuple[Quantity, ...]] = {}
        for path in folder.glob("[0-9]*.json"):
            items = _quantities(path)
            if items is not None:
                self.quantities[int(path.stem)] = items

    def add(self, number: int, quantities: Sequence[Quantity], samples: Mapping[str, np.ndarray]) -> None:
        """Keeps what was measured of a trial: raw samples first, so that no trial counts that has lost them."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dict(samples))  # type: ignore[arg-type]
        path = self.folder / f"{number:05d}.json"
        write_atomically(path.with_suffix(".npz"), buffer.getvalue())
        content = json.dumps([quantity.to_json() for quantity in quantities], allow_nan=False)
        write_atomically(path, content.encode())
        self.quantities[number] = tuple(quantities)

    def samples(self, numbers: Sequence[int]) -> dict[str, np.ndarray]:
        """All raw samples of these trials by name."""
        found: dict[str, np.ndarray] = {}
        for number in numbers:
            with np.load(self.folder / f"{number:05d}.npz") as arrays:
                found |= {name: arrays[name] for name in arrays.files}
        return found

    def delete(self) -> None:
        """Deletes all of it."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


def _read(path: Path) -> Any:
    """What a JSON file holds; None where it is missing or damaged."""
    try:
        return read_json(path, StudyError)
    except (OSError, ValueError, StudyError):
        return None


def _quantities(path: Path) -> tuple[Quantity, ...] | None:
    """What was measured of one trial; None where a file of it is damaged, so that it is measured again."""
    data = _read(path)
    try:
        if not isinstance(data, list) or not zipfile.is_zipfile(path.with_suffix(".npz")):
            return None
        return tuple(Quantity.from_json(item) for item in data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
