"""Searches as processes that can be killed: ``python tests/faults/nursery.py``.

Loading torch takes seconds, so this process loads it once and forks a child for each search that is asked for. Lines
of JSON ask: ``start`` (``folder``, ``trials``, and what ``recipe`` takes) is answered with the child's number, ``wait``
with how the child of that number ended. Latencies follow from the file alone, so that two searches of one seed are
equal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from own_files import Silent

from nas.errors import NasError
from nas.measure.latency import batch_of
from nas.measure.measurer import ROUNDS, TURN, Measurer
from nas.measure.protocol import Turns
from nas.outcome import How, Quantity
from nas.recipe import Recipe, parse_recipe
from nas.search import judging
from nas.search.run import search
from nas.search.stopping import Stopping
from nas.target import Target
from nas.workers.process import end_with_parent

SPACE = Path(__file__).with_name("space.yaml")
DONE, REFUSED, INTERRUPTED, BUG = 0, 2, 130, 1


class Reckoned(Measurer):
    """A measurer without a clock: a file's latency follows from its length and its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = {"cpu": "reckoned", "cores": 2, "system": "Linux"}

    def environment(self, target: Target) -> Mapping[str, Any]:
        return {target.runtime: "reckoned"}

    def environment_id(self, target: Target) -> str:
        return "reckoned"

    def latency(self, content: bytes) -> float:
        return len(content) / 1e5 * (1 + sum(content[::97]) % 101 / 1000)

    def glance(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        return self.measure(content, target, images)

    def measure(self, content: bytes, target: Target, images: np.ndarray) -> tuple[Quantity, np.ndarray]:
        batch_of(images, target.batch)
        ms = self.latency(content)
        detail = {"p95": ms, "iqr": 0.0, "samples": 3, "unstable": False, "threads": 1}
        quantity = Quantity(
            "latency_ms", ms, "ms", How.MEASURED, target.name, 0.99 * ms, 1.01 * ms, None, "reckoned", detail
        )
        return quantity, np.full(3, ms, np.float32)

    def turns(
        self, contents: Sequence[bytes], target: Target, images: np.ndarray, rounds: int = ROUNDS, turn: Any = TURN
    ) -> Turns:
        taken = [np.full(4, round(1e6 * self.latency(content)), np.int64) for content in contents]
        return Turns(tuple((samples,) * rounds for samples in taken), ((),) * rounds)


def recipe(trials: int = 20, seed: int = 44, **changes: Any) -> Recipe:
    """A study of trainings that take moments; of this seed one of the first is stopped at a rung."""
    data: dict[str, Any] = {
        "data": {"source": "digits", "train_limit": 200, "validation_limit": 100},
        "space": str(SPACE),
        "budget": {"trials": trials, "epochs": 3, "finetune_epochs": 1},
        "training": {"threads": 1, "precision": "float32"},
        "strategy": "guided",
        "sampler": "tpe",
        "seed": seed,
    }
    return parse_recipe(data | changes, "a test's recipe")


def run(folder: str, fault: str | None = None, **asked: Any) -> int:
    """Searches to the end of the budget; the exit status says how it ended."""
    if fault is not None:
        import injected

        injected.FAULTS[fault]()
    stopping = Stopping()
    try:
        with stopping.listen():
            search(recipe(**asked), Path(folder), Silent(), measurer=Reckoned(), stopping=stopping)
    except KeyboardInterrupt:
        return INTERRUPTED
    except NasError as error:
        Path(folder).with_suffix(".error").write_text(f"{error.message} | {error.hint}")
        return REFUSED
    except BaseException:
        Path(folder).with_suffix(".error").write_text(traceback.format_exc())
        return BUG
    return DONE


def start(asked: Mapping[str, Any]) -> int:
    """Forks a search, which ends with this process."""
    child = os.fork()
    if child == 0:
        end_with_parent()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os._exit(run(**asked))
    return child


def main() -> None:
    """Does what lines of JSON ask for."""
    torch.set_num_threads(1)  # a pool of threads would not be there in the children, which would wait for it
    # What a process wrote stays when it is killed, flushed or not; that it is flushed, for power cuts, has other tests.
    os.fsync = lambda descriptor: None
    # Whether to look at a network before its training is decided by what both take, which on a busy machine varies.
    judging.FORESEEING_SHARE = float("inf")
    with tempfile.TemporaryDirectory() as folder:  # loads what is loaded late, which takes seconds, once for all
        assert run(f"{folder}/warm-up", trials=2) == DONE
    for line in sys.stdin:
        match json.loads(line):
            case {"start": asked}:
                answer = start(asked)
            case {"wait": child}:
                answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
