"""How far two evaluations of one trial agree: stage by stage, number by number. Needs no torch."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.outcome import How, Outcome, Quantity
from nas.record import TrialRecord

# What a trained network's stage is called; all that a trial's weights are made of stands before the export.
WEIGHTS = ("load", "train")


class Weights(enum.StrEnum):
    """How the trained float networks compare, and how that is known."""

    SAME = "same"
    SAME_BY_FILE = "same, as the same file came of them"
    OTHERS = "others"
    UNKNOWN = "unknown, as the earlier ones are not kept"


class Verdict(enum.StrEnum):
    """What is to be said of a trial that was evaluated again."""

    IDENTICAL = "identical"
    AGREES = "agrees"
    DIFFERS = "differs"


@dataclass(frozen=True)
class StagePair:
    """A cached stage of both evaluations.

    Args:
        stage: Its name.
        same_key: Whether it depends on the same things: design, seed, data, numeric policy, versions.
        same_content: Whether its results are the same to the bit; None where the study's cache lost the earlier one.
    """

    stage: str
    same_key: bool
    same_content: bool | None

    def to_json(self) -> dict[str, Any]:
        return {"stage": self.stage, "same_key": self.same_key, "same_content": self.same_content}


@dataclass(frozen=True)
class NumberPair:
    """A quantity of both evaluations, either None where only one has it."""

    before: Quantity | None
    now: Quantity | None

    @property
    def key(self) -> str:
        quantity = self.before or self.now
        assert quantity is not None
        return quantity.key

    @property
    def is_exact(self) -> bool:
        """Whether it follows from the file alone, so that nothing but the same value agrees: counts, sizes, scores.

        What a person's own objective gives may follow from anything."""
        quantity = self.before or self.now
        return quantity is not None and quantity.environment_id is None and "source" not in quantity.detail

    @property
    def is_score(self) -> bool:
        """Whether it is an accuracy of some kind: measured, and a share."""
        quantity = self.before or self.now
        return self.is_exact and quantity is not None and quantity.how is How.MEASURED and quantity.unit == "1"

    @property
    def images(self) -> int | None:
        """How many images more are told right now; None of what is no plain share of them."""
        if not self.is_score or self.before is None or self.now is None or "balanced" in self.before.name:
            return None
        sizes = [quantity.detail.get("samples") for quantity in (self.before, self.now)]
        if sizes[0] is None or sizes[0] != sizes[1]:
            return None
        return round((self.now.value - self.before.value) * int(sizes[0]))

    @property
    def within(self) -> bool:
        """Whether the second value lies inside the first one's interval; without one, whether it is the same."""
        before, now = self.before, self.now
        if before is None or now is None or before.low is None or before.high is None:
            return self.same
        return before.low <= now.value <= before.high

    @property
    def same(self) -> bool:
        return self.before is not None and self.now is not None and self.before.value == self.now.value

    @property
    def same_environment(self) -> bool:
        """Whether both were measured by the same machine and software."""
        return (
            self.before is not None and self.now is not None and self.before.environment_id == self.now.environment_id
        )

    @property
    def ratio(self) -> float | None:
        """The second value divided by the first; None where there is none."""
        if self.before is None or self.now is None or self.before.value == 0:
            return None
        return self.now.value / self.before.value

    @property
    def overlap(self) -> bool:
        """Whether their 95 % intervals do; of numbers without one, whether they are equal."""
        before, now = self.before, self.now
        if before is None or now is None:
            return False
        if before.low is None or before.high is None or now.low is None or now.high is None:
            return before.value == now.value
        return before.low <= now.high and now.low <= before.high

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "before": None if self.before is None else self.before.to_json(),
            "now": None if self.now is None else self.now.to_json(),
            "same": self.same,
            "within": self.within,
            "overlap": self.overlap,
            "ratio": self.ratio,
            "images": self.images,
            "same_environment": self.same_environment,
        }


@dataclass(frozen=True)
class Reproduction:
    """A trial evaluated twice.

    Args:
        before: Its record in the study.
        now: What it came to now, as a record of the same number.
        stages: The cached stages of both.
        numbers: What was measured and counted of both.
        same_artifact: Whether the files that ship are the same to the bit.
        differences: What the evaluations depend on and is not the same, in words: threads, versions, machine.
        inputs: What was not done again but taken from the study, in words.
    """

    before: TrialRecord
    now: TrialRecord
    stages: tuple[StagePair, ...]
    numbers: tuple[NumberPair, ...]
    same_artifact: bool
    differences: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()

    @property
    def weights(self) -> Weights:
        """Of the float network; what pruning, fine-tuning and fewer bits make of it shows in the file."""
        found = next((pair.same_content for pair in self.stages if pair.stage in WEIGHTS), None)
        if found is not None:
            return Weights.SAME if found else Weights.OTHERS
        return Weights.SAME_BY_FILE if self.same_artifact else Weights.UNKNOWN

    @property
    def accuracy(self) -> NumberPair:
        """The accuracies of both."""
        return next(pair for pair in self.numbers if pair.key == "accuracy")

    @property
    def latencies(self) -> tuple[NumberPair, ...]:
        """The design's latencies, of those targets that both were measured on."""
        return tuple(
            pair
            for pair in self.numbers
            if pair.before is not None and pair.now is not None and pair.before.name == "latency_ms"
        )

    @property
    def scores_agree(self) -> bool:
        """Whether each score of now lies within the interval of the earlier one."""
        return all(pair.within for pair in self.numbers if pair.is_score)

    @property
    def verdict(self) -> Verdict:
        """Of the network, not of its speed: latencies are measured anew on a machine that is never quite the same."""
        if self.now.outcome is not Outcome.MEASURED:
            return Verdict.DIFFERS
        if self.same_artifact and all(pair.same for pair in self.numbers if pair.is_exact):
            return Verdict.IDENTICAL
        return Verdict.AGREES if self.scores_agree else Verdict.DIFFERS

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.before.number,
            "verdict": str(self.verdict),
            "outcome": str(self.now.outcome),
            "reason": None if self.now.reason is None else self.now.reason.to_json(),
            "weights": self.weights.name.lower(),
            "same_artifact": self.same_artifact,
            "artifact_sha256": {"before": self.before.artifact_sha256, "now": self.now.artifact_sha256},
            "environment": {"before": dict(self.before.environment), "now": dict(self.now.environment)},
            "differences": list(self.differences),
            "inputs": list(self.inputs),
            "stages": [pair.to_json() for pair in self.stages],
            "numbers": [pair.to_json() for pair in self.numbers],
        }


def pair_numbers(before: Sequence[Quantity], now: Sequence[Quantity]) -> tuple[NumberPair, ...]:
    """Quantities of two evaluations side by side, in the order of the first; proxies have no part in it."""
    first = {quantity.key: quantity for quantity in before if quantity.how is not How.PROXY}
    second = {quantity.key: quantity for quantity in now if quantity.how is not How.PROXY}
    return tuple(NumberPair(first.get(key), second.get(key)) for key in dict.fromkeys([*first, *second]))


def pair_stages(
    before: TrialRecord, now: TrialRecord, contents: Mapping[str, str], kept: Mapping[str, str]
) -> tuple[StagePair, ...]:
    """Cached stages of two evaluations side by side.

    Args:
        before: The trial's record.
        now: Its record of now.
        contents: Digests of the results of now, by key.
        kept: Digests of the study's results that its cache still has, by key.
    """
    earlier = {stage.stage: stage.key for stage in before.stages if stage.key}
    pairs = []
    for stage in now.stages:
        if not stage.key or stage.stage not in earlier:
            continue
        key = earlier[stage.stage]
        same = None if key not in kept or stage.key not in contents else kept[key] == contents[stage.key]
        pairs.append(StagePair(stage.stage, key == stage.key, same))
    return tuple(dict.fromkeys(pairs))
