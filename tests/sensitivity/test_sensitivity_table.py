"""The table in the terminal: what stands in it, at 80 columns."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from sensitivity_fakes import make_sensitivity, make_stage, two_stages

from nas.sensitivity.result import Effect, Sensitivity, Setting, Stage
from nas.sensitivity.table import sensitivity_table
from nas.sensitivity.words import is_noise, points, refusals


def printed(sensitivity: Sensitivity, colours: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=colours, color_system="standard" if colours else None)
    console.print(sensitivity_table(sensitivity))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        (None, "–"), (0.0, "0.00"), (0.0035, "0.35"), (0.09994, "9.99"), (0.09996, "10.0"), (0.123, "12.3"),
        (1.0, "100.0"), (-0.001, "−0.10"), (-0.00001, "0.00"),
    ],
)  # fmt: skip
def test_points(lost: float | None, text: str) -> None:
    assert points(lost) == text


@pytest.mark.parametrize(
    ("lost", "error", "noise"), [(0.0, 0.0, True), (0.001, 0.0, False), (0.01, 0.005, True), (-0.011, 0.005, False)]
)
def test_noise_is_what_lies_within_two_standard_errors(lost: float, error: float, noise: bool) -> None:
    assert is_noise(Effect(Setting(0.5), lost, error, 1, 1, 1)) is noise
    assert not is_noise(Effect(Setting(0.5)))


def test_a_row_for_each_stage_with_shares_losses_and_savings() -> None:
    lines = printed(two_stages()).splitlines()
    assert "Sensitivity of trial 12 of digits" in lines[0]
    assert "98.00 % on 1,000 images; standard error of a loss up to 0.10 points" in "\n".join(lines)
    (row,) = [number for number, line in enumerate(lines) if line.startswith("b ")]
    # Share of MACs, of parameters; −50 %; 8/8; 4/32.
    assert lines[row].split() == ["b", "40.0", "70.0", "3.00", "0.40", "2.00"]
    assert lines[row + 1].split() == ["−30", "%", "−52", "%", "−61", "%"]
    (row,) = [number for number, line in enumerate(lines) if line.startswith("a ")]
    assert lines[row].split() == ["a", "60.0", "30.0", "1.00", "0.20", "–"]
    assert max(map(len, lines)) <= 80


def test_a_stage_where_nothing_can_be_done_is_no_zero() -> None:
    nothing = Stage("classifier", "classifier", 0, 0, (Effect(Setting(0.5), reason="the classes stay"),))
    sensitivity = replace(two_stages(), stages=(*two_stages().stages, nothing))
    (line,) = [line for line in printed(sensitivity).splitlines() if line.startswith("classifier")]
    assert line.split() == ["classifier", "0.0", "0.0", "–", "–", "–"]


def test_what_was_refused_is_said_once_with_its_reason() -> None:
    refused = tuple(Effect(Setting(ratio), refused=True, reason="it cannot be traced") for ratio in (0.25, 0.5))
    sensitivity = make_sensitivity(Stage("a", "a", 500, 500, refused), Stage("b", "b", 500, 500, refused[:1]))
    assert refusals(sensitivity) == ["a −25 %, a −50 %, b −25 %: it cannot be traced"]
    assert "Refused: a −25 %, a −50 %, b −25 %: it cannot be traced" in printed(sensitivity)


@pytest.mark.parametrize(
    ("lost", "error", "code"),
    [
        (0.004, 0.001, "\x1b[32m0.40"),
        (0.004, 0.01, "\x1b[2;32m0.40"),
        (0.015, 0.01, "\x1b[2m1.50"),
        (0.015, 0.001, "\x1b[33m1.50"),
        (0.08, 0.001, "\x1b[31m8.00"),
        (0.2, 0.001, "\x1b[1;31m20.0"),
    ],
)
def test_losses_are_coloured_by_size_and_faint_where_they_may_be_chance(lost: float, error: float, code: str) -> None:
    assert code in printed(make_sensitivity(make_stage("a", 1, 1, {0.5: (lost, 1, 1)}, error=error)), colours=True)


def test_names_that_look_like_markup_stay_as_they_are() -> None:
    assert "[red]x[/k]" in printed(
        replace(make_sensitivity(make_stage("[b]", 1, 1, {0.5: (0, 1, 1)})), study="[red]x[/k]")
    )
