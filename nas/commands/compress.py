"""``nas compress``: a person's own trained network, compressed in all ways that the search knows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.errors import DataError, NasError, RecipeError

if TYPE_CHECKING:
    from nas.own_module import OwnModule

# What torchvision's pretrained networks are trained with, of pixels from 0 to 1.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEFAULT_TRIALS = 30
# Of fine-tuning after half of the channels went: a ResNet-18 came to 82.1 % in two epochs of 8,000 images, to 81.3 % at
# half of this rate (84.1 % before); a MobileNetV2, distilled and in int8, to 81.8 % in three, to 80.1 % (81.6 %).
DEFAULT_LEARNING_RATE = 2e-3


def compress(
    model: Annotated[
        str, typer.Argument(help="What gives the network: FILE.py:CALLABLE or MODULE:CALLABLE.", metavar="MODEL")
    ],
    data: Annotated[
        str,
        typer.Option(help="A folder of class folders, an .npz file, a folder of IDX files, or digits."),
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            help="Its trained weights: .safetensors, or a state_dict by torch.save; 'included' where the call gives "
            "them. Without, it is trained first."
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Option("--arg", help="An argument of the call, NAME=VALUE; repeatable.")
    ] = None,
    resize: Annotated[str | None, typer.Option(help="Bring images of a folder to HEIGHTxWIDTH.")] = None,
    layout: Annotated[str, typer.Option(help="NHWC or NCHW: how arrays lie in an .npz file.")] = "NHWC",
    mean: Annotated[
        str | None, typer.Option(help="What its own normalisation subtracts from pixels of 0 to 1, for each channel.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="What it then divides by.")] = None,
    imagenet: Annotated[
        bool, typer.Option("--imagenet", help="The mean and std of torchvision's pretrained networks.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The study's folder; by default studies/CALLABLE.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help=f"Trials in all; {DEFAULT_TRIALS} unless minutes are given.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Minutes in all.")] = None,
    finetune_epochs: Annotated[int, typer.Option(min=1, help="Epochs of training after what costs accuracy.")] = 3,
    learning_rate: Annotated[
        float,
        typer.Option(
            help="The learning rate of that training; less suits a network that was trained long on much data."
        ),
    ] = DEFAULT_LEARNING_RATE,
    target: Annotated[str, typer.Option(help="What latency is measured on.")] = "onnxruntime-cpu-1t-b1",
    space: Annotated[
        str | None, typer.Option(help="Take the compression choices of this search space, a name or a .yaml file.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what the folder holds and start over; asks.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --fresh deletes.")] = False,
) -> None:
    """Compress your own trained network: search pruning, bits, weight sharing and distillation; its architecture stays.

    The network as it is comes first, and every table and picture compares with it. Writes the study's recipe and
    search space beside its folder (studies/CALLABLE.yaml, studies/CALLABLE.space.yaml), to be read and edited, and runs
    it as nas search does; run again, it continues. Give data as the network was trained, its outputs in the
    sorted order of the classes' names; what stands in a folder 'test' is looked at once, at the end.

    The Python file or module is run, as if you ran it yourself: name none that you do not trust. Weights are read
    without running anything.

    Examples:

        nas compress resnet.py:resnet18 --arg classes=10 --weights resnet18.safetensors --data photos --resize 224x224

        nas compress torchvision.models:mobilenet_v2 --weights net.pth --arg num_classes=5 --imagenet --data images.npz
    """
    from nas.commands.own_study import Files, Options, write_study
    from nas.commands.search import run_study, with_limits
    from nas.recipe import load_recipe
    from nas.space import load_space
    from nas.study import StudyFolder
    from nas.target import Target

    if learning_rate <= 0:
        raise RecipeError(f"--learning-rate must be greater than 0, but got {learning_rate:g}")
    module = _module(model, weights, arguments or [], _normalisation(mean, std, imagenet))
    files = Files(output or Path("studies") / module.callable)
    section = data_section(data, resize, layout)
    limit = DEFAULT_TRIALS if trials is None and minutes is None else trials
    options = Options(section, Target.parse(target).name, limit, minutes, finetune_epochs, learning_rate)
    written = write_study(files, module, options, load_space(space) if space else None)
    for path in written:
        typer.echo(f"wrote {path}")
    try:
        run_study(with_limits(load_recipe(files.recipe), trials, minutes), files.folder, fresh, yes)
    except NasError:
        if not StudyFolder(files.folder).is_study():  # nothing was begun, so the next attempt may say something else
            for path in written:
                path.unlink(missing_ok=True)
        raise


def _module(
    model: str, weights: str | None, settings: Sequence[str], normalisation: dict[str, list[float]]
) -> OwnModule:
    """The network that the command line names; relative paths start at the current folder."""
    from nas.own_module import parse_module

    section: dict[str, Any] = {"source": model, "arguments": parse_arguments(settings), **normalisation}
    return parse_module(section | ({"weights": weights} if weights is not None else {}), Path.cwd())


def _normalisation(mean: str | None, std: str | None, imagenet: bool) -> dict[str, list[float]]:
    if imagenet and (mean is not None or std is not None):
        raise RecipeError("--imagenet stands for --mean and --std: give it or these")
    if imagenet:
        return {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    given = (("mean", mean), ("std", std))
    return {name: parse_numbers(f"--{name}", text) for name, text in given if text is not None}


def data_section(data: str, resize: str | None, layout: str) -> dict[str, Any]:
    """The recipe's ``data`` section for data of a kind that is found out by looking.

    Args:
        data: ``digits``, or the path of an ``.npz`` file, of a folder with IDX files or of one with class folders.
        resize: ``HEIGHTxWIDTH`` that images of a folder are brought to.
        layout: ``NHWC`` or ``NCHW``.

    Raises:
        DataError, RecipeError: It is none of these, or ``resize`` does not read so.
    """
    section: dict[str, Any] = {"source": "digits"}
    if data != "digits":
        path = Path(data).expanduser()
        if not path.exists():
            raise DataError(f"there is no data {path}", "a folder of class folders, an .npz file, IDX files, or digits")
        if path.is_file() and path.suffix != ".npz":
            raise DataError(f"{path} must be an .npz file or a folder", "save the arrays with numpy.savez")
        is_idx = path.is_dir() and any(path.glob("train-images-idx*"))
        section = {"source": "npz" if path.is_file() else "idx" if is_idx else "folder", "path": str(path.resolve())}
    if resize is not None:
        match = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", resize)
        if match is None:
            raise RecipeError(f"--resize must read HEIGHTxWIDTH, but got '{resize}'", "such as 224x224")
        section["resize"] = [int(match[1]), int(match[2])]
    return section | ({"layout": layout} if layout != "NHWC" else {})


def parse_numbers(option: str, text: str) -> list[float]:
    """Numbers separated by commas.

    Raises:
        RecipeError: They are not.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise RecipeError(
            f"{option} takes numbers separated by commas, but got '{text}'", "such as 0.5,0.5,0.5"
        ) from None


def parse_arguments(settings: Sequence[str]) -> dict[str, Any]:
    """``NAME=VALUE`` as keyword arguments; values as JSON or YAML spells them (10, 1e-3, true, [1, 2]), else text.

    Raises:
        RecipeError: One does not read so.
    """
    arguments: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.isidentifier():
            raise RecipeError(f"--arg takes NAME=VALUE, but got '{setting}'", "such as --arg classes=10")
        arguments[name] = _value(text)
    return arguments


def _value(text: str) -> Any:
    import yaml

    for read in (json.loads, yaml.safe_load):
        try:
            return read(text)
        except (ValueError, yaml.YAMLError):
            continue
    return text
