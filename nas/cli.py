"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from typing import Annotated, Any, NoReturn

import typer

from nas import __version__
from nas.commands.calibrate import calibrate
from nas.commands.compare import compare
from nas.commands.compress import compress
from nas.commands.dashboard import dashboard
from nas.commands.deployment import predict, serve, verify
from nas.commands.doctor import doctor
from nas.commands.finalize import finalize
from nas.commands.inspection import profile, spaces
from nas.commands.measure import measure
from nas.commands.pick import pick
from nas.commands.plot import plot
from nas.commands.reproduce import reproduce
from nas.commands.results import front, report
from nas.commands.search import search
from nas.commands.sensitivity import sensitivity
from nas.commands.terminal import make_console
from nas.commands.watch import watch
from nas.errors import NasError
from nas.safety.printable import printable

# What is raised where arguments are wrong; typer says so of a special case only.
UsageError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")

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


# In the order in which a person meets them.
for command in (
    *(search, compress, watch, front, report, plot, compare, pick, finalize, reproduce),
    *(predict, verify, serve),
    *(measure, calibrate, doctor, dashboard),
    *(sensitivity, profile, spaces),
):
    app.command()(command)


def main() -> NoReturn:
    """Runs the command line; every error that a user may cause ends as one line and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # so that a log file shows each trial as it ends
    warnings.formatwarning = _format_warning
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except UsageError as error:
        _refuse(error)
    except typer.Abort:
        print("Aborted.", file=sys.stderr)
        sys.exit(1)
    except NasError as error:
        _fail(error.message, error.hint, error.exit_code, error)
    except KeyboardInterrupt:
        sys.exit(130)
    except MemoryError as error:
        _fail(f"memory does not suffice: {error or 'the system gave no more'}", "give it less to do at once", 1, error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), "", 2, error)


def _refuse(error: Any) -> NoReturn:
    """Says what is wrong with a command's arguments; of a command without any, what it takes."""
    command = error.ctx.command_path if error.ctx is not None else "nas"
    if not sys.argv[1:]:
        error.show()
        sys.exit(error.exit_code)
    _fail(error.format_message(), f"'{command} --help' says what it takes", error.exit_code, error)


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    """One line, without the line of code that warned."""
    return f"warning: {message}\n"


def _fail(message: str, hint: str, code: int, error: BaseException) -> NoReturn:
    if os.environ.get("NAS_DEBUG"):
        traceback.print_exception(error)
    message, hint = printable(message), printable(hint)
    console: Any = make_console(stderr=True)
    from rich.text import Text

    console.print(Text.assemble(("error: ", "bold red"), message, (f"\n  {hint}" if hint else "", "")), soft_wrap=True)
    sys.exit(code)
