"""A design's canonical form: its digest, its equality, and its JSON both ways."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any

import pytest
from fakes import make_design
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import designs, halves

from nas.design import IDENTITY, VERSION, Design, Value, canonical_json, sha256_of
from nas.errors import SpaceError


@settings(deadline=None)
@given(designs)
def test_json_both_ways_keeps_the_design_and_its_digest(design: Design) -> None:
    again = Design.from_json(json.loads(json.dumps(design.to_json())))
    assert again == design
    assert (again.digest, again.architecture_digest) == (design.digest, design.architecture_digest)
    for half in ("architecture", "compression"):
        before, after = getattr(design, half), getattr(again, half)
        assert [(name, type(value)) for name, value in after.items()] == [(n, type(v)) for n, v in before.items()]


@settings(deadline=None)
@given(halves, st.randoms(use_true_random=False))
def test_the_order_of_choices_does_not_matter(half: dict[str, Value], random: Any) -> None:
    items = list(half.items())
    random.shuffle(items)
    a, b = Design("convnet", half, {}), Design("convnet", dict(items), {})
    assert a == b
    assert a.digest == b.digest
    assert list(a.architecture) == list(b.architecture) == sorted(half)


@pytest.mark.parametrize("pair", [(1, 1.0), (1, True), (0, False), (0.0, False), (1.0, True), (1, "1"), (True, "true")])
def test_values_of_different_types_make_different_designs(pair: tuple[Value, Value]) -> None:
    a, b = (Design("mlp", {"width": value}, {}) for value in pair)
    assert a.digest != b.digest
    assert a != b
    assert len({a, b}) == 2


def test_equal_designs_are_one_member_of_a_set() -> None:
    assert len({make_design(weight_bits=8), make_design(weight_bits=8), make_design(weight_bits=32)}) == 2


def test_a_design_is_no_other_thing() -> None:
    design = make_design()
    assert design != design.digest
    assert design != design.to_json()


def test_digest_is_the_sha256_of_the_canonical_form() -> None:
    text = f'{{"architecture":{{"a":2,"b":1}},"compression":{{}},"family":"mlp","version":{VERSION}}}'
    assert Design("mlp", {"b": 1, "a": 2}, {}).digest == hashlib.sha256(text.encode()).hexdigest()


def test_architecture_digest_leaves_compression_out_and_nothing_else() -> None:
    plain, pruned = make_design(), make_design(pruning_ratio=0.5)
    assert plain.digest != pruned.digest
    assert plain.architecture_digest == pruned.architecture_digest
    assert dataclasses.replace(plain, family="mlp").architecture_digest != plain.architecture_digest
    deeper = dataclasses.replace(plain, architecture={**plain.architecture, "stage1.depth": 2})
    assert deeper.architecture_digest != plain.architecture_digest


def test_a_step_that_is_not_named_is_left_out() -> None:
    design = make_design(weight_bits=8)
    assert design.step("weight_bits") == 8
    rest = {name: value for name, value in IDENTITY.items() if name != "weight_bits"}
    assert {name: design.step(name) for name in rest} == rest
    with pytest.raises(KeyError, match="bits_of_weight"):
        design.step("bits_of_weight")


def test_a_stage_follows_the_network_unless_it_has_a_value_of_its_own() -> None:
    design = make_design(**{"weight_bits": 8, "stage2.weight_bits": 4, "layer1.0.pruning_ratio": 0.5})
    assert [design.step("weight_bits", stage) for stage in (None, "stage1", "stage2")] == [8, 8, 4]
    assert [design.step("pruning_ratio", stage) for stage in (None, "layer1.0")] == [0.0, 0.5]
    assert design.stages == ("layer1.0", "stage2")
    assert set(design.everywhere("weight_bits")) == {8, 4}
    assert set(design.everywhere("activation_bits")) == {32}


def test_a_design_cannot_be_changed() -> None:
    architecture: dict[str, Value] = {"width": 8}
    design = Design("mlp", architecture, {})
    architecture["width"] = 16
    assert design.architecture["width"] == 8
    with pytest.raises(TypeError):
        design.architecture["width"] = 16  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        design.family = "convnet"  # type: ignore[misc]


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, b"x"])
@pytest.mark.parametrize("half", ["architecture", "compression"])
def test_a_value_of_another_type_is_refused(half: str, value: object) -> None:
    with pytest.raises(SpaceError, match=f"{half} choice 'width' must be a number, text or boolean, but got"):
        Design("mlp", **{"architecture": {}, "compression": {}, half: {"width": value}})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(SpaceError, match=f"compression choice 'pruning_ratio' must be finite, but got {value}"):
        make_design(pruning_ratio=value)


@pytest.mark.parametrize("version", [None, 0, VERSION + 1, "1"])
def test_another_version_is_refused(version: object) -> None:
    with pytest.raises(SpaceError, match=rf"version must be {VERSION}, but got {version!r}"):
        Design.from_json(make_design().to_json() | {"version": version})


def test_a_missing_version_is_refused() -> None:
    data = make_design().to_json()
    del data["version"]
    with pytest.raises(SpaceError, match="but got None"):
        Design.from_json(data)


@pytest.mark.parametrize("part", ["family", "architecture", "compression"])
@pytest.mark.parametrize("value", [None, 3, [], "absent"])
def test_a_missing_or_malformed_part_is_refused(part: str, value: object) -> None:
    data = make_design().to_json()
    if value == "absent":
        del data[part]
    else:
        data[part] = value
    with pytest.raises(SpaceError, match=r"needs 'family' \(text\), 'architecture' and 'compression' \(mappings\)"):
        Design.from_json(data)


def test_canonical_json_has_one_spelling_and_no_nan() -> None:
    assert canonical_json({"b": [1, 1.5, True, None], "a": "ä"}) == '{"a":"\\u00e4","b":[1,1.5,true,null]}'
    assert sha256_of({"b": 1, "a": 2}) == sha256_of({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(math.nan)
