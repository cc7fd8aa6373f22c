"""Fixtures that several test files share."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import nas  # noqa: F401 - before torch, which reads what this sets of OpenMP
from nas.measure import measurer
from nas.measure.clock import Policy
from nas.remeasure import time_front
from nas.search import confirm

# No test may depend on how fast the machine is, or how busy.
settings.register_profile("unhurried", deadline=None, max_examples=100 if os.environ.get("NAS_SLOW") == "1" else 40)
settings.load_profile("unhurried")

# Tests do not wait for a search that measures on the same machine, and none waits for them.
os.environ.setdefault("NAS_LEASE_FOLDER", tempfile.mkdtemp(prefix="nas-lease-"))

sys.path.insert(0, str(Path(__file__).parent))  # so that tests import tests/fakes.py from any folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and os.environ.get("NAS_SLOW") != "1":
            item.add_marker(pytest.mark.skip(reason="takes long; NAS_SLOW=1 runs it"))


@pytest.fixture(autouse=True)
def no_tracebacks() -> Iterator[None]:
    """``nas --debug`` asks for tracebacks by a variable, which would outlast the test that says so."""
    os.environ.pop("NAS_DEBUG", None)
    yield
    os.environ.pop("NAS_DEBUG", None)


@pytest.fixture(scope="module", autouse=True)
def hasty() -> Iterator[None]:
    """Searches measure for a moment and end after a single turn, in one process: by what a person's search takes, these
    would be most of a test's time. Of a module, so that studies that its tests share are made like that as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurer, "Policy", functools.partial(Policy, warmup_ms=20.0, minimum_ms=60.0))
        patch.setattr(confirm, "time_front", functools.partial(time_front, rounds=1))
        yield
