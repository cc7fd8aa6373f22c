"""Writes a deployment's folder: whole or not at all, and only where nothing of anyone else's would be lost."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import nas
from nas.artifact import Manifest
from nas.data.dataset import Dataset
from nas.deploy.choose import Choice
from nas.deploy.deployment import (
    DEPLOYMENT_FILE,
    FILES,
    MODEL_FILE,
    README_FILE,
    Deployment,
    Reasons,
    Serving,
)
from nas.deploy.readme import readme
from nas.deploy.verify import Verification, scores_on_test, verify_deployment
from nas.errors import ArtifactError, NasError
from nas.gains import compare
from nas.outcome import Quantity
from nas.record import TrialRecord
from nas.store import sha256_bytes, sync_folder, write_atomically
from nas.study import Study
from nas.target import Target

# Packages whose versions a reader needs to get the same outputs and the same pixels.
PACKAGES = ("onnxruntime", "numpy", "pillow")


@dataclass(frozen=True)
class Deployed:
    """What ``deploy`` wrote and checked."""

    folder: Path
    verification: Verification

    @property
    def verified(self) -> str:
        """What was checked, in a sentence."""
        return self.verification.words


def deploy(study: Study, choice: Choice, output: Path, dataset: Dataset) -> Deployed:
    """Writes the chosen trial as a deployment, and puts it in place only if it does what the trial promises.

    Test scores are the study's, or are measured now where the search has not confirmed its front yet.

    Args:
        study: The study that the choice is from.
        choice: What ``choose`` gave.
        output: The folder to write; its parents are made. A deployment that lies there is replaced.
        dataset: The study's data.

    Raises:
        StudyError: The artifact is not in the study's cache.
        ArtifactError: What was written does not do what the trial promises; nothing is in place.
        NasError: The place holds something else, or cannot be written.
    """
    verifications: list[Verification] = []

    def check(folder: Path) -> None:
        verifications.append(verify_deployment(folder, dataset.validation, dataset.test, study))

    scores = scores_on_test(study, choice.record, dataset.test)
    folder = write_deployment(study, choice, output, check, scores)
    return Deployed(folder, verifications[0])


def check_output(output: Path) -> None:
    """Refuses a place that no deployment would be written to, before anything is chosen or computed. Writes nothing.

    Lets through what does not exist, an empty folder, and a folder that holds a deployment and nothing else.
    ``write_deployment`` checks the same again.

    Raises:
        NasError: The place, or a part of its path, is a file, or a folder that holds something else or is unreadable.
    """
    with _os_errors(output):
        _refuse_strangers(output.resolve(), output)


def write_deployment(
    study: Study,
    choice: Choice,
    output: Path,
    check: Callable[[Path], object] | None = None,
    test_scores: Mapping[str, Quantity] | None = None,
) -> Path:
    """Writes the chosen trial's artifact, with all that is known of it, into a folder.

    The folder is made beside its place, checked, and then renamed into it. A deployment that lies there is replaced;
    anything else is left alone.

    Args:
        study: The study that the choice is from.
        choice: What ``choose`` gave.
        output: The folder to write; its parents are made.
        check: Called with the folder before it is put in place; whatever it raises leaves the place as it was.
        test_scores: Test scores by quantity name, where the study has none of its own for this trial.

    Returns:
        The folder that was written.

    Raises:
        StudyError: The artifact is not in the study's cache.
        ArtifactError: The check failed.
        NasError: The place holds something else, or cannot be written.
    """
    place = output.resolve()
    content = study.artifact(choice.record)
    scores = study.test_scores.get(choice.record.number, {}) or test_scores or {}
    with _os_errors(output):
        _refuse_strangers(place, output)
        place.parent.mkdir(parents=True, exist_ok=True)
        with _beside(place) as aside:
            deployment = _deployment(study, choice, aside, content, scores)
            text = json.dumps(deployment.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
            write_atomically(aside / MODEL_FILE, content)
            # A folder's name, hence a class's, need not be Unicode; the escape that takes its place is JSON.
            write_atomically(aside / DEPLOYMENT_FILE, f"{text}\n".encode(errors="backslashreplace"))
            write_atomically(aside / README_FILE, readme(deployment).encode(errors="backslashreplace"))
            if check is not None:
                _check(check, aside, output)
            _put_in_place(aside, place)
    return output


@contextmanager
def _os_errors(output: Path) -> Iterator[None]:
    """Whatever the operating system refuses is an error that names the place."""
    try:
        yield
    except OSError as error:
        message = f"the deployment {output} cannot be written: {error.strerror or error}"
        raise NasError(message, "name another folder with --output") from error


def _deployment(
    study: Study, choice: Choice, folder: Path, content: bytes, test_scores: Mapping[str, Quantity]
) -> Deployment:
    from nas.describe import describe

    record = choice.record
    return Deployment(
        folder=folder,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        study=study.name,
        trial=record.number,
        design=record.design,
        design_words=describe(record.design),
        serving=_serving(study, choice, record),
        manifest=Manifest.from_json(record.manifest),
        quantities=record.quantities,
        test_scores=tuple(test_scores.values()),
        labels=record.labels,
        notes=record.notes,
        chosen=Reasons(choice.rule, choice.why, choice.limits.to_json()),
        versions=_versions(),
        environment=record.environment,
        sha256=sha256_bytes(content),
        size_bytes=len(content),
        baseline=compare(study, record, choice.target),
    )


def _serving(study: Study, choice: Choice, record: TrialRecord) -> Serving:
    """As the latency was measured that the choice went by, or else the first that the study measured."""
    version = str(record.environment.get("onnxruntime", "unknown"))
    name = choice.target or next(iter(study.recipe.all_targets), None)
    if name is None:  # no latency was measured: as accuracy was scored
        return Serving("onnxruntime", version, "cpu", threads=1, batch=None, target=None)
    target = Target.parse(name)
    return Serving(target.runtime, version, target.device, target.threads, target.batch, target.name)


def _versions() -> dict[str, str]:
    import platform

    versions = {"nas-front": nas.__version__, "python": platform.python_version()}
    return versions | {name: metadata.version(name) for name in PACKAGES}


def _refuse_strangers(place: Path, output: Path) -> None:
    """Lets through what does not exist, an empty folder, and a folder that holds a deployment and nothing else."""
    hint = "name another folder with --output"
    for path in (place, *place.parents):
        if path.exists() and not path.is_dir():
            raise NasError(f"the deployment {output} cannot be written: {path} is a file", hint)
    if not place.exists():
        return
    present = {path.name for path in place.iterdir()}
    if present and DEPLOYMENT_FILE not in present:
        raise NasError(f"{output} exists and is no deployment, so it is not replaced", hint)
    if strangers := sorted(present - FILES):
        others = ", ".join(strangers[:3])
        raise NasError(f"{output} holds more than a deployment ({others}), so it is not replaced", hint)


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


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A new folder next to a place, on the same file system; gone afterwards unless it was renamed."""
    aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".part"))
    aside.chmod(0o755)
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_in_place(aside: Path, place: Path) -> None:
    """Renames a finished folder to its place; what lies there is moved away first, and back where that fails."""
    if not place.exists() or not any(place.iterdir()):
        os.rename(aside, place)  # replaces an empty folder
    else:
        with _beside(place) as grave:
            old = grave / "old"
            os.rename(place, old)
            try:
                os.rename(aside, place)
            except BaseException:
                os.rename(old, place)
                raise
    sync_folder(place.parent)
