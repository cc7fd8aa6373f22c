"""A person's own functions: found without running them, run once, and what goes wrong in them told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import InfeasibleDesignError
from nas.own_code import OwnCodeError, OwnFunction, explained, is_own, parse_own


def write(folder: Path, text: str, name: str = "own.py") -> OwnFunction:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return OwnFunction(folder / name, "make")


@pytest.mark.parametrize(
    ("text", "expected"), [("a.py:f", True), ("d/a.py:f", True), ("accuracy", False), ("a.py", False), ("a:f", False)]
)
def test_what_names_a_function(text: str, expected: bool) -> None:
    assert is_own(text) is expected


def test_paths_start_at_the_folder(tmp_path: Path) -> None:
    assert parse_own("sub/../a.py:f", tmp_path) == OwnFunction(tmp_path / "a.py", "f")
    assert parse_own(f"{tmp_path}/a.py:f", Path("elsewhere")).label == "a.py:f"
    for text in ("a.py:", "a.py:1f", "accuracy"):
        with pytest.raises(OwnCodeError, match=r"must read FILE\.py:FUNCTION, but got"):
            parse_own(text, tmp_path)


def test_a_file_is_run_once_for_each_content_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    function = write(tmp_path, "COUNT = []\ndef make(x):\n    COUNT.append(x)\n    return len(COUNT)\n")
    function.check()
    assert function.digest
    assert capsys.readouterr().err == ""  # nothing was run to learn of it
    assert [function.load()("a"), function.load()("b")] == [1, 2]
    assert capsys.readouterr().err == "runs own.py\n"
    write(tmp_path, "def make(x):\n    return 7\n")
    assert function.load()("c") == 7
    assert capsys.readouterr().err == "runs own.py\n"


def test_what_lies_beside_it_can_be_imported_and_is_part_of_the_digest(tmp_path: Path) -> None:
    function = write(tmp_path, "import math, own_helper_a\ndef make():\n    return own_helper_a.VALUE\n")
    write(tmp_path, "from own_helper_b import VALUE\n", "own_helper_a.py")
    write(tmp_path, "VALUE = 3\n", "own_helper_b.py")
    write(tmp_path, "unrelated", "other.py")
    assert function.load()() == 3
    digest = function.digest
    write(tmp_path, "still unrelated", "other.py")
    assert function.digest == digest
    write(tmp_path, "VALUE = 4\n", "own_helper_b.py")
    assert function.digest != digest


def test_the_digest_is_of_content_and_name_alone(tmp_path: Path) -> None:
    here, there = write(tmp_path / "a", "def make(): pass\n"), write(tmp_path / "b", "def make(): pass\n")
    assert here.digest == there.digest
    assert OwnFunction(here.path, "other").digest != here.digest


BROKEN = [
    ("def mkae():\n    pass\n", r"unknown function of .*own\.py: 'make'; did you mean 'mkae'\?"),
    ("def make(:\n", r"own\.py is no Python: SyntaxError: .*line 1"),
    ("make = 3\n", r"own\.py:make must be a function, but is an int"),
    (
        "x = 1\n\nimport no_such_package\nmake = 1",
        r"cannot be run: ModuleNotFoundError: .*\(own\.py, line 3\) \(install",
    ),
    ("def make():\n    y = 1\n    return y / 0\n", r"own\.py:make raised ZeroDivisionError: .*\(own\.py, line 3\)$"),
    ("import json\ndef make():\n    json.loads('{')\n", r"raised JSONDecodeError: .*\(own\.py, line 3\)$"),
    ("import sys\ndef make():\n    sys.exit(1)\n", r"raised SystemExit: 1 \(own\.py, line 3\)$"),
    ("if False:\n    def make(): pass\n", r"own\.py:make must be a function, but is missing"),
    ("def make(x):\n    pass\n", r"own\.py:make raised TypeError: make\(\) missing 1 required"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=range(len(BROKEN)))
def test_what_goes_wrong_is_one_line_with_the_persons_own(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OwnCodeError, match=message) as raised:
        write(tmp_path, text).load()()
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_what_is_there_instead(tmp_path: Path) -> None:
    write(tmp_path, "", "near.py")
    with pytest.raises(OwnCodeError, match=r"there is no Python file .*own\.py \(Python files there: near\.py\)"):
        OwnFunction(tmp_path / "own.py", "make").check()
    (tmp_path / "own.py").mkdir()
    with pytest.raises(OwnCodeError, match=r"own\.py cannot be read: Is a directory"):
        OwnFunction(tmp_path / "own.py", "make").check()


def test_names_from_assignments_imports_and_stars_are_seen_without_running(tmp_path: Path) -> None:
    for text in (
        "make = print",
        "from os import getcwd as make",
        "from os import *",
        "try:\n    make = 1\nfinally:\n    x",
    ):
        write(tmp_path, text).check()


def test_an_error_of_ours_that_a_function_raises_is_told_as_it_is(tmp_path: Path) -> None:
    function = write(
        tmp_path,
        "from nas.errors import InfeasibleDesignError\ndef make():\n    raise InfeasibleDesignError('too small')\n",
    )
    with pytest.raises(InfeasibleDesignError, match=r"^too small$"):
        function.load()()


def test_no_line_where_none_is_the_persons_own() -> None:
    assert explained(ValueError("x")) == "ValueError: x"
