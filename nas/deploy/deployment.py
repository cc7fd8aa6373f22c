"""A deployment: the folder that ``nas pick`` writes, as a value, and how it is read back.

The model's file is all that a service needs: ``model.onnx``, or ``model.pt2`` where torch serves. ``deployment.json``
says what it takes and gives, how it is best run, and every number that was promised, with how it was had;
``README.md`` is for whoever finds the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nas.artifact import INPUT_NAME, OUTPUT_NAME, InputSpec, texts
from nas.data.images import MODES
from nas.deploy.further import FURTHER_FILES, Further
from nas.deploy.schema import SCHEMA_ID, problem_of
from nas.deploy.serving import MODEL_FILES, Serving
from nas.design import Design
from nas.errors import ArtifactError, NasError, one_line
from nas.gains import Comparison, latency_gain, mac_gain
from nas.outcome import Quantity, Realisation
from nas.safety.files import read_bytes
from nas.safety.limits import MOST_JSON_BYTES, MOST_ONNX_BYTES
from nas.safety.onnx_file import check_onnx
from nas.store import sha256_bytes
from nas.target import TORCH_PROGRAM

VERSION = 2
READABLE = (1, VERSION)  # the first knew ONNX Runtime on the CPU alone
DEPLOYMENT_FILE = "deployment.json"
README_FILE = "README.md"
FILES = frozenset({*MODEL_FILES.values(), *FURTHER_FILES, DEPLOYMENT_FILE, README_FILE})


@dataclass(frozen=True)
class Reasons:
    """Why this network was chosen: the rule, the limits that were set, and both in a sentence with numbers."""

    rule: str
    why: str
    limits: Mapping[str, float | int | str]


@dataclass(frozen=True)
class Deployment:
    """What stands in ``deployment.json``, and where it lies.

    Args:
        folder: Where it lies.
        created: ISO 8601, UTC.
        study: Name of the study.
        trial: Number of the trial.
        design: What was evaluated.
        design_words: The same in words.
        serving: How to run it.
        input: What the model takes.
        class_names: The classes, in the order of the output.
        exporter: What wrote the model's file.
        opset: Of an ONNX file; None for another form.
        quantities: Every number of the trial as it is served here, with how it was had; ``samples_ref`` is relative to
            the study's folder.
        test_scores: Scores on test data that no trial saw; empty where the search has not confirmed its front.
        labels: For each compression choice whether this file on this runtime realises it.
        notes: What a user should know, in words.
        chosen: Why this one.
        baseline: How it does beside the study's baseline; None where that was not measured.
        versions: Of the packages that wrote the deployment.
        environment: The machine and its software that the numbers are from.
        sha256: Digest of the model's file.
        size_bytes: Size of the model's file.
        further: The same network in further forms, which lie beside the model's file.
    """

    folder: Path
    created: str
    study: str
    trial: int
    design: Design
    design_words: str
    serving: Serving
    input: InputSpec
    class_names: tuple[str, ...]
    exporter: str
    opset: int | None
    quantities: tuple[Quantity, ...]
    test_scores: tuple[Quantity, ...]
    labels: Mapping[str, Realisation]
    notes: tuple[str, ...]
    chosen: Reasons
    versions: Mapping[str, str]
    environment: Mapping[str, Any] = field(repr=False)
    sha256: str
    size_bytes: int
    baseline: Comparison | None = None
    further: tuple[Further, ...] = ()

    @property
    def model_path(self) -> Path:
        """The model's file."""
        return self.folder / self.serving.model_file

    def quantity(self, key: str) -> Quantity | None:
        """The quantity or test score of that key (``accuracy``, ``test_accuracy``, ``latency_ms@…``), or None."""
        return next((q for q in (*self.quantities, *self.test_scores) if q.key == key), None)

    def read_model(self) -> bytes:
        """The model file, checked against its digest.

        Raises:
            ArtifactError: It is missing, or is not the file that was deployed.
        """
        path = self.model_path
        try:
            content = read_bytes(path, MOST_ONNX_BYTES, ArtifactError)
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read: {error.strerror}", "deploy again with 'nas pick'") from error
        if sha256_bytes(content) != self.sha256:
            raise ArtifactError(
                f"{path} was changed after it was deployed: its SHA-256 is not the one in {DEPLOYMENT_FILE}",
                "deploy again with 'nas pick'",
            )
        if self.serving.form != TORCH_PROGRAM:
            check_onnx(content, str(path))
        return content

    def to_json(self) -> dict[str, Any]:
        """What ``deployment.json`` holds."""
        input = self.input
        return {
            "$schema": SCHEMA_ID,
            "version": VERSION,
            "created": self.created,
            "study": self.study,
            "trial": self.trial,
            "design": self.design.to_json(),
            "design_words": self.design_words,
            "model": {
                "file": self.serving.model_file,
                "sha256": self.sha256,
                "size_bytes": self.size_bytes,
                "opset": self.opset,
                "exporter": self.exporter,
            },
            "serving": self.serving.to_json(),
            "input": {
                "name": INPUT_NAME,
                **input.to_json(),
                "image_mode": image_mode(input),
                "batch": "the first dimension, free",
            },
            "output": {"name": OUTPUT_NAME, "class_names": list(self.class_names)},
            "quantities": [quantity.to_json() for quantity in self.quantities],
            "test_scores": [quantity.to_json() for quantity in self.test_scores],
            "labels": {name: str(label) for name, label in self.labels.items()},
            "notes": list(self.notes),
            "chosen": asdict(self.chosen) | {"limits": dict(self.chosen.limits)},
            "baseline": self.baseline.to_json() if self.baseline is not None else None,
            "uncompressed": {"mac_gain": mac_gain(self), "latency_gain": latency_gain(self, self.serving.target)},
            "further": [item.to_json() for item in self.further],
            "versions": dict(self.versions),
            "environment": dict(self.environment),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], folder: Path) -> Deployment:
        """Reads what ``to_json`` wrote, or a program that keeps to the schema.

        Raises:
            ArtifactError: Another version.
            TypeError, ValueError, NasError: A field is missing or of the wrong kind; the message names its key.
        """
        if isinstance(data, Mapping) and data.get("version", VERSION) not in READABLE:
            known = " or ".join(map(str, READABLE))
            raise ArtifactError(f"a deployment's version must be {known}, but got {data['version']!r:.40}")
        if (problem := problem_of(data)) is not None:
            raise ValueError(problem)
        model, output, serving = data["model"], data["output"], Serving.from_json(data["serving"])
        if model["file"] != serving.model_file:
            raise ValueError(f"model.file is {model['file']!r:.40}, but {serving.runtime} runs {serving.model_file}")
        opset = model["opset"]
        return cls(
            folder=folder,
            created=str(data["created"]),
            study=str(data["study"]),
            trial=int(data["trial"]),
            design=Design.from_json(data["design"]),
            design_words=str(data["design_words"]),
            serving=serving,
            input=_input(data["input"]),
            class_names=texts("output.class_names", output["class_names"]),
            exporter=str(model["exporter"]),
            opset=None if opset is None else int(opset),
            quantities=tuple(Quantity.from_json(item) for item in data["quantities"]),
            test_scores=tuple(Quantity.from_json(item) for item in data["test_scores"]),
            labels={name: Realisation(label) for name, label in data["labels"].items()},
            notes=tuple(data["notes"]),
            chosen=Reasons(**data["chosen"]),
            baseline=Comparison.from_json(baseline) if (baseline := data.get("baseline")) is not None else None,
            versions=dict(data["versions"]),
            environment=dict(data["environment"]),
            sha256=str(model["sha256"]),
            size_bytes=int(model["size_bytes"]),
            further=tuple(Further.from_json(item) for item in data.get("further", ())),
        )


def _input(data: Mapping[str, Any]) -> InputSpec:
    """What the model takes; images that are resized must be so to what it takes."""
    input = InputSpec.from_json(data)
    size, resize = input.channels_first[1:], input.resize
    if resize is not None and (resize.height, resize.width) != size:
        raise ValueError(f"input.resize is {resize.height}×{resize.width}, but the input is {size[0]}×{size[1]}")
    return input


def image_mode(input: InputSpec) -> str | None:
    """The Pillow mode that an image file is converted to (``L``, ``RGB``); None where the model takes arrays only."""
    return MODES.get(input.channels_first[0]) if input.dtype == "uint8" else None


def load_deployment(folder: Path) -> Deployment:
    """Reads a deployment and checks that its model is the one that was deployed.

    Raises:
        ArtifactError: There is none, its description is damaged or of another version, or the model was changed.
    """
    deployment = read_description(folder)
    deployment.read_model()
    return deployment


def read_description(folder: Path) -> Deployment:
    """Reads what a deployment says of itself, and looks at none of its models.

    Raises:
        ArtifactError: There is none, or it is damaged or of another version; the message names the key.
    """
    path = folder / DEPLOYMENT_FILE
    try:
        text = read_bytes(path, MOST_JSON_BYTES, ArtifactError).decode()
    except (FileNotFoundError, NotADirectoryError):
        message = f"{folder} is no deployment: it holds no {DEPLOYMENT_FILE}"
        raise ArtifactError(message, "write one with 'nas pick'") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", "deploy again with 'nas pick'") from error
    try:
        return Deployment.from_json(json.loads(text), folder)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} is no JSON: {one_line(error)}", "deploy again with 'nas pick'") from error
    except NasError as error:
        raise ArtifactError(f"{path}: {error.message}", error.hint or "deploy again with 'nas pick'") from error
    except (KeyError, TypeError, ValueError) as error:  # KeyError: a design's own, of which the schema says little
        raise ArtifactError(f"{path} is damaged: {one_line(error)}", "deploy again with 'nas pick'") from error
