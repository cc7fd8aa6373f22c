"""What an error shows, which exit code it asks for, and what is suggested for a name that is unknown."""

from __future__ import annotations

import inspect

import pytest

from nas import errors
from nas.errors import NasError, NothingFeasibleError, one_line, unknown_name

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, NasError)]


def test_an_error_shows_its_hint_in_brackets() -> None:
    error = NasError("the folder is full", "delete something")
    assert (error.message, error.hint) == ("the folder is full", "delete something")
    assert str(error) == "the folder is full (delete something)"


def test_an_error_without_a_hint_is_its_message() -> None:
    assert str(NasError("the folder is full")) == "the folder is full"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_message_and_hint_and_ends_with_an_exit_code(kind: type[NasError]) -> None:
    assert str(kind("what", "how")) == "what (how)"
    assert kind.exit_code == (1 if kind is NothingFeasibleError else 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tpee", "unknown sampler 'tpee'; did you mean 'tpe'? valid: gp, random, tpe"),
        ("TPE", "unknown sampler 'TPE'; did you mean 'tpe'? valid: gp, random, tpe"),
        ("Rand", "unknown sampler 'Rand'; did you mean 'random'? valid: gp, random, tpe"),
        ("xyzzy", "unknown sampler 'xyzzy'; valid: gp, random, tpe"),
        (3, "unknown sampler '3'; valid: gp, random, tpe"),
        (None, "unknown sampler 'None'; valid: gp, random, tpe"),
    ],
)
def test_an_unknown_name_lists_what_is_valid_and_suggests_the_closest(name: object, expected: str) -> None:
    assert unknown_name("sampler", name, ["tpe", "random", "gp"]) == expected


def test_the_suggestion_keeps_the_case_of_the_valid_name() -> None:
    assert "did you mean 'NHWC'?" in unknown_name("layout", "nhcw", ["NHWC", "plain"])


def test_an_unknown_name_where_nothing_is_valid() -> None:
    assert unknown_name("trial", "7", []) == "unknown trial '7'; valid: (none)"


@pytest.mark.parametrize(
    ("text", "line"),
    [("one\n  two\tthree", "one two three"), ("", "ValueError"), ("x" * 500, "x" * 200)],
)
def test_what_another_library_says_becomes_one_line(text: str, line: str) -> None:
    assert one_line(ValueError(text)) == line
    assert one_line(ValueError(text), 3) == line[:3] or not text
