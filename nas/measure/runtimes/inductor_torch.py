"""torch.compile with Inductor: kernels made for one network and one batch, on the CPU by a C++ compiler.

The weights are frozen, so that they are packed once for the kernels that use them, and the shape of the batch is fixed:
another number of images goes through in batches of that size, never through another way of running. What is compiled
is kept in Inductor's own cache (``TORCHINDUCTOR_CACHE_DIR``), nowhere else.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import torch

from nas.errors import ArtifactError, one_line
from nas.measure.runtimes.base import Missing, Session
from nas.measure.runtimes.cuda_torch import CudaSession, cuda_environment, missing_cuda, prepare_cuda
from nas.measure.runtimes.eager_torch import CpuSession, cpu_environment, prepare_cpu
from nas.measure.runtimes.program_torch import Forward, Program, identity_program, load_program
from nas.target import Target

# On every device. Kernels are compiled here and one after the other: a pool of compiling processes would stay, beside
# what is measured.
_OPTIONS = {"freezing": True, "compile_threads": 1}
# The calls between the kernels in C++ too: 0.35 in place of 0.42 ms for six convolutions on 28×28 pixels.
_CPU_OPTIONS = {"cpp_wrapper": True}
# The CUDA graph is captured around the whole call, copies included; see ``cuda_torch``.
_CUDA_OPTIONS = {"triton.cudagraphs": False}

# What Triton's kernels need of a GPU.
_LEAST_CAPABILITY = (7, 0)


class Inductor:
    """torch with its compiler."""

    def missing(self, target: Target) -> Missing | None:
        if target.device == "cuda":
            return missing_cuda(target) or _missing_triton(target)
        return _missing_compiler(target)

    def load(self, content: bytes, target: Target) -> Session:
        if target.device == "cuda":
            prepare_cuda()
            program = load_program(content, "cuda", target.precision)
            return CudaSession(program, compiled(program, target), target.batch)
        prepare_cpu(target.threads)
        program = load_program(content, "cpu", target.precision)
        return CpuSession(program, compiled(program, target), target.batch)

    def environment(self, target: Target) -> dict[str, str]:
        if target.device == "cuda":
            prepare_cuda()
            return cuda_environment() | {"triton": importlib.metadata.version("triton")}
        return cpu_environment() | {"compiler": compiler_version(find_compiler() or "")}

    def identity(self, images: np.ndarray) -> bytes:
        return identity_program(images)


def compiled(program: Program, target: Target) -> Forward:
    """Compiles a program for the target's batch; takes seconds.

    Raises:
        ArtifactError: Inductor or the C++ compiler refuses it.
    """
    options = _OPTIONS | (_CUDA_OPTIONS if target.device == "cuda" else _CPU_OPTIONS)
    images = np.zeros((target.batch, *(size or 1 for size in program.shape)), str(program.dtype).removeprefix("torch."))
    # The method, not the module, whose every call would cost another 40 µs.
    forward: Forward = torch.compile(program.module.forward, fullgraph=True, dynamic=False)
    try:
        with torch.inference_mode():
            # Patched, as what is passed to torch.compile comes too late for freezing: the trace asks for it first.
            with torch._inductor.config.patch(options):
                forward(program.tensor(images).to(target.device))
            # What comes later must find this code, not be compiled anew behind our back, without these options.
            with torch.compiler.set_stance("fail_on_recompile"):
                forward(program.tensor(images).to(target.device))
    except MemoryError:  # the machine's fault, not the model's
        raise
    except Exception as error:  # the compiler's errors have no common base of their own
        raise ArtifactError(f"Inductor cannot compile the model: {one_line(error, 300)}") from error
    return forward


@functools.cache
def find_compiler() -> str | None:
    """The C++ compiler that Inductor would use; None where there is none."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return str(get_cpp_compiler())
    except (InvalidCxxCompiler, RuntimeError, OSError):
        return None


@functools.cache
def compiler_version(compiler: str) -> str:
    """The first line of what a compiler says of itself, or ``unknown``."""
    try:
        said = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.partition("\n")[0].strip() or "unknown"


def _missing_compiler(target: Target) -> Missing | None:
    if find_compiler() is None:
        return Missing(
            f"target '{target.name}': torch.compile finds no C++ compiler",
            "install g++ (apt-get install g++), or name another one in the environment variable CXX",
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return Missing(
            f"target '{target.name}': torch.compile needs the C headers of Python, but there is no Python.h in "
            f"{sysconfig.get_path('include')}",
            "install them (apt-get install python3-dev)",
        )
    return None


def _missing_triton(target: Target) -> Missing | None:
    if not _find_package("triton"):
        return Missing(f"target '{target.name}': torch.compile needs Triton on a GPU", "pip install triton")
    if (capability := torch.cuda.get_device_capability()) < _LEAST_CAPABILITY:
        return Missing(
            f"target '{target.name}': Triton needs compute capability 7.0, but {torch.cuda.get_device_name()} has "
            f"{'.'.join(map(str, capability))}",
            f"measure on torch-cuda-b{target.batch} instead, which needs no compiler",
        )
    if not any(_find_program(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")):
        return Missing(
            f"target '{target.name}': Triton finds no C compiler", "install gcc (apt-get install gcc), or set CC"
        )
    return None


def _find_package(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _find_program(name: str) -> bool:
    return shutil.which(name) is not None
