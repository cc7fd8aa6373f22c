"""Float networks: trained in rungs as in one go, from what they inherit, whatever the cache holds and in any order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import foreign_networks
import pytest
import safetensors.torch
import torch
from small_networks import ONE_THREAD, digits, make_design, make_recipe
from torch import nn

from nas.design import Design
from nas.errors import ModuleError, NasError, UnsupportedError
from nas.families import load_own
from nas.networks import Inherits, Relative, Start, save_network
from nas.own_module import INCLUDED, OwnModule
from nas.pipeline import Pipeline, Teacher
from nas.stages import Trace
from nas.store import Store
from nas.train import rung_epochs, schedule, training, trunk_steps

EPOCHS = 4
STEPS = 6  # of an epoch: 120 images, 20 at a time
DESIGN = make_design()
WIDER = make_design(architecture={"stage1.width": 48})
AUGMENTED = {"augmentation": {"shift": 1, "flip": True}}
OWN = Design("module", {"module": "tiny_mobilenet"}, {})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_pipeline(folder: Path, own: OwnModule | None = None, **changes: Any) -> Pipeline:
    training = {"batch_size": 20} | changes.pop("training", {})
    recipe = make_recipe(**({"epochs": EPOCHS, "training": training} | changes))
    network = None if own is None else load_own(own, (1, 8, 8), 10)
    return Pipeline(recipe, digits(120, 60), Store(folder, 10**9), ONE_THREAD, False, own=network)


def whole(pipeline: Pipeline, design: Design, inherits: Inherits | None = None) -> tuple[nn.Module, Trace]:
    trace = Trace()
    return pipeline.networks.trained(design, 0, trace, inherits).model, trace


def rung(pipeline: Pipeline, epochs: int, inherits: Inherits | None = None, design: Design = DESIGN) -> nn.Module:
    return pipeline.rung(design, 0, epochs, Trace(), inherits)


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of each step that is trained from now on."""
    trained: list[int] = []
    learn = training._Run._learn

    def counted(self: training._Run, *arguments: Any) -> None:
        trained.append(self.step)
        learn(self, *arguments)

    monkeypatch.setattr(training._Run, "_learn", counted)
    return trained


# --- rungs


@pytest.mark.parametrize(
    ("design", "own", "changes"),
    [
        (DESIGN, None, {}),
        (DESIGN, None, {"training": AUGMENTED}),
        (make_design("mobilenet"), None, {}),
        (OWN, OwnModule(foreign_networks.__file__, "tiny_mobilenet"), {"training": AUGMENTED}),  # it has dropout
    ],
    ids=["plain", "augmented", "mobilenet", "own"],
)
def test_rungs_and_the_rest_give_the_weights_of_one_go_and_cost_the_decays_alone(
    design: Design, own: OwnModule | None, changes: dict[str, Any], steps: list[int], tmp_path: Path
) -> None:
    at_once, first = whole(make_pipeline(tmp_path / "at once", own, **changes), design)
    assert [stage.stage for stage in first.stages] == ["train"]
    assert steps == list(range(EPOCHS * STEPS))
    alone = rung(make_pipeline(tmp_path / "alone", own, **changes), 3, design=design)
    steps.clear()
    for epochs, begun in ((2, 0), (3, 7)):  # each as in a process of its own; the trunk of two epochs has 7 steps
        network = rung(make_pipeline(tmp_path / "rungs", own, **changes), epochs, design=design)
        assert steps == list(range(begun, epochs * STEPS))
        steps.clear()
    assert equal(network, alone)
    after, trace = whole(make_pipeline(tmp_path / "rungs", own, **changes), design)
    assert steps == list(range(11, EPOCHS * STEPS))
    assert equal(after, at_once)
    assert [(stage.stage, stage.cached) for stage in trace.stages] == [("trunk", True), ("train", False)]
    assert trace.stages[1].key == first.stages[0].key
    curves = [[e["loss"] for e in found.stages[place].detail["curve"]] for found, place in ((first, 0), (trace, 1))]
    assert curves[0] == curves[1]
    assert len(curves[0]) == EPOCHS


def test_a_rung_of_a_part_of_an_epoch_is_gone_on_from_as_well(
    steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "LEAST_STEPS", 2)
    part, whole_one = rung_epochs(EPOCHS, 3, STEPS)
    assert (part, whole_one) == (0.333, 1)
    rung(make_pipeline(tmp_path / "rungs"), part)
    assert len(steps) == round(part * STEPS)
    trunk = trunk_steps(len(steps))
    steps.clear()
    rung(make_pipeline(tmp_path / "rungs"), whole_one)
    assert steps == list(range(trunk, int(whole_one * STEPS)))
    after, _ = whole(make_pipeline(tmp_path / "rungs"), DESIGN)
    assert equal(after, whole(make_pipeline(tmp_path / "at once"), DESIGN)[0])


def test_a_rung_notes_its_trunk_and_a_shorter_one_after_a_longer_costs_no_more_than_itself(
    steps: list[int], tmp_path: Path
) -> None:
    pipeline, trace = make_pipeline(tmp_path), Trace()
    pipeline.rung(DESIGN, 0, 3, trace)
    assert [(stage.stage, stage.cached) for stage in trace.stages] == [("trunk", False), ("train", False)]
    assert trace.stages[0].detail["step"] == 11
    pipeline.rung(DESIGN, 0, 3, again := Trace())
    assert [(stage.stage, stage.cached) for stage in again.stages] == [("train", True)]
    steps.clear()
    shorter = rung(pipeline, 2)
    assert steps == list(range(2 * STEPS)), "a longer trunk is no part of a shorter training"
    assert equal(shorter, rung(make_pipeline(tmp_path / "other"), 2))


def test_a_rung_of_the_whole_budget_is_the_training_itself(steps: list[int], tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path)
    network = rung(pipeline, EPOCHS)
    steps.clear()
    assert equal(whole(pipeline, DESIGN)[0], network)
    assert steps == []


def test_a_trunk_is_of_one_training(steps: list[int], tmp_path: Path) -> None:
    """Another seed, learning rate or inheritance, and other weights to inherit, begin anew."""
    rung(make_pipeline(tmp_path), 3)
    others = [
        lambda: make_pipeline(tmp_path).rung(DESIGN, 1, 4, Trace()),
        lambda: rung(make_pipeline(tmp_path, training={"learning_rate": 2e-3}), 4),
        lambda: rung(make_pipeline(tmp_path), 4, Start(save_network(rung(make_pipeline(tmp_path), 3)), "a")),
        lambda: rung(make_pipeline(tmp_path), 4, design=WIDER),
    ]
    for other in others:
        steps.clear()
        other()
        assert steps == list(range(4 * STEPS))


def test_a_damaged_trunk_costs_its_steps_and_nothing_else(steps: list[int], tmp_path: Path) -> None:
    pipeline, trace = make_pipeline(tmp_path), Trace()
    pipeline.rung(DESIGN, 0, 3, trace)
    entry = pipeline.store.get(trace.stages[0].key)
    assert entry is not None
    pipeline.store.blob_path(entry.sha256).write_bytes(entry.blob[:-1])
    steps.clear()
    network, _ = whole(pipeline, DESIGN)
    assert steps == list(range(EPOCHS * STEPS))
    assert equal(network, whole(make_pipeline(tmp_path / "other"), DESIGN)[0])


def test_where_all_steps_are_decay_there_is_no_trunk(tmp_path: Path) -> None:
    pipeline, trace = make_pipeline(tmp_path, training={"batch_size": 120}), Trace()
    pipeline.rung(DESIGN, 0, 1, trace)
    assert [stage.stage for stage in trace.stages] == ["train"]


@pytest.mark.parametrize("epochs", [0, -1, EPOCHS + 1])
def test_a_rung_outside_the_budget_is_refused(epochs: int, tmp_path: Path) -> None:
    with pytest.raises(NasError, match=f"must have more than 0 and up to {EPOCHS} epochs, .* but got {epochs}"):
        rung(make_pipeline(tmp_path), epochs)


# --- inheritance


def test_what_is_inherited_counts_and_nothing_depends_on_order(tmp_path: Path) -> None:
    """The relative is trained before, or for the heir's sake, or after a rung of the heir that it is needed for."""
    plain, trace = whole(make_pipeline(tmp_path / "plain"), WIDER)
    assert "inherited" not in trace.stages[0].detail
    fresh, before = make_pipeline(tmp_path / "fresh"), make_pipeline(tmp_path / "before")
    heir, trace = whole(fresh, WIDER, DESIGN)
    assert not equal(heir, plain)
    assert 0 < trace.stages[0].detail["inherited"] < 1
    relative, own = whole(before, DESIGN)
    rung(before, 2, DESIGN, WIDER)
    assert equal(whole(before, WIDER, DESIGN)[0], heir)
    assert equal(whole(fresh, DESIGN)[0], relative), "the relative is what it would have been"
    assert own.stages[0].key == fresh.train_key(DESIGN, 0)
    # After one step of a small rate the heir is still what it inherited.
    barely = make_pipeline(tmp_path / "barely", epochs=1, training={"learning_rate": 1e-9, "weight_decay": 0})
    start = Start(save_network(relative), "relative")
    same = barely.rung(DESIGN, 0, 1, Trace(), start)
    pairs = zip(same.parameters(), relative.parameters(), strict=True)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in pairs)


def test_given_weights_count_by_their_content(tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path)
    weights = save_network(rung(pipeline, 2))
    keys = {
        "none": pipeline.train_key(WIDER, 0),
        "given": pipeline.train_key(WIDER, 0, Start(weights, "supernet")),
        "renamed": pipeline.train_key(WIDER, 0, Start(weights, "other")),
        "others": pipeline.train_key(WIDER, 0, Start(save_network(rung(pipeline, 3)), "supernet")),
        "relative": pipeline.train_key(WIDER, 0, DESIGN),
        "spelt out": pipeline.train_key(WIDER, 0, Relative(DESIGN)),
        "whose own inherited": pipeline.train_key(WIDER, 0, Relative(DESIGN, make_design("mlp"))),
    }
    assert keys["given"] == keys["renamed"]
    assert keys["relative"] == keys["spelt out"]
    assert len(set(keys.values())) == len(keys) - 2
    with pytest.raises(ModuleError, match=r"supernet\.safetensors cannot be read as safetensors"):
        rung(pipeline, 2, Start(b"torn", "supernet"))


def test_a_teacher_that_inherited_is_the_same_teacher_every_time(tmp_path: Path) -> None:
    student = make_design("mlp", distillation=True)
    teacher = Teacher(1, WIDER, DESIGN)
    first = make_pipeline(tmp_path / "first").run(student, 0, teacher, Trace())
    other = make_pipeline(tmp_path / "other")
    whole(other, WIDER, DESIGN)
    assert other.run(student, 0, teacher, Trace()).artifact == first.artifact
    assert other.run(student, 0, Teacher(1, WIDER), Trace()).artifact != first.artifact


def test_a_network_that_comes_with_its_weights_has_no_rungs_and_inherits_nothing(tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path, OwnModule(foreign_networks.__file__, "tiny_resnet", {}, INCLUDED))
    assert not pipeline.trains_from_scratch
    assert make_pipeline(tmp_path).trains_from_scratch
    design = Design("module", {"module": "tiny_resnet"}, {})
    for ask in (lambda: rung(pipeline, 2, design=design), lambda: whole(pipeline, design, DESIGN)):
        with pytest.raises(UnsupportedError, match="tiny_resnet comes with its weights: there is nothing to train"):
            ask()


def test_trunks_are_files_without_code(tmp_path: Path) -> None:
    pipeline, trace = make_pipeline(tmp_path), Trace()
    pipeline.rung(DESIGN, 0, 2, trace)
    entry = pipeline.store.get(trace.stages[0].key)
    assert entry is not None
    assert "optimizer/exp_avg/classifier.weight" in safetensors.torch.load(entry.blob)
