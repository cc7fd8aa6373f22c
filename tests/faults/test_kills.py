"""A search that is killed goes on: nothing finished is lost, nothing counted twice, and the end is the same."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from searches import DONE, INTERRUPTED, Nursery, front, state, whole

SLOW = os.environ.get("NAS_SLOW") == "1"
KILLS = 30 if SLOW else 3
TRIALS = 8


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def untouched(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A study that nothing happened to, and how long it took."""
    folder = tmp_path_factory.mktemp("untouched") / "s"
    began = time.monotonic()
    assert nursery.run(folder, trials=TRIALS) == DONE
    whole(folder, TRIALS)
    return folder, time.monotonic() - began


def test_the_same_seed_gives_the_same_study(nursery: Nursery, untouched: tuple[Path, float], tmp_path: Path) -> None:
    """Without which nothing below could tell anything."""
    assert nursery.run(tmp_path / "s", trials=TRIALS) == DONE
    assert state(tmp_path / "s") == state(untouched[0])


@pytest.mark.slow
def test_a_search_that_is_killed_at_random_ends_as_if_nothing_had_happened(
    nursery: Nursery, untouched: tuple[Path, float], tmp_path: Path
) -> None:
    """So many times killed (30 with NAS_SLOW=1), at random moments from its first to its last."""
    reference, seconds = untouched
    draw = random.Random(int(os.environ.get("NAS_SEED", "0")))
    killed, studies = 0, 0
    while killed < KILLS:
        folder = tmp_path / f"s{studies}"
        studies += 1
        status, lives = None, 0
        while status != DONE:
            process = nursery.start(folder, trials=TRIALS)
            if killed < KILLS and lives < 5:
                # Most of a life is trials; the first tenth of a second is reading and checking what is there.
                time.sleep(draw.choice([draw.uniform(0, 0.1), draw.uniform(0, 0.7 * seconds)]))
                with suppress(ProcessLookupError):  # it came to its end before
                    os.kill(process, signal.SIGKILL)
            status = nursery.wait()
            assert status in (DONE, -signal.SIGKILL)
            killed += status != DONE
            lives += 1
        whole(folder, TRIALS)
        assert state(folder) == state(reference), f"study {studies - 1}, after {lives} lives"
        assert front(folder) == front(reference)


@pytest.mark.parametrize("sent", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT]])
def test_a_search_that_is_told_to_end_goes_on_later(
    nursery: Nursery, untouched: tuple[Path, float], tmp_path: Path, sent: list[signal.Signals]
) -> None:
    reference, _ = untouched
    process = nursery.start(tmp_path / "s", trials=TRIALS)
    while not list((tmp_path / "s" / "trials").glob("*.json")):
        time.sleep(0.01)
    for number in sent:
        with suppress(ProcessLookupError):  # the first one may have been enough
            os.kill(process, number)
        time.sleep(0.05)
    assert nursery.wait() == INTERRUPTED
    assert 1 <= len(state(tmp_path / "s")) < TRIALS
    assert nursery.run(tmp_path / "s", trials=TRIALS) == DONE
    assert state(tmp_path / "s") == state(reference)
