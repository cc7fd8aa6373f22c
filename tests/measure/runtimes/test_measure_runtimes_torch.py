"""torch and Inductor on the CPU: the same outputs as ONNX Runtime, with as many threads as asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
from nas.families.layout import keep_contiguous
from nas.measure.runtimes import inductor_torch
from nas.measure.runtimes.base import Missing
from nas.measure.runtimes.eager_torch import EagerTorch
from nas.measure.runtimes.inductor_torch import Inductor
from nas.measure.runtimes.program_torch import Program, identity_program, load_program, run_error
from nas.measure.runtimes.registry import load_runtime
from nas.target import Target

# Inductor imports parts of torch that say so of themselves.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

EAGER = Target.parse("torch-cpu-1t-b1")
EAGER_BF16 = Target.parse("torch-cpu-1t-b1-bf16")
INDUCTOR = Target.parse("inductor-cpu-1t-b2")

SPEC = InputSpec("uint8", (16, 16, 3))
NORMALISATION = Normalisation((73.0,) * 3, (90.5,) * 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SPEC.shape), dtype=np.uint8)


@dataclass(frozen=True)
class Model:
    """A network in both forms, and what it gives for ``IMAGES``."""

    program: bytes
    expected: np.ndarray


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> Model:
    network = sampled_network("resnet", (3, 16, 16)).to(memory_format=torch.channels_last)
    onnx = attach_front_end(export_body(network, (3, 16, 16)), SPEC, NORMALISATION)
    return Model(export_program(network, SPEC, NORMALISATION), probabilities(open_session(onnx), IMAGES))


# --- torch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "tolerance"), [(EAGER, 1e-5), (EAGER_BF16, 3e-2)], ids=["float32", "bf16"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_outputs_are_those_of_onnx_runtime(model: Model, target: Target, tolerance: float, count: int) -> None:
    session = EagerTorch().load(model.program, target)
    given = session.run(IMAGES[:count])
    assert (given.dtype, given.shape) == (np.float32, model.expected[:count].shape)
    assert np.abs(given - model.expected[:count]).max() <= tolerance
    assert np.abs(given.sum(1) - 1).max() < 1e-5, "the softmax is float32 in every precision"
    called = session.call(IMAGES[:count])
    assert np.array_equal(called(), given)  # type: ignore[call-overload]


def test_half_precision_is_another_arithmetic(model: Model) -> None:
    half, whole = (EagerTorch().load(model.program, target).run(IMAGES) for target in (EAGER_BF16, EAGER))
    assert np.abs(half - whole).max() > 1e-6


@pytest.mark.parametrize("threads", [1, 2])
def test_it_runs_with_the_target_s_threads_and_says_so(model: Model, threads: int) -> None:
    session = EagerTorch().load(model.program, Target("torch", "cpu", threads, 1))
    assert session.threads == threads == torch.get_num_threads()


def test_a_fresh_process_keeps_to_one_thread_between_operators_and_starts_none_beside(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
import numpy as np
from nas.measure.runtimes.eager_torch import EagerTorch
from nas.target import Target
import torch
images = np.zeros((1, 4, 4, 1), np.uint8)
runtime, target = EagerTorch(), Target.parse("torch-cpu-1t-b1")
session = runtime.load(runtime.identity(images), target)
session.call(images)()
tasks = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
print(torch.get_num_interop_threads(), torch.get_num_threads(), runtime.environment(target)["omp_wait_policy"], tasks)
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["1", "1", "PASSIVE", "1"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.astype(np.float32), "it takes uint8 of shape N×16×16×3, but got float32 of shape 5×16×16×3"),
        (IMAGES[:, :8], "but got uint8 of shape 5×8×16×3"),
        (IMAGES[0], "but got uint8 of shape 16×16×3"),
        (IMAGES[:0], "cannot be run on no images"),
    ],
    ids=["type", "shape", "no batch", "none"],
)
def test_what_it_does_not_take_is_refused(model: Model, images: np.ndarray, message: str) -> None:
    session = EagerTorch().load(model.program, EAGER)
    for use in (session.run, session.call):
        with pytest.raises(ArtifactError, match=message):
            use(images)


def test_images_that_may_not_be_written_to_or_lie_apart_are_taken(model: Model) -> None:
    session = EagerTorch().load(model.program, EAGER)
    fixed = IMAGES.copy()
    fixed.setflags(write=False)
    apart = np.repeat(IMAGES, 2, axis=0)[::2]
    for images in (fixed, apart):
        assert np.array_equal(session.run(images), session.run(IMAGES))


@pytest.mark.parametrize("runtime", [EagerTorch(), Inductor()], ids=lambda runtime: type(runtime).__name__)
def test_what_is_no_program_is_refused_in_a_line(runtime: EagerTorch | Inductor) -> None:
    with pytest.raises(ArtifactError, match="torch cannot load the model: ") as raised:
        runtime.load(b"no archive", EAGER)
    assert "\n" not in str(raised.value)


def test_want_of_memory_is_not_the_model_s_fault() -> None:
    assert isinstance(run_error(RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")), MemoryError)
    assert isinstance(run_error(MemoryError()), MemoryError)
    assert isinstance(run_error(torch.OutOfMemoryError("CUDA out of memory")), MemoryError)
    assert isinstance(run_error(RuntimeError("shapes\ndiffer")), ArtifactError)
    assert "the model cannot be run: shapes differ" in str(run_error(RuntimeError("shapes\ndiffer")))


def test_the_environment_names_what_speed_depends_on() -> None:
    environment = EagerTorch().environment(EAGER)
    assert environment["torch"] == torch.__version__
    assert set(environment) == {"torch", "instructions", "mkldnn", "omp_wait_policy"}
    assert all(isinstance(value, str) and value for value in environment.values())


@pytest.mark.parametrize(
    "images", [IMAGES, np.random.default_rng(0).random((3, 2, 4, 4), np.float32)], ids=["bytes", "floats"]
)
@pytest.mark.parametrize("target", [EAGER, EAGER_BF16], ids=lambda target: target.name)
def test_the_identity_hands_a_batch_of_any_size_on(images: np.ndarray, target: Target) -> None:
    session = EagerTorch().load(EagerTorch().identity(images), target)
    for count in (1, len(images)):
        given = session.run(images[:count])
        assert given.dtype == images.dtype
        assert np.array_equal(given, images[:count])


@pytest.mark.parametrize(("name", "kind"), [("torch", EagerTorch), ("inductor", Inductor)])
def test_the_registry_knows_them(name: str, kind: type) -> None:
    assert isinstance(load_runtime(name), kind)


# --- what a precision converts ---------------------------------------------------------------------------------------


def dtypes_by_kind(program: Program) -> dict[str, set[torch.dtype]]:
    """Types of the tensors: the front end's constants and the network's."""
    found: dict[str, set[torch.dtype]] = {"front end": set(), "network": set()}
    for name, tensor in program.module.named_buffers():
        found["front end" if name.startswith("front_end_") else "network"].add(tensor.dtype)
    return found


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_network_is_converted_and_the_front_end_is_not(model: Model, precision: str) -> None:
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    program = load_program(model.program, "cpu", precision)
    assert dtypes_by_kind(program) == {"front end": {torch.float32}, "network": {dtype}}
    seen: set[torch.dtype] = set()

    class Watching(torch.fx.Interpreter):
        def call_function(self, target, args, kwargs):  # type: ignore[no-untyped-def]
            result = super().call_function(target, args, kwargs)
            if "conv" in str(target) or "linear" in str(target):
                seen.add(result.dtype)
            return result

    with torch.no_grad():
        given = Watching(program.module).run(torch.from_numpy(IMAGES))
    assert seen == {dtype}
    assert given.dtype == torch.float32
    assert np.abs(given.numpy() - model.expected).max() < 3e-2


class Explicit(nn.Module):
    """Says float32 in its forward, and uses its input twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).to(torch.float32) + x
        out: Tensor = self.last(y.mean((2, 3)) * torch.ones(3, device=x.device))
        return out


def test_a_forward_that_says_float32_is_converted_too() -> None:
    torch.manual_seed(0)
    program = export_program(Explicit(), SPEC, NORMALISATION)
    whole, half = (EagerTorch().load(program, target).run(IMAGES) for target in (EAGER, EAGER_BF16))
    assert 0 < np.abs(half - whole).max() < 3e-2


def test_tensors_lie_as_the_network_wants_them(model: Model) -> None:
    contiguous = sampled_network("resnet", (3, 16, 16))
    keep_contiguous(contiguous)
    for content, layout in (
        (model.program, torch.channels_last),
        (export_program(contiguous, SPEC, NORMALISATION), torch.contiguous_format),
    ):
        weights = [tensor for tensor in load_program(content).module.buffers() if tensor.dim() == 4]
        assert weights
        assert all(weight.is_contiguous(memory_format=layout) for weight in weights)
        assert np.abs(EagerTorch().load(content, EAGER).run(IMAGES) - model.expected).max() <= 1e-5


# --- Inductor --------------------------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces compiling by a function that takes batches of one size alone, and notes them."""
    batches: list[int] = []

    def compiled(program: Program, target: Target):  # type: ignore[no-untyped-def]
        def forward(images: Tensor) -> Tensor:
            assert len(images) == target.batch, "any other size would be compiled anew"
            batches.append(len(images))
            return program.module.forward(images)  # type: ignore[no-any-return]

        return forward

    monkeypatch.setattr(inductor_torch, "compiled", compiled)
    return batches


@pytest.mark.parametrize(("count", "calls"), [(1, 1), (2, 1), (5, 3)])
def test_every_number_of_images_goes_through_the_compiled_batch(
    model: Model, monkeypatch: pytest.MonkeyPatch, count: int, calls: int
) -> None:
    batches = counted(monkeypatch)
    session = Inductor().load(model.program, INDUCTOR)
    assert np.abs(session.run(IMAGES[:count]) - model.expected[:count]).max() <= 1e-5
    assert batches == [INDUCTOR.batch] * calls
    with pytest.raises(ArtifactError, match="loaded for batches of 2, but got 3 images"):
        session.call(IMAGES[:3])


def test_a_compiler_s_error_is_told_in_a_line(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(*_: object, **__: object) -> object:
        def forward(images: Tensor) -> Tensor:
            raise RuntimeError("CppCompileError: C++ compile error\n\nCommand:\ng++ …")

        return forward

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(
        ArtifactError, match="Inductor cannot compile the model: CppCompileError: C\\+\\+ compile error"
    ):
        Inductor().load(model.program, INDUCTOR)


def test_without_a_c_compiler_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inductor_torch, "find_compiler", lambda: None)
    missing = Inductor().missing(INDUCTOR)
    assert isinstance(missing, Missing)
    assert missing.message == "target 'inductor-cpu-1t-b2': torch.compile finds no C++ compiler"
    assert "apt-get install g++" in missing.hint


def test_without_python_s_headers_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inductor_torch, "find_compiler", lambda: "g++")
    monkeypatch.setattr(inductor_torch.sysconfig, "get_path", lambda name: str(tmp_path))
    missing = Inductor().missing(INDUCTOR)
    assert missing is not None
    assert f"no Python.h in {tmp_path}" in missing.message
    (tmp_path / "Python.h").touch()
    assert Inductor().missing(INDUCTOR) is None


def test_a_compiler_that_cannot_be_asked_has_no_version() -> None:
    assert inductor_torch.compiler_version("/nowhere/g++") == "unknown"


@pytest.fixture
def here() -> None:
    """Skips where nothing can be compiled."""
    if (missing := Inductor().missing(INDUCTOR)) is not None:
        pytest.skip(missing.message)


@pytest.mark.usefixtures("here")
def test_the_environment_names_the_compiler() -> None:
    environment = Inductor().environment(INDUCTOR)
    assert environment["compiler"] not in ("", "unknown")
    assert environment.items() >= EagerTorch().environment(EAGER).items()


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.long
def test_compiled_outputs_are_those_of_onnx_runtime(model: Model) -> None:
    session = Inductor().load(model.program, INDUCTOR)
    assert np.abs(session.run(IMAGES) - model.expected).max() <= 1e-5
    assert np.abs(session.call(IMAGES[:2])() - model.expected[:2]).max() <= 1e-5  # type: ignore[operator]
    assert session.threads == 1


@pytest.mark.usefixtures("here")
def test_a_small_network_is_compiled_once_and_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short form: one linear layer, whose code takes seconds to compile."""
    from torch._inductor import freezing

    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16 * 16 * 3, 3))
    program = export_program(network, SPEC, NORMALISATION)
    expected = EagerTorch().load(program, EAGER).run(IMAGES)
    frozen: list[object] = []
    freeze = freezing.freeze
    monkeypatch.setattr(freezing, "freeze", lambda *given: frozen.append(given) or freeze(*given))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    session = Inductor().load(program, INDUCTOR)
    assert np.abs(session.run(IMAGES) - expected).max() <= 1e-5
    assert np.abs(session.call(IMAGES[3:])() - expected[3:]).max() <= 1e-5  # type: ignore[operator]
    assert len(frozen) == 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1, "what came later found the same code"


def test_the_identity_program_is_one_operator() -> None:
    graph = load_program(identity_program(IMAGES)).module.graph
    assert [node.op for node in graph.nodes] == ["placeholder", "call_function", "output"]
