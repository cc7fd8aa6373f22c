"""``nas front``, ``nas report``: what a study found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.terminal import make_console, print_front, write_reports

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
    if not opened.front:
        raise typer.Exit(1)


def report(study: StudyArgument) -> None:
    """Write pictures (pareto.png, .svg, .pdf; flops.png), the page (report.html) and tables (front.csv, front.json).

    Example:

        nas report studies/digits
    """
    from nas.study import Study

    write_reports(make_console(), Study.open(study))
