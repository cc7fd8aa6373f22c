"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import io
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from nas import __version__
from nas.commands.calibrate import calibrate
from nas.commands.compress import compress
from nas.commands.doctor import doctor
from nas.commands.measure import measure
from nas.commands.search import search
from nas.commands.sensitivity import sensitivity
from nas.commands.terminal import make_console, print_front, write_reports
from nas.errors import DataError, NasError

app = typer.Typer(
    name="nas",
    help="Finds the fastest network that is accurate enough, measured on the very file that ships.",
    epilog="Begin with: nas search studies/digits.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyArgument = Annotated[Path, typer.Argument(help="A study's folder, such as studies/digits.", metavar="STUDY")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if debug:
        os.environ["NAS_DEBUG"] = "1"


app.command()(calibrate)
app.command()(search)
app.command()(compress)
app.command()(doctor)
app.command()(sensitivity)
app.command()(measure)


@app.command()
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


@app.command()
def report(study: StudyArgument) -> None:
    """Write the picture (pareto.png), the page (report.html) and the tables (front.csv, front.json).

    Example:

        nas report studies/digits
    """
    from nas.study import Study

    write_reports(make_console(), Study.open(study))


@app.command()
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


@app.command()
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


@app.command()
def spaces(
    name: Annotated[str | None, typer.Argument(help="A search space's name, or the path of its YAML file.")] = None,
) -> None:
    """List the search spaces, or describe one: every choice, its values, how many designs.

    Examples:

        nas spaces

        nas spaces convnet
    """
    from nas.report.spaces import space_table, spaces_table
    from nas.space import list_spaces, load_space

    console = make_console()
    console.print(spaces_table(list_spaces()) if name is None else space_table(load_space(name)))


@app.command()
def profile(
    subject: Annotated[
        str,
        typer.Argument(help="An ONNX file, a trial (studies/digits:12), or a search space.", metavar="MODEL_OR_DESIGN"),
    ],
    choices: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="A space's choice, such as stage1.width=32; repeatable.")
    ] = None,
    input_shape: Annotated[str, typer.Option(help="Height×width×channels for a design of a space.")] = "28x28x1",
    classes: Annotated[int, typer.Option(min=2, help="Classes for a design of a space.")] = 10,
    target: Annotated[str, typer.Option(help="What to measure on.")] = "onnxruntime-cpu-1t-b1",
) -> None:
    """Count FLOPs, MACs and parameters per layer, and hold the estimated against the measured time.

    Examples:

        nas profile deploy/model.onnx

        nas profile studies/digits:12

        nas profile convnet --set stage1.conv=separable --input-shape 28x28x1
    """
    import re

    from nas.errors import RecipeError
    from nas.target import Target

    parsed = Target.parse(target)
    match = re.fullmatch(r"(\d+)[x×](\d+)[x×](\d+)", input_shape)
    if match is None or "0" in match.groups():
        raise RecipeError(f"--input-shape must read HEIGHTxWIDTHxCHANNELS, but got '{input_shape}'", "such as 28x28x1")
    height, width, channels = (int(number) for number in match.groups())
    console = make_console()
    with console.status("counting and measuring …"):
        from nas.profile import render
        from nas.profile.subject import profile_subject

        profiled = profile_subject(subject, choices or [], (height, width, channels), classes, parsed)
    console.print(render(profiled))


def main() -> NoReturn:
    """Runs the command line; every error that a user may cause ends as one line and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # so that a log file shows each trial as it ends
    try:
        app(standalone_mode=True)
    except NasError as error:
        _fail(error.message, error.hint, error.exit_code, error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), "", 2, error)
    sys.exit(0)


def _fail(message: str, hint: str, code: int, error: BaseException) -> NoReturn:
    if os.environ.get("NAS_DEBUG"):
        traceback.print_exception(error)
    console: Any = make_console(stderr=True)
    from rich.text import Text

    console.print(Text.assemble(("error: ", "bold red"), message, (f"\n  {hint}" if hint else "", "")), soft_wrap=True)
    sys.exit(code)
