"""Studies whose trials other runtimes serve: at a place by the fastest, or on targets that the recipe names."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from deploy_fakes import CLASS_NAMES, GREY, Example, make_example
from fakes import TARGET, make_recipe, write_study

from nas.artifact import InputSpec, open_session, probabilities
from nas.outcome import How, Quantity, Realisation
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.store import sha256_bytes
from nas.study import Study
from nas.target import TORCH_PROGRAM, Target

PLACE = "cpu-b1"
OPENVINO, TORCH = "openvino-cpu-1t-b1", "torch-cpu-1t-b1"
GPU = "torch-cuda-b1-fp16"
VERSIONS = {"onnxruntime": "1.99.0", "openvino": "2099.1.0", "torch": "9.9.0"}


def place_recipe(**changes: Any) -> Recipe:
    """A recipe whose trials the fastest of three runtimes serves."""
    return make_recipe(
        **({"objectives": ["accuracy", f"latency_ms@{PLACE}"], "targets": [TARGET, OPENVINO, TORCH]} | changes)
    )


def make_served(
    folder: Path,
    server: str,
    recipe: Recipe | None = None,
    input: InputSpec = GREY,
    programs: Mapping[int, bytes] | None = None,
) -> Example:
    """The two trials of ``make_example``, timed on all targets of a recipe; the server takes half of the others' time.

    Args:
        folder: Of the study.
        server: The target that serves at the recipe's place.
        recipe: ``place_recipe`` by default.
        input: What the models take.
        programs: Their files as torch programs, by trial; by default bytes that only ``outputs_of`` can run.
    """
    example, recipe = make_example(folder, input), recipe or place_recipe()
    scores = example.study.folder.test_scores.read_text()
    programs = programs or {record.number: f"program {record.number}".encode() for record in example.study.records}
    records = [_served(record, server, recipe, programs[record.number]) for record in example.study.records]
    study = write_study(folder, records, recipe)
    study.folder.test_scores.write_text(scores)
    for number, program in programs.items():
        study.store.put(f"program-{number}", program, {})
    return Example(Study.open(folder), example.dataset)


def _served(record: TrialRecord, server: str, recipe: Recipe, program: bytes) -> TrialRecord:
    on_target = record.quantity(f"latency_ms@{TARGET}")
    assert on_target is not None
    latencies = []
    for name in recipe.all_targets:
        value = on_target.value / (2 if name == server else 1)
        ends = {"low": 0.98 * value, "high": 1.02 * value}
        latencies.append(replace(on_target, target=name, value=value, **ends))
        if name == server and PLACE in recipe.served:
            detail = {**on_target.detail, "served_by": server}
            latencies.append(replace(on_target, target=PLACE, value=value, detail=detail, **ends))
    rest = [q for q in record.quantities if q.name != "latency_ms"]
    first = server if recipe.served[0] == PLACE else recipe.served[0]
    is_program = Target.parse(first).form == TORCH_PROGRAM
    sized = [replace(q, value=len(program)) if is_program and q.name == "size_bytes" else q for q in rest]
    runtimes = {name: {key: VERSIONS[key]} for name in recipe.all_targets if (key := name.split("-")[0]) in VERSIONS}
    return replace(
        record,
        quantities=(*sized, *latencies),
        forms={TORCH_PROGRAM: sha256_bytes(program)},
        environment={**record.environment, "runtimes": runtimes},
        labels=dict.fromkeys(record.design.compression, Realisation.REALISED),
    )


class Outputs:
    """Runs ONNX files, and programs by the ONNX file of the same trial, all by ONNX Runtime; keeps what it was asked.

    Args:
        example: Whose files.
        wrong: How many of the images each target is to get wrong, by its name.
    """

    def __init__(self, example: Example, wrong: Mapping[str, int] | None = None) -> None:
        study = example.study
        self.models = {study.artifact(r, TORCH_PROGRAM): study.artifact(r) for r in study.records}
        self.wrong = wrong or {}
        self.asked: list[str] = []

    def __call__(self, content: bytes, target: Target, images: np.ndarray) -> np.ndarray:
        self.asked.append(target.name)
        rows = probabilities(open_session(self.models.get(content, content)), images).copy()
        wrong = self.wrong.get(target.name, 0)
        rows[:wrong] = np.roll(rows[:wrong], 1, axis=1)
        return rows


def accuracy_at(target: str, value: float) -> Quantity:
    """What a trial keeps of each runtime where several serve it."""
    return Quantity("accuracy", value, "1", How.MEASURED, target=target)


def linear_program(input: InputSpec, seed: int) -> bytes:
    """``deploy_fakes.make_model`` as a torch program."""
    import torch

    size, classes = int(np.prod(input.shape)), len(CLASS_NAMES)
    weights = np.random.default_rng(seed).normal(0, 0.003, (size, classes)).astype(np.float32)
    weights -= weights.mean(axis=0)

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weights", torch.from_numpy(weights))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.softmax(images.to(torch.float32).flatten(1) @ self.weights, 1)

    example = torch.zeros(2, *input.shape, dtype=getattr(torch, input.dtype))
    shapes = {"images": {0: torch.export.Dim("batch", min=1)}}
    program = torch.export.export(Linear(), (example,), dynamic_shapes=shapes, strict=False)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"layout": "contiguous"})
    return buffer.getvalue()
