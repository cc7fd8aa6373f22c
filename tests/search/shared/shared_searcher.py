"""A searcher with everything real but evaluation and loop: one trial at a time, in the order that the loop keeps to."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search_fakes import FakeEvaluate, fake_recipe, make_space

from nas.evaluate import EvalRequest
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.asking import Asking
from nas.search.optuna_bridge import Asked
from nas.search.shared.database import Database, parse_url
from nas.search.shared.ledger import SharedLedger
from nas.study import StudyFolder

NAME = "study"
INPUTS = {"space": "tiny", "data": "none"}


def open_ledger(
    url: str, path: Path, recipe: Recipe | None = None, name: str = "study", **options: Any
) -> SharedLedger:
    """The ledger of one searcher, not started."""
    folder = StudyFolder(path)
    folder.trials.mkdir(parents=True, exist_ok=True)
    database = Database(parse_url(url))
    return SharedLedger(database, name, folder, recipe or fake_recipe(), make_space(), INPUTS, **options)


def record_of(ledger: SharedLedger, asked: Asked) -> TrialRecord:
    """What comes of a trial: a duplicate of one that ended, or what the fake evaluation gives."""
    same = (r for r in ledger.records if r.design == asked.design and r.outcome is not Outcome.DUPLICATE)
    if (original := next(same, None)) is not None:
        found: dict[str, Any] = {"outcome": Outcome.DUPLICATE, "duplicate_of": original.number}
    else:
        result = FakeEvaluate()(EvalRequest(asked.number, asked.design, 0, None), None)
        found = {"outcome": result.outcome, "reason": result.reason, "quantities": result.quantities}
    return TrialRecord(asked.number, asked.origin, asked.design, seed=0, seconds=1.0, **found)


def search(ledger: SharedLedger, trials: int, during: Callable[[Asked], None] = lambda asked: None) -> list[int]:
    """Searches until so many trials ended; gives the numbers of those that were evaluated here and count."""
    own = []
    asking = Asking(ledger.bridge, fake_recipe(), make_space())
    ledger.start()
    waiting = ledger.orphans()

    def ask() -> Asked | None:
        if (taken := ledger.take_over()) is not None:
            return taken
        elsewhere = ledger.bridge.run_elsewhere()
        if len(ledger.records) + len(waiting) + len(elsewhere) >= trials:
            return None
        return asking.next(ledger.records, [one.design for one in (*elsewhere, *waiting)])

    while len(ledger.records) < trials:
        asked = waiting.pop(0) if waiting else ledger.in_turn(ask)
        if asked is None:
            ledger.rest(0.05)
        elif any(one.number < asked.number and one.design == asked.design for one in ledger.bridge.run_elsewhere()):
            waiting.append(asked)
            ledger.rest(0.05)
            ledger.in_turn(lambda: None)
        else:
            record = record_of(ledger, asked)
            if record.outcome is not Outcome.DUPLICATE:
                during(asked)
            if ledger.finished(record) and record.outcome is not Outcome.DUPLICATE:
                own.append(asked.number)
    return own


def searcher(url: str, path: str, trials: int, hang_at: int | None = None, beat_seconds: float = 1.0) -> None:
    """The whole of a searcher's process. It writes what it evaluated into ``own``; it may hang in a trial for ever.

    It begins when there is a file ``go`` beside its folder.
    """
    began = Path(path) / "began"

    def during(asked: Asked) -> None:
        if hang_at is not None and asked.number >= hang_at:
            began.write_text(str(asked.number))
            time.sleep(3600)
        time.sleep(0.02)

    ledger = open_ledger(url, Path(path), beat_seconds=beat_seconds)
    (Path(path) / "ready").touch()
    while not (Path(path).parent / "go").exists():
        time.sleep(0.01)
    try:
        own = search(ledger, trials, during)
    finally:
        ledger.close()
    (Path(path) / "own").write_text(" ".join(map(str, own)))
