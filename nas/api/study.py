"""A study as the API shows it, and what is picked from it."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas import study as studies
from nas.api.deployment import Deployment
from nas.deploy import Choice, Limits, choose, load_deployment
from nas.deploy.preference import Weights
from nas.errors import UnsupportedError
from nas.finalized import Finalized
from nas.front import hypervolume
from nas.outcome import How
from nas.record import TrialRecord
from nas.report.picking import seed_spread

if TYPE_CHECKING:
    import pandas

    from nas.report.compare import Comparison


class Study:
    """A study as it stood when it was opened.

    Args:
        study: The same, with all that the package itself reads off it.
        ended: Why the search ended, in words; empty for a study that was only opened.
    """

    def __init__(self, study: studies.Study, ended: str = "") -> None:
        self.study = study
        self.ended = ended

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.study.folder.path

    @property
    def trials(self) -> list[TrialRecord]:
        """Every trial, by number, however it ended."""
        return list(self.study.records)

    @property
    def hypervolume(self) -> float:
        """The share of the box between reference and ideal that the front dominates, 0 to 1."""
        study = self.study
        if study.reference is None:
            return 0.0
        objectives, constraints = study.recipe.parsed_objectives, study.recipe.parsed_constraints
        return hypervolume(study.records, study.reference, objectives, constraints)

    def front(self) -> list[TrialRecord]:
        """The trials that no other is better than in everything, cheapest first.

            [(trial.number, trial.value("accuracy")) for trial in study.front()]

        Raises:
            StudyError: Their latencies were measured on more than one machine, and so cannot be compared.
        """
        return list(self.study.front)

    def pick(
        self,
        max_latency_ms: float | None = None,
        min_accuracy: float | None = None,
        max_size_bytes: int | None = None,
        target: str | None = None,
        knee: bool = False,
        *,
        max_p95_ms: float | None = None,
        min_fps: float | None = None,
        weigh: str | None = None,
    ) -> Picked:
        """Chooses a trial of the front under limits or by weights, as ``nas pick`` does.

            study.pick(min_accuracy=0.97)        # the fastest that is accurate enough
            study.pick(max_latency_ms=0.03)      # the most accurate that is fast enough
            study.pick()                         # the knee, where more speed begins to cost

        Args:
            max_latency_ms: Largest latency (median).
            min_accuracy: Smallest validation accuracy, 0 to 1.
            max_size_bytes: Largest file.
            target: What latency is of: a target or a place; by default the first objective's.
            knee: Take the knee of those that meet the limits.
            max_p95_ms: 95 % of the calls within so many milliseconds.
            min_fps: Smallest throughput, in images a second.
            weigh: The best weighed sum of those that meet the limits: ``accuracy=2,latency=1`` says that a point of
                accuracy is worth two halvings of latency.

        Raises:
            NothingFeasibleError: None meets the limits; the message names the nearest.
            NasError: A limit is no such number, the target unknown, or the weights cannot be read.
        """
        limits = Limits(max_latency_ms, min_accuracy, max_size_bytes, target, max_p95_ms, min_fps)
        preference = None if weigh is None else Weights.parse(weigh)
        spread = seed_spread(self.study)
        return Picked(self, choose(self.study, limits, knee=knee, preference=preference, spread=spread))

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each trial, all with the same keys; None where a trial has no such value.

        Keys are ``trial``, ``outcome``, ``on_front``, ``words`` (the design), ``seconds``, every result by its key
        (``accuracy``, ``latency_ms@onnxruntime-cpu-1t-b1``, ``size_bytes``, ``test_accuracy``), and every choice of the
        designs by its name (``stem.width``, ``weight_bits``).
        """
        from nas.describe import describe

        front = {trial.number for trial in self.study.front}
        rows = []
        for record in self.study.records:
            design = record.design
            scores = self.study.test_scores.get(record.number, {}).values()
            results = [quantity for quantity in record.quantities if quantity.how is not How.PROXY]
            rows.append(
                {"trial": record.number, "outcome": str(record.outcome), "on_front": record.number in front}
                | {"words": describe(design), "seconds": record.seconds}
                | {quantity.key: quantity.value for quantity in (*results, *scores)}
                | {**design.architecture, **design.compression}
            )
        columns = dict.fromkeys(name for row in rows for name in row)
        return [{name: row.get(name) for name in columns} for row in rows]

    def to_dataframe(self) -> pandas.DataFrame:
        """``rows`` as a data frame, with the trial's number for index.

        Raises:
            UnsupportedError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UnsupportedError("a data frame needs pandas", "pip install pandas, or use rows()") from error
        rows = self.rows()
        return pandas.DataFrame(rows).set_index("trial") if rows else pandas.DataFrame()

    def report(self) -> Path:
        """Writes the page, and the front as a picture and as tables, into the study's folder; says where the page lies.

        Raises:
            StudyError: The folder cannot be written.
        """
        from nas.report.files import write_front_files
        from nas.report.page import write_page
        from nas.report.picture import draw_front

        write_front_files(self.study)
        draw_front(self.study, self.study.folder.picture)
        write_page(self.study, self.study.folder.page)
        return self.study.folder.page

    def finalize(
        self,
        *trials: int,
        epochs: int | None = None,
        finetune_epochs: int | None = None,
        seeds: int = 3,
        progress: bool = True,
    ) -> list[Finalized]:
        """Trains designs again at full budget from several seeds, as ``nas finalize`` does, and keeps the results.

            full = study.finalize(9, 19, epochs=60)    # full[0].accuracy.mean, full[0].test_accuracy.mean

        Args:
            trials: Numbers of trials; the whole front where none is named.
            epochs: Of the training; five times the search's by default.
            finetune_epochs: After compression; longer by the same factor by default.
            seeds: How many trainings of each design.
            progress: Show a bar, in a notebook or terminal.

        Raises:
            NasError: There is no such trial, the data changed, or another process is at work in the folder.
        """
        from nas.finalize.plan import Asked
        from nas.finalize.run import finalize
        from nas.progress_bar import ProgressBar

        asked = Asked(trials, epochs, finetune_epochs, seeds)
        with ProgressBar(progress) as bar:
            done = finalize(self.folder, asked, bar.note, bar.share)
        self.study = studies.Study.open(self.folder)
        return list(done.designs)

    def compare(self, *others: Study, anyway: bool = False) -> Comparison:
        """Puts studies on one reference, as ``nas compare`` does: hypervolumes, coverage, who is ahead where.

        Args:
            others: One or more other studies.
            anyway: Compare although data or machines differ.

        Raises:
            NasError: Data or machines differ, or no objective is shared.
        """
        from nas.report.compare import compare

        return compare([self.study, *(other.study for other in others)], anyway)

    def __str__(self) -> str:
        """The front as a table, as ``nas front`` prints it."""
        from rich.console import Console

        from nas.report.table import front_table

        console = Console(width=100, markup=False, highlight=False, color_system=None)
        with console.capture() as captured:
            console.print(front_table(self.study))
        return captured.get()

    def __repr__(self) -> str:
        counts = f"{len(self.study.records)} trials, {len(self.study.front)} on the front"
        return f"<nas.Study {str(self.folder)!r}: {counts}>"

    def _repr_html_(self) -> str:
        """The same table in a notebook."""
        return f"<pre>{html.escape(str(self))}</pre>"


@dataclass(frozen=True)
class Picked:
    """A trial that was chosen, and why.

    Args:
        study: Of which study.
        choice: The same, with all that the package itself knows of it.
    """

    study: Study
    choice: Choice

    @property
    def trial(self) -> TrialRecord:
        """The trial."""
        return self.choice.record

    @property
    def runner_up(self) -> TrialRecord | None:
        """What would have been chosen without this one; None where nothing else meets the limits."""
        return self.choice.runner_up

    @property
    def why(self) -> str:
        """Why this one, in a sentence with numbers."""
        return self.choice.why

    def deploy(self, folder: str | Path) -> Deployment:
        """Writes the deployment, checks it on the study's data, and loads it, as ``nas pick --output`` does.

            deployment = study.pick(min_accuracy=0.97).deploy("deploy")

        Args:
            folder: Where to; a deployment that lies there is replaced.

        Raises:
            NasError: The data or the artifact is gone, the folder holds something else, or what was written does not
                do what the trial promises; then nothing is in place.
        """
        from nas import data
        from nas.deploy import check_output, deploy

        output = Path(folder)
        check_output(output)
        study = self.study.study
        deploy(study, self.choice, output, data.load(study.recipe.data))
        return Deployment(load_deployment(output))

    def __str__(self) -> str:
        return self.why
