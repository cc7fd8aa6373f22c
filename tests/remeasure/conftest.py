"""Fixtures of the tests of measuring anew."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def hasty() -> None:
    """Turns are what is tested here, so there are as many as a person's search has."""
