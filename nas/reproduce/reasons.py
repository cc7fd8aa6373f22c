"""Why an evaluation may not come out as the earlier one did: what both depend on, and where they differ, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nas.record import TRAINING, TrialRecord
from nas.reproduce.compare import WEIGHTS
from nas.target import usable_cores

# The key that a trial's training would have: (seed, threads) → key.
KeyOf = Callable[[int, int], str]

# What weights or files may depend on, as a record's environment has it, and what to call it.
DEPENDS_ON = {
    "machine": "architecture",
    "cpu": "processor",
    "features": "instruction sets",
    **{name: name for name in ("torch", "torch-pruning", "numpy", "onnx", "onnxruntime")},
    "python": "Python",
}
POLICY = {"device": "device", "precision": "precision", "threads": "threads", "torch": "torch"}


def differences_between(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What weights and files depend on and is not the same in two environments; what one does not say is left out."""
    found = {
        words: _told(words, (then.get("training") or {}).get(name), (now.get("training") or {}).get(name))
        for name, words in POLICY.items()
    }
    for name, words in DEPENDS_ON.items():
        if found.get(words) is None:  # torch stands in both; what training ran on counts
            found[words] = _told(words, then.get(name), now.get(name))
    return [line for line in found.values() if line is not None]


def threads_by_key(record: TrialRecord, key_of: KeyOf) -> int | None:
    """The number of threads of which the trial's training has its key; None where it is none that this machine has."""
    keys = _training_keys(record)
    return next((n for n in range(1, usable_cores() + 1) if key_of(record.seed, n) in keys), None)


def told_by_key(record: TrialRecord, seed: int, threads: int, key_of: KeyOf, explained: bool) -> list[str]:
    """What the key of the earlier training tells, where it is not that of the training of now.

    A key is a digest and does not say what it was made of, so what is likely is tried: the study's seed, and each
    number of threads.

    Args:
        record: The trial's.
        seed: The study's.
        threads: With how many the training of now ran.
        key_of: The key that it would have otherwise.
        explained: Whether a difference is known already, so that nothing need be said where none of these is it.
    """
    keys = _training_keys(record)
    for tried_threads in dict.fromkeys((threads, *range(1, usable_cores() + 1))):
        for tried in dict.fromkeys((record.seed, seed)):
            if key_of(tried, tried_threads) not in keys:
                continue
            found = []
            if tried != record.seed:
                found.append(f"seed: its record says {record.seed}, but its network was trained from seed {tried}")
            if tried_threads != threads:
                found.append(f"threads: its network was trained with {tried_threads}, now with {threads}")
            return found
    if explained:
        return []
    return [
        "its training had another key, which neither seed nor threads explain: the recipe in the study's folder, or "
        "how this version trains, is not what it was"
    ]


def _training_keys(record: TrialRecord) -> set[str]:
    return {stage.key for stage in record.stages if stage.stage in TRAINING or stage.stage in WEIGHTS}


def _told(words: str, then: Any, now: Any) -> str | None:
    """One difference in words; None where there is none, or one side does not say."""
    if then is None or now is None or then == now:
        return None
    if isinstance(then, list) and isinstance(now, list):
        return f"{words}: {_names(then, now)} then only, {_names(now, then)} now only"
    return f"{words}: {then} then, {now} now"


def _names(these: list[Any], others: list[Any]) -> str:
    """What is in the first alone."""
    return " ".join(str(name) for name in these if name not in others) or "none"
