"""``nas measure``: latencies taken again, of a whole study or its front, or of any model file."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.measure_study import MakeMeasurer, bar_on, measure_study, policy_for, surroundings
from nas.commands.terminal import make_console, typed_again
from nas.errors import NasError

if TYPE_CHECKING:
    from rich.console import Console

    from nas.measure.remote.address import Address
    from nas.target import Target

DEFAULT_TARGETS = {".onnx": "onnxruntime-cpu-1t-b1", ".pt2": "torch-cpu-1t-b1"}


def measure(
    subject: Annotated[
        Path | None, typer.Argument(help="A study's folder, or an .onnx or .pt2 file.", metavar="STUDY_OR_FILE")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            help="What to measure on, by default the study's or deployment's targets: TARGET, http://DEVICE:PORT, or "
            "both, TARGET@http://DEVICE:PORT; repeatable.",
        ),
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Only the study's front, and what may belong to it, in turns.")
    ] = False,
    input_shape: Annotated[
        str | None, typer.Option(help="Of a file: the input's sizes without the batch, such as 224x224x3.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.05, max=600, help="Sample each model for so long; else 0.3 s.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the device's token; else NAS_TOKEN does.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Measure on this machine for others, who have its token, until Ctrl-C.")
    ] = False,
    host: Annotated[str, typer.Option(help="With --serve: interface to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve: 0 for any free one.")] = 8765,
    limit_mb: Annotated[int, typer.Option(min=1, max=65536, help="With --serve: refuse larger files.")] = 512,
) -> None:
    """Measure latency again: of all trials of a study, of its front in turns, or of any model file.

    A study moves to another machine by being measured there: its accuracies stay, its latencies are replaced once all
    are there, its front is drawn anew. Ctrl-C loses nothing; the same command goes on. A target that the study does not
    know is added to its trials. A file gets its load time and its peak memory, too, in fresh processes.

    A device on which --serve runs, or python -m nas.measure.remote.agent where only numpy and onnxruntime are, measures
    for this machine. Its token comes from NAS_TOKEN or a file; what it is sent is ONNX files and images alone. It
    speaks plain HTTP: beyond a network that you trust, let ssh carry it (ssh -L 8765:localhost:8765 device).

    Examples:

        nas measure studies/digits

        nas measure studies/digits --front

        nas measure studies/digits --target onnxruntime-cpu-2t-b1

        nas measure model.onnx --target onnxruntime-cpu-1t-b1 --target openvino-cpu-1t-b1

        nas measure model.onnx --input-shape 224x224x3 --target onnxruntime-cpu-1t-b8

        nas measure --serve --host 0.0.0.0

        nas measure model.onnx --target onnxruntime-cpu-4t-b1@http://raspberry-pi:8765
    """
    from nas.measure.remote.address import split_targets

    console = make_console()
    if serve:
        if subject is not None or target:
            raise NasError("--serve measures what others send", "drop the study, the file or --target")
        _serve(console, host, port, token_file, limit_mb)
        return
    if subject is None:
        raise NasError("nothing is named to be measured", "name a study's folder or a model file, or say --serve")
    targets, device = split_targets(target or [])
    make = _make_measurer(device, token_file)
    file = _file(subject)
    if file is not None:
        if front:
            raise NasError("--front is for a study, whose front it times", f"drop it, as {file} is a file")
        _measure_file(console, make, file, subject.is_dir(), targets, input_shape, seconds)
        return
    if input_shape is not None:
        raise NasError("--input-shape is for a file: a study's data says what its trials take", "drop it")
    if front and targets:
        raise NasError("--front times each member where it is served", "drop --target, or drop --front")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        measure_study(console, make, subject, targets, front, seconds)
    except KeyboardInterrupt:
        console.print("\nStopped. The study is as it was; the same command goes on from there:")
        console.print(f"  {typed_again()}", soft_wrap=True)
        raise typer.Exit(130) from None


def _make_measurer(device: Address | None, token_file: Path | None) -> MakeMeasurer:
    """Makes measurers of this machine, or of the device that was named.

    Raises:
        NasError: The device's token is not given.
    """
    if device is None:
        from nas.measure import measurer

        return measurer.Measurer
    from nas.measure.remote.address import needed_token
    from nas.measure.remote.measurer import RemoteMeasurer

    token = needed_token(token_file, device)
    return lambda policy: RemoteMeasurer(device, token, policy)


def _serve(console: Console, host: str, port: int, token_file: Path | None, limit_mb: int) -> None:
    """Measures for others until Ctrl-C."""
    from nas.measure.remote.address import read_token
    from nas.measure.remote.agent import Options, serve

    options = Options(host, port, read_token(token_file), limit_mb)
    answered = serve(options, lambda line: console.print(line, soft_wrap=True))
    console.print(f"stopped; requests answered: {answered:,}")


def _file(subject: Path) -> Path | None:
    """The model file that is meant: itself, or a deployment's; None for a study."""
    from nas.study import StudyFolder

    if subject.is_dir():
        models = [model for suffix in DEFAULT_TARGETS if (model := subject / f"model{suffix}").is_file()]
        return models[0] if models and not StudyFolder(subject).is_study() else None
    if subject.exists() or subject.suffix in DEFAULT_TARGETS:
        return subject
    return None


# --- a file ----------------------------------------------------------------------------------------------------------


def _measure_file(
    console: Console,
    make: MakeMeasurer,
    path: Path,
    is_deployed: bool,
    targets: Sequence[Target],
    input_shape: str | None,
    seconds: float | None,
) -> None:
    from nas.remeasure import images_for, measure_file
    from nas.report.latency_table import Row, latency_table

    chosen = list(dict.fromkeys(targets)) or [_default_target(path, is_deployed)]
    sizes = _sizes(input_shape)
    images = [images_for(path, target, sizes) for target in chosen]
    rows = []
    with make(policy_for(seconds)) as measurer, bar_on(console, "measuring") as bar:
        for target in chosen:
            measurer.environment_id(target)  # refuses what cannot be measured here before anything is
        for done, (target, batch) in enumerate(zip(chosen, images, strict=True)):
            bar(done, len(chosen))
            found = measure_file(path, target, measurer, batch)
            rows.append(Row(target.name, found.latency, found.load, found.memory))
        around = surroundings(measurer, chosen)
    shape = "×".join(str(size) for size in images[0].shape[1:])
    console.print(f"{path}: inputs of {shape} ({images[0].dtype})", soft_wrap=True)
    console.print(latency_table("Target", rows))
    for line in around:
        console.print(line, style="dim", soft_wrap=True)


def _default_target(path: Path, is_deployed: bool) -> Target:
    """What a file is measured on where nothing is named: what a deployment is served by, else the usual one."""
    from nas.deploy.deployment import DEPLOYMENT_FILE, load_deployment
    from nas.target import Target

    if is_deployed and (path.parent / DEPLOYMENT_FILE).is_file():
        return load_deployment(path.parent).serving.as_target
    return Target.parse(DEFAULT_TARGETS.get(path.suffix, DEFAULT_TARGETS[".onnx"]))


def _sizes(text: str | None) -> tuple[int, ...] | None:
    """``224x224x3`` as numbers."""
    if text is None:
        return None
    words = text.replace("×", "x").split("x")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise NasError(f"--input-shape must read like HEIGHTxWIDTHxCHANNELS, but got '{text}'", "such as 224x224x3")
    return tuple(int(word) for word in words)
