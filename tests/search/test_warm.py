"""What a search takes from earlier studies: their best designs, cues for its surrogates, and words about the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import make_recipe, make_record, write_study

from nas.choice import Choice
from nas.design import Design, Value
from nas.errors import StudyError
from nas.outcome import How, Outcome, Quantity
from nas.record import TrialRecord
from nas.search.earlier import FIRST
from nas.search.warm import load_warm
from nas.space import SearchSpace

RECIPE = make_recipe()
OTHER_TARGET = "onnxruntime-cpu-2t-b1"


def make_space(**values: tuple[Value, ...]) -> SearchSpace:
    """A space of widths, a kind of convolution and bits; keywords replace or add choices, () takes one out."""
    compression = ("pruning_ratio", "weight_bits", "distillation")
    given: dict[str, tuple[Value, ...]] = {"width": (8, 16, 32, 64), "conv": ("standard", "separable"), **values}
    given.setdefault("weight_bits", (32, 8))
    choices = [Choice(n, "architecture", v) for n, v in given.items() if v and n not in compression]
    choices += [Choice(n, "compression", v) for n, v in given.items() if v and n in compression]
    return SearchSpace("mine", "convnet", "", tuple(choices))


def earlier_records(
    space: SearchSpace, accuracy: Callable[[Design], float], latency: Callable[[Design], float]
) -> list[TrialRecord]:
    """A trial of every design of a space."""
    return [
        make_record(number, accuracy(design), latency(design), design=design)
        for number, design in enumerate(space.designs())
    ]


def width_of(design: Design) -> float:
    return float(design.architecture["width"])


def usual(design: Design) -> float:
    """Wider is more accurate, separable less so, eight bits a little less."""
    loss = 1.0 if design.architecture["conv"] == "standard" else 1.5
    return 1 - loss * (1.1 if design.step("weight_bits") == 8 else 1.0) / (width_of(design) + 2)


def cost(design: Design) -> float:
    factor = 1.0 if design.architecture["conv"] == "standard" else 0.5
    return factor * (0.7 if design.step("weight_bits") == 8 else 1.0) * width_of(design) / 100


def row(design: Design) -> Mapping[str, Value]:
    return {**design.architecture, **design.compression}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


# --- the same space


def test_a_study_of_the_same_space_gives_its_front_and_cues_that_rank(tmp_path: Path) -> None:
    space = make_space()
    study = write_study(tmp_path / "other", earlier_records(space, usual, cost))
    warm = load_warm([tmp_path / "other"], space, RECIPE)
    front = [record.design for record in study.front]
    assert len(front) > FIRST
    assert len(warm.first) == FIRST
    assert warm.first[0] == front[0]
    assert warm.first[-1] == front[-1]
    places = [front.index(design) for design in warm.first]
    assert places == sorted(places)
    assert max(np.diff(places)) - min(np.diff(places)) <= 1, "evenly along the front"
    designs = list(space.designs())
    assert warm.cues is not None
    cues = warm.cues([row(design) for design in designs])
    assert cues.shape == (len(designs), 2)
    # More is better in every column.
    assert spearman(cues[:, 0], np.array([usual(design) for design in designs])) > 0.9
    assert spearman(cues[:, 1], -np.array([cost(design) for design in designs])) > 0.9
    assert len(warm.notes) == 1
    assert warm.notes[0].endswith("other: 16 of 16 trials used")
    assert len(warm.digests) == 1


def test_the_digest_is_of_what_was_read(tmp_path: Path) -> None:
    space, records = make_space(), earlier_records(make_space(), usual, cost)
    write_study(tmp_path / "other", records)
    first = load_warm([tmp_path / "other"], space, RECIPE)
    assert load_warm([tmp_path / "other", tmp_path / "x" / ".." / "other"], space, RECIPE).digests == first.digests
    write_study(tmp_path / "other", [*records[:-1], replace(records[-1], quantities=records[0].quantities)])
    assert load_warm([tmp_path / "other"], space, RECIPE).digest != first.digest


def test_several_studies_take_turns_and_each_gives_cues(tmp_path: Path) -> None:
    space = make_space()
    one = write_study(tmp_path / "one", earlier_records(space, usual, cost))
    # Here narrow networks are the accurate ones, and slow.
    two = write_study(tmp_path / "two", earlier_records(space, lambda d: 1 - usual(d), lambda d: 1 / cost(d)))
    warm = load_warm([tmp_path / "one", tmp_path / "two"], space, RECIPE)
    assert warm.first[:2] == (one.front[0].design, two.front[0].design)
    assert len(warm.first) <= FIRST
    assert warm.cues is not None
    cues = warm.cues([row(design) for design in space.designs()])
    assert cues.shape == (16, 4)
    assert spearman(cues[:, 0], cues[:, 2]) < -0.9
    assert [note.partition(":")[0].rpartition("/")[2] for note in warm.notes] == ["one", "two"]


# --- another space


def test_numbers_that_are_not_offered_become_the_nearest_and_that_is_said(tmp_path: Path) -> None:
    write_study(tmp_path / "other", earlier_records(make_space(width=(8, 24, 96)), usual, cost))
    space = make_space(width=(8, 16, 48))
    warm = load_warm([tmp_path / "other"], space, RECIPE)
    assert "not offered here: width 24 (16 taken) and width 96 (48 taken)" in warm.notes[0]
    assert "12 of 12 trials used" in warm.notes[0]
    assert all(space.contains(design) for design in warm.first)
    assert {design.architecture["width"] for design in warm.first} <= {8, 16, 48}
    assert warm.first[-1].architecture["width"] == 48
    assert warm.cues is not None
    designs = [design for design in space.designs() if design.step("weight_bits") == 32]
    plain = [design for design in designs if design.architecture["conv"] == "standard"]
    cues = warm.cues([row(design) for design in plain])
    assert (np.diff(cues[:, 0]) > 0).all(), "the wider the more accurate, at widths that were never tried too"


def test_other_values_that_are_not_offered_drop_their_trials(tmp_path: Path) -> None:
    records = earlier_records(make_space(conv=("standard", "separable", "dense")), usual, cost)
    write_study(tmp_path / "other", records)
    warm = load_warm([tmp_path / "other"], make_space(), RECIPE)
    assert "16 of 24 trials used, as this space does not offer conv dense" in warm.notes[0]
    assert all(design.architecture["conv"] != "dense" for design in warm.first)
    assert warm.cues is not None


def test_choices_that_only_one_of_them_has_are_told_and_completed(tmp_path: Path) -> None:
    theirs = make_space(depth=(1, 2), pruning_ratio=(0.0, 0.5))

    def pruned(design: Design) -> float:
        return usual(design) - (0.3 if design.step("pruning_ratio") else 0.0)

    write_study(tmp_path / "other", earlier_records(theirs, pruned, cost))
    ours = make_space(kernel=(3, 5), distillation=(True, False))
    largest = {"width": 64, "conv": "standard", "kernel": 5, "weight_bits": 32, "distillation": True}
    space = replace(ours, baseline=ours.design(largest))
    warm = load_warm([tmp_path / "other"], space, RECIPE)
    assert "depth and pruning_ratio are not in this space" in warm.notes[0]
    assert "it tells nothing of kernel and distillation" in warm.notes[0]
    assert all(space.contains(design) for design in warm.first)
    assert {design.architecture["kernel"] for design in warm.first} == {5}, "the baseline's"
    assert {design.compression["distillation"] for design in warm.first} == {False}, "left out"
    assert warm.cues is not None
    # A design here is not pruned: it is told as those were that were not.
    flat = load_warm([tmp_path / "other"], make_space(depth=(1, 2), pruning_ratio=(0.0, 0.5)), RECIPE)
    assert flat.cues is not None
    here = warm.cues([{"width": 16, "conv": "standard", "kernel": 3, "weight_bits": 32, "distillation": False}])
    there = {"width": 16, "conv": "standard", "depth": 1, "weight_bits": 32}
    unpruned, halved = flat.cues([{**there, "pruning_ratio": 0.0}, {**there, "pruning_ratio": 0.5}])[:, 0]
    assert abs(here[0, 0] - unpruned) < 0.3 * (unpruned - halved)


def test_rows_may_hold_values_and_gaps_that_no_earlier_trial_had(tmp_path: Path) -> None:
    write_study(tmp_path / "other", earlier_records(make_space(), usual, cost))
    warm = load_warm([tmp_path / "other"], make_space(width=(4, 8, 1024), conv=("standard", "separable")), RECIPE)
    assert warm.cues is not None
    rows: list[dict[str, Value]] = [{"width": 1024, "conv": "standard"}, {"conv": "separable", "weight_bits": 8}, {}]
    assert np.isfinite(warm.cues(rows)).all()
    assert warm.cues([]).shape == (0, 2)


def test_the_nearest_of_two_is_the_first_and_text_has_none(tmp_path: Path) -> None:
    write_study(tmp_path / "other", earlier_records(make_space(width=(12, 40)), usual, cost))
    warm = load_warm([tmp_path / "other"], make_space(width=(8, 16)), RECIPE)
    assert "width 12 (8 taken) and width 40 (16 taken)" in warm.notes[0]


# --- other objectives


def test_latency_on_another_target_still_ranks(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", f"latency_ms@{OTHER_TARGET}"])
    space = make_space()
    write_study(tmp_path / "other", earlier_records(space, usual, cost))
    warm = load_warm([tmp_path / "other"], space, recipe)
    assert warm.cues is not None
    designs = list(space.designs())
    assert spearman(warm.cues([row(d) for d in designs])[:, 1], -np.array([cost(d) for d in designs])) > 0.9


def test_an_objective_that_it_never_measured_has_no_cue(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", "load_ms@onnxruntime-cpu-1t-b1"])
    write_study(tmp_path / "other", earlier_records(make_space(), usual, cost))
    warm = load_warm([tmp_path / "other"], make_space(), recipe)
    assert "it tells nothing of load_ms@onnxruntime-cpu-1t-b1" in warm.notes[0]
    assert warm.cues is not None
    assert warm.cues([{"width": 8, "conv": "standard"}]).shape == (1, 1)


def test_predictions_of_an_earlier_study_are_no_measurements(tmp_path: Path) -> None:
    recipe = make_recipe(objectives=["accuracy", "load_ms@onnxruntime-cpu-1t-b1"])
    proxy = Quantity("predicted_load_ms", 3.0, "ms", How.PROXY, target="onnxruntime-cpu-1t-b1")
    records = [replace(r, quantities=(*r.quantities, proxy)) for r in earlier_records(make_space(), usual, cost)]
    write_study(tmp_path / "other", records)
    assert "it tells nothing of load_ms" in load_warm([tmp_path / "other"], make_space(), recipe).notes[0]


# --- nothing to take


def test_a_study_in_which_nothing_was_measured_gives_nothing_and_says_so(tmp_path: Path) -> None:
    for records in ([], [make_record(0, outcome=Outcome.INFEASIBLE)]):
        write_study(tmp_path / "other", records)
        warm = load_warm([tmp_path / "other"], make_space(), RECIPE)
        assert (warm.first, warm.cues) == ((), None)
        assert "nothing was measured there" in warm.notes[0]


def test_too_few_trials_and_constant_ones_teach_nothing_but_have_a_front(tmp_path: Path) -> None:
    records = earlier_records(make_space(), usual, cost)
    write_study(tmp_path / "few", records[:3])
    few = load_warm([tmp_path / "few"], make_space(), RECIPE)
    assert few.first
    assert few.cues is None
    assert "3 trials are too few to learn from, so only its front is used" in few.notes[0]
    write_study(tmp_path / "flat", earlier_records(make_space(), lambda d: 0.5, lambda d: 1.0))
    flat = load_warm([tmp_path / "flat"], make_space(), RECIPE)
    assert flat.first
    assert flat.cues is None
    assert "no surrogate could be fitted to it" in flat.notes[0]


def test_trials_none_of_which_fit_are_told(tmp_path: Path) -> None:
    write_study(tmp_path / "other", earlier_records(make_space(conv=("dense",)), lambda d: 0.5, cost))
    warm = load_warm([tmp_path / "other"], make_space(), RECIPE)
    assert (warm.first, warm.cues) == ((), None)
    assert "0 of 8 trials used" in warm.notes[0]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (SearchSpace("x", "mlp", "", (Choice("width", "architecture", (8, 16)),)), "is of family 'convnet', but"),
        (make_space(width=(), conv=(), weight_bits=(), depth=(1, 2)), "no choice in common with search space 'mine'"),
        (make_space(width=(8,), conv=(), weight_bits=()), "no choice in common"),
    ],
)
def test_a_study_that_has_nothing_to_do_with_the_space_is_refused(
    tmp_path: Path, space: SearchSpace, message: str
) -> None:
    write_study(tmp_path / "other", earlier_records(make_space(), usual, cost))
    with pytest.raises(StudyError, match=message) as refused:
        load_warm([tmp_path / "other"], space, RECIPE)
    assert "leave it out" in refused.value.hint


def test_where_no_study_is_none_is_read(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(StudyError, match="there is no study in"):
            load_warm([path], make_space(), RECIPE)


def test_long_lists_are_shortened(tmp_path: Path) -> None:
    theirs = make_space(width=tuple(range(1, 8)))
    write_study(tmp_path / "other", earlier_records(theirs, lambda design: 0.5 + width_of(design) / 99, cost))
    note = load_warm([tmp_path / "other"], make_space(width=(100, 200)), RECIPE).notes[0]
    assert "width 1 (100 taken), width 2 (100 taken), width 3 (100 taken) and 4 more" in note
