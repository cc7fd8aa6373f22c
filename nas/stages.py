"""A pipeline's stages as pure functions of their keys: how a key is made, how a result is kept and taken up again.

A stage's key is the digest of its name and code version, its parent's key, its own options, the data, the seed, the
numeric policy and the versions that matter. So two designs that differ only after a stage share everything before it,
whichever is evaluated first; and a stage that a design leaves out adds no key.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from nas.compress import forms
from nas.compress.registry import GRAPH_TECHNIQUES, NETWORK_TECHNIQUES
from nas.design import sha256_of
from nas.lease import working
from nas.record import StageResult
from nas.store import Entry, Store
from nas.train import Numerics

# Raised by one when a stage's code changes what it produces, so that old cache entries no longer count. Techniques
# have their own.
CODE_VERSIONS = {"load": 1, "trunk": 2, "train": 4, "teacher": 2, "export": 1, "symmetric": forms.VERSION} | {
    technique.name: technique.version for technique in (*NETWORK_TECHNIQUES, *GRAPH_TECHNIQUES)
}

# Called while a stage works: (stage, share done from 0 to 1).
Progress = Callable[[str, float], None]


def _ignore(stage: str, share: float) -> None:
    """The progress callback of whoever does not watch."""


@dataclass
class Trace:
    """The stages of one evaluation, as they happen."""

    progress: Progress = _ignore
    stages: list[StageResult] = field(default_factory=list)


class Stages:
    """Makes keys for one data set and numeric policy, and runs stages with a cache.

    Args:
        store: The cache.
        data_digest: Of the data set.
        numerics: On what and in which precision networks train.
    """

    def __init__(self, store: Store, data_digest: str, numerics: Numerics) -> None:
        self.store = store
        self.data_digest = data_digest
        self.numerics = numerics

    def key(self, stage: str, parent: str, seed: int, options: Mapping[str, Any]) -> str:
        """The key of a stage that follows the one of the key ``parent`` (empty for the first)."""
        return sha256_of(
            {
                "stage": stage,
                "code": CODE_VERSIONS[stage],
                "parent": parent,
                "options": options,
                "data": self.data_digest,
                "seed": seed,
                "numerics": self.numerics.to_json(),
            }
        )

    def cached(
        self,
        stage: str,
        key: str,
        trace: Trace,
        compute: Callable[[], tuple[bytes, dict[str, Any]]],
        brief: bool = False,
    ) -> Entry:
        """The stage's result from the cache, or computed and stored; noted in the trace either way.

        Args:
            stage: Its name.
            key: Its key.
            trace: Notes it.
            compute: Gives the result and its detail.
            brief: Whether it computes for moments only and trains nothing, so that whoever measures may wait for it as
                a whole; trainings let them in between batches.
        """
        started, before = time.perf_counter(), len(trace.stages)
        trace.progress(stage, 0.0)
        entry = self.store.get(key)
        cached = entry is not None
        if entry is None:
            with working() if brief else nullcontext():
                blob, detail = compute()
            entry = self.store.put(key, blob, detail)
        inner = sum(result.seconds for result in trace.stages[before:])  # of stages run for this one, noted themselves
        trace.stages.append(StageResult(stage, key, time.perf_counter() - started - inner, cached, entry.detail))
        return entry

    def found(self, stage: str, key: str, trace: Trace) -> Entry | None:
        """The stage's result where the cache holds it, which is noted in the trace; None where it does not."""
        started = time.perf_counter()
        entry = self.store.get(key)
        if entry is not None:
            trace.stages.append(StageResult(stage, key, time.perf_counter() - started, True, entry.detail))
        return entry
