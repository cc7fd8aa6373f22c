"""A search that is killed goes on: nothing finished is lost, nothing counted twice, and the end is the same."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from searches import DONE, INTERRUPTED, TRIALS, Nursery, Untouched, front, state, whole

from nas.watch.running import read_running

KILLS = 30 if os.environ.get("NAS_SLOW") == "1" else 3
LIVES = 5
# Of kills, the share in the first moments of a life.
EARLY = 0.15


def test_the_same_seed_gives_the_same_study(nursery: Nursery, reference: Path, tmp_path: Path) -> None:
    """Without which nothing below could tell anything."""
    assert nursery.run(tmp_path / "s", trials=TRIALS) == DONE
    assert state(tmp_path / "s") == state(reference)


@pytest.mark.slow
def test_a_search_that_is_killed_at_random_ends_as_if_nothing_had_happened(
    nursery: Nursery, untouched: Untouched, tmp_path: Path
) -> None:
    """So many times killed (30 with NAS_SLOW=1), at random moments from its first to its last."""
    draw = random.Random(int(os.environ.get("NAS_SEED", "0")))
    found: Counter[str] = Counter()
    studies = 0
    while found.total() < KILLS:
        folder = tmp_path / f"s{studies}"
        studies += 1
        status, lives = None, 0
        while status != DONE:
            process = nursery.start(folder, trials=TRIALS)
            if found.total() < KILLS and lives < LIVES:
                # The first tenth of a second is reading and checking what is there; most of a life is trials.
                early = draw.random() < EARLY
                time.sleep(draw.uniform(0, 0.1) if early else draw.uniform(0.1, 0.8 * untouched.seconds))
                with suppress(ProcessLookupError):  # it came to its end before
                    os.kill(process, signal.SIGKILL)
            status = nursery.wait(process)
            assert status in (DONE, -signal.SIGKILL)
            if status != DONE:
                running = read_running(folder)
                found["before it says anything" if running is None else running.stage or "between stages"] += 1
            lives += 1
        whole(folder, TRIALS)
        assert state(folder) == state(untouched.folder), f"study {studies - 1}, after {lives} lives"
        assert front(folder) == front(untouched.folder)
    print(f"{found.total()} kills survived by {studies} studies, each as without them; they were at: {dict(found)}")


@pytest.mark.parametrize("sent", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT]])
def test_a_search_that_is_told_to_end_goes_on_later(
    nursery: Nursery, reference: Path, tmp_path: Path, sent: list[signal.Signals]
) -> None:
    process = nursery.start(tmp_path / "s", trials=TRIALS)
    while not list((tmp_path / "s" / "trials").glob("*.json")):
        time.sleep(0.01)
    for number in sent:
        os.kill(process, number)
        time.sleep(0.05)
    assert nursery.wait(process) == INTERRUPTED
    assert 1 <= len(state(tmp_path / "s")) < TRIALS
    assert nursery.run(tmp_path / "s", trials=TRIALS) == DONE
    assert state(tmp_path / "s") == state(reference)
