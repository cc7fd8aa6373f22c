"""``nas doctor``: what this machine can measure and compress, what is missing, and how noisy it is right now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.terminal import make_console

if TYPE_CHECKING:
    from rich.console import Console

    from nas.doctor import Diagnosis


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, for scripts.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Time nothing: no noise, no cost of a call.")] = False,
) -> None:
    """Show what this machine can measure and compress, what is missing, and how noisy it is right now.

    Each runtime is asked by the process that would measure on it, and a small network is measured several times in a
    row, as a study would. The exit code is 1 where nothing can be measured at all.

    Examples:

        nas doctor

        nas doctor --quick --json
    """
    console = make_console()
    diagnosis = _examined(make_console(stderr=True), quick)
    if as_json:
        import json

        typer.echo(json.dumps(diagnosis.to_json(), indent=2, ensure_ascii=False))
    else:
        from nas.doctor.page import render

        console.print(render(diagnosis))
    if not diagnosis.ready:
        raise typer.Exit(1)


def _examined(console: Console, quick: bool) -> Diagnosis:
    """The examination under a progress bar, which only a terminal shows."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from nas.doctor import examine

    columns = (BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("[dim]{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        return examine(
            quick=quick, progress=lambda what, share: bar.update(task, description=escape(what), completed=share)
        )
