"""``nas search``: runs a study, prints its front, writes its reports."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.executor import evaluated_on, named_cluster
from nas.commands.sharing import SharedStudy, named_study
from nas.commands.terminal import make_console, print_front, progress_bar, suggestion, typed_again, write_reports
from nas.errors import RecipeError, StudyError, unknown_name

if TYPE_CHECKING:
    from nas.measure.measurer import Measurer
    from nas.recipe import Recipe
    from nas.search.on_ray import OnRay


def search(
    recipe: Annotated[Path, typer.Argument(help="The study's recipe, a YAML file.", metavar="RECIPE")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The study's folder; by default the recipe's path less .yaml.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all, instead of the recipe's.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Minutes in all, instead of the recipe's.")] = None,
    patience: Annotated[
        float | None,
        typer.Option(min=0.01, metavar="MINUTES", help="End when the hypervolume has not grown for so long."),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="auto, guided, plain or supernet, instead of the recipe's.", metavar="NAME")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="predictor, tpe, nsga2, gp or random, instead of the recipe's.", metavar="NAME"),
    ] = None,
    warm_start: Annotated[
        list[Path] | None,
        typer.Option(metavar="STUDY", help="Folder of an earlier study to learn from, on any data; may be repeated."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, max=1024, metavar="N", help="Evaluate in so many processes, which divide the cores."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Measure on the device where 'nas measure --serve' answers: http://DEVICE:8765."
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the device's token; by default NAS_TOKEN does.")
    ] = None,
    executor: Annotated[
        str, typer.Option(metavar="NAME", help="local, or ray: evaluate on a Ray cluster (needs nas-front[ray]).")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Ray: HOST:PORT or auto; by default RAY_ADDRESS, or this machine alone."),
    ] = None,
    resources: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="Ray: '{\"target:NAME\": 1}' measures on the node that carries it; others are what a training takes.",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Share the study with other searchers: postgresql://USER@HOST/DATABASE (needs nas-front[postgresql]).",
        ),
    ] = None,
    study_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The study's name in --storage; by default the recipe's.")
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Ray, --storage: a cache that all machines reach, a folder or s3://bucket/path."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would do, and what a trial would cost; write nothing.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what the folder holds and start over; asks.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --fresh deletes.")] = False,
) -> None:
    """Search for the front of speed against accuracy.

    Run again, it continues to the budget. Ctrl-C finishes the trials under way and stops; a second one stops at
    once. Neither loses what was finished.

    Examples:

        nas search studies/digits.yaml

        nas search studies/fashion-mnist.yaml --minutes 30

        nas search studies/fashion-mnist.yaml --dry-run

        nas search mine.yaml --warm-start studies/fashion-mnist --patience 5

        nas search studies/fashion-mnist.yaml --workers 2

        nas search studies/fashion-mnist.yaml --target http://raspberry-pi:8765

        nas search mine.yaml --executor ray --address auto --resources '{"target:raspberry-pi-5": 1}'

        nas search mine.yaml --output a --storage postgresql://nas@server/nas --cache /mnt/nas/mine
    """
    shared = named_study(storage, study_name, cache, recipe, dry_run, fresh)
    cluster = named_cluster(executor, address, resources, cache, target, shared is not None)
    from nas.recipe import load_recipe

    chosen = with_limits(load_recipe(recipe), trials, minutes, patience)
    chosen = with_ways(chosen, strategy, sampler, warm_start or [])
    if workers is not None:
        chosen = chosen.model_copy(update={"workers": chosen.workers.model_copy(update={"count": workers})})
    path = output or recipe.with_suffix("")
    with measured_on(target, token_file) as device, evaluated_on(cluster, device) as (on_ray, measurer):
        if dry_run:
            show_dry_run(chosen, path, fresh, measurer, on_ray)
        else:
            run_study(chosen, path, fresh, yes, measurer, on_ray, shared)


@contextmanager
def measured_on(target: str | None, token_file: Path | None) -> Iterator[Measurer | None]:
    """What measures on the device that was named; None for this machine.

    Raises:
        RecipeError: More than a device was named.
        NasError: There is no token, or no agent answers.
    """
    if target is None:
        yield None
        return
    from nas.measure.remote.address import needed_token, split_targets
    from nas.measure.remote.measurer import RemoteMeasurer

    targets, device = split_targets([target])
    if device is None or targets:
        raise RecipeError(
            f"--target of a search is a device, but got '{target}'",
            "write http://DEVICE:8765; what is measured there is for the recipe to name (objectives, targets)",
        )
    with RemoteMeasurer(device, needed_token(token_file, device)) as measurer:
        yield measurer


def with_limits(recipe: Recipe, trials: int | None, minutes: float | None, patience: float | None = None) -> Recipe:
    """The recipe with what the command line says of its budget."""
    given = {"trials": trials, "minutes": minutes, "patience_minutes": patience}
    limits = {name: value for name, value in given.items() if value is not None}
    if not limits:
        return recipe
    return recipe.model_copy(update={"budget": recipe.budget.model_copy(update=limits)})


def with_ways(recipe: Recipe, strategy: str | None, sampler: str | None, warm_start: Sequence[Path]) -> Recipe:
    """The recipe with what the command line says of how to search; earlier studies are added to the recipe's.

    Raises:
        RecipeError: There is no such strategy or sampler.
    """
    from nas.recipe import SAMPLERS, STRATEGIES

    changes: dict[str, object] = {}
    for kind, name, known in (("strategy", strategy, STRATEGIES), ("sampler", sampler, SAMPLERS)):
        if name is not None:
            if name not in known:
                raise RecipeError(f"--{kind}: {unknown_name(kind, name, known)}")
            changes[kind] = name
    if warm_start:
        changes["warm_start"] = (*recipe.warm_start, *(path.expanduser().absolute() for path in warm_start))
    return recipe.model_copy(update=changes)


def show_dry_run(
    recipe: Recipe,
    path: Path,
    fresh: bool = False,
    measurer: Measurer | None = None,
    on_ray: OnRay | None = None,
) -> None:
    """Prints what a search would do.

    Raises:
        NasError: As the search itself would.
    """
    console = make_console()
    with console.status("loading torch and the data …"):
        from nas.commands.dry_run import render
        from nas.search.dry_run import dry_run
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its temporary folder goes with it
    with progress_bar(console) as bar:
        task = bar.add_task("looking at the machine and the data", total=1.0)
        found = dry_run(
            recipe,
            path,
            lambda stage, share: bar.update(task, completed=share, description=stage),
            fresh,
            measurer,
            on_ray,
        )
    console.print(render(found))


def run_study(
    recipe: Recipe,
    path: Path,
    fresh: bool = False,
    yes: bool = False,
    measurer: Measurer | None = None,
    on_ray: OnRay | None = None,
    shared: SharedStudy | None = None,
) -> None:
    """Runs a study to its budget and prints and writes what came of it.

    Args:
        recipe: What to search.
        path: The study's folder.
        fresh: Delete what the folder holds and start over.
        yes: Do so unasked.
        measurer: Measures latencies; one of its own by default.
        on_ray: The cluster that evaluates; None for this machine.
        shared: The study in a database that it is one searcher of.

    Raises:
        NasError: The recipe, space, data or folder cannot be used.
        typer.Exit: It was stopped, or there is no front.
    """
    from rich.text import Text

    console = make_console()
    if fresh and not yes:
        _ask_to_delete(path)
    with console.status("loading torch and the data …"):
        from nas.console import TerminalWatcher
        from nas.search.run import search as run_search
        from nas.search.shared.sharing import Sharing
        from nas.search.stopping import Stopping
    sharing = Sharing(shared.url, shared.name, shared.cache) if shared is not None else None
    try:
        with TerminalWatcher(console) as watcher:
            stopping = Stopping(lambda: watcher.note("finishing what is under way; Ctrl-C again stops at once"))
            with stopping.listen():
                study, ended = run_search(recipe, path, watcher, fresh, measurer, stopping, on_ray, sharing)
    except KeyboardInterrupt:
        console.print(f"\nStopped. What was finished is kept in {path}; the same command goes on from there:")
        console.print(f"  {typed_again()}", soft_wrap=True)
        raise typer.Exit(130) from None
    console.print(f"{ended.why}.\n")
    print_front(console, study)
    write_reports(console, study)
    if not study.front:
        raise typer.Exit(1)
    console.print(Text.assemble("\nnext: ", (suggestion(study, path), "bold")), soft_wrap=True)


def _ask_to_delete(path: Path) -> None:
    from nas.study import StudyFolder

    folder = StudyFolder(path)
    if not folder.is_study():
        return
    count = len(list(folder.trials.glob("[0-9]*.json")))
    if not sys.stdin.isatty():
        raise StudyError(f"--fresh would delete {path} with {count} trials", "add --yes to delete it unasked")
    typer.confirm(f"Delete {path} with {count} trials and start over?", abort=True)
