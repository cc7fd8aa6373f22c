"""Any model file on any target: its latency, the time to its first output in a fresh process, its peak memory."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import ArtifactError, one_line
from nas.measure.measurer import Measurer
from nas.outcome import Quantity
from nas.safety.files import read_bytes
from nas.safety.json_text import parse_json
from nas.safety.limits import MOST_JSON_BYTES, MOST_ONNX_BYTES, size_words
from nas.safety.onnx_file import check_onnx
from nas.safety.programs import announce_program
from nas.target import TORCH_PROGRAM, Target

SUFFIXES = {".onnx": "an ONNX file", ".pt2": "an exported torch program"}

# Element types in the JSON of an exported torch program, as torch/_export/serde/schema.py numbers them.
_TORCH_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 12: "bool",
}  # fmt: skip

SHAPE_OPTION = "--input-shape"


@dataclass(frozen=True)
class ModelInput:
    """A model's one input, as its file says.

    Args:
        dtype: The element type's name in numpy.
        shape: Its sizes, the batch first; None where a size is free.
    """

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class FileMeasured:
    """What was measured of a file on one target."""

    target: Target
    latency: Quantity
    load: Quantity
    memory: Quantity


def measure_file(path: Path, target: Target, measurer: Measurer, images: np.ndarray) -> FileMeasured:
    """Measures a model file on a target.

    Args:
        path: ``.onnx``, or ``.pt2`` for targets that torch serves.
        target: What to measure on.
        measurer: Measures the latency.
        images: Inputs as the model takes them, N×…; see ``images_for``.

    Raises:
        ArtifactError: The file is missing, of another form than the target wants, or does not run.
        UnsupportedError: The target cannot be measured here.
        MeasureError: The measuring process died or hung.
    """
    check_form(path, target)
    latency, _ = measurer.measure(_content(path), target, images)
    load, memory = measurer.startup(path, target, images)
    return FileMeasured(target, latency, load, memory)


def check_form(path: Path, target: Target) -> None:
    """Makes sure that a file is there, and of the form that a target's runtime loads.

    Raises:
        ArtifactError: It is not.
    """
    if not path.is_file():
        raise ArtifactError(f"there is no model file {path}", "name a study's folder, an .onnx or a .pt2 file")
    if path.suffix not in SUFFIXES:
        raise ArtifactError(
            f"a model file must end in {' or '.join(SUFFIXES)}, but got {path}", "export it to ONNX, or name a study"
        )
    wanted = ".pt2" if target.form == TORCH_PROGRAM else ".onnx"
    if path.suffix != wanted:
        other = f"onnxruntime-{target.device}-" if wanted == ".pt2" else f"torch-{target.device}-"
        raise ArtifactError(
            f"{target.kind.title} ({target.name}) loads {SUFFIXES[wanted]} ({wanted}), but {path} is "
            f"{SUFFIXES[path.suffix]}",
            f"name a target of another runtime, such as --target {other}{target.name.split('-', 2)[2]}",
        )


def images_for(path: Path, target: Target, sizes: Sequence[int] | None = None) -> np.ndarray:
    """Random inputs for a model file, one batch of the target's: the same ones for the same shape and type.

    Bytes take all values, floating-point numbers are normally distributed, other integers (which may be positions in a
    table) are 0 or 1.

    Args:
        path: The model file.
        target: Whose batch.
        sizes: The input's sizes without the batch, where the file leaves them free.

    Raises:
        ArtifactError: The file cannot be read, has not one input, fixes another batch or other sizes, or leaves a size
            free that is not given.
    """
    check_form(path, target)
    given = _input_of_program(path) if path.suffix == ".pt2" else _input_of_onnx(path)
    shape = _shape(path, given, target, sizes)
    generator = np.random.default_rng(0)
    dtype = np.dtype(given.dtype)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 256 if dtype == np.uint8 else 2, shape).astype(dtype)


def _shape(path: Path, given: ModelInput, target: Target, sizes: Sequence[int] | None) -> tuple[int, ...]:
    """The shape of one batch: what the file fixes, and what was given beside it."""
    if not given.shape:
        raise ArtifactError(f"the input of {path} has no dimensions, but a batch must come first")
    batch, *fixed = given.shape
    if batch is not None and batch != target.batch:
        raise ArtifactError(
            f"{path} takes batches of {batch}, but {target.name} measures batches of {target.batch}",
            f"name a target of that batch, such as --target {target.name.replace(f'-b{target.batch}', f'-b{batch}')}",
        )
    words = "×".join("?" if size is None else str(size) for size in fixed)
    if sizes is None:
        if None in fixed:
            raise ArtifactError(
                f"{path} leaves sizes of its input free ({words} beside the batch), so they must be told",
                f"such as {SHAPE_OPTION} {'x'.join(str(size or 224) for size in fixed)}",
            )
        sizes = [size for size in fixed if size is not None]
    agrees = len(sizes) == len(fixed) and all(size in (None, wanted) for size, wanted in zip(fixed, sizes, strict=True))
    if not agrees:
        told = "×".join(str(size) for size in sizes)
        raise ArtifactError(f"{path} takes inputs of {words} beside the batch, but {SHAPE_OPTION} says {told}")
    return (target.batch, *sizes)


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path, MOST_ONNX_BYTES, ArtifactError)
    except OSError as error:
        raise ArtifactError(f"the model {path} cannot be read: {error.strerror}") from error


def _input_of_onnx(path: Path) -> ModelInput:
    """The one input of an ONNX file; weights that older files list among the inputs are none."""
    import onnx

    content = _content(path)
    check_onnx(content, str(path))
    try:
        graph = onnx.load_model_from_string(content).graph
    except Exception as error:  # protobuf's errors have no common base that onnx exports
        raise ArtifactError(f"{path} is no ONNX file: {one_line(error, 200)}") from error
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    _check_single(path, [value.name for value in inputs])
    tensor = inputs[0].type.tensor_type
    if not tensor.HasField("shape"):
        raise ArtifactError(f"{path} does not say what shape its input has", "export it with a shape")
    if tensor.elem_type not in onnx.helper.get_all_tensor_dtypes():
        raise ArtifactError(f"{path} takes inputs of a type that ONNX does not know")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if dtype.kind not in "fiub":
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ArtifactError(f"{path} takes inputs of type {kind}, of which none can be made up")
    sizes = tuple(
        size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None for size in tensor.shape.dim
    )
    return ModelInput(str(dtype), sizes)


def _input_of_program(path: Path) -> ModelInput:
    """The one input of an exported torch program, as the JSON in its archive says; torch itself is not needed."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("models/model.json"))
            if (size := archive.getinfo(name).file_size) > MOST_JSON_BYTES:
                raise ValueError(f"its graph takes {size_words(size)}")
            module = parse_json(archive.read(name))["graph_module"]
        specs = [spec["user_input"]["arg"] for spec in module["signature"]["input_specs"] if "user_input" in spec]
        inputs = [spec["as_tensor"]["name"] for spec in specs]
        tensors: list[dict[str, Any]] = [module["graph"]["tensor_values"][name] for name in inputs]
        found = [ModelInput(_TORCH_TYPES[t["dtype"]], tuple(s.get("as_int") for s in t["sizes"])) for t in tensors]
    except (OSError, zipfile.BadZipFile, StopIteration, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is no exported torch program: {one_line(error, 200)}") from error
    _check_single(path, inputs)
    announce_program(path)
    return found[0]


def _check_single(path: Path, inputs: Sequence[str]) -> None:
    if len(inputs) != 1:
        raise ArtifactError(f"{path} must have one input, but has {', '.join(inputs) or 'none'}")
