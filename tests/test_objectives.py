"""Objectives and constraints: their texts, what is refused, and how far a limit is missed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import RecipeError
from nas.objectives import KINDS, Constraint, Objective

TARGET = "onnxruntime-cpu-1t-b1"


def text_of(name: str) -> str:
    return f"{name}@{TARGET}" if KINDS[name].needs_target else name


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_parses_and_its_key_parses_back(name: str) -> None:
    objective = Objective.parse(text_of(name))
    assert objective.key == text_of(name)
    assert Objective.parse(objective.key) == objective
    assert objective.kind is KINDS[name]
    assert objective.target == (TARGET if KINDS[name].needs_target else None)


@pytest.mark.parametrize("name", KINDS)
def test_only_accuracies_are_better_when_there_is_more(name: str) -> None:
    objective = Objective.parse(text_of(name))
    assert objective.maximise == name.endswith("accuracy")
    assert objective.direction == ("maximize" if name.endswith("accuracy") else "minimize")


def test_spaces_around_an_objective_do_not_matter() -> None:
    assert Objective.parse("  flops\n") == Objective("flops")


@pytest.mark.parametrize("target", ["nonsense", "openvino-cpu-4t-b8", "a@b"])
def test_the_target_is_left_to_what_measures(target: str) -> None:
    assert Objective.parse(f"latency_ms@{target}").target == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acuracy", "unknown objective 'acuracy'; did you mean 'accuracy'"),
        ("latency", "unknown objective 'latency'; did you mean 'latency_ms'"),
        ("", "unknown objective ''; valid: accuracy"),
        ("@onnxruntime-cpu-1t-b1", "unknown objective ''"),
        ("latency_ms", f"'latency_ms' must say what it is measured on.*write 'latency_ms@{TARGET}'"),
        ("load_ms@", "'load_ms' must say what it is measured on, but got 'load_ms@'"),
        (
            f"accuracy@{TARGET}",
            f"'accuracy' does not depend on a target, but got 'accuracy@{TARGET}'.*write 'accuracy'",
        ),
        ("flops@", "'flops' does not depend on a target"),
        ("uncompressed_macs", "unknown objective 'uncompressed_macs'"),
        (f"uncompressed_latency_ms@{TARGET}", "unknown objective 'uncompressed_latency_ms'"),
    ],
)
def test_a_malformed_objective_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Objective.parse(text)


@pytest.mark.parametrize(
    ("text", "key", "at_most", "limit"),
    [
        ("size_bytes <= 100000", "size_bytes <= 100000", True, 100000.0),
        ("size_bytes<=1e5", "size_bytes <= 100000", True, 100000.0),
        ("  accuracy  >=  .95 ", "accuracy >= 0.95", False, 0.95),
        (f"latency_ms@{TARGET} <= 0.05", f"latency_ms@{TARGET} <= 0.05", True, 0.05),
        (f"latency_ms@{TARGET}<=2", f"latency_ms@{TARGET} <= 2", True, 2.0),
    ],
)
def test_a_constraint_in_its_spellings(text: str, key: str, at_most: bool, limit: float) -> None:
    constraint = Constraint.parse(text)
    assert (constraint.key, constraint.at_most, constraint.limit) == (key, at_most, limit)
    assert Constraint.parse(constraint.key) == constraint


@settings(deadline=None)
@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False), st.booleans())
def test_a_constraints_key_keeps_every_digit_of_its_limit(limit: float, at_most: bool) -> None:
    constraint = Constraint(Objective("macs"), at_most, limit)
    assert Constraint.parse(constraint.key) == constraint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size_bytes < 100", "must read 'NAME <= LIMIT' or 'NAME >= LIMIT', but got 'size_bytes < 100'"),
        ("size_bytes", "must read 'NAME <= LIMIT'.*for example 'size_bytes <= 100000'"),
        ("size_bytes <= 100 000", "must read 'NAME <= LIMIT'"),
        ("<= 3", "must read 'NAME <= LIMIT'"),
        ("", "must read 'NAME <= LIMIT'"),
        ("size_bytes <= many", "limit of a constraint must be a number, but got 'many' in 'size_bytes <= many'"),
        ("size_bytes <= 0", "must be greater than 0 and finite, but got 0 in"),
        ("size_bytes <= -5", "must be greater than 0 and finite, but got -5 in"),
        ("size_bytes <= nan", "must be greater than 0 and finite, but got nan in"),
        ("size_bytes <= inf", "must be greater than 0 and finite, but got inf in"),
        ("size_bytes <= 1e999", "must be greater than 0 and finite, but got 1e999 in"),
        ("size <= 5", "unknown objective 'size'; did you mean 'size_bytes'"),
        ("latency_ms <= 5", "'latency_ms' must say what it is measured on"),
    ],
)
def test_a_malformed_constraint_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Constraint.parse(text)


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [
        ("size_bytes <= 100", 150, 0.5),
        ("size_bytes <= 100", 100, 0.0),
        ("size_bytes <= 100", 0, -1.0),
        ("accuracy >= 0.8", 0.6, 0.25),
        ("accuracy >= 0.8", 0.8, 0.0),
        ("accuracy >= 0.8", 1.0, -0.25),
    ],
)
def test_violation_is_relative_to_the_limit(text: str, value: float, violation: float) -> None:
    assert math.isclose(Constraint.parse(text).violation(value), violation, abs_tol=1e-12)


positive = st.floats(min_value=1e-6, max_value=1e12)


@settings(deadline=None)
@given(positive, positive, st.booleans())
def test_a_value_that_meets_the_limit_never_violates_it(limit: float, value: float, at_most: bool) -> None:
    constraint = Constraint(Objective("macs"), at_most, limit)
    if value <= limit if at_most else value >= limit:
        assert constraint.violation(value) <= 0
    elif abs(value / limit - 1) > 1e-12:
        assert constraint.violation(value) > 0
