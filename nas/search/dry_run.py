"""The dry run: what a search would do, and what that is reckoned from, without writing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.measure.measurer import Measurer
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.costs import Costs, costs_of, duration, steps_of
from nas.search.on_ray import OnRay
from nas.search.opening import BASELINE_AFTER, DEAR
from nas.search.plan import Plan, baseline_is_left_out, epochs_begun, plan
from nas.search.prepare import prepare
from nas.search.prepared import Prepared
from nas.search.probe import PROBE_SECONDS, probe_costs
from nas.search.rule import supernet_seconds
from nas.search.samplers import STARTUP_TRIALS
from nas.space import SearchSpace
from nas.stages import Progress
from nas.study import StudyFolder, check_one_machine, read_trials
from nas.wording import epochs_words, listing, plural

_TRIED_HERE = "what a trial costs is tried on this machine, alone; the cluster's nodes may be faster or slower"


@dataclass(frozen=True)
class DryRun:
    """What a search would do.

    Args:
        recipe: What it would search.
        space: Its search space.
        costs: What trials cost.
        plan: What it would do.
        records: The trials that its folder holds already.
        starts: How many designs a prior (``prior``) and earlier studies (``warm``) give it to begin with.
        notes: What is there: data, space, teacher, earlier studies, in words.
    """

    recipe: Recipe
    space: SearchSpace
    costs: Costs
    plan: Plan
    records: tuple[TrialRecord, ...]
    starts: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def budget(self) -> str:
        """The budget in words: ``40 trials``, ``10 minutes``, ``40 trials or 10 minutes, whichever comes first``."""
        budget = self.recipe.budget
        ends = [plural(budget.trials, "trial")] if budget.trials is not None else []
        if budget.minutes is not None:
            ends.append(f"{budget.minutes:g} minute{'' if budget.minutes == 1 else 's'}")
        return f"{' or '.join(ends)}, whichever comes first" if len(ends) == 2 else ends[0]

    def sentences(self) -> Iterator[str]:
        """What it would do, in a few plain sentences."""
        yield f"Strategy {self.plan.strategy}: {self.plan.why}."
        if self.records:
            yield f"It goes on from {plural(len(self.records), 'trial')} that are there already."
        yield from self._beginning()
        yield from {"guided": self._guided, "plain": self._plain, "supernet": self._supernet}[self.plan.strategy]()
        patience = self.recipe.budget.patience_minutes
        if patience is not None:
            yield f"It ends early when the hypervolume has not grown for {patience:g} minutes."

    def _beginning(self) -> Iterator[str]:
        if self.records:
            return
        waits = self._baseline_waits()
        first = ["the baseline"] if self.space.baseline is not None and waits is None else []
        if self.space.first:
            first.append(f"{plural(len(self.space.first), 'design')} that the space names")
        for origin, source in (("prior", "the sensitivity"), ("warm", "earlier studies")):
            if self.starts.get(origin):
                first.append(f"{plural(self.starts[origin], 'design')} from {source}")
        if first:
            yield f"It begins with {listing(first)}."
        if waits is not None:
            yield waits

    def _baseline_waits(self) -> str | None:
        """What is made of a baseline that is too dear to begin with; None where it is not."""
        minutes, takes = self.recipe.budget.minutes, self.costs.baseline
        if self.space.baseline is None or self.plan.strategy == "plain" or minutes is None:
            return None
        if takes <= DEAR * self.costs.mean_trial:
            return None
        if baseline_is_left_out(self.recipe, self.costs):
            return f"The baseline would take about {duration(takes)} of {minutes:g} minutes and is left out."
        later = BASELINE_AFTER * takes
        return f"The baseline, of about {duration(takes)}, comes after about {duration(later)}: others are cheaper."

    def _plain(self) -> Iterator[str]:
        low, median, high = self.plan.trials_expected
        among = "" if low == high else f" ({low:,} to {high:,})"
        yield f"About {plural(median, 'trial')}{among} in about {duration(self.plan.seconds)}, each trained to its end."

    def _guided(self) -> Iterator[str]:
        parts, low, median, high = self.recipe.guided, *self.plan.trials_expected
        among = "" if low == high else f" ({low:,} to {high:,})"
        ending = "each trained to its end"
        if self.plan.rungs:
            rungs = listing([f"{epochs:g}" for epochs in self.plan.rungs])
            _, through = epochs_begun(self.plan.rungs, self.recipe.budget.epochs, parts.reduction)
            ending = (
                f"judged after {rungs} of {plural(self.recipe.budget.epochs, 'epoch')}: one in "
                f"{parts.reduction} may go on, so about {max(1, round(through * median)):,} to the end"
            )
            if not self.records and self.space.architectures() > STARTUP_TRIALS:
                begun = epochs_words(self.plan.rungs[0])
                yield f"Up to {STARTUP_TRIALS} networks train for {begun} first, and the best of them go on."
        yield f"About {plural(median, 'trial')}{among} begun in about {duration(self.plan.seconds)}, {ending}."
        if parts.screening:
            yield "Designs that would be beaten even at their best are not trained, which leaves time for more."
        if parts.fans:
            yield "Further compressions of trained networks are tried where they promise most for their time."

    def _supernet(self) -> Iterator[str]:
        yield (
            f"A network that all designs share trains first, for {self.recipe.supernet.share:.0%} of the budget (it is "
            f"reckoned to rank well after about {duration(supernet_seconds(self.recipe, self.costs))})."
        )
        count = self.plan.trials_expected[1]
        yield f"Of the designs that rank best in it about {count:,} are then trained and measured."


def dry_run(
    recipe: Recipe,
    path: Path,
    progress: Progress,
    fresh: bool = False,
    measurer: Measurer | None = None,
    on_ray: OnRay | None = None,
) -> DryRun:
    """Reckons what a search would do. Nothing is written but into a temporary folder that is gone afterwards.

    Args:
        recipe: What would be searched.
        path: The folder of the study, where one may lie already.
        progress: Hears what is being tried, and the share done.
        fresh: Whether the search would start over.
        measurer: Measures latencies; one of its own by default, which ends with the dry run.
        on_ray: The cluster that would evaluate; what it would be given is tried on this machine.

    Raises:
        NasError: As the search itself would.
    """
    if measurer is None:
        with Measurer() as own_measurer:
            return dry_run(recipe, path, progress, fresh, own_measurer, on_ray)
    folder = StudyFolder(path)
    prepared = prepare(recipe, measurer, progress, folder, fresh, on_ray)
    recipe = prepared.recipe
    records = _records(folder, prepared) if not fresh else []
    costs = costs_for(prepared, measurer, records, progress)
    starts = Counter(origin for _, origin in prepared.starts)
    planned = plan(recipe, prepared.space, costs, records)
    notes = prepared.notes if on_ray is None else (*prepared.notes, _TRIED_HERE)
    return DryRun(recipe, prepared.space, costs, planned, tuple(records), starts, notes)


def costs_for(
    prepared: Prepared,
    measurer: Measurer,
    records: Sequence[TrialRecord] = (),
    progress: Progress | None = None,
    most_seconds: float = PROBE_SECONDS,
) -> Costs:
    """What trials cost: of those of the study, or where these are too few, of a few designs tried in small."""
    found = costs_of(records, prepared.recipe, steps_of(len(prepared.dataset.train), prepared.recipe))
    return found or probe_costs(
        prepared.recipe,
        prepared.space,
        prepared.dataset,
        prepared.numerics,
        measurer,
        prepared.own,
        prepared.given,
        progress,
        most_seconds,
    )


def _records(folder: StudyFolder, prepared: Prepared) -> list[TrialRecord]:
    """The trials of the study that lies in the folder; none where none does.

    Raises:
        StudyError: It is another recipe's, or of another machine.
    """
    if not folder.is_study():
        return []
    folder.check(prepared.recipe, prepared.inputs)
    records = read_trials(folder, prepared.recipe)
    check_one_machine(folder, prepared.recipe, records, prepared.here)
    return records
