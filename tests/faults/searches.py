"""What the tests of faults share: searches in a nursery, and what a study's folder holds at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.outcome import Outcome
from nas.study import Study

NURSERY = Path(__file__).with_name("nursery.py")
DONE, REFUSED, INTERRUPTED = 0, 2, 130
TRIALS = 6


class Nursery:
    """Starts searches that can be killed; several may run at once."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(NURSERY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def start(self, folder: Path, **asked: Any) -> int:
        """Starts a search and gives its process."""
        return self._ask({"start": {"folder": str(folder), **asked}})

    def wait(self, process: int) -> int:
        """How a search ended: its exit status, or the signal that killed it as a negative number."""
        return self._ask({"wait": process})

    def run(self, folder: Path, **asked: Any) -> int:
        return self.wait(self.start(folder, **asked))

    def _ask(self, question: dict[str, Any]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the nursery died"
        return int(json.loads(line))


@dataclass(frozen=True)
class Untouched:
    """A study that nothing happened to.

    Args:
        folder: Where it lies.
        seconds: How long its search took.
    """

    folder: Path
    seconds: float


def error_of(folder: Path) -> str:
    """What a search said that was refused."""
    return folder.with_suffix(".error").read_text()


def state(folder: Path) -> list[tuple[Any, ...]]:
    """What the trials of a study came to, without times."""
    study = Study.open(folder)
    rows = []
    for record in study.records:
        accuracy = record.quantity("accuracy")
        latency = record.quantity("latency_ms@onnxruntime-cpu-1t-b1")
        rows.append(
            (
                record.number,
                record.design.digest[:12],
                str(record.outcome),
                record.origin,
                accuracy and accuracy.value,
                latency and latency.value,
                record.artifact_sha256 and record.artifact_sha256[:12],
                record.teacher_trial,
            )
        )
    return rows


def front(folder: Path) -> list[int]:
    return [record.number for record in Study.open(folder).front]


def whole(folder: Path, trials: int) -> None:
    """The budget is spent exactly, every number is there once, and the front can be shipped."""
    study = Study.open(folder)
    assert [record.number for record in study.records] == list(range(len(study.records)))
    assert trials <= study.spent < trials + 1
    for record in study.front:
        study.artifact(record)
    assert not list(folder.rglob("*.part")), "nothing half-written is left"
    assert os.path.exists(folder / "test_scores.json")
    assert any(record.outcome is Outcome.MEASURED for record in study.records)
