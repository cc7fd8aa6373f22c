"""``nas compare``: the fronts of two or more studies against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.commands.json_file import check_json_file, write_json_file
from nas.commands.terminal import make_console


def compare(
    studies: Annotated[list[Path], typer.Argument(help="Two to eight studies' folders.", metavar="STUDY...")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw the fronts into this .png, .svg or .pdf file.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers as JSON, too.")
    ] = None,
    width: Annotated[float, typer.Option("--width", "-w", help="Of the picture, in inches.")] = 7.0,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare although data or machines differ, with a warning.")
    ] = False,
) -> None:
    """Compare the fronts of studies by the objectives that they share.

    Tells their hypervolumes against one reference, how much of each front another study matches or beats, and over
    which range of latencies which study is ahead, by how many points. Numbers of different machines or data are not
    compared unless --anyway is given.

    Examples:

        nas compare studies/tpe studies/random

        nas compare studies/a studies/b studies/c --output compare.png

        nas compare studies/a studies/b --output compare.pdf --width 3.4

        nas compare studies/a studies/b --json compare.json
    """
    from nas.report.compare import compare as compare_studies
    from nas.report.compare_json import comparison_json
    from nas.report.compare_picture import draw_comparison
    from nas.report.compare_table import comparison_table
    from nas.report.paper import check_picture
    from nas.study import Study

    console = make_console()
    check_json_file(json_file)
    if output is not None:
        check_picture(output, width)
    comparison = compare_studies([Study.open(path) for path in studies], anyway)
    console.print(comparison_table(comparison))
    if json_file is not None:
        write_json_file(json_file, comparison_json(comparison))
        console.print(f"\nwrote {json_file}", soft_wrap=True)
    if output is None:
        console.print("\nnothing was drawn; add --output compare.png for the picture", soft_wrap=True)
        return
    with console.status("drawing …"):
        draw_comparison(comparison, output, width)
    console.print(f"\nwrote {output}", soft_wrap=True)
