"""The prior: predictions in closed form, and which designs they lead to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensitivity_fakes import make_sensitivity, make_stage, two_stages

from nas.choice import Choice
from nas.compression import Value
from nas.errors import RecipeError
from nas.sensitivity.prior import BUDGETS, first_designs, predict
from nas.sensitivity.result import SETTINGS, Effect, Sensitivity, Setting, Stage
from nas.space import SearchSpace, list_spaces

# --- predictions -----------------------------------------------------------------------------------------------------


def predicted(sensitivity: Sensitivity, compression: dict[str, Value]) -> tuple[float, float, float]:
    prediction = predict(sensitivity, compression)
    assert prediction is not None
    return prediction.lost, prediction.compute, prediction.storage


@pytest.mark.parametrize(
    ("compression", "lost", "compute", "storage"),
    [
        ({}, 0, 1, 1),
        ({"a.pruning_ratio": 0.5}, 0.01, 0.8, 0.9),
        ({"a.pruning_ratio": 0.5, "b.pruning_ratio": 0.5}, 0.04, 0.8 * 0.7, 0.9 * 0.6),
        # 8-bit activations run as integers, a quarter of the work; 8-bit weights take a quarter of the room.
        ({"b.weight_bits": 8, "b.activation_bits": 8}, 0.004, 1 - 0.4 * 0.75, 1 - 0.7 * 0.75),
        ({"b.weight_bits": 4}, 0.02, 1, 1 - 0.7 * 28 / 32),
        (
            {"a.pruning_ratio": 0.5, "b.weight_bits": 8, "b.activation_bits": 8},
            *(0.014, 0.8 * (1 - 0.4 * 0.75), 0.9 * (1 - 0.7 * 0.75)),
        ),
        # Stages that follow the network count once, by the worst.
        ({"pruning_ratio": 0.5}, 0.03, 0.8 * 0.7, 0.9 * 0.6),
        ({"weight_bits": 8, "activation_bits": 8}, 0.004, 0.25, 0.25),
        ({"pruning_ratio": 0.5, "b.pruning_ratio": 0.0}, 0.01, 0.8, 0.9),
        ({"pruning_ratio": 0.5, "b.pruning_ratio": 0.5}, 0.03 + 0.01, 0.8 * 0.7, 0.9 * 0.6),
        # Halfway to the smallest analysed ratio, half of what that does.
        ({"a.pruning_ratio": 0.25}, 0.005, 0.9, 0.95),
        # Bits that were not analysed: no worse than the mildest of those with no more bits.
        ({"a.weight_bits": 8}, 0.002, 1, 1 - 0.3 * 0.75),
        ({"b.weight_bits": 16, "b.activation_bits": 16}, 0.004, 1, 1 - 0.7 * 0.5),
        ({"weight_bits": 16}, 0.004, 1, 0.5),
    ],
    ids=str,
)
def test_predictions_in_closed_form(compression, lost: float, compute: float, storage: float) -> None:  # type: ignore[no-untyped-def]
    assert predicted(two_stages(), compression) == pytest.approx((lost, compute, storage))


@pytest.mark.parametrize(
    "compression",
    [
        {"a.pruning_ratio": 0.75},
        {"pruning_ratio": 0.6},
        {"a.weight_bits": 4},
        {"b.weight_bits": 4, "b.activation_bits": 8},
    ],
    ids=str,
)
def test_what_lies_outside_the_analysis_is_not_predicted(compression: dict[str, Value]) -> None:
    assert predict(two_stages(), compression) is None


def test_a_gain_counts_as_no_loss() -> None:
    lucky = make_sensitivity(make_stage("a", 1000, 2000, {0.5: (-0.02, 0.5, 0.5)}, {(8, 8): -0.01}))
    assert predicted(lucky, {"a.pruning_ratio": 0.5, "a.weight_bits": 8, "a.activation_bits": 8})[0] == 0


def test_between_two_ratios_numbers_are_interpolated() -> None:
    steps = make_sensitivity(make_stage("a", 1000, 2000, {0.25: (0.01, 0.8, 0.9), 0.5: (0.05, 0.5, 0.7)}))
    assert predicted(steps, {"a.pruning_ratio": 0.4}) == pytest.approx((0.034, 0.62, 0.78))


def test_a_stage_where_nothing_changes_costs_and_saves_nothing() -> None:
    idle = Stage("c", "c", 0, 0, (Effect(Setting(0.5), reason="the classes stay"),))
    sensitivity = two_stages()
    with_idle = replace(sensitivity, stages=(*sensitivity.stages, idle))
    assert predicted(with_idle, {"pruning_ratio": 0.5}) == predicted(sensitivity, {"pruning_ratio": 0.5})


def test_what_was_refused_is_not_predicted() -> None:
    stage = make_stage("a", 1000, 2000, {0.25: (0.0, 0.9, 0.9)}, {(8, 8): 0.0})
    refused = (Effect(Setting(0.5), refused=True, reason="no"),)
    sensitivity = make_sensitivity(replace(stage, effects=(*stage.effects, *refused)))
    assert predict(sensitivity, {"pruning_ratio": 0.25}) is None
    assert predict(sensitivity, {"weight_bits": 8, "activation_bits": 8}) is not None
    assert predict(make_sensitivity(Stage("a", "a", 9, 9, refused)), {"weight_bits": 8}) is None


@pytest.mark.parametrize(
    ("named", "followed"),
    [
        ("stage1", True),
        ("stage1.0", True),
        ("features.stage1", True),
        ("features", True),
        ("stage", False),
        ("stage1.1", False),
        ("0.conv", False),  # a number means something only at the start
        ("1.0", False),
    ],
)
def test_a_part_of_a_stage_follows_the_stage(named: str, followed: bool) -> None:
    layer = make_stage("stage1.0.conv", 1000, 2000, {0.5: (0.1, 0.5, 0.5)}, path="features.stage1.0.conv")
    lost, _, _ = predicted(make_sensitivity(layer), {f"{named}.pruning_ratio": 0.5})
    assert lost == (0.1 if followed else 0)


def test_the_most_specific_name_counts() -> None:
    layer = make_stage("layer1.0", 1000, 2000, {0.5: (0.1, 0.5, 0.5)})
    compression: dict[str, Value] = {"layer1.pruning_ratio": 0.5, "layer1.0.pruning_ratio": 0.0}
    assert predicted(make_sensitivity(layer), compression) == (0, 1, 1)


# --- designs ---------------------------------------------------------------------------------------------------------

WIDTHS = Choice("stem.width", "architecture", (8, 16, 32))
STAGES = Choice("stages", "architecture", (1, 2))


def make_space(*compression: Choice, architecture: tuple[Choice, ...] = (WIDTHS, STAGES)) -> SearchSpace:
    return SearchSpace("own", "convnet", "", (*architecture, *compression))


def ratio(stage: str = "", *values: float) -> Choice:
    return Choice(f"{stage}.pruning_ratio".lstrip("."), "compression", values or (0.0, 0.5))


def bits(stage: str = "", weights: tuple[int, ...] = (32, 8)) -> tuple[Choice, Choice]:
    prefix = f"{stage}." if stage else ""
    low = tuple(bits for bits in weights if bits <= 8)
    return (
        Choice(f"{prefix}weight_bits", "compression", weights),
        Choice(f"{prefix}activation_bits", "compression", (32, 8), {f"{prefix}weight_bits": low}),
    )


def changed(space: SearchSpace, sensitivity: Sensitivity) -> list[dict[str, Value]]:
    """Of each first design what differs from none: its compression without the values that leave it out."""
    from nas.compression import IDENTITY, split_name

    return [
        {name: value for name, value in design.compression.items() if value != IDENTITY[split_name(name)[1]]}
        for design in first_designs(space, sensitivity)
    ]


def test_stages_are_pruned_as_far_as_each_budget_allows() -> None:
    """At 1 point a fits; b alone costs 3, so that both together fit at 5 only."""
    assert changed(make_space(ratio("a"), ratio("b")), two_stages()) == [
        {"a.pruning_ratio": 0.5},
        {"a.pruning_ratio": 0.5, "b.pruning_ratio": 0.5},
    ]


def test_bits_come_where_they_save_most_for_a_point() -> None:
    """0.5 points hold b's 8 bits (0.4, which save most); a's 0.2 more fit at 1 point, then nothing is left to do."""
    space = make_space(*bits("a"), *bits("b"))
    b = {"b.weight_bits": 8, "b.activation_bits": 8}
    assert changed(space, two_stages()) == [b, {"a.weight_bits": 8, "a.activation_bits": 8} | b]


def test_a_stage_may_get_fewer_bits_for_its_weights_alone() -> None:
    space = make_space(Choice("b.weight_bits", "compression", (32, 8, 4)))
    assert changed(space, two_stages()) == [{"b.weight_bits": 8}, {"b.weight_bits": 4}]


def test_a_space_for_the_whole_network_goes_by_the_worst_stage() -> None:
    """Ratio 0.25 is predicted to cost b, the worst, 1.5 points and 0.5 to cost it 3."""
    assert changed(make_space(ratio("", 0.0, 0.25, 0.5)), two_stages()) == [
        {"pruning_ratio": 0.25},
        {"pruning_ratio": 0.5},
    ]
    assert changed(make_space(*bits()), two_stages()) == [{"weight_bits": 8, "activation_bits": 8}]


def test_values_that_were_not_analysed_are_not_proposed() -> None:
    assert changed(make_space(ratio("a", 0.0, 0.5, 0.9)), two_stages()) == [{"a.pruning_ratio": 0.5}]
    assert first_designs(make_space(ratio("a", 0.9)), two_stages()) == []


def test_a_space_that_must_compress_begins_with_the_mildest() -> None:
    assert first_designs(make_space(ratio("a", 0.25, 0.5)), two_stages())[0].compression == {"a.pruning_ratio": 0.5}
    assert first_designs(make_space(Choice("weight_bits", "compression", (8,))), two_stages()) == []


def test_nothing_is_proposed_where_nothing_may_be_decided() -> None:
    assert first_designs(make_space(), two_stages()) == []
    assert first_designs(make_space(Choice("distillation", "compression", (False, True))), two_stages()) == []
    bold = make_sensitivity(make_stage("a", 1000, 2000, {0.5: (0.6, 0.5, 0.5)}))
    assert first_designs(make_space(ratio("a")), bold) == []


def test_other_compression_is_left_out() -> None:
    others = (
        Choice("distillation", "compression", (True, False)),
        Choice("pruning_criterion", "compression", ("taylor", "random"), {"a.pruning_ratio": (0.5,)}),
    )
    (design,) = first_designs(make_space(ratio("a"), *others), two_stages())
    assert design.compression == {"a.pruning_ratio": 0.5, "distillation": False, "pruning_criterion": "taylor"}


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ((WIDTHS, STAGES), {"stem.width": 16, "stages": 1}),
        ((Choice("stem.width", "architecture", (8, 12, 64)), STAGES), {"stem.width": 12, "stages": 1}),
        ((Choice("stem.width", "architecture", (64, 8, 24)), STAGES), {"stem.width": 64, "stages": 1}),
        ((WIDTHS, Choice("head.hidden", "architecture", (64, 0))), {"stem.width": 16, "head.hidden": 64}),
    ],
)
def test_the_architecture_is_the_analysed_one_or_the_nearest(choices, expected) -> None:  # type: ignore[no-untyped-def]
    (design,) = first_designs(make_space(ratio("a"), architecture=choices), two_stages())
    assert design.architecture == expected


def test_another_family_is_refused() -> None:
    space = SearchSpace("own", "resnet", "", (WIDTHS, ratio("a")))
    with pytest.raises(RecipeError, match="family 'convnet', but search space 'own' of 'resnet'") as caught:
        first_designs(space, two_stages())
    assert "drop 'prior'" in caught.value.hint


losses = st.floats(-0.02, 0.4)
shares = st.floats(0.3, 1.0)


@st.composite
def sensitivities(draw: st.DrawFn) -> Sensitivity:
    names = ("stem", "stage1", "stage2", "classifier")
    stages = []
    for name in names:
        pruned = {s.pruning_ratio: (draw(losses), draw(shares), draw(shares)) for s in SETTINGS if s.prunes}
        low = {(s.weight_bits, s.activation_bits): draw(losses) for s in SETTINGS if not s.prunes}
        stages.append(make_stage(name, 250, 500, pruned if name != "classifier" else {}, low))
    return make_sensitivity(*stages)


@pytest.mark.parametrize("per_stage", [False, True])
@settings(max_examples=15)
@given(sensitivity=sensitivities())
def test_designs_lie_in_the_space_and_within_their_budgets(per_stage: bool, sensitivity: Sensitivity) -> None:
    (small,) = (space for space in list_spaces() if space.name == "convnet-small")
    own = [choice for choice in small.choices if choice.group == "architecture"]
    own += [
        ratio("stem", 0.0, 0.25, 0.5, 0.75),
        ratio("stage1", 0.0, 0.3),
        *bits("stage1", (32, 16, 8, 4)),
        *bits("stem"),
    ]
    space = SearchSpace("own", "convnet", "", tuple(own)) if per_stage else small
    designs = first_designs(space, sensitivity)
    assert len(designs) <= len(BUDGETS)
    assert len({design.digest for design in designs}) == len(designs)
    before = 1.0
    for design in designs:
        assert space.contains(design)
        prediction = predict(sensitivity, design.compression)
        assert prediction is not None
        assert prediction.lost <= BUDGETS[-1]
        assert prediction.cost < before, "each design saves more than the one before"
        before = prediction.cost
    careful = first_designs(space, sensitivity, budgets=(0.01,))
    assert all(
        (predict(sensitivity, design.compression) or pytest.fail("no prediction")).lost <= 0.01 for design in careful
    )
