"""``nas measure``: latencies taken again, of a whole study or its front, or of any model file."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.terminal import make_console, progress_bar, typed_again
from nas.errors import DataError, NasError, StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from nas.data.dataset import Dataset
    from nas.measure.clock import Policy
    from nas.measure.measurer import Measurer
    from nas.study import Study
    from nas.target import Target

DEFAULT_TARGETS = {".onnx": "onnxruntime-cpu-1t-b1", ".pt2": "torch-cpu-1t-b1"}

# Moves the bar: (done, of).
Bar = Callable[[float, float], None]


def measure(
    subject: Annotated[
        Path, typer.Argument(help="A study's folder, or an .onnx or .pt2 file.", metavar="STUDY_OR_FILE")
    ],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", help="What to measure on; repeatable. By default the study's or deployment's."),
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Only the study's front, its members in turns: A B C A B C …")
    ] = False,
    input_shape: Annotated[
        str | None, typer.Option(help="Of a file: the input's sizes without the batch, such as 224x224x3.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.05, max=600, help="Sample each model for so long; else 0.3 s.")
    ] = None,
) -> None:
    """Measure latency again: of all trials of a study on this machine, of its front in turns, or of any model file.

    A study moves to another machine by being measured there: its accuracies stay, its latencies are replaced once all
    are there, its front is drawn anew. Ctrl-C loses nothing; the same command goes on. A target that the study does not
    know is added to its trials. A file gets its load time and its peak memory, too, in fresh processes.

    Examples:

        nas measure studies/digits

        nas measure studies/digits --front

        nas measure studies/digits --target onnxruntime-cpu-2t-b1

        nas measure model.onnx --target onnxruntime-cpu-1t-b1 --target openvino-cpu-1t-b1

        nas measure model.onnx --input-shape 224x224x3 --target onnxruntime-cpu-1t-b8
    """
    from nas.target import Target

    targets = [Target.parse(name) for name in target or []]
    console = make_console()
    file = _file(subject)
    if file is not None:
        if front:
            raise NasError("--front is for a study, whose front it times", f"drop it, as {file} is a file")
        _measure_file(console, file, subject.is_dir(), targets, input_shape, seconds)
        return
    if input_shape is not None:
        raise NasError("--input-shape is for a file: a study's data says what its trials take", "drop it")
    if front and targets:
        raise NasError("--front times each member where it is served", "drop --target, or drop --front")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _measure_study(console, subject, targets, front, seconds)
    except KeyboardInterrupt:
        console.print("\nStopped. The study is as it was; the same command goes on from there:")
        console.print(f"  {typed_again()}", soft_wrap=True)
        raise typer.Exit(130) from None


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
    path: Path,
    is_deployed: bool,
    targets: Sequence[Target],
    input_shape: str | None,
    seconds: float | None,
) -> None:
    from nas.measure.measurer import Measurer
    from nas.remeasure import images_for, measure_file
    from nas.report.latency_table import Row, latency_table

    chosen = list(dict.fromkeys(targets)) or [_default_target(path, is_deployed)]
    sizes = _sizes(input_shape)
    images = [images_for(path, target, sizes) for target in chosen]
    rows = []
    with Measurer(_policy(seconds)) as measurer, _bar(console, "measuring") as bar:
        for target in chosen:
            measurer.environment_id(target)  # refuses what cannot be measured here before anything is
        for done, (target, batch) in enumerate(zip(chosen, images, strict=True)):
            bar(done, len(chosen))
            found = measure_file(path, target, measurer, batch)
            rows.append(Row(target.name, found.latency, found.load, found.memory))
        surroundings = _surroundings(measurer, chosen)
    shape = "×".join(str(size) for size in images[0].shape[1:])
    console.print(f"{path}: inputs of {shape} ({images[0].dtype})", soft_wrap=True)
    console.print(latency_table("Target", rows))
    for line in surroundings:
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


def _policy(seconds: float | None) -> Policy:
    """How long a model is sampled, warm-up apart."""
    from nas.measure.clock import Policy

    if seconds is None:
        return Policy()
    return Policy(minimum_ms=1000 * seconds, maximum_ms=max(Policy().maximum_ms, 1000 * seconds))


def _turn(seconds: float | None) -> Policy:
    """The same time, in so many turns as the finalists have."""
    from nas.measure.measurer import ROUNDS, TURN

    if seconds is None:
        return TURN
    each = 1000 * seconds / ROUNDS
    return replace(TURN, minimum_ms=each, maximum_ms=max(TURN.maximum_ms, each))


def _surroundings(measurer: Measurer, targets: Sequence[Target]) -> list[str]:
    """The machine, and each target's fingerprint with what its runtime says of itself."""
    from nas import lease
    from nas.wording import plural

    machine = measurer.machine
    why = lease.available()
    lines = [f"studies that train meanwhile may disturb what is measured: {why}"] if why is not None else []
    lines += [f"machine: {machine['cpu']}, {plural(machine['cores'], 'core')}, {machine['system']}"]
    for target in targets:
        runtime = ", ".join(f"{name} {value}" for name, value in measurer.environment(target).items())
        lines.append(f"environment {measurer.environment_id(target)} for {target.name}: {runtime}")
    return lines


@contextmanager
def _bar(console: Console, what: str) -> Iterator[Bar]:
    """A progress bar, which only a terminal shows."""
    with progress_bar(console) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


# --- a study ---------------------------------------------------------------------------------------------------------


def _measure_study(
    console: Console, path: Path, targets: Sequence[Target], front_only: bool, seconds: float | None
) -> None:
    from nas.measure.measurer import Measurer
    from nas.study import Study
    from nas.target import Target

    folder = Study.open(path).folder
    with folder.claim(), Measurer(_policy(seconds)) as measurer:
        study = Study.open(path)
        dataset = _data(console, study)
        ours = [Target.parse(name) for name in study.recipe.all_targets]
        chosen = list(dict.fromkeys(targets)) or ours
        if not front_only:
            _measure_all(console, study, chosen, measurer, dataset)
        elsewhere = _has_others(study, chosen) and not front_only
        if not elsewhere:
            _time_front(console, Study.open(path), measurer, dataset, seconds)
        for line in _surroundings(measurer, ours if front_only else chosen):
            console.print(line, style="dim", soft_wrap=True)
    console.print(f"\nnext: nas report {path}", soft_wrap=True)


def _has_others(study: Study, chosen: Sequence[Target]) -> bool:
    """Whether the recipe names targets beside those that were measured on."""
    return not set(study.recipe.all_targets) <= {target.name for target in chosen}


def _data(console: Console, study: Study) -> Dataset:
    from nas import data

    try:
        with console.status("reading the data …"):
            return data.load(study.recipe.data)
    except DataError as error:
        where = f"'data.path' in {study.folder.recipe} says where it lies"
        raise DataError(error.message, error.hint or where) from error


def _measure_all(
    console: Console, study: Study, targets: Sequence[Target], measurer: Measurer, dataset: Dataset
) -> None:
    """Measures every trial, and says what came of it: by target, and on the front."""
    from nas.remeasure import measure_all
    from nas.report.measured_anew import changes_of_front, summary_of
    from nas.study import Study

    before = _front(study)
    with _bar(console, "measuring every trial") as bar:
        found = measure_all(study, targets, measurer, dataset, bar)
    after = Study.open(study.folder.path)
    for line in summary_of(study.as_told, found):
        console.print(line, soft_wrap=True)
    for line in changes_of_front(before, _front(after)):
        console.print(line, soft_wrap=True)


def _front(study: Study) -> list[int] | None:
    """The numbers of the front's members; None where there can be no front, as trials were measured on two machines."""
    try:
        return [record.number for record in study.front]
    except StudyError:
        return None


def _time_front(console: Console, study: Study, measurer: Measurer, dataset: Dataset, seconds: float | None) -> None:
    """Times the finalists in turns and prints what each took."""
    from nas.remeasure import time_front
    from nas.report.measured_anew import tables_in_turns

    with _bar(console, "timing the front in turns") as bar:
        found = time_front(
            study, measurer, dataset.validation.images, lambda share: bar(share, 1.0), turn=_turn(seconds)
        )
    if found is None:
        console.print("no member of the front could be timed: there is no latency, or no file is in the cache")
        return
    for item in tables_in_turns(study, found):
        console.print(item)
