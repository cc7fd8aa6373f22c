"""A worker for tests that does what it is told: computes, dies, hangs, fills its memory."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from nas.errors import RecipeError
from nas.workers.worker import main


def make(mood: str) -> Callable[[Any, Callable[[str, float], None]], Any]:
    """Work on pairs of what to do and with what."""
    if mood == "refuses":
        raise RecipeError("there is no such data", "name another")
    if mood == "breaks":
        raise ValueError("a mistake of ours")
    if mood == "dies":
        print("no room", file=sys.stderr, flush=True)
        os._exit(3)
    memory: list[bytearray] = []

    def work(request: tuple[str, Any], progress: Callable[[str, float], None]) -> Any:
        what, argument = request
        match what:
            case "square":
                progress("squaring", 0.5)
                return argument * argument, os.getpid()
            case "sleep":
                time.sleep(argument)
                return "slept", os.getpid()
            case "signal":
                os.kill(os.getpid(), getattr(signal, argument))
                time.sleep(60)
            case "exit":
                print("I have had enough", file=sys.stderr, flush=True)
                os._exit(argument)
            case "allocate":
                memory.append(bytearray(os.urandom(1)) * argument)
                memory.clear()
                return "allocated", os.getpid()
            case "raise":
                raise RuntimeError(argument)
        return None

    return work


if __name__ == "__main__":
    main(int(sys.argv[1]), make)
