"""Trained weights: read from a file without running code, brought to plain names, fitted into a network, or inherited
by another one as far as it is alike."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from nas.design import canonical_json
from nas.errors import ModuleError, one_line
from nas.safety.limits import most_data_bytes, size_words

# Under which key a checkpoint that holds more than the weights may keep them.
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
# What wrappers put before every name: torch.nn.DataParallel, torch.compile.
WRAPPER_PREFIXES = ("module.", "_orig_mod.")
# Counts batches while training; files older than it, and networks without it, do as well.
COUNTER = "num_batches_tracked"

FITTING_HINT = "give the arguments with which the network was built when these weights were trained"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state_dict that ``torch.save`` wrote, on the CPU, by name.

    Of a checkpoint ``{"state_dict": …}`` or ``{"model": …}`` the weights are taken, and a prefix that a wrapper
    (DataParallel, torch.compile) put before all names is dropped.

    Raises:
        ModuleError: The file is missing, is neither, or holds objects that could run code.
    """
    if not path.is_file():
        raise ModuleError(f"there is no weights file {path}", "relative paths start at the space file's folder")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModuleError(f"{path} cannot be read: {error.strerror}") from error
    return weights_in(content, path)


def weights_in(content: bytes, path: Path) -> dict[str, Tensor]:
    """What ``read_weights`` reads, of a file whose content was read already; the path names it in messages."""
    weights = _safetensors(content, path) if path.suffix.lower() == ".safetensors" else _state_dict(content, path)
    for prefix in WRAPPER_PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    for name, tensor in weights.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            raise ModuleError(
                f"{path} holds '{name}' as another kind of tensor than plain numbers", "save it dense, and as floats"
            )
    return weights


def _safetensors(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ModuleError(f"{path} cannot be read as safetensors: {error}") from error


def _state_dict(file: bytes, path: Path) -> dict[str, Tensor]:
    try:
        _check_unpacked(file, path)
        content = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
    except ModuleError:
        raise
    except pickle.UnpicklingError as error:
        raise ModuleError(
            f"{path} holds more than tensors, which is not loaded since it could run code",
            "save network.state_dict() alone, by torch.save or as .safetensors",
        ) from error
    except Exception as error:  # the unpickler raises whatever a damaged file leads it to
        raise ModuleError(
            f"{path} cannot be read as weights: {one_line(error)}", "save network.state_dict() by torch.save"
        ) from error
    while isinstance(content, Mapping) and (
        inner := [k for k in CHECKPOINT_KEYS if isinstance(content.get(k), Mapping)]
    ):
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModuleError(
            f"{path} holds no state_dict but a {type(content).__name__}", "save network.state_dict() by torch.save"
        )
    return {str(name): tensor for name, tensor in content.items()}


def _check_unpacked(file: bytes, path: Path) -> None:
    """Refuses an archive whose files take more memory than there is: torch writes them as they are, not compressed."""
    if zipfile.is_zipfile(io.BytesIO(file)):
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > most_data_bytes():
            raise ModuleError(f"{path} would take {size_words(size)} of memory, more than this machine has")


def _is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; what torch cannot tell of floats of 8 bits is told of wider."""
    if not tensor.is_floating_point():
        return True
    return bool((tensor.float() if tensor.itemsize == 1 else tensor).isfinite().all())


def load_weights(network: nn.Module, path: Path, label: str) -> None:
    """Puts a file's weights into a network.

    Args:
        network: Changed in place.
        path: See ``read_weights``.
        label: What the network is called in messages.

    Raises:
        ModuleError: They do not fit; the message names the first name that is missing, unexpected or of another shape.
    """
    fit_weights(network, read_weights(path), path.name, label)


def fit_weights(network: nn.Module, given: Mapping[str, Tensor], name: str, label: str) -> None:
    """What ``load_weights`` does, of weights that were read already; ``name`` is what their file is called."""
    own = network.state_dict()
    problems = [
        *(f"it lacks '{key}'" for key in own if key not in given and not key.endswith(COUNTER)),
        *(f"it has '{key}', which the network has not" for key in given if key not in own),
        *(
            f"its '{key}' is {_shape(given[key])}, but must be {_shape(own[key])}"
            for key in own
            if key in given and given[key].shape != own[key].shape
        ),
        *(
            f"its '{key}' holds NaN or infinity"
            for key in own
            if key in given and given[key].shape == own[key].shape and not _is_finite(given[key])
        ),
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ModuleError(f"the weights in {name} do not fit {label}: {problems[0]}{more}", FITTING_HINT)
    network.load_state_dict(given, strict=False)


@torch.no_grad()
def inherit_weights(network: nn.Module, state: Mapping[str, Tensor]) -> float:
    """Gives a network what it has in common with another one, such as a wider or a deeper one; the rest stays.

    Tensors of one name and as many dimensions have in common the first so many channels in and out, and of kernels the
    middle, so that a kernel of 3×3 lies in one of 5×5 where it did the same. Batch-norm statistics are tensors as
    others; counters and indices are not inherited. Nor is a kernel for each channel (depthwise) by a full convolution,
    or the other way round, since neither tells anything of the other.

    Args:
        network: Changed in place.
        state: The other's tensors by name, see ``torch.nn.Module.state_dict``.

    Returns:
        The share of the network's parameters that was inherited, 0 to 1.
    """
    inherited, parameters = 0, {id(parameter) for parameter in network.parameters()}
    for name, own in network.state_dict(keep_vars=True).items():
        other = state.get(name)
        if other is None or not own.is_floating_point() or not other.is_floating_point() or _differ(own, other):
            continue
        sizes = [min(pair) for pair in zip(own.shape, other.shape, strict=True)]
        taken = other[_common(other.shape, sizes)]
        own[_common(own.shape, sizes)] = taken.to(own.device, own.dtype)
        inherited += taken.numel() if id(own) in parameters else 0
    return inherited / max(1, sum(parameter.numel() for parameter in network.parameters()))


def _differ(own: Tensor, other: Tensor) -> bool:
    """Whether tensors are of different kinds: in their number of dimensions, or depthwise and full."""
    if own.ndim != other.ndim:
        return True
    return own.ndim > 2 and (own.shape[1] == 1) != (other.shape[1] == 1)


def _common(shape: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    """Where in a tensor the part of those sizes lies: first of the channels, in the middle of what comes after."""
    starts = [
        (whole - size) // 2 if dimension > 1 else 0
        for dimension, (whole, size) in enumerate(zip(shape, sizes, strict=True))
    ]
    return tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))


def digest_of_weights(network: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, in hexadecimal: the same whatever kind of file they came from."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(network.state_dict().items())}
    header = [[name, str(tensor.dtype), list(tensor.shape)] for name, tensor in state.items()]
    digest = hashlib.sha256(canonical_json(header).encode())
    for tensor in state.values():
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _shape(tensor: Tensor) -> str:
    return "×".join(str(size) for size in tensor.shape) or "a single number"
