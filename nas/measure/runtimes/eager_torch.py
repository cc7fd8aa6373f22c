"""torch itself, one operator after the other: on the CPU, and on NVIDIA GPUs as a CUDA graph."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import numpy as np
import torch

from nas.measure.runtimes.base import HostTimed, Missing, Session
from nas.measure.runtimes.batches import check_batch, in_batches
from nas.measure.runtimes.cuda_torch import CudaSession, cuda_environment, missing_cuda, prepare_cuda
from nas.measure.runtimes.program_torch import Forward, Program, identity_program, load_program, run_error
from nas.target import Target


class CpuSession(HostTimed):
    """A program on the CPU.

    Args:
        program: What it is.
        forward: What runs it.
        batch: The number of images that ``forward`` takes; None where it takes any.
    """

    def __init__(self, program: Program, forward: Forward, batch: int | None = None) -> None:
        self.program = program
        self.forward = forward
        self.batch = batch

    @property
    def threads(self) -> int | None:
        return torch.get_num_threads()

    def run(self, images: np.ndarray) -> np.ndarray:
        return in_batches(self._once, images, self.batch or len(images))

    def call(self, images: np.ndarray) -> Callable[[], object]:
        if self.batch is not None:
            check_batch(images, self.batch)
        self.run(images)  # refuses what does not fit
        forward, ready = self.forward, self.program.tensor(images).numpy()

        def infer() -> np.ndarray:
            with torch.inference_mode():
                return forward(torch.from_numpy(ready)).numpy()

        return infer

    def _once(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = self.program.tensor(images)
            try:
                return self.forward(batch).numpy()
            except Exception as error:  # torch's operators raise RuntimeError and whatever else
                raise run_error(error) from error


def prepare_cpu(threads: int | None) -> None:
    """Sets the threads of torch: so many inside an operator, and operators one after the other.

    The second number can be set once in a process, before torch first works; nothing here would use more than one.
    """
    torch.set_num_threads(threads or 1)
    if torch.get_num_interop_threads() != 1:
        try:
            torch.set_num_interop_threads(1)
        except RuntimeError:
            return


def cpu_environment() -> dict[str, str]:
    """What the speed of torch's own operators depends on: its version, instruction set, oneDNN and OpenMP's waiting."""
    return {
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": _mkldnn_version(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "unset"),
    }


def _mkldnn_version() -> str:
    found = re.search(r"MKL-DNN v(\S+)", torch.__config__.show())
    return found[1] if found and torch.backends.mkldnn.is_available() else "none"  # type: ignore[no-untyped-call]


class EagerTorch:
    """torch without a compiler."""

    def missing(self, target: Target) -> Missing | None:
        return missing_cuda(target) if target.device == "cuda" else None

    def load(self, content: bytes, target: Target) -> Session:
        if target.device == "cuda":
            prepare_cuda()
            program = load_program(content, "cuda", target.precision)
            return CudaSession(program, program.module.forward)
        prepare_cpu(target.threads)
        program = load_program(content, "cpu", target.precision)
        return CpuSession(program, program.module.forward)

    def environment(self, target: Target) -> dict[str, str]:
        if target.device == "cuda":
            prepare_cuda()
            return cuda_environment()
        return cpu_environment()

    def identity(self, images: np.ndarray) -> bytes:
        return identity_program(images)
