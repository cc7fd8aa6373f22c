"""What a trial gains: against the study's baseline, and against the float network that its design was pruned from.

The two are different questions. The baseline is one network for the whole study: the space's starting point, or the
model that a person brought along. The network before compression is another one for each trial: the same architecture
as trained, exported and timed in the same way, which tells how much of what pruning took off the count of
multiply-adds also came off the clock.

Where a trial takes little longer than a call that computes nothing (``overhead_bound``), its time is the runtime's and
not the network's: a ratio of latencies is then told as a fact and not as a gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from nas.objectives import Objective
from nas.outcome import Outcome, Quantity
from nas.record import TrialRecord
from nas.study import Study
from nas.wording import UNCOMPRESSED, display, plain_name, significant, times

BASELINE = "baseline"  # the origin of its record

# Said in place of a gain in time that is none of the network's.
OVERHEAD_WORDS = "overhead-bound"


class Measured(Protocol):
    """What has quantities by key: a record, a deployment."""

    def quantity(self, key: str) -> Quantity | None: ...


@dataclass(frozen=True)
class Comparison:
    """A trial beside its study's baseline.

    Args:
        trial: The baseline's number.
        words: ``2.3× faster than the baseline, 0.4 points less accurate (validation)``.
        speed_up: The baseline's latency divided by the trial's; None where one of them has none on the target.
        accuracy_difference: The trial's accuracy on validation data less the baseline's, a fraction.
    """

    trial: int
    words: str
    speed_up: float | None
    accuracy_difference: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Comparison:
        """Reads what ``to_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or of the wrong kind.
        """
        speed_up = data["speed_up"]
        difference = float(data["accuracy_difference"])
        return cls(int(data["trial"]), str(data["words"]), None if speed_up is None else float(speed_up), difference)


def baseline_of(study: Study) -> TrialRecord | None:
    """The trial of the study's baseline; None where it has none, or where that was not measured."""
    return next((r for r in study.records if r.origin == BASELINE and r.outcome is Outcome.MEASURED), None)


def finalists(study: Study) -> list[TrialRecord]:
    """The trials that are confirmed in the end, on test data and in turns: the front, and the study's baseline."""
    baseline = baseline_of(study)
    return [*study.front, *([baseline] if baseline is not None and baseline not in study.front else [])]


def confirmed(study: Study) -> list[TrialRecord]:
    """The finalists, and whoever else is on the front as trials were told; each once.

    The latter are off it by their turns alone, and have another one the next time. The files of all these stay in the
    cache.
    """
    return list({record.number: record for record in [*finalists(study), *study.front_as_told]}.values())


def files_that_stay(study: Study) -> set[str]:
    """Digests of the files that stay in a study's cache whatever its limit."""
    return {sha for record in confirmed(study) for sha in record.files}


def overhead_bound(trial: Measured, target: str | None) -> bool:
    """Whether a trial's latency on a target (or at a place) is within 3 times that of a call that computes nothing."""
    latency = trial.quantity(f"latency_ms@{target}")
    return latency is not None and bool(latency.detail.get("overhead_bound"))


def mac_gain(trial: Measured) -> float | None:
    """Multiply-adds of the network before compression divided by the trial's; None where they were not counted."""
    return _ratio(trial.quantity(f"{UNCOMPRESSED}macs"), trial.quantity("macs"))


def latency_gain(trial: Measured, target: str | None) -> float | None:
    """Latency of the network before compression divided by the trial's; None where it was not measured there."""
    key = f"latency_ms@{target}"
    before, after = trial.quantity(f"{UNCOMPRESSED}{key}"), trial.quantity(key)
    if before is not None and after is not None and before.environment_id != after.environment_id:
        return None  # measured on two machines
    return _ratio(before, after)


def gain_words(trial: Measured, target: str | None) -> str:
    """Both gains: ``MACs 3.9× fewer, 2.1× faster than uncompressed``; empty where there are none.

    Where fewer multiply-adds save no time the words say so: ``MACs 1.3× fewer, but 1.1× slower than uncompressed``.
    Where the trial is overhead-bound no gain of time is told: ``MACs 3.9× fewer than uncompressed; overhead-bound``.
    """
    macs, latency = mac_gain(trial), latency_gain(trial, target)
    if latency is not None and overhead_bound(trial, target):
        fewer = f"MACs {times(macs, 'fewer', 'more', 'no fewer')} than uncompressed; " if macs is not None else ""
        return f"{fewer}{OVERHEAD_WORDS}"
    parts = []
    if macs is not None:
        parts.append(f"MACs {times(macs, 'fewer', 'more', 'no fewer')}")
    if latency is not None:
        said = times(latency, "faster", "slower", "no faster")
        in_vain = macs is not None and macs > 1 and not said.endswith("× faster")
        parts.append(f"but {said}" if in_vain else said)
    return f"{', '.join(parts)} than uncompressed" if parts else ""


def speed_up(trial: Measured, baseline: Measured, target: str | None) -> float | None:
    """The baseline's latency on a target divided by the trial's; None where one of them has none."""
    key = f"latency_ms@{target}"
    return _ratio(baseline.quantity(key), trial.quantity(key))


def compare(study: Study, record: TrialRecord, target: str | None) -> Comparison | None:
    """A measured trial beside the baseline: in latency on a target, or in the study's first cost, and in accuracy.

    Args:
        study: Whose baseline.
        record: The trial.
        target: What latency is compared on; None where the study measures none.

    Returns:
        The comparison; None where the study has no measured baseline.
    """
    baseline = baseline_of(study)
    if baseline is None or record.outcome is not Outcome.MEASURED:
        return None
    qualities = [o for o in study.recipe.parsed_objectives if o.maximise]
    quality = next((o for o in qualities if o.name == "accuracy"), qualities[0])
    difference = record.value(quality.key) - baseline.value(quality.key)
    ratio = speed_up(record, baseline, target)
    if record.number == baseline.number:
        return Comparison(baseline.number, "the baseline itself", ratio, difference)
    cost = Objective("latency_ms", target) if ratio else _first_cost(study)
    words = f"{_cost_words(record, baseline, cost)}, {_accuracy_words(difference)} (validation)"
    return Comparison(baseline.number, words, ratio, difference)


def _ratio(before: Quantity | None, after: Quantity | None) -> float | None:
    if before is None or after is None or min(before.value, after.value) <= 0:
        return None
    return before.value / after.value


def _first_cost(study: Study) -> Objective:
    return next(o for o in study.recipe.parsed_objectives if not o.maximise)


def _cost_words(record: TrialRecord, baseline: TrialRecord, cost: Objective) -> str:
    """``2.3× faster than the baseline``, ``3.1× fewer FLOPs than the baseline``, ``as much file size as …``.

    Of an overhead-bound trial: ``overhead-bound (0.0120 ms, the baseline's 0.0281 ms)``.
    """
    ratio = _ratio(baseline.quantity(cost.key), record.quantity(cost.key))
    what = plain_name(cost.key)
    bound = cost.name == "latency_ms" and overhead_bound(record, cost.target)
    if ratio is None or bound:  # one of them costs nothing, or nothing but the call
        value, other = (display(cost.name, trial.value(cost.key)) for trial in (record, baseline))
        return (
            f"{OVERHEAD_WORDS} ({value}, the baseline's {other})"
            if bound
            else f"{what} {value}, the baseline's {other}"
        )
    if cost.kind.unit == "ms":
        does = "" if cost.name == "latency_ms" else f" in {what}"
        said = times(ratio, f"faster{does} than", f"slower{does} than", f"as fast{does} as")
    elif cost.kind.unit == "bytes":
        said = times(ratio, f"less {what} than", f"more {what} than", f"as much {what} as")
    else:
        said = times(ratio, f"fewer {what} than", f"more {what} than", f"as many {what} as")
    return f"{said} the baseline"


def _accuracy_words(difference: float) -> str:
    """``0.4 points less accurate``; an accuracy that differs at all is never said to be the same."""
    if difference == 0:
        return "as accurate"
    points = significant(100 * abs(difference), 2, zeros=False)
    return f"{points} point{'' if points == '1' else 's'} {'less' if difference < 0 else 'more'} accurate"
