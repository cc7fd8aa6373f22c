"""The files that a teacher may be, each opened as the same thing: a function from a batch of images to outputs.

ONNX files and weights are data. A TorchScript file and an exported program are programs: whoever made one can have it
do anything, so that it is said on the terminal that one is run. Nothing is unpickled but weights.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.export import passes

from nas.artifact import INPUT_NAME, open_session
from nas.errors import ArtifactError, NasError, TeacherError
from nas.families import build
from nas.families.weights import fit_weights, weights_in
from nas.recipe_sections import TeacherConfig
from nas.safety.files import read_bytes, require_plain
from nas.safety.limits import MOST_ONNX_BYTES
from nas.safety.onnx_file import check_external, check_onnx, external_data_of
from nas.safety.programs import weights_only
from nas.train import Numerics, seeded

# Images at a time, where the file leaves it open.
BATCH = 64

# One image's shape as a file declares it; None where a size is free.
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Network:
    """A teacher's file, opened.

    Args:
        run: The outputs of a batch of images, given as the network takes them.
        raw: Whether it takes the data as it is, of this type and in the data's own layout, and normalises inside, as
            an artifact does; None: normalised float32, N×C×H×W.
        shape: What the file says of one image's shape; None where it says nothing.
        batch: How many images it takes at a time, neither more nor fewer.
    """

    run: Callable[[np.ndarray], np.ndarray]
    raw: str | None = None
    shape: Shape | None = None
    batch: int = BATCH


def read_file(path: Path) -> bytes:
    """The content of a teacher's file; an ONNX file's weights that lie beside it are brought inside.

    Raises:
        TeacherError: It is not there or cannot be read.
    """
    try:
        if path.suffix.lower() != ".onnx":
            require_plain(path, TeacherError)
            return path.read_bytes()
        content = read_bytes(path, MOST_ONNX_BYTES, TeacherError)
        if external := external_data_of(content, "it"):
            check_external(external, path.parent, "it")
            content = onnx.load(str(path)).SerializeToString(deterministic=True)
    except ArtifactError as error:
        raise TeacherError(f"cannot be read: {error.message}", error.hint) from error
    except FileNotFoundError as error:
        raise TeacherError(f"is not there: {error.filename or path}", "a path is relative to the recipe") from None
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise TeacherError(f"cannot be read: {last_line(error)}") from error
    return content


def open_onnx(content: bytes, numerics: Numerics) -> Network:
    """An ONNX file of one input and one output.

    A uint8 input takes images as they are; so does a float input of an artifact of our own, which was made from float
    arrays. Any other float input takes normalised images.

    Raises:
        TeacherError: ONNX Runtime refuses the file, or inputs or outputs are others.
    """
    try:
        check_onnx(content, "it")
        session = open_session(content, numerics.threads)
    except ArtifactError as error:
        raise TeacherError(f"cannot be loaded: {error.message}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    for what, found in (("input", inputs), ("output", outputs)):
        if len(found) != 1:
            names = ", ".join(value.name for value in found)
            raise TeacherError(f"must have one {what}, but has {len(found)}: {names}", "export it with one")
    types = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
    if inputs[0].type not in types:
        raise TeacherError(f"takes {inputs[0].type}", "export it with an input of float32 or uint8")
    dtype = types[inputs[0].type]
    artifact = session.get_modelmeta().producer_name == "nas" and inputs[0].name == INPUT_NAME
    shape = tuple(size if isinstance(size, int) else None for size in inputs[0].shape)
    return Network(
        lambda images: np.asarray(session.run(None, {inputs[0].name: images})[0]),
        raw=dtype if dtype == "uint8" or artifact else None,
        shape=shape[1:] if shape else None,
        batch=(shape[0] if shape else None) or BATCH,
    )


def open_torchscript(content: bytes, numerics: Numerics) -> Network:
    """A TorchScript file; it takes normalised images.

    Raises:
        TeacherError: It is none.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", DeprecationWarning)
        try:
            module = torch.jit.load(io.BytesIO(content), map_location=numerics.device)  # type: ignore[no-untyped-call]
        except Exception as error:  # torch has no common base for what a damaged file causes
            raise TeacherError(
                f"is no TorchScript file: {last_line(error)}",
                "save it by torch.jit.save or torch.export.save, or name the family and architecture of a state_dict",
            ) from error
    return Network(_in_torch(module.eval(), numerics))


def open_exported_program(content: bytes, numerics: Numerics) -> Network:
    """A file of ``torch.export.save``; it takes normalised images, as many at a time as it was exported for.

    Raises:
        TeacherError: It is none, or takes more than one input.
    """
    try:
        with _silent("torch.export"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on how torch reads its own file
            with weights_only():
                loaded = torch.export.load(io.BytesIO(content))
            program = passes.move_to_device_pass(loaded, numerics.device)
            module = program.module()
    except Exception as error:  # torch has no common base for what a damaged file causes
        raise TeacherError(f"is no exported program: {last_line(error)}", "save it by torch.export.save") from error
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise TeacherError(f"must have one input, but has {len(names)}", "export it with one")
    node = next(node for node in program.graph.nodes if node.op == "placeholder" and node.name == names[0])
    sizes = list(node.meta["val"].shape)
    shape = tuple(size if isinstance(size, int) else None for size in sizes)
    batch = BATCH if not sizes else _most(program, sizes[0])
    return Network(_in_torch(module, numerics), shape=shape[1:], batch=batch)


def _most(program: torch.export.ExportedProgram, size: int | torch.SymInt) -> int:
    """The number of images at a time that a program was exported for; where it is open, as many as it allows."""
    if isinstance(size, int):
        return size
    allowed = program.range_constraints.get(size.node.expr)
    return BATCH if allowed is None or allowed.upper > BATCH else int(allowed.upper)


def open_weights(
    content: bytes, config: TeacherConfig, input_shape: tuple[int, int, int], classes: int, numerics: Numerics
) -> Network:
    """Weights of a family's network: safetensors, or a state_dict by ``torch.save``; it takes normalised images.

    Raises:
        TeacherError: The network cannot be built for this data, or the weights are not its.
    """
    assert config.family is not None  # as the recipe's section makes sure for weights
    assert config.architecture is not None
    label = f"family {config.family} of that architecture on images of {sizes_text(input_shape)} (C×H×W)"
    try:
        weights = weights_in(content, config.path)
        last = weights.get("classifier.weight")
        if last is not None and last.dim() == 2 and len(last) != classes:
            raise TeacherError(f"gives {len(last)} classes, but the data has {classes}")
        with seeded(0, numerics.threads):  # a new network draws random weights
            model = build(config.family, config.architecture, input_shape, classes)
        fit_weights(model, weights, config.path.name, label)
    except TeacherError:
        raise
    except NasError as error:
        raise TeacherError(f"cannot be used: {error.message}", error.hint) from error
    model = model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Network(_in_torch(model.to(numerics.device), numerics))


def _in_torch(module: nn.Module, numerics: Numerics) -> Callable[[np.ndarray], np.ndarray]:
    """Runs a torch module on numpy images."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            outputs = module(torch.from_numpy(images).to(numerics.device))
        if not isinstance(outputs, torch.Tensor):
            raise TeacherError(f"must give one tensor, but gives {type(outputs).__name__}", "export the logits alone")
        return outputs.float().cpu().numpy()

    return run


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    """Keeps a library from printing the traceback of an error that it raises all the same."""
    found = logging.getLogger(logger)
    before = found.disabled
    found.disabled = True
    try:
        yield
    finally:
        found.disabled = before


def sizes_text(sizes: Sequence[int | None]) -> str:
    """A shape in words: ``1×28×28``; a free size is ``?``."""
    return "×".join("?" if size is None else str(size) for size in sizes) or "no size"


def last_line(error: BaseException) -> str:
    """The last line of an error's message: torch puts tracebacks before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
