"""Writes a deployment's folder: whole or not at all, and only where nothing of anyone else's would be lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import nas
from nas.artifact import Manifest
from nas.data.dataset import Dataset
from nas.deploy.also import Also, MakeProgram, check_forms
from nas.deploy.choose import Choice, broken_limits
from nas.deploy.deployment import DEPLOYMENT_FILE, README_FILE, Deployment, Reasons
from nas.deploy.further import Further, parse_forms
from nas.deploy.place import beside, os_errors, put_in_place, refuse_strangers
from nas.deploy.readme import readme
from nas.deploy.running import Runner
from nas.deploy.served import TORCH_EXPORTER, Served
from nas.deploy.serving import Serving
from nas.deploy.verify import Verification, verify_deployment
from nas.errors import ArtifactError, NasError
from nas.gains import compare
from nas.outcome import Quantity
from nas.record import utc_now
from nas.serving import Outputs
from nas.store import sha256_bytes, write_atomically
from nas.study import Study
from nas.target import TORCH_PROGRAM, Place
from nas.wording import listing

# Packages whose versions a reader needs to get the same outputs and the same pixels, as far as they are installed.
PACKAGES = ("numpy", "pillow")
RUNTIME_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "torch": ("torch",),
    "inductor": ("torch",),
    "tensorrt": ("onnxruntime-gpu", "tensorrt"),
}


@dataclass(frozen=True)
class Deployed:
    """What ``deploy`` wrote and checked."""

    folder: Path
    verification: Verification

    @property
    def verified(self) -> str:
        """What was checked, in a sentence; a line for each further form."""
        return "\n".join([self.verification.words, *(item.words for item in self.verification.further)])


def deploy(
    study: Study,
    choice: Choice,
    output: Path,
    dataset: Dataset,
    outputs: Outputs | None = None,
    also: Sequence[str] = (),
    program: MakeProgram | None = None,
) -> Deployed:
    """Writes the chosen trial as a deployment, and puts it in place only if it does what the trial promises.

    The deployed file is the one that the target wants which serves the trial, and that target's runtime runs it for
    the check. Test scores are the study's, or are measured now where the search has not confirmed its front yet, or
    where another runtime was asked for than those that serve.

    Args:
        study: The study that the choice is from.
        choice: What ``choose`` gave.
        output: The folder to write; its parents are made. A deployment that lies there is replaced.
        dataset: The study's data.
        outputs: Runs what does not run in this process; a measuring process that ends with the call where None.
        also: Further forms to write, ``openvino`` or ``program``, see ``nas.deploy.further``. Each must give what the
            model's file gives.
        program: Makes the torch program, see ``nas.trial_program``.

    Raises:
        StudyError: The artifact is not in the study's cache.
        ArtifactError: What was written does not do what the trial promises, or the limits are met by another runtime
            only; nothing is in place.
        UnsupportedError: The runtime or its device is missing here, or a further form is not possible; nothing is in
            place.
        NasError: The place holds something else, or cannot be written.
    """
    if outputs is None:
        with Runner() as runner:
            return deploy(study, choice, output, dataset, runner, also, program)
    forms = parse_forms(also)
    served = Served.at(study, choice.record, choice.target)
    check_forms(forms, choice.record.design, served.target.form)
    verifications: list[Verification] = []

    def check(folder: Path) -> None:
        verifications.append(verify_deployment(folder, dataset.validation, dataset.test, study, outputs))

    scores = served.scores(dataset, outputs)
    further = Also(forms, program, dataset.validation, outputs)
    folder = write_deployment(study, choice, output, check, scores, further)
    return Deployed(folder, verifications[0])


def write_deployment(
    study: Study,
    choice: Choice,
    output: Path,
    check: Callable[[Path], object] | None = None,
    scores: Mapping[str, Quantity] | None = None,
    further: Callable[[Path, Deployment], tuple[Further, ...]] | None = None,
) -> Path:
    """Writes the chosen trial's artifact, with all that is known of it, into a folder.

    The folder is made beside its place, checked, and then renamed into it. A deployment that lies there is replaced;
    anything else is left alone.

    Args:
        study: The study that the choice is from.
        choice: What ``choose`` gave.
        output: The folder to write; its parents are made.
        check: Called with the folder before it is put in place; whatever it raises leaves the place as it was.
        scores: Accuracies by quantity name that trial and study do not have of the runtime that serves it.
        further: Called with the folder once the model lies there; writes further forms and tells of them.

    Returns:
        The folder that was written.

    Raises:
        StudyError: The artifact is not in the study's cache.
        ArtifactError: The check failed, or the limits are met by another runtime only.
        NasError: The place holds something else, or cannot be written.
    """
    place = output.resolve()
    served = Served.at(study, choice.record, choice.target)
    content = served.artifact
    deployment = _deployment(served, choice, place, content, scores or {})
    _check_limits(study, choice, deployment)
    with os_errors(output):
        refuse_strangers(place, output)
        place.parent.mkdir(parents=True, exist_ok=True)
        with beside(place) as aside:
            write_atomically(aside / deployment.serving.model_file, content)
            if further is not None:
                deployment = replace(deployment, further=further(aside, deployment))
            text = json.dumps(deployment.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
            # A folder's name, hence a class's, need not be Unicode; the escape that takes its place is JSON.
            write_atomically(aside / DEPLOYMENT_FILE, f"{text}\n".encode(errors="backslashreplace"))
            write_atomically(aside / README_FILE, readme(deployment).encode(errors="backslashreplace"))
            if check is not None:
                _check(check, aside, output)
            put_in_place(aside, place)
    return output


def _deployment(
    served: Served, choice: Choice, folder: Path, content: bytes, scores: Mapping[str, Quantity]
) -> Deployment:
    from nas.describe import describe

    study, record = served.study, served.record
    present = study.test_scores.get(record.number, {}) if served.is_scored else {}
    tested = present or {name: quantity for name, quantity in scores.items() if name.startswith("test_")}
    manifest, is_program = Manifest.from_json(record.manifest), served.target.form == TORCH_PROGRAM
    return Deployment(
        folder=folder,
        created=utc_now(),
        study=study.name,
        trial=record.number,
        design=record.design,
        design_words=describe(record.design),
        serving=_serving(served, choice),
        input=manifest.input,
        class_names=manifest.class_names,
        exporter=TORCH_EXPORTER if is_program else manifest.exporter,
        opset=None if is_program else manifest.opset,
        quantities=served.quantities(content, scores),
        test_scores=tuple(tested.values()),
        labels=served.labels,
        notes=record.notes,
        chosen=Reasons(choice.rule, choice.why, choice.limits.to_json()),
        versions=_versions(served.target.runtime),
        environment=record.environment,
        sha256=sha256_bytes(content),
        size_bytes=len(content),
        baseline=compare(study, record, choice.target),
    )


def _serving(served: Served, choice: Choice) -> Serving:
    """As the latency was measured that the choice went by, or else the first that the study measured."""
    is_measured = choice.target is not None or bool(served.study.recipe.all_targets)
    place = choice.target if choice.target is not None and Place.parse(choice.target) is not None else None
    return Serving.on(served.target, served.version, is_measured, place)


def _check_limits(study: Study, choice: Choice, deployment: Deployment) -> None:
    """What one runtime serves must keep the limits too where the trial's numbers are those of another."""
    if broken := broken_limits(study, choice, deployment):
        raise ArtifactError(
            f"by {deployment.serving.words} trial {deployment.trial} does not keep the limits: {listing(broken)}",
            "loosen the limit, or leave --target out",
        )


def _versions(runtime: str) -> dict[str, str]:
    import platform

    versions = {"nas-front": nas.__version__, "python": platform.python_version()}
    for name in (*RUNTIME_PACKAGES[runtime], *PACKAGES):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _check(check: Callable[[Path], object], aside: Path, output: Path) -> None:
    """Runs the check; its errors name the folder that was asked for, since the one beside it is about to go."""
    try:
        check(aside)
    except (NasError, OSError) as error:
        message = (error.message if isinstance(error, NasError) else str(error)).replace(str(aside), str(output))
        raise ArtifactError(
            f"the deployment does not do what the trial promises, so nothing was written: {message}",
            error.hint if isinstance(error, NasError) else "",
        ) from error
