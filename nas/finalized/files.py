"""Where final trainings lie in a study's folder, and how they are written and read.

``finalized/trial-00019.json`` holds every run of a design. Files of their own, so that neither the search nor its front
changes. The artifacts lie in ``finalized/cache``.
"""

from __future__ import annotations

import json
from pathlib import Path

from nas.errors import NasError, StudyError
from nas.finalized.runs import Finalized, History
from nas.safety.json_text import read_json
from nas.store import Store, write_atomically

FOLDER = "finalized"


def finalized_folder(study: Path) -> Path:
    """Where the final trainings of the study in a folder lie."""
    return study / FOLDER


def history_path(study: Path, trial: int) -> Path:
    """Where all runs of a trial's design lie."""
    return finalized_folder(study) / f"trial-{trial:05d}.json"


def artifact_store(study: Path, limit_bytes: int) -> Store:
    """What keeps the artifacts of the final trainings."""
    return Store(finalized_folder(study) / "cache", limit_bytes)


def write_history(study: Path, history: History) -> Path:
    """Writes all runs of a design so that they are there whole or not at all, and returns where."""
    path = history_path(study, history.trial)
    write_atomically(path, (json.dumps(history.to_json(), indent=1, allow_nan=False) + "\n").encode())
    return path


def read_history(study: Path, trial: int) -> History:
    """All runs of a trial's design; without any where there are none yet.

    Raises:
        StudyError: The file cannot be read; the message names it.
    """
    path = history_path(study, trial)
    return _read(path) if path.exists() else History(trial)


def read_histories(study: Path) -> dict[int, History]:
    """All runs of all designs, by trial.

    Raises:
        StudyError: A file cannot be read; the message names it.
    """
    found = [_read(path) for path in sorted(finalized_folder(study).glob("trial-[0-9]*.json"))]
    return {history.trial: history for history in found}


def read_finalized(study: Path) -> dict[int, Finalized]:
    """What is known of a study's designs at full budget, by trial; empty where nothing was trained again.

    Of a design that was trained at several budgets it is the longest that several seeds were trained for.

    Args:
        study: The study's folder.

    Raises:
        StudyError: A file cannot be read; the message names it.
    """
    chosen = {trial: history.chosen for trial, history in read_histories(study).items()}
    return {trial: done for trial, done in chosen.items() if done is not None}


def _read(path: Path) -> History:
    try:
        history = History.from_json(read_json(path))
        if path.name != history_path(path.parent.parent, history.trial).name:
            raise ValueError(f"it holds trial {history.trial}, which its name does not say")
        return history
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NasError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else error
        raise StudyError(
            f"the final training {path} cannot be read: {problem}", "delete it; 'nas finalize' trains that design again"
        ) from error
