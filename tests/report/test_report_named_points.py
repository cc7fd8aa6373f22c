"""Models beside a study's trials in its picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import TARGET, make_recipe, make_record, write_study

from nas.outcome import How, Quantity
from nas.report import picture
from nas.report.named_points import NamedPoint
from nas.report.picture import draw_front
from nas.study import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return write_study(tmp_path / "s", [make_record(0, 0.9, 0.05), make_record(1, 0.95, 0.2)])


def point(name: str, ms: float = 0.1, quality: float | None = 0.93) -> NamedPoint:
    cost = Quantity("latency_ms", ms, "ms", How.MEASURED, target=TARGET, low=0.9 * ms, high=1.1 * ms)
    accuracy = None if quality is None else Quantity("accuracy", quality, "1", How.MEASURED)
    return NamedPoint(name, cost, accuracy)


def drawn(study: Study, *points: NamedPoint) -> str:
    path = study.folder.path / "p.svg"
    draw_front(study, path, points)
    return path.read_text()


def test_a_model_is_drawn_named_first_and_in_the_legend(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[list[str]] = []
    labelling = picture.draw_labels

    def watched(axes, names, points, drawn_already) -> None:  # type: ignore[no-untyped-def]
        named.append(list(names))
        assert tuple(points[0]) == (0.1, 0.93) or len(names) == 2
        labelling(axes, names, points, drawn_already)

    monkeypatch.setattr(picture, "draw_labels", watched)
    assert "not of this study" in drawn(study, point("old.onnx"))
    assert "not of this study" not in drawn(study)
    assert (named[0][0], len(named[0]), len(named[1])) == ("old.onnx", 3, 2)


def test_without_models_the_picture_is_what_it_was(study: Study) -> None:
    draw_front(study, study.folder.path / "a.png")
    draw_front(study, study.folder.path / "b.png", [])
    assert (study.folder.path / "a.png").read_bytes() == (study.folder.path / "b.png").read_bytes()


def test_one_of_unknown_quality_is_a_line_with_its_name(study: Study) -> None:
    text = drawn(study, point("old.onnx", quality=None))
    assert "old.onnx" in text
    assert "not of this study" not in text


@pytest.mark.parametrize(("ms", "quality"), [(50.0, 0.10), (0.0001, 0.999)])
def test_the_picture_reaches_as_far_as_the_model(study: Study, ms: float, quality: float) -> None:
    seen: dict[str, tuple[float, float]] = {}
    drawing = picture.draw_others

    def watched(axes, others) -> None:  # type: ignore[no-untyped-def]
        seen.update(x=axes.get_xlim(), y=axes.get_ylim())
        drawing(axes, others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "draw_others", watched)
        drawn(study, point("far", ms, quality))
    assert seen["x"][0] < ms < seen["x"][1]
    assert seen["y"][0] < quality < seen["y"][1]


@pytest.mark.parametrize("quality", [0.93, None])
def test_a_name_is_no_formula(study: Study, quality: float | None) -> None:
    names = ("$x_{", "$a$", "a\nb", "[red]x[/red]", "<b>&", "模型")
    points = [point(name, 0.06 + 0.02 * place, quality) for place, name in enumerate(names)]
    assert drawn(study, *points).startswith("<?xml")


def test_with_a_third_objective(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", f"latency_ms@{TARGET}", "size_bytes"])
    study = write_study(tmp_path / "three", [make_record(0, 0.9, 0.05), make_record(1, 0.95, 0.2)], recipe)
    assert "not of this study" in drawn(study, point("old.onnx"))
