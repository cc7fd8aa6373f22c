"""The pipeline: what is shared and what is not, the same result every time, honest labels."""

from __future__ import annotations

import copy
import io
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from small_networks import ONE_THREAD, digits, make_design, make_recipe, normalised, training_data
from torch import nn

from nas.artifact import InputSpec, Manifest, open_session, probabilities
from nas.compress import export
from nas.compress.bits.inspect_graph import inspect
from nas.compress.technique import Tools
from nas.data.dataset import Dataset, Split, digest_of
from nas.data.normalise import normalisation_of
from nas.design import Design
from nas.errors import DivergedError, InfeasibleDesignError, NasError, UnsupportedError
from nas.families import build
from nas.networks import FloatNetworks
from nas.outcome import Realisation
from nas.pipeline import AnyTeacher, Pipeline, Product, Teacher
from nas.recipe import Recipe
from nas.recipe_sections import TeacherConfig
from nas.stages import Trace
from nas.store import Store, sha256_bytes
from nas.target import ONNX, SYMMETRIC, TORCH_PROGRAM
from nas.teacher.given import GivenTeacher, load_teacher
from nas.train import Numerics

REALISED, SIMULATED, UNSUPPORTED = Realisation.REALISED, Realisation.SIMULATED, Realisation.UNSUPPORTED
ORDER = ("train", "prune", "teacher", "finetune", "export", "quantise")
TEACHER = Teacher(3, make_design(architecture={"stem.width": 24, "stage1.width": 48, "head.pooling": "average"}))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_pipeline(
    folder: Path, recipe: Recipe | None = None, dataset: Dataset | None = None, numerics: Numerics = ONE_THREAD
) -> Pipeline:
    return Pipeline(recipe or make_recipe(), dataset or digits(), Store(folder, 10**9), numerics, reduce_range=False)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return make_pipeline(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A pipeline whose cache fills up from test to test."""
    return make_pipeline(tmp_path_factory.mktemp("shared"))


def run(pipeline: Pipeline, design: Design, seed: int = 0, teacher: AnyTeacher = TEACHER) -> tuple[Product, Trace]:
    trace = Trace()
    return pipeline.run(design, seed, teacher, trace), trace


def cached(trace: Trace) -> dict[str, bool]:
    return {stage.stage: stage.cached for stage in trace.stages}


def key(trace: Trace, stage: str) -> str:
    return next(result.key for result in trace.stages if result.stage == stage)


# --- stages and their sharing

INT8 = {"weight_bits": 8, "activation_bits": 8}
IDENTITIES = {
    "pruning_ratio": 0.0,
    "distillation": False,
    "weight_sharing": "none",
    "weight_bits": 32,
    "activation_bits": 32,
}


def test_identity_steps_add_no_stage_and_no_key(pipeline: Pipeline) -> None:
    plain, first = run(pipeline, make_design())
    spelt, second = run(pipeline, make_design(**IDENTITIES))
    assert list(cached(first)) == ["train", "export"]
    assert cached(second) == {"train": True, "export": True}
    assert [stage.key for stage in first.stages] == [stage.key for stage in second.stages]
    assert plain.artifact == spelt.artifact
    assert plain.labels == spelt.labels == {}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, INT8, {"train": True, "export": True, "quantise": False}),
        ({"weight_bits": 8}, INT8, {"train": True, "export": True, "quantise": False}),
        (INT8, INT8, {"train": True, "export": True, "quantise": True}),
        ({}, {"pruning_ratio": 0.5}, {"train": True, "prune": False, "finetune": False, "export": False}),
        (
            {"pruning_ratio": 0.25},
            {"pruning_ratio": 0.5},
            {"train": True, "prune": False, "finetune": False, "export": False},
        ),
        (
            {"pruning_ratio": 0.5},
            {"pruning_ratio": 0.5, **INT8},
            {"train": True, "prune": True, "finetune": True, "export": True, "quantise": False},
        ),
        (
            {"pruning_ratio": 0.5},
            {"pruning_ratio": 0.5, "distillation": True},
            {"train": True, "prune": True, "teacher": False, "finetune": False, "export": False},
        ),
        (
            {"distillation": True},
            {"pruning_ratio": 0.5, "distillation": True},
            {"train": True, "prune": False, "teacher": True, "finetune": False, "export": False},
        ),
        (
            {"distillation": True},
            {"distillation": True, **INT8},
            {"train": True, "finetune": True, "export": True, "quantise": False},
        ),
    ],
)
def test_designs_share_every_stage_before_they_differ(
    first: dict[str, Any], second: dict[str, Any], expected: dict[str, bool], pipeline: Pipeline
) -> None:
    _, before = run(pipeline, make_design(**first))
    assert not any(cached(before).values())
    _, after = run(pipeline, make_design(**second))
    assert cached(after) == expected
    known = {stage.key for stage in before.stages}
    assert all((stage.key in known) is stage.cached for stage in after.stages)


def test_a_teacher_that_was_a_trial_is_not_trained_again(pipeline: Pipeline) -> None:
    _, own = run(pipeline, TEACHER.design)
    trained: list[str] = []
    trace = Trace(lambda stage, share: trained.append(stage) if share else None)
    pipeline.run(make_design(distillation=True), 0, TEACHER, trace)
    assert trained.count("train") == pipeline.recipe.budget.epochs, "only the student's own epochs"
    assert trained.count("finetune") == pipeline.recipe.budget.finetune_epochs
    assert pipeline.train_key(TEACHER.design, 0) == key(own, "train")


COMBINATIONS = [
    {"pruning_ratio": ratio, "distillation": distil, "weight_bits": weights, "activation_bits": activations}
    for ratio, distil, (weights, activations) in itertools.product(
        (0.0, 0.5), (False, True), ((32, 32), (8, 32), (8, 8))
    )
]


@pytest.mark.parametrize("compression", COMBINATIONS, ids=lambda c: "-".join(str(value) for value in c.values()))
def test_every_combination_runs_in_the_one_legal_order(compression: dict[str, Any], shared: Pipeline) -> None:
    product, trace = run(shared, make_design(**compression))
    stages = [stage.stage for stage in trace.stages]
    assert stages == sorted(stages, key=ORDER.index)
    tuned = bool(compression["pruning_ratio"]) or compression["distillation"]
    pruned = bool(compression["pruning_ratio"])
    quantised = compression["weight_bits"] == 8
    wanted = {"train": True, "prune": pruned, "finetune": tuned, "export": True, "quantise": quantised}
    assert set(stages) - {"teacher"} == {stage for stage, needed in wanted.items() if needed}
    assert ("teacher" in stages) <= compression["distillation"]
    images = digits().validation.images
    result = probabilities(open_session(product.artifact), images)
    assert result.shape == (len(images), 10)
    np.testing.assert_allclose(result.sum(1), 1, rtol=1e-4)
    assert product.manifest == Manifest(digits().input, digits().class_names, export.OPSET, export.EXPORTER)
    assert list(product.labels) == [name for name, value in compression.items() if value != IDENTITIES[name]]
    if compression["weight_bits"] == 32:
        assert np.abs(result - own_probabilities(product, images)).max() < 1e-4


def own_probabilities(product: Product, images: np.ndarray) -> np.ndarray:
    """What the product's network itself makes of digits."""
    normalisation = training_data(digits()).normalisation
    pixels = normalised(images, normalisation.mean[0], normalisation.std[0], "NHWC")
    with torch.no_grad():
        logits = product.network(torch.from_numpy(np.ascontiguousarray(pixels)))
    return torch.softmax(logits, 1).numpy()


def test_what_a_stage_found_out_can_be_stored(shared: Pipeline) -> None:
    _, trace = run(shared, make_design(pruning_ratio=0.5, distillation=True, **INT8), seed=8)
    details = {stage.stage: stage.detail for stage in trace.stages}
    assert len(details["train"]["curve"]) == 2
    assert len(details["finetune"]["curve"]) == 1
    assert details["prune"]["widths"]["classifier"] == [10, 10]
    assert details["prune"]["widths"]["features.stage1.0"] == [32, 16]
    assert details["teacher"] == {"trial": 3}
    assert 0 <= details["export"]["parity_max_difference"] < 1e-5
    for detail in details.values():
        assert json.loads(json.dumps(detail)) == detail


def test_progress_goes_from_stage_to_stage(pipeline: Pipeline) -> None:
    seen: list[tuple[str, float]] = []
    pipeline.run(make_design(pruning_ratio=0.5, **INT8), 0, None, Trace(lambda *step: seen.append(step)))
    assert seen == [
        ("train", 0.0),
        ("train", 0.5),
        ("train", 1.0),
        ("prune", 0.0),
        ("finetune", 0.0),
        ("finetune", 1.0),
        ("export", 0.0),
        ("quantise", 0.0),
    ]


def test_no_second_is_counted_twice(pipeline: Pipeline) -> None:
    """The teacher is trained inside the student's fine-tuning, but that is the teacher's time."""
    started = time.perf_counter()
    _, trace = run(pipeline, make_design(distillation=True))
    assert sum(stage.seconds for stage in trace.stages) <= time.perf_counter() - started
    assert all(stage.seconds > 0 for stage in trace.stages)


# --- keys


def other_data() -> Dataset:
    dataset = digits()
    return replace(dataset, digest=dataset.digest[::-1])


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": other_data()},
        {"recipe": make_recipe(epochs=3)},
        {"recipe": make_recipe(training={"learning_rate": 5e-3})},
        {"recipe": make_recipe(training={"augmentation": {"flip": True}})},
        {"numerics": Numerics("cpu", "bfloat16", 1)},
        {"numerics": Numerics("cpu", "float32", 2)},
        {"numerics": Numerics("cuda", "float32", 1)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_training_depends_on_is_in_its_key(other: dict[str, Any], tmp_path: Path) -> None:
    base = make_pipeline(tmp_path).train_key(make_design(), 0)
    assert make_pipeline(tmp_path / "elsewhere").train_key(make_design(), 0) == base
    changed = make_pipeline(tmp_path, **(other | {"numerics": ONE_THREAD}))
    # Not before: there may be no GPU to move the data to.
    changed.numerics = changed.stages.numerics = other.get("numerics", ONE_THREAD)
    assert changed.train_key(make_design(), 0) != base


def test_the_version_of_torch_is_in_every_key(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    base = pipeline.train_key(make_design(), 0)
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert pipeline.train_key(make_design(), 0) != base


def test_the_train_key_is_of_architecture_and_seed_alone(pipeline: Pipeline) -> None:
    base = pipeline.train_key(make_design(), 0)
    assert pipeline.train_key(make_design(pruning_ratio=0.5, distillation=True, **INT8), 0) == base
    keys = {base, pipeline.train_key(make_design(), 1), pipeline.train_key(make_design("resnet"), 0)}
    keys.add(pipeline.train_key(make_design(architecture={"stage1.kernel": 5}), 0))
    assert len(keys) == 4


def test_later_keys_follow_seed_teacher_and_options(shared: Pipeline, tmp_path: Path) -> None:
    design = make_design(pruning_ratio=0.5, distillation=True)
    other_teacher = Teacher(4, make_design("mlp"))
    same_network = Teacher(9, make_design(architecture=dict(TEACHER.design.architecture), weight_bits=8))
    _, base = run(shared, design)
    assert key(run(shared, design, teacher=same_network)[1], "finetune") == key(base, "finetune")
    assert key(run(shared, design, teacher=other_teacher)[1], "finetune") != key(base, "finetune")
    assert key(run(shared, design, seed=1)[1], "finetune") != key(base, "finetune")
    longer = make_pipeline(tmp_path, make_recipe(finetune_epochs=2))
    _, trace = run(longer, design)
    assert key(trace, "train") == key(base, "train")
    assert key(trace, "finetune") != key(base, "finetune")
    undistilled = make_design(pruning_ratio=0.5)
    keys = {key(run(shared, undistilled, teacher=teacher)[1], "finetune") for teacher in (TEACHER, other_teacher)}
    assert len(keys) == 1, "a teacher that does not teach is in no key"


def test_reduced_range_is_in_the_key_of_quantised_artifacts(pipeline: Pipeline) -> None:
    eight, first = run(pipeline, make_design(**INT8))
    pipeline.reduce_range = True
    seven, second = run(pipeline, make_design(**INT8))
    assert cached(second) == {"train": True, "export": True, "quantise": False}
    assert key(first, "quantise") != key(second, "quantise")
    assert eight.artifact != seven.artifact


# --- the same result every time

EVERYTHING = {"pruning_ratio": 0.5, "distillation": True, **INT8}


@pytest.mark.parametrize("family", ["convnet", "mlp", "mobilenet", "resnet"])
def test_the_same_request_gives_the_same_bytes_in_any_order(family: str, tmp_path: Path) -> None:
    """Whether predecessors were just made or came from the cache, and whoever trained the teacher."""
    teacher = Teacher(1, make_design(family))
    student = make_design("convnet", **EVERYTHING)
    other = make_design(family, pruning_ratio=0.5, weight_bits=8)
    fresh, again = make_pipeline(tmp_path / "fresh"), make_pipeline(tmp_path / "again")
    first = [run(fresh, design, teacher=teacher)[0].artifact for design in (student, other, teacher.design)]
    orders = (teacher.design, other, make_design("convnet", pruning_ratio=0.5), student)
    second = {design: run(again, design, teacher=teacher)[0].artifact for design in orders}
    assert [second[design] for design in (student, other, teacher.design)] == first
    assert [run(fresh, design, teacher=teacher)[0].artifact for design in (student, other, teacher.design)] == first
    assert run(fresh, student, seed=1, teacher=teacher)[0].artifact != first[0]
    assert run(fresh, teacher.design, seed=1)[0].artifact != first[2]


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_pipeline import EVERYTHING, make_design, make_pipeline, run
from nas.store import sha256_bytes
print(sha256_bytes(run(make_pipeline(Path(sys.argv[2])), make_design("mobilenet", **EVERYTHING))[0].artifact))
"""


def test_another_process_gives_the_same_bytes(shared: Pipeline, tmp_path: Path) -> None:
    """Where Python's sets come in another order."""
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(Path(__file__).parent), str(tmp_path)]
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    here, _ = run(shared, make_design("mobilenet", **EVERYTHING))
    assert done.stdout.strip() == sha256_bytes(here.artifact)


def test_a_teacher_makes_a_difference_and_so_does_which(shared: Pipeline) -> None:
    students = [
        run(shared, make_design(pruning_ratio=0.5, distillation=distils), teacher=teacher)[0].artifact
        for distils, teacher in ((False, TEACHER), (True, TEACHER), (True, Teacher(4, make_design("resnet"))))
    ]
    assert len(set(students)) == 3


def test_a_teachers_logits_do_not_depend_on_whether_its_network_was_cached(tmp_path: Path) -> None:
    """Convolutions sum in another order in another memory layout."""
    dataset = colour_data("uint8", "NHWC")
    blobs = []
    for name, trained_before in (("one", False), ("two", True)):
        pipeline = make_pipeline(tmp_path / name, dataset=dataset)
        for family in ("convnet", "mobilenet", "resnet"):
            teacher = Teacher(0, make_design(family))
            if trained_before:
                run(pipeline, teacher.design)
            torch.set_num_threads(2 if trained_before else 1)  # the pipeline's own number counts
            _, trace = run(pipeline, make_design("mlp", distillation=True), teacher=teacher)
            torch.set_num_threads(1)
            entry = pipeline.store.get(key(trace, "teacher"))
            assert entry is not None
            blobs.append(entry.sha256)
    assert blobs[:3] == blobs[3:]
    assert len(set(blobs)) == 3


# --- a given teacher


def given_teacher(path: Path, seed: int = 0, **config: Any) -> GivenTeacher:
    """A random network in a file: wrong as it is, it leaves its mark on whoever learns from it."""
    torch.manual_seed(seed)
    design = make_design("mlp")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(export.export_body(build(design.family, design.architecture, (1, 8, 8), 10), (1, 8, 8)))
    normalisation = training_data(digits()).normalisation
    return load_teacher(TeacherConfig(path=path, **config), digits(), normalisation, ONE_THREAD)


def test_a_design_is_distilled_from_a_given_teacher(pipeline: Pipeline, tmp_path: Path) -> None:
    design = make_design(pruning_ratio=0.5, distillation=True)
    one, other = (given_teacher(tmp_path / f"{seed}.onnx", seed) for seed in (0, 1))
    plain, _ = run(pipeline, make_design(pruning_ratio=0.5))
    taught, trace = run(pipeline, design, teacher=one)
    differently, _ = run(pipeline, design, teacher=other)
    assert len({product.artifact for product in (plain, taught, differently)}) == 3
    assert taught.labels["distillation"] is REALISED
    assert {stage.stage: stage.detail for stage in trace.stages}["teacher"] == {"file": "0.onnx"}
    # What the student learns from is what the teacher says, and it does learn it.
    entry = pipeline.store.get(key(trace, "teacher"))
    assert entry is not None
    logits = np.load(io.BytesIO(entry.blob))
    np.testing.assert_array_equal(logits, one.logits(digits().train.images, ONE_THREAD))
    wholly = make_design(distillation=True, distillation_weight=1.0)
    student, _ = run(make_pipeline(tmp_path / "long", make_recipe(finetune_epochs=10)), wholly, teacher=one)
    answers = probabilities(open_session(student.artifact), digits().train.images).argmax(1)
    assert (answers == logits.argmax(1)).mean() > (answers == digits().train.labels).mean()


def test_a_given_teacher_is_asked_once_for_each_data_set(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, asked = given_teacher(tmp_path / "t.onnx"), []
    logits = GivenTeacher.logits

    def counted(self: GivenTeacher, images: np.ndarray, *arguments: Any) -> np.ndarray:
        asked.append(len(images))
        return logits(self, images, *arguments)

    monkeypatch.setattr(GivenTeacher, "logits", counted)
    keys = {
        key(run(pipeline, design, seed, teacher)[1], "teacher")
        for design, seed in (
            (make_design(distillation=True), 0),
            (make_design(distillation=True), 1),
            (make_design(pruning_ratio=0.5, distillation=True, distillation_temperature=2.0), 0),
        )
    }
    assert len(keys) == 1
    assert asked == [300]
    other = make_pipeline(tmp_path / "other", dataset=other_data())
    assert key(run(other, make_design(distillation=True), teacher=teacher)[1], "teacher") not in keys


def test_a_given_teachers_content_is_in_the_keys_and_its_path_is_not(shared: Pipeline, tmp_path: Path) -> None:
    design = make_design(pruning_ratio=0.5, distillation=True)
    teachers = {
        "one": given_teacher(tmp_path / "one.onnx"),
        "moved": given_teacher(tmp_path / "sub" / "same.onnx"),
        "other": given_teacher(tmp_path / "other.onnx", 1),
        "read otherwise": given_teacher(tmp_path / "one.onnx", mean=(0.5,), std=(0.5,)),
    }
    keys = {name: key(run(shared, design, teacher=teacher)[1], "finetune") for name, teacher in teachers.items()}
    assert keys["one"] == keys["moved"]
    assert len(set(keys.values())) == 3
    undistilled = make_design(pruning_ratio=0.5)
    assert len({key(run(shared, undistilled, teacher=t)[1], "finetune") for t in teachers.values()}) == 1


def test_temperature_and_weight_are_the_designs_or_else_the_recipes(shared: Pipeline) -> None:
    def key_of(**compression: Any) -> str:
        return key(run(shared, make_design(distillation=True, **compression))[1], "finetune")

    base = key_of()
    training = shared.recipe.training
    assert base == key_of(distillation_temperature=training.distillation_temperature)
    assert base == key_of(distillation_weight=training.distillation_weight)
    others = [{"distillation_temperature": 2.0}, {"distillation_weight": 0.9}]
    keys = {base, *(key_of(**other) for other in others)}
    assert len(keys) == 3
    artifacts = {run(shared, make_design(distillation=True, **other))[0].artifact for other in ({}, *others)}
    assert len(artifacts) == 3


def test_temperature_and_weight_reach_the_loss(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[float, float]] = []
    finetune = Tools.finetune

    def listening(self: Tools, *arguments: Any, **options: Any) -> Any:
        assert self.teach is not None
        heard.append((self.teach().temperature, self.teach().weight))
        return finetune(self, *arguments, **options)

    monkeypatch.setattr(Tools, "finetune", listening)
    pipeline.recipe = make_recipe(training={"distillation_temperature": 3.0, "distillation_weight": 0.25})
    run(pipeline, make_design(distillation=True))
    run(pipeline, make_design(distillation=True, distillation_temperature=8.0))
    run(pipeline, make_design(distillation=True, distillation_weight=1.0))
    assert heard == [(3.0, 0.25), (8.0, 0.25), (3.0, 1.0)]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("how", [damage, lambda path: path.write_bytes(path.read_bytes()[:-10]), Path.unlink])
@pytest.mark.parametrize("stage", ["train", "prune", "finetune", "export", "quantise"])
def test_a_damaged_cache_costs_the_work_again_and_nothing_else(stage: str, how: Any, pipeline: Pipeline) -> None:
    design = make_design(pruning_ratio=0.5, **INT8)
    first, trace = run(pipeline, design)
    entry = pipeline.store.get(key(trace, stage))
    assert entry is not None
    how(pipeline.store.blob_path(entry.sha256))
    again, second = run(pipeline, design)
    assert cached(second) == {name: name != stage for name in ("train", "prune", "finetune", "export", "quantise")}
    assert again.artifact == first.artifact
    assert pipeline.store.get(key(trace, stage)).sha256 == entry.sha256  # type: ignore[union-attr]


# --- labels


@pytest.mark.parametrize("family", ["convnet", "mlp", "mobilenet", "resnet"])
def test_labels_say_what_really_runs(family: str, shared: Pipeline) -> None:
    product, _ = run(shared, make_design(family, pruning_ratio=0.5, distillation=True, **INT8))
    assert product.labels == dict.fromkeys(
        ("distillation", "pruning_ratio", "weight_bits", "activation_bits"), REALISED
    )
    assert {layer.precision for layer in inspect(product.artifact).layers} == {"int8"}
    full, _ = run(shared, make_design(family))
    sizes = [sum(p.numel() for p in p_.network.parameters()) for p_ in (full, product)]
    assert sizes[1] < 0.8 * sizes[0]
    assert any(note.startswith("pruning kept ") for note in product.notes)
    assert any("QLinearConv" in note or "QGemm" in note for note in product.notes)
    light, _ = run(shared, make_design(family, weight_bits=8))
    assert light.labels == {"weight_bits": SIMULATED}
    assert "arithmetic is float32" in light.notes[0]


def test_pruning_that_finds_nothing_to_prune_is_not_called_real(shared: Pipeline) -> None:
    narrow = make_design(architecture={"stem.width": 8, "stage1.width": 8}, pruning_ratio=0.5)
    product, _ = run(shared, narrow)
    assert product.labels == {"pruning_ratio": UNSUPPORTED}
    assert product.notes == ("pruning kept 26 of 26 output channels, the classes among them",)


# --- other data


def colour_data(dtype: str, layout: str) -> Dataset:
    """Three classes of 8×8 images with two channels, told apart by which channel is brighter."""
    rng = np.random.default_rng(0)
    splits = {}
    for name, count in (("train", 90), ("validation", 30), ("test", 30)):
        labels = (np.arange(count) % 3).astype(np.int64)
        images = rng.integers(0, 200, (count, 8, 8, 2)).astype(np.float64)
        images[..., 0] += 50 * (labels == 0)[:, None, None]
        images[..., 1] += 50 * (labels == 1)[:, None, None]
        images = images if dtype == "uint8" else images * np.array([1e-3, 1e2]) - 7
        images = images if layout == "NHWC" else images.transpose(0, 3, 1, 2)
        splits[name] = Split(np.ascontiguousarray(images.astype(dtype)), labels)
    spec = InputSpec(dtype, splits["train"].images.shape[1:], layout)
    names = ("first", "second", "even")
    return Dataset(*splits.values(), names, spec, digest_of(splits, names, spec))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_any_type_layout_and_channels_learn_and_stay_accurate_in_int8(dtype: str, layout: str, tmp_path: Path) -> None:
    dataset = colour_data(dtype, layout)
    pipeline = make_pipeline(tmp_path, make_recipe(12, training={"batch_size": 30}), dataset)
    scores = []
    for compression in ({}, {"pruning_ratio": 0.5, **INT8}):
        product, _ = run(pipeline, make_design(architecture={"head.pooling": "average"}, **compression))
        result = probabilities(open_session(product.artifact), dataset.validation.images)
        scores.append(float((result.argmax(1) == dataset.validation.labels).mean()))
    assert min(scores) > 0.9
    assert product.labels["weight_bits"] is REALISED
    assert pipeline.normalisation == normalisation_of(dataset.train.images, dataset.input)


# --- what ends it


@pytest.mark.parametrize(
    ("compression", "message"),
    [
        ({"activation_bits": 8}, "activation_bits 8 does not go with weight_bits 32"),
        ({"stage1.activation_bits": 8}, "stage1.activation_bits 8 does not go with stage1.weight_bits 32"),
        ({"weight_sharing": "kmeans", "weight_bits": 8}, "weight_sharing 'kmeans' does not go with weight_bits"),
        ({"pruning_criterion": "taylor"}, "'pruning_criterion' has no meaning where pruning_ratio is 0.0"),
        ({"stage1.calibration": "entropy"}, "unknown compression choice 'stage1.calibration'"),
        ({"prunning_ratio": 0.5}, "unknown compression choice 'prunning_ratio'; did you mean 'pruning_ratio'"),
    ],
)
def test_a_step_that_is_not_known_is_refused_before_anything_is_spent(
    compression: dict[str, Any], message: str, pipeline: Pipeline
) -> None:
    trace = Trace()
    with pytest.raises(UnsupportedError, match=message):
        pipeline.run(make_design(**compression), 0, None, trace)
    assert trace.stages == []


def test_distilling_without_a_teacher_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(NasError, match="needs a teacher"):
        pipeline.run(make_design(distillation=True), 0, None, Trace())


def test_an_architecture_that_does_not_fit_is_infeasible(pipeline: Pipeline) -> None:
    design = make_design("resnet", {"stem.stride": 2, "stages": 3, "stage1.depth": 1} | {
        f"stage{number}.{choice}": value
        for number in (1, 2, 3)
        for choice, value in (("width", 8), ("depth", 1), ("stride", 2))
    })  # fmt: skip
    trace = Trace()
    with pytest.raises(InfeasibleDesignError, match=r"stage3: .* its .*feature map of 1×1"):
        pipeline.run(design, 0, None, trace)
    assert trace.stages == []


def test_a_network_that_diverges_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path, make_recipe(training={"learning_rate": 1e20}))
    with pytest.raises(DivergedError, match="diverged"):
        run(pipeline, make_design())
    assert pipeline.store.get(pipeline.train_key(make_design(), 0)) is None


@pytest.mark.parametrize("value", [2.0, np.nan])
def test_a_file_that_differs_from_its_network_is_refused(
    value: float, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from an exporter that gets an operator wrong."""
    right = export.export_body

    def wrong(model: nn.Module, input_shape: tuple[int, int, int]) -> bytes:
        other = copy.deepcopy(model)
        other.classifier.weight.data[0] *= value  # type: ignore[union-attr, operator]
        return right(other, input_shape)

    monkeypatch.setattr(export, "export_body", wrong)
    with pytest.raises(NasError, match="the exported file differs from the network by"):
        run(pipeline, make_design())


def test_a_network_whose_outputs_overflow_has_diverged(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finite weights can still give NaN: the reason is the training, not the export."""
    trained = FloatNetworks.trained

    def overflowing(self: FloatNetworks, *arguments: Any) -> Any:
        network = trained(self, *arguments)
        network.model.classifier.weight.data.fill_(3e38)
        return network

    monkeypatch.setattr(FloatNetworks, "trained", overflowing)
    with pytest.raises(DivergedError, match="outputs are NaN or infinite"):
        run(pipeline, make_design())


# --- other forms of the artifact


@pytest.mark.parametrize("compression", [{}, INT8, {"weight_sharing": "kmeans", "codebook_bits": 4}], ids=str)
def test_the_symmetric_form_computes_what_the_artifact_does_and_is_cached(
    compression: dict[str, Any], tmp_path: Path
) -> None:
    pipeline, design, trace = make_pipeline(tmp_path), make_design(**compression), Trace()
    product = pipeline.run(design, 0, None, trace)
    formed = pipeline.in_form(SYMMETRIC, product, design, 0, None, trace)
    images = digits().validation.images
    one, other = (probabilities(open_session(file), images) for file in (product.artifact, formed.content))
    assert np.abs(one - other).max() < (0.1 if compression == INT8 else 1e-6)
    again = Trace()
    assert pipeline.in_form(SYMMETRIC, product, design, 0, None, again).content == formed.content
    assert [(stage.stage, stage.cached) for stage in again.stages] == [("symmetric", True)]


def test_a_form_that_no_runtime_wants_is_refused(tmp_path: Path) -> None:
    pipeline = make_pipeline(tmp_path)
    product = pipeline.run(make_design(), 0, None, Trace())
    with pytest.raises(UnsupportedError, match="unknown form of a model 'tflite'"):
        pipeline.in_form("tflite", product, make_design(), 0, None, Trace())


# --- before any training

SKETCHED = [
    {},
    {"pruning_ratio": 0.5},
    {"pruning_ratio": 0.5, "pruning_criterion": "taylor"},
    {"pruning_ratio": 0.7, "pruning_criterion": "bn_scale", "pruning_steps": 2},
    {"pruning_ratio": 0.5, "distillation": True, **INT8},
    {"sparsity": 0.5, "weight_bits": 4},
    {"weight_bits": 4, "activation_bits": 8, "calibration": "entropy"},
    {"weight_bits": 8, "quantisation_aware": True},
    {"weight_bits": 16, "activation_bits": 16},
    {"weight_sharing": "kmeans", "codebook_bits": 4},
]


def graph(artifact: bytes) -> tuple[list[str], list[tuple[int, tuple[int, ...]]]]:
    """A file's operators, and types and shapes of its constants in whatever order."""
    found = onnx.load_from_string(artifact).graph
    return [node.op_type for node in found.node], sorted((t.data_type, tuple(t.dims)) for t in found.initializer)


@pytest.mark.parametrize("compression", SKETCHED, ids=lambda c: "-".join(map(str, c.values())) or "plain")
def test_a_sketch_has_the_graph_of_what_is_made_in_the_end_and_trains_nothing(
    compression: dict[str, Any], shared: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = make_design(**compression)
    product, _ = run(shared, design)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", None)
        sketch = shared.sketch(design, 0)
    assert graph(sketch.artifact) == graph(product.artifact)
    assert graph(sketch.float_body) == graph(product.float_body.blob)
    widths = [[tuple(parameter.shape) for parameter in n.parameters()] for n in (sketch.network, product.network)]
    assert widths[0] == widths[1]
    assert sketch.artifact != product.artifact
    assert shared.sketch(design, 0).artifact == sketch.artifact


def test_a_sketch_takes_every_form_and_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    pipeline, design = make_pipeline(tmp_path), make_design(quantisation_aware=True, **INT8)
    sketch = pipeline.sketch(design, 0)
    symmetric = pipeline.sketch_in_form(SYMMETRIC, sketch, design, 0)
    assert pipeline.sketch_in_form(TORCH_PROGRAM, sketch, design, 0).startswith(b"PK")
    assert pipeline.sketch_in_form(ONNX, sketch, design, 0) == sketch.artifact
    assert list(tmp_path.iterdir()) == []
    trace = Trace()
    product = pipeline.run(design, 0, None, trace)
    assert graph(symmetric) == graph(pipeline.in_form(SYMMETRIC, product, design, 0, None, trace).content)
