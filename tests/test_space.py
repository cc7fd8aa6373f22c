"""Search spaces: counting, choosing, the flat form, reading YAML, and every message for a bad one."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas import space as space_module
from nas.compression import CHOICES, conflict
from nas.design import IDENTITY, Design, Value
from nas.errors import SpaceError
from nas.space import Choice, SearchSpace, list_spaces, load_space, spaces_folder

SPACES = {space.name: space for space in list_spaces()}
MINIMAL = "family: convnet\narchitecture:\n  stem.width: [8, 16]\n"

VALUES = st.one_of(
    st.lists(st.integers(-3, 3), min_size=1, max_size=3, unique=True),
    st.lists(st.booleans(), min_size=1, max_size=2, unique=True),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([0.0, 0.25, 0.5]), min_size=1, max_size=3, unique=True),
)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """A small space in which every choice may depend on up to two of those before it."""
    choices: list[Choice] = []
    for index in range(draw(st.integers(1, 6))):
        parents = draw(st.lists(st.sampled_from(choices), max_size=2, unique=True)) if choices else []
        when = {
            parent.name: tuple(draw(st.lists(st.sampled_from(parent.values), min_size=1, unique=True)))
            for parent in parents
        }
        choices.append(Choice(f"c{index}", "architecture", tuple(draw(VALUES)), when))
    if draw(st.booleans()):
        choices.append(Choice("pruning_ratio", "compression", (0.0, 0.5), {"c0": choices[0].values[:1]}))
    return SearchSpace("random", "any", "", tuple(choices))


def architecture_space(*choices: Choice) -> SearchSpace:
    return SearchSpace("test", "any", "", choices)


def choice(name: str, *values: Any, when: Mapping[str, tuple[Value, ...]] | None = None) -> Choice:
    return Choice(name, "architecture", values, when or {})


# --- counting and enumerating


@settings(deadline=None)
@given(spaces())
def test_size_is_the_number_of_distinct_designs(space: SearchSpace) -> None:
    designs = list(space.designs())
    assert space.size() == len(designs) == len(set(designs))


def test_size_of_the_worked_example() -> None:
    space = architecture_space(
        choice("stages", 1, 2, 3),
        choice("width", 8, 16, when={"stages": (2, 3)}),
        choice("depth", 1, 2, 3, when={"width": (16,), "stages": (3,)}),
    )
    # stages 1: 1; stages 2: 2 widths; stages 3: width 8, and width 16 with 3 depths
    assert space.size() == 1 + 2 + (1 + 3)


def test_size_of_a_large_conditional_space_is_not_enumerated() -> None:
    """Forty choices of ten values, each dependent on the one before: 10^40 at most, counted by states of one."""
    choices = [choice("c0", *range(10))]
    choices += [choice(f"c{i}", *range(10), when={f"c{i - 1}": tuple(range(5))}) for i in range(1, 40)]
    expected = 10
    for _ in range(39):  # from the last choice back: half of a choice's values end the chain, half go on
        expected = 5 + 5 * expected
    assert architecture_space(*choices).size() == expected


def test_designs_are_lazy() -> None:
    space = SPACES["mobilenet"]
    assert space.size() > 10**12
    assert (
        len({next(space.designs()).digest, *(d.digest for d, _ in zip(space.designs(), range(100), strict=False))})
        == 100
    )


# --- choosing


@settings(deadline=None)
@given(spaces(), st.randoms(use_true_random=False))
def test_a_sampled_design_is_contained_and_survives_json(space: SearchSpace, rng: random.Random) -> None:
    design = space.sample(rng)
    assert space.contains(design)
    again = Design.from_json(json.loads(json.dumps(design.to_json())))
    assert again == design
    assert again.digest == design.digest
    assert space.contains(again)


@settings(deadline=None)
@given(spaces(), st.randoms(use_true_random=False))
def test_flat_and_design_are_inverse(space: SearchSpace, rng: random.Random) -> None:
    design = space.sample(rng)
    flat = space.flat(design)
    assert list(flat) == [choice.name for choice in space.choices]
    assert space.design(flat).digest == design.digest
    assert space.design({**design.architecture, **design.compression}).digest == design.digest


def test_flat_gives_inactive_choices_their_first_value() -> None:
    space = architecture_space(choice("a", 1, 2), choice("b", "x", "y", when={"a": (2,)}))
    assert space.flat(space.design({"a": 1})) == {"a": 1, "b": "x"}
    assert space.design({"a": 1, "b": "y"}) == space.design({"a": 1}), "an inactive choice is dropped"


def test_a_choice_whose_parent_is_inactive_is_inactive() -> None:
    space = architecture_space(
        choice("a", 1, 2), choice("b", 1, 2, when={"a": (2,)}), choice("c", 1, 2, when={"b": (1,)})
    )
    assert dict(space.design({"a": 1, "b": 1, "c": 1}).architecture) == {"a": 1}


def test_choose_asks_for_active_choices_in_order() -> None:
    space = architecture_space(choice("a", 1, 2), choice("b", 1, when={"a": (2,)}), choice("c", True, False))
    asked: list[str] = []

    def first(item: Choice) -> Value:
        asked.append(item.name)
        return item.values[0]

    assert dict(space.choose(first).architecture) == {"a": 1, "c": True}
    assert asked == ["a", "c"]


def test_choose_refuses_a_value_that_the_choice_has_not() -> None:
    with pytest.raises(SpaceError, match=r"choice 'a' must be one of 1, 2, but got 3"):
        architecture_space(choice("a", 1, 2)).choose(lambda item: 3)


def test_choices_keep_their_own_spelling_of_a_value() -> None:
    space = architecture_space(choice("a", 0.0, 1.0))
    assert space.design({"a": 1}).digest == space.design({"a": 1.0}).digest
    with pytest.raises(SpaceError, match="got True"):
        space.design({"a": True})


def test_sampling_is_uniform_per_choice_and_seeded() -> None:
    space = architecture_space(choice("a", 1, 2), choice("b", *range(50), when={"a": (2,)}))
    counts = Counter(space.sample(random.Random(seed)).architecture["a"] for seed in range(1000))
    assert 400 < counts[1] < 600, "per choice, not per design"
    assert space.sample(random.Random(7)) == space.sample(random.Random(7))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": 1, "widht": 2}, r"unknown choice of search space 'test': 'widht'; did you mean 'width'\?"),
        ({"a": 2}, r"a value for choice 'width' is missing \(one of 8, 16\)"),
        ({"a": 2, "width": 9}, r"choice 'width' must be one of 8, 16, but got 9"),
        ({"a": 1, "width": 9}, r"choice 'width' must be one of 8, 16, but got 9"),
        ({"a": "1"}, r"choice 'a' must be one of 1, 2, but got '1'"),
    ],
)
def test_design_refuses(values: dict[str, Value], message: str) -> None:
    space = architecture_space(choice("a", 1, 2), choice("width", 8, 16, when={"a": (2,)}))
    with pytest.raises(SpaceError, match=message):
        space.design(values)


@pytest.mark.parametrize(
    "design",
    [
        Design("other", {"a": 1}, {}),
        Design("any", {"a": 3}, {}),
        Design("any", {"a": 1, "b": 1}, {}),
        Design("any", {"a": True}, {}),
        Design("any", {}, {}),
        Design("any", {}, {"a": 1}),
    ],
    ids=["family", "value", "inactive", "type", "missing", "half"],
)
def test_designs_of_elsewhere_are_not_contained(design: Design) -> None:
    space = architecture_space(choice("a", 1, 2), choice("b", 1, when={"a": (2,)}))
    assert not space.contains(design)
    with pytest.raises(SpaceError, match="does not lie in search space 'test'"):
        space.flat(design)


@pytest.mark.parametrize(
    ("values", "ordered"),
    [
        ((1, 2, 3), True),
        ((0.0, 0.5), True),
        ((1, 3, 2), False),
        ((False, True), False),
        (("a", "b"), False),
        ((1,), True),
    ],
)
def test_ordered(values: tuple[Value, ...], ordered: bool) -> None:
    assert choice("a", *values).ordered is ordered


def test_digest_depends_on_choices_and_not_on_words() -> None:
    one = SearchSpace("one", "any", "words", (choice("a", 1, 2),))
    assert one.digest == SearchSpace("two", "any", "others", (choice("a", 1, 2),)).digest
    assert one.digest != SearchSpace("one", "any", "words", (choice("a", 2, 1),)).digest
    assert one.digest != SearchSpace("one", "else", "words", (choice("a", 1, 2),)).digest
    assert hash(one) == hash(SearchSpace("one", "any", "words", (choice("a", 1, 2),)))
    assert len({choice("a", 1), choice("a", 1)}) == 1


def test_to_json_holds_everything() -> None:
    data = json.loads(
        json.dumps(SearchSpace("s", "f", "d", (choice("a", 1), choice("b", 2, when={"a": (1,)}))).to_json())
    )
    assert (data["name"], data["family"], data["description"]) == ("s", "f", "d")
    assert data["choices"][1] == {"name": "b", "group": "architecture", "values": [2], "when": {"a": [1]}}


# --- rules of a space


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((choice("a", 1), choice("a", 2)), "choice 'a' is declared twice"),
        ((choice("a", 1, when={"b": (1,)}), choice("b", 1)), "'a' depends on 'b', which is not declared before it"),
        ((choice("a", 1, when={"a": (1,)}),), "'a' depends on 'a', which is not declared before it"),
        (
            (choice("stages", 1), choice("b", 1, when={"stage": (1,)})),
            "'when' of choice 'b': unknown choice 'stage'; did",
        ),
        (
            (choice("a", 1), choice("b", 1, when={"a": (2,)})),
            "'when' of choice 'b': choice 'a' must be one of 1, but got 2",
        ),
        ((choice("a", 1), choice("b", 1, when={"a": ()})), "'when' of choice 'b' lists no values of 'a'"),
        (
            (Choice("distillation", "compression", (False, True)), choice("b", 1, when={"distillation": (True,)})),
            "architecture choice 'b' must not depend on compression choice 'distillation'",
        ),
    ],
)
def test_a_space_refuses(choices: tuple[Choice, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SearchSpace("test", "any", "", choices)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((), "choice 'a' has no values"),
        ((1, 2, 1), "choice 'a' has the value 1 twice"),
        ((1, 1.0), "choice 'a' has the value 1.0 twice"),
        ((1, "b"), "choice 'a' mixes types in 1, 'b'"),
        ((1, True), "choice 'a' mixes types"),
        ((float("nan"),), "takes finite numbers, but got nan"),
        ((None,), "takes numbers, texts or booleans, but got None"),
        (([1],), r"takes numbers, texts or booleans, but got \[1\]"),
        (("max", False), "mixes types in 'max', False .*YAML reads yes, no, on and off as booleans"),
    ],
)
def test_a_choice_refuses(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        choice("a", *values)


def test_whole_numbers_among_fractions_become_fractions() -> None:
    assert [type(value) for value in choice("a", 0, 0.5, 1).values] == [float, float, float]


def compression(name: str, *values: Value, when: Mapping[str, tuple[Value, ...]] | None = None) -> Choice:
    return Choice(name, "compression", values, when or {})


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            (compression("pruning_rato", 0.5),),
            "unknown compression choice 'pruning_rato'; did you mean 'pruning_ratio'",
        ),
        ((compression("stage1.sparsity", 0.5),), "compression choice 'sparsity' is for the whole network"),
        ((compression("stage1.bits", 8),), "unknown compression choice 'bits'"),
        ((compression("pruning_ratio", 0.5, 1.0),), "must be at least 0 and less than 1, but got 1.0"),
        ((compression("pruning_ratio", -0.1),), "must be at least 0 and less than 1, but got -0.1"),
        ((compression("pruning_ratio", "half"),), "'pruning_ratio' must be at least 0 and less than 1, but got 'half'"),
        ((compression("weight_bits", 32, 5),), "'weight_bits' must be 32, 16, 8 or 4, but got 5"),
        ((compression("weight_bits", True),), "'weight_bits' must be 32, 16, 8 or 4, but got True"),
        ((compression("activation_bits", 4),), "'activation_bits' must be 32, 16 or 8, but got 4"),
        ((compression("weight_sharing", "none", "codebook"),), "must be 'none' or 'kmeans', but got 'codebook'"),
        ((compression("weight_sharing", False),), "but got False .*YAML reads yes, no"),
        ((compression("distillation", 0, 1),), "'distillation' must be true or false, but got 0"),
        ((compression("activation_bits", 32, 8),), "activation_bits 8 does not go with weight_bits 32"),
        (
            (compression("weight_bits", 32, 8), compression("activation_bits", 8)),
            r"does not go with weight_bits 32 \(it needs weight_bits 8 or 4: add when: {weight_bits: \[8, 4\]}",
        ),
        (
            (compression("weight_bits", 32, 8), compression("activation_bits", 8, when={"weight_bits": (32, 8)})),
            "activation_bits 8 does not go with weight_bits",
        ),
        (
            (
                compression("distillation", True, False),
                compression("weight_bits", 8, when={"distillation": (True,)}),
                compression("activation_bits", 8),
            ),
            "activation_bits 8 does not go with weight_bits",
        ),
    ],
)
def test_compression_that_cannot_be_carried_out_is_refused(choices: tuple[Choice, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SearchSpace("test", "any", "", choices)


@pytest.mark.parametrize(
    "choices",
    [
        (compression("weight_bits", 8), compression("activation_bits", 32, 8)),
        (compression("weight_bits", 32, 8), compression("activation_bits", 32, 8, when={"weight_bits": (8,)})),
        (compression("activation_bits", 32),),
        (compression("pruning_ratio", 0),),
    ],
)
def test_legal_compression(choices: tuple[Choice, ...]) -> None:
    assert SearchSpace("test", "any", "", choices).size() >= 1


def test_pruning_ratio_is_a_fraction_whatever_its_spelling() -> None:
    space = SearchSpace("test", "any", "", (compression("pruning_ratio", 0),))
    assert type(next(space.designs()).step("pruning_ratio")) is float


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            (compression("weight_bits", 32, 8), compression("activation_bits", 32, 8)),
            r"activation_bits 8 does not go with weight_bits 32.*when: \{weight_bits: \[8, 4\]\}",
        ),
        ((compression("activation_bits", 8),), "activation_bits 8 does not go with weight_bits 32"),
        (
            (compression("weight_bits", 8), compression("activation_bits", 8), compression("stage1.weight_bits", 32)),
            r"stage1\.activation_bits 8 does not go with stage1\.weight_bits 32",
        ),
        (
            (compression("weight_sharing", "none", "kmeans"), compression("weight_bits", 32, 8)),
            "weight_sharing 'kmeans' does not go with weight_bits below 32",
        ),
        (
            (compression("pruning_ratio", 0.0, 0.5), compression("pruning_criterion", "l1", "taylor")),
            r"'pruning_criterion' has no meaning where pruning_ratio is 0.0.*when: \{pruning_ratio: \[\.\.\.\]\}",
        ),
        ((compression("codebook_bits", 4),), "'codebook_bits' has no meaning where weight_sharing is none"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(choices: tuple[Choice, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=f"(?s){message}") as caught:
        SearchSpace("test", "any", "", choices)
    assert re.search(f"(?s){message}", f"{caught.value.message} {caught.value.hint}")


@pytest.mark.parametrize(
    "choices",
    [
        (
            compression("weight_sharing", "none", "kmeans"),
            compression("codebook_bits", 2, 4, when={"weight_sharing": ("kmeans",)}),
            compression("weight_bits", 32, 4, when={"weight_sharing": ("none",)}),
        ),
        (
            compression("pruning_ratio", 0.0, 0.5),
            compression("stage1.pruning_ratio", 0.25, 0.75),
            compression("pruning_steps", 1, 3),
        ),
        (
            compression("weight_bits", 32, 8),
            compression("stage1.weight_bits", 8, 4, when={"weight_bits": (8,)}),
            compression("activation_bits", 32, 8, when={"weight_bits": (8,)}),
            compression("stage1.activation_bits", 16, 8, when={"activation_bits": (8,)}),
        ),
    ],
)
def test_choices_that_go_together(choices: tuple[Choice, ...]) -> None:
    space = SearchSpace("test", "any", "", choices)
    assert all(conflict(design.compression) is None for design in space.designs())


def test_every_compression_choice_has_a_legal_identity_of_its_type() -> None:
    assert all(type(choice.identity) is choice.kind for choice in CHOICES.values())
    assert all(choice.legal(choice.identity) for choice in CHOICES.values())
    assert all(choice.refines is None or choice.refines in CHOICES for choice in CHOICES.values())
    assert conflict({}) is None


# --- reading files


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def with_choice(line: str) -> str:
    return f"{MINIMAL}  stages: [1, 2]\n  c: {line}\n"


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("[1, 2]", (1, 2)),
        ("{values: [a, b]}", ("a", "b")),
        ("{range: {low: 1, high: 7, step: 3}}", (1, 4, 7)),
        ("{range: {low: 8, high: 64, factor: 2}}", (8, 16, 32, 64)),
        ("{range: {low: 8, high: 27, factor: 1.5}}", (8, 12, 18, 27)),
        ("{range: {low: 0.0, high: 0.3, step: 0.1}}", (0.0, 0.1, 0.2, 0.3)),
        ("{range: {low: 1, high: 2, step: 0.5}}", (1.0, 1.5, 2.0)),
        ("{range: {low: 0.001, high: 1, factor: 10}}", (0.001, 0.01, 0.1, 1.0)),
        ("{range: {low: 5, high: 5, step: 1}}", (5,)),
    ],
)
def test_ways_to_write_a_choice(tmp_path: Path, line: str, values: tuple[Value, ...]) -> None:
    read = load_space(write(tmp_path, with_choice(line))).by_name["c"].values
    assert read == values
    assert [type(value) for value in read] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("16", r"choice 'c' must be a list of values, but got 16 \(write \[16\]\)"),
        ("[]", "choice 'c' has no values"),
        ("{values: 16}", "'values' of choice 'c' must be a list, but got 16"),
        ("{values: [1], range: {low: 1, high: 2, step: 1}}", "choice 'c' needs either 'values' or 'range'"),
        ("{when: {stages: [1]}}", "choice 'c' needs either 'values' or 'range'"),
        ("{value: [1]}", "unknown key in choice 'c': 'value'; did you mean 'values'"),
        ("{range: {low: 3, high: 1, step: 1}}", "'low' must not be above 'high', but got 3 and 1"),
        ("{range: {low: 1, high: 3, step: 0}}", "'step' must be greater than 0, but got 0"),
        ("{range: {low: 1, high: 3, step: -1}}", "'step' must be greater than 0, but got -1"),
        ("{range: {low: 1, high: 8, step: 3}}", r"steps of 3 from 1 do not land on 8 \(let it end at 7 or 10"),
        ("{range: {low: 8, high: 60, factor: 2}}", r"factors of 2 from 8 do not land on 60 \(let it end at 32 or 64"),
        ("{range: {low: 8, high: 64, factor: 1}}", "'factor' must be greater than 1 and 'low' greater than 0"),
        ("{range: {low: 0, high: 64, factor: 2}}", "'factor' must be greater than 1 and 'low' greater than 0"),
        ("{range: {low: 0, high: 1000000000, step: 1}}", "has more than 1000 values"),
        ("{range: {low: 1, high: 2}}", "needs 'low', 'high' and either 'step' or 'factor'"),
        ("{range: {low: 1, high: 2, step: 1, factor: 2}}", "needs 'low', 'high' and either 'step' or 'factor'"),
        ("{range: {low: 1, step: 1}}", "needs 'low', 'high' and either 'step' or 'factor'"),
        ("{range: {low: a, high: 2, step: 1}}", "'low' must be a number, but got 'a'"),
        ("{range: {low: 1, high: .inf, step: 1}}", "'high' must be a number, but got inf"),
        ("{range: {low: 1, high: 2, stop: 1}}", "unknown key in 'range' of choice 'c': 'stop'; did you mean 'step'"),
        ("{range: [1, 2]}", r"'range' of choice 'c' must be a mapping .* but got \[1, 2\]"),
        ("{values: [1], when: {stages: 2}}", r"must list the values of 'stages', but got 2 \(write stages: \[2\]\)"),
        ("{values: [1], when: {stages: [3]}}", "'when' of choice 'c': choice 'stages' must be one of 1, 2, but got 3"),
        ("{values: [1], when: {stage: [2]}}", "'when' of choice 'c': unknown choice 'stage'; did you mean 'stages'"),
        ("{values: [1], when: [stages]}", "'when' of choice 'c' must be a mapping"),
        ("[max, off]", "mixes types in 'max', False .*put such a word in quotes"),
        ("[max, null]", "but got None .*put such a word in quotes"),
        ("[1, 1]", "choice 'c' has the value 1 twice"),
    ],
)
def test_a_bad_choice_names_file_and_choice(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, with_choice(line))
    with pytest.raises(SpaceError, match=message) as caught:
        load_space(path)
    assert path in caught.value.message
    assert "'c'" in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file must be a mapping of names to values, but got None"),
        ("- a", r"the file must be a mapping of names to values, but got \['a'\]"),
        ("family: [", "is no YAML"),
        ("family: 2020-99-99", "is no YAML"),
        ("a: 1\n---\nb: 2", "is no YAML"),
        ("familly: convnet", "unknown key in the file: 'familly'; did you mean 'family'"),
        ("architecture: {a: [1]}", "'family' is missing"),
        ("family: convnet", "'architecture' is missing"),
        ("family: no\narchitecture: {a: [1]}", "'family' must be text, but got False .*YAML reads yes, no"),
        ("family: convnet\ndescription: 3\narchitecture: {a: [1]}", "'description' must be text, but got 3"),
        ("family: convnet\narchitecture:", "'architecture' must be a mapping of names to values, but got None"),
        ("family: convnet\narchitecture: {}", "'architecture' declares no choice"),
        ("family: convnet\narchitecture: {no: [1]}", "a name in 'architecture' must be text, but got False"),
        (f"{MINIMAL}compression: [a]", "'compression' must be a mapping"),
        (f"{MINIMAL}compression: {{weight_bits: [5]}}", "'weight_bits' must be 32, 16, 8 or 4, but got 5"),
        (f"{MINIMAL}  stem.width: [32]\n", "key 'stem.width' stands twice in the mapping that starts in line 3"),
        ("family: convnet\narchitecture: &a {b: *a}", "an alias stands for what holds it"),
        ("family: !!python/object/apply:os.getcwd []", "is no YAML"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SpaceError, match=message) as caught:
        load_space(path)
    assert path in caught.value.message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(SpaceError, match="cannot be read"):
        load_space(str(tmp_path / "binary.yaml"))


def test_a_baseline_is_a_design_without_compression(tmp_path: Path) -> None:
    text = "family: convnet\narchitecture: {a: [1, 2], b: [3, 4]}\ncompression: {pruning_ratio: [0.5, 0.0]}\n"
    space = load_space(write(tmp_path, text + "baseline: {a: 2, b: 3}"))
    assert space.baseline is not None
    assert dict(space.baseline.architecture) == {"a": 2, "b": 3}
    assert dict(space.baseline.compression) == {"pruning_ratio": 0.0}
    assert load_space(write(tmp_path, text)).baseline is None


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("{a: 1}", "'baseline': a value for choice 'b' is missing"),
        ("{a: 1, b: 9}", "'baseline': .*'b'"),
        ("{a: 1, b: 3, c: 1}", "'baseline': unknown choice .*'c'"),
        ("[1]", "'baseline' must be a mapping"),
    ],
)
def test_a_bad_baseline_is_refused(tmp_path: Path, baseline: str, message: str) -> None:
    text = f"family: convnet\narchitecture: {{a: [1, 2], b: [3, 4]}}\nbaseline: {baseline}"
    with pytest.raises(SpaceError, match=message):
        load_space(write(tmp_path, text))


@pytest.mark.parametrize("space", list_spaces(), ids=lambda space: space.name)
def test_every_shipped_space_has_a_baseline_in_float32(space: SearchSpace) -> None:
    assert space.baseline is not None
    assert all(space.baseline.step(name) == value for name, value in IDENTITY.items())


def test_description_is_one_line_and_compression_may_be_absent(tmp_path: Path) -> None:
    space = load_space(write(tmp_path, f"description: >\n  two\n  lines\n{MINIMAL}"))
    assert space.description == "two lines"
    assert (space.name, space.size()) == ("mine", 2)


def test_a_path_is_looked_for_here_and_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near, here = tmp_path / "near", tmp_path / "here"
    near.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    write(near, MINIMAL)
    assert load_space("mine.yaml", near).size() == 2
    write(here, MINIMAL.replace("16", "16, 32"))
    assert load_space("mine.yaml", near).size() == 3, "the current folder comes first"
    with pytest.raises(SpaceError, match=r"there is no search space file other\.yaml or .*near/other\.yaml"):
        load_space("other.yaml", near)
    with pytest.raises(SpaceError, match=r"there is no search space file .*/nowhere\.yaml$"):
        load_space(str(tmp_path / "nowhere.yaml"), near)


def test_an_unknown_space_suggests_the_closest() -> None:
    with pytest.raises(SpaceError, match=r"unknown search space 'convent'; did you mean 'convnet'\?.*path of a \.yaml"):
        load_space("convent")


def test_an_installed_package_holds_its_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel puts search_spaces inside the package; a checkout has it beside."""
    package = tmp_path / "nas"
    package.mkdir()
    monkeypatch.setattr(space_module, "__file__", str(package / "space.py"))
    assert spaces_folder() == tmp_path / "search_spaces"
    (package / "search_spaces").mkdir()
    write(package / "search_spaces", MINIMAL)
    assert [space.name for space in list_spaces()] == ["mine"]
    assert load_space("mine").size() == 2


# --- the spaces that are shipped


def test_the_shipped_spaces_are_there() -> None:
    assert set(SPACES) == {"convnet", "convnet-full", "convnet-small", "mobilenet", "resnet", "mlp"}
    assert [space.name for space in list_spaces()] == sorted(SPACES)


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_shipped_space_offers_every_compression_choice(name: str) -> None:
    space = load_space(name)
    assert space.digest == SPACES[name].digest
    base = {name for name, choice in CHOICES.items() if choice.refines is None} - {"sparsity"}
    assert {item.name for item in space.choices if item.group == "compression"} >= base
    assert space.description


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_shipped_space_is_counted_without_its_designs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(SearchSpace, "_design")
    assert SPACES[name].size() > 1000


def test_the_smallest_shipped_space_counted_and_enumerated() -> None:
    assert SPACES["mlp"].size() == len(set(SPACES["mlp"].designs()))


@pytest.mark.parametrize("name", sorted(SPACES))
def test_designs_of_a_shipped_space_survive_json_and_the_flat_form(name: str) -> None:
    space, rng = SPACES[name], random.Random(0)
    for _ in range(30):
        design = space.sample(rng)
        assert Design.from_json(json.loads(json.dumps(design.to_json()))) == design
        assert space.design(json.loads(json.dumps(space.flat(design)))).digest == design.digest
