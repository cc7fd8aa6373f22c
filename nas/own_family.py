"""A person's own family: a Python function that a space names as ``family: FILE.py:FUNCTION``. Needs no torch.

To designs such a family is called ``my_family.py:build@3f2a9c1b5d6e``: the name ends in the digest of its source. So
the digest is part of every design, and through it of every key and of the space's digest: another source is another
family.
Reading a space runs nothing; ``nas.families`` runs the file when it first builds a network of it.
"""

from __future__ import annotations

from pathlib import Path

from nas.errors import SpaceError
from nas.own_code import OwnCodeError, OwnFunction, is_own, parse_own

DIGITS = 12  # of the digest, in hexadecimal

_KNOWN: dict[str, OwnFunction] = {}
_SPACES: dict[str, None] = {}


def declare_family(text: str, folder: Path) -> str:
    """The name under which designs have a person's own family.

    Args:
        text: As the space spells it, ``FILE.py:FUNCTION``.
        folder: Where relative paths start: the space file's folder.

    Raises:
        SpaceError: The file is missing, is no Python, or defines no such function.
    """
    try:
        function = parse_own(text, folder)
        function.check()
        name = family_name(function)
    except OwnCodeError as error:
        raise SpaceError(f"family: {error.message}", error.hint) from error
    _KNOWN[name] = function
    return name


def family_name(function: OwnFunction) -> str:
    """What designs call the family of this function, as its file is now.

    Raises:
        OwnCodeError: The file is missing or no Python.
    """
    return f"{function.label}@{function.digest[:DIGITS]}"


def note_space(path: str) -> None:
    """Remembers a space file that a recipe names, in which a family may be declared that its designs are of."""
    _SPACES[path] = None


def noted_spaces() -> list[str]:
    """The space files of all recipes that were read."""
    return list(_SPACES)


def is_own_family(name: str) -> bool:
    """Whether a design's family is a person's own."""
    return is_own(name.rpartition("@")[0])


def declared_family(name: str) -> OwnFunction:
    """The function of a family that a space declared.

    Raises:
        SpaceError: None did, or only with another source.
        OwnCodeError: Its file is gone.
    """
    function = _KNOWN.get(name)
    if function is not None and family_name(function) == name:
        return function
    label = name.rpartition("@")[0]
    if function is not None or any(known.rpartition("@")[0] == label for known in _KNOWN):
        raise SpaceError(
            f"{label} changed: its source is no longer that of the designs that are of family '{name}'",
            "put it back as it was, or search anew with --fresh",
        )
    raise SpaceError(f"no search space that was read declares family '{name}'", "name the space file or its study")
