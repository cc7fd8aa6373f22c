"""The section ``module`` of a space file, and the space that results: what is read, what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas.compression import IDENTITY
from nas.describe import describe
from nas.errors import NasError, SpaceError
from nas.families import build, check_space
from nas.own_module import OwnModule, parse_module
from nas.space import SearchSpace, load_space

COMPRESSION: dict[str, Any] = {
    "pruning_ratio": [0.5, 0.0],
    "weight_bits": [8, 32],
    "activation_bits": {"values": [8, 32], "when": {"weight_bits": [8]}},
}


def write_space(folder: Path, **changes: object) -> str:
    """A space file of family ``module``; a key set to None is left out."""
    data = {"family": "module", "module": {"source": "net.py:make"}, "compression": COMPRESSION} | changes
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}, sort_keys=False))
    return str(path)


# --- the section


def test_a_full_section_is_read() -> None:
    section = {
        "source": "nets/net.py:make",
        "arguments": {"classes": 10, "widths": [8, 16], "name": "x"},
        "weights": "../net.safetensors",
        "mean": [0.5, 0.4, 0.3],
        "std": [1, 0.2, 0.1],
    }
    module = parse_module(section, Path("/home/me/spaces"))
    assert module == OwnModule(
        "/home/me/spaces/nets/net.py",
        "make",
        {"classes": 10, "widths": [8, 16], "name": "x"},
        "/home/me/net.safetensors",
        (0.5, 0.4, 0.3),
        (1.0, 0.2, 0.1),
    )
    assert module.is_file
    assert module.is_trained
    assert module.label == "net.py:make"
    assert parse_module(module.to_json(), Path("/elsewhere")) == module


def test_a_short_section_is_read() -> None:
    module = parse_module({"source": "package.nets:Net", "weights": "included", "mean": 0.5, "std": 0.5}, Path("/a"))
    assert module == OwnModule("package.nets", "Net", {}, "included", (0.5,), (0.5,))
    assert not module.is_file
    assert module.label == "package.nets:Net"
    assert not parse_module({"source": "package.nets:Net"}, Path("/a")).is_trained


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (["net.py:make"], "'module' must be a mapping with 'source', but got"),
        ({}, "a module's source must read FILE.py:CALLABLE or MODULE:CALLABLE, but got None"),
        ({"source": "net.py"}, r"FILE\.py:CALLABLE .* but got 'net\.py'"),
        ({"source": "net.py:"}, "FILE.py:CALLABLE"),
        ({"source": "net.pt:make"}, None),
        ({"source": "net.py:make()"}, "FILE.py:CALLABLE"),
        ({"source": "my nets:make"}, "FILE.py:CALLABLE"),
        ({"source": "a:b", "weigths": "x"}, "unknown key in 'module': 'weigths'; did you mean 'weights'"),
        ({"source": "a:b", "weights": 3}, "'weights' in 'module' must be the path of a file or 'included', but got 3"),
        ({"source": "a:b", "arguments": [1]}, "'arguments' in 'module' must be a mapping of names to values"),
        ({"source": "a:b", "arguments": {"x": {1, 2}}}, "'arguments' in 'module' takes numbers, texts"),
        ({"source": "a:b", "arguments": {"x": float("nan")}}, "'arguments' in 'module' takes numbers, texts"),
        ({"source": "a:b", "mean": [0.5]}, "'mean' and 'std' in 'module' go together"),
        ({"source": "a:b", "mean": [0.5], "std": [1, 2]}, "go together, with equally many numbers"),
        ({"source": "a:b", "mean": [0.5], "std": [0]}, "'std' in 'module' must be greater than 0"),
        ({"source": "a:b", "mean": ["x"], "std": [1]}, "'mean' in 'module' must be a number for each channel"),
        ({"source": "a:b", "mean": [float("inf")], "std": [1]}, "'mean' in 'module' must be a number for each channel"),
        ({"source": "a:b", "mean": [], "std": []}, "'mean' in 'module' must be a number for each channel"),
    ],
)
def test_a_bad_section_is_refused(section: object, message: str | None) -> None:
    if message is None:  # a module may be called so
        assert parse_module(section, Path("/a")).place == "net.pt"
        return
    with pytest.raises(SpaceError, match=message):
        parse_module(section, Path("/a"))


# --- the space


def test_a_module_is_a_space_of_one_architecture_that_starts_with_itself(tmp_path: Path) -> None:
    space = load_space(write_space(tmp_path))
    assert space.module == OwnModule(str(tmp_path / "net.py"), "make")
    assert space.size() == 2 * (1 + 2)
    assert space.baseline is not None
    assert all(space.baseline.step(name) == value for name, value in IDENTITY.items())
    assert describe(space.baseline) == "make · float32"
    assert {dict(design.architecture)["module"] for design in space.designs()} == {"make"}
    assert space.contains(space.sample(random.Random(0)))
    check_space(space)
    assert space.to_json()["module"]["source"] == f"{tmp_path / 'net.py'}:make"


def test_a_module_needs_no_compression(tmp_path: Path) -> None:
    assert load_space(write_space(tmp_path, compression=None)).size() == 1


def test_a_stage_may_have_bits_of_its_own(tmp_path: Path) -> None:
    choices = {"weight_bits": [32, 8], "layer1.weight_bits": {"values": [8, 32], "when": {"weight_bits": [8]}}}
    space = load_space(write_space(tmp_path, compression=choices))
    assert space.baseline is not None
    assert dict(space.baseline.compression) == {"weight_bits": 32}


def test_paths_start_at_the_space_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_space(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    space = load_space(f"{tmp_path.name}/own.yaml")
    assert space.module is not None
    assert space.module.place == str(tmp_path.resolve() / "net.py")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module": None}, "own.yaml: family 'module' needs a section 'module'"),
        (
            {"family": "convnet", "architecture": {"a": [1]}},
            "'module' is for family 'module', but the family is 'convnet'",
        ),
        ({"family": "convnet", "module": None}, "'architecture' is missing"),
        ({"family": None}, "'family' is missing"),
        ({"architecture": {"width": [8]}}, "a module's architecture has no choices, but 'architecture' declares some"),
        ({"baseline": {"weight_bits": 8}}, "the baseline of a module is the module as it is"),
        ({"module": {"source": "x"}}, "own.yaml: a module's source must read"),
        ({"compression": {"weight_bits": [8]}}, "choice 'weight_bits' must offer 32, which leaves it out"),
        ({"compression": {"pruning_ratio": [0.5]}}, "choice 'pruning_ratio' must offer 0.0, which leaves it out"),
    ],
)
def test_a_space_that_is_none_of_a_module_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        load_space(write_space(tmp_path, **changes))


def test_a_design_alone_does_not_build_a_module(tmp_path: Path) -> None:
    baseline = load_space(write_space(tmp_path)).baseline
    assert baseline is not None
    with pytest.raises(NasError, match="a design alone does not say how to build a network of family 'module'"):
        build("module", baseline.architecture, (1, 8, 8), 10)


def test_the_family_is_listed_where_one_is_misspelt(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="unknown family 'modul'; did you mean 'module'"):
        check_space(load_space(write_space(tmp_path, family="modul", module=None, architecture={"a": [1]})))


# --- what is tried first


def test_first_designs_are_the_baseline_with_some_choices_changed(tmp_path: Path) -> None:
    first = [{"weight_bits": 8}, {"weight_bits": 8, "activation_bits": 8, "pruning_ratio": 0.5}]
    space = load_space(write_space(tmp_path, first=first))
    assert [dict(design.compression) for design in space.first] == [
        {"pruning_ratio": 0.0, "weight_bits": 8, "activation_bits": 32},
        {"pruning_ratio": 0.5, "weight_bits": 8, "activation_bits": 8},
    ]
    assert all(space.contains(design) for design in space.first)


def test_first_designs_of_another_family_take_the_baselines_architecture(tmp_path: Path) -> None:
    text = "family: mlp\narchitecture: {layers: [1], layer1.width: [8, 16]}\ncompression: {weight_bits: [32, 8]}\n"
    (tmp_path / "mlp.yaml").write_text(f"{text}baseline: {{layers: 1, layer1.width: 16}}\nfirst: [{{weight_bits: 8}}]")
    space: SearchSpace = load_space(str(tmp_path / "mlp.yaml"))
    assert dict(space.first[0].architecture) == {"layers": 1, "layer1.width": 16}
    (tmp_path / "mlp.yaml").write_text(f"{text}first: [{{weight_bits: 8}}]")
    with pytest.raises(SpaceError, match=r"'first\[0\]': a value for choice 'layers' is missing"):
        load_space(str(tmp_path / "mlp.yaml"))


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"weight_bits": 8}, "'first' must be a list of designs"),
        ([{"weight_bits": 8}, {"weight_bits": 7}], r"'first\[1\]': choice 'weight_bits' must be one of"),
        ([{"bits": 8}], r"'first\[0\]': unknown choice .*'bits'"),
        ([3], r"'first\[0\]' must be a mapping"),
    ],
)
def test_bad_first_designs_are_refused(tmp_path: Path, first: object, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        load_space(write_space(tmp_path, first=first))
