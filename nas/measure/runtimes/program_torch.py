"""A torch program (``nas.compress.program``) made ready to run: on a device, in a precision, as plain calls."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.fx.graph import CodeGen

from nas.errors import ArtifactError, one_line
from nas.safety.programs import weights_only

# The file's own note of how the network wants its tensors to lie in memory. The weights themselves are stored
# contiguous, as torch cannot tell a tensor in another order from a part of a larger one.
LAYOUT_FILE = "layout"
CHANNELS_LAST = "channels_last"
CONTIGUOUS = "contiguous"

# The front end's tensors, by how their names begin: what is computed from them and the images alone stays float32 in
# every precision.
FRONT_END = "front_end_"

_aten = torch.ops.aten
PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16}

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Program:
    """A loaded program: one tensor of images in, one of probabilities out.

    Args:
        module: Its ``forward`` calls torch's operators one after the other.
        shape: What images it takes, batch left out; None where a dimension is free.
        dtype: And of which type.
    """

    module: fx.GraphModule
    shape: tuple[int | None, ...]
    dtype: torch.dtype

    def tensor(self, images: np.ndarray) -> Tensor:
        """The images as a tensor on the host; the same memory where torch can take it.

        Call it under ``torch.inference_mode``: a compiler takes a tensor that was made outside for another kind.

        Raises:
            ArtifactError: The program does not take them. (An exported program would not notice by itself.)
        """
        if len(images) == 0:
            raise ArtifactError("the model cannot be run on no images")
        fits = len(images.shape) == len(self.shape) + 1 and all(
            mine in (None, given) for mine, given in zip(self.shape, images.shape[1:], strict=True)
        )
        dtype = str(self.dtype).removeprefix("torch.")
        if not fits or str(images.dtype) != dtype:
            wanted = "×".join(["N", *("?" if size is None else str(size) for size in self.shape)])
            given = "×".join(map(str, images.shape))
            raise ArtifactError(
                f"the model cannot be run: it takes {dtype} of shape {wanted}, but got {images.dtype} of shape {given}"
            )
        ready = np.require(images, requirements=["C", "W"])
        # Viewed anew for the usual strides: numpy may give a dimension of 1 any, which compiled code takes for another.
        return torch.from_numpy(ready).view(-1).view(ready.shape)


def load_program(content: bytes, device: str = "cpu", precision: str | None = None) -> Program:
    """Loads a program for a device: ``cpu`` or ``cuda``.

    In a precision of 16 bits (``fp16``, ``bf16``) the network's weights and arithmetic are converted; normalisation of
    the input and the softmax stay float32.

    Raises:
        ArtifactError: The content is no torch program, or one with several inputs.
    """
    extra = {LAYOUT_FILE: ""}
    try:
        with weights_only():
            module = torch.export.load(io.BytesIO(content), extra_files=extra).module()
    except MemoryError:  # the machine's fault, not the model's
        raise
    except Exception as error:  # torch raises whatever reading the archive raises
        raise ArtifactError(f"torch cannot load the model: {one_line(error, 300)}") from error
    inputs = module.graph.find_nodes(op="placeholder")
    if len(inputs) != 1:
        raise ArtifactError(f"the model must have one input, but has {', '.join(node.target for node in inputs)}")
    example = inputs[0].meta["val"]
    if precision is not None:
        _convert(module, PRECISIONS[precision])
    if extra[LAYOUT_FILE] == CHANNELS_LAST:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _move(module, torch.device(device))
    _make_plain(module)
    shape = tuple(size if isinstance(size, int) else None for size in example.shape[1:])
    return Program(module, shape, example.dtype)


def identity_program(images: np.ndarray) -> bytes:
    """A program that hands a batch of such images, of any size, on as it is: the cost of a call."""

    class Identity(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.clone()

    batch = torch.from_numpy(np.zeros((2, *images.shape[1:]), images.dtype))
    program = torch.export.export(
        Identity(), (batch,), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}, strict=False
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def run_error(error: Exception) -> Exception:
    """What to raise for what torch raised while a model ran: want of memory is the machine's fault, not the model's."""
    if isinstance(error, MemoryError):
        return error
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return MemoryError(one_line(error, 300))
    return ArtifactError(f"the model cannot be run: {one_line(error, 300)}")


def _make_plain(module: fx.GraphModule) -> None:
    """Makes ``forward`` take and give one tensor, without the export's checks, whose time no service would pay."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "call_module" or node.target is _aten._assert_tensor_metadata.default:
            graph.erase_node(node)
    output = graph.output_node()
    output.args = (_first(output.args),)
    graph.set_codegen(CodeGen())
    module.recompile()


def _first(value: Any) -> Any:
    while isinstance(value, list | tuple):
        value = value[0]
    return value


def _move(module: fx.GraphModule, device: torch.device) -> None:
    """Moves the tensors, and what the graph says of devices: the program was exported on the CPU."""
    module.to(device)

    def moved(value: Any) -> Any:
        return device if isinstance(value, torch.device) else value

    for node in module.graph.nodes:
        node.args = fx.node.map_aggregate(node.args, moved)
        node.kwargs = fx.node.map_aggregate(node.kwargs, moved)


def _convert(module: fx.GraphModule, dtype: torch.dtype) -> None:
    """Converts all that comes after the front end; what enters it from there is converted on its way."""
    graph = module.graph
    before = _front_end(graph)
    tensors = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in tensors:
        if tensor.is_floating_point() and not name.startswith(FRONT_END):
            owner, _, leaf = name.rpartition(".")
            value = tensor.detach().to(dtype)
            kind = nn.Parameter(value, requires_grad=False) if isinstance(tensor, nn.Parameter) else value
            setattr(module.get_submodule(owner), leaf, kind)
    converted: dict[fx.Node, fx.Node] = {}
    for node in list(graph.nodes):
        if node in before or node.op != "call_function":
            continue
        for entering in [one for one in node.all_input_nodes if one in before and _is_float(one)]:
            if entering not in converted:
                with graph.inserting_after(entering):
                    converted[entering] = graph.call_function(_aten.to.dtype, (entering, dtype))
            node.replace_input_with(entering, converted[entering])
        node.args = fx.node.map_aggregate(node.args, lambda value: dtype if value is torch.float32 else value)
        node.kwargs = fx.node.map_aggregate(node.kwargs, lambda value: dtype if value is torch.float32 else value)
    _float_at_the_end(graph, before)


def _front_end(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that depend on nothing but the images and the front end's constants."""
    before: set[fx.Node] = set()
    for node in graph.nodes:
        if (
            node.op == "placeholder"
            or (node.op == "get_attr" and node.target.startswith(FRONT_END))
            or (node.op == "call_function" and before.issuperset(node.all_input_nodes))
        ):
            before.add(node)
    return before


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def _float_at_the_end(graph: fx.Graph, before: set[fx.Node]) -> None:
    """Probabilities in float32: the softmax computes them so from logits of 16 bits."""
    output = graph.output_node()
    last = _first(output.args)
    if last in before or not _is_float(last):
        return
    if last.target is _aten.softmax.int:
        last.args = (*last.args[:2], torch.float32)
        return
    with graph.inserting_after(last):
        output.replace_input_with(last, graph.call_function(_aten.to.dtype, (last, torch.float32)))
