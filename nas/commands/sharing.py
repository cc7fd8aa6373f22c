"""What the options of a search say of a study that several searchers share, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.errors import RecipeError


@dataclass(frozen=True)
class SharedStudy:
    """What the options say.

    Args:
        url: Of the database.
        name: Of the study there.
        cache: Address of the cache that searchers share.
    """

    url: str
    name: str
    cache: str


def named_study(
    storage: str | None, name: str | None, cache: str | None, recipe: Path, dry_run: bool, fresh: bool
) -> SharedStudy | None:
    """The shared study that the options name; None for one that lies in its folder alone.

    Args:
        storage, name, cache: As they were given.
        recipe: Gives the study its name where none was given.
        dry_run: Whether nothing is searched.
        fresh: Whether the folder is to be emptied.

    Raises:
        RecipeError: Options lack another one, or do not go together.
        StudyError: The database's address is none.
        UnsupportedError: The client that it needs is not installed.
    """
    if storage is None:
        if name is not None:
            raise RecipeError("--study-name: only with --storage", "the folder is named with --output")
        return None
    if dry_run:
        raise RecipeError("--dry-run looks at this machine and folder alone", "leave --storage out")
    if fresh:
        raise RecipeError(
            "--fresh empties a folder, and the study is in the database", "name another one with --study-name"
        )
    if name == "":
        raise RecipeError("--study-name is empty", "leave it out to take the recipe's name")
    if not cache:
        raise RecipeError(
            "--storage needs --cache, where each searcher finds what the others trained",
            "name a folder that all of them reach, or s3://bucket/path",
        )
    from nas.search.shared.database import parse_url

    parse_url(storage)
    return SharedStudy(storage, name or recipe.stem, cache)
