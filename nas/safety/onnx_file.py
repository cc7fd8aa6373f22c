"""An ONNX file looked through before anything loads it, without the package ``onnx``.

ONNX Runtime and protocol buffers trust a file with this machine's memory and time: functions that call functions stand
for billions of nodes, a tensor may state any size, and weights may be said to lie in any file. So the file's bytes are
walked once, as protocol buffers lay them out (https://protobuf.dev/programming-guides/encoding), field numbers as in
onnx.proto; weights are stepped over, not read.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from nas.errors import ArtifactError, NasError
from nas.safety.files import confined, read_bytes
from nas.safety.limits import (
    MOST_ELEMENTS,
    MOST_GRAPH_DEPTH,
    MOST_ONNX_BYTES,
    MOST_ONNX_NODES,
    MOST_VECTOR,
    size_words,
)
from nas.safety.protocol_buffers import DamagedError, fields, integers_of, message_of, messages_at

# A function's name, and that of the node that calls it: domain, name, overload.
Name = tuple[str, str, str]

# Functions that call one another, one within the other.
_MOST_CALLS = 64


@dataclass
class _Body:
    """A graph, or a function, with what lies in the bodies of its nodes."""

    nodes: int = 0
    calls: Counter[Name] = field(default_factory=Counter)


@dataclass(frozen=True)
class External:
    """Weights that are said to lie in another file.

    Args:
        location: The file's name as it is stated.
        length: How many bytes of it; None for all from the offset on.
        offset: Where in it they begin.
    """

    location: str
    length: int | None
    offset: int


def read_onnx(path: Path) -> bytes:
    """An ONNX file's content, checked; weights that it says lie beside it are not looked at.

    Raises:
        ArtifactError: It cannot be read, is too large, or ``external_data_of`` refuses it.
    """
    try:
        content = read_bytes(path, MOST_ONNX_BYTES, ArtifactError)
    except OSError as error:
        raise ArtifactError(f"the model {path} cannot be read: {error.strerror}") from error
    external_data_of(content, str(path))
    return content


def check_onnx(content: bytes, source: str) -> None:
    """Checks an ONNX file that is to be loaded from memory: all of it must be there.

    Args:
        content: The file.
        source: What it is called in messages.

    Raises:
        ArtifactError: It names other files for its weights, or ``external_data_of`` refuses it.
    """
    if external := external_data_of(content, source):
        raise ArtifactError(
            f"{source} says that weights lie in another file ({external[0].location!r:.80}), which is not read for it",
            "save the model with its weights inside: onnx.save_model(..., save_as_external_data=False)",
        )


def check_external(externals: tuple[External, ...], folder: Path, source: str) -> None:
    """Checks that weights outside an ONNX file lie in its folder, and that they are no more than can be loaded.

    Raises:
        ArtifactError: One lies elsewhere, is missing, or they are too large.
    """
    total = 0
    for external in externals:
        path = confined(folder, external.location, ArtifactError, source)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ArtifactError(f"{source} says that weights lie in {path}: {error.strerror}") from error
        if not path.is_file() or external.offset < 0 or external.offset + (external.length or 0) > size:
            raise ArtifactError(f"{source} says that weights lie in {path}, which does not hold them")
        total += size - external.offset if external.length is None else external.length
    if total > MOST_ONNX_BYTES:
        raise ArtifactError(f"{source} has {size_words(total)} of weights, more than {size_words(MOST_ONNX_BYTES)}")


def external_data_of(content: bytes, source: str) -> tuple[External, ...]:
    """The weights that an ONNX file says lie in other files; the file is held to the limits on the way.

    Args:
        content: The file.
        source: What it is called in messages.

    Raises:
        ArtifactError: It is damaged, its graphs lie within one another too deep, it stands for too many nodes, its
            functions call themselves, or a tensor states a size that none can have.
    """
    walk = _Walk(source)
    try:
        if content[4:8] == b"ORTM":  # ONNX Runtime's own format, which it would take unchecked
            raise DamagedError
        walk.model(memoryview(content))
    except DamagedError:
        raise ArtifactError(f"{source} is no ONNX file, or is damaged") from None
    return tuple(walk.external)


class _Walk:
    """Goes through a model's messages; each method takes one."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.external: list[External] = []
        self.functions: dict[Name, _Body] = {}
        self.nodes = 0

    def model(self, message: memoryview) -> None:
        main, graphs = _Body(), 0
        for number, value in fields(message):
            if number == 7:
                graphs += 1
                self.graph(message_of(value), main, 1)
            elif number == 20:  # for training
                for inner, graph in fields(message_of(value)):
                    if inner in (1, 2):
                        self.graph(message_of(graph), main, 1)
            elif number == 25:
                self.function(message_of(value))
        if not graphs:
            raise DamagedError
        if self._written_out(main, {}, ()) > MOST_ONNX_NODES:
            raise self.refuse(f"stands for more than {MOST_ONNX_NODES:,} nodes, its functions written out")

    def function(self, message: memoryview) -> None:
        body, name = _Body(), {1: "", 10: "", 13: ""}
        for number, value in fields(message):
            if number in name:
                name[number] = _text(value)
            elif number == 7:
                self.node(message_of(value), body, 1)
            elif number == 11:
                self.attribute(message_of(value), body, 1)
        self.functions[_name(name[10], name[1], name[13])] = body

    def graph(self, message: memoryview, body: _Body, depth: int) -> None:
        if depth > MOST_GRAPH_DEPTH:
            raise self.refuse(f"has more than {MOST_GRAPH_DEPTH} graphs within one another (If, Loop, Scan)")
        for number, value in fields(message):
            if number == 1:
                self.node(message_of(value), body, depth)
            elif number == 5:
                self.tensor(message_of(value))
            elif number in (11, 12, 13):
                self.value_info(message_of(value))
            elif number == 15:
                self.sparse(message_of(value))

    def node(self, message: memoryview, body: _Body, depth: int) -> None:
        body.nodes += 1
        self.nodes += 1
        if self.nodes > MOST_ONNX_NODES:
            raise self.refuse(f"has more than {MOST_ONNX_NODES:,} nodes")
        name = {4: "", 7: "", 8: ""}
        for number, value in fields(message):
            if number in name:
                name[number] = _text(value)
            elif number == 5:
                self.attribute(message_of(value), body, depth)
        if name[4] == "EPContext":  # compiled for one device, in a format of its vendor's, or named as another file
            raise self.refuse("holds parts that were compiled for one device")
        body.calls[_name(name[7], name[4], name[8])] += 1

    def attribute(self, message: memoryview, body: _Body, depth: int) -> None:
        for number, value in fields(message):
            if number in (5, 10):
                self.tensor(message_of(value))
            elif number in (6, 11):
                self.graph(message_of(value), body, depth + 1)
            elif number in (22, 23):
                self.sparse(message_of(value))

    def sparse(self, message: memoryview) -> None:
        dimensions: list[int] = []
        for number, value in fields(message):
            if number in (1, 2):
                self.tensor(message_of(value))
            elif number == 3:
                dimensions += integers_of(value)
        self.sized(dimensions)

    def tensor(self, message: memoryview) -> None:
        dimensions: list[int] = []
        entries: dict[str, str] = {}
        is_external = False
        for number, value in fields(message):
            if number == 1:
                dimensions += integers_of(value)
            elif number == 13:
                parts = {n: _text(v) for n, v in fields(message_of(value)) if n in (1, 2)}
                entries[parts.get(1, "")] = parts.get(2, "")
                is_external = True
            elif number == 14:
                is_external |= value == 1
        self.sized(dimensions)
        if is_external:
            try:
                length = int(entries["length"]) if "length" in entries else None
                self.external.append(External(entries.get("location", ""), length, int(entries.get("offset", "0"))))
            except ValueError:
                raise self.refuse("states no number for where weights lie in another file") from None

    def value_info(self, message: memoryview) -> None:
        """The declared shape of an input, an output or what lies between, where it is a tensor's."""
        for path in ((2, 1, 2), (2, 8, 2)):  # type, tensor or sparse tensor, shape
            for shape in messages_at(message, path):
                dimensions = list(messages_at(shape, (1,)))
                sizes = [
                    size for dim in dimensions for n, value in fields(dim) if n == 1 for size in integers_of(value)
                ]
                self.sized(sizes)
                if len(dimensions) == 1 and sizes and sizes[-1] > MOST_VECTOR:
                    raise self.refuse(f"states a value of one dimension and {sizes[-1]:,} elements")

    def sized(self, dimensions: list[int]) -> None:
        if any(size >= 2**63 for size in dimensions):  # below zero, as protocol buffers write it
            raise self.refuse("states a tensor with a size below 0")
        if math.prod(size for size in dimensions if size) > MOST_ELEMENTS:
            raise self.refuse(f"states a tensor of {'×'.join(map(str, dimensions))} elements, more than any can have")

    def _written_out(self, body: _Body, known: dict[Name, int], callers: tuple[Name, ...]) -> int:
        """How many nodes a body stands for, functions written out wherever they are called."""
        total = body.nodes
        for name, times in body.calls.items():
            if name not in self.functions:
                continue
            if name in callers or len(callers) >= _MOST_CALLS:
                raise self.refuse(f"has a function '{name[1]:.80}' that calls itself, or too many within one another")
            if name not in known:
                known[name] = self._written_out(self.functions[name], known, (*callers, name))
            total += times * known[name]
        return total

    def refuse(self, problem: str) -> NasError:
        return ArtifactError(f"{self.source} {problem}", "export the model anew, from a source that you trust")


def _name(domain: str, name: str, overload: str) -> Name:
    return "" if domain == "ai.onnx" else domain, name, overload  # two spellings of ONNX's own


def _text(value: memoryview | int) -> str:
    return str(message_of(value), "utf-8", "surrogateescape")  # as protocol buffers, which let any bytes be a text
