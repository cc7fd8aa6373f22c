"""Where a trial is served: on a target that the recipe names, or at a place by the fastest of its targets there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.artifact import open_session, probabilities
from nas.errors import NasError
from nas.lease import working
from nas.outcome import Quantity
from nas.recipe import Recipe
from nas.scoring import score
from nas.target import Place, Target

# What a target's runtime makes of images: (file, target, images) → class probabilities, N×classes.
Outputs = Callable[[bytes, Target, np.ndarray], np.ndarray]

# What serves where a recipe asks for no latency.
DEFAULT = Target("onnxruntime", "cpu", 1, 1)

# Images at once where ONNX Runtime scores in this process.
BATCH = 256

# A runtime whose accuracy falls so far below ONNX Runtime's on the same design computes something else: it does not
# serve.
WRONG_BY = 0.02


@dataclass(frozen=True)
class Service:
    """A place or target that a recipe's objectives or constraints name.

    Args:
        name: ``cpu-b1`` or ``onnxruntime-cpu-1t-b1``: what the latency's key ends in.
        candidates: The targets that may serve there, in the recipe's order; one where the recipe names a target.
    """

    name: str
    candidates: tuple[Target, ...]

    @property
    def is_place(self) -> bool:
        """Whether the fastest of several serves."""
        return Place.parse(self.name) is not None


def services(recipe: Recipe) -> tuple[Service, ...]:
    """Where a recipe's trials are served, the objectives' first; never empty."""
    found = []
    for name in recipe.served:
        place = Place.parse(name)
        names = (name,) if place is None else recipe.targets_at(place)
        found.append(Service(name, tuple(Target.parse(text) for text in names)))
    if not found:
        first = Target.parse(recipe.all_targets[0]) if recipe.all_targets else DEFAULT
        found.append(Service(first.name, (first,)))
    return tuple(found)


def choose(
    service: Service, latencies: Mapping[str, Quantity], is_right: Callable[[Target], bool]
) -> tuple[Target | None, list[Target]]:
    """The fastest of a service's candidates that computes what it should.

    Args:
        service: Whose candidates; those without a latency could not run the artifact.
        latencies: ``latency_ms`` by target.
        is_right: Whether a runtime's outputs are as accurate as they should be; asked of the fastest first.

    Returns:
        The target (None where no candidate can serve), and the faster ones that compute something else.
    """
    measured = [target for target in service.candidates if target.name in latencies]
    wrong: list[Target] = []
    for target in sorted(measured, key=lambda target: latencies[target.name].value):
        if is_right(target):
            return target, wrong
        wrong.append(target)
    return None, wrong


def at_place(quantities: Sequence[Quantity], service: Service, served_by: Target) -> list[Quantity]:
    """The serving target's quantities under the place's name, which say who serves; none where a target was named."""
    if not service.is_place:
        return []
    return [
        replace(quantity, target=service.name, detail={**quantity.detail, "served_by": served_by.name})
        for quantity in quantities
        if quantity.target == served_by.name and quantity.name != "accuracy"
    ]


def server_of(quantity: Quantity | None) -> Target | None:
    """The target that a latency (or load time, or memory) was measured on, also where its key names a place."""
    if quantity is None or quantity.target is None:
        return None
    return Target.parse(str(quantity.detail.get("served_by", quantity.target)))


class Scores:
    """Accuracy of one trial's files by the runtimes that may serve them, each scored when it is first asked for.

    Args:
        files: The trial's files, by form.
        images: What is scored on, as the artifact takes them.
        labels: Their classes.
        outputs: How other runtimes than ONNX Runtime on the CPU are run.
        threads: Threads of ONNX Runtime, which runs in this process: its outputs do not depend on them.
        prefix: Put before the quantities' names, such as ``"test_"``.
        here: Whether ONNX Runtime on the CPU is this process's; on another machine it may compute otherwise.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        images: np.ndarray,
        labels: np.ndarray,
        outputs: Outputs | None,
        threads: int,
        prefix: str = "",
        here: bool = True,
    ) -> None:
        self.here = here
        self.files = files
        self.images = images
        self.labels = labels
        self.outputs = outputs
        self.threads = threads
        self.prefix = prefix
        self._scores: dict[tuple[str, str, str | None], tuple[Quantity, Quantity]] = {}

    @property
    def reference(self) -> tuple[Quantity, Quantity]:
        """What ONNX Runtime makes of the ONNX file."""
        return self.of(DEFAULT)

    def of(self, target: Target) -> tuple[Quantity, Quantity]:
        """Accuracy and balanced accuracy as a target's runtime computes."""
        key = target.arithmetic
        if key not in self._scores:
            file = self.files[target.form]
            if key == DEFAULT.arithmetic and self.here:
                outputs = self._by_onnx_runtime(file)
            elif self.outputs is not None:
                outputs = self.outputs(file, target, self.images)
            else:
                raise NasError(f"nothing was given to run {target.kind.title} with")
            self._scores[key] = score(outputs, self.labels, self.prefix)
        return self._scores[key]

    def _by_onnx_runtime(self, file: bytes) -> np.ndarray:
        """Probabilities of all images, in this process, which lets others measure between batches."""
        session = open_session(file, self.threads)
        parts = []
        for start in range(0, len(self.images), BATCH):
            with working():
                parts.append(probabilities(session, self.images[start : start + BATCH]))
        return np.concatenate(parts)

    def is_right(self, target: Target) -> bool:
        """Whether a runtime makes of the artifact what it is: no worse than ONNX Runtime by ``WRONG_BY``."""
        return self.of(target)[0].value >= self.reference[0].value - WRONG_BY

    def lowest(self, served: Iterable[Target]) -> tuple[Quantity, Quantity]:
        """Accuracy and balanced accuracy of the target with the lowest accuracy, so that it holds on all that serve."""
        return min((self.of(target) for target in served), key=lambda pair: pair[0].value)

    def of_others(self, served: Sequence[Target]) -> list[Quantity]:
        """The accuracy on each target that serves, where they are several runtimes; else nothing."""
        if len({target.arithmetic for target in served}) < 2:
            return []
        return [replace(self.of(target)[0], target=target.name) for target in served]

    def of_served(self, serving: Iterable[Target]) -> list[Quantity]:
        """A trial's accuracy, the lowest of the targets that serve it, and where these are several runtimes each's."""
        served = list(dict.fromkeys(serving))
        return [*self.lowest(served), *self.of_others(served)]
