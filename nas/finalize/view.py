"""A study's designs at full budget, seen as a study: so that they are timed in turns and deployed as any other trials.

Its records are those of the seeds to ship, under the numbers of the search's trials; its front is all of them. What is
measured of it lies in the study's folder ``finalized``, and nothing of the search is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from nas.data.dataset import Dataset
from nas.deploy import Choice, Deployed, Limits, deploy
from nas.finalized import Finalized, finalized_folder
from nas.outcome import Quantity
from nas.record import TrialRecord
from nas.study import Study, StudyFolder
from nas.wording import interval, percent, plural

RULE = "final training"


class FullBudgetStudy(Study):
    """The designs of a study as they are at full budget.

    Args:
        study: The study.
        designs: What became of them.
    """

    def __init__(self, study: Study, designs: Sequence[Finalized]) -> None:
        folder = StudyFolder(finalized_folder(study.folder.path))
        super().__init__(folder, study.recipe, [done.record for done in designs])
        self.searched = study
        self.designs = tuple(designs)

    @property
    def name(self) -> str:
        return self.searched.name

    @cached_property
    def front(self) -> list[TrialRecord]:
        """All of them: each was picked, whichever others turn out to be better."""
        return list(self.records)

    @property
    def front_as_told(self) -> list[TrialRecord]:
        return self.front

    @cached_property
    def test_scores(self) -> Mapping[int, Mapping[str, Quantity]]:
        return {done.trial: done.test_scores for done in self.designs}

    def choice(self, done: Finalized) -> Choice:
        """The design as what is to be deployed, and why."""
        named = (o.target for o in self.recipe.parsed_objectives if o.name == "latency_ms")
        target = next(named, None)
        return Choice(self.record(done.trial), self._why(done, target), RULE, Limits(), target)

    def _why(self, done: Finalized, target: str | None) -> str:
        record, searched = self.record(done.trial), self.recipe.budget.epochs
        seeds = len(done.measured)
        test = done.test_accuracy
        latency = record.quantity(f"latency_ms@{target}")
        at = f" at {interval(latency)}" if latency is not None else ""
        best = f", the best of {seeds} seeds by validation accuracy" if seeds > 1 else ""
        over = (
            f" Over the seeds test accuracy is {percent(test.mean)} % ({percent(test.low)} to {percent(test.high)})."
            if seeds > 1
            else ""
        )
        return (
            f"Trial {done.trial}, trained again for {plural(done.budget.epochs, 'epoch')} (the search's {searched}) "
            f"from seed {done.best.seed}{best}: validation accuracy {percent(record.value('accuracy'))} %{at}.{over}"
        )


def ship(study: FullBudgetStudy, done: Finalized, output: Path, dataset: Dataset) -> Deployed:
    """Writes the deployment of a design's best seed, checked.

    Args:
        study: The designs at full budget.
        done: One of them.
        output: The folder to write.
        dataset: The study's data.

    Raises:
        NasError: As ``nas.deploy.deploy``.
    """
    return deploy(study, study.choice(done), output, dataset)
