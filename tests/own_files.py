"""What the tests of own data, families and objectives share: a watcher that says nothing, names that are forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nas import objectives
from nas.design import Design
from nas.record import TrialRecord
from nas.study import Study


class Silent:
    """A search's watcher that says nothing."""

    def note(self, text: str) -> None: ...

    def began(self, study: Study) -> None: ...

    def asked(self, number: int, design: Design) -> None: ...

    def progress(self, stage: str, share: float, number: int | None = None) -> None: ...

    def told(self, record: TrialRecord, study: Study) -> None: ...


@contextmanager
def forgotten() -> Iterator[None]:
    """Forgets the own objectives that are declared within, so that another test may declare them otherwise."""
    before = dict(objectives.KINDS)
    try:
        yield
    finally:
        objectives.KINDS.clear()
        objectives.KINDS.update(before)
