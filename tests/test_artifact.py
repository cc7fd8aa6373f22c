"""What an artifact takes and gives, as JSON both ways, and how a model file is opened and run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import tiny_artifact

from nas.artifact import (
    INPUT_NAME,
    OUTPUT_NAME,
    VERSION,
    InputSpec,
    Manifest,
    Resize,
    open_session,
    probabilities,
)
from nas.errors import ArtifactError

sizes = st.integers(1, 512)
specs = st.builds(
    InputSpec,
    st.sampled_from(["uint8", "float32"]),
    st.tuples(sizes, sizes, sizes),
    st.sampled_from(["NHWC", "NCHW"]),
    st.none() | st.builds(Resize, sizes, sizes, st.sampled_from(["bilinear", "nearest"])),
)
manifests = st.builds(
    Manifest, specs, st.lists(st.text(max_size=5), max_size=4).map(tuple), st.integers(1, 30), st.text()
)
MANIFEST = Manifest(InputSpec("uint8", (4, 4, 1)), ("a", "b", "c"), 17, "torchscript")


# --- descriptions ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(specs)
def test_an_input_goes_through_json_unchanged(spec: InputSpec) -> None:
    assert InputSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@settings(deadline=None)
@given(manifests)
def test_a_manifest_goes_through_json_unchanged(manifest: Manifest) -> None:
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


@pytest.mark.parametrize(("layout", "expected"), [("NHWC", (3, 5, 7)), ("NCHW", (5, 7, 3))])
def test_the_shape_as_a_network_sees_it(layout: str, expected: tuple[int, int, int]) -> None:
    assert InputSpec("uint8", (5, 7, 3), layout).channels_first == expected


def test_a_manifest_names_the_graphs_input_and_output() -> None:
    data = MANIFEST.to_json()
    assert (data["version"], data["input_name"], data["output_name"]) == (VERSION, INPUT_NAME, OUTPUT_NAME)


@pytest.mark.parametrize("version", [None, 0, VERSION + 1, "1"])
def test_another_version_is_refused(version: object) -> None:
    with pytest.raises(ArtifactError, match=f"manifest must have version {VERSION}, but got {version!r}"):
        Manifest.from_json(MANIFEST.to_json() | {"version": version})


def test_an_empty_manifest_is_refused() -> None:
    with pytest.raises(ArtifactError, match="but got None"):
        Manifest.from_json({})


@pytest.mark.parametrize("field", ["input", "class_names", "opset", "exporter"])
def test_a_missing_field_is_named(field: str) -> None:
    data = MANIFEST.to_json()
    del data[field]
    with pytest.raises(ArtifactError, match=rf"manifest is incomplete: KeyError\('{field}'\)"):
        Manifest.from_json(data)


@pytest.mark.parametrize(
    "change",
    [
        {"input": 5},
        {"input": None},
        {"input": {"dtype": "uint8", "shape": [4, 4], "layout": "NHWC", "resize": None}},
        {"input": {"dtype": "uint8", "shape": [4, 4, 1], "layout": "NHWC", "resize": {"high": 4}}},
        {"class_names": None},
        {"opset": "new"},
    ],
)
def test_a_malformed_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="manifest is incomplete"):
        Manifest.from_json(MANIFEST.to_json() | change)


# --- running ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"no model", b"\x00" * 100, tiny_artifact()[:-40]], ids=["empty", "text", "zeros", "truncated"]
)
def test_what_is_no_model_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"^ONNX Runtime cannot load the model: .+") as caught:
        open_session(content)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("threads", [1, 2])
def test_a_session_runs_with_so_many_threads(threads: int) -> None:
    options = open_session(tiny_artifact(), threads).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (23, 4, 4, 1), dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, 5, 22, 23, 24, 256])
def test_batches_give_what_one_go_gives(batch: int, images: np.ndarray) -> None:
    session = open_session(tiny_artifact())
    (whole,) = session.run(None, {INPUT_NAME: images})
    found = probabilities(session, images, batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-7)


def test_probabilities_are_those_of_the_network_written_out(images: np.ndarray) -> None:
    weight = np.linspace(-1, 1, 16 * 3).reshape(16, 3)
    logits = images.reshape(len(images), 16) @ weight
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = shifted / shifted.sum(axis=1, keepdims=True)
    found = probabilities(open_session(tiny_artifact()), images)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
