"""What is handed to readers: valid files, and strategies that damage them, by bytes and by what they mean."""

from __future__ import annotations

import copy
import gzip
import io
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st
from onnx_models import tiny_artifact
from PIL import Image

RECIPE: dict[str, Any] = {
    "data": {"source": "digits", "validation": 0.2, "arrays": {"images": "x"}},
    "space": "convnet",
    "targets": ["onnxruntime-cpu-1t-b1"],
    "objectives": ["accuracy", "latency_ms"],
    "constraints": ["size_bytes <= 20000"],
    "training": {"learning_rate": 0.001, "augmentation": {"flip": True}},
    "teacher": {"path": "t.onnx", "mean": [0.5], "std": [0.5]},
    "budget": {"trials": 3, "epochs": 1},
    "guided": {"reduction": 3},
}
SPACE: dict[str, Any] = {
    "family": "convnet",
    "description": "words",
    "architecture": {
        "stem.width": [8, 16],
        "stages": {"range": {"low": 1, "high": 3, "step": 1}},
        "stage2.conv": {"values": ["standard", "separable"], "when": {"stages": [2, 3]}},
    },
    "compression": {"weight_bits": [32, 8], "activation_bits": {"values": [32, 8], "when": {"weight_bits": [8]}}},
    "baseline": {"stem.width": 8, "stages": 1},
    "first": [{"weight_bits": 8, "activation_bits": 8}],
}

# Numbers at which readers stumble.
_NUMBERS = st.sampled_from(
    [0, 1, -1, 255, 256, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30, 1e308, -1e-308]
)
_STRANGE = [
    *("", "..", "../../etc/passwd", "/etc/passwd", "\0", "a\nb", "x.py:f", "~", "~nobody/x", "C:\\x", "1e3", "\ud800"),
    *("${HOME}", "latency_ms@", "accuracy >= nan", "size_bytes <= 1e999", "é" * 300, "\x1b[2J", "%s%n", "{0}"),
]
_TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(_STRANGE))
_SCALARS = st.one_of(st.none(), st.booleans(), _NUMBERS, st.floats(), _TEXTS)


def _nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


VALUES = st.one_of(
    _SCALARS,
    st.recursive(
        _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3), max_leaves=6
    ),
    st.builds(_nested, st.integers(2, 200), st.sampled_from([lambda value: [value], lambda value: {"a": value}])),
)


def _paths(tree: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [place]
    if isinstance(tree, dict):
        found += [path for key, value in tree.items() for path in _paths(value, (*place, key))]
    elif isinstance(tree, list):
        found += [path for index, value in enumerate(tree) for path in _paths(value, (*place, index))]
    return found


@st.composite
def damaged_trees(draw: st.DrawFn, tree: Any) -> Any:
    """A tree of lists and mappings, some parts of which are replaced, removed or added to."""
    changed = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths(changed)))
        if not path:
            if draw(st.integers(0, 20)) == 0:
                return draw(VALUES)
            continue
        holder = changed
        for step in path[:-1]:
            holder = holder[step]
        match draw(st.integers(0, 5)):
            case 0:
                del holder[path[-1]]
            case 1 if isinstance(holder, dict):
                holder[draw(_TEXTS)] = draw(VALUES)
            case _:
                holder[path[-1]] = draw(VALUES)
    return changed


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Content, some bytes of which are changed, removed, repeated or added."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, max(0, len(changed) - 1)))
        length = draw(st.integers(0, 16))
        match draw(st.integers(0, 4)):
            case 0:
                changed[start : start + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del changed[start : start + length]
            case 2:
                changed[start : start + length] = draw(st.binary(max_size=16))
            case 3:
                changed[start:start] = changed[start : start + length] * draw(st.integers(1, 50))
            case _:
                changed[start : start + 4] = draw(st.sampled_from([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4]))
    return bytes(changed)


def _dumped(tree: Any) -> bytes:
    return yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")


def yaml_files(tree: Any) -> st.SearchStrategy[bytes]:
    """A YAML file with something wrong in its values, in its bytes, or in its aliases."""
    text = _dumped(tree)
    return st.one_of(
        damaged_trees(tree).map(_dumped),
        damaged_bytes(text),
        st.builds(lambda tail: text + tail.encode("utf-8", "surrogatepass"), st.text(max_size=40)),
        st.builds(lambda n, wide: text + aliases(n, wide), st.integers(1, 40), st.integers(1, 12)),
        st.sampled_from(range(len(YAML_TRICKS))).map(YAML_TRICKS.__getitem__),
    )


def aliases(levels: int, wide: int) -> bytes:
    """Aliases of aliases, which stand for ``wide`` to the power of ``levels`` values."""
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * wide)}]" for n in range(1, levels)]
    return "\n".join(["", *lines, ""]).encode()


YAML_TRICKS = [
    b"&a [*a]",
    b"data: &a {source: *a}",
    b"a: &a {<<: *a}",
    b"? {a: 1}\n: 2",
    b"!!binary x",
    b"a: !!int ''",
    b"a: !!timestamp x",
    b"a: !!float ''",
    b"seed: 0x" + b"f" * 4000,
    b"seed: " + b"1:" * 20000 + b"1",
    b"seed: " + b"9" * 4000,
    b"[" * 5000,
    b"{a: " * 2000,
    b"- " * 5000,
    b"!!python/name:os.system",
    b"%YAML 9.9\n---\na: 1",
    b"\xff\xfe\0",
    b"",
    b"--- a\n--- b",
    b"seed: .nan",
    b"!<tag:yaml.org,2002:set> {a, b}",
    b"!!omap [a: 1]",
    b"!!pairs x",
]


JSON_TRICKS = [
    *(b"[" * 50_000, b'{"a":' * 10_000, b"", b"null", b"[]", b"9" * 5000, b"\xff", b"NaN", b'"\\ud800"'),
    *(b'["' + b"x" * 50_000 + b'"' + b', ""' * 5_000 + b"]", b"[[1, 2], [3]]", b"[1e999]", b"[" + b"9" * 400 + b"]"),
]


def json_files(tree: Any) -> st.SearchStrategy[bytes]:
    """A JSON file with something wrong in its values or bytes."""
    text = json.dumps(tree).encode()
    return st.one_of(
        damaged_trees(tree).map(lambda changed: json.dumps(changed).encode()),
        damaged_bytes(text),
        st.sampled_from(range(len(JSON_TRICKS))).map(JSON_TRICKS.__getitem__),  # too long to be shown
    )


def idx_file(shape: tuple[int, ...], held: int, kind: int = 8) -> bytes:
    """An IDX file that states a shape and holds so many bytes."""
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(range(3)) * (held // 3 + 1)


@st.composite
def idx_folders(draw: st.DrawFn) -> dict[str, bytes]:
    sizes = st.sampled_from([0, 1, 2, 3, 4, 30, 2**16, 2**31, 2**32 - 1])
    files = {}
    for name, shape in (("train-images-idx3-ubyte", (30, 2, 2)), ("train-labels-idx1-ubyte", (30,))):
        if draw(st.booleans()):
            content = idx_file(shape, 0)[: 4 + 4 * len(shape)] + bytes(range(3)) * (10 if len(shape) == 1 else 40)
        else:
            content = idx_file(tuple(draw(sizes) for _ in shape), draw(st.integers(0, 300)))
        if draw(st.booleans()):
            name, content = f"{name}.gz", gzip.compress(content, 1)
        files[name] = draw(st.one_of(st.just(content), damaged_bytes(content)))
    return files


def npz_file(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


_DTYPES = ["u1", "i1", "<i8", ">u4", "f4", "f2", "f8", "?", "c8", "U3", "S2", "M8[s]", "m8[D]", "V3", "<u8", "g"]


@st.composite
def npz_files(draw: st.DrawFn) -> bytes:
    if draw(st.booleans()):
        shape = (12, *draw(st.lists(st.integers(0, 5), max_size=4)))
        images = np.zeros(shape, draw(st.sampled_from(_DTYPES)))
        shape = draw(st.sampled_from([(12,), (12, 1), (), (3,), (12, 2)]))
        labels = np.zeros(shape, draw(st.sampled_from(_DTYPES)))
    else:
        images, labels = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4), np.arange(12) % 3
    content = npz_file(images=images, labels=labels)
    return draw(st.one_of(st.just(content), damaged_bytes(content)))


def image_file(form: str, mode: str = "RGB", size: tuple[int, int] = (5, 4)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 3).save(buffer, form)
    return buffer.getvalue()


_FORMS = [
    *((form, mode) for form in ("PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG", "PPM") for mode in ("RGB", "L")),
    *(("PNG", "P"), ("PNG", "LA"), ("PNG", "RGBA"), ("PNG", "1"), ("PNG", "I;16"), ("TIFF", "CMYK"), ("TIFF", "F")),
    *(("EPS", "RGB"), ("PDF", "RGB"), ("ICO", "RGB"), ("SGI", "RGB")),
]


@st.composite
def damaged_images(draw: st.DrawFn) -> bytes:
    content = image_file(*draw(st.sampled_from(_FORMS)))
    return draw(st.one_of(st.just(content), damaged_bytes(content)))


@st.composite
def image_folders(draw: st.DrawFn) -> dict[str, bytes]:
    good = image_file("PNG")
    files = {f"{name}/{number}.png": good for name in "ab" for number in range(4)}
    name = draw(st.sampled_from(["a/x.png", "b/y.jpg", "c/z.tiff", "a/sub/x.png", "x.png"]))
    return files | {name: draw(damaged_images())}


@st.composite
def uploads(draw: st.DrawFn) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 2, 3, 1), draw(st.sampled_from(["f4", "u1", "f8", "i8"]))))
    tree = draw(st.sampled_from([[[[1, 2, 3]] * 2], {"images": [[[0.5], [1], [2]], [[0], [1], [2]]]}]))
    return draw(st.one_of(damaged_bytes(buffer.getvalue()), json_files(tree), damaged_images(), st.binary(max_size=64)))


TINY = tiny_artifact()
