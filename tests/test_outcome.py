"""Quantities and reasons: their keys, their JSON both ways, and that no number is NaN or infinite."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from strategies import quantities, reasons

from nas.outcome import How, Outcome, Quantity, Realisation, Reason


@settings(deadline=None)
@given(quantities)
def test_a_quantity_goes_through_json_unchanged(quantity: Quantity) -> None:
    assert Quantity.from_json(json.loads(json.dumps(quantity.to_json(), allow_nan=False))) == quantity


@settings(deadline=None)
@given(reasons)
def test_a_reason_goes_through_json_unchanged(reason: Reason) -> None:
    assert Reason.from_json(json.loads(json.dumps(reason.to_json()))) == reason


def test_what_a_quantity_does_not_have_is_left_out() -> None:
    assert Quantity("macs", 3, "MAC", How.COUNTED).to_json() == {
        "name": "macs",
        "value": 3,
        "unit": "MAC",
        "how": "counted",
    }


def test_the_key_names_the_target_where_there_is_one() -> None:
    assert Quantity("accuracy", 0.5, "1", How.MEASURED).key == "accuracy"
    assert Quantity("latency_ms", 0.5, "ms", How.MEASURED, target="a-b").key == "latency_ms@a-b"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["value", "low", "high"])
def test_a_number_that_is_not_finite_is_refused(part: str, number: float) -> None:
    parts: dict[str, Any] = {"value": 1.0, "low": 0.5, "high": 2.0} | {part: number}
    with pytest.raises(ValueError, match=rf"a quantity must be finite, but load_ms@t is .*{number}"):
        Quantity("load_ms", unit="ms", how=How.MEASURED, target="t", **parts)


@pytest.mark.parametrize(
    "change", [{"how": "guessed"}, {"value": None}, {"value": "3"}, {"surplus": 1}, {"value": math.nan}]
)
def test_malformed_json_is_refused(change: dict[str, Any]) -> None:
    data = Quantity("macs", 3, "MAC", How.COUNTED).to_json() | change
    with pytest.raises((ValueError, TypeError)):
        Quantity.from_json(data)


@pytest.mark.parametrize("kind", [Outcome, How, Realisation])
def test_names_are_written_as_they_read(kind: type[Outcome] | type[How] | type[Realisation]) -> None:
    for member in kind:
        assert str(member) == member.name.lower()
        assert kind(json.loads(json.dumps(member))) is member
