"""Training: its learning rate, its repeatability, its losses against closed forms, and how it ends when it diverges."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import ARCHITECTURES, ONE_THREAD, digits, training_data
from torch import Tensor, nn

from nas.artifact import InputSpec
from nas.data.normalise import Normalisation, normalisation_of
from nas.errors import DivergedError, NasError, UnsupportedError
from nas.families import build
from nas.families.layout import keep_contiguous
from nas.recipe_sections import Augmentation, TrainingConfig
from nas.train import (
    DECAY_SHARE,
    WARMUP_STEPS,
    Checkpoint,
    Distillation,
    Numerics,
    TrainingData,
    learning_rate_factor,
    numerics_for,
    predict_logits,
    seeded,
    steps_per_epoch,
    train,
    train_trunk,
    trunk_factor,
    trunk_steps,
    working_on,
)
from nas.train.randomness import Draws

CONFIG = TrainingConfig(batch_size=50, learning_rate=4e-3)


def network(family: str = "convnet", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(family, ARCHITECTURES[family], (1, 8, 8), 10)


def fit(
    model: nn.Module,
    data: TrainingData,
    epochs: int = 1,
    seed: int = 0,
    config: TrainingConfig = CONFIG,
    numerics: Numerics = ONE_THREAD,
    **options: Any,
) -> list[dict[str, Any]]:
    """Trains as the pipeline does and returns the curve."""
    with seeded(seed, numerics.threads) as generator:
        return train(model, data, config, numerics, epochs, config.learning_rate, generator, **options)


def accuracy(model: nn.Module) -> float:
    """On the validation digits."""
    dataset = digits()
    data = training_data(replace(dataset, train=dataset.validation))
    data = replace(data, normalisation=training_data(dataset).normalisation)
    return float((predict_logits(model, data).argmax(1) == data.labels).float().mean())


def equal_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# --- the learning rate


@pytest.mark.parametrize(
    ("step", "steps", "steps_per_epoch", "factor"),
    [
        (0, 200, 50, 1 / WARMUP_STEPS),
        (9, 200, 50, 10 / WARMUP_STEPS),
        (WARMUP_STEPS - 1, 200, 50, 1.0),
        (100, 200, 50, 1.0),
        (120, 200, 50, 1.0),  # the decay begins: the last 80 steps fall from 1 to 1/80
        (160, 200, 50, 0.5),
        (199, 200, 50, 1 / 80),
        (0, 20, 5, 1 / 5),  # an epoch shorter than the warm-up bounds it
        (4, 20, 5, 1.0),
        (0, 1, 1, 1.0),
    ],
)
def test_learning_rate_warms_up_stays_and_decays(step: int, steps: int, steps_per_epoch: int, factor: float) -> None:
    assert learning_rate_factor(step, steps, steps_per_epoch) == pytest.approx(factor)


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 14, 150])
def test_learning_rate_of_a_longer_budget_is_that_of_the_shorter_up_to_its_decay(steps_per_epoch: int) -> None:
    for epochs in (1, 2, 5, 12):
        steps = epochs * steps_per_epoch
        trunk = steps - max(1, round(DECAY_SHARE * steps))
        for longer in (steps, 2 * steps, 7 * steps):
            for step in range(trunk):
                expected = learning_rate_factor(step, steps, steps_per_epoch)
                assert learning_rate_factor(step, longer, steps_per_epoch) == expected
        factors = [learning_rate_factor(step, steps, steps_per_epoch) for step in range(steps)]
        assert all(0 < factor <= 1 for factor in factors)
        peak = factors.index(max(factors))
        assert factors[:peak] == sorted(factors[:peak])
        assert factors[peak:] == sorted(factors[peak:], reverse=True)


def test_a_longer_training_continues_a_shorter_one() -> None:
    """The losses of the epochs before the shorter one's decay are the same to the bit, and no later ones."""
    data = training_data(digits())
    short, long = (fit(network(), data, epochs) for epochs in (5, 8))
    assert [e["loss"] for e in short[:3]] == [e["loss"] for e in long[:3]]
    assert short[3]["loss"] != long[3]["loss"]


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 14, 150])
def test_the_trunk_is_what_no_budget_changes_and_the_rest_is_the_decay(steps_per_epoch: int) -> None:
    for steps in range(1, 40):
        trunk = trunk_steps(steps)
        assert 0 <= trunk < steps
        assert trunk == pytest.approx((1 - DECAY_SHARE) * steps, abs=1)
        for step in range(steps):
            stable = trunk_factor(step, steps_per_epoch)
            assert (learning_rate_factor(step, steps, steps_per_epoch) == stable) or step > trunk


# --- left and taken up again


class Peculiar(nn.Module):
    """What a person's own network may have: dropout, a buffer that no state_dict holds and that training changes, a
    layer of two names, a parameter that nothing uses, a batch norm that averages over all batches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(64, 32), nn.BatchNorm1d(32, momentum=None)
        self.again, self.same = nn.Linear(32, 32), nn.ReLU()
        self.alias = self.again
        self.classifier = nn.Linear(32, 10)
        self.idle = nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros(32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.first(x.flatten(1)))
        if self.training:
            self.seen.mul_(0.9).add_(features.detach().mean(0), alpha=0.1)
        hidden = self.alias(self.again(torch.relu(features + self.seen)))
        return self.classifier(nn.functional.dropout(hidden, 0.3, self.training))


def peculiar() -> nn.Module:
    torch.manual_seed(0)
    return Peculiar()


def contiguous() -> nn.Module:
    model = network()
    keep_contiguous(model)
    return model


SMALL = CONFIG.model_copy(update={"batch_size": 20})
AUGMENTED = SMALL.model_copy(update={"augmentation": Augmentation(shift=1, flip=True, erase=0.2)})
CONTINUED = {
    "plain": (network, SMALL, ONE_THREAD),
    "augmented": (network, AUGMENTED, ONE_THREAD),
    "dropout": (lambda: nn.Sequential(nn.Dropout(0.2), network()), AUGMENTED, ONE_THREAD),
    "own": (peculiar, AUGMENTED, ONE_THREAD),
    "contiguous": (contiguous, SMALL, ONE_THREAD),
    "bfloat16": (lambda: network("mlp"), AUGMENTED, Numerics("cpu", "bfloat16", 1)),
}


def told(curve: list[dict[str, Any]]) -> list[tuple[float, float]]:
    return [(epoch["loss"], epoch["train_accuracy"]) for epoch in curve]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("case", CONTINUED)
def test_every_budget_continues_the_trunk_of_a_shorter_one_to_the_bit(case: str) -> None:
    """Trunks of 7 and 11 steps of 6 an epoch end inside an epoch; each goes through a file and on in a new network."""
    make, config, numerics = CONTINUED[case]
    data = training_data(digits(120))
    assert [trunk_steps(epochs * steps_per_epoch(data, config)) for epochs in (2, 3)] == [7, 11]
    kept: Checkpoint | None = None
    for epochs in (2, 3, 4):
        whole, continued = make(), make()
        curve = fit(whole, data, epochs, 5, config, numerics)
        if kept is not None:
            assert told(fit(continued, data, epochs, 5, config, numerics, resume=kept)) == told(curve)
            assert all(torch.equal(a, b) for a, b in zip(state(whole).values(), state(continued).values(), strict=True))
        trunk = make()
        with seeded(5, 1) as generator:
            torch.rand(100)  # whatever else was drawn before
            left = train_trunk(
                trunk, data, config, numerics, trunk_steps(epochs * 6), config.learning_rate, generator, resume=kept
            )
        assert (left.step, len(left.curve)) == (trunk_steps(epochs * 6), trunk_steps(epochs * 6) // 6)
        blob, detail = left.to_entry()
        kept = Checkpoint.from_entry(blob, json.loads(json.dumps(detail, allow_nan=False)))
        resumed = make()
        assert told(fit(resumed, data, epochs, 5, config, numerics, resume=kept)) == told(curve)
        assert all(torch.equal(a, b) for a, b in zip(state(whole).values(), state(resumed).values(), strict=True))


def trunk_of(model: nn.Module, steps: int, config: TrainingConfig = CONFIG) -> Checkpoint:
    with seeded(0, 1) as generator:
        return train_trunk(model, training_data(digits()), config, ONE_THREAD, steps, config.learning_rate, generator)


def test_a_checkpoint_holds_the_network_and_the_optimiser_and_does_not_change_any_more() -> None:
    model = network("mlp")
    left = trunk_of(model, 4)
    names = [name for name, _ in model.named_parameters()]
    kinds = ("step", "exp_avg", "exp_avg_sq")
    assert {f"optimizer/{kind}/{name}" for kind in kinds for name in names} < left.tensors.keys()
    assert all(torch.equal(left.tensors[f"network/{name}"], tensor) for name, tensor in state(model).items())
    assert all(float(left.tensors[f"optimizer/step/{name}"]) == 4 for name in names)
    before = left.to_entry()[0]
    fit(model, training_data(digits()), 2, resume=left)
    assert left.to_entry()[0] == before


def test_a_checkpoint_of_another_network_is_refused() -> None:
    left = trunk_of(network("mlp"), 2)
    with pytest.raises(NasError, match=r"of another network cannot be continued: they differ in '"):
        fit(network(), training_data(digits()), 2, resume=left)


@pytest.mark.parametrize("detail", [{}, {"step": 1, "curve": [], "loss": "x", "correct": 0, "seconds": 0}])
def test_what_is_no_checkpoint_is_refused(detail: dict[str, Any]) -> None:
    blob, _ = trunk_of(network("mlp"), 1).to_entry()
    with pytest.raises(NasError, match="no checkpoint of a training"):
        Checkpoint.from_entry(blob, detail)
    with pytest.raises(NasError, match="no checkpoint of a training"):
        Checkpoint.from_entry(b"torn", {"step": 1, "curve": [], "loss": 0, "correct": 0, "seconds": 0})


def test_a_trunk_that_diverges_gives_no_checkpoint() -> None:
    """After two steps: the loss of the epoch is not taken yet."""
    with pytest.raises(DivergedError, match=r"diverged in epoch 1: the loss is (nan|inf)"):
        trunk_of(network(), 3, CONFIG.model_copy(update={"learning_rate": 1e38}))
    config = CONFIG.model_copy(update={"learning_rate": 1e38, "weight_decay": 1000.0})
    with pytest.raises(DivergedError, match="a weight is NaN or infinite"):
        trunk_of(network(), 1, config)


def test_random_numbers_follow_from_seed_and_step_alone() -> None:
    def drawn(seed: int, step: int, before: int = 0) -> list[Tensor]:
        draws = Draws(seed, torch.device("cpu"))
        with seeded(before, 1):
            torch.rand(before, generator=draws.step(before))
            draws.order(before, 10)
            generator = draws.step(step)
            return [torch.rand(5, generator=generator), torch.rand(5), draws.order(step, 100).float()]

    first = drawn(1, 7)
    assert all(torch.equal(a, b) for a, b in zip(first, drawn(1, 7, before=3), strict=True))
    for other in (drawn(1, 8), drawn(2, 7)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert not torch.equal(first[0], first[1])
    assert sorted(first[2].tolist()) == list(range(100))


# --- repeatability


def test_the_same_seed_gives_the_same_weights_to_the_bit() -> None:
    data = training_data(digits())
    config = CONFIG.model_copy(update={"augmentation": Augmentation(shift=1, flip=True, erase=0.2)})
    first, second, other = network(), network(), network()
    curves = [fit(m, data, 2, seed, config) for m, seed in ((first, 3), (second, 3), (other, 4))]
    assert equal_weights(first, second)
    assert not equal_weights(first, other)
    strip = [[(e["loss"], e["train_accuracy"]) for e in curve] for curve in curves]
    assert strip[0] == strip[1] != strip[2]


def test_seeded_puts_random_state_and_threads_back() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with seeded(5, 1) as generator:
        assert torch.get_num_threads() == 1
        inside = torch.rand(3)
        drawn = torch.rand(3, generator=generator)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(5, 1) as generator:
        assert torch.equal(torch.rand(3), inside)
        assert torch.equal(torch.rand(3, generator=generator), drawn)


def test_seeded_puts_them_back_after_an_error_too() -> None:
    before = torch.get_num_threads()
    other, state = before + 1, torch.get_rng_state()

    def fail() -> None:
        with seeded(5, other):
            assert torch.get_num_threads() == other
            torch.rand(3)
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


# --- learning


def test_a_small_convnet_learns_the_digits() -> None:
    model, seen = network(), []
    data = training_data(digits(600))
    curve = fit(model, data, 6, on_epoch=lambda done, of: seen.append((done, of)))
    losses = [epoch["loss"] for epoch in curve]
    assert seen == [(number, 6) for number in range(1, 7)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.4 * losses[0]
    assert curve[-1]["train_accuracy"] > 0.95
    assert not model.training
    assert accuracy(model) > 0.9
    assert all(epoch["seconds"] > 0 for epoch in curve)


def test_bfloat16_trains_finite_float32_weights_that_are_as_good() -> None:
    model = network()
    curve = fit(model, training_data(digits(600)), 6, numerics=Numerics("cpu", "bfloat16", 1))
    assert all(math.isfinite(epoch["loss"]) for epoch in curve)
    floats = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    assert all(tensor.dtype is torch.float32 and torch.isfinite(tensor).all() for tensor in floats)
    assert accuracy(model) > 0.9
    single = network()
    fit(single, training_data(digits(600)), 6)
    assert not equal_weights(model, single), "bfloat16 must make a difference"


def test_augmentation_reaches_the_network() -> None:
    data = training_data(digits())
    plain, augmented = network(), network()
    config = CONFIG.model_copy(update={"augmentation": Augmentation(shift=2)})
    easy, hard = fit(plain, data, 2), fit(augmented, data, 2, config=config)
    assert hard[-1]["loss"] > easy[-1]["loss"] * 1.1


@pytest.mark.parametrize(("count", "batch", "steps"), [(10, 50, 1), (10, 10, 1), (10, 4, 2), (10, 3, 3)])
def test_an_epoch_is_whole_batches_and_a_rest_waits_for_another_order(count: int, batch: int, steps: int) -> None:
    shapes: list[int] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            shapes.append(len(x))
            return self.classifier(x.flatten(1))

    fit(Watched(), plain_data(torch.rand(count, 1, 2, 2)), config=TrainingConfig(batch_size=batch))
    assert shapes == [min(batch, count)] * steps


# --- losses against closed forms


def plain_data(images: Tensor, labels: Tensor | None = None, classes: int = 2) -> TrainingData:
    """Float images that need no normalisation."""
    labels = torch.arange(len(images)) % classes if labels is None else labels
    return TrainingData(images, labels, classes, Normalisation((0.0,), (1.0,)))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def first_loss(distillation: Distillation | None = None, **training: Any) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss of one step over all of a small data set, with the logits (float64) and labels that it was taken of."""
    data = training_data(digits(60))
    model = network("mlp")
    logits = predict_logits(model, data).double().numpy()
    config = TrainingConfig(batch_size=60, **training)
    curve = fit(model, data, 1, config=config, distillation=distillation)
    return curve[0]["loss"], logits, data.labels.numpy()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_smoothed_cross_entropy(smoothing: float) -> None:
    loss, logits, labels = first_loss(label_smoothing=smoothing)
    targets = np.full_like(logits, smoothing / 10)
    targets[np.arange(60), labels] += 1 - smoothing
    assert loss == pytest.approx(-(targets * log_softmax(logits)).sum(1).mean(), rel=1e-5)


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (4.0, 0.5), (10.0, 0.1)])
def test_the_distilled_loss_is_the_weighted_sum_of_labels_and_softened_teacher(
    temperature: float, weight: float
) -> None:
    """(1 − w) · CE + w · T² · KL(teacher ‖ student), both softened by T (Hinton et al., 2015), sample by sample."""
    teacher = 3 * torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
    distillation = Distillation(teacher, temperature, weight)
    loss, logits, labels = first_loss(distillation, label_smoothing=0.0)
    student, wanted = log_softmax(logits / temperature), log_softmax(teacher.double().numpy() / temperature)
    soft = (np.exp(wanted) * (wanted - student)).sum(1).mean() * temperature**2
    hard = -log_softmax(logits)[np.arange(60), labels].mean()
    assert loss == pytest.approx((1 - weight) * hard + weight * soft, rel=1e-5)


def test_learning_from_oneself_alone_costs_nothing() -> None:
    data = training_data(digits(60))
    own = predict_logits(network("mlp"), data)
    loss, _, _ = first_loss(Distillation(own, 4.0, 1.0))
    assert loss == pytest.approx(0, abs=1e-5)


def test_a_student_takes_after_its_teacher() -> None:
    """Labels left out, the student ends nearer to a teacher that is wrong everywhere than to the labels."""
    data = training_data(digits())
    wrong = 8 * nn.functional.one_hot((data.labels + 1) % 10, 10).float()
    model = network()
    fit(model, data, 4, distillation=Distillation(wrong, 2.0, 1.0))
    predicted = predict_logits(model, data).argmax(1)
    assert ((predicted - data.labels) % 10 == 1).float().mean() > 0.9


# --- class weights


@pytest.mark.parametrize("counts", [(30, 10), (5, 5, 5), (1, 98, 1), (7, 0, 3)])
def test_class_weights_balance_the_classes_and_are_one_on_average(counts: tuple[int, ...]) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    data = plain_data(torch.zeros(len(labels), 1, 1, 1), labels, len(counts))
    weights = data.class_weights()
    assert float(weights[labels].mean()) == pytest.approx(1)
    shares = [count * float(weight) for count, weight in zip(counts, weights, strict=True) if count]
    assert shares == pytest.approx([shares[0]] * len(shares))


@pytest.mark.parametrize(("class_weights", "share"), [(False, 0.9), (True, 0.5)])
def test_class_weights_keep_a_rare_class_from_being_ignored(class_weights: bool, share: float) -> None:
    """Images that tell nothing: a network ends at the classes' frequencies, or evenly between weighted classes."""
    data = plain_data(torch.ones(50, 1, 2, 2), (torch.arange(50) % 10 == 0).long())
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    config = TrainingConfig(
        batch_size=50, learning_rate=0.05, weight_decay=0, label_smoothing=0, class_weights=class_weights
    )
    fit(model, data, 150, config=config)
    assert float(predict_logits(model, data).softmax(1)[0, 0]) == pytest.approx(share, abs=0.03)


# --- divergence


def test_an_absurd_learning_rate_diverges_with_a_hint() -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e20})
    with pytest.raises(
        DivergedError, match=r"diverged in epoch \d: the loss is (nan|inf).*lower training.learning_rate"
    ):
        fit(network(), training_data(digits()), 3, config=config)


def test_weights_that_only_the_last_step_ruins_are_found() -> None:
    """One step: its loss is taken before it, and is fine."""
    config = CONFIG.model_copy(update={"learning_rate": 1e38, "batch_size": 300, "weight_decay": 10.0})
    with pytest.raises(DivergedError, match="a weight is NaN or infinite"):
        fit(network(), training_data(digits()), 1, config=config)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_data_that_is_not_finite_diverges(value: float) -> None:
    images = torch.rand(20, 1, 2, 2)
    images[7, 0, 1, 1] = value
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(DivergedError, match="diverged in epoch 1: the loss is nan"):
        fit(model, plain_data(images))


# --- numerics and data


@pytest.mark.parametrize(
    ("options", "fast_bfloat16", "precision", "threads"),
    [
        ({"device": "cpu"}, False, "float32", 6),
        ({"device": "cpu"}, True, "bfloat16", 6),
        ({"device": "cpu", "precision": "float32"}, True, "float32", 6),
        ({"device": "cpu", "precision": "bfloat16"}, False, "bfloat16", 6),
        ({"device": "cpu", "threads": 2}, False, "float32", 2),
        ({"device": "cuda"}, False, "bfloat16", 6),
    ],
)
def test_numerics_resolve_auto(
    options: dict[str, Any], fast_bfloat16: bool, precision: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    numerics = numerics_for(TrainingConfig(**options), fast_bfloat16, 6)
    assert numerics == Numerics(options["device"], precision, threads)
    assert numerics.to_json()["torch"] == torch.__version__


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnsupportedError, match="torch finds no CUDA device"):
        numerics_for(TrainingConfig(device="cuda"), False, 1)


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_the_device_is_the_gpu_where_there_is_one(
    available: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert numerics_for(TrainingConfig(), False, 1).device == device


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images_come_channels_first_and_normalised(layout: str, dtype: str) -> None:
    shape = (5, 4, 3, 2) if layout == "NHWC" else (5, 2, 4, 3)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    spec = InputSpec(dtype, images.shape[1:], layout)
    normalisation = normalisation_of(images, spec)
    data = TrainingData.from_arrays(images, np.zeros(5, np.int64), 2, layout, normalisation, "cpu")
    result = data.normalise(data.images)
    assert data.images.dtype == (torch.uint8 if dtype == "uint8" else torch.float32)
    assert (result.shape, result.dtype) == ((5, 2, 4, 3), torch.float32)
    first = images.transpose(0, 3, 1, 2) if layout == "NHWC" else images
    mean, std = (np.reshape(part, (1, 2, 1, 1)) for part in (normalisation.mean, normalisation.std))
    np.testing.assert_allclose(result.numpy(), (first - mean) / std, rtol=1e-5, atol=1e-6)
    assert abs(float(result.mean())) < 0.01
    assert float(result.std()) == pytest.approx(1, abs=0.05)


def test_logits_do_not_depend_on_the_batch_and_dropout_is_off() -> None:
    data = training_data(digits(50))
    model = nn.Sequential(nn.Dropout(0.5), network())
    whole = predict_logits(model, data)
    torch.testing.assert_close(predict_logits(model, data, batch=7), whole, rtol=1e-5, atol=1e-5)
    assert whole.shape == (50, 10)
    assert not whole.requires_grad


# --- making way for a measurement


class Counted:
    """Stands in for the machine's lease and counts the batches that it is held for."""

    def __init__(self) -> None:
        self.batches = 0
        self.held = False

    def __enter__(self) -> None:
        assert not self.held
        self.batches, self.held = self.batches + 1, True

    def __exit__(self, *_: object) -> None:
        self.held = False


def test_every_batch_is_held_by_itself_and_nothing_is_between_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Counted()
    monkeypatch.setattr("nas.train.training.working", lambda settle: lease)
    between: list[bool] = []
    data = training_data(digits())
    inside: list[bool] = []
    fit(
        network(), data, epochs=2,
        on_epoch=lambda *_: between.append(lease.held), after_step=lambda: inside.append(lease.held),
    )  # fmt: skip
    assert lease.batches == len(inside) == 2 * (300 // 50)
    assert all(inside)
    assert between == [False, False]
    predict_logits(network(), data, batch=100)
    assert lease.batches == 12 + 3
    assert not lease.held


@pytest.mark.parametrize(("device", "settles"), [("cpu", False), ("cuda", True)])
def test_only_a_gpu_has_a_queue_to_end_for_whoever_measures(
    monkeypatch: pytest.MonkeyPatch, device: str, settles: bool
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("nas.train.training.working", lambda settle: asked.append(settle))
    working_on(torch.device(device))
    assert asked == [torch.cuda.synchronize if settles else None]
