"""A person's own Python function, named in a recipe or a space as ``FILE.py:FUNCTION``. Needs no torch.

Reading such a name runs nothing: that the file is there and defines the function is seen in its text. It is run when
the function is first needed, past Python's cache of compiled files, and that is said on the standard error stream.
Whatever goes wrong in it is told in one line with the person's own file and line.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from nas.design import sha256_of
from nas.errors import NasError, one_line, unknown_name

SUFFIX = ".py"


class OwnCodeError(NasError):
    """A person's own function is missing, cannot be run, raises, or gives what it must not."""


@dataclass(frozen=True)
class OwnFunction:
    """A function in a person's own file.

    Args:
        path: The Python file.
        name: The function's name in it.
    """

    path: Path
    name: str

    @property
    def label(self) -> str:
        """File and function as messages show them, without folders: ``my_data.py:load``."""
        return f"{self.path.name}:{self.name}"

    @property
    def digest(self) -> str:
        """SHA-256 of the function's name, its file and the files beside it that these import; not of where they lie.

        Raises:
            OwnCodeError: A file is missing or no Python.
        """
        return sha256_of({"function": self.name, "sources": sorted(_sources(self.path))})

    def check(self) -> None:
        """Makes sure that the file is there, is Python and defines the function, without running it.

        Raises:
            OwnCodeError: One of these does not hold.
        """
        names, is_open = _defined(_parsed(self.path))
        if self.name not in names and not is_open:
            raise OwnCodeError(unknown_name(f"function of {self.path}:", self.name, names))

    def load(self) -> LoadedFunction:
        """Runs the file, once for each content that it has.

        Raises:
            OwnCodeError: The file cannot be run, or defines no such function.
        """
        self.check()
        found = getattr(_run(self.path), self.name, None)
        if not callable(found):
            raise OwnCodeError(f"{self.label} must be a function, but is {_article(found)}")
        return LoadedFunction(self, found)


@dataclass(frozen=True)
class LoadedFunction:
    """A person's own function as its file defined it when that was run; what becomes of the file later is no matter.

    Args:
        source: Where it comes from.
        function: What the file defined.
    """

    source: OwnFunction
    function: Callable[..., Any]

    @property
    def label(self) -> str:
        """File and function as messages show them."""
        return self.source.label

    def __call__(self, *arguments: Any) -> Any:
        """Calls the function.

        Raises:
            OwnCodeError: It raised; the message names the line.
            NasError: It raised one, such as an InfeasibleDesignError, which says what it has to say.
        """
        try:
            with importable(self.source.path.parent):
                return self.function(*arguments)
        except NasError:
            raise
        except (Exception, SystemExit) as error:
            raise OwnCodeError(f"{self.label} raised {explained(error)}") from error

    def refuse(self, message: str, hint: str = "") -> OwnCodeError:
        """What to raise where the function gives what it must not: its name, the message, where it begins."""
        code = getattr(self.function, "__code__", None)
        line = f", line {code.co_firstlineno}" if code is not None else ""
        return OwnCodeError(f"{self.label} {message} ({self.source.path.name}{line})", hint)


def is_own(text: str) -> bool:
    """Whether a text names a function of a person's own: ``FILE.py:FUNCTION``."""
    place, colon, _ = text.rpartition(":")
    return bool(colon) and place.endswith(SUFFIX)


def parse_own(text: str, folder: Path) -> OwnFunction:
    """Reads ``FILE.py:FUNCTION``; relative paths start at the folder.

    Raises:
        OwnCodeError: It does not read so.
    """
    place, _, name = text.rpartition(":")
    if not is_own(text) or not name.isidentifier():
        raise OwnCodeError(
            f"a function of your own must read FILE.py:FUNCTION, but got '{text}'", "such as own.py:load"
        )
    return OwnFunction(Path(os.path.normpath(folder / Path(place).expanduser())), name)


def explained(error: BaseException) -> str:
    """An error of a person's own code in one line: ``ValueError: no such file (my_data.py, line 7)``.

    The line is the last one of the traceback in a file of theirs, not in Python, an installed package or this one.
    """
    return f"{type(error).__name__}: {one_line(error)}{_where(error)}"


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError):  # says itself where it is
        return ""
    lines = [(file, line) for file, line in _frames(error.__traceback__) if _is_theirs(file)]
    return f" ({lines[-1][0].name}, line {lines[-1][1]})" if lines else ""


def _frames(trace: TracebackType | None) -> Iterator[tuple[Path, int]]:
    while trace is not None:
        yield Path(trace.tb_frame.f_code.co_filename), trace.tb_lineno
        trace = trace.tb_next


def _is_theirs(path: Path) -> bool:
    """Whether code is a person's own: of a file, and neither Python's, an installed package's nor this one's."""
    elsewhere = (Path(__file__).resolve().parent, Path(sysconfig.get_path("stdlib")))
    installed = "site-packages" in path.parts or "dist-packages" in path.parts
    return path.is_file() and not installed and not any(path.is_relative_to(folder) for folder in elsewhere)


_RUN: dict[tuple[str, str], ModuleType] = {}


def _run(path: Path) -> ModuleType:
    """The file as a module of its own; one that was run already with this content is not run again."""
    content = _content(path)
    key = (str(path.resolve()), hashlib.sha256(content).hexdigest())
    if key not in _RUN:
        print(f"runs {_shown(path)}", file=sys.stderr)
        _RUN[key] = _executed(path, content, f"own_{path.stem}_{key[1][:12]}")
    return _RUN[key]


def _executed(path: Path, content: bytes, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a path that ends in .py has a loader
    namespace = importlib.util.module_from_spec(spec)
    sys.modules[name] = namespace  # dataclasses and inspect look it up there
    try:
        with importable(path.parent):
            exec(compile(content, str(path), "exec"), vars(namespace))
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        hint = "install what it imports beside nas" if isinstance(error, ModuleNotFoundError) else ""
        raise OwnCodeError(f"{path} cannot be run: {explained(error)}", hint) from error
    return namespace


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Lets a person's code import what lies beside it, as if it were run from there."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with suppress(ValueError):  # the code may have tidied up itself
            sys.path.remove(entry)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        near = sorted(other.name for other in path.parent.glob(f"*{SUFFIX}")) if path.parent.is_dir() else []
        hint = f"Python files there: {', '.join(near)}" if near else ""
        raise OwnCodeError(f"there is no Python file {path}", hint) from None
    except OSError as error:
        raise OwnCodeError(f"{path} cannot be read: {error.strerror}") from error


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(_content(path), str(path))
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        raise OwnCodeError(f"{path} is no Python: {explained(error)}") from None


def _defined(tree: ast.Module) -> tuple[list[str], bool]:
    """The names that a file defines at its top level, and whether there may be others (``from x import *``)."""
    names: list[str] = []
    is_open = False
    for node in ast.walk(ast.Module([part for part in tree.body if not _has_a_body(part)], [])):
        if isinstance(node, ast.alias):
            names.append((node.asname or node.name).partition(".")[0])
            is_open |= node.name == "*"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
    names += [part.name for part in tree.body if isinstance(part, ast.FunctionDef | ast.ClassDef)]
    # What stands under 'if', 'try' or 'with' may be defined or not: the file has to be run to know.
    is_open |= any(isinstance(part, ast.If | ast.Try | ast.With | ast.For | ast.While) for part in tree.body)
    return [name for name in names if name != "*"], is_open


def _has_a_body(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _sources(path: Path) -> set[str]:
    """Digests of a file and of the files beside it that it imports, and those in turn."""
    folder, found, waiting = path.parent, dict[Path, str](), [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found[file] = hashlib.sha256(_content(file)).hexdigest()
            waiting += [near for name in _imported(_parsed(file)) for near in _beside(folder, name)]
    return set(found.values())


def _imported(tree: ast.Module) -> Iterator[str]:
    """The first part of the name of every module that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _beside(folder: Path, name: str) -> list[Path]:
    """The files of a module that lies in the folder; of a package all of them."""
    file, package = folder / f"{name}{SUFFIX}", folder / name
    if package.is_dir() and (package / f"__init__{SUFFIX}").is_file():
        return sorted(package.rglob(f"*{SUFFIX}"))
    return [file] if file.is_file() else []


def _shown(path: Path) -> str:
    """The path as a person would type it: from the current folder where it lies below."""
    here, there = Path.cwd().resolve(), path.resolve()
    return str(there.relative_to(here)) if there.is_relative_to(here) else str(path)


def _article(value: object) -> str:
    """``a str``, ``an int``, ``missing``."""
    name = type(value).__name__
    return "missing" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
