"""A trial as one target serves it: the file that this target wants, and which of the trial's numbers are that file's.

A trial whose recipe names several places or targets may be served by several runtimes, and its accuracy is then the
lowest of theirs, its size that of one file. A deployment is one file on one target, and states what is true of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nas.artifact import compressed_size
from nas.compression import made_on_the_graph
from nas.data.dataset import Dataset, Split
from nas.errors import ArtifactError, StudyError
from nas.outcome import Quantity, Realisation
from nas.proxies import results
from nas.record import TrialRecord
from nas.serving import Outputs, Scores, server_of, services
from nas.study import Study
from nas.target import ONNX, TORCH_PROGRAM, Target, usable_cores
from nas.wording import listing

TORCH_EXPORTER = "torch.export"
SCORES = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class Served:
    """A trial on a target.

    Args:
        study: Whose trial.
        record: The trial.
        target: What runs it.
    """

    study: Study
    record: TrialRecord
    target: Target

    @classmethod
    def at(cls, study: Study, record: TrialRecord, name: str | None) -> Served:
        """The trial where a target or place of that name asks for it; where the recipe's first one does for None.

        Raises:
            StudyError: The trial was not measured there.
        """
        if name is None:
            return cls(study, record, services(study.recipe)[0].candidates[0])
        target = server_of(record.quantity(f"latency_ms@{name}"))
        if target is None:
            raise StudyError(f"trial {record.number} was not measured on '{name}'", "search again with --fresh")
        return cls(study, record, target)

    @property
    def artifact(self) -> bytes:
        """The file.

        Raises:
            StudyError: It is not in the study's cache.
        """
        return self.study.artifact(self.record, self.target.form)

    @property
    def version(self) -> str:
        """The runtime's version when latency was measured, or ``unknown``."""
        environment = self.record.environment
        runtimes = environment.get("runtimes", {})
        said = {**environment, **(runtimes.get(self.target.name, {}) if isinstance(runtimes, Mapping) else {})}
        return str(said.get({"inductor": "torch"}.get(self.target.runtime, self.target.runtime), "unknown"))

    @property
    def labels(self) -> Mapping[str, Realisation]:
        """For each compression choice whether this file realises it: a torch program is the float network."""
        left_out = made_on_the_graph(self.record.design.compression) if self.target.form == TORCH_PROGRAM else ()
        return {
            name: Realisation.UNSUPPORTED if name in left_out else label for name, label in self.record.labels.items()
        }

    @property
    def is_scored(self) -> bool:
        """Whether the trial's accuracy is what this runtime makes of it: no other serves the trial anywhere."""
        return {target.arithmetic for target in self._servers} == {self.target.arithmetic}

    @property
    def scored_by(self) -> str:
        """The names of the runtimes that the trial's accuracy is of, the lowest of theirs."""
        return listing(list(dict.fromkeys(target.kind.title for target in self._servers)))

    @property
    def is_weighed(self) -> bool:
        """Whether the trial's size is that of this file: it is that of the file where the recipe asks first."""
        return self._servers[0].form == self.target.form

    @property
    def _servers(self) -> list[Target]:
        """What serves the trial wherever the recipe asks for it, the first place first."""
        return [
            server_of(self.record.quantity(f"latency_ms@{service.name}")) or service.candidates[0]
            for service in services(self.study.recipe)
        ]

    def quantities(self, content: bytes, scores: Mapping[str, Quantity]) -> tuple[Quantity, ...]:
        """The trial's numbers, with the sizes and scores of this file in the place of another's.

        Args:
            content: The file.
            scores: Accuracies as this runtime has them, by name, for where ``is_scored`` is False; an accuracy that is
                another runtime's and has no such number is left out.
        """
        own: dict[str, Quantity | None] = {}
        for quantity in results(self.record):
            if quantity.key in SCORES and not self.is_scored:
                own[quantity.key] = scores.get(quantity.key)
            elif quantity.key == "size_bytes" and not self.is_weighed:
                own[quantity.key] = replace(quantity, value=len(content))
            elif quantity.key == "compressed_size_bytes" and not self.is_weighed:
                own[quantity.key] = replace(quantity, value=compressed_size(content))
            else:
                own[quantity.key] = quantity
        return tuple(quantity for quantity in own.values() if quantity is not None)

    def scores(self, dataset: Dataset, outputs: Outputs) -> Mapping[str, Quantity]:
        """Accuracies that are to be stated and that the trial's record does not hold, by name.

        These are the test scores, the study's where it has them; where the record's accuracy is another runtime's also
        those on validation data.

        Args:
            dataset: The study's data.
            outputs: Runs what does not run in this process.

        Raises:
            ArtifactError: The runtime makes something else of the artifact than ONNX Runtime does.
        """
        if self.is_scored:
            return self.test_scores(dataset.test, outputs)
        scores = self._scores(dataset.validation, outputs, "", {ONNX: self.study.artifact(self.record)})
        if not scores.is_right(self.target):
            mine, reference = scores.of(self.target)[0].value, scores.reference[0].value
            raise ArtifactError(
                f"{self.target.name} makes something else of trial {self.record.number} than ONNX Runtime: its "
                f"validation accuracy is {mine:.4f}, ONNX Runtime's {reference:.4f}",
                "serve it by another runtime: choose another --target, or none",
            )
        validation: Sequence[Quantity] = scores.of(self.target)
        return {q.name: q for q in validation} | dict(self.test_scores(dataset.test, outputs))

    def test_scores(self, test: Split, outputs: Outputs) -> Mapping[str, Quantity]:
        """Test scores by name: the study's, or where it has none of this runtime yet, measured now."""
        present = self.study.test_scores.get(self.record.number)
        if self.is_scored and present:
            return present
        return {q.name: q for q in self._scores(test, outputs, "test_", {}).of(self.target)}

    def _scores(self, split: Split, outputs: Outputs, prefix: str, others: Mapping[str, bytes]) -> Scores:
        files = {**others, self.target.form: self.artifact}
        return Scores(files, split.images, split.labels, outputs, usable_cores(), prefix)
