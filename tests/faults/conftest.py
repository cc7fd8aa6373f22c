"""Fixtures of the tests of faults: what starts searches, and a study that nothing happened to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from searches import DONE, TRIALS, Nursery, Untouched, state, whole


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery()
    # After this one it has loaded everything: what is timed is searches.
    assert made.run(tmp_path_factory.mktemp("first") / "s", trials=1) == DONE
    yield made
    made.close()


@pytest.fixture(scope="session")
def untouched(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Untouched:
    folder = tmp_path_factory.mktemp("untouched") / "s"
    began = time.monotonic()
    assert nursery.run(folder, trials=TRIALS) == DONE
    seconds = time.monotonic() - began
    whole(folder, TRIALS)
    outcomes = {row[2] for row in state(folder)}
    assert outcomes == {"measured", "stopped"}, "evaluations in parts are among what is interrupted"
    return Untouched(folder, seconds)


@pytest.fixture(scope="session")
def reference(untouched: Untouched) -> Path:
    return untouched.folder
