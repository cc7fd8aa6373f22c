"""Fixtures of several tests of pictures."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is written."""
    found: list[Figure] = []
    save = Figure.savefig

    def remember(self: Figure, *args, **more) -> None:
        found.append(self)
        save(self, *args, **more)

    monkeypatch.setattr(Figure, "savefig", remember)
    return found
