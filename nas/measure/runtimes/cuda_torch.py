"""What torch with and without a compiler have in common on NVIDIA GPUs: CUDA graphs, timed by CUDA events.

One call is what a service repeats: copy a batch to the GPU, run the network, copy the probabilities back. It is
captured once as a CUDA graph and replayed, so that the CPU launches one thing in place of every kernel; the batch lies
in page-locked memory of the host, into which a service writes its requests, as only from there the GPU copies by
itself. Two events of the GPU's own clock, one before and one after, give the duration, of about half a microsecond's
resolution; the time in which the CPU launches the graph lies between them.

Network and weights are converted where a target says ``fp16`` or ``bf16``. Without, float32 convolutions and matrix
products may use TensorFloat-32 where the GPU has it (a mantissa of 10 bits inside the product), as is usual for
inference; accuracy is scored by the same arithmetic.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.errors import one_line
from nas.measure.clock import Clock, Timed, timed_by
from nas.measure.runtimes.base import Missing
from nas.measure.runtimes.batches import check_batch, in_batches
from nas.measure.runtimes.program_torch import Forward, Program, run_error
from nas.target import Target

# Calls before the capture: cuDNN tries its algorithms and libraries allocate their workspaces, neither of which a graph
# may do.
WARM_UP_CALLS = 3

DEVICE = "cuda"
NANOSECONDS_PER_MS = 1_000_000
_DRIVER = Path("/proc/driver/nvidia/version")


class CapturedCall:
    """One call as a CUDA graph: copy in, network, copy out. To be made under ``torch.inference_mode``.

    Args:
        forward: The network on the GPU, for a batch of this size.
        images: The batch, on the host; copied into page-locked memory.
    """

    def __init__(self, forward: Forward, images: Tensor) -> None:
        self.forward = forward
        self.host_input = images.pin_memory()
        self.device_input = torch.empty_like(images, device=DEVICE)
        self.host_output = self._warm_up()
        self.start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self.end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.device_input.copy_(self.host_input, non_blocking=True)
            # Kept, as the graph writes to its memory in every replay.
            self.device_output = forward(self.device_input)
            self.host_output.copy_(self.device_output, non_blocking=True)

    def __call__(self) -> Tensor:
        """Replays the graph and waits; the probabilities lie in page-locked memory until the next call."""
        self.timed_ns()
        return self.host_output

    def timed_ns(self) -> int:
        """Replays the graph, waits, and gives the time between the two events, in nanoseconds."""
        self.start.record()
        self.graph.replay()
        self.end.record()
        self.end.synchronize()
        return round(float(self.start.elapsed_time(self.end)) * NANOSECONDS_PER_MS)

    def free(self) -> None:
        """Gives the graph and its memory back."""
        self.graph.reset()

    def _warm_up(self) -> Tensor:
        """Calls beside the current stream, as capturing demands, and gives room for the output on the host."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_CALLS):
                self.device_input.copy_(self.host_input, non_blocking=True)
                output = self.forward(self.device_input)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        return torch.empty(output.shape, dtype=output.dtype).pin_memory()


class CudaSession:
    """A program on a GPU.

    Args:
        program: What it is, on the GPU.
        forward: What runs it.
        batch: The number of images that ``forward`` takes; None where it takes any.
    """

    def __init__(self, program: Program, forward: Forward, batch: int | None = None) -> None:
        self.program = program
        self.forward = forward
        self.batch = batch
        self.captured: list[CapturedCall] = []

    @property
    def threads(self) -> int | None:
        return None

    def run(self, images: np.ndarray) -> np.ndarray:
        return in_batches(self._once, images, self.batch or len(images))

    def call(self, images: np.ndarray) -> Callable[[], object]:
        if self.batch is not None:
            check_batch(images, self.batch)
        with torch.inference_mode():
            batch = self.program.tensor(images)
            try:
                captured = CapturedCall(self.forward, batch)
            except Exception as error:  # torch raises RuntimeError, its kinds, and whatever a compiler raises
                raise run_error(error) from error
        self.captured.append(captured)
        return captured

    def timed(self, call: Callable[[], object], clock: Clock = time.perf_counter_ns) -> Timed:
        """By the GPU's own clock; what was not captured here, by the host's."""
        return call.timed_ns if isinstance(call, CapturedCall) else timed_by(call, clock)

    def close(self) -> None:
        for captured in self.captured:
            captured.free()
        self.captured.clear()
        torch.cuda.empty_cache()

    def _once(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = self.program.tensor(images)
            try:
                return self.forward(batch.to(DEVICE)).cpu().numpy()
            except Exception as error:  # torch raises RuntimeError, its kinds, and whatever a compiler raises
                raise run_error(error) from error


def missing_cuda(target: Target) -> Missing | None:
    """Why torch cannot use a GPU here, for a target's precision; None where it can."""
    if torch.version.cuda is None:
        return Missing(
            f"target '{target.name}': this torch ({torch.__version__}) was built without CUDA",
            target.kind.install["cuda"],
        )
    if not torch.cuda.is_available():
        return Missing(
            f"target '{target.name}': torch finds no CUDA device",
            "'nvidia-smi' shows whether the driver does; a container must be started with the GPU",
        )
    if target.precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return Missing(
            f"target '{target.name}': {torch.cuda.get_device_name()} has no bfloat16 arithmetic",
            "measure with fp16; bf16 needs compute capability 8.0",
        )
    try:  # an old driver, or a GPU that this build has no kernels for, shows only now
        torch.zeros(1, device=DEVICE).add_(1).item()
    except RuntimeError as error:
        return Missing(
            f"target '{target.name}': torch cannot use {torch.cuda.get_device_name()}: {one_line(error)}",
            target.kind.install["cuda"],
        )
    return None


def prepare_cuda() -> None:
    """Lets cuDNN try its algorithms for each shape, and float32 products use TensorFloat-32."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")


def cuda_environment() -> dict[str, str]:
    """What a latency on the GPU depends on, versions and settings; call ``prepare_cuda`` before."""
    major, minor = torch.cuda.get_device_capability()
    return {
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        "device": torch.cuda.get_device_name(),
        "compute_capability": f"{major}.{minor}",
        "driver": driver_version(),
        "tf32": "on" if torch.backends.cudnn.allow_tf32 else "off",
        "cudnn_benchmark": "on" if torch.backends.cudnn.benchmark else "off",
    }


def driver_version(path: Path = _DRIVER) -> str:
    """The version of NVIDIA's driver, as its kernel module says; ``unknown`` where it does not."""
    try:
        text = path.read_text()
    except OSError:
        return "unknown"
    found = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", text, re.MULTILINE)
    return found[1] if found else "unknown"
