"""``nas reproduce``: a trial evaluated again from scratch, and how far it agrees."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.json_file import check_json_file, write_json_file
from nas.commands.terminal import make_console, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from nas.reproduce.compare import Reproduction


def reproduce(
    study: Annotated[Path, typer.Argument(help="A study's folder, such as studies/digits.", metavar="STUDY")],
    trial: Annotated[int, typer.Option("--trial", "-t", min=0, help="The number of a measured trial.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write what was compared as JSON, too.")
    ] = None,
) -> None:
    """Evaluate a trial again from scratch, with its seed, and say how far it agrees.

    Trained, compressed, exported, scored and measured anew; nothing is taken from the study's cache and nothing is
    written into its folder. On the same machine and versions, with as many threads, weights and file come out the same
    to the bit; where not, it says what differs. Networks that it learned from are trained anew, too; a supernet is read
    as the study holds it. Ends with exit code 1 where the accuracy is not reproduced, whatever the latency.

    Examples:

        nas reproduce studies/digits --trial 12

        nas reproduce studies/digits --trial 12 --json reproduced.json
    """
    from nas.reproduce.compare import Verdict
    from nas.study import Study

    console = make_console()
    # Refused before hours are spent, and before torch is loaded.
    check_json_file(json_file)
    Study.open(study).measured_trial(trial, "cannot be reproduced")
    found = _reproduced(console, study, trial)
    from nas.reproduce.table import lines, numbers_table, verdict_words

    console.print()
    console.print(numbers_table(found))
    console.print()
    for line in lines(found):
        console.print(line, soft_wrap=True)
    console.print(verdict_words(found), soft_wrap=True)
    if json_file is not None:
        write_json_file(json_file, found.to_json())
        console.print(f"wrote {json_file}", soft_wrap=True)
    if found.verdict is Verdict.DIFFERS:
        raise typer.Exit(1)


def _reproduced(console: Console, study: Path, trial: int) -> Reproduction:
    """The evaluation under a progress bar, which only a terminal shows."""
    from rich.markup import escape

    with console.status("loading torch and the data …"):
        from nas.reproduce.run import reproduce as run
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its temporary folder goes with it
    try:
        with progress_bar(console) as bar:
            task = bar.add_task("starting", total=1.0)
            return run(
                study,
                trial,
                note=lambda text: console.print(text, style="dim", soft_wrap=True),
                progress=lambda what, share: bar.update(task, description=escape(what), completed=share),
            )
    except KeyboardInterrupt:
        console.print("\nStopped; nothing was written.")
        raise typer.Exit(130) from None
