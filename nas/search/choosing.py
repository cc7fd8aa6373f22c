"""What to do next: the proposal that is worth most for its time, or what stands in while nothing tells."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from nas.choice import Choice
from nas.design import Design, Value
from nas.record import TrialRecord
from nas.search.durations import training_seconds
from nas.search.fans import Fans, Trained
from nas.search.insight import Insight
from nas.search.knowledge import FEWEST, Knowledge
from nas.search.rungs import best_of, promotable
from nas.search.samplers import STARTUP_TRIALS
from nas.search.tally import NAN, Tally
from nas.space import identities
from nas.surrogate.one_thread import one_thread

# Of fewer networks that were trained to their end than this no fan is tried that is trained itself.
FEWEST_TO_FAN = 6
# Of each network so many fans that need no training are tried as long as nothing tells what they are worth: they teach
# what files cost.
FREE_FANS = 2
# So many fans are judged at most: each costs a prediction, and a long study has hundreds of trained networks. They are
# those of the architectures that came closest to the front.
MOST_FANS = 2000
# After so many of the sampler's networks were trained, at least to a rung, one follows that is drawn at random, of so
# many draws.
DRAWN_AFTER, DRAWS = 4, 64
# So many new designs in a row may have to wait.
IN_A_ROW = 4
# Designs that wait untrained: so many of the latest are judged again.
MOST_WAITING = 200
# Of so many of the latest new designs it is remembered what else there was to do; workers have several under way.
MOST_RIVALS = 64
# Of more proposals than this a rough look leaves so many.
JUDGED = 300


@dataclass(frozen=True)
class Proposal:
    """What to evaluate next: a design, where it comes from, and the trial whose training or network it goes on from."""

    design: Design
    origin: str
    parent: int | None = None


class Choosing:
    """Chooses for one search.

    Args:
        insight: What is known.

    Attributes:
        rivals: Of new designs that were chosen, by digest, what the best of the others was worth.
    """

    def __init__(self, insight: Insight) -> None:
        self.insight = insight
        self.fans = Fans(insight.space, insight.recipe.seed)
        self.rivals: dict[str, float] = {}

    @one_thread
    def choose(
        self,
        records: Sequence[TrialRecord],
        asked: Callable[[], Design],
        teacher: bool,
        pending: Sequence[Design] = (),
    ) -> Proposal:
        """The proposal that is worth most for its time.

        Args:
            records: All trials.
            asked: Gives the sampler's proposal.
            teacher: Whether distilled designs have somebody to learn from.
            pending: What is being evaluated at this moment: no other trial of it is proposed.
        """
        known, tally = self.insight.knowledge(records), self.insight.tally.of(records)
        busy = {design.digest for design in pending}
        promotions = self.promotions(records)
        others = self.insight.are_other_files([proposal.design for proposal in promotions], tally, pending)
        promotions = [
            proposal
            for proposal in compress(promotions, others)
            if proposal.design.digest not in busy and (teacher or not proposal.design.step("distillation"))
        ]
        if known is None:
            if self.insight.gathers(records):
                return Proposal(asked(), "asked")
            if (fan := self._free_fan(records, busy)) is not None:
                return fan
            # Nothing tells what they are worth: a training that may go on goes on first, as in successive halving.
            unfinished = self._cheapest(promotions, records) if promotions else self.unfinished(records, busy)
            return unfinished or Proposal(asked(), "asked")
        if (owed := self._owed(promotions, records)) is not None:
            return owed
        if (drawn := self._drawn(records, busy, known)) is not None:
            return drawn
        fans = self._fans(records, busy, teacher, known) if self.insight.recipe.guided.fans else []
        others = self.insight.are_other_files([design for _, design in fans], tally, pending)
        fans = list(compress(fans, others))
        if len(tally.trained) < min(FEWEST_TO_FAN, self.insight.opening.architectures):
            # Surrogates of few networks expect much of everything, and then most of what is cheapest; but networks
            # are what they have to learn of. What costs no training is welcome at once.
            trained = Trained(records)
            fans = [(record, design) for record, design in fans if trained.serves(design)]
        # After some designs that had to wait it is the turn of what outdid them: the next new one would seem as good.
        waited = len(records) >= IN_A_ROW and all(record.epochs == 0 for record in records[-IN_A_ROW:])
        turns = waited and bool(promotions or fans)
        first = promotions if turns else [Proposal(asked(), "asked"), *promotions]
        return self._best(first, fans, tally, known)

    def _best(
        self, first: Sequence[Proposal], fans: Sequence[tuple[TrialRecord, Design]], tally: Tally, known: Knowledge
    ) -> Proposal:
        """The one that is worth most for its time, of trainings and of fans with the trials that they go on from."""
        designs = [proposal.design for proposal in first] + [design for _, design in fans]
        shares = np.zeros(len(designs))  # of its training a fan has nothing before it
        shares[: len(first)] = [self.insight.share(proposal.design, proposal.parent, tally) for proposal in first]
        costs = np.full((len(designs), len(self.insight.objectives), 2), np.nan)  # see ``Knowledge.improvement``
        costs[: len(first)] = [self._costs(proposal, tally) for proposal in first]
        if self.insight.timed:
            price = known.seconds(designs, shares)
        else:  # see ``Study.spent``
            done = [tally.records[p.parent].epochs or 0 if p.parent is not None else 0 for p in first]
            price = np.ones(len(designs))
            price[: len(first)] -= np.array(done, dtype=float) / self.insight.recipe.budget.epochs
        # What nothing was trained of yet has to add to what was.
        new = np.zeros(len(designs), dtype=bool)
        new[: len(first)] = [p.parent is None or tally.records[p.parent].epochs == 0 for p in first]
        some = np.arange(len(designs))
        if len(some) > JUDGED:
            worth = known.improvement(designs, costs, rough=True, new=new) / price
            some = np.sort(np.argsort(-worth, kind="stable")[:JUDGED])
        for place in some[some >= len(first)].tolist():
            costs[place] = self._costs_alike(designs[place], tally)
        worth = known.improvement([designs[place] for place in some], costs[some], new=new[some]) / price[some]
        best = int(some[np.argmax(worth)])
        if best < len(first):
            self.rivals[first[best].design.digest] = float(np.delete(worth, np.argmax(worth)).max(initial=0.0))
            while len(self.rivals) > MOST_RIVALS:
                self.rivals.pop(next(iter(self.rivals)))
            return first[best]
        record, design = fans[best - len(first)]
        return Proposal(design, "fan", record.number)

    def _cheapest(self, promotions: Sequence[Proposal], records: Sequence[TrialRecord]) -> Proposal:
        """The promotion that is done first, where time is what there is to spend; else the first one.

        Those that were begun are among the best of their rungs, and what a few whole trainings teach does not depend on
        how long they take. Those that wait untrained come last.
        """
        if not self.insight.timed:
            return promotions[0]
        tally, epochs = self.insight.tally.of(records), self.insight.recipe.budget.epochs

        def seconds(proposal: Proposal) -> float:
            parent = None if proposal.parent is None else tally.records[proposal.parent]
            told = None if parent is None else training_seconds(parent, epochs)
            return float("inf") if parent is None or told is None else told * (1 - (parent.epochs or 0) / epochs)

        return min(promotions, key=seconds)

    def _owed(self, promotions: Sequence[Proposal], records: Sequence[TrialRecord]) -> Proposal | None:
        """The first promotion from a rung that fewer went on from than halving lets go on; None where enough did.

        What is new seems worth more than it turns out to be, so that by worth alone nothing might ever be finished.
        """
        tally = self.insight.tally.of(records)
        for epochs in reversed(self.insight.rungs):
            there = tally.at_rung[epochs].trials.tolist()
            gone = sum(number in tally.gone_on or number in tally.values for number in there)
            waiting = (p for p in promotions if p.parent is not None and tally.stopped[p.parent].epochs == epochs)
            if gone < len(there) // self.insight.recipe.guided.reduction and (best := next(waiting, None)) is not None:
                return best
        return None

    def _drawn(self, records: Sequence[TrialRecord], busy: set[str], known: Knowledge) -> Proposal | None:
        """A network at random of the cheaper half, as unlike all that were tried as there is; None where it is not the
        turn of one, or none is left.

        Surrogates look for more of what they know to be good. Where a training is stopped at its first rung, it costs
        little to look elsewhere, too.
        """
        tally = self.insight.tally.of(records)
        if not self.insight.rungs or tally.drawn >= (tally.asked - STARTUP_TRIALS) // DRAWN_AFTER:
            return None
        rng = random.Random(f"drawn-{self.insight.recipe.seed}-{len(records)}")
        plain = identities(self.insight.space)

        def value(choice: Choice) -> Value:
            return plain[choice.name] if choice.name in plain else rng.choice(choice.values)

        drawn = {
            design.architecture_digest: design for design in (self.insight.space.choose(value) for _ in range(DRAWS))
        }
        designs = [
            design
            for digest, design in drawn.items()
            if digest not in tally.architectures and design.digest not in busy
        ]
        designs = [design for design, fits in zip(designs, self.insight.can_be_built(designs), strict=True) if fits]
        if not designs:
            return None
        seconds = known.seconds(designs, np.ones(len(designs)))
        cheap = [designs[place] for place in np.argsort(seconds, kind="stable")[: (len(designs) + 1) // 2]]
        unlike = self.insight.unlike(cheap, [record.design for record in tally.begun.values()])
        return Proposal(cheap[int(np.argmax(np.round(unlike, 9)))], "drawn")

    def _free_fan(self, records: Sequence[TrialRecord], busy: set[str]) -> Proposal | None:
        """A compression that costs no training, of the network of which fewest were tried; while few files were
        measured, and ``FREE_FANS`` of a network at most (one where trials are counted, of which each costs one), what
        is under way included."""
        tally = self.insight.tally.of(records)
        if not self.insight.recipe.guided.fans or len(tally.values) >= FEWEST:
            return None
        most = FREE_FANS if self.insight.timed else 1
        fanned = Counter(record.design.architecture_digest for record in records if record.origin == "fan")
        trained = Trained(records)
        for record in sorted(tally.trained.values(), key=lambda record: fanned[record.design.architecture_digest]):
            under_way = sum(design.digest in busy for _, design in self.fans.unseen([record], (), True)) if busy else 0
            if fanned[record.design.architecture_digest] + under_way < most:
                for _, design in self.fans.unseen([record], tally.designs | busy, False):
                    if trained.serves(design):
                        return Proposal(design, "fan", record.number)
        return None

    def _fans(
        self, records: Sequence[TrialRecord], busy: set[str], teacher: bool, known: Knowledge
    ) -> list[tuple[TrialRecord, Design]]:
        """The fans that are judged: all while they are few."""
        tally = self.insight.tally.of(records)
        return self.fans.most_promising(tally.trained, tally.designs | busy, teacher, MOST_FANS, known.best_first)

    def promotions(self, records: Sequence[TrialRecord]) -> list[Proposal]:
        """The stopped trainings that would go on now; where time is limited and worth can be told, all that wait.

        Halving does not know what they are worth, and what is new has to add to all of them.
        """
        tally = self.insight.tally.of(records)
        found, waiting = [], tally.waiting
        untrained = sorted(number for number, own in waiting.items() if own.epochs == 0)[-MOST_WAITING:]
        for epochs in reversed(self.insight.rungs):
            there = tally.at_end(epochs)
            numbers = [number for number, own in waiting.items() if own.epochs == epochs and number in there]
            if numbers:
                reduction = self.insight.recipe.guided.reduction
                if self.insight.timed and self.insight.knowledge(records) is not None:
                    reduction = 1
                for number in promotable(numbers, there, self.insight.maximise, reduction, self.insight.logs):
                    found.append(Proposal(tally.records[number].design, "promotion", number))
        return found + [Proposal(tally.records[number].design, "promotion", number) for number in untrained]

    def unfinished(self, records: Sequence[TrialRecord], busy: Collection[str] = ()) -> Proposal | None:
        """The best of the trainings that were stopped, as long as nothing was measured; None where there is none.

        Args:
            records: All trials that ended.
            busy: Digests of designs that are being evaluated.
        """
        tally = self.insight.tally.of(records)
        if len(tally.values):
            return None
        waiting = tally.waiting
        for epochs in reversed(self.insight.rungs):
            numbers = [n for n, own in waiting.items() if own.epochs == epochs and own.digest not in busy]
            there = tally.at_end(epochs)
            if (best := best_of(numbers, there, self.insight.maximise, self.insight.logs)) is not None:
                return Proposal(tally.records[best].design, "promotion", best)
        return None

    def _costs_alike(self, design: Design, tally: Tally) -> list[tuple[float, float]]:
        """The costs of a file that is shaped as a design's would be; NaN for qualities, and where none is known."""
        own = self.insight.shape(design)
        found = tally.shapes.get(own, tally.looked.get(own))
        return [(NAN, NAN)] * len(self.insight.objectives) if found is None else self.insight.known_costs(found, tally)

    def _costs(self, proposal: Proposal, tally: Tally) -> list[tuple[float, float]]:
        """The objectives that are known of a proposal already: the costs of a stopped training; NaN for the others."""
        if proposal.parent is None:
            return self._costs_alike(proposal.design, tally)
        return self.insight.known_costs(tally.records[proposal.parent], tally)
