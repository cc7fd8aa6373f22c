"""``nas calibrate``: measures sampled networks of a space, so that latencies on this machine can be estimated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.terminal import make_console, parse_image_shape, progress_bar
from nas.errors import RecipeError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from nas.estimate.calibrate import Calibration
    from nas.estimate.estimator import Estimator
    from nas.space import SearchSpace
    from nas.study import Study
    from nas.target import Target

DEFAULT_SHAPE, DEFAULT_CLASSES = (28, 28, 1), 10


def calibrate(
    target: Annotated[
        str, typer.Option("--target", "-t", help="What to calibrate for, such as onnxruntime-cpu-1t-b1.")
    ] = "onnxruntime-cpu-1t-b1",
    space: Annotated[
        str | None, typer.Option("--space", help="The search space to sample: a name, or the path of a .yaml file.")
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option(help="Height×width×channels of the images; by default the study's, or 28x28x1.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Classes; by default the study's, or 10.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time for all of it.")] = 3.0,
    study: Annotated[
        list[Path] | None, typer.Option("--study", help="Learn from this study's trials as well; repeatable.")
    ] = None,
) -> None:
    """Teach this machine's latencies to the estimates: networks and layers of a space, sampled and measured.

    Nothing is trained. What is measured is kept for this machine, and a later calibration adds to it. The table says
    how far each estimate is from the clock on networks that it had not seen.

    Examples:

        nas calibrate --space convnet

        nas calibrate --target onnxruntime-cpu-2t-b1 --study studies/digits
    """
    from nas.study import Study
    from nas.target import Target

    parsed = Target.parse(target)
    studies = [Study.open(path) for path in study or []]
    sampled = _space(space, studies)
    console = make_console()
    calibration = _calibrated(console, parsed, sampled, input_shape, classes, minutes, studies)
    _print(console, calibration)


def _space(name: str | None, studies: list[Study]) -> SearchSpace:
    """The space that was named, or else the first study's."""
    from nas.space import load_space

    if name is None and not studies:
        raise RecipeError("there is nothing to sample", "name a search space, such as --space convnet, or a --study")
    return load_space(name if name is not None else studies[0].recipe.space)


def _calibrated(
    console: Console,
    target: Target,
    space: SearchSpace,
    input_shape: str | None,
    classes: int | None,
    minutes: float,
    studies: list[Study],
) -> Calibration:
    """The calibration under a progress bar, which only a terminal shows."""
    given = parse_image_shape(input_shape) if input_shape is not None else None
    with console.status("loading torch …"):
        from nas.estimate.calibrate import POLICY, Calibrator, check_target, image_shape_of
        from nas.measure.measurer import Measurer

        check_target(target)
        shape, number = next(filter(None, map(image_shape_of, studies)), (DEFAULT_SHAPE, DEFAULT_CLASSES))
    with (
        Measurer(POLICY) as measurer,
        progress_bar(console) as bar,
    ):
        task = bar.add_task("measuring the machine's speeds", total=1.0)
        calibrator = Calibrator(target, measurer.environment_id(target), measurer.measure)
        return calibrator.run(
            space,
            given or shape,
            classes or number,
            minutes,
            studies,
            lambda done, share: bar.update(task, completed=share, description=f"{done} measured"),
        )


def _print(console: Console, calibration: Calibration) -> None:
    from nas.estimate.calibrate import need_more
    from nas.wording import plural

    took = f" in {calibration.seconds:.0f} s"
    ended = ", ended early" if calibration.interrupted else ""
    trials = f", {plural(calibration.trials, 'trial')} taken in" if calibration.trials else ""
    console.print(
        f"measured {plural(calibration.networks, 'network')} and {plural(calibration.layers, 'single layer')}"
        f"{took}{ended}{trials}",
        soft_wrap=True,
    )
    for amount, what in (
        (calibration.unstable, "disturbed by something else that ran meanwhile; they count little"),
        (calibration.skipped, "skipped, as they cannot be built or run"),
    ):
        if amount:
            console.print(f"{amount} {what}", style="dim", soft_wrap=True)
    if calibration.estimator is None:
        raise need_more(calibration)
    console.print()
    console.print(checks_table(calibration.estimator))
    if disturbed := next(iter(calibration.estimator.checks.values())).disturbed:
        words = f"{disturbed} of these measurements were disturbed, so part of the error is theirs"
        console.print(f"{words}; calibrate on a quiet machine", style="yellow", soft_wrap=True)
    console.print("\nestimates are told beside the clock; only the clock decides", style="dim")
    console.print(f"{calibration.total} networks are kept in {calibration.folder}", soft_wrap=True)


def checks_table(estimator: Estimator) -> Table:
    """How each estimate did on networks that it had not seen."""
    from rich.table import Table

    from nas.wording import ESTIMATE_WORDS, percent

    networks = next(iter(estimator.checks.values())).networks
    table = Table(
        title=f"estimates against {networks} unseen networks on {estimator.target.name}", title_justify="left"
    )
    table.add_column("estimate")
    for name in ("median error", "within ±10 %", "Kendall's τ", "Spearman's ρ"):
        table.add_column(name, justify="right")
    for name, words in ESTIMATE_WORDS.items():
        found = estimator.checks[name]
        table.add_row(
            words,
            f"{percent(found.median_error, 1)} %",
            f"{percent(found.within, 1)} %",
            f"{found.tau:.3f}",
            f"{found.spearman:.3f}",
        )
    return table
