"""Tiny real ONNX models, and a study that holds them with numbers that are truly theirs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fakes import LATENCY, make_design, make_record, write_study
from onnx import TensorProto, helper, numpy_helper

from nas.artifact import INPUT_NAME, OUTPUT_NAME, InputSpec, Manifest, open_session, probabilities
from nas.data.dataset import Dataset, Split
from nas.outcome import Quantity
from nas.record import TrialRecord
from nas.scoring import score
from nas.study import Study

CLASS_NAMES = ("cat", "dog", "émeu <b>", "owl")
GREY = InputSpec("uint8", (6, 5, 1))
ENVIRONMENT = {"cpu": "a test's processor", "onnxruntime": "1.99.0"}


def make_model(input: InputSpec, classes: int = len(CLASS_NAMES), seed: int = 0, batch: int | str = "N") -> bytes:
    """A linear classifier on all values: Cast → Flatten → MatMul → Softmax."""
    size = int(np.prod(input.shape))
    weights = np.random.default_rng(seed).normal(0, 0.003, (size, classes)).astype(np.float32)
    weights -= weights.mean(axis=0)
    element = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}[input.dtype]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT_NAME], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["numbers"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], [OUTPUT_NAME], axis=1),
        ],
        "linear",
        [helper.make_tensor_value_info(INPUT_NAME, element, [batch, *input.shape])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_split(input: InputSpec, count: int, seed: int) -> Split:
    """Random images of the kind that the input takes, with random labels of which every class has some."""
    rng = np.random.default_rng(seed)
    if input.dtype == "uint8":
        images = rng.integers(0, 256, (count, *input.shape), dtype=np.uint8)
    else:
        images = rng.normal(0, 20, (count, *input.shape)).astype(np.float32)
    return Split(images, rng.permutation(np.arange(count) % len(CLASS_NAMES)))


@dataclass(frozen=True)
class Example:
    """A study with real artifacts, and the data that it was scored on."""

    study: Study
    dataset: Dataset


def make_example(folder: Path, input: InputSpec = GREY, test_scores: bool = True, **record_fields: Any) -> Example:
    """A study of two trials on the front: the second is slower and fits most validation labels.

    Labels are the second model's own answers but for a tenth, so that accuracies are far from 0 and 1 and apart.
    """
    models = [make_model(input, seed=seed) for seed in (1, 2)]
    parts = {}
    for seed, (name, count) in enumerate({"train": 8, "validation": 120, "test": 80}.items()):
        split = make_split(input, count, seed)
        answers = probabilities(open_session(models[1]), split.images).argmax(1)
        parts[name] = Split(split.images, np.where(np.arange(count) % 10 == 0, split.labels, answers))
    dataset = Dataset(parts["train"], parts["validation"], parts["test"], CLASS_NAMES, input, "digest")
    records = [
        _record(number, model, dataset, latency_ms, **record_fields)
        for number, (model, latency_ms) in enumerate(zip(models, (0.01, 0.02), strict=True))
    ]
    study = write_study(folder, records)
    if not test_scores:
        study.folder.test_scores.unlink()
    else:
        _write_test_scores(study, models, dataset)
    for record, model in zip(records, models, strict=True):
        study.store.put(f"artifact-{record.number}", model, {})
    return Example(Study.open(folder), dataset)


def _record(number: int, model: bytes, dataset: Dataset, latency_ms: float, **fields: Any) -> TrialRecord:
    accuracy, balanced = score(probabilities(open_session(model), dataset.validation.images), dataset.validation.labels)
    from nas.store import sha256_bytes

    record = make_record(
        number,
        latency_ms=latency_ms,
        design=make_design(weight_bits=8 if number else 32),
        artifact_sha256=sha256_bytes(model),
        manifest=Manifest(dataset.input, dataset.class_names, 17, "by hand").to_json(),
        environment=ENVIRONMENT,
        **fields,
    )
    true = {"accuracy": accuracy, "balanced_accuracy": balanced}
    quantities: list[Quantity] = [
        replace(q, value=len(model)) if q.name == "size_bytes" else true.get(q.name, q) for q in record.quantities
    ]
    return replace(record, quantities=tuple(quantities))


def _write_test_scores(study: Study, models: list[bytes], dataset: Dataset) -> None:
    import json

    scores = {
        number: [
            q.to_json()
            for q in score(probabilities(open_session(model), dataset.test.images), dataset.test.labels, "test_")
        ]
        for number, model in enumerate(models)
    }
    study.folder.test_scores.write_text(json.dumps(scores))


__all__ = ["CLASS_NAMES", "ENVIRONMENT", "GREY", "LATENCY", "Example", "make_example", "make_model", "make_split"]
