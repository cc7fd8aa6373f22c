"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import io
import math
import os
import shlex
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from nas import __version__
from nas.errors import DataError, NasError, StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from nas.study import Study

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


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    # Names of files and classes may look like markup; nothing printed here is.
    return Console(stderr=stderr, highlight=False, markup=False)


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


@app.command()
def search(
    recipe: Annotated[Path, typer.Argument(help="The study's recipe, a YAML file.", metavar="RECIPE")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The study's folder; by default the recipe's path less .yaml.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all, instead of the recipe's.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Minutes in all, instead of the recipe's.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what the folder holds and start over; asks.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --fresh deletes.")] = False,
) -> None:
    """Search for the front of speed against accuracy.

    Run again, it continues to the budget; Ctrl-C stops it and loses nothing that was finished.

    Examples:

        nas search studies/digits.yaml

        nas search studies/fashion-mnist.yaml --minutes 30
    """
    from rich.text import Text

    from nas.recipe import load_recipe
    from nas.study import StudyFolder

    console = _console()
    chosen = load_recipe(recipe)
    if trials or minutes:
        limits = {"trials": trials or chosen.budget.trials, "minutes": minutes or chosen.budget.minutes}
        chosen = chosen.model_copy(update={"budget": chosen.budget.model_copy(update=limits)})
    path = output or recipe.with_suffix("")
    folder = StudyFolder(path)
    if fresh and folder.is_study() and not yes:
        count = len(list(folder.trials.glob("[0-9]*.json")))
        if not sys.stdin.isatty():
            raise StudyError(f"--fresh would delete {path} with {count} trials", "add --yes to delete it unasked")
        typer.confirm(f"Delete {path} with {count} trials and start over?", abort=True)
    with console.status("loading torch and the data …"):
        from nas.console import TerminalWatcher
        from nas.search.run import search as run_search
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with TerminalWatcher(console) as watcher:
            study, ended = run_search(chosen, path, watcher, fresh=fresh)
    except KeyboardInterrupt:
        console.print(f"\nStopped. What was finished is kept in {path}; the same command goes on from there:")
        console.print(f"  {_again()}", soft_wrap=True)
        raise typer.Exit(130) from None
    console.print(f"{ended.why}.\n")
    _print_front(console, study)
    _write_reports(console, study)
    if not study.front:
        raise typer.Exit(1)
    console.print(Text.assemble("\nnext: ", (_suggestion(study, path), "bold")), soft_wrap=True)


@app.command()
def front(study: StudyArgument) -> None:
    """Print the front as a table, and write it as front.csv and front.json.

    Example:

        nas front studies/digits
    """
    from nas.report.files import write_front_files
    from nas.study import Study

    console = _console()
    opened = Study.open(study)
    _print_front(console, opened)
    for path in write_front_files(opened):
        console.print(f"wrote {path}", soft_wrap=True)


@app.command()
def report(study: StudyArgument) -> None:
    """Write the picture (pareto.png), the page (report.html) and the tables (front.csv, front.json).

    Example:

        nas report studies/digits
    """
    from nas.study import Study

    _write_reports(_console(), Study.open(study))


@app.command()
def pick(
    study: StudyArgument,
    max_latency_ms: Annotated[float | None, typer.Option(help="At most so many milliseconds (median).")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="At least this validation accuracy, 0 to 1.")] = None,
    max_size_bytes: Annotated[int | None, typer.Option(help="At most so large a file.")] = None,
    target: Annotated[str | None, typer.Option(help="Whose latency counts; by default the first objective's.")] = None,
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

    console = _console()
    opened = Study.open(study)
    if output is not None:
        check_output(output)
    limits = Limits(max_latency_ms, min_accuracy, max_size_bytes, target)
    choice = choose(opened, limits, knee=knee)
    console.print(render_choice(choice, opened))
    if output is None:
        console.print("\nnothing was written; add --output deploy for model.onnx and deployment.json")
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

    console = _console()
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

    console = _console()
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
    from nas.measure.target import Target

    parsed = Target.parse(target)
    match = re.fullmatch(r"(\d+)[x×](\d+)[x×](\d+)", input_shape)
    if match is None or "0" in match.groups():
        raise RecipeError(f"--input-shape must read HEIGHTxWIDTHxCHANNELS, but got '{input_shape}'", "such as 28x28x1")
    height, width, channels = (int(number) for number in match.groups())
    console = _console()
    with console.status("counting and measuring …"):
        from nas.profile import render
        from nas.profile.subject import profile_subject

        profiled = profile_subject(subject, choices or [], (height, width, channels), classes, parsed)
    console.print(render(profiled))


def _again() -> str:
    """The command that was typed, less what would start over."""
    return shlex.join(["nas", *(word for word in sys.argv[1:] if word not in ("--fresh", "--yes", "-y"))])


def _suggestion(study: Study, path: Path) -> str:
    """The command to type next: the fastest design that loses about a point at most."""
    quality = next(objective for objective in study.recipe.parsed_objectives if objective.maximise)
    best = max(record.value(quality.key) for record in study.front)
    enough = max(0.01, math.floor(100 * best - 1) / 100)
    return shlex.join(["nas", "pick", str(path), "--min-accuracy", f"{enough:.2f}", "--output", "deploy"])


def _print_front(console: Console, study: Study) -> None:
    from nas.report.table import front_table
    from nas.wording import plural

    if study.front:
        console.print(front_table(study))
        return
    if study.measured:
        console.print(f"no front: none of {plural(len(study.measured), 'measured trial')} meets the constraints")
        return
    outcomes = Counter(str(record.outcome) for record in study.records)
    ended = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "no trials yet"
    console.print(f"no front: nothing was measured ({ended})")


def _write_reports(console: Console, study: Study) -> None:
    with console.status("drawing …"):
        from nas.report.files import write_front_files
        from nas.report.page import write_page
        from nas.report.picture import draw_front

        paths = write_front_files(study)
        draw_front(study, study.folder.picture)
        write_page(study, study.folder.page)
    for path in [*paths, study.folder.picture, study.folder.page]:
        console.print(f"wrote {path}", soft_wrap=True)


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
    console: Any = _console(stderr=True)
    from rich.text import Text

    console.print(Text.assemble(("error: ", "bold red"), message, (f"\n  {hint}" if hint else "", "")), soft_wrap=True)
    sys.exit(code)
