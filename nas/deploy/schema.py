"""The JSON schema of ``deployment.json``, for this package and for any other program that reads one.

It lies beside this file as ``deployment.schema.json`` and is part of the package; ``nas verify --schema`` prints it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from nas.errors import unknown_name

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

SCHEMA_FILE = "deployment.schema.json"
SCHEMA_ID = "urn:nas-front:deployment:2"

_KINDS = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def schema_text() -> str:
    """The schema as it is published."""
    return files("nas.deploy").joinpath(SCHEMA_FILE).read_text(encoding="utf-8")


def problem_of(data: object) -> str | None:
    """What is wrong with a deployment's description by the schema, with the key that it is wrong at; None if nothing.

    Where several things are wrong it is the first one, the outermost before those within.

    Args:
        data: What ``deployment.json`` holds, read as JSON.

    Returns:
        ``quantities[3].how must be …, but is …``; ``serving lacks 'threads'``.
    """
    found = min(_validator().iter_errors(data), key=lambda error: len(error.absolute_path), default=None)
    return None if found is None else _words(found)


@cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(schema_text()))


def _words(error: ValidationError) -> str:
    """One error in a line; jsonschema's own messages do not say where."""
    key = _key(error.absolute_path)
    value: Any = error.instance
    rule: Any = error.validator_value
    schema: Any = error.schema
    match error.validator:
        case "required":
            missing = next(name for name in rule if name not in value)
            return f"{key or 'it'} lacks '{missing}'"
        case "additionalProperties" if isinstance(value, Mapping):
            known = schema["properties"]
            odd = next(name for name in value if name not in known)
            return unknown_name(f"key of {key or 'it'}", odd, known)
        case "enum":
            return unknown_name(key, value, map(str, rule))
        case "pattern":
            return f"{key} must match {rule}, but is {_shown(value)}"
        case "minItems" | "maxItems":
            return f"{key} must be {_kind(schema)}, but is {_shown(value)}"
        case _:
            return f"{key or 'it'} must be {_kind(schema)}, but {_verb(schema)} {_shown(value)}"


def _key(path: Iterable[str | int]) -> str:
    """``serving.threads``, ``quantities[3].how``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _kind(schema: Any) -> str:
    """What a value should have been, had it not been left out: ``a whole number from 1 to 1024``."""
    types = schema.get("type", "object")
    names = [types] if isinstance(types, str) else [name for name in types if name != "null"]
    return " or ".join(_kind_of(name, schema) for name in names)


def _kind_of(name: str, schema: Any) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if name in ("integer", "number") and least is not None:
        return f"{_KINDS[name]} {f'at least {least}' if most is None else f'from {least} to {most}'}"
    if name == "array" and (count := schema.get("minItems")) is not None:
        return f"a list of {count} {'or more ' if schema.get('maxItems') != count else ''}items"
    if name == "array" and schema["items"].get("type") == "string":
        return "a list of texts"
    return _KINDS[name]


def _verb(schema: Any) -> str:
    """``but got '4'`` for numbers, ``but is None`` for the rest."""
    types = schema.get("type", "object")
    return "got" if "integer" in types or "number" in types else "is"


def _shown(value: object) -> str:
    """A value, not endless and on one line."""
    return " ".join(repr(value).split())[:40]
