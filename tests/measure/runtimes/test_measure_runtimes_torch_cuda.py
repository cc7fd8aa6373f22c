"""CUDA by torch: the order of events and graph by fakes that run on any machine, and the whole where a GPU is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_networks import sampled_network
from torch import Tensor, nn

from nas.artifact import InputSpec, open_session, probabilities
from nas.compress.export import attach_front_end, export_body
from nas.compress.program import export_program
from nas.data.normalise import Normalisation
from nas.errors import ArtifactError
from nas.measure.clock import Policy, sample_timed
from nas.measure.runtimes import cuda_torch, inductor_torch
from nas.measure.runtimes.cuda_torch import (
    WARM_UP_CALLS,
    CudaSession,
    cuda_environment,
    driver_version,
    missing_cuda,
    prepare_cuda,
)
from nas.measure.runtimes.eager_torch import EagerTorch
from nas.measure.runtimes.inductor_torch import Inductor
from nas.measure.runtimes.program_torch import load_program, run_error
from nas.recipe import load_recipe
from nas.target import RUNTIMES, Target

FP16 = Target.parse("torch-cuda-b1-fp16")
BF16 = Target.parse("torch-cuda-b1-bf16")
FLOAT = Target.parse("torch-cuda-b2")
COMPILED = Target.parse("inductor-cuda-b1-fp16")

SPEC = InputSpec("uint8", (16, 16, 3))
NORMALISATION = Normalisation((73.0,) * 3, (90.5,) * 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SPEC.shape), dtype=np.uint8)
NO_GPU = not torch.cuda.is_available()


# --- fakes -----------------------------------------------------------------------------------------------------------


class FakeEvent:
    """An event of a GPU's clock, which shows 2.5 µs more at each recording."""

    clock_ms = 0.0

    def __init__(self, log: list[str], enable_timing: bool) -> None:
        assert enable_timing
        self.log = log
        self.at = 0.0

    def record(self) -> None:
        FakeEvent.clock_ms += 0.0025
        self.at = FakeEvent.clock_ms
        self.log.append("record")

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def elapsed_time(self, end: FakeEvent) -> float:
        return end.at - self.at


class FakeGraph:
    """Remembers what was captured, and that it was replayed or freed."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def replay(self) -> None:
        self.log.append("replay")

    def reset(self) -> None:
        self.log.append("reset")


class FakeStream:
    def wait_stream(self, other: FakeStream) -> None: ...


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a GPU would have been asked to do: a CPU does the arithmetic, and what is captured runs at once."""
    written: list[str] = []

    @contextmanager
    def capture(graph: FakeGraph) -> Iterator[None]:
        written.append("capture")
        yield
        written.append("captured")

    @contextmanager
    def on(stream: FakeStream) -> Iterator[None]:
        written.append("side stream")
        yield

    fakes = {
        "Event": lambda enable_timing=False: FakeEvent(written, enable_timing),
        "CUDAGraph": lambda: FakeGraph(written),
        "graph": capture,
        "Stream": FakeStream,
        "stream": on,
        "current_stream": FakeStream,
        "synchronize": lambda: written.append("wait for the GPU"),
        "empty_cache": lambda: written.append("empty the cache"),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(cuda_torch, "DEVICE", "cpu")

    def pinned(tensor: Tensor) -> Tensor:
        written.append("pin")
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    return written


@pytest.fixture(scope="module")
def model() -> tuple[bytes, np.ndarray]:
    """A program, and what ONNX Runtime gives for ``IMAGES``."""
    network = sampled_network("resnet", (3, 16, 16)).to(memory_format=torch.channels_last)
    onnx = attach_front_end(export_body(network, (3, 16, 16)), SPEC, NORMALISATION)
    return export_program(network, SPEC, NORMALISATION), probabilities(open_session(onnx), IMAGES)


@pytest.fixture
def session(log: list[str], model: tuple[bytes, np.ndarray]) -> CudaSession:
    program = load_program(model[0])

    def forward(images: Tensor) -> Tensor:
        log.append(f"network on {len(images)}")
        return program.module.forward(images)  # type: ignore[no-any-return]

    return CudaSession(program, forward)


# --- one call --------------------------------------------------------------------------------------------------------


def test_a_call_is_warmed_up_aside_then_captured(session: CudaSession, log: list[str]) -> None:
    session.call(IMAGES[:1])
    expected = [
        "pin",  # the batch, on the host
        "side stream",
        *["network on 1"] * WARM_UP_CALLS,
        "wait for the GPU",
        "pin",  # room for the probabilities
        *("capture", "network on 1", "captured"),
    ]
    assert log == expected


def test_a_replay_lies_between_two_events_and_is_waited_for(session: CudaSession, log: list[str]) -> None:
    call = session.call(IMAGES[:1])
    del log[:]
    assert session.timed(call)() == 2500, "nanoseconds between the events, on the GPU's clock"
    assert log == ["record", "replay", "record", "synchronize"]
    call()
    assert log == ["record", "replay", "record", "synchronize"] * 2


def test_the_capture_copies_in_runs_and_copies_out(session: CudaSession, model: tuple[bytes, np.ndarray]) -> None:
    """The fake runs what is captured at once, so the output lies on the host when the call is made."""
    call = session.call(IMAGES[:2])
    assert np.abs(np.asarray(call()) - model[1][:2]).max() <= 1e-5
    assert isinstance(call, cuda_torch.CapturedCall)
    assert np.array_equal(call.device_input.numpy(), IMAGES[:2])
    assert np.array_equal(call.host_input.numpy(), IMAGES[:2])


def test_samples_are_the_gpu_s(session: CudaSession) -> None:
    policy = Policy(warmup_ms=0.01, minimum_samples=20, minimum_ms=0.01, maximum_ms=1)
    samples = sample_timed(session.timed(session.call(IMAGES[:1])), policy)
    assert set(samples.tolist()) == {2500}


def test_what_was_not_captured_is_timed_by_the_host(session: CudaSession) -> None:
    now = iter([10, 17])
    assert session.timed(lambda: None, lambda: next(now))() == 7


def test_closing_frees_every_graph(session: CudaSession, log: list[str]) -> None:
    session.call(IMAGES[:1])
    session.call(IMAGES[:2])
    del log[:]
    session.close()
    session.close()
    assert log == ["reset", "reset", "empty the cache", "empty the cache"]


def test_outputs_are_those_of_onnx_runtime(session: CudaSession, model: tuple[bytes, np.ndarray]) -> None:
    assert session.threads is None
    for count in (1, 5):
        assert np.abs(session.run(IMAGES[:count]) - model[1][:count]).max() <= 1e-5


def test_a_compiled_batch_is_the_only_one(log: list[str], model: tuple[bytes, np.ndarray]) -> None:
    program = load_program(model[0])
    sizes: list[int] = []

    def forward(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return program.module.forward(images)  # type: ignore[no-any-return]

    session = CudaSession(program, forward, batch=2)
    assert np.abs(session.run(IMAGES) - model[1]).max() <= 1e-5
    assert sizes == [2, 2, 2]
    with pytest.raises(ArtifactError, match="loaded for batches of 2, but got 1 images"):
        session.call(IMAGES[:1])


@pytest.mark.parametrize(
    ("images", "message"),
    [(IMAGES.astype(np.float32), "it takes uint8 of shape N×16×16×3"), (IMAGES[:0], "cannot be run")],
    ids=["type", "none"],
)
def test_what_it_does_not_take_is_refused(session: CudaSession, images: np.ndarray, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        session.run(images)
    with pytest.raises(ArtifactError, match="cannot be run"):
        session.call(images)


def test_what_a_gpu_refuses_is_told_in_a_line(log: list[str], model: tuple[bytes, np.ndarray]) -> None:
    def forward(images: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")

    session = CudaSession(load_program(model[0]), forward)
    for use in (session.run, session.call):
        with pytest.raises(ArtifactError, match="CUDA error: operation not permitted when stream is capturing"):
            use(IMAGES)
    assert isinstance(run_error(torch.OutOfMemoryError("CUDA out of memory")), MemoryError)


# --- what is missing -------------------------------------------------------------------------------------------------


def with_gpu(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """As if torch had a GPU that can do everything, but for the changes."""
    values: dict[str, object] = {
        "is_available": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: True,
        "get_device_name": lambda: "NVIDIA Test",
        "get_device_capability": lambda: (9, 0),
    } | changes
    monkeypatch.setattr(torch.version, "cuda", values.pop("version", "13.0"))
    for name, value in values.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(cuda_torch, "DEVICE", "cpu")


def test_a_gpu_that_can_do_everything_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpu(monkeypatch)
    for target in (FP16, BF16, FLOAT):
        assert EagerTorch().missing(target) is None


@pytest.mark.parametrize(
    ("target", "changes", "message", "hint"),
    [
        (FP16, {"version": None}, r"this torch \(.*\) was built without CUDA", RUNTIMES["torch"].install["cuda"]),
        (FP16, {"is_available": lambda: False}, "torch finds no CUDA device", "nvidia-smi"),
        (BF16, {"is_bf16_supported": lambda including_emulation: False}, "NVIDIA Test has no bfloat16", "fp16"),
    ],
    ids=["build", "device", "bf16"],
)
def test_what_is_missing_is_said_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, target: Target, changes: dict[str, object], message: str, hint: str
) -> None:
    with_gpu(monkeypatch, **changes)
    missing = missing_cuda(target)
    assert missing is not None
    assert missing.message.startswith(f"target '{target.name}': ")
    assert re.search(message, missing.message)
    assert hint in missing.hint


def test_fp16_asks_for_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpu(monkeypatch, is_bf16_supported=lambda including_emulation: False)
    assert missing_cuda(FP16) is None


def test_a_driver_that_fails_at_the_first_use_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpu(monkeypatch)

    def zeros(*_: object, **__: object) -> Tensor:
        raise RuntimeError("no kernel image is available\nfor execution on the device")

    monkeypatch.setattr(torch, "zeros", zeros)
    missing = missing_cuda(FP16)
    assert missing is not None
    assert "cannot use NVIDIA Test: no kernel image is available for execution on the device" in missing.message


@pytest.mark.parametrize(
    ("changes", "packages", "programs", "message"),
    [
        ({}, {"triton"}, {"gcc"}, None),
        ({"version": None}, {"triton"}, {"gcc"}, "was built without CUDA"),
        ({}, set(), {"gcc"}, "needs Triton on a GPU"),
        (
            {"get_device_capability": lambda: (6, 1)},
            {"triton"},
            {"gcc"},
            "needs compute capability 7.0, but .* has 6.1",
        ),
        ({}, {"triton"}, set(), "Triton finds no C compiler"),
    ],
    ids=["nothing", "build", "triton", "old", "compiler"],
)
def test_what_inductor_lacks_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    packages: set[str],
    programs: set[str],
    message: str | None,
) -> None:
    with_gpu(monkeypatch, **changes)
    monkeypatch.setattr(inductor_torch, "_find_package", lambda name: name in packages)
    monkeypatch.setattr(inductor_torch, "_find_program", lambda name: name in programs)
    missing = Inductor().missing(COMPILED)
    if message is None:
        assert missing is None
        return
    assert missing is not None
    assert re.search(message, missing.message)
    assert missing.hint


@pytest.mark.skipif(not NO_GPU, reason="this machine has a GPU")
@pytest.mark.parametrize("runtime", [EagerTorch(), Inductor()], ids=lambda runtime: type(runtime).__name__)
def test_here_it_is_missing(runtime: EagerTorch | Inductor) -> None:
    assert runtime.missing(FP16) is not None


# --- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
            "GCC version:  gcc version 12.3.0 (Ubuntu)\n",
            "550.54.15",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95  Release Build\n", "580.95"),
        ("something else 1.2.3\n", "unknown"),
    ],
    ids=["closed", "open", "none"],
)
def test_the_driver_s_version_is_the_kernel_module_s(tmp_path: Path, text: str, version: str) -> None:
    path = tmp_path / "version"
    path.write_text(text)
    assert driver_version(path) == version


def test_without_a_driver_its_version_is_unknown(tmp_path: Path) -> None:
    assert driver_version(tmp_path / "nothing") == "unknown"


def test_settings_are_made_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = SimpleNamespace(benchmark=False, allow_tf32=False, version=lambda: 91002)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    monkeypatch.setattr(cuda_torch, "driver_version", lambda: "580.95")
    with_gpu(monkeypatch)
    before = torch.get_float32_matmul_precision()
    try:
        prepare_cuda()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    environment = cuda_environment()
    assert environment == {
        "torch": torch.__version__,
        "cuda": "13.0",
        "cudnn": "91002",
        "device": "NVIDIA Test",
        "compute_capability": "9.0",
        "driver": "580.95",
        "tf32": "on",
        "cudnn_benchmark": "on",
    }


# --- a program for a GPU ---------------------------------------------------------------------------------------------


class SaysDevice(nn.Module):
    """Makes a tensor where its input lies, which an export on the CPU writes down as the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(x.mean((2, 3)) + torch.ones(3, device=x.device))
        return out


def test_a_program_is_moved_with_all_that_it_says_of_devices() -> None:
    """``meta`` stands for any other device: tensors without values."""
    program = load_program(export_program(SaysDevice(), SPEC, NORMALISATION), "meta", "fp16")
    assert {tensor.device.type for tensor in program.module.buffers()} == {"meta"}
    given = program.module.forward(torch.zeros(5, *SPEC.shape, dtype=torch.uint8, device="meta"))
    assert (given.device.type, tuple(given.shape), given.dtype) == ("meta", (5, 4), torch.float32)


# --- where there is a GPU --------------------------------------------------------------------------------------------


@pytest.mark.skipif(NO_GPU, reason="no CUDA device")
@pytest.mark.parametrize(
    ("target", "tolerance"),
    [(FLOAT, 1e-2), (FP16, 1e-2), (BF16, 5e-2)],
    ids=lambda value: str(getattr(value, "name", "")),
)
def test_a_gpu_gives_what_onnx_runtime_gives(model: tuple[bytes, np.ndarray], target: Target, tolerance: float) -> None:
    runtime = EagerTorch()
    if (missing := runtime.missing(target)) is not None:
        pytest.skip(missing.message)
    session = runtime.load(model[0], target)
    assert np.abs(session.run(IMAGES) - model[1]).max() <= tolerance
    call = session.call(IMAGES[: target.batch])
    for _ in range(3):
        assert np.abs(np.asarray(call()) - model[1][: target.batch]).max() <= tolerance
    assert all(0 < session.timed(call, lambda: 0)() < 1e9 for _ in range(10))
    session.close()
    assert set(runtime.environment(target)) >= {"cuda", "cudnn", "device", "driver", "tf32"}


@pytest.mark.slow
@pytest.mark.skipif(NO_GPU, reason="no CUDA device")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_gpu_runs_what_inductor_compiled(model: tuple[bytes, np.ndarray]) -> None:
    runtime = Inductor()
    if (missing := runtime.missing(COMPILED)) is not None:
        pytest.skip(missing.message)
    session = runtime.load(model[0], COMPILED)
    assert np.abs(session.run(IMAGES) - model[1]).max() <= 1e-2
    assert np.abs(np.asarray(session.call(IMAGES[:1])()) - model[1][:1]).max() <= 1e-2
    session.close()


@pytest.mark.skipif(NO_GPU, reason="no CUDA device")
@pytest.mark.parametrize("runtime", [EagerTorch()], ids=["torch"])
def test_the_identity_comes_back_from_a_gpu(runtime: EagerTorch) -> None:
    if (missing := runtime.missing(FLOAT)) is not None:
        pytest.skip(missing.message)
    session = runtime.load(runtime.identity(IMAGES), FLOAT)
    assert np.array_equal(np.asarray(session.call(IMAGES[:2])()), IMAGES[:2])
    session.close()


def test_the_shipped_recipe_for_a_gpu_names_its_targets() -> None:
    recipe = load_recipe(Path(__file__).parents[3] / "studies" / "fashion-mnist-gpu.yaml")
    assert [Target.parse(name) for name in recipe.served] == [Target("onnxruntime", "cpu", 1, 1), FP16]
    assert recipe.training.device == "cuda"
