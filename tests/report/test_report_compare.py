"""Studies against each other: hypervolumes, who covers whom, who is ahead where; the table and the picture."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from compared_studies import study_of, told, two_studies
from fakes import TARGET, make_record
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from nas.front import hypervolume, non_dominated
from nas.objectives import Objective
from nas.report.compare import Comparison, Lead, compare, find_leads
from nas.report.compare_picture import draw_comparison
from nas.report.compare_table import verdict
from nas.study import Study

COST, QUALITY = Objective("latency_ms", TARGET), Objective("accuracy")


@pytest.fixture
def two(tmp_path: Path) -> list[Study]:
    return two_studies(tmp_path)


# --- who covers whom -------------------------------------------------------------------------------------------------


def test_hypervolumes_are_against_one_reference_the_worst_of_both(two: list[Study]) -> None:
    faster = study_of(two[0].folder.path.parent / "c", (0.6, 0.01), (0.9, 0.02))
    comparison = compare([two[0], faster])
    assert comparison.reference.values == (0.0, pytest.approx(1.0))  # ten times 0.1 ms, not ten times 0.01
    for contender in comparison.contenders:
        assert contender.volume == hypervolume(contender.study.records, comparison.reference, [QUALITY, COST])
    alone = [hypervolume(study.records, study.reference, [QUALITY, COST]) for study in (two[0], faster)]
    assert comparison.contenders[0].volume == alone[0]
    assert comparison.contenders[1].volume > alone[1]


def test_coverage_counts_members_that_are_matched_or_beaten(two: list[Study]) -> None:
    comparison = compare(two)
    assert [record.number for record in comparison.contenders[0].front] == [0, 1, 2]
    assert comparison.covered(0, 1) == 2  # (0.70, 0.1) by a's first, (0.85, 0.3) by its second
    assert comparison.covered(1, 0) == 1  # (0.86, 0.8)
    assert comparison.covered(0, 0) == 3
    assert "2 of 3, 67 %" in told(comparison)
    assert verdict(comparison).startswith("No front dominates another")


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=6), st.data())
def test_coverage_is_what_its_definition_says(ours: list[tuple[int, int]], data: st.DataObject) -> None:
    theirs = data.draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=6))
    fronts = [[make_record(n, q / 5, c / 10) for n, (q, c) in enumerate(points)] for points in (ours, theirs)]
    kept = []
    for front in fronts:
        values = np.array([(r.value(COST.key), r.value(QUALITY.key)) for r in front])
        kept.append([r for r, keep in zip(front, non_dominated(values, (False, True)), strict=True) if keep])
    comparison = object.__new__(Comparison)
    comparison.__dict__["points"] = [
        np.array([(r.value(QUALITY.key), -r.value(COST.key)) for r in front]) for front in kept
    ]
    expected = sum(
        any(a.value(QUALITY.key) >= b.value(QUALITY.key) and a.value(COST.key) <= b.value(COST.key) for a in kept[0])
        for b in kept[1]
    )
    assert comparison.covered(0, 1) == expected


def test_who_dominates_whom(tmp_path: Path) -> None:
    worse = study_of(tmp_path / "worse", (0.7, 0.2), (0.8, 0.4))
    better = study_of(tmp_path / "better", (0.7, 0.1), (0.9, 0.4))
    twin = study_of(tmp_path / "twin", (0.7, 0.2), (0.8, 0.4))
    assert verdict(compare([worse, better])).startswith("B dominates A:")
    assert verdict(compare([worse, twin])) == "The fronts are equal."
    assert verdict(compare([worse, better, twin])).startswith("B dominates A and B dominates C:")
    comparison = compare([worse, better])
    assert comparison.short_of(1, 0) <= 0
    lacked = np.log10(0.2 / 0.1) / 3, 0.9 - 0.8  # of latency, whose axis has three decades; of accuracy, from 0 to 1
    assert comparison.short_of(0, 1) == pytest.approx(max(lacked))


# --- who is ahead where ----------------------------------------------------------------------------------------------


def test_who_is_ahead_over_which_range(two: list[Study]) -> None:
    comparison = compare(two)
    # a: 0.80 from 0.1 ms, 0.85 from 0.2 ms, 0.86 from 0.8 ms; b: 0.70 from 0.1, 0.85 from 0.3, 0.95 from 0.4.
    expected = [
        Lead(0.1, 0.3, 0, pytest.approx(0.10), pytest.approx(0.15), 1.0),
        Lead(0.3, 0.4, None, 0.0, 0.0, 0.0),
        Lead(0.4, None, 1, pytest.approx(0.09), pytest.approx(0.10), 1.0),
    ]
    assert comparison.leads == expected
    ahead = comparison.shares_ahead()
    assert ahead == pytest.approx([np.log(3) / np.log(8), np.log(2) / np.log(8)])
    text = told(comparison)
    assert "0.100 ms to 0.300 ms" in text
    assert "10.00 to 15.00" in text
    assert "level" in text
    assert "A over 53 % and B over 33 %" in " ".join(text.split())
    assert "≈" not in text


def test_below_the_cheapest_design_of_the_others_there_is_no_rival() -> None:
    fronts = [[make_record(0, 0.6, 0.1), make_record(1, 0.7, 0.2)], [make_record(0, 0.9, 0.4)]]
    first, second = find_leads(fronts, COST, QUALITY)
    assert first == Lead(0.1, 0.4, 0, None, None, 1.0)
    assert (second.leader, second.low, second.high) == (1, 0.4, None)


def test_overlapping_intervals_are_told(tmp_path: Path) -> None:
    # The intervals of made records are a point wide on either side.
    a = study_of(tmp_path / "a", (0.80, 0.1))
    close, far = study_of(tmp_path / "b", (0.815, 0.1)), study_of(tmp_path / "c", (0.825, 0.1))
    assert compare([a, close]).leads[0].clear == 0
    assert compare([a, far]).leads[0].clear == 1
    assert "≈ overlap" in told(compare([a, close]))
    assert "do not say that one study is better" in " ".join(told(compare([a, close])).split())
    assert "≈" not in told(compare([a, far]))


@given(st.lists(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=5), min_size=2, max_size=4))
def test_leads_are_without_gaps_and_right_at_every_cost(points: list[list[tuple[int, int]]]) -> None:
    fronts = [[make_record(n, q / 10, c / 10) for n, (q, c) in enumerate(front)] for front in points]
    leads = find_leads(fronts, COST, QUALITY)
    if not any(points):
        assert leads == []
        return
    assert all(one.high == two.low for one, two in itertools.pairwise(leads))
    assert leads[-1].high is None
    for tenth in range(1, 12):
        cost = tenth / 10 + 0.05
        best = [max((q / 10 for q, c in front if c / 10 <= cost), default=None) for front in points]
        there = [value for value in best if value is not None]
        lead = next((lead for lead in leads if lead.low <= cost and (lead.high is None or cost < lead.high)), None)
        if not there:
            assert lead is None
            continue
        assert lead is not None
        top = [index for index, value in enumerate(best) if value == max(there)]
        assert lead.leader == (top[0] if len(top) == 1 else None)
        if len(there) == 1:
            assert lead.least is None
        else:
            assert lead.least is not None
            assert lead.most is not None
            second = sorted(there)[-2]
            assert lead.least - 1e-9 <= max(there) - second <= lead.most + 1e-9


def test_a_front_in_all_objectives_is_the_study_s_own(two: list[Study]) -> None:
    assert two[0].front_in([QUALITY, COST]) is two[0].front


# --- how it is told --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4, 8])
def test_the_table_fits_80_columns_whatever_the_names(tmp_path: Path, count: int) -> None:
    names = [f"[bold]{n}<b>&-{'long-name-' * 6}" for n in range(count)]
    studies = [study_of(tmp_path / name, (0.8 + n / 100, 0.1), (0.95, 0.5)) for n, name in enumerate(names)]
    text = told(compare(studies))
    assert max(map(len, text.splitlines())) <= 80
    assert "[bold]0<b>&" in text


def test_the_picture_shows_every_front_with_its_hypervolume(
    two: list[Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k)))
    comparison = compare(two)
    words = draw_comparison(comparison, tmp_path / "compare.svg", 3.4)
    (legend,) = figures[0].legends
    entries = [text.get_text() for text in legend.get_texts()]
    assert entries == [
        f"A a: 3 trials, hypervolume {comparison.contenders[0].volume:.3f}",
        f"B b: 3 trials, hypervolume {comparison.contenders[1].volume:.3f}",
    ]
    lines = [line for line in figures[0].axes[0].lines if len(line.get_xdata()) > 3]
    assert len({line.get_color() for line in lines}) == len({line.get_linestyle() for line in lines}) == 2
    assert legend.get_window_extent(figures[0].canvas.get_renderer()).x1 <= figures[0].bbox.width + 1
    assert "hypervolumes against validation accuracy 0 %, latency 1 ms" in words


def test_a_picture_of_studies_one_of_which_has_no_front(tmp_path: Path) -> None:
    comparison = compare([study_of(tmp_path / "a", (0.8, 0.1)), study_of(tmp_path / "b")])
    draw_comparison(comparison, tmp_path / "compare.pdf")
    assert (tmp_path / "compare.pdf").read_bytes().startswith(b"%PDF")
