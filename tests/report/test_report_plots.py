"""How a search went and what its choices decide, as pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from fakes import LATENCY, make_recipe, make_record, write_study
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from nas.front import hypervolume
from nas.outcome import Outcome
from nas.report.paper import COLOURS
from nas.report.plots import MOST_BARS, draw_history, draw_importance, duration
from nas.study import Study

OBJECTIVES = ["accuracy", LATENCY]


@dataclass(frozen=True)
class Choice:
    choice: str
    share: float
    low: float
    high: float
    clear: bool = True


@dataclass(frozen=True)
class Objective:
    key: str
    choices: tuple[Choice, ...]
    trials: int = 40
    best_share: float = 0.25


def make_study(folder: Path) -> Study:
    records = [make_record(0, outcome=Outcome.FAILED), make_record(1, 0.6, 0.1), make_record(2, 0.5, 0.2)]
    records += [make_record(3, 0.7, 0.1), make_record(4, 0.65, 0.02)]
    records = [replace(record, seconds=60.0 * (record.number + 1)) for record in records]
    return write_study(folder, records, make_recipe(objectives=OBJECTIVES))


def test_the_hypervolume_over_trials_and_over_time(tmp_path: Path, figures: list[Figure]) -> None:
    study = make_study(tmp_path / "digits")
    words = draw_history(study, tmp_path / "history.svg", 3.4)
    over_trials, over_time = figures[0].axes
    assert study.reference is not None
    objectives = study.recipe.parsed_objectives
    volumes = [hypervolume(study.records[:count], study.reference, objectives) for count in range(1, 6)]
    for axes, x in ((over_trials, [1, 2, 3, 4, 5]), (over_time, [1, 3, 6, 10, 15])):  # minutes
        steps, dots = axes.lines
        assert np.allclose(steps.get_xdata(), [0, *x])
        assert np.allclose(steps.get_ydata(), [0, *volumes])
        assert np.allclose(dots.get_xdata(), [x[1], x[3], x[4]])  # trials 1, 3 and 4 raised it
        low, high = axes.get_ylim()
        assert low < volumes[1]
        assert high > volumes[-1]
    assert over_time.get_xlabel() == "time of the search (min)"
    assert f"{volumes[-1]:.3f} in the end, raised by 3 trials" in words
    assert "reference" in words
    assert "latency 1 ms" in words


@pytest.mark.parametrize(("width", "rows"), [(3.4, 2), (7.0, 1)])
def test_panels_stand_beside_each_other_where_there_is_room(
    tmp_path: Path, figures: list[Figure], width: float, rows: int
) -> None:
    draw_history(make_study(tmp_path / "digits"), tmp_path / "history.png", width)
    assert len({round(axes.get_position().y0, 3) for axes in figures[0].axes}) == rows


def test_a_history_without_measured_trials(tmp_path: Path, figures: list[Figure]) -> None:
    study = write_study(tmp_path / "s", [make_record(0, outcome=Outcome.FAILED)])
    assert "no trial was measured yet" in draw_history(study, tmp_path / "history.pdf", 3.4)
    assert figures[0].axes[0].texts[0].get_text() == "No trial was measured yet."


def test_a_history_of_one_trial(tmp_path: Path, figures: list[Figure]) -> None:
    words = draw_history(write_study(tmp_path / "s", [make_record(0)]), tmp_path / "history.pdf", 3.4)
    assert "1 trial" in words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0, "0 s"), (42.0, "42 s"), (179.0, "179 s"), (750.0, "12.5 min"), (11160.0, "3.1 h")]
)
def test_times_in_the_unit_that_suits_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def found_importances() -> list[Objective]:
    many = tuple(Choice(f"stage{n}.width", 0.3 / n, 0.2 / n, 0.5 / n, n < 3) for n in range(1, 16))
    return [Objective("accuracy", many), Objective(LATENCY, (Choice("weight_bits", 1.0, 0.9, 1.0),))]


def test_a_bar_for_each_choice_with_its_interval_the_most_important_first(
    tmp_path: Path, figures: list[Figure]
) -> None:
    words = draw_importance(make_study(tmp_path / "digits"), found_importances(), tmp_path / "i.svg", 3.4)
    first, second = figures[0].axes
    assert [text.get_text() for text in second.get_yticklabels()] == ["weight bits"]
    assert len(first.patches) == MOST_BARS
    assert [bar.get_width() for bar in first.patches] == pytest.approx([30 / n for n in range(1, MOST_BARS + 1)])
    assert first.get_yticklabels()[0].get_text() == "stage1 width"
    assert first.yaxis_inverted()
    assert first.get_title(loc="left") == f"Validation accuracy ({MOST_BARS} of 15 choices)"
    colours = [to_hex(bar.get_facecolor()) for bar in first.patches]
    assert colours[:2] == [COLOURS[0]] * 2
    assert COLOURS[0] not in colours[2:]  # not told apart from chance
    (intervals,) = (container for container in first.containers if isinstance(container, ErrorbarContainer))
    ends = [tuple(segment[:, 0]) for segment in intervals[2][0].get_segments()]
    assert ends[0] == pytest.approx((20, 50))
    assert "latency (ONNX Runtime, CPU, 1 thread, batch 1)" in words
    assert "best 25 % of 40 measured trials" in words


@pytest.mark.parametrize(("count", "width"), [(1, 3.4), (2, 3.4), (2, 7.0), (3, 7.0)])
def test_any_number_of_objectives(tmp_path: Path, figures: list[Figure], count: int, width: float) -> None:
    found = [*found_importances(), Objective("size_bytes", ())][-count:]
    draw_importance(make_study(tmp_path / "digits"), found, tmp_path / "i.pdf", width)
    assert len(figures[0].axes) == count
    renderer = figures[0].canvas.get_renderer()
    for axes in figures[0].axes:
        box = axes.get_tightbbox(renderer)
        assert box is not None
        assert box.x0 >= -1
        assert box.x1 <= figures[0].bbox.width + 1
    if count < 3:
        return
    assert "the same in all trials" in [text.get_text() for text in figures[0].axes[-1].texts]
