"""Which studies may be compared, by what, and what they are called."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from compared_studies import OBJECTIVES, on_machine, study_of, told, two_studies, with_data
from fakes import LATENCY, TARGET, make_recipe, make_record, write_study

from nas.errors import StudyError
from nas.outcome import Outcome
from nas.report.comparable import labels
from nas.report.compare import compare
from nas.report.compare_picture import caption
from nas.report.compare_table import verdict
from nas.study import Study


@pytest.fixture
def two(tmp_path: Path) -> list[Study]:
    return two_studies(tmp_path)


# --- what the studies are called -------------------------------------------------------------------------------------


def test_studies_are_called_by_their_folders_and_by_more_where_these_are_the_same(tmp_path: Path) -> None:
    one, other, third = tmp_path / "x" / "digits", tmp_path / "y" / "digits", tmp_path / "z"
    assert labels([one, third]) == ["digits", "z"]
    assert labels([one, other, third]) == ["x/digits", "y/digits", "z"]
    assert labels([tmp_path / "p" / "x" / "s", tmp_path / "q" / "x" / "s"]) == ["p/x/s", "q/x/s"]


def test_one_study_alone_too_many_or_one_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="a comparison is of 2 to 8 studies, but got 1"):
        labels([tmp_path])
    with pytest.raises(StudyError, match="but got 9"):
        labels([tmp_path / str(number) for number in range(9)])
    with pytest.raises(StudyError, match="is named twice"):
        labels([tmp_path / "a", tmp_path / "b", tmp_path / "b" / ".." / "a"])


# --- what may be compared --------------------------------------------------------------------------------------------


def test_only_shared_objectives_are_compared_and_the_others_named(tmp_path: Path) -> None:
    a = study_of(tmp_path / "a", (0.8, 0.1), (0.7, 0.2), objectives=[*OBJECTIVES, "size_bytes"])
    b = study_of(tmp_path / "b", (0.8, 0.2), objectives=["size_bytes", *OBJECTIVES, "macs"])
    comparison = compare([a, b])
    assert [o.key for o in comparison.objectives] == [*OBJECTIVES, "size_bytes"]
    assert "left out, as not all studies have it: macs of b." in comparison.notes
    c = study_of(tmp_path / "c", (0.8, 0.2))
    comparison = compare([a, c])
    assert [o.key for o in comparison.objectives] == OBJECTIVES
    assert [record.number for record in comparison.contenders[0].front] == [0]  # the other is only smaller


def test_different_targets_are_refused_by_name(tmp_path: Path) -> None:
    a = study_of(tmp_path / "a", (0.8, 0.1))
    b = study_of(tmp_path / "b", objectives=["accuracy", "latency_ms@onnxruntime-cpu-2t-b1"])
    with pytest.raises(StudyError, match=r"share no cost.* a: accuracy, latency_ms@onnxruntime-cpu-1t-b1; b: .*2t"):
        compare([a, b])
    with pytest.raises(StudyError, match="share no quality"):
        compare([a, study_of(tmp_path / "c", objectives=["balanced_accuracy", LATENCY])])


def test_different_machines_are_refused_and_what_differs_named(two: list[Study]) -> None:
    a, b = on_machine(two[0], "aaa", "Fast"), on_machine(two[1], "bbb", "Slow")
    with pytest.raises(StudyError, match="not comparable") as caught:
        compare([a, b])
    message = caught.value.message
    assert f"{LATENCY} was measured in different environments" in message
    assert "a on Fast, 2 cores (aaa); b on Slow, 2 cores (bbb)" in message
    assert message.endswith("they differ in cpu: Fast, Slow")
    assert caught.value.hint == f"measure again on one machine: nas measure {b.folder.path}; or add --anyway"
    comparison = compare([a, b], anyway=True)
    assert comparison.warnings == (message.removeprefix("not comparable: "),)
    assert told(comparison).startswith(f"warning: not comparable: {LATENCY} was")
    assert "Not comparable without care" in caption(comparison)


def test_one_machine_is_no_obstacle(two: list[Study]) -> None:
    assert compare([on_machine(study, "aaa", "Fast") for study in two]).warnings == ()


def test_a_place_is_compared_by_the_targets_that_serve_it(tmp_path: Path) -> None:
    def served(name: str, fingerprint: str) -> Study:
        at_place = replace(make_record(0).quantity(LATENCY), target="cpu-b1", environment_id=f"of {fingerprint}")
        record = make_record(0, quantities=(at_place,))
        recipe = {"objectives": ["accuracy", "latency_ms@cpu-b1"], "targets": [TARGET]}
        study = write_study(tmp_path / name, [record], make_recipe(**recipe))
        quantities = tuple(
            replace(q, environment_id=fingerprint) if q.target == TARGET else q for q in record.quantities
        )
        return write_study(tmp_path / name, [replace(study.records[0], quantities=quantities)], study.recipe)

    assert not compare([served("a", "one"), served("b", "one")]).warnings
    with pytest.raises(StudyError, match=f"latency_ms@{TARGET} was measured in different environments"):
        compare([served("a", "one"), served("b", "two")])


def test_different_data_is_refused_by_its_digest_or_where_that_is_unknown_by_the_recipe(tmp_path: Path) -> None:
    a = with_data(study_of(tmp_path / "a", (0.8, 0.1)), "d1")
    b = with_data(study_of(tmp_path / "b", (0.8, 0.1)), "d2")
    with pytest.raises(StudyError, match="the data of a and b differ: the files hold something else"):
        compare([a, b])
    assert compare([a, with_data(b, "d1")]).warnings == ()
    limited = study_of(tmp_path / "c", (0.8, 0.1), data={"source": "digits", "train_limit": 400})
    with pytest.raises(StudyError, match="the data of a and c differ in train_limit: null, 400"):
        compare([a, limited])
    # The same data by its digest, however it is told.
    assert compare([a, with_data(limited, "d1")]).warnings == ()
    assert len(compare([a, with_data(b, "d2")], anyway=True).warnings) == 1


def test_constraints_and_settings_that_differ_are_told(tmp_path: Path) -> None:
    a = study_of(tmp_path / "a", (0.8, 0.1), sampler="tpe", seed=1)
    b = study_of(tmp_path / "b", (0.8, 0.1), sampler="random", seed=2, constraints=["size_bytes <= 1000000"])
    first, second = compare([a, b]).notes
    assert first == "each front keeps its own constraints (a: none; b: size_bytes <= 1000000)."
    assert second == 'recipes of a and b differ in sampler: "tpe", "random"; seed: 1, 2.'


def test_studies_without_a_front(tmp_path: Path) -> None:
    a = study_of(tmp_path / "a", (0.8, 0.1))
    empty = study_of(tmp_path / "empty")
    failed = study_of(tmp_path / "failed", records=[make_record(0, outcome=Outcome.FAILED)])
    barred = study_of(tmp_path / "barred", (0.8, 0.1), constraints=["size_bytes <= 1"])
    comparison = compare([empty, a, failed, barred])
    assert [contender.volume > 0 for contender in comparison.contenders] == [False, True, False, False]
    assert sum("there is no front in" in note for note in comparison.notes) == 3
    text = told(comparison)
    assert "by B" in text
    assert max(map(len, text.splitlines())) <= 80
    assert verdict(comparison).startswith("No front dominates another")
    with pytest.raises(StudyError, match="none of these studies has a measured trial"):
        compare([empty, failed])
    with pytest.raises(StudyError, match="none of these studies has a front"):
        compare([empty, barred])
