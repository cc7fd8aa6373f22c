"""Other forms of a design's artifact, for runtimes that want one.

The symmetric form (``nas.target.SYMMETRIC``) is TensorRT's: an ONNX file in which activations of 8 bits are int8 with
zero point 0, biases are floats, and pixels become floats before anything is done to them. It is made from the same
float network, with the same choices and the same calibration images, so that what differs is what the runtime asks for.

What a design asks of weights alone is stored here as it is in the ONNX file; ONNX Runtime decodes it when it loads the
file, before TensorRT sees the graph, which then computes in floats, or for 4-bit weights of integer layers in int8.
Activations of 16 bits are refused: TensorRT has no integers of 16 bits, and its float16 is a matter of the target, not
of the file. Nothing is put in their place, since the design would be measured as another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nas.artifact import InputSpec
from nas.compress.bits.body import Bits
from nas.compress.export import attach_front_end
from nas.compress.quantise import Quantise, QuantiseConfig, quantise
from nas.compress.share import Share
from nas.compress.technique import Tools
from nas.design import Design
from nas.errors import UnsupportedError
from nas.target import SYMMETRIC

# Raised by one when this file's code changes what it produces.
VERSION = 1


@dataclass(frozen=True)
class Form:
    """An artifact in another form.

    Args:
        artifact: The finished file.
        notes: What of the design runs otherwise than it says, in words.
        detail: What is worth knowing of how it was made, as JSON: the curve where it was trained.
    """

    artifact: bytes = field(repr=False)
    notes: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


def symmetric_config(design: Design) -> QuantiseConfig | None:
    """The bits of a design's symmetric form, which can be asked for before anything is trained; None for floats.

    Raises:
        UnsupportedError: TensorRT cannot realise them; the message names the choice.
    """
    config = Quantise().config(design)
    if config is not None:
        for stage in (None, *config.stage_names):
            _check(f"{stage}.activation_bits" if stage else "activation_bits", config.bits(stage))
    return config


def _check(choice: str, bits: Bits) -> None:
    if bits.activations != 16:
        return
    if bits.in_integers:
        raise UnsupportedError(
            f"TensorRT has no integer activations of 16 bits, but {choice} is 16",
            f"give {choice} 8 or 32 where TensorRT is to serve",
        )
    raise UnsupportedError(
        f"TensorRT's float16 is chosen by the target, not by {choice} 16",
        "leave the bits at 32 and measure on a target such as tensorrt-cuda-b1-fp16",
    )


def symmetric(body: bytes, design: Design, tools: Tools, spec: InputSpec) -> Form:
    """A design's artifact in the symmetric form. It runs on ONNX Runtime's CPU kernels too, though not fast there.

    Args:
        body: The float body: what the quantise technique gets, after weight sharing where the design has it.
        design: Its choices of bits, calibration and training on the grid count here.
        tools: As for the techniques; normalisation is that of its data. Whether the CPU's products saturate and whether
            pixels could go in as bytes has no part in this form.
        spec: What the artifact takes.

    Raises:
        UnsupportedError: TensorRT cannot realise the design's bits, or the network cannot be quantised.
    """
    config = symmetric_config(design)
    detail: dict[str, Any] = {}
    if config is not None:
        body, detail = quantise(body, config, replace(tools, pixels=None, reduce_range=False), symmetric=True)
    artifact = attach_front_end(body, spec, tools.data.normalisation, SYMMETRIC)
    return Form(artifact, tuple(_notes(design, config)), detail)


def _notes(design: Design, config: QuantiseConfig | None) -> Iterator[str]:
    """One for each thing that TensorRT does not do as the design says."""
    if Share().config(design) is not None:
        yield "TensorRT computes with shared weights as floats: they save size, not time"
    if config is None:
        return
    for stage in (None, *config.stage_names):
        bits, where = config.bits(stage), f"{stage}: " if stage else ""
        stored = f"{where}weights are stored in {bits.weights} bits, which saves size"
        if bits.in_integers and bits.weights == 4:
            yield f"{stored}; TensorRT computes with them as int8"
        elif bits.weights != 32 and not bits.in_integers:
            yield f"{stored}; TensorRT's arithmetic is float"
