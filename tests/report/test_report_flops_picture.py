"""The picture of FLOPs against latency shows every design once, the front, the worst disagreements and τ."""

from __future__ import annotations

import dataclasses
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import LATENCY, TARGET, make_design, make_recipe, make_record, write_study
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from nas.commands.terminal import write_reports
from nas.errors import StudyError
from nas.outcome import How, Outcome, Quantity
from nas.record import TrialRecord
from nas.report.disagreement import rankings
from nas.report.flops_picture import draw_flops
from nas.study import Study


def make_trial(number: int, flops: float, latency_ms: float, accuracy: float = 0.9) -> TrialRecord:
    design = make_design(pruning_ratio=number / 1000, weight_bits=8 if number % 2 else 32)
    record = make_record(number, accuracy, latency_ms, design=design)
    kept = tuple(q for q in record.quantities if q.key != "flops")
    return dataclasses.replace(record, quantities=(*kept, Quantity("flops", flops, "FLOP", How.COUNTED)))


def make_study(folder: Path, name: str = "digits", **recipe) -> Study:
    """12 designs, the more FLOPs the slower, but for two that are far too slow."""
    records = [make_trial(n, 1e5 * 1.5**n, 0.01 * 1.4**n, 0.6 + 0.03 * n) for n in range(12)]
    records[1], records[2] = make_trial(1, 1.5e5, 0.3, 0.3), make_trial(2, 2.2e5, 0.2, 0.3)
    records += [make_record(12, outcome=Outcome.FAILED)]
    return write_study(folder / name, records, make_recipe(**recipe) if recipe else None)


def drawn(study: Study, path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Figure, Axes]:
    """The figure and its axes, to look at where things are."""
    kept: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *args: object, **options: Any) -> None:
        kept.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    draw_flops(study, path)
    return kept[0], kept[0].axes[0]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def legend_texts(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_a_png_beside_the_front(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    draw_flops(study, study.folder.flops_picture)
    content = study.folder.flops_picture.read_bytes()
    assert study.folder.flops_picture == study.folder.path / "flops.png"
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) >= (1600, 1000)
    draw_flops(study, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == content


def test_every_design_is_a_point_in_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path)
    figure, axes = drawn(study, tmp_path / "p.png", monkeypatch)
    points = np.concatenate([np.asarray(group.get_offsets()) for group in axes.collections if len(group.get_offsets())])
    expected = sorted((record.value("flops"), record.value(LATENCY)) for record in study.measured)
    np.testing.assert_allclose(sorted(p for p in points.tolist() if p != [0, 0]), expected)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert all(left < x < right and bottom < y < top for x, y in expected)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "FLOPs: less is better"
    assert axes.get_ylabel() == f"latency (ms) on {TARGET}: less is better"
    assert "on the front" in legend_texts(axes)
    assert figure.get_figwidth() == 8.4


def test_tau_and_target_stand_in_the_heading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path)
    (ranking,) = rankings(study)
    assert ranking.tau is not None
    heading, below = texts(drawn(study, tmp_path / "p.png", monkeypatch)[0])
    assert heading == "digits: FLOPs against latency"
    parts = below.split("  ·  ")
    assert parts[0] == f"Kendall's τ {ranking.tau:.2f} over 12 designs"
    assert parts[1] == f"{100 * ranking.wrong / ranking.pairs:.0f} % of pairs in the wrong order"
    assert parts[2] == "ONNX Runtime, CPU, 1 thread, batch 1"


def test_the_worst_disagreements_are_lines_and_their_trials_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path)
    (ranking,) = rankings(study)
    assert len(ranking.worst) == 5
    _, axes = drawn(study, tmp_path / "p.png", monkeypatch)
    lines = {tuple(map(tuple, np.asarray(line.get_xydata()).tolist())) for line in axes.lines}
    for pair in ranking.worst:
        assert tuple((point.flops, point.latency.value) for point in (pair.fewer, pair.more)) in lines
    named = {text.get_text() for text in axes.texts if text.get_text()}
    assert {"trial 1", "trial 2"} <= named
    assert named == {f"trial {point.number}" for pair in ranking.worst for point in (pair.fewer, pair.more)}
    assert "fewer FLOPs, yet slower (the worst)" in legend_texts(axes)


def test_without_disagreement_there_are_no_lines_but_that_of_equal_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [make_trial(n, 1e5 * 2**n, 0.01 * 2**n) for n in range(6)]
    _, axes = drawn(write_study(tmp_path / "equal", records), tmp_path / "p.png", monkeypatch)
    (line,) = axes.lines
    x, y = np.asarray(line.get_xydata()).T
    np.testing.assert_allclose(x / y, 1e7)  # FLOPs per ms, of every one of these designs
    assert "fewer FLOPs, yet slower (the worst)" not in legend_texts(axes)
    assert "equal FLOPs per second" in legend_texts(axes)
    assert [text for text in axes.texts if text.get_text()] == []


def test_trials_that_break_a_constraint_are_crosses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, axes = drawn(make_study(tmp_path, constraints=[f"{LATENCY} <= 0.15"]), tmp_path / "p.png", monkeypatch)
    assert "breaks a constraint" in legend_texts(axes)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([], "Too few designs to compare FLOPs with latency: 0 with both"),
        ([make_record(0, outcome=Outcome.FAILED)], "Too few designs to compare FLOPs with latency: 0 with both"),
        ([make_record(0)], "Too few designs to compare FLOPs with latency: 1 with both"),
        ([make_trial(n, 1e6, 0.1 + n) for n in range(5)], "All 5 designs have the same FLOPs (1.00 M)"),
        ([make_trial(n, 1e6 + n, 0.1) for n in range(5)], "All 5 designs have the same latency"),
    ],
    ids=["empty", "failed", "one", "equal FLOPs", "equal latency"],
)
def test_studies_with_little_to_show_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[TrialRecord], says: str
) -> None:
    study = write_study(tmp_path / "little", records)
    figure, axes = drawn(study, tmp_path / "p.png", monkeypatch)
    assert any(text.startswith(says) for text in [*texts(figure), *(text.get_text() for text in axes.texts)])


def test_a_study_that_measures_no_latency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(0)
    record = dataclasses.replace(record, quantities=tuple(q for q in record.quantities if q.name != "latency_ms"))
    recipe = make_recipe(objectives=["accuracy", "flops"], targets=[])
    _, axes = drawn(write_study(tmp_path / "without", [record], recipe), tmp_path / "p.png", monkeypatch)
    assert [text.get_text() for text in axes.texts] == ["This study measures no latency."]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"flops\.png cannot be written"):
        draw_flops(make_study(tmp_path), tmp_path / "file" / "flops.png")


def written(study: Study) -> list[str]:
    stream = io.StringIO()
    write_reports(Console(file=stream, width=1000), study)
    return stream.getvalue().splitlines()


def test_reports_are_written_and_a_fresh_start_deletes_them(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    lines = written(study)
    (ranking,) = rankings(study)
    assert lines[:2] == [ranking.summary, f"For example, {ranking.worst[0].words}."]
    pictures = ("pareto.png", "pareto.svg", "pareto.pdf", "flops.png")
    files = ("front.csv", "front.json", *pictures, "report.html")
    assert [line for line in lines if line.startswith("wrote")] == lines[-len(files) :]
    assert lines[-len(files) :] == [f"wrote {study.folder.path / name}" for name in files]
    assert study.folder.flops_picture in study.folder.own()
    with study.folder.claim():
        study.folder.clear()
    assert not any((study.folder.path / name).exists() for name in files)


def test_a_study_without_trials_prints_only_where_files_went(tmp_path: Path) -> None:
    lines = written(write_study(tmp_path / "none", []))
    assert len(lines) == 7
    assert all(line.startswith("wrote ") for line in lines)
