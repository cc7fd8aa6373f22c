"""``running.json``: what a search is doing at this moment, written by the search for whoever looks at it.

Records tell of trials that ended; this tells of the one that has not. It is no part of a study's results: it is
replaced at every stage, never flushed to the disk, and gone when the search ends. A process that is killed leaves it
behind, so it counts only as long as the process that wrote it owns the study.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.design import Design
from nas.errors import NasError
from nas.safety.json_text import read_json

VERSION = 1
RUNNING_FILE = "running.json"


@dataclass(frozen=True)
class Running:
    """What a search is doing.

    Args:
        pid: The process that searches.
        began: When it began with this, in seconds since 1970.
        stage: What is being done: ``train``, ``measure``, ``finalists``; empty while the next design is chosen.
        share: How much of the stage is done, 0 to 1.
        number: Of the trial that runs; None between trials.
        design: What that trial evaluates.
        beside: Other trials that run at the same time, and what is being done for each.
    """

    pid: int
    began: float
    stage: str = ""
    share: float = 0.0
    number: int | None = None
    design: Design | None = None
    beside: Mapping[int, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "pid": self.pid,
            "began": self.began,
            "stage": self.stage,
            "share": self.share,
            "number": self.number,
            "design": None if self.design is None else self.design.to_json(),
            "beside": {str(number): stage for number, stage in self.beside.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Running:
        """Reads what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError, NasError: A field is missing or not what it must be.
        """
        if data["version"] != VERSION:
            raise ValueError(f"the version must be {VERSION}, but got {data['version']!r}")
        number, design = data["number"], data["design"]
        return cls(
            pid=int(data["pid"]),
            began=float(data["began"]),
            stage=str(data["stage"]),
            share=float(data["share"]),
            number=None if number is None else int(number),
            design=None if design is None else Design.from_json(design),
            beside={int(number): str(stage) for number, stage in data.get("beside", {}).items()},
        )


def write_running(folder: Path, running: Running) -> None:
    """Replaces what a study's folder says of the search at work, whole, so that no reader sees a half.

    Raises:
        OSError: It cannot be written.
    """
    aside = folder / f".{RUNNING_FILE}.part"  # one name will do: only the study's owner writes it
    aside.write_text(json.dumps(running.to_json()), encoding="utf-8")
    os.replace(aside, folder / RUNNING_FILE)


def read_running(folder: Path) -> Running | None:
    """What a study's folder says of the search at work; None where it says nothing that can be read."""
    try:
        return Running.from_json(read_json(folder / RUNNING_FILE))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NasError):
        return None
