"""The front for a paper: vector files with embedded fonts, readable at a column's width, everything told apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study
from large_study import make
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from nas.errors import StudyError
from nas.outcome import How, Outcome, Quantity
from nas.record import TrialRecord
from nas.report.paper import COLOURS, COLUMN_INCHES, SHAPES, check_picture
from nas.report.paper_front import caption, draw_paper_front, write_paper_pictures
from nas.study import Study

POINTS_AN_INCH = 72


def foreseen(number: int, outcome: Outcome, accuracy: float, latency_ms: float) -> TrialRecord:
    """A trial that was given up, with what was known of it."""
    proxies = (
        Quantity("predicted_accuracy", accuracy, "1", How.PROXY),
        Quantity("predicted_latency_ms", 99.0, "ms", How.PROXY, target=TARGET),
        Quantity("proxy_latency_ms", latency_ms, "ms", How.PROXY, target=TARGET),  # timed, so better than foretold
    )
    return replace(make_record(number, outcome=outcome), quantities=proxies)


def mixed_study(folder: Path) -> Study:
    records = [make_record(n, 0.7 + 0.02 * n, 0.01 * 1.5**n, origin="asked" if n else "baseline") for n in range(8)]
    records += [make_record(8, 0.75, 0.1), make_record(9, 0.76, 0.2)]
    records += [foreseen(10, Outcome.SCREENED, 0.72, 0.12), foreseen(11, Outcome.STOPPED, 0.74, 0.15)]
    records += [make_record(12, outcome=Outcome.SCREENED), make_record(13, outcome=Outcome.FAILED)]
    return write_study(
        folder, records, make_recipe(objectives=["accuracy", LATENCY], constraints=[f"{LATENCY} <= 0.15"])
    )


def labels_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def offsets(axes: Axes) -> Iterator[tuple[float, float]]:
    """The places of all points drawn."""
    for collection in axes.collections:
        if isinstance(collection, PathCollection):
            yield from (tuple(map(float, place)) for place in np.asarray(collection.get_offsets()))


def test_two_vector_files_beside_the_picture_that_are_the_same_each_time(tmp_path: Path) -> None:
    study = mixed_study(tmp_path / "digits")
    paths = write_paper_pictures(study)
    assert [path.name for path in paths] == ["pareto.svg", "pareto.pdf"]
    assert {path.parent for path in paths} == {study.folder.path}
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_paper_pictures(study)] == before


def test_fonts_are_embedded_whole_and_nothing_is_a_bitmap(tmp_path: Path) -> None:
    svg, pdf = write_paper_pictures(mixed_study(tmp_path / "digits"))
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    assert b"/FontFile2" in content  # a TrueType font lies in the file
    assert b"/Subtype /Type3" not in content
    assert b"/Subtype /Image" not in content
    text = svg.read_text()
    assert "<text" not in text  # letters are outlines, whatever fonts the reader has
    assert "<image" not in text


def test_it_is_as_wide_as_a_column_and_its_letters_can_be_read(tmp_path: Path, figures: list[Figure]) -> None:
    study = mixed_study(tmp_path / "digits")
    draw_paper_front(study, tmp_path / "front.svg")
    width = re.search(r'<svg [^>]*width="([\d.]+)pt"', (tmp_path / "front.svg").read_text())
    assert width is not None
    assert float(width[1]) == pytest.approx(COLUMN_INCHES * POINTS_AN_INCH)
    (axes,) = figures[0].axes
    words = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
    words += figures[0].legends[0].get_texts()
    assert min(text.get_size() for text in words) >= 6
    for width_inches, size in ((3.4, 7), (7.0, 9)):
        draw_paper_front(study, tmp_path / "front.pdf", width_inches)
        assert figures[-1].axes[0].xaxis.label.get_size() == size


def test_nothing_is_cut_off(tmp_path: Path, figures: list[Figure]) -> None:
    for width in (2.5, 3.4, 7.0):
        draw_paper_front(mixed_study(tmp_path / "digits"), tmp_path / "front.png", width)
        figure = figures[-1]
        renderer = figure.canvas.get_renderer()
        legend, axes = figure.legends[0].get_window_extent(renderer), figure.axes[0].get_tightbbox(renderer)
        assert axes is not None
        for box in (legend, axes):
            assert box.x0 >= -1
            assert box.x1 <= figure.bbox.width + 1
            assert box.y0 >= -1
            assert box.y1 <= figure.bbox.height + 1
        assert axes.y1 <= legend.y0 + 1  # the legend hides nothing


def test_what_was_measured_what_breaks_a_constraint_and_what_was_foreseen_are_told_apart(
    tmp_path: Path, figures: list[Figure]
) -> None:
    study = mixed_study(tmp_path / "digits")
    draw_paper_front(study, tmp_path / "front.png")
    names = labels_of(figures[0])
    expected = {"front, 95 % intervals", "baseline", "breaks a constraint", "screened (foreseen)", "stopped (foreseen)"}
    assert expected <= set(names)
    assert len(set(names)) == len(names)
    places = set(offsets(figures[0].axes[0]))
    assert (0.12, 0.72) in places  # screened: timed untrained, its accuracy foretold
    assert (0.15, 0.74) in places
    for record in study.measured:
        assert (record.value(LATENCY), record.value("accuracy")) in places
    assert len(places) == len(study.measured) + 2  # nothing is known of trials 12 and 13


def test_the_front_is_a_step_line_with_intervals_on_both_axes(tmp_path: Path, figures: list[Figure]) -> None:
    study = mixed_study(tmp_path / "digits")
    draw_paper_front(study, tmp_path / "front.png")
    (axes,) = figures[0].axes
    line = max((np.asarray(line.get_xydata()) for line in axes.lines), key=len)
    members = [(r.value(LATENCY), r.value("accuracy")) for r in study.front]
    assert all(any(np.allclose(member, corner) for corner in line) for member in members)
    steps = np.diff(line, axis=0)
    assert ((steps == 0).sum(axis=1) >= 1).all()  # to the right or upward, never both
    assert (steps >= -1e-12).all()
    bars = [segment for bar in axes.containers for part in bar[2] for segment in part.get_segments()]
    assert len(bars) == 2 * len(members)
    spans = {tuple(np.round(np.ptp(bar, axis=0) > 0, 0)) for bar in bars}
    assert spans == {(True, False), (False, True)}


def test_every_kind_has_a_colour_and_a_shape_of_its_own_that_colour_blind_people_tell_apart() -> None:
    assert len(set(COLOURS)) == len(COLOURS) == len(SHAPES) == len(set(SHAPES))
    # Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009,
    # at severity 1: protanopia, deuteranopia.
    for matrix in (
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ):
        seen = [np.array(matrix) @ np.array(to_rgb(colour)) for colour in COLOURS]
        apart = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
        assert min(apart) > 0.1


def test_a_caption_tells_how_many_of_each(tmp_path: Path) -> None:
    words = caption(mixed_study(tmp_path / "digits"))
    assert words.startswith("Validation accuracy against latency (ONNX Runtime, CPU, 1 thread, batch 1) of 10 measured")
    assert "crosses: 2 trials that break a constraint" in words
    assert "open: 1 screened out and 1 stopped early, where they were foreseen and not measured" in words
    assert "not shown: 2 trials" in words


def test_more_objectives_are_named_in_the_caption(tmp_path: Path, figures: list[Figure]) -> None:
    records = [make_record(n, 0.7 + 0.02 * n, 0.01 * 1.5**n) for n in range(4)]
    study = write_study(tmp_path / "s", records, make_recipe(objectives=["accuracy", LATENCY, "size_bytes"]))
    draw_paper_front(study, tmp_path / "front.pdf")
    assert "which is a front for file size too" in caption(study)


@pytest.mark.parametrize("records", [[], [make_record(0, outcome=Outcome.FAILED)]])
def test_a_study_without_measured_trials_says_so(
    tmp_path: Path, records: list[TrialRecord], figures: list[Figure]
) -> None:
    draw_paper_front(write_study(tmp_path / "s", records), tmp_path / "front.pdf")
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["No trial was measured yet."]


def test_one_trial_alone(tmp_path: Path, figures: list[Figure]) -> None:
    draw_paper_front(write_study(tmp_path / "s", [make_record(0)]), tmp_path / "front.pdf")
    assert labels_of(figures[0]) == ["front, 95 % intervals", "float32"]


def test_a_name_with_mathematical_signs_is_no_formula(tmp_path: Path) -> None:
    study = write_study(tmp_path / "a$b_$<i>", [make_record(0), make_record(1, 0.95, 0.3)])
    for path in write_paper_pictures(study):
        assert path.stat().st_size > 1000
    assert "a$b_$&lt;i&gt;" in (study.folder.path / "pareto.svg").read_text()


def test_what_cannot_be_drawn_is_refused_in_one_line(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", [make_record(0)])
    for path, width, message in (
        (tmp_path / "x.jpg", 3.4, r"must end in .png, .svg or .pdf"),
        (tmp_path / "x", 3.4, r"must end in"),
        (tmp_path / "x.pdf", 1.0, r"2.5 to 20 inches wide, but got 1"),
        (tmp_path / "x.pdf", float("nan"), r"inches wide, but got nan"),
    ):
        with pytest.raises(StudyError, match=message) as caught:
            draw_paper_front(study, path, width)
        assert caught.value.hint
        assert not path.exists()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(StudyError, match="is a folder"):
        check_picture(tmp_path / "folder.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be written"):
        draw_paper_front(study, tmp_path / "file" / "x.pdf")


def test_many_trials_stay_a_small_file(tmp_path: Path) -> None:
    study = make(tmp_path / "large", trials=400)
    for path in write_paper_pictures(study):
        assert path.stat().st_size < 500_000
