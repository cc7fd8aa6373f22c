"""Any file measured: what its input is, with which images, on which targets, and what is refused in words."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from fake_measurer import ORT1, FakeMeasurer
from onnx import TensorProto, helper
from onnx_models import make_model, tiny_artifact

from nas.errors import ArtifactError
from nas.outcome import How, Quantity
from nas.remeasure import images_for, measure_file
from nas.target import Target

TORCH = "torch-cpu-1t-b1"


def relu(shape: Sequence[int | str | None] | None, kind: int = TensorProto.FLOAT) -> bytes:
    return make_model([helper.make_node("Identity", ["images"], ["probabilities"])], {}, shape, kind)


def onnx_file(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


def program(folder: Path, sizes: Sequence[int | None], dtype: int = 1, inputs: int = 1) -> Path:
    """The part of an exported torch program that says what it takes, as torch writes it."""
    names = [f"images{index}" for index in range(inputs)]
    tensor = {
        "dtype": dtype,
        "sizes": [{"as_expr": {"expr_str": "s0"}} if size is None else {"as_int": size} for size in sizes],
    }
    specs = [{"parameter": {"arg": {"name": "w"}}}]
    specs += [{"user_input": {"arg": {"as_tensor": {"name": name}}}} for name in names]
    module = {"graph": {"tensor_values": dict.fromkeys(names, tensor)}, "signature": {"input_specs": specs}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/models/model.json", json.dumps({"graph_module": module}))
    path = folder / "model.pt2"
    path.write_bytes(buffer.getvalue())
    return path


def images(path: Path, target: str = ORT1, sizes: Sequence[int] | None = None) -> np.ndarray:
    return images_for(path, Target.parse(target), sizes)


# --- images ----------------------------------------------------------------------------------------------------------


def test_an_artifacts_images_are_bytes_of_its_shape_and_the_targets_batch(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, tiny_artifact())
    found = images(path, "onnxruntime-cpu-1t-b32")
    assert (found.shape, found.dtype) == ((32, 4, 4, 1), np.uint8)
    assert found.max() > 200
    assert np.array_equal(found, images(path, "onnxruntime-cpu-1t-b32"))  # the same each time


@pytest.mark.parametrize(
    ("kind", "dtype", "least", "most"),
    [
        (TensorProto.FLOAT, np.float32, -1.0, 1.0),
        (TensorProto.FLOAT16, np.float16, -1.0, 1.0),
        (TensorProto.INT64, np.int64, 0, 1),  # which may be positions in a table
        (TensorProto.BOOL, np.bool_, 0, 1),
    ],
)
def test_images_of_other_types(tmp_path: Path, kind: int, dtype: type, least: float, most: float) -> None:
    found = images(onnx_file(tmp_path, relu([None, 20, 20], kind)))
    assert found.dtype == dtype
    assert found.min() <= least
    assert found.max() >= most
    if np.issubdtype(dtype, np.integer):
        assert set(np.unique(found)) == {0, 1}


def test_free_sizes_must_be_told(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, relu(["batch", 3, "height", None]))
    message = r"leaves sizes of its input free \(3×\?×\? beside the batch\), .* \(such as --input-shape 3x224x224\)"
    with pytest.raises(ArtifactError, match=message):
        images(path)
    assert images(path, sizes=(3, 10, 12)).shape == (1, 3, 10, 12)


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 3), (1, 4, 4, 1)])
def test_sizes_that_do_not_fit_are_refused(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    told = "×".join(map(str, sizes))
    with pytest.raises(ArtifactError, match=rf"takes inputs of 4×4×1 beside the batch, but --input-shape says {told}$"):
        images(onnx_file(tmp_path, tiny_artifact()), sizes=sizes)


def test_a_fixed_batch_is_the_targets_or_refused(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, relu([8, 3]))
    assert images(path, "onnxruntime-cpu-1t-b8").shape == (8, 3)
    message = rf"takes batches of 8, but {ORT1} measures batches of 1 \(.*--target onnxruntime-cpu-1t-b8\)"
    with pytest.raises(ArtifactError, match=message):
        images(path)


def test_weights_listed_among_the_inputs_are_none(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(tiny_artifact())
    model.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [16, 3]))
    assert images(onnx_file(tmp_path, model.SerializeToString())).shape == (1, 4, 4, 1)


def test_a_second_input_is_refused_by_name(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(tiny_artifact())
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    with pytest.raises(ArtifactError, match=r"must have one input, but has images, mask$"):
        images(onnx_file(tmp_path, model.SerializeToString()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"junk", "is no ONNX file"),
        (relu(None), "does not say what shape its input has"),
        (relu([]), "has no dimensions, but a batch must come first"),
    ],
    ids=["junk", "no shape", "scalar"],
)
def test_a_file_that_says_too_little_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        images(onnx_file(tmp_path, content))


def test_inputs_that_cannot_be_made_up_are_refused(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(tiny_artifact())
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ArtifactError, match=r"takes inputs of type string, of which none can be made up$"):
        images(onnx_file(tmp_path, model.SerializeToString()))


def test_a_torch_program_says_what_it_takes(tmp_path: Path) -> None:
    found = images(program(tmp_path, [None, 4, 4, 1]), "torch-cpu-1t-b2")
    assert (found.shape, found.dtype) == ((2, 4, 4, 1), np.uint8)
    assert images(program(tmp_path, [1, 3, 8, 8], dtype=7), TORCH).dtype == np.float32


def test_a_program_that_torch_wrote_is_understood(tmp_path: Path) -> None:
    import torch

    class Network(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.softmax(images.float().flatten(1), 1)

    example = torch.zeros(2, 4, 4, 1, dtype=torch.uint8)
    exported = torch.export.export(Network(), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    path = tmp_path / "real.pt2"
    torch.export.save(exported, path)
    found = images(path, "torch-cpu-1t-b3")
    assert (found.shape, found.dtype) == ((3, 4, 4, 1), np.uint8)


def test_damaged_programs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"junk")
    with pytest.raises(ArtifactError, match="is no exported torch program"):
        images(path, TORCH)
    with pytest.raises(ArtifactError, match=r"must have one input, but has images0, images1"):
        images(program(tmp_path, [1, 2], inputs=2), TORCH)
    with pytest.raises(ArtifactError, match=r"must have one input, but has none"):
        images(program(tmp_path, [1, 2], inputs=0), TORCH)
    with pytest.raises(ArtifactError, match="is no exported torch program: 99"):
        images(program(tmp_path, [1, 2], dtype=99), TORCH)


# --- files and targets -----------------------------------------------------------------------------------------------


def test_a_target_of_another_form_is_refused_with_one_that_fits(tmp_path: Path) -> None:
    path = onnx_file(tmp_path, tiny_artifact())
    message = (
        rf"torch \({TORCH}\) loads an exported torch program \(.pt2\), but {path} is an ONNX file "
        rf"\(.*--target {ORT1}\)"
    )
    with pytest.raises(ArtifactError, match=message):
        images(path, TORCH)
    with pytest.raises(ArtifactError, match=rf"loads an ONNX file .* is an exported torch program .*--target {TORCH}"):
        images(program(tmp_path, [1, 2]), ORT1)


def test_a_file_that_is_not_there_or_of_no_known_kind(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"there is no model file .*gone\.onnx \(name a study's folder"):
        images(tmp_path / "gone.onnx")
    (tmp_path / "model.tflite").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"must end in \.onnx or \.pt2, but got .*model\.tflite"):
        images(tmp_path / "model.tflite")


def test_latency_load_time_and_memory_of_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"7 0.25")  # which the fake measurer understands
    asked = []

    def startup(self: FakeMeasurer, model: Path, target: Target, images: np.ndarray) -> tuple[Quantity, Quantity]:
        asked.append((model, target.name, images.shape, self.environment_id(target)))
        load = Quantity("load_ms", 5.0, "ms", How.MEASURED, target.name)
        return load, Quantity("peak_memory_bytes", 1e6, "bytes", How.MEASURED, target.name)

    monkeypatch.setattr(FakeMeasurer, "startup", startup)
    found = measure_file(path, Target.parse(ORT1), FakeMeasurer(), np.zeros((1, 2), np.uint8))
    assert (found.latency.value, found.latency.environment_id) == (0.25, "a-onnxruntime")
    assert (found.load.value, found.memory.value, found.target.name) == (5.0, 1e6, ORT1)
    assert asked == [(path, ORT1, (1, 2), "a-onnxruntime")]
