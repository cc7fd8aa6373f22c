"""``nas sensitivity``: which stage of a trial's network loses how much accuracy when it is compressed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.terminal import make_console, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from nas.sensitivity.result import Sensitivity


def sensitivity(
    study: Annotated[Path, typer.Argument(help="A study's folder, such as studies/digits.", metavar="STUDY")],
    trial: Annotated[
        int | None,
        typer.Option("--trial", "-t", min=0, help="The trial's number; by default the most accurate of the front."),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Take every convolution and linear layer by itself, not whole stages.")
    ] = False,
    images: Annotated[int, typer.Option(min=1, help="Score on so many validation images at most.")] = 2000,
) -> None:
    """Show which stage of a network loses how much accuracy when it alone is pruned or gets fewer bits.

    Each stage of the trial's float network is compressed by itself, exported and scored on validation data; nothing is
    fine-tuned. Writes the table (.csv, .json) and a picture (.png) into the study's folder. The .json serves a recipe
    as its prior: with `prior: digits/sensitivity-00012.json` a search begins with designs that compress what it costs
    least.

    Examples:

        nas sensitivity studies/digits

        nas sensitivity studies/digits --trial 12 --layers
    """
    console = make_console()
    found, paths = _analysed(console, study, trial, layers, images)
    from nas.sensitivity.table import sensitivity_table

    console.print(sensitivity_table(found))
    console.print()
    for path in paths:
        console.print(f"wrote {path}", soft_wrap=True)


def _analysed(
    console: Console, study: Path, trial: int | None, layers: bool, images: int
) -> tuple[Sensitivity, list[Path]]:
    """The analysis under a progress bar, which only a terminal shows."""
    from rich.markup import escape

    with console.status("loading torch and the data …"):
        from nas.sensitivity.run import analyse_trial
    with progress_bar(console) as bar:
        task = bar.add_task("starting", total=None)
        return analyse_trial(
            study,
            trial,
            images,
            layers,
            note=lambda text: console.print(text, style="dim", soft_wrap=True),
            progress=lambda what, done, of: bar.update(task, description=escape(what), completed=done, total=of),
        )
