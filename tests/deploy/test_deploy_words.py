"""Comparisons as a person reads them."""

from __future__ import annotations

import pytest
from fakes import LATENCY

from nas.deploy import words
from nas.objectives import Constraint, Objective


@pytest.mark.parametrize(
    ("name", "difference", "text"),
    [
        ("accuracy", 0.003, "0.3 points"),
        ("accuracy", 0.01, "1 point"),
        ("accuracy", 0.00001, "0.001 points"),
        ("latency_ms", 0.02 - 0.015, "0.005 ms"),
        ("latency_ms", 1e-6, "0.000001 ms"),
        ("size_bytes", 120, "120 B"),
        ("size_bytes", 12_000, "12 kB"),
        ("flops", 1_500_000, "1.5 M"),
    ],
)
def test_gaps(name: str, difference: float, text: str) -> None:
    assert words.gap(name, difference) == text


@pytest.mark.parametrize(
    ("name", "old", "new", "text"),
    [
        ("accuracy", 0.95, 0.97, "+2.00 points"),
        ("accuracy", 0.97, 0.95, "−2.00 points"),
        ("latency_ms", 0.02, 0.015, "−25.0 %"),
        ("size_bytes", 100, 150, "+50.0 %"),
        ("flops", 0, 100, "from 0"),
    ],
)
def test_changes(name: str, old: float, new: float, text: str) -> None:
    assert words.change(name, old, new) == text


@pytest.mark.parametrize(
    ("constraint", "value", "text"),
    [
        (f"{LATENCY} <= 0.015", 0.02, "0.0200 ms, 0.005 ms too much"),
        (f"{LATENCY} <= 0.015", 0.01502, "0.01502 ms, 0.00002 ms too much"),
        ("accuracy >= 0.95", 0.94, "94.00 %, 1 point short"),
        ("accuracy >= 0.95", 0.94999, "94.999 %, 0.001 points short"),
        ("size_bytes <= 9990", 10_000, "10.0 kB, 10 B too much"),
        ("size_bytes <= 100", 10_900, "10.9 kB, 10.8 kB too much"),
        ("size_bytes <= 10", 10_900, "10.9 kB, 1,090 times the limit"),
        ("size_bytes <= 1", 10_000, "10.0 kB, 10,000 times the limit"),
        (f"{LATENCY} <= 0.00001", 0.0123, "0.0123 ms, 1,230 times the limit"),
        ("accuracy >= 0.9", 0.45, "45.00 %, 45 points short"),  # points, not what it has
    ],
)
def test_a_value_that_misses_a_limit_never_reads_like_it(constraint: str, value: float, text: str) -> None:
    parsed = Constraint.parse(constraint)
    assert words.value_and_miss(parsed, value) == text
    assert words.miss(parsed, value) == text.split(", ")[1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("latency_ms", "fastest"),
        ("size_bytes", "smallest"),
        ("balanced_accuracy", "most accurate"),
        ("flops", "lowest in FLOPs"),
        ("peak_memory_bytes", "lowest in peak memory"),
    ],
)
def test_superlatives(name: str, text: str) -> None:
    assert words.superlative(Objective(name)) == text
