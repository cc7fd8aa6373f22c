"""Faults that a search in the nursery is given: disks that are full, clocks that jump, trainings that go wrong."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def _full(match: Callable[[Path], bool], after: int) -> None:
    """Lets no file that matches be written any more, once ``after`` of them were."""
    from nas import store

    written = 0
    before = os.replace

    def replace(source: Any, target: Any) -> None:
        nonlocal written
        if match(Path(target)):
            written += 1
            if written > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        before(source, target)

    store.os.replace = replace  # type: ignore[attr-defined]


def full_for_artifacts() -> None:
    _full(lambda path: "blobs" in path.parts, 12)


def full_for_records() -> None:
    _full(lambda path: path.parent.name == "trials", 5)


def full_for_the_end() -> None:
    _full(lambda path: path.name == "test_scores.json", 0)


def full_at_the_start() -> None:
    _full(lambda path: path.name == "recipe.yaml", 0)


def full_for_the_sampler() -> None:
    """Every commit to the sampler's memory fails after some, as SQLite says it of a full disk."""
    import sqlite3

    from nas.search.durable import Durable

    count = 0
    before = Durable.update

    def update(self: Durable, *told: Any) -> None:
        nonlocal count
        count += 1
        if count > 4:
            raise sqlite3.OperationalError("database or disk is full")
        before(self, *told)

    Durable.update = update  # type: ignore[method-assign]


def clock_jumps_backwards() -> None:
    """The wall clock goes back by up to an hour at every look; what counts time is another."""
    draw, real = random.Random(0), time.time
    time.time = lambda: real() - draw.uniform(0, 3600)


def weights_become_nan() -> None:
    """Every third network's training diverges."""
    from nas.train import training

    before, count = training.train, 0

    def train(model: torch.nn.Module, *args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count % 3 == 0:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))
        return before(model, *args, **options)

    for module in (training, __import__("nas.train").train, __import__("nas.networks").networks):
        if hasattr(module, "train"):
            module.train = train


def memory_runs_out_once() -> None:
    """The third training finds no memory, the next ones do."""
    from nas.networks import FloatNetworks

    before, count = FloatNetworks.trained, 0

    def trained(self: FloatNetworks, *args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise MemoryError
        return before(self, *args, **options)

    FloatNetworks.trained = trained  # type: ignore[method-assign]


def may_not_write() -> None:
    """The search is somebody's who may only read."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        full_for_artifacts,
        full_for_records,
        full_for_the_end,
        full_at_the_start,
        full_for_the_sampler,
        clock_jumps_backwards,
        weights_become_nan,
        memory_runs_out_once,
        may_not_write,
    )
}
