"""Whether to go on with what was begun: what is foreseen and found of a trial, and what is given up for it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np

from nas.design import Design
from nas.outcome import How, Quantity, Reason
from nas.proxies import RUNG_ACCURACY, UNTRAINED, rung_accuracy
from nas.record import TrialRecord
from nas.search.foreseen import known_cost
from nas.search.insight import Insight
from nas.search.rungs import standing
from nas.search.tally import at_rung
from nas.surrogate.one_thread import one_thread
from nas.wording import display

# One in so many of the designs that would be screened out is evaluated all the same.
SPARED = 10
# By how much the untrained network must miss a limit.
PROXY_MARGIN = 0.1
# Once networks are gathered the untrained one is exported and timed only where that costs less than this share of a
# training.
FORESEEING_SHARE = 0.25


class Judging:
    """Judges the trials of one search.

    Args:
        insight: What is known.
        rivals: Of new designs, by digest, what the best was worth that could be done instead; where known.
    """

    def __init__(self, insight: Insight, rivals: Mapping[str, float]) -> None:
        self.insight = insight
        self.rivals = rivals

    @one_thread
    def foresee(self, records: Sequence[TrialRecord], design: Design) -> tuple[Quantity, ...]:
        """What is expected of a design; nothing where nothing can be."""
        known = self.insight.knowledge(records)
        foreseen = () if known is None else known.foresee(design)
        inherited = self.insight.shared.quantity(design) if self.insight.shared is not None else None
        return foreseen if inherited is None else (*foreseen, inherited)

    def hopeless(self, records: Sequence[TrialRecord], record: TrialRecord) -> Reason | None:
        """Why a trial need not be trained, by what is foreseen and known of it: a limit that it breaks, a better trial.

        Args:
            records: All that ended.
            record: The trial, with what was foreseen and counted.
        """
        for constraint in self.insight.recipe.parsed_constraints:
            counted = record.quantity(constraint.quantity.key)
            value = known_cost(record, constraint.quantity, self.insight.recipe)
            # What is read off the untrained network may differ a little from what the trained one will have.
            if value is not None and constraint.violation(value) > (0 if counted is not None else PROXY_MARGIN):
                about = "" if counted is not None else "about "
                return Reason(
                    "constraint", f"{constraint.key}, but it is {about}{display(constraint.quantity.name, value)}"
                )
        known = self.insight.knowledge(records)
        if known is None or not known.screens or not self.insight.recipe.guided.screening:
            return None
        best = known.optimistic(record)
        if (better := known.beaten(best)) is None:
            return None
        words = " at ".join(display(o.name, value) for o, value in zip(self.insight.objectives, best, strict=True))
        return Reason("screened", f"at best {words}, which trial {better} beats")

    def outdone(self, records: Sequence[TrialRecord], record: TrialRecord) -> Reason | None:
        """Why a trial is not trained now: what else could be done is worth more, now that the trial's costs are known.

        A trial that another process asked for, or this one before it was interrupted, is trained: what else there was
        to do is not kept.

        Args:
            records: All that ended.
            record: The trial, proposed by the sampler, with what was found of it before its training.
        """
        known, rival = self.insight.knowledge(records), self.rivals.get(record.design.digest)
        if known is None or rival is None or not self.insight.rungs or not self.insight.timed:
            return None
        tally = self.insight.tally.of(records)
        costs = np.array(self.insight.known_costs(record, tally))
        if np.isnan(costs).all():
            return None
        share = self.insight.share(record.design, None, tally)
        price = known.seconds([record.design], np.array([share]))
        if known.improvement([record.design], costs[None, :], new=[True])[0] / price[0] >= rival:
            return None
        words = " and ".join(
            display(o.name, cost)
            for o, cost in zip(self.insight.objectives, costs[:, 0].tolist(), strict=True)
            if cost == cost
        )
        return Reason("rung", f"before its training: at {words} others are worth more")

    def carried(self, records: Sequence[TrialRecord], record: TrialRecord) -> tuple[Quantity, ...]:
        """What was foreseen and found before a training, of the trial that a promotion goes on with."""
        parent = self.insight.tally.of(records).records.get(record.parent) if record.parent is not None else None
        if parent is None:
            return ()
        return tuple(quantity for quantity in parent.quantities if quantity.name != RUNG_ACCURACY)

    def spares(self, number: int) -> bool:
        """Whether this trial is the one in ten that is evaluated although it is screened out."""
        return random.Random(f"spared-{self.insight.recipe.seed}-{number}").randrange(SPARED) == 0

    def may_give_up(self, records: Sequence[TrialRecord], record: TrialRecord) -> bool:
        """Whether a trial may be screened out: what the sampler proposes, unless it insists."""
        return record.origin == "asked" and record.design.digest not in self.insight.tally.of(records).screened

    def foresees(self, records: Sequence[TrialRecord], record: TrialRecord) -> bool:
        """Whether it is worth exporting and timing the untrained network first: trainings are dear enough, and the
        trial is of a new design."""
        if record.origin not in ("asked", "drawn") or record.spared:
            return False
        if self.insight.gathers(records):
            return True  # they are to be compared at the rung
        tally = self.insight.tally.of(records)
        if not tally.trainings:
            return False
        looks, trainings = (float(np.median(seconds)) for seconds in (tally.looks or [0.0], tally.trainings))
        return looks < FORESEEING_SHARE * trainings

    def looked_alike(self, records: Sequence[TrialRecord], design: Design) -> tuple[Quantity, ...]:
        """What an untrained network of the same shape was found to cost; nothing where none was looked at."""
        looked = self.insight.tally.of(records).looked.get(self.insight.shape(design))
        if looked is None:
            return ()
        return tuple(q for q in looked.quantities if q.name.startswith(UNTRAINED) or q.how is How.COUNTED)

    def gates(self, records: Sequence[TrialRecord], record: TrialRecord) -> tuple[float, ...]:
        """The rungs that a trial still has before it: none where its network is trained, or where it is to be kept."""
        tally = self.insight.tally.of(records)
        trained = record.design.architecture_digest in tally.trained
        if record.origin not in ("asked", "drawn", "promotion") or record.spared or trained:
            return ()
        parent = tally.records.get(record.parent) if record.parent is not None else None
        done = (parent.epochs or 0) if record.origin == "promotion" and parent is not None else 0
        return tuple(epochs for epochs in self.insight.rungs if epochs > done)

    def judge(self, records: Sequence[TrialRecord], record: TrialRecord, epochs: float) -> Reason | None:
        """Why a training ends at a rung; None where it goes on.

        Args:
            records: All that ended.
            record: The trial, with its accuracy at the rung.
            epochs: Of the rung.
        """
        accuracy = rung_accuracy(record, epochs)
        own = None if accuracy is None else at_rung(record, accuracy, self.insight.objectives, self.insight.recipe)
        if own is None:
            return None  # a cost is not known, so there is nothing to judge by
        at, of = display("accuracy", accuracy or 0.0), self.insight.recipe.budget.epochs
        if epochs == self.insight.rungs[0] and self.insight.gathers(records):
            return Reason("rung", f"after {epochs:g} of {of} epochs: accuracy {at}, and others come so far first")
        if self.insight.timed and self.insight.knowledge(records) is not None:
            return Reason("rung", f"after {epochs:g} of {of} epochs: accuracy {at}, and others may be worth more")
        there = self.insight.tally.of(records).at_end(epochs, record, own)
        found = standing(
            record.number, there, self.insight.maximise, self.insight.recipe.guided.reduction, self.insight.logs
        )
        if found.goes_on:
            return None
        return Reason("rung", f"after {epochs:g} of {of} epochs: place {found.place} of {found.among}, accuracy {at}")
