"""``nas pick --baseline``: a person's present model, measured on what serves the pick, and placed in the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import ArtifactError, DataError, NasError, StudyError

if TYPE_CHECKING:
    import numpy as np

    from nas.data.dataset import Dataset
    from nas.data.normalise import Normalisation
    from nas.deploy.choose import Choice
    from nas.deploy.present import Present, PresentModel, Scored
    from nas.measure.measurer import Measurer
    from nas.outcome import Quantity
    from nas.study import Study
    from nas.target import Target

PICTURE = "baseline.png"


@dataclass(frozen=True)
class Prepared:
    """A present model that can be measured: found, its input understood, nothing run yet.

    Args:
        model: The model.
        target: What it is to be timed on: what serves the pick.
        images: A batch as it takes them.
        normalisation: What the data's images are normalised by for it; None where it takes them as they are.
    """

    model: PresentModel
    target: Target
    images: np.ndarray
    normalisation: Normalisation | None


def prepare_present(
    path: Path, choice: Choice, read: Callable[[], Dataset | None], given: tuple[str, str] | None = None
) -> Prepared:
    """Refuses a present model that cannot be measured beside the pick, before anything is measured.

    Args:
        path: Its file, or a deployment's folder.
        choice: The pick.
        read: Reads the study's data, or gives None where that is not possible; called once the file is there.
        given: Mean and standard deviation of the model's own normalisation, as typed: numbers for each channel.

    Raises:
        ArtifactError: There is no such file, it is no model, or the pick's runtime does not load its form.
        NasError: The pick has no latency to stand beside.
        DataError: The normalisation does not fit the data.
    """
    from nas.deploy.present import find_present
    from nas.remeasure.single_file import check_form

    model = find_present(path)
    if choice.served_by is None:
        raise NasError(
            "--baseline is timed on what serves the pick, and no latency decided this one",
            "name a target with --target",
        )
    check_form(model.path, choice.served_by)
    dataset = read()
    images = _images(model.path, choice.served_by, dataset)
    return Prepared(model, choice.served_by, images, _normalisation(given, dataset))


def measure_present(
    study: Study, choice: Choice, prepared: Prepared, dataset: Dataset | None, no_data: str = ""
) -> Present:
    """Times the present model and, where its file is in the cache, the pick, one after the other; scores the former.

    Args:
        study: The study.
        choice: The pick.
        prepared: What ``prepare_present`` gave.
        dataset: The study's data; None where it cannot be read.
        no_data: Why there is no data.

    Raises:
        ArtifactError: The model does not load or run.
        UnsupportedError: The target cannot be measured here.
        MeasureError: The measuring process died or hung.
    """
    from nas.deploy.present import Present
    from nas.measure import measurer as measuring

    model, target, record = prepared.model, prepared.target, choice.record
    studied = record.quantity(f"latency_ms@{choice.target}")
    with measuring.Measurer() as measurer:
        here = measurer.environment_id(target)
        content = model.path.read_bytes()
        latency, _ = measurer.measure(content, target, prepared.images)
        own, why_not_own = _pick_now(study, choice, target, measurer, dataset)
        scored = _scored(prepared, dataset, measurer, no_data)
        return Present(
            name=model.name,
            target=target,
            latency=latency,
            size_bytes=len(content),
            scored=scored,
            here=(str(measurer.machine["cpu"]), here),
            there=(str(record.environment.get("cpu", "unknown")), studied.environment_id if studied else None),
            pick_latency=own,
            why_not_timed=why_not_own,
            normalised_outside=prepared.normalisation is not None,
        )


def draw_present(study: Study, choice: Choice, present: Present, path: Path | None) -> tuple[Path | None, str]:
    """Draws the study's front with the present model in it.

    Args:
        study: The study.
        choice: The pick.
        present: The model, measured.
        path: Where to; the study's folder where None.

    Returns:
        Where the picture lies, or why there is none.

    Raises:
        StudyError: The picture cannot be written.
    """
    from nas.report.named_points import NamedPoint
    from nas.report.picture import View, draw_front

    view = View.of(study)
    if not present.same_machine:
        return None, "the study was measured elsewhere, and numbers of two machines do not go into one"
    if view.cost.key != f"latency_ms@{choice.target}":
        return None, f"the study's picture shows {view.cost.key}, which was not measured of {present.name}"
    place = path or study.folder.path / PICTURE
    draw_front(study, place, [NamedPoint(present.name, present.latency, present.scored.scores.get(view.quality.name))])
    return place, ""


def check_picture(path: Path) -> None:
    """Refuses a picture of a format that there is not.

    Raises:
        NasError: It ends otherwise.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise NasError(f"--picture must end in .png, .svg or .pdf, but got {path}")


def _images(path: Path, target: Target, dataset: Dataset | None) -> np.ndarray:
    """A batch as the model takes it; sizes that its file leaves free are the data's, in the one layout or the other."""
    from nas.remeasure.single_file import SHAPE_OPTION, images_for

    try:
        return images_for(path, target)
    except ArtifactError as error:
        if SHAPE_OPTION not in error.hint:
            raise
        found = []
        for shape in [] if dataset is None else [dataset.input.shape, dataset.input.channels_first]:
            try:
                found.append(images_for(path, target, shape))
            except ArtifactError:  # which fixes other sizes
                continue
        if dataset is None or not found:
            hint = "export it with the sizes that it is used with; the data's do not fit it"
            raise ArtifactError(error.message, hint) from error
        # What does not take the data's type is a network that is given normalised images, the channels first.
        return found[0] if str(found[0].dtype) == dataset.input.dtype else found[-1]


def _normalisation(given: tuple[str, str] | None, dataset: Dataset | None) -> Normalisation | None:
    if given is None or dataset is None:
        return None
    from nas.data.normalise import given_normalisation

    mean, std = (_numbers(option, text) for option, text in zip(("mean", "std"), given, strict=True))
    if any(value <= 0 for value in std):
        raise DataError(f"--baseline-std must be greater than 0, but got {given[1]}")
    if len(mean) != len(std):
        raise DataError(f"--baseline-mean has {len(mean)} numbers, --baseline-std {len(std)}", "give as many of each")
    return given_normalisation(mean, std, dataset.input)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    import math

    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not all(math.isfinite(number) for number in numbers):
        raise DataError(
            f"--baseline-{option} must be numbers with commas between, but got '{text}'", "such as 0.5,0.5,0.5"
        )
    return numbers


def _pick_now(
    study: Study, choice: Choice, target: Target, measurer: Measurer, dataset: Dataset | None
) -> tuple[Quantity | None, str]:
    """The pick's latency taken now, or why there is none: its file or the data is not there."""
    if dataset is None:
        return None, "the study's data cannot be read"
    try:
        content = study.artifact(choice.record, target.form)
    except StudyError as error:
        return None, error.message
    return measurer.measure(content, target, dataset.validation.images)[0], ""


def _scored(prepared: Prepared, dataset: Dataset | None, measurer: Measurer, no_data: str) -> Scored:
    from nas.deploy.present import Scored, score_present

    if dataset is None:
        return Scored(why_not=f"the study's data cannot be read: {no_data}")

    def outputs(content: bytes, target: Target, given: np.ndarray) -> np.ndarray:
        # In batches as they are timed: the file may take no other number.
        return measurer.outputs(content, target, given, batch=target.batch)

    return score_present(prepared.model, prepared.target, prepared.images, dataset, prepared.normalisation, outputs)
