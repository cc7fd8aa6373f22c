"""How a deployed model is run: the runtime, all that its latency depends on, and the file that this runtime wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nas.artifact import whole_number
from nas.target import ONNX, SYMMETRIC, TORCH_PROGRAM, Place, Target
from nas.wording import target_words

# The model's file by its form.
MODEL_FILES: Mapping[str, str] = {ONNX: "model.onnx", SYMMETRIC: "model.onnx", TORCH_PROGRAM: "model.pt2"}

MOST_THREADS = 1024  # far beyond where more threads help; a larger number is a mistake, and its threads would hang


@dataclass(frozen=True)
class Serving:
    """How the model was run when it was measured, and should be served.

    Args:
        runtime: A name of ``nas.target.RUNTIMES``: ``onnxruntime``, ``openvino``, ``torch``, …
        runtime_version: The version that it was measured with.
        device: ``cpu`` or ``cuda``.
        threads: Threads inside an operator; None on a GPU.
        batch: Images in one call when latency was measured; None where it was not.
        target: The name of all that, to which latencies refer; None where no latency was measured.
        precision: Of the arithmetic, where that is not the model's own: ``fp16``, ``bf16``.
        place: Where it is the fastest of several that may serve (``cpu-b1``); None where the target itself was named.
    """

    runtime: str
    runtime_version: str
    device: str
    threads: int | None
    batch: int | None
    target: str | None
    precision: str | None = None
    place: str | None = None

    @classmethod
    def on(cls, target: Target, version: str, measured: bool = True, place: str | None = None) -> Serving:
        """Serving as a target does it; where no latency was ``measured`` there is neither batch nor name."""
        return cls(
            runtime=target.runtime,
            runtime_version=version,
            device=target.device,
            threads=target.threads,
            batch=target.batch if measured else None,
            target=target.name if measured else None,
            precision=target.precision,
            place=place,
        )

    @property
    def as_target(self) -> Target:
        """What runs the model; batches of one where none was measured."""
        return Target(self.runtime, self.device, self.threads, self.batch or 1, self.precision)

    @property
    def form(self) -> str:
        """The form of the model that the runtime wants (see ``nas.target``)."""
        return self.as_target.form

    @property
    def model_file(self) -> str:
        """The name of the model's file: ``model.onnx``, or ``model.pt2`` for a torch program."""
        return MODEL_FILES[self.form]

    @property
    def runs_here(self) -> bool:
        """Whether this process can run it by ONNX Runtime, which is always installed; others get one of their own."""
        return (self.runtime, self.device) == ("onnxruntime", "cpu")

    @property
    def words(self) -> str:
        """``OpenVINO, CPU, 2 threads, batch 1``."""
        words = target_words(self.as_target.name)
        return words if self.batch is not None else words.removesuffix(", batch 1")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Serving:
        """Reads what ``to_json`` gives, also without precision and place, which deployments of before do not have.

        Raises:
            TypeError, ValueError, NasError: A field is missing, unknown, or not what it must be.
        """
        serving = cls(**data)
        for name in ("runtime", "runtime_version", "device", "target", "precision", "place"):
            value = getattr(serving, name)
            if not isinstance(value, str) and not (name in ("target", "precision", "place") and value is None):
                raise TypeError(f"serving.{name} must be a text, but is {value!r:.40}")
        if serving.threads is not None or serving.device != "cuda":
            whole_number("serving.threads", serving.threads, MOST_THREADS)
        if serving.batch is not None:
            whole_number("serving.batch", serving.batch)
        if serving.place is not None and Place.parse(serving.place) is None:
            raise ValueError(f"serving.place must be of the form cpu-b1, but is '{serving.place:.40}'")
        name = Target.parse(serving.as_target.name).name
        if serving.target not in (None, name):
            raise ValueError(f"serving.target is '{serving.target}', but the rest of serving says '{name}'")
        return serving
