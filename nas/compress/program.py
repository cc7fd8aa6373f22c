"""The network as a torch program: a ``.pt2`` file that torch itself runs, with or without a compiler, also on a GPU.

It takes and gives what the ONNX artifact does (``nas.artifact``): the data as it is in, class probabilities out, any
number of images, normalisation inside, batch norm folded. Torch runs the float network, so that what a design says of
the bits of weights and activations has no effect in this form; see ``unrealised``.
"""

from __future__ import annotations

import io
import traceback

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nas.artifact import INPUT_NAME, InputSpec
from nas.compress.fold import fold_batch_norms
from nas.compression import ON_THE_GRAPH, made_on_the_graph
from nas.data.normalise import Normalisation
from nas.design import Design
from nas.errors import UnsupportedError, one_line
from nas.families.layout import laid_out, layout_of
from nas.measure.runtimes.program_torch import CHANNELS_LAST, CONTIGUOUS, FRONT_END, LAYOUT_FILE

__all__ = ["EXPORTER", "ON_THE_GRAPH", "export_program", "unrealised"]

EXPORTER = "torch.export"

# Two images, as torch takes a dimension of 1 for one that is always 1.
EXAMPLE_BATCH = 2


class _WithFrontEnd(nn.Module):
    """The network between what takes the data as it is and the softmax that a deployment wants."""

    def __init__(self, network: nn.Module, spec: InputSpec, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        self.channels_last = spec.layout == "NHWC"
        shape = (1, -1, 1, 1)
        self.register_buffer(f"{FRONT_END}mean", torch.tensor(normalisation.mean).reshape(shape))
        self.register_buffer(f"{FRONT_END}scale", 1 / torch.tensor(normalisation.std).reshape(shape))

    def forward(self, images: Tensor) -> Tensor:
        values = images.permute(0, 3, 1, 2) if self.channels_last else images
        mean, scale = (self.get_buffer(f"{FRONT_END}{name}") for name in ("mean", "scale"))
        normalised = (values.to(torch.float32) - mean) * scale
        logits: Tensor = self.network(laid_out(normalised, self.network))
        return torch.softmax(logits, 1)


def export_program(network: nn.Module, input_spec: InputSpec, normalisation: Normalisation) -> bytes:
    """Exports a network as a torch program, which ``torch.export.load`` reads.

    The same network gives the same bytes, with one version of torch; no source paths are in it.

    Args:
        network: The float network, after pruning.
        input_spec: What the artifact takes.
        normalisation: Mean and standard deviation of each channel.

    Raises:
        UnsupportedError: torch cannot export the network, such as where its forward decides by its values.
    """
    whole = _WithFrontEnd(network.cpu(), input_spec, normalisation).eval()
    try:
        as_it_is = _exported(whole, input_spec)
    except Exception as error:  # the exporter has no common base for its errors
        raise _refused(error, network) from error
    program = _exported(fold_batch_norms(as_it_is.module()), input_spec)
    _strip(program)
    buffer = io.BytesIO()
    layout = CONTIGUOUS if layout_of(network) is torch.contiguous_format else CHANNELS_LAST
    torch.export.save(program, buffer, extra_files={LAYOUT_FILE: layout})
    return buffer.getvalue()


def unrealised(design: Design) -> tuple[str, ...]:
    """The names of a design's compression choices that have no effect in this form, in the design's order.

    These are the bits of weights and activations, shared weights, and what refines them, of the whole network and of
    single stages. A target's own precision (``torch-cuda-b1-fp16``) is no choice of the design.
    """
    return made_on_the_graph(design.compression)


def _exported(whole: nn.Module, spec: InputSpec) -> ExportedProgram:
    example = torch.zeros(EXAMPLE_BATCH, *spec.shape, dtype=getattr(torch, spec.dtype))
    with torch.no_grad():
        return torch.export.export(
            whole, (example,), dynamic_shapes={INPUT_NAME: {0: Dim("batch", min=1)}}, strict=False
        )


def _strip(program: ExportedProgram) -> None:
    """Drops what a deployment has no use for: source files, where nodes came from, checks, the example's pixels."""
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        node.meta = {"val": node.meta["val"]} if "val" in node.meta else {}
    program.graph_module.recompile()
    program.example_inputs = None


def _refused(error: Exception, network: nn.Module) -> UnsupportedError:
    """The error for a network that torch cannot export; the layer is that of the innermost forward that failed."""
    names = {id(module): name for name, module in network.named_modules()}
    frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    layer = next((names[id(owner)] for owner in reversed(frames) if id(owner) in names), "")
    where = f" at layer '{layer}'" if layer else ""
    return UnsupportedError(
        f"the network cannot be exported as a torch program{where}: {one_line(error)}",
        "its forward must not decide by the values or the number of images; or leave the targets of torch out",
    )
