"""What the nodes of a Ray cluster run in tests: work that does what it is told, and a board that measures nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.errors import RecipeError
from nas.measure.on_ray import Board, RayMeasurer
from nas.measure.protocol import Answer, Request
from nas.target import Target

if TYPE_CHECKING:
    from nas.evaluate import EvalRequest, EvalResult


def here() -> tuple[int, str]:
    """The process and the node."""
    import ray

    return os.getpid(), ray.get_runtime_context().get_node_id()


def make(mood: str = "", board: tuple[str, str] | None = None) -> Callable[[Any, Callable[[str, float], None]], Any]:
    """Work on pairs of what to do and with what."""
    if mood == "refuses":
        raise RecipeError("there is no such data", "name another")
    count = 0

    def work(request: tuple[str, Any], progress: Callable[[str, float], None]) -> Any:
        nonlocal count
        count += 1
        what, argument = request
        match what:
            case "square":
                progress("squaring", 0.5)
                return argument * argument, count, here()
            case "sleep":
                time.sleep(argument)
                return here()
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            case "die once":
                Path(argument).touch()
                if len(list(Path(argument).parent.glob("died-*"))) == 0:
                    Path(argument).with_name(f"died-{os.getpid()}").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return here()
            case "raise":
                raise ValueError(argument)
            case "measure":
                assert board is not None
                return measured(board, argument), here()
            case "touch":
                Path(argument).touch()
                return here()
        return None

    return work


def measured(board: tuple[str, str], until: bytes) -> tuple[tuple[float, float], str]:
    """When and on which node ``FakeBoard`` measured."""
    images = np.zeros((1, 4, 4, 1), np.uint8)
    when, where = RayMeasurer(*board).startup(until, Target.parse("onnxruntime-cpu-1t-b1"), images)
    return when, where  # type: ignore[return-value]


def make_fake(seconds: float, folder: str, board: tuple[str, str]) -> Callable[[EvalRequest, Any], EvalResult]:
    """Evaluations that are computed from the design, after a while, and measured at a board that measures nothing.

    Each notes that it began and where, and when and where was measured.
    """
    from search_fakes import FakeEvaluate  # with torch, which the other tests need not wait for

    evaluate = FakeEvaluate()

    def work(request: EvalRequest, progress: Any) -> EvalResult:
        (Path(folder) / f"began-{request.number}-{time.time_ns()}").write_text(here()[1])
        progress("train", 0.0)
        time.sleep(seconds)
        (began, ended), where = measured(board, folder.encode())
        (Path(folder) / f"measured-{began}-{ended}").write_text(where)
        return evaluate(request, progress)

    return work


class FakeBoard(Board):
    """Takes as long as a path is missing, which the model names, and tells when it was at work and where."""

    def ask(self, request: Request, expected: str) -> Answer:
        raise NotImplementedError

    def startup(self, content: bytes, target: Target, images: Any, expected: str) -> Answer:
        began = time.time()
        while not Path(content.decode()).exists() and time.time() < began + 120:
            time.sleep(0.02)
        time.sleep(0.05)
        return Answer(((began, time.time()), here()[1]))
