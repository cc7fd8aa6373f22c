"""``nas front``, ``nas report``, ``nas pick``, ``nas predict``: what a study found, and what is taken from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.terminal import make_console, print_front, write_reports
from nas.errors import DataError

StudyArgument = Annotated[Path, typer.Argument(help="A study's folder, such as studies/digits.", metavar="STUDY")]


def front(study: StudyArgument) -> None:
    """Print the front as a table, and write it as front.csv and front.json.

    Example:

        nas front studies/digits
    """
    from nas.report.files import write_front_files
    from nas.study import Study

    console = make_console()
    opened = Study.open(study)
    print_front(console, opened)
    for path in write_front_files(opened):
        console.print(f"wrote {path}", soft_wrap=True)


def report(study: StudyArgument) -> None:
    """Write the pictures (pareto.png, flops.png), the page (report.html) and the tables (front.csv, front.json).

    Example:

        nas report studies/digits
    """
    from nas.study import Study

    write_reports(make_console(), Study.open(study))


def pick(
    study: StudyArgument,
    max_latency_ms: Annotated[float | None, typer.Option(help="At most so many milliseconds (median).")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="At least this validation accuracy, 0 to 1.")] = None,
    max_size_bytes: Annotated[int | None, typer.Option(help="At most so large a file.")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Where it is served: a target, or a place such as cpu-b1; by default the first objective's."),
    ] = None,
    knee: Annotated[
        bool, typer.Option("--knee", help="The knee of the front, where more speed begins to cost.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the deployment into this folder.")
    ] = None,
) -> None:
    """Choose a design of the front under limits, and with --output write its deployment, checked.

    Examples:

        nas pick studies/digits --max-latency-ms 0.03

        nas pick studies/digits --min-accuracy 0.97 --output deploy
    """
    from nas.deploy import Limits, check_output, choose, render_choice
    from nas.study import Study

    console = make_console()
    opened = Study.open(study)
    if output is not None:
        check_output(output)
    limits = Limits(max_latency_ms, min_accuracy, max_size_bytes, target)
    choice = choose(opened, limits, knee=knee)
    console.print(render_choice(choice, opened))
    if output is None:
        console.print("\nnothing was written; add --output deploy for the model and deployment.json")
        return
    from nas import data
    from nas.deploy import deploy

    try:
        dataset = data.load(opened.recipe.data)
    except DataError as error:
        hint = error.hint or "was it moved? run the search again with the moved recipe; the study then knows the place"
        raise DataError(error.message, hint) from error
    deployment = deploy(opened, choice, output, dataset)
    console.print(f"\nwrote {output}: {', '.join(sorted(p.name for p in output.iterdir()))}", soft_wrap=True)
    console.print(deployment.verified)


def predict(
    deployment: Annotated[Path, typer.Argument(help="A folder that 'nas pick --output' wrote.", metavar="DEPLOYMENT")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or .npy files of arrays.", metavar="IMAGE...")],
) -> None:
    """Classify images with a deployment.

    Example:

        nas predict deploy photo.png
    """
    from rich.text import Text

    from nas.deploy import load_deployment
    from nas.deploy import predict as predict_images

    console = make_console()
    for prediction in predict_images(load_deployment(deployment), images):
        others = "  ".join(f"{name} {share:.1%}" for name, share in prediction.top[1:])
        which = f"{prediction.path}" if prediction.index is None else f"{prediction.path}[{prediction.index}]"
        first = (f"{prediction.label} {prediction.probability:.1%}", "bold")
        console.print(Text.assemble(f"{which}: ", first, (f"  {others}", "dim")), soft_wrap=True)
