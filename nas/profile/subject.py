"""What ``nas profile`` was asked to profile: an ONNX file, a deployment, a trial, a design file or a search space."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx
from torch import nn

from nas.artifact import InputSpec
from nas.compress.export import attach_front_end, export_body
from nas.compress.program import export_program
from nas.data.normalise import Normalisation
from nas.describe import describe
from nas.design import Design, Value
from nas.errors import ArtifactError, NasError, SpaceError, one_line, unknown_name
from nas.profile.compute import Profile, profile_design, profile_onnx
from nas.safety.json_text import read_json
from nas.safety.onnx_file import check_onnx, read_onnx
from nas.space import Choice, SearchSpace, list_spaces, load_space
from nas.study import Study, StudyFolder
from nas.target import TORCH_PROGRAM, Target


def profile_subject(
    subject: str, settings: Sequence[str], input_shape: tuple[int, int, int], classes: int, target: Target
) -> Profile:
    """Profiles whatever the subject names.

    Args:
        subject: The path of an ONNX file, of a deployment's folder or of a design's JSON file; ``STUDY:NUMBER`` for a
            trial; or a search space's name or path.
        settings: For a space, ``NAME=VALUE`` for choices; each other choice takes its first value.
        input_shape: H×W×C of one image, for what is built from a design.
        classes: Number of classes, for what is built from a design.
        target: What to measure on.

    Raises:
        NasError: The subject is none of these, or cannot be profiled.
    """
    if (design := _design(subject, settings)) is not None:
        height, width, channels = input_shape
        return profile_design(design, (channels, height, width), classes, target, _exporter(input_shape, target.form))
    if settings:
        raise NasError("--set is for a search space's choices", "drop it, or name a space such as convnet")
    path, title = _onnx_file(subject)
    content = read_onnx(path)
    check_onnx(content, str(path))  # all of it, since it is measured from memory
    with invalid_refused(content, str(path)):
        return profile_onnx(path, target, title=title)


@contextmanager
def invalid_refused(content: bytes, source: str) -> Iterator[None]:
    """Turns what counting stumbles over into an ArtifactError, where it is the model that is wrong.

    Counting takes a valid model for granted: that a convolution has weights, that every node gives something.

    Raises:
        ArtifactError: Something was stumbled over, and the model breaks the rules of ONNX.
    """
    try:
        yield
    except (LookupError, ValueError, TypeError, ArithmeticError, RuntimeError, StopIteration) as error:
        try:
            onnx.checker.check_model(content)
        except Exception as problem:  # protobuf's, which has no home that lasts, beside the checker's own
            raise ArtifactError(f"{source} is no valid ONNX model: {one_line(problem)}") from error
        raise


def _design(subject: str, settings: Sequence[str]) -> Design | None:
    """The design that the subject names by a space or a JSON file; None where it names an ONNX file."""
    path = Path(subject)
    if path.suffix == ".json" and path.is_file():
        try:
            data = read_json(path)
            return Design.from_json(data.get("design", data))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise NasError(f"{subject} holds no design: {error}") from None
    names = [space.name for space in list_spaces()]
    if subject in names or path.suffix in (".yaml", ".yml"):
        space = load_space(subject)
        wanted = _wanted(space, settings)
        design = space.choose(_setter(wanted))
        _check_active(space, wanted, design)
        return design
    if not path.exists() and ":" not in subject and path.suffix != ".onnx":
        raise NasError(
            unknown_name("model or design", subject, names),
            "name an ONNX file, a trial (studies/digits:12) or a search space",
        )
    return None


def _wanted(space: SearchSpace, settings: Sequence[str]) -> dict[str, str]:
    """The settings as choices' names and the texts of their values."""
    wanted: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise NasError(f"--set takes NAME=VALUE, but got '{setting}'", "for example --set stage1.width=32")
        if name not in space.by_name:
            raise SpaceError(unknown_name(f"choice of search space '{space.name}'", name, space.by_name))
        wanted[name] = value
    return wanted


def _setter(wanted: Mapping[str, str]) -> Callable[[Choice], Value]:
    """Picks what is wanted, else a choice's first value."""

    def pick(choice: Choice) -> Value:
        if choice.name not in wanted:
            return choice.values[0]
        for value in choice.values:
            if str(value).lower() == wanted[choice.name].lower():
                return value
        valid = ", ".join(str(value) for value in choice.values)
        raise SpaceError(f"'{choice.name}' cannot be '{wanted[choice.name]}'", f"one of {valid}")

    return pick


def _check_active(space: SearchSpace, wanted: Mapping[str, str], design: Design) -> None:
    """Refuses a setting that the design has no use for, such as the width of a stage that it does not have."""
    chosen = {**design.architecture, **design.compression}
    for name in wanted:
        if name in chosen:
            continue
        other, values = next((o, v) for o, v in space.by_name[name].when.items() if chosen.get(o) not in v)
        words = " or ".join(_spelled(value) for value in values)
        got = f"is {_spelled(chosen[other])}" if other in chosen else "is not chosen at all"
        raise SpaceError(
            f"'{name}' cannot be set: it is chosen only where {other} is {words}, but here {other} {got}",
            f"add --set {other}={_spelled(values[0])}, or drop --set {name}",
        )


def _spelled(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _onnx_file(subject: str) -> tuple[Path, str]:
    """The file that the subject names, and its title: empty where the file's name says what it is."""
    path = Path(subject)
    if (match := re.fullmatch(r"(.+):(\d+)", subject)) and not path.exists():
        study = Study.open(Path(match[1]))
        record = study.record(int(match[2]))
        study.artifact(record)  # says what is wrong where it is gone or damaged
        assert record.artifact_sha256 is not None
        title = f"trial {record.number} of {study.name}: {describe(record.design)}"
        return study.store.blob_path(record.artifact_sha256), title
    if StudyFolder(path).is_study():
        raise NasError(f"{subject} is a study, not one model", f"name one of its trials, such as {subject}:0")
    return (path / "model.onnx" if path.is_dir() else path), ""


def _exporter(input_shape: tuple[int, int, int], form: str) -> Callable[[nn.Module], bytes]:
    """Exports a network as a search would: uint8 pixels in; mean and deviation do not matter for speed."""

    def export(network: nn.Module) -> bytes:
        height, width, channels = input_shape
        spec = InputSpec("uint8", input_shape)
        normalisation = Normalisation((128.0,) * channels, (64.0,) * channels)
        if form == TORCH_PROGRAM:
            return export_program(network, spec, normalisation)
        # In float there is nothing to be symmetric, so that the other forms are one.
        return attach_front_end(export_body(network, (channels, height, width)), spec, normalisation)

    return export
