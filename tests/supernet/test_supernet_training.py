"""Training a supernet: what a step trains, that it learns, its schedule, and that it can be left and taken up again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import ONE_THREAD
from supernet_spaces import LEARNS, both_splits, supernet_of
from torch import Tensor

from nas.design import Design
from nas.errors import DivergedError, StudyError
from nas.recipe_sections import Augmentation, TrainingConfig
from nas.supernet import Supernet, SupernetBudget, train_supernet
from nas.supernet.training import _Run

CONFIG = TrainingConfig(batch_size=25, learning_rate=4e-3, augmentation=Augmentation(shift=1))


def fit(
    supernet: Supernet, budget: SupernetBudget | None = None, config: TrainingConfig = CONFIG, **options: Any
) -> list[dict[str, Any]]:
    data, _ = both_splits(150)
    return train_supernet(supernet, data, config, ONE_THREAD, budget or SupernetBudget(epochs=2), **options)


def equal(one: Supernet, other: Supernet) -> bool:
    assert one.tensors.keys() == other.tensors.keys()
    return all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def without_seconds(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in curve]


def test_it_learns() -> None:
    curve = fit(supernet_of(LEARNS), SupernetBudget(epochs=6))
    assert len(curve) == 6
    assert curve[-1]["loss"] < 0.7 * curve[0]["loss"]
    assert curve[-1]["other_loss"] < 0.85 * curve[0]["other_loss"]
    assert curve[-1]["train_accuracy"] > curve[0]["train_accuracy"] + 0.2


def test_each_step_has_the_largest_the_smallest_and_others_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = supernet_of(LEARNS)
    seen: list[Design] = []
    forward = Supernet.forward

    def spy(self: Supernet, design: Design, images: Tensor) -> Tensor:
        seen.append(design)
        return forward(self, design, images)

    monkeypatch.setattr(Supernet, "forward", spy)
    fit(supernet, SupernetBudget(epochs=1, subnets=5))
    steps = [seen[start : start + 5] for start in range(0, len(seen), 5)]
    assert len(steps) == 6  # 150 images in batches of 25
    assert {(step[0], step[1]) for step in steps} == {(supernet.largest, supernet.smallest)}
    assert len({design for step in steps for design in step[2:]}) > 5


def test_the_largest_network_teaches_the_others() -> None:
    """By a closed form: with weight 1 the loss is the divergence from its classes, and 0 where they are the same."""
    data, _ = both_splits()
    config = CONFIG.model_copy(update={"distillation_weight": 1.0, "distillation_temperature": 2.0})
    run = _Run(supernet_of(LEARNS), data, config, ONE_THREAD, SupernetBudget(epochs=1), 0, None, lambda: 0.0)
    teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    soft = torch.softmax(teacher[0] / 2, 0)
    expected = 4 * float((soft * (soft.log() - torch.tensor([0.5, 0.5]).log())).sum())
    labels = torch.tensor([1])
    assert float(run._loss(student, labels, teacher)) == pytest.approx(expected)
    assert float(run._loss(teacher, labels, teacher)) == pytest.approx(0, abs=1e-7)
    assert float(run._loss(teacher, labels, None)) > 1


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, again, other = (supernet_of(LEARNS) for _ in range(3))
    curves = [
        without_seconds(fit(net, SupernetBudget(epochs=1), seed=s)) for net, s in ((one, 3), (again, 3), (other, 4))
    ]
    assert equal(one, again)
    assert curves[0] == curves[1] != curves[2]
    assert not equal(one, other)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("after", [7, 12])  # within the second epoch, and at the end of it
def test_a_training_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path: Path, after: int) -> None:
    path, steps = tmp_path / "supernet.safetensors", 0

    def interrupt(share: float) -> None:
        nonlocal steps
        steps += 1
        if steps == after:
            raise Interrupted

    budget = SupernetBudget(epochs=3)
    whole = supernet_of(LEARNS)
    expected = fit(whole, budget, seed=1)
    with pytest.raises(Interrupted):
        fit(supernet_of(LEARNS), budget, seed=1, checkpoint=path, on_progress=interrupt)
    shares: list[float] = []
    resumed = supernet_of(LEARNS)
    curve = fit(resumed, budget, seed=1, checkpoint=path, on_progress=shares.append)
    assert len(shares) == 12  # of 18 steps the first epoch's six were kept
    assert shares[-1] == 1
    assert without_seconds(curve) == without_seconds(expected)
    assert equal(resumed, whole)


def test_a_training_that_was_completed_is_read_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    first, second = supernet_of(LEARNS), supernet_of(LEARNS)
    curve = fit(first, checkpoint=path)

    def never(share: float) -> None:
        raise AssertionError("it trains again")

    assert fit(second, checkpoint=path, on_progress=never) == curve
    assert equal(first, second)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    fit(supernet_of(LEARNS), SupernetBudget(epochs=1), checkpoint=path)
    for changed in ({"seed": 1}, {"config": CONFIG.model_copy(update={"weight_decay": 0.5})}):
        with pytest.raises(StudyError, match="is of another training") as caught:
            fit(supernet_of(LEARNS), SupernetBudget(epochs=1), checkpoint=path, **changed)  # type: ignore[arg-type]
        assert "remove it" in caught.value.hint
    content = path.read_bytes()
    for damaged in (content[:100], content[:-10], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(StudyError, match="cannot be read"):
            fit(supernet_of(LEARNS), SupernetBudget(epochs=1), checkpoint=path)


def test_a_time_limit_leaves_its_last_part_to_the_falling_learning_rate() -> None:
    """A step takes a second by this clock: the limit of 20 is met, and the rate falls over the last 8."""
    now = iter(range(0, 10_000)).__next__
    shares: list[float] = []
    supernet = supernet_of(LEARNS)
    curve = fit(supernet, SupernetBudget(minutes=20 / 60), clock=lambda: float(now()), on_progress=shares.append)
    assert len(shares) == 20
    assert shares == sorted(shares)
    assert shares[10] == pytest.approx(11 / 20)
    assert shares[-1] == 1
    assert [epoch["seconds"] for epoch in curve] == [6, 6, 6, 2]


def test_a_time_limit_that_is_shorter_than_a_step_still_trains_two() -> None:
    now = iter(range(0, 10_000)).__next__
    shares: list[float] = []
    fit(supernet_of(LEARNS), SupernetBudget(minutes=0.001), clock=lambda: float(now()), on_progress=shares.append)
    assert shares == [0.5, 1.0]


def test_a_training_that_diverges_says_so() -> None:
    with pytest.raises(DivergedError, match="diverged") as caught:
        fit(supernet_of(LEARNS), config=CONFIG.model_copy(update={"learning_rate": 1e30}))
    assert "learning_rate" in caught.value.hint


@pytest.mark.parametrize("limits", [{}, {"epochs": 1, "minutes": 1.0}, {"epochs": 0}, {"minutes": -1.0}])
def test_a_budget_has_one_limit(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="either epochs or minutes, greater than 0"):
        SupernetBudget(**limits)


def test_a_step_has_both_ends() -> None:
    with pytest.raises(ValueError, match="at least 2 subnets"):
        SupernetBudget(epochs=1, subnets=1)
