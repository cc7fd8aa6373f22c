"""Searchers of one study with everything real but the evaluation; and ledgers whose steps a test takes itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search_fakes import FakeEvaluate, Memory, fake_recipe, make_space

from nas.evaluate import EvalRequest, EvalResult
from nas.outcome import Outcome
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.loop import Loop
from nas.search.optuna_bridge import Asked, SamplerHints
from nas.search.shared.database import Database, parse_url
from nas.search.shared.ledger import SharedLedger
from nas.stages import Progress
from nas.study import StudyFolder
from nas.workers.here import Here

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


class Evaluating(FakeEvaluate):
    """Takes moments; from a number on it hangs."""

    def __init__(self, began: Path, hang_at: int | None) -> None:
        super().__init__()
        self.began = began
        self.hang_at = hang_at

    def __call__(self, request: EvalRequest, progress: Progress | None) -> EvalResult:
        if self.hang_at is not None and request.number >= self.hang_at:
            self.began.write_text(str(request.number))
            time.sleep(3600)
        time.sleep(0.02)
        return super().__call__(request, progress)


def searcher(url: str, path: str, trials: int, hang_at: int | None = None, beat_seconds: float = 1.0) -> None:
    """The whole of a searcher's process, with the real loop. It writes what it evaluated into ``own``; it may hang in
    a trial for ever.

    It begins when there is a file ``go`` beside its folder.
    """
    folder, recipe, space = StudyFolder(Path(path)), fake_recipe(trials=trials), make_space()
    evaluate = Evaluating(folder.path / "began", hang_at)

    def ledger(hints: Callable[[], SamplerHints]) -> SharedLedger:
        return open_ledger(url, folder.path, recipe, hints=hints, beat_seconds=beat_seconds)

    with folder.claim():
        folder.start(recipe, INPUTS)
        loop = Loop(folder, recipe, space, Here(evaluate), {}, Memory(), ledger=ledger)
        (folder.path / "ready").touch()
        while not (folder.path.parent / "go").exists():
            time.sleep(0.01)
        loop.run()
    (folder.path / "own").write_text(" ".join(str(request.number) for request in evaluate.requests))
