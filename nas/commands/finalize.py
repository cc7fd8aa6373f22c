"""``nas finalize``: picked designs trained again at full budget over several seeds, and one of them shipped."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.terminal import make_console, progress_bar, typed_again
from nas.errors import StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from nas.finalize.plan import Asked
    from nas.finalize.run import Finished


def finalize(
    study: Annotated[Path, typer.Argument(help="A study's folder, such as studies/digits.", metavar="STUDY")],
    trial: Annotated[
        list[int] | None,
        typer.Option("--trial", "-t", min=0, help="The number of a trial to train again; may be repeated."),
    ] = None,
    all_front: Annotated[
        bool, typer.Option("--all-front", help="Every design of the front, which is the default.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of each training; by default 5 times the search's.")
    ] = None,
    finetune_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs after compression; by default as many times the search's as --epochs is."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Train each design from so many seeds.")] = 3,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the deployment of the one design into this folder.")
    ] = None,
) -> None:
    """Train picked designs again, longer and from several seeds; say what they reach, and how well they were ranked.

    Each is trained from random weights, compressed, exported and measured as in the search, but at full budget and from
    seeds that the search did not use. What came of it is kept in the study's folder under `finalized`; Ctrl-C loses
    nothing that was finished, and the same command goes on. With --output the best seed of one design is deployed.

    Examples:

        nas finalize studies/digits

        nas finalize studies/digits --trial 9 --trial 19 --epochs 60 --seeds 5

        nas finalize studies/digits --trial 19 --output deploy
    """
    from nas.finalize.plan import Asked

    console = make_console()
    numbers = tuple(dict.fromkeys(trial or []))
    if all_front and numbers:
        raise StudyError("--trial and --all-front were both given", "leave one of them out")
    if output is not None:
        _check_output(output, numbers)
    asked = Asked(numbers, epochs, finetune_epochs, seeds)
    finished = _finalized(console, study, asked)
    _show(console, finished)
    if output is None:
        _suggest(console, study, finished)
        return
    from nas.finalize.view import ship

    deployed = ship(finished.study, finished.designs[0], output, finished.dataset)
    console.print(f"\nwrote {output}: {', '.join(sorted(p.name for p in output.iterdir()))}", soft_wrap=True)
    console.print(deployed.verified, soft_wrap=True)


def _check_output(output: Path, numbers: tuple[int, ...]) -> None:
    """Refuses what could not be deployed before hours are spent."""
    from nas.deploy import check_output

    if len(numbers) != 1:
        count = "the whole front" if not numbers else f"{len(numbers)} trials"
        raise StudyError(f"--output writes one design, but {count} would be trained", "name the one: --trial NUMBER")
    check_output(output)


def _finalized(console: Console, study: Path, asked: Asked) -> Finished:
    """The training under a progress bar, which only a terminal shows."""
    from rich.markup import escape

    with console.status("loading torch and the data …"):
        from nas.finalize.run import finalize as run
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with progress_bar(console) as bar:
            task = bar.add_task("starting", total=1.0)
            return run(
                study,
                asked,
                note=lambda text: console.print(text, style="dim", soft_wrap=True),
                progress=lambda what, share: bar.update(task, description=escape(what), completed=share),
            )
    except KeyboardInterrupt:
        console.print(f"\nStopped. What was finished is kept in {study}; the same command goes on from there:")
        console.print(f"  {typed_again()}", soft_wrap=True)
        raise typer.Exit(130) from None


def _show(console: Console, finished: Finished) -> None:
    from nas.finalize.table import result_table

    console.print()
    console.print(result_table(finished))
    console.print(f"\nkept in {finished.study.folder.path}", style="dim", soft_wrap=True)


def _suggest(console: Console, study: Path, finished: Finished) -> None:
    """The command that ships: of one design its own, of several the one for the most accurate."""
    from rich.text import Text

    best = max(finished.designs, key=lambda done: (done.accuracy.mean, -done.trial))
    budget = best.budget
    words = ["nas", "finalize", str(study), "--trial", str(best.trial), "--epochs", str(budget.epochs)]
    words += ["--finetune-epochs", str(budget.finetune_epochs), "--seeds", str(len(finished.plan.seeds))]
    command = shlex.join([*words, "--output", "deploy"])
    others = "" if len(finished.designs) == 1 else " (the most accurate; or another --trial)"
    console.print(Text.assemble(f"ship it{others}: ", (command, "bold")), soft_wrap=True)
