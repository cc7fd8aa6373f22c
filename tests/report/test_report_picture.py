"""The picture is a valid file of decent size, and shows what the study has."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import LATENCY, TARGET, make_design, make_recipe, make_record, write_study
from matplotlib.figure import Figure

from nas.compression import BITS
from nas.errors import StudyError
from nas.objectives import Objective
from nas.outcome import How, Outcome, Quantity
from nas.record import TrialRecord
from nas.report import canvas, picture
from nas.report.categories import CODEBOOK, MIXED, convolution, precision, short_name
from nas.report.picture import View, draw_front
from nas.report.scales import set_cost_scale, set_quality_scale
from nas.report.scatter import COLOURS, MORE_COLOURS, styles
from nas.study import Study


def make_study(folder: Path, name: str = "digits", count: int = 12, **recipe) -> Study:
    load = (Quantity("load_ms", 12.0, "ms", How.MEASURED, target=TARGET),)
    records = [make_record(n, 0.6 + 0.39 * (n / count) ** 0.4, 0.01 * 1.6**n, quantities=load) for n in range(count)]
    records += [make_record(count + n, 0.5 + 0.01 * n, 0.05 * 1.4**n, quantities=load) for n in range(6)]
    records += [make_record(count + 6, outcome=Outcome.FAILED)]
    return write_study(folder / name, records, make_recipe(**recipe) if recipe else None)


def size_of_png(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_a_png_of_twice_the_usual_resolution(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    draw_front(study, study.folder.picture)
    width, height = size_of_png(study.folder.picture)
    assert (width, height) >= (1600, 1000)
    assert study.folder.picture.stat().st_size > 30_000


def test_the_same_study_gives_the_same_picture(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    for name in ("a.png", "b.png"):
        draw_front(study, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def svg(study: Study, path: Path) -> str:
    draw_front(study, path)
    return path.read_text()


def test_the_front_is_drawn_and_named(tmp_path: Path) -> None:
    study = make_study(tmp_path, "with")
    without = make_study(tmp_path, "without", constraints=[f"{LATENCY} <= 0.001"])
    assert not without.front
    drawn = svg(study, tmp_path / "with.svg")
    empty = svg(without, tmp_path / "without.svg")
    # Matplotlib notes each text of an SVG file in a comment.
    assert "front, with 95 % intervals" in drawn
    assert "front, with 95 % intervals" not in empty
    assert "breaks a constraint" in empty
    assert "0 of 19 trials on the front" in empty


def test_members_are_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(tmp_path)
    draw_front(study, tmp_path / "with.png")
    asked: list[int] = []

    def nowhere(points: list, *_: object) -> list[None]:
        asked.append(len(points))
        return [None] * len(points)

    monkeypatch.setattr(canvas, "place", nowhere)
    draw_front(study, tmp_path / "without.png")
    assert asked == [len(study.front)]
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_constraints_are_drawn_or_told(tmp_path: Path) -> None:
    constraints = [f"{LATENCY} <= 0.5", "accuracy >= 0.7", "size_bytes <= 100000"]
    drawn = svg(make_study(tmp_path, constraints=constraints), tmp_path / "c.svg")
    assert "latency at most 0.5 ms" in drawn
    assert "validation accuracy at least 70 %" in drawn
    assert "also required: file size at most 100 kB" in drawn


def test_axes_name_unit_and_target(tmp_path: Path) -> None:
    drawn = svg(make_study(tmp_path), tmp_path / "a.svg")
    assert f"latency (ms) on {TARGET}" in drawn
    assert "validation accuracy (%" in drawn
    assert "digits: validation accuracy against latency" in drawn
    assert "ONNX Runtime, CPU, 1 thread, batch 1" in drawn


@pytest.mark.parametrize(
    "objectives",
    [
        ["accuracy", LATENCY, "size_bytes"],
        ["accuracy", "params", "balanced_accuracy"],
        ["balanced_accuracy", LATENCY, f"load_ms@{TARGET}", "params"],
        ["flops", "accuracy"],
    ],
)
def test_more_or_other_objectives(tmp_path: Path, objectives: list[str]) -> None:
    study = make_study(tmp_path, objectives=objectives)
    view = View.of(study)
    assert view.quality.maximise
    assert not view.cost.maximise
    assert (view.third is None) == (len(objectives) == 2)
    draw_front(study, tmp_path / "p.png")
    assert size_of_png(tmp_path / "p.png") >= (1600, 1000)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [make_record(0, outcome=Outcome.FAILED)],
        [make_record(0)],
        [make_record(0, 1.0, 0.1), make_record(1, 1.0, 0.1)],
        [make_record(0, 0.0, 0.1), make_record(1, 1.0, 50.0)],
    ],
    ids=["empty", "failed", "one", "equal", "extreme"],
)
def test_studies_with_little_to_show(tmp_path: Path, records: list) -> None:
    draw_front(write_study(tmp_path / "little", records), tmp_path / "p.png")
    assert size_of_png(tmp_path / "p.png") >= (1600, 1000)


def test_a_name_with_mathematics_in_it_is_drawn_as_it_is(tmp_path: Path) -> None:
    assert "a$b_c$d: validation accuracy" in svg(make_study(tmp_path, "a$b_c$d"), tmp_path / "m.svg")


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"p\.png cannot be written"):
        draw_front(make_study(tmp_path), tmp_path / "file" / "p.png")


@pytest.mark.parametrize(("values", "scale"), [([0.01, 0.02], "linear"), ([0.01, 0.04], "log"), ([0.0, 5.0], "linear")])
def test_costs_get_a_logarithmic_axis_where_they_span_much(values: list[float], scale: str) -> None:
    axes = Figure().add_axes((0, 0, 1, 1))
    set_cost_scale(axes, Objective.parse(LATENCY), values)
    assert axes.get_xscale() == scale
    low, high = axes.get_xlim()
    assert low <= min(values)
    assert high >= max(values)


@pytest.mark.parametrize("values", [[0.01, 0.0301], [0.0109, 0.045], [0.003, 0.02], [1.0, 50.0]])
def test_a_logarithmic_axis_has_ticks_enough_to_read_it(values: list[float]) -> None:
    axes = Figure().add_axes((0, 0, 1, 1))
    for up in (False, True):
        set_cost_scale(axes, Objective.parse(LATENCY), values, up)
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        assert axis.get_scale() == "log"
        assert 3 <= sum(low <= tick <= high for tick in axis.get_majorticklocs()) <= 10
        assert axis.get_label_text() == f"latency (ms) on {TARGET}: less is better"


@pytest.mark.parametrize(
    ("front", "scale"), [([0.95, 0.98], "linear"), ([0.3, 0.98], "function"), ([0.9, 1.0], "function")]
)
def test_qualities_get_one_where_they_come_near_to_perfect(front: list[float], scale: str) -> None:
    axes = Figure().add_axes((0, 0, 1, 1))
    floor = set_quality_scale(axes, Objective("accuracy"), np.array([0.05, *front]), np.array(front))
    assert axes.get_yscale() == scale
    assert floor < min(front)
    assert axes.get_ylim()[1] >= max(front) or max(front) == 1.0


@pytest.mark.parametrize(
    ("compression", "expected"),
    [
        ({}, "float32"),
        ({"weight_bits": 8, "activation_bits": 8}, "int8"),
        ({"weight_bits": 8}, "int8 weights"),
        ({"weight_bits": 4}, "int4 weights"),
        ({"weight_bits": 4, "activation_bits": 8}, "W4A8"),
        ({"weight_bits": 8, "activation_bits": 16}, "W8A16"),
        ({"weight_bits": 16, "activation_bits": 16}, "fp16"),
        ({"weight_bits": 16}, "fp16 weights"),
        ({"weight_sharing": "kmeans", "codebook_bits": 3}, "codebook"),
        ({"weight_bits": 8, "stage1.weight_bits": 8}, "int8 weights"),
        ({"weight_bits": 8, "stage1.weight_bits": 4}, "mixed bits"),
        ({"stage1.weight_bits": 4, "stage2.weight_bits": 4}, "mixed bits"),
    ],
)
def test_precision_in_a_word(compression: dict, expected: str) -> None:
    assert precision(make_design(**compression)) == expected


def test_short_names_leave_out_what_all_share() -> None:
    records = [make_record(7, design=make_design(pruning_ratio=0.5)), make_record(8, design=make_design(weight_bits=8))]
    assert short_name(records[0], records) == "7 float32, −50 %"
    assert short_name(records[0], records[:1]) == "7 −50 %"
    assert convolution(records[0].design) == "separable"


@pytest.mark.parametrize(
    ("compression", "expected"),
    [
        ({"pruning_ratio": 0.25, "stage1.pruning_ratio": 0.75}, "3 −25…75 %"),
        ({"stage1.pruning_ratio": 0.5}, "3 −0…50 %"),
        ({"sparsity": 0.9}, "3 90 % zeros"),
        ({"weight_sharing": "kmeans", "codebook_bits": 3}, "3 3-bit codebook"),
    ],
)
def test_short_names_of_other_compression(compression: dict, expected: str) -> None:
    record = make_record(3, design=make_design(**compression))
    assert short_name(record, [record]) == expected


def test_every_way_to_compute_has_a_colour_of_its_own() -> None:
    ways = {precision(make_design(weight_bits=weights, activation_bits=acts)) for weights, acts in BITS}
    ways |= {CODEBOOK, MIXED}
    colours = styles(sorted(ways), COLOURS, MORE_COLOURS)
    assert colours.keys() == ways
    assert len(set(colours.values())) == len(ways)


def test_the_page_has_the_same_ways_to_compute() -> None:
    script = (Path(picture.__file__).parent / "static" / "colour.js").read_text()
    fixed = re.search(r"const FIXED = new Map\(\[(.*?)\]\);", script, re.DOTALL)
    assert fixed is not None
    assert re.findall(r'\["([^"]+)", "#', fixed[1]) == list(COLOURS)


@pytest.mark.parametrize("name", ["数字の探索", "caf\udce9"])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_names_in_any_script_are_drawn_in_silence(tmp_path: Path, name: str, suffix: str) -> None:
    draw_front(make_study(tmp_path, name), tmp_path / f"p.{suffix}")  # a warning would be an error here
    assert (tmp_path / f"p.{suffix}").stat().st_size > 30_000


def kept_figure(study: Study, path: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure of the picture, to look at where things are."""
    kept: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *args: object, **options: object) -> None:
        kept.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    draw_front(study, path)
    return kept[0]


def with_baseline(folder: Path, accuracy: float, latency_ms: float, **recipe) -> Study:
    records = [make_record(0, accuracy, latency_ms, origin="baseline")]
    records += [make_record(n, 0.9 + 0.01 * n, 0.1 * 1.5**n) for n in range(1, 5)]
    return write_study(folder / "study", records, make_recipe(**recipe))


@pytest.mark.parametrize(
    ("accuracy", "latency_ms", "constraints", "named"),
    [
        (0.93, 0.9, [], 5),
        (0.3, 5.0, [], 5),  # far from all others
        (0.99, 0.9, [], 5),  # on the front
        (0.93, 0.9, [f"{LATENCY} <= 0.8"], 5),  # breaks a constraint
    ],
)
def test_the_baseline_is_a_star_in_the_picture_and_named_first(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    accuracy: float,
    latency_ms: float,
    constraints: list[str],
    named: int,
) -> None:
    study = with_baseline(tmp_path, accuracy, latency_ms, constraints=constraints)
    asked: list[list[tuple[float, float]]] = []
    place = canvas.place

    def watched(points: list, *rest: Any) -> list:
        asked.append(points)
        return place(points, *rest)

    monkeypatch.setattr(canvas, "place", watched)
    axes = kept_figure(study, tmp_path / "p.png", monkeypatch).axes[0]
    (star,) = (line for line in axes.lines if line.get_marker() == "*")
    assert [*star.get_xdata(), *star.get_ydata()] == [latency_ms, accuracy]
    assert axes.get_xlim()[0] < latency_ms < axes.get_xlim()[1]
    assert axes.get_ylim()[0] < accuracy < axes.get_ylim()[1]
    assert len(asked[0]) == named
    np.testing.assert_allclose(asked[0][0], axes.transData.transform((latency_ms, accuracy)))
    texts = [text.get_text() for text in axes.texts]
    assert sum(text.startswith("0 ") and text.endswith("(baseline)") for text in texts) == 1
    legend = axes.get_legend()
    assert legend is not None
    assert "baseline" in [text.get_text() for text in legend.get_texts()]


def test_without_a_baseline_there_is_no_star(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = kept_figure(make_study(tmp_path), tmp_path / "p.png", monkeypatch)
    assert not any(line.get_marker() == "*" for line in figure.axes[0].lines)


def test_the_baseline_is_there_where_no_trial_meets_the_constraints(tmp_path: Path) -> None:
    drawn = svg(with_baseline(tmp_path, 0.93, 0.9, constraints=["accuracy >= 0.999"]), tmp_path / "p.svg")
    assert "<!-- baseline -->" in drawn  # in the legend
    assert "0 of 5 trials on the front" in drawn


@pytest.mark.parametrize(
    ("front", "constraints"),
    [
        ([(0.90, 0.1), (0.95, 0.2)], []),
        ([(0.50, 0.1), (0.99, 0.2)], []),
        ([(0.90, 0.1), (0.901, 3.0)], []),
        ([(0.10, 0.1), (0.98, 9.0)], []),
        ([(0.10, 0.1), (0.98, 0.11)], []),
        ([(0.90, 0.1), (0.95, 0.2)], [f"{LATENCY} <= 0.2"]),
        ([(0.97, 0.1)], []),
    ],
)
def test_the_legend_hides_neither_line_nor_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, front: list[tuple[float, float]], constraints: list[str]
) -> None:
    records = [make_record(number, *values) for number, values in enumerate(front)]
    study = write_study(tmp_path / "two", records, make_recipe(constraints=constraints))
    assert len(study.front) == len(front)
    axes = kept_figure(study, tmp_path / "p.png", monkeypatch).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    box = legend.get_window_extent()
    points = axes.transData.transform([(latency, accuracy) for accuracy, latency in front])
    assert not any(box.contains(*point) for point in points)
    steps = next(line for line in axes.lines if len(line.get_xdata()) == 2 * len(front) + 1)
    corners = axes.transData.transform(np.column_stack([steps.get_xdata(), steps.get_ydata()]))
    for start, end in pairwise(corners):
        assert not any(box.contains(*(start + share * (end - start))) for share in np.linspace(0, 1, 400))


@pytest.mark.parametrize(("overlaps", "marked"), [("3", True), ("", False), ("99", False)])
def test_members_that_cannot_be_told_apart_are_marked(
    tmp_path: Path, overlaps: str, marked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(tmp_path)
    record = study.front[0]  # an end, which is always named
    detail = {"in_turns": True, "ambiguous_with": overlaps}
    quantities = tuple(
        replace(q, detail={**q.detail, **detail}) if q.name == "latency_ms" else q for q in record.quantities
    )
    records = [replace(record, quantities=quantities) if other is record else other for other in study.records]
    again = write_study(tmp_path / "again", records)
    axes = kept_figure(again, tmp_path / "p.png", monkeypatch).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    words = [text.get_text() for text in legend.get_texts()]
    assert ("front, with 95 % intervals (≈ overlap)" in words) is marked
    (name,) = (text.get_text() for text in axes.texts if text.get_text().startswith(f"{record.number} "))
    assert name.endswith(" ≈") is marked
    assert sum(text.get_text().endswith("≈") for text in axes.texts) == int(marked), "the one that says so"


@pytest.mark.parametrize(("slower", "said"), [(2.0, True), (1.0, False)])
def test_trials_that_seem_better_than_the_front_timed_in_turns_are_explained(
    tmp_path: Path, slower: float, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = write_study(
        tmp_path / "two", [make_record(0, 0.9, 0.1), make_record(1, 0.95, 0.2), make_record(2, 0.89, 0.12)]
    )
    assert [record.number for record in alone.front] == [0, 1]

    def in_turns(record: TrialRecord) -> TrialRecord:
        def told(quantity: Quantity) -> Quantity:
            return replace(quantity, value=slower * quantity.value, low=None, high=None, detail={"in_turns": True})

        return replace(record, quantities=tuple(told(q) if q.name == "latency_ms" else q for q in record.quantities))

    study = Study(alone.folder, alone.recipe, alone.records, {r.number: in_turns(r) for r in alone.front})
    words = [text.get_text() for text in kept_figure(study, tmp_path / "p.png", monkeypatch).axes[0].texts]
    explained = "▴ 1 trial above the line as timed alone; the front was timed in turns"
    assert (explained in words) is said
