"""Strategy ``guided``: what to do next, and whether to go on with what was begun.

Three things compete for the next seconds: a new design that the sampler proposes, another compression of a network that
is trained already (a fan), and a training that was stopped and may go on (a promotion). Each is worth the hypervolume
that it is expected to add, by surrogates fitted on all that trials told so far, divided by the seconds that it is
expected to take. What is new has to add to what was begun as well, or nothing would ever be finished. A new design is
looked at before it is trained: when even at its best it would be beaten it is given up, and when its costs make others
worth more it waits. At each rung its training stops, and goes on when nothing else is worth more.

As long as little is known nothing can be worth anything: a search begins with a little of many networks' trainings, of
which the best go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nas.lineage import inherited_label
from nas.record import TrialRecord
from nas.search.choosing import Choosing
from nas.search.insight import Insight
from nas.search.judging import Judging
from nas.search.knowledge import costs_among, scales_of
from nas.search.parameters import Parameters
from nas.search.predictor_sampler import Observation
from nas.search.samplers import SamplerHints


class Guide:
    """Decides for one search.

    Args:
        insight: What is known at a moment.
        finetunes: Whether trainings start from the weights of the supernet that all designs share, where there is one.

    Attributes:
        choosing: Says what to do next.
        judging: Says whether to go on with what was begun.
    """

    def __init__(self, insight: Insight, finetunes: bool = False) -> None:
        self.insight = insight
        self.finetunes = finetunes
        self.choosing = Choosing(insight)
        self.judging = Judging(insight, self.choosing.rivals)

    def hints(self, records: Sequence[TrialRecord], parameters: Parameters) -> SamplerHints:
        """What a sampler may know beside what it is told: of stopped trials an estimate, of designs their seconds, and
        which of them cannot be built or would be a file that was measured."""
        timed = self.insight.timed  # else all cost the same
        known, rough = self.insight.knowledge(records), self.insight.rough

        def roughly(given: Mapping[str, Sequence[Any]]) -> np.ndarray:
            assert rough is not None
            proposals = (dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True))
            return rough([self.insight.space.completed(parameters.decode(params)) for params in proposals])

        def seconds(given: Mapping[str, Sequence[Any]]) -> np.ndarray:
            assert known is not None
            return known.column_seconds(parameters.columns(given), self.insight.remaining_share(0))

        def possible(params: Mapping[str, Any]) -> bool:
            design = self.insight.space.completed(parameters.decode(params))
            return self.insight.are_other_files([design], tally)[0] and bool(self.insight.can_be_built([design])[0])

        tally = self.insight.tally.of(records)
        hints = SamplerHints(possible=None if rough is None else possible, costs=costs_among(self.insight.objectives))
        if (facts := self.insight.facts) is not None:
            hints = replace(hints, cues=facts.of_parameters(parameters), cue_roles=facts.cues.roles)
        if known is None:
            return replace(hints, seconds=roughly if timed and rough is not None else None)
        observations = tuple(
            Observation(parameters.known_params(design), values, sd, waits)
            for design, values, sd, waits in known.estimates()
        )
        return replace(
            hints,
            known=observations,
            noise=lambda trial: known.spread_of(trial.number),
            seconds=seconds if timed else None,
            reference=tuple(known.reference),
            scales=scales_of(self.insight.objectives),
        )

    def label(self, records: Sequence[TrialRecord], record: TrialRecord) -> str | None:
        """What the training of a trial starts from, as its record says it."""
        begun = self.insight.tally.of(records).begun.get(record.design.architecture_digest)
        if begun is not None:
            return begun.inherits
        if not self.insight.recipe.guided.inheritance and not self.finetunes:
            return None
        return inherited_label(record, records, self.insight.recipe.guided.inheritance, self.finetunes)
