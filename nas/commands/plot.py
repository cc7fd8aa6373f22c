"""``nas plot``: one picture of a study, for a paper or a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.terminal import make_console
from nas.errors import RecipeError, StudyError, unknown_name

if TYPE_CHECKING:
    from nas.sensitivity.result import Sensitivity
    from nas.study import Study

KINDS = ("front", "history", "importance", "flops-latency", "sensitivity")
# What has a picture of one width only, in inches.
FIXED = {"flops-latency": 8.4, "sensitivity": 8.4}


def plot(
    study: Annotated[Path, typer.Argument(help="A study's folder, such as studies/digits.", metavar="STUDY")],
    kind: Annotated[str, typer.Option("--kind", "-k", help=f"What to draw: {', '.join(KINDS)}.")] = "front",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A .png, .svg or .pdf file; by default plot-KIND.png in the study's folder."
        ),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option("--width", "-w", help="Inches, 2.5 to 20; by default 3.4, a column of a paper."),
    ] = None,
    trial: Annotated[
        int | None, typer.Option("--trial", "-t", min=0, help="With sensitivity: of which trial; else the newest.")
    ] = None,
) -> None:
    """Draw one picture of a study: vector (.svg, .pdf) or raster (.png), and print a caption for it.

    front: speed against accuracy, with intervals. history: the hypervolume over trials and time. importance: what each
    choice decides about each objective. flops-latency: how far FLOPs are from the clock. sensitivity: which stage loses
    how much when it is compressed ('nas sensitivity' comes first).

    Examples:

        nas plot studies/digits --output front.pdf

        nas plot studies/digits --kind history --width 7

        nas plot studies/digits --kind importance --output importance.svg
    """
    if kind not in KINDS:
        raise StudyError(unknown_name("kind of picture", kind, KINDS), "see nas plot --help")
    if width is not None and kind in FIXED:
        raise StudyError(
            f"the picture '{kind}' is {FIXED[kind]:g} inches wide, but got --width {width:g}",
            "leave --width out; an .svg or .pdf file can be scaled",
        )
    if trial is not None and kind != "sensitivity":
        raise StudyError(f"--trial goes with --kind sensitivity, not with '{kind}'", "leave it out")
    from nas.report.paper import COLUMN_INCHES, check_picture
    from nas.study import Study

    inches = COLUMN_INCHES if width is None else width
    path = output if output is not None else study / f"plot-{kind}.png"
    check_picture(path, inches)
    opened = Study.open(study)
    console = make_console()
    with console.status("drawing …"):
        words = DRAWN[kind](opened, path, inches, trial)
    console.print(words, soft_wrap=True)
    console.print(f"wrote {path}", soft_wrap=True)


def _front(study: Study, path: Path, width: float, _: int | None) -> str:
    from nas.report.paper_front import caption, draw_paper_front

    draw_paper_front(study, path, width)
    return caption(study)


def _history(study: Study, path: Path, width: float, _: int | None) -> str:
    from nas.report.plots import draw_history

    return draw_history(study, path, width)


def _importance(study: Study, path: Path, width: float, _: int | None) -> str:
    from nas.importance import importance_report
    from nas.report.plots import draw_importance

    report = importance_report(study)
    if not report.objectives:
        raise StudyError(f"{study.folder.path}: {report.why_not}", "let the search go on with a larger budget")
    return draw_importance(study, report.objectives, path, width)


def _flops(study: Study, path: Path, _width: float, _: int | None) -> str:
    from nas.report.disagreement import rankings
    from nas.report.flops_picture import draw_flops

    draw_flops(study, path)
    ranking = next(iter(rankings(study)), None)
    return " ".join(ranking.short) if ranking is not None and study.measured else "There is no latency to compare with."


def _sensitivity(study: Study, path: Path, _width: float, trial: int | None) -> str:
    from nas.sensitivity.picture import draw_sensitivity

    found = _read_sensitivity(study, trial)
    draw_sensitivity(found, path)
    return (
        f"Points of validation accuracy that trial {found.trial} of {study.name} loses where one stage alone is "
        f"compressed, on {found.images:,} images."
    )


def _read_sensitivity(study: Study, trial: int | None) -> Sensitivity:
    """The sensitivity that lies in the study's folder: of a trial, or the newest; by stages before single layers.

    Raises:
        StudyError: There is none; the hint is the command that makes it.
    """
    from nas.sensitivity.result import load_sensitivity

    folder = study.folder
    if trial is not None:
        found = [path for layers in (False, True) if (path := folder.sensitivity(trial, layers, ".json")).is_file()]
    else:
        found = sorted(folder.path.glob("sensitivity-*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    if not found:
        whose = "" if trial is None else f" of trial {trial}"
        option = "" if trial is None else f" --trial {trial}"
        raise StudyError(
            f"there is no sensitivity{whose} in {folder.path}", f"run first: nas sensitivity {folder.path}{option}"
        )
    try:
        return load_sensitivity(found[0])
    except RecipeError as error:  # which speaks of a prior: what recipes take such a file for
        message = error.message.replace("the prior", "the sensitivity", 1)
        raise StudyError(message, f"make it again: nas sensitivity {folder.path}") from None


DRAWN: dict[str, Callable[[Study, Path, float, int | None], str]] = {
    "front": _front,
    "history": _history,
    "importance": _importance,
    "flops-latency": _flops,
    "sensitivity": _sensitivity,
}
