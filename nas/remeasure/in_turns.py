"""The finalists timed in turns, A B C A B C …: whatever drifts on the machine meanwhile hits all of them alike.

Trials are measured minutes or hours apart, so that two of a front may differ by what the machine did in between. In
turns they differ by what they are, and where their intervals still overlap nobody can say which is faster. Trials that
may be off the front by a disturbance alone have a turn too (``nas.remeasure.contenders``), and the turns decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nas.errors import StudyError
from nas.measure.clock import NANOSECONDS_PER_MS, Policy, bootstrap_interval
from nas.measure.latency import OVERHEAD_BOUND
from nas.measure.measurer import ROUNDS, TURN, Measurer
from nas.measurements import AMBIGUOUS_WITH, Measurements, write_measurements
from nas.outcome import How, Quantity
from nas.record import TrialRecord, utc_now
from nas.remeasure.contenders import to_be_timed
from nas.remeasure.surroundings import surroundings_of
from nas.serving import at_place, server_of, services
from nas.study import Study
from nas.target import Target

# The rounds are shared among so many fresh processes: where code and weights come to lie in memory alone makes a
# model of 10 µs 3 % faster or slower from process to process. Where several targets serve, they too take turns.
PASSES = 4

# More disturbed rounds than this share of them make a latency unstable.
MOST_DISTURBED = 0.25

# What a trial's earlier measurement knows better than its turns.
_CARRIED = ("threads", "cores", "overhead_ms")

Progress = Callable[[float], None]


@dataclass
class _Timed:
    """What a model gave in its turns on one target: samples in nanoseconds and troubles, round by round."""

    passes: int
    rounds: list[np.ndarray] = field(default_factory=list)
    troubles: list[tuple[str, ...]] = field(default_factory=list)


def time_front(
    study: Study,
    measurer: Measurer,
    images: np.ndarray,
    progress: Progress | None = None,
    rounds: int = ROUNDS,
    turn: Policy = TURN,
) -> Measurements | None:
    """Times the finalists (front and baseline) and who contends with them in turns, each where it is served, and keeps
    what came of it.

    A latency is the median of the rounds' medians, its 95 % interval the bootstrap's over the rounds or over the
    passes, whichever is wider: each pass is a process of its own, and what varies from process to process is what a
    later measurement would differ by. Turns of which more than ``MOST_DISTURBED`` were disturbed are taken once more,
    and the less disturbed count. Members whose intervals overlap are named in the detail
    of each other's latency. The caller has claimed the study's folder.

    Args:
        study: Whose finalists and contenders; those whose files are gone from the cache are left out.
        measurer: Measures.
        images: Inputs as the artifacts take them, N×….
        progress: Hears which share is done, 0 to 1.
        rounds: How often each has its turn.
        turn: When a turn stops sampling.

    Returns:
        What was measured, which now lies in the study's folder too; None where there is no latency or no file to time.

    Raises:
        StudyError: The study was measured in another environment.
        UnsupportedError, ArtifactError, MeasureError: As ``Measurer.turns``.
    """
    groups = _groups(study)
    if not groups:
        return None
    fingerprints = {target: measurer.environment_id(target) for target in groups}
    _check_environment(study, groups, fingerprints)
    timed = _take_turns(study, measurer, groups, images, progress or (lambda _: None), rounds, turn)
    by_key: dict[str, dict[int, Quantity]] = {}
    for (number, target), taken in timed.items():
        before = study.record(number).quantity(f"latency_ms@{target.name}")
        quantity = _quantity(taken, target, before, fingerprints[target])
        at_places = [
            at_place([quantity], s, target) for s in services(study.recipe) if _serves(study, number, s.name, target)
        ]
        for item in (quantity, *(q for items in at_places for q in items)):
            by_key.setdefault(item.key, {})[number] = item
    quantities: dict[int, tuple[Quantity, ...]] = {}
    for members in by_key.values():
        for number, quantity in _with_ambiguous(members).items():
            quantities[number] = (*quantities.get(number, ()), quantity)
    found = Measurements("front", utc_now(), quantities, surroundings_of(measurer, groups))
    return write_measurements(study.folder.measurements, found, _samples(timed))


def _groups(study: Study) -> dict[Target, list[TrialRecord]]:
    """Whom the turns are for, by the targets that serve them, as far as their files are in the cache."""
    groups: dict[Target, list[TrialRecord]] = {}
    everybody = to_be_timed(study)
    for service in services(study.recipe):
        for record in everybody:
            target = server_of(record.quantity(f"latency_ms@{service.name}"))
            if target is None or record in groups.get(target, ()):
                continue
            sha = record.file_for(target.form)
            if sha is not None and study.store.read_blob(sha) is not None:
                groups.setdefault(target, []).append(record)
    return groups


def _serves(study: Study, number: int, place: str, target: Target) -> bool:
    return server_of(study.record(number).quantity(f"latency_ms@{place}")) == target


def _check_environment(
    study: Study, groups: Mapping[Target, Sequence[TrialRecord]], fingerprints: Mapping[Target, str]
) -> None:
    """Refuses to put numbers of this machine beside those of another."""
    for target, members in groups.items():
        for record in members:
            latency = record.quantity(f"latency_ms@{target.name}")
            there = latency.environment_id if latency is not None else None
            if there != fingerprints[target]:
                raise StudyError(
                    f"{study.folder.path} was measured in another environment ({there or 'unknown'}) than this "
                    f"({fingerprints[target]}, {target.name}), so its front cannot be timed here",
                    f"measure all of it here: nas measure {study.folder.path}",
                )


def _take_turns(
    study: Study,
    measurer: Measurer,
    groups: Mapping[Target, Sequence[TrialRecord]],
    images: np.ndarray,
    progress: Progress,
    rounds: int,
    turn: Policy,
) -> dict[tuple[int, Target], _Timed]:
    """Samples of every member, round by round; the targets' groups alternate."""
    files = {target: [study.artifact(record, target.form) for record in members] for target, members in groups.items()}
    passes = min(PASSES, rounds)
    timed = {(record.number, target): _Timed(passes) for target, members in groups.items() for record in members}
    steps = [(index, target) for index in range(passes) for target in groups]
    for step, (index, target) in enumerate(steps):
        progress(step / len(steps))
        share = rounds // passes + (index < rounds % passes)
        measurer.start_anew(target)
        turns = measurer.turns(files[target], target, images, share, turn)
        if _disturbed(turns.troubles) > MOST_DISTURBED:
            again = measurer.turns(files[target], target, images, share, turn)
            turns = min(turns, again, key=lambda taken: _disturbed(taken.troubles))
        for record, samples in zip(groups[target], turns.samples_ns, strict=True):
            taken = timed[record.number, target]
            taken.rounds += samples
            taken.troubles += turns.troubles
    progress(1.0)
    return timed


def _disturbed(troubles: Sequence[tuple[str, ...]]) -> float:
    """The share of the rounds that were disturbed."""
    return sum(bool(names) for names in troubles) / len(troubles)


def _quantity(taken: _Timed, target: Target, before: Quantity | None, environment_id: str) -> Quantity:
    """``latency_ms`` of one member: what its turns say, and what was known of the target before."""
    medians = np.array([float(np.median(samples)) for samples in taken.rounds]) / NANOSECONDS_PER_MS
    samples = np.concatenate(taken.rounds) / NANOSECONDS_PER_MS
    value = float(np.median(medians))
    # Whichever is wider: what varies from round to round, or from process to process.
    intervals = [bootstrap_interval(medians, blocks=blocks) for blocks in (len(medians), taken.passes)]
    low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
    first, third, p95 = (float(number) for number in np.percentile(samples, [25, 75, 95]))
    disturbed = [names for names in taken.troubles if names]
    known = dict(before.detail) if before is not None else {}
    detail: dict[str, float | int | str | bool] = {
        "p95": p95,
        "iqr": third - first,
        "samples": len(samples),
        "unstable": _disturbed(taken.troubles) > MOST_DISTURBED,
        "fps": 1000 * target.batch / value,
        "batch": target.batch,
        "in_turns": True,
        "rounds": len(medians),
        "processes": taken.passes,
    }
    if detail["unstable"]:
        detail["why_unstable"] = ", ".join(sorted({name for names in disturbed for name in names}))
    detail |= {name: known[name] for name in _CARRIED if name in known}
    if "overhead_ms" in detail:
        detail["overhead_bound"] = value < OVERHEAD_BOUND * float(detail["overhead_ms"])
    return Quantity(
        "latency_ms",
        value,
        "ms",
        How.MEASURED,
        target=target.name,
        low=min(low, value),
        high=max(high, value),
        environment_id=environment_id,
        detail=detail,
    )


def _with_ambiguous(members: Mapping[int, Quantity]) -> dict[int, Quantity]:
    """The latencies of one key, each with the trials whose intervals overlap with its own."""
    marked = {}
    for number, quantity in members.items():
        others = [str(n) for n, other in sorted(members.items()) if n != number and _overlap(quantity, other)]
        detail = {**quantity.detail, AMBIGUOUS_WITH: ",".join(others)} if others else quantity.detail
        marked[number] = replace(quantity, detail=detail)
    return marked


def _overlap(first: Quantity, second: Quantity) -> bool:
    ends = (first.low, first.high, second.low, second.high)
    if any(end is None for end in ends):
        return False
    low, high, other_low, other_high = (float(end) for end in ends if end is not None)
    return low <= other_high and other_low <= high


def _samples(timed: Mapping[tuple[int, Target], _Timed]) -> dict[str, np.ndarray]:
    """Raw samples in ms (float32) under ``00012 onnxruntime-cpu-1t-b1``, and beside them how many each round has."""
    arrays = {}
    for (number, target), taken in timed.items():
        name = f"{number:05d} {target.name}"
        arrays[name] = (np.concatenate(taken.rounds) / NANOSECONDS_PER_MS).astype(np.float32)
        arrays[f"{name} rounds"] = np.array([len(samples) for samples in taken.rounds])
    return arrays
