"""Who is on the front once the turns have been: among whom they decide, and among whom not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fakes import LATENCY, make_recipe, make_record

from nas.record import TrialRecord
from nas.study.decided import decided_in_turns

# Trial 4 is beaten by the numbers that trials were told with; 0 is the baseline.
TOLD = {0: (0.80, 0.5), 1: (0.85, 0.1), 2: (0.90, 0.2), 3: (0.95, 0.4), 4: (0.92, 0.45)}
MEMBERS = [1, 2, 3]


def timed(number: int, latency_ms: float, key: str = LATENCY) -> TrialRecord:
    """A trial of these as its turns found it."""
    record = make_record(number, *TOLD[number])
    turn = {"value": latency_ms, "low": 0.99 * latency_ms, "high": 1.01 * latency_ms, "detail": {"in_turns": True}}
    found = [replace(q, **turn) if q.key == key else q for q in record.quantities]
    return replace(record, quantities=tuple(found))


def decide(turns: Mapping[int, TrialRecord], members: list[int] = MEMBERS, **changes: object) -> list[int]:
    records = [make_record(number, *told) for number, told in TOLD.items()]
    recipe = make_recipe(**changes)
    return sorted(decided_in_turns(members, records, turns, recipe.parsed_objectives, recipe.parsed_constraints))


def decided(latencies: Mapping[int, float], **changes: object) -> list[int]:
    return decide({number: timed(number, latency_ms) for number, latency_ms in latencies.items()}, **changes)


def test_the_front_is_that_of_the_turns() -> None:
    assert decided({0: 0.5, 1: 0.1, 2: 0.2, 3: 0.4, 4: 0.45}) == [1, 2, 3]
    assert decided({0: 0.5, 1: 0.1, 2: 0.2, 3: 0.4, 4: 0.3}) == [1, 2, 3, 4]
    assert decided({0: 0.5, 1: 0.1, 2: 0.2, 3: 0.4, 4: 0.19}) == [1, 3, 4], "2 is slower and less accurate"
    assert decided({1: 0.21, 2: 0.2, 3: 0.4}) == [2, 3]


def test_what_nobody_can_tell_apart_changes_nothing() -> None:
    """Intervals are 1 % to either side."""
    assert decided({1: 0.1, 2: 0.2, 3: 0.4, 4: 0.199}) == [1, 2, 3, 4], "2 may be as fast"
    assert decided({1: 0.1, 2: 0.2, 3: 0.4, 4: 0.393}) == [1, 2, 3], "3 may be as fast, and is more accurate"
    assert decided({1: 0.1, 2: 0.2, 3: 0.4, 4: 0.39}) == [1, 2, 3, 4]


def test_of_two_that_nobody_can_tell_apart_one_joins() -> None:
    """Where neither was on the front."""
    both = {4: 0.1, 0: 0.1005}
    assert decide({number: timed(number, latency_ms) for number, latency_ms in both.items()}, []) == [4]
    alike = {number: replace(timed(4, 0.1), number=number) for number in (0, 4)}
    assert decide(alike, []) == [0], "the earlier"


def test_a_trial_without_a_turn_does_not_get_on_the_front_by_them() -> None:
    slow = {number: 2 * TOLD[number][1] for number in MEMBERS}  # 0.8 ms of trial 3; 4 as told takes 0.45 ms
    assert decided(slow) == [1, 2, 3]


def test_nor_off_it() -> None:
    """Trial 3 came later: it stays, and takes away nobody that it does not beat by both readings."""
    assert decided({1: 0.3, 2: 0.2}) == [2, 3]
    assert decided({1: 0.1, 2: 0.2, 4: 0.3}) == [1, 2, 3, 4], "4 won its turns, though 3 beats it as told"
    assert decided({1: 0.1, 2: 0.2, 4: 0.41}) == [1, 2, 3], "by both readings"


def test_without_turns_the_front_is_as_told() -> None:
    assert decided({}) == [1, 2, 3]
    assert decide({number: timed(number, 0.1, "macs") for number in TOLD}) == [1, 2, 3], "their latency had no turn"
    assert decided(dict.fromkeys(TOLD, 0.1), objectives=["accuracy", "macs"]) == [1, 2, 3], "it is not compared"


def test_a_limit_is_met_that_one_of_the_readings_meets() -> None:
    limits = {"constraints": [f"{LATENCY} <= 0.42"]}
    assert decided({1: 0.1, 2: 0.2, 3: 0.43, 4: 0.3}, **limits) == [1, 2, 3, 4], "4 by its turns, 3 as told"
    assert decided({1: 0.1, 2: 0.2, 3: 0.4, 0: 0.43}, constraints=[f"{LATENCY} <= 0.42"]) == [1, 2, 3]
