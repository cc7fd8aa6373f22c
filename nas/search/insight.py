"""What the parts of a guide go by: trials gone through once, surrogates fitted on them, shares of trainings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from nas.design import Design
from nas.errors import SurrogateError
from nas.front import reference_from
from nas.growing import Growing
from nas.networks import Start
from nas.outcome import Quantity
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.cues import Cues, joined
from nas.search.encoder import Encoder
from nas.search.fans import files, shape
from nas.search.foreseen import cost_and_spread
from nas.search.knowledge import Knowledge
from nas.search.network_facts import NetworkFacts
from nas.search.opening import Opening
from nas.search.rough import RoughCosts
from nas.search.tally import NAN, Tally
from nas.space import SearchSpace
from nas.surrogate.one_thread import one_thread
from nas.surrogate.unlike import apart


class Shared(Protocol):
    """What a supernet does for a guide; ``nas.search.shared_network.SharedNetwork`` is one."""

    def quantity(self, design: Design) -> Quantity | None: ...
    def inherited(self, design: Design) -> Start: ...


class Insight:
    """What is known at a moment, for one search.

    Args:
        space: What designs are of.
        recipe: What is asked for, and which parts of the strategy are on.
        rungs: Epochs after which trainings are judged, ascending; empty where none is.
        cues: Cheap measures that help the surrogates, beside the facts.
        say: Told once when surrogates cannot be fitted.
        shared: A supernet that ranks designs and may start their trainings.
        rough: What trainings cost against each other, as long as no trials tell; where facts do not say it.
        facts: What networks are made of; None where only built ones show it.
    """

    def __init__(
        self,
        space: SearchSpace,
        recipe: Recipe,
        rungs: Sequence[float],
        cues: Cues | None = None,
        say: Callable[[str], None] = lambda text: None,
        shared: Shared | None = None,
        rough: RoughCosts | None = None,
        facts: NetworkFacts | None = None,
    ) -> None:
        self.space = space
        self.recipe = recipe
        self.rungs = tuple(rungs) if recipe.guided.rungs else ()
        self.cues = joined([None if facts is None else facts.cues, cues])
        self.say = say
        self.shared = shared
        self.rough = rough if facts is None else facts.costs
        self.facts = facts
        self.opening = Opening(space, recipe, self.rough, say)
        self.timed = recipe.budget.minutes is not None  # else trials are what there is to spend, however long they take
        self.objectives = recipe.parsed_objectives
        self.maximise = [objective.maximise for objective in self.objectives]
        self.logs = [objective.kind.log_axis for objective in self.objectives]
        self.encoder = Encoder(space)
        self.shape, self.files = (shape, files) if facts is None else (facts.shape, facts.files)
        self.tally = Growing(lambda: Tally(recipe, self.shape, self.files), Tally.learn)
        self.said = False
        self._known: tuple[int, Knowledge | None] | None = None

    @one_thread
    def knowledge(self, records: Sequence[TrialRecord]) -> Knowledge | None:
        """What so many records tell; None where that is too little to believe."""
        if self._known is None or self._known[0] != len(records):
            self._known = len(records), self._fitted(records)
        return self._known[1]

    def _fitted(self, records: Sequence[TrialRecord]) -> Knowledge | None:
        tally = self.tally.of(records)
        reference = reference_from([tally.records[int(n)] for n in tally.values.trials[:1]], self.objectives)
        try:
            return Knowledge(self.encoder, self.recipe, tally, reference, self.cues)
        except SurrogateError as error:
            enough = len(tally.values) >= 2 * len(self.objectives) + 10
            if enough and not self.said:
                self.said = True
                self.say(f"no surrogate can be fitted ({error.message}); the sampler decides alone until one can")
            return None

    def gathers(self, records: Sequence[TrialRecord]) -> bool:
        """Whether trainings still wait for others at the first rung."""
        if not self.rungs or self.knowledge(records) is not None:
            return False
        return self.opening.gathers(records, len(self.tally.of(records).at_rung[self.rungs[0]]))

    def share(self, design: Design, parent: int | None, tally: Tally) -> float:
        """How much of its training a design is expected to be given, goes it on from a trial or not."""
        if design.architecture_digest in tally.trained:
            return 0.0
        return self.remaining_share(0 if parent is None else tally.records[parent].epochs or 0)

    def remaining_share(self, done: float) -> float:
        """The share of a training that is gone through after so many epochs, if of those that come to each further rung
        one in ``reduction`` goes on."""
        ends = [end for end in (*self.rungs, self.recipe.budget.epochs) if end > done]
        steps = np.diff([done, *ends]) / self.recipe.budget.epochs
        return float((steps / self.recipe.guided.reduction ** np.arange(len(steps))).sum())

    def known_costs(self, record: TrialRecord, tally: Tally) -> list[tuple[float, float]]:
        """The objectives that are known before a training, with their standard deviations: of a trial's costs what was
        found; NaN for the others."""
        return [
            (NAN, NAN) if objective.maximise else cost_and_spread(record, objective, self.recipe, float(disturbed))
            for objective, disturbed in zip(self.objectives, tally.disturbed, strict=True)
        ]

    def unlike(self, designs: Sequence[Design], others: Sequence[Design]) -> np.ndarray:
        """How unlike each of N designs is to that of others which it is most like, see ``nas.surrogate.unlike``."""
        columns = self.encoder.encoding.columns
        ours, theirs = (self.encoder.positions(some) for some in (designs, others))
        if self.cues is None:
            return apart(columns, ours, theirs)
        return apart(columns, ours, theirs, (self.cues.of(designs), self.cues.of(others)), self.cues.roles)

    def are_other_files(self, designs: Sequence[Design], tally: Tally, pending: Sequence[Design] = ()) -> list[bool]:
        """Of which of N designs no file was measured, or is under way, that would be the same whatever it is called."""
        busy = set(self.files(pending))
        return [file not in tally.filed and file not in busy for file in self.files(designs)]

    def can_be_built(self, designs: Sequence[Design]) -> np.ndarray:
        """Which of N designs' networks can be built, as far as that is known."""
        return np.ones(len(designs), dtype=bool) if self.rough is None else np.isfinite(self.rough(designs))
