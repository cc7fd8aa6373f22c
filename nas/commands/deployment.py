"""``nas predict``, ``nas verify``, ``nas serve``: what is done with a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.terminal import make_console
from nas.errors import NasError

if TYPE_CHECKING:
    from nas.deploy.deployment import Deployment
    from nas.deploy.given_data import Given

DeploymentArgument = Annotated[
    Path, typer.Argument(help="A folder that 'nas pick --output' wrote.", metavar="DEPLOYMENT")
]


def predict(
    deployment: DeploymentArgument,
    images: Annotated[list[Path], typer.Argument(help="Image files, or .npy files of arrays.", metavar="IMAGE...")],
) -> None:
    """Classify images with a deployment.

    Example:

        nas predict deploy photo.png
    """
    from rich.text import Text

    from nas.deploy import load_deployment
    from nas.deploy import predict as predict_images

    console = make_console()
    for prediction in predict_images(load_deployment(deployment), images):
        others = "  ".join(f"{name} {share:.1%}" for name, share in prediction.top[1:])
        which = f"{prediction.path}" if prediction.index is None else f"{prediction.path}[{prediction.index}]"
        first = (f"{prediction.label} {prediction.probability:.1%}", "bold")
        console.print(Text.assemble(f"{which}: ", first, (f"  {others}", "dim")), soft_wrap=True)


def verify(
    deployment: Annotated[
        Path | None, typer.Argument(help="A folder that 'nas pick --output' wrote.", metavar="DEPLOYMENT")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Score it on the validation and test data of this recipe.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Score it on your own: an .npz file (images, labels), or a folder with one per class."),
    ] = None,
    latency: Annotated[
        bool | None,
        typer.Option(
            "--latency/--no-latency",
            help="Time it on any machine, or not at all; by default on the machine that it was promised for.",
        ),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of deployment.json.")] = False,
) -> None:
    """Check that a deployment still is, and does, what it promised: files, accuracy, latency. Ends in pass or fail.

    The exit code is 0 for pass, 1 for fail, 2 where it cannot be checked.

    Examples:

        nas verify deploy

        nas verify deploy --recipe studies/digits.yaml

        nas verify deploy --data photos --no-latency

        nas verify --schema
    """
    if schema:
        from nas.deploy.schema import schema_text

        typer.echo(schema_text(), nl=False)
        return
    if deployment is None:
        raise NasError("no deployment was named", "such as: nas verify deploy")
    from nas.deploy.deployment import read_description
    from nas.deploy.recheck import recheck
    from nas.deploy.running import Runner
    from nas.deploy.verdicts import verdict_table
    from nas.measure.measurer import Measurer

    console = make_console()
    described = read_description(deployment)
    given = _given(described, recipe, data)
    with Runner() as runner, Measurer() as measurer, console.status("checking …"):
        found = recheck(described, given, runner, None if latency is False else measurer, forced=latency is True)
    if not given:
        console.print("accuracy was not checked: name data with --recipe or --data", style="dim")
    console.print(verdict_table(found))
    if not found.passed:
        raise typer.Exit(1)


def _given(described: Deployment, recipe: Path | None, data: Path | None) -> list[Given]:
    """The labelled images that were named."""
    from nas.deploy.given_data import of_files, of_recipe

    found = [] if recipe is None else of_recipe(recipe, described)
    return found if data is None else [*found, *of_files(data, described)]


def serve(
    deployment: DeploymentArgument,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of 127.0.0.1; 0 for any free one.")] = 8000,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="At most so many waiting images in one call.")] = 8,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Of the runtime; by default as the deployment was measured.")
    ] = None,
    limit_mb: Annotated[int, typer.Option(min=1, max=1024, help="Refuse requests larger than this.")] = 16,
) -> None:
    """Answer HTTP on this machine alone, for a try-out: an image in, classes out. Ctrl-C ends it.

    POST /predict takes an image file or a .npy array as the body or as a form's file, or an array in JSON; GET /health
    tells what is served; GET / is a page to drop an image on. Requests that come while the network is busy are
    classified together; none waits for others to come.

    Examples:

        nas serve deploy

        curl --data-binary @photo.png http://127.0.0.1:8000/predict
    """
    from nas.deploy.deployment import load_deployment
    from nas.deploy.web import Options, run

    console = make_console()
    described = load_deployment(deployment)

    def started(url: str) -> None:
        console.print(f"serving {described.study}, trial {described.trial}, at {url}", soft_wrap=True)
        console.print("  try it: open that page and drop an image on it, or", style="dim")
        console.print(f"  curl --data-binary @photo.png {url}/predict", style="dim", soft_wrap=True)
        console.print("  Ctrl-C ends it", style="dim")

    answered = run(described, Options(port, batch, threads, limit_mb * 10**6), started)
    console.print(f"stopped; {answered:,} images were classified")
