"""A search does not go through all its trials again at each of them: work is counted, not timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.long_study import CACHE_LIMIT_MB, Reader, long_recipe, make_up, search

from nas.record import TrialRecord
from nas.search import told_trials
from nas.surrogate.encode import Encoding

SEARCHED = 8


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often records were asked for a quantity, and how many designs were encoded, from the end of the first trial,
    which learns all that there is, to that of the last.
    """
    counts: Counter[str] = Counter()
    counting = False

    def count(owner: Any, name: str, many: Callable[..., int]) -> None:
        method = getattr(owner, name)

        def counted(*args: Any) -> Any:
            if counting:
                counts[name] += many(*args)
            return method(*args)

        monkeypatch.setattr(owner, name, counted)

    count(TrialRecord, "quantity", lambda record, key: 1)
    count(Encoding, "positions", lambda encoding, rows: len(rows))
    count(told_trials, "positions_of", lambda space, params: len(params))
    told = Reader.told

    def switch(self: Reader, *args: Any) -> None:
        nonlocal counting
        counting = len(self.reading.loop) + 1 < SEARCHED
        told(self, *args)

    monkeypatch.setattr(Reader, "told", switch)
    return counts


@pytest.mark.parametrize("name", ["guided", "predictor"])
def test_a_trial_takes_no_more_work_after_many_than_after_few(name: str, counted: Counter[str], tmp_path: Path) -> None:
    found = {}
    for trials in (120, 480):
        counted.clear()
        make_up(tmp_path / f"made-{trials}", long_recipe(name), trials)
        reading = search(tmp_path / f"study-{trials}", long_recipe(name), tmp_path / f"made-{trials}", SEARCHED)
        assert reading.trials == trials + SEARCHED
        assert 0 < reading.front_kept == reading.front
        assert reading.most_cache_bytes < 1.05 * CACHE_LIMIT_MB * 10**6
        found[trials] = dict(counted)
    for what, count in found[480].items():  # going once through 360 trials more, at each trial, would be 2,880
        assert count < found[120][what] + 1500, what
