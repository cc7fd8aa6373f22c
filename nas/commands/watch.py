"""``nas watch``: a study on the terminal while it is searched."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from nas.commands.terminal import make_console


def watch(
    study: Annotated[Path, typer.Argument(help="A study's folder, such as studies/digits.", metavar="STUDY")],
    once: Annotated[
        bool, typer.Option("--once", help="Print one frame and end, as it does without a terminal.")
    ] = False,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Watch a study: what runs now, its front, its hypervolume, the time left.

    It only reads, so it may be started and ended at any time, beside a search or after it. It ends with the search;
    Ctrl-C ends it earlier.

    Examples:

        nas watch studies/digits

        nas watch studies/digits --once
    """
    from nas.watch.view import show_once, watch_live

    console = make_console()
    if once or not console.is_terminal:
        show_once(console, study)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the terminal is left as it was
    watch_live(console, study, interval)
