"""Further forms of a deployed network, beside the model's file that all numbers are of: what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.errors import ArtifactError, NasError, unknown_name
from nas.store import sha256_bytes

OPENVINO = "openvino"
PROGRAM = "program"

# The files of each form. OpenVINO's IR is a graph and its weights.
FILES_OF: Mapping[str, tuple[str, ...]] = {OPENVINO: ("model.xml", "model.bin"), PROGRAM: ("model.pt2",)}
FURTHER_FILES = frozenset(name for names in FILES_OF.values() for name in names)
TITLES: Mapping[str, str] = {OPENVINO: "OpenVINO IR", PROGRAM: "torch program"}


@dataclass(frozen=True)
class FurtherFile:
    """A file in the deployment's folder."""

    file: str
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> FurtherFile:
        """A file that was just written."""
        content = path.read_bytes()
        return cls(path.name, sha256_bytes(content), len(content))


@dataclass(frozen=True)
class Further:
    """A further form, and how it compares with the model's file on validation images.

    Args:
        form: One of ``FILES_OF``.
        files: What lies in the folder.
        maker: Package and version that made it and ran it: ``openvino 2025.4.1``.
        images: How many images both were run on.
        same_class: The share of them that both put into the same class.
        largest_difference: The largest difference of a class probability.
        accuracy: Its accuracy on those images.
    """

    form: str
    files: tuple[FurtherFile, ...]
    maker: str
    images: int
    same_class: float
    largest_difference: float
    accuracy: float

    @property
    def title(self) -> str:
        """``OpenVINO IR``."""
        return TITLES[self.form]

    @property
    def words(self) -> str:
        """``OpenVINO IR (model.xml, model.bin): the same class on 362 of 362 images, …``."""
        names, same = ", ".join(item.file for item in self.files), round(self.same_class * self.images)
        return (
            f"{self.title} ({names}): the same class on {same:,} of {self.images:,} images, "
            f"probabilities at most {self.largest_difference:.1g} apart"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Further:
        """Reads what ``to_json`` wrote and the schema let through.

        Raises:
            ValueError: Its files are not those of its form: a name from a file must lead nowhere else.
        """
        files = tuple(FurtherFile(**item) for item in data["files"])
        if (names := tuple(item.file for item in files)) != FILES_OF[data["form"]]:
            raise ValueError(f"further.files must be {FILES_OF[data['form']]} for {data['form']}, but are {names}")
        return cls(**{**data, "files": files})


def parse_forms(names: Iterable[str]) -> tuple[str, ...]:
    """The forms that ``--also`` names, each once, in order; a text may list several, parted by commas.

    Raises:
        NasError: One is unknown; the message lists those that are known.
    """
    found = [name for text in names for part in text.split(",") if (name := part.strip().lower())]
    for name in found:
        if name not in FILES_OF:
            raise NasError(unknown_name("form for --also", name, FILES_OF))
    return tuple(dict.fromkeys(found))


def check_file(folder: Path, stated: FurtherFile, what: str) -> None:
    """Checks that a file is there and is the one that was deployed.

    Raises:
        ArtifactError: It is not.
    """
    path = folder / stated.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} ({what}) cannot be read: {error.strerror}") from error
    if sha256_bytes(content) != stated.sha256:
        raise ArtifactError(f"{path} ({what}) was changed after it was deployed: its SHA-256 is another")
