"""Ctrl-C: once, and the trials under way are finished; twice, and all stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopping:
    """Whether a person wants a search to end.

    Args:
        say: Told once, when trials under way are being finished.
    """

    def __init__(self, say: Callable[[], None] = lambda: None) -> None:
        self.say = say
        self.asked = False
        self.polite = False

    @contextmanager
    def once_trials_run(self) -> Iterator[None]:
        """Within it the first Ctrl-C only asks; the second one interrupts, as it does everywhere else.

        Only where ``listen`` is in effect: a library leaves its caller's signals alone.
        """
        self.polite = True
        try:
            yield
        finally:
            self.polite = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Takes Ctrl-C for the time of the block; SIGTERM interrupts at once, as who sends it will not wait."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupted)
        terminated = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            signal.signal(signal.SIGTERM, terminated)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.polite:
            raise KeyboardInterrupt
        self.asked = True
        self.say()
