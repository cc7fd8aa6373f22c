"""The published schema: it is one, takes what is written, and says at which key a file departs from it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deploy_fakes import make_example
from jsonschema import Draft202012Validator

from nas.deploy import Limits, choose, load_deployment, write_deployment
from nas.deploy.deployment import READABLE
from nas.deploy.further import FILES_OF
from nas.deploy.schema import SCHEMA_ID, problem_of, schema_text
from nas.errors import ArtifactError
from nas.outcome import How, Realisation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("schema")
    study = make_example(place / "birds").study
    return write_deployment(study, choose(study, Limits(max_latency_ms=1)), place / "deploy")


@pytest.fixture
def data(folder: Path) -> dict[str, Any]:
    return copy.deepcopy(json.loads((folder / "deployment.json").read_text(encoding="utf-8")))


def test_it_is_a_schema_of_its_draft() -> None:
    schema = json.loads(schema_text())
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == SCHEMA_ID


def test_its_names_are_those_of_the_code() -> None:
    schema = json.loads(schema_text())
    quantity, further = (schema["$defs"][name]["properties"] for name in ("quantity", "further"))
    assert quantity["how"]["enum"] == [str(how) for how in How]
    assert further["form"]["enum"] == list(FILES_OF)
    assert schema["properties"]["labels"]["additionalProperties"]["enum"] == [str(label) for label in Realisation]
    assert tuple(schema["properties"]["version"]["enum"]) == READABLE


def test_every_key_that_is_written_is_described(data: dict[str, Any]) -> None:
    schema = json.loads(schema_text())
    assert data["$schema"] == SCHEMA_ID
    assert data.keys() == schema["properties"].keys()
    for name in ("model", "serving", "input", "output", "chosen"):
        assert data[name].keys() == schema["properties"][name]["properties"].keys()


def test_what_is_written_keeps_to_it(data: dict[str, Any]) -> None:
    assert problem_of(data) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data.pop("study"), "it lacks 'study'"),
        (lambda data: data.update(study=3), "study must be a text, but is 3"),
        (lambda data: data["serving"].pop("threads"), "serving lacks 'threads'"),
        (lambda data: data["serving"].update(thread=1), "unknown key of serving 'thread'; did you mean 'threads'?"),
        (lambda data: data["serving"].update(device="gpu"), "unknown serving.device 'gpu'"),
        (lambda data: data["quantities"][1].pop("unit"), "quantities[1] lacks 'unit'"),
        (lambda data: data["quantities"][0].update(how="guessed"), "unknown quantities[0].how 'guessed'"),
        (lambda data: data["quantities"][0].update(value="1"), "quantities[0].value must be a number, but got '1'"),
        (lambda data: data["model"].update(sha256="abc"), "model.sha256 must match ^[0-9a-f]{64}$, but is 'abc'"),
        (lambda data: data["model"].update(size_bytes=-1), "model.size_bytes must be a whole number at least 0"),
        (lambda data: data.update(labels={"weight_bits": "real"}), "unknown labels.weight_bits 'real'"),
        (lambda data: data.update(further=[{"form": "openvino"}]), "further[0] lacks 'files'"),
        (lambda data: data.update(trial=True), "trial must be a whole number at least 0, but got True"),
        (lambda data: data.update(notes="none"), "notes must be a list of texts, but is 'none'"),
    ],
)
def test_the_key_is_named(
    folder: Path, tmp_path: Path, data: dict[str, Any], change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    change(data)
    assert str(problem_of(data)).startswith(problem)
    (tmp_path / "deployment.json").write_text(json.dumps(data))
    with pytest.raises(ArtifactError) as caught:
        load_deployment(tmp_path)
    assert f"deployment.json is damaged: {problem}" in caught.value.message
    assert "\n" not in str(caught.value)


def test_a_file_that_nests_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "deployment.json").write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match="is no JSON"):
        load_deployment(tmp_path)


def test_a_deployment_from_before_the_schema_is_read(folder: Path, tmp_path: Path, data: dict[str, Any]) -> None:
    del data["$schema"], data["further"]
    (tmp_path / "deployment.json").write_text(json.dumps(data))
    (tmp_path / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
    assert load_deployment(tmp_path).further == ()
