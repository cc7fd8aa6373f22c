"""Strategy ``guided``: what to do next, and whether to go on with what was begun.

Three things compete for the next seconds: a new design that the sampler proposes, another compression of a network that
is trained already (a fan), and a training that was stopped and may go on (a promotion). Each is worth the hypervolume
that it is expected to add, by surrogates fitted on all that trials told so far, divided by the seconds that it is
expected to take. A new design is looked at before it is trained: when even at its best it would be beaten it is given
up, and when its costs make others worth more it waits. At each rung its training stops, and goes on when it stands
among the best there and nothing else is worth more.

As long as little is known nothing can be worth anything: a search begins with a little of many networks' trainings, of
which the best go on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nas.choice import Choice
from nas.design import Design, Value
from nas.errors import SurrogateError
from nas.front import reference_from
from nas.growing import Growing
from nas.lineage import inherited_label
from nas.networks import Start
from nas.outcome import Quantity, Reason
from nas.proxies import RUNG_ACCURACY, rung_accuracy
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.encoder import Encoder
from nas.search.fans import Fans, Trained, shape
from nas.search.foreseen import known_cost
from nas.search.knowledge import FEWEST, Cues, Knowledge, scales_of
from nas.search.opening import Opening
from nas.search.parameters import Parameters
from nas.search.predictor_sampler import Observation
from nas.search.rough import RoughCosts
from nas.search.rungs import best_of, promotable, standing
from nas.search.samplers import SamplerHints
from nas.search.tally import NAN, Tally, at_rung
from nas.space import SearchSpace, identities
from nas.surrogate.one_thread import one_thread
from nas.wording import display

# One in so many of the designs that would be screened out is evaluated all the same.
SPARED = 10
# By how much the untrained network must miss a limit.
PROXY_MARGIN = 0.1
# Once networks are gathered the untrained one is exported and timed only where that costs less than this share of a
# training.
FORESEEING_SHARE = 0.25
# Of fewer networks that were trained to their end than this no fan is tried that is trained itself.
FEWEST_TO_FAN = 6
# So many fans are judged at most: each costs a prediction, and a long study has hundreds of trained networks. They are
# those of the architectures that came closest to the front.
MOST_FANS = 4000
# One in so many trials is of a network drawn at random, of so many draws.
DRAWN_EVERY, DRAWS = 6, 64
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


class Shared(Protocol):
    """What a supernet does for a guide; ``nas.search.shared_network.SharedNetwork`` is one."""

    def quantity(self, design: Design) -> Quantity | None: ...
    def inherited(self, design: Design) -> Start: ...


class Guide:
    """Decides for one search.

    Args:
        space: What designs are of.
        recipe: What is asked for, and which parts of the strategy are on.
        rungs: Epochs after which trainings are judged, ascending; empty where none is.
        cues: Cheap measures that help the surrogates.
        say: Told once when surrogates cannot be fitted.
        shared: A supernet that ranks designs and may start their trainings.
        finetunes: Whether its members' trainings start from its weights.
        rough: What trainings cost against each other, as long as no trials tell.
    """

    def __init__(
        self,
        space: SearchSpace,
        recipe: Recipe,
        rungs: Sequence[int],
        cues: Cues | None = None,
        say: Callable[[str], None] = lambda text: None,
        shared: Shared | None = None,
        finetunes: bool = False,
        rough: RoughCosts | None = None,
    ) -> None:
        self.space = space
        self.recipe = recipe
        self.rungs = tuple(rungs) if recipe.guided.rungs else ()
        self.cues = cues
        self.say = say
        self.shared = shared
        self.finetunes = finetunes
        self.rough = rough
        self.opening = Opening(space, recipe, rough, say)
        self.objectives = recipe.parsed_objectives
        self.maximise = [objective.maximise for objective in self.objectives]
        self.logs = [objective.kind.log_axis for objective in self.objectives]
        self.fans = Fans(space, recipe.seed)
        self.encoder = Encoder(space)
        self.tally = Growing(lambda: Tally(recipe), Tally.learn)
        self.said = False
        self._rivals: dict[str, float] = {}
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
        known = self.knowledge(records)
        busy = {design.digest for design in pending}
        promotions = [proposal for proposal in self.promotions(records) if proposal.design.digest not in busy]
        if known is None:
            if self.gathers(records):
                return Proposal(asked(), "asked")
            if (fan := self._free_fan(records, busy)) is not None:
                return fan
            # Nothing tells what they are worth: a training that may go on goes on first, as in successive halving.
            unfinished = promotions[0] if promotions else self.unfinished(records, busy)
            return unfinished or Proposal(asked(), "asked")
        if (drawn := self._drawn(records, busy, known)) is not None:
            return drawn
        fans = self._fans(records, busy, teacher, known) if self.recipe.guided.fans else []
        if len(self.tally.of(records).trained) < min(FEWEST_TO_FAN, self.opening.architectures):
            # Surrogates of few networks expect much of everything, and then most of what is cheapest; but networks
            # are what they have to learn of. What costs no training is welcome at once.
            trained = Trained(records)
            fans = [(record, design) for record, design in fans if trained.serves(design)]
        # After a design that had to wait it is the turn of what it was outdone by: the next new one would seem as good.
        turns = bool(records) and records[-1].epochs == 0 and bool(promotions or fans)
        first = promotions if turns else [Proposal(asked(), "asked"), *promotions]
        designs = [proposal.design for proposal in first] + [design for _, design in fans]
        tally = self.tally.of(records)
        shares = np.zeros(len(designs))  # of its training a fan has nothing before it
        shares[: len(first)] = [self._share(proposal.design, proposal.parent, tally) for proposal in first]
        costs = np.full((len(designs), len(self.objectives)), np.nan)
        costs[: len(first)] = [self._costs(proposal, tally.records) for proposal in first]
        if self.recipe.budget.minutes is not None:
            price = known.seconds(designs, shares)
        else:  # a trial is what there is to spend, however long it takes
            price = np.where(shares > 0, shares, 1.0)  # see ``Study.spent``
        some = np.arange(len(designs))
        if len(some) > JUDGED:
            some = np.sort(np.argsort(-known.improvement(designs, costs, rough=True) / price, kind="stable")[:JUDGED])
        for place in some[some >= len(first)].tolist():
            costs[place] = self._costs_alike(designs[place], tally)
        worth = known.improvement([designs[place] for place in some], costs[some]) / price[some]
        best = int(some[np.argmax(worth)])
        if best < len(first):
            self._rivals[first[best].design.digest] = float(np.delete(worth, np.argmax(worth)).max(initial=0.0))
            while len(self._rivals) > MOST_RIVALS:
                self._rivals.pop(next(iter(self._rivals)))
            return first[best]
        record, design = fans[best - len(first)]
        return Proposal(design, "fan", record.number)

    def _drawn(self, records: Sequence[TrialRecord], busy: set[str], known: Knowledge) -> Proposal | None:
        """A network at random of the cheaper half, as unlike all that were tried as there is; None where it is not the
        turn of one, or none is left.

        Surrogates look for more of what they know to be good. Where a training is stopped at its first rung, it costs
        little to look elsewhere, too.
        """
        if not self.rungs or (len(records) + len(busy)) % DRAWN_EVERY != DRAWN_EVERY - 1:
            return None
        tally = self.tally.of(records)
        rng = random.Random(f"drawn-{self.recipe.seed}-{len(records)}")
        plain = identities(self.space)

        def value(choice: Choice) -> Value:
            return plain[choice.name] if choice.name in plain else rng.choice(choice.values)

        drawn = {design.architecture_digest: design for design in (self.space.choose(value) for _ in range(DRAWS))}
        designs = [
            design
            for digest, design in drawn.items()
            if digest not in tally.architectures and design.digest not in busy and self._can_be_built(design)
        ]
        if not designs:
            return None
        seconds = known.seconds(designs, np.ones(len(designs)))
        cheap = [designs[place] for place in np.argsort(seconds, kind="stable")[: (len(designs) + 1) // 2]]
        tried = self.encoder.encode([record.design for record in tally.begun.values()])
        apart = ((self.encoder.encode(cheap)[:, None, :] - tried[None, :, :]) ** 2).sum(axis=2).min(axis=1)
        return Proposal(cheap[int(np.argmax(np.round(apart, 9)))], "drawn")

    def _can_be_built(self, design: Design) -> bool:
        return self.rough is None or bool(np.isfinite(self.rough([design])[0]))

    def _free_fan(self, records: Sequence[TrialRecord], busy: set[str]) -> Proposal | None:
        """A compression that costs no training, of a network that none was tried of; while few files were measured."""
        tally = self.tally.of(records)
        if not self.recipe.guided.fans or len(tally.values) >= FEWEST:
            return None
        fanned = {record.design.architecture_digest for record in records if record.origin == "fan"}
        alone = [record for digest, record in tally.trained.items() if digest not in fanned]
        trained = Trained(records)
        for record, design in self.fans.unseen(alone, tally.designs | busy, False):
            if trained.serves(design):
                return Proposal(design, "fan", record.number)
        return None

    def _fans(
        self, records: Sequence[TrialRecord], busy: set[str], teacher: bool, known: Knowledge
    ) -> list[tuple[TrialRecord, Design]]:
        """The fans that are judged: all while they are few."""
        tally = self.tally.of(records)
        return self.fans.most_promising(tally.trained, tally.designs | busy, teacher, MOST_FANS, known.best_first)

    def hints(self, records: Sequence[TrialRecord], parameters: Parameters) -> SamplerHints:
        """What a sampler may know beside what it is told: of stopped trials an estimate, of designs their seconds, and
        which of them cannot be built."""
        # Where only trials are limited, all cost the same.
        timed = self.recipe.budget.minutes is not None
        known, rough = self.knowledge(records), self.rough

        def roughly(proposals: Sequence[Mapping[str, Any]]) -> np.ndarray:
            assert rough is not None
            return rough([self._completed(parameters.decode(params)) for params in proposals])

        def seconds(proposals: Sequence[Mapping[str, Any]]) -> np.ndarray:
            assert known is not None
            return known.row_seconds([parameters.decode(params) for params in proposals], self._remaining_share(0))

        def possible(params: Mapping[str, Any]) -> bool:
            return self._can_be_built(self._completed(parameters.decode(params)))

        can_be = None if rough is None else possible
        if known is None:
            return SamplerHints(seconds=roughly if timed and rough is not None else None, possible=can_be)
        observations = tuple(
            Observation(parameters.known_params(design), values, sd) for design, values, sd in known.estimates()
        )
        reference, scales = tuple(known.reference), scales_of(self.objectives)
        return SamplerHints(observations, seconds if timed else None, reference, scales, can_be)

    def _completed(self, row: Mapping[str, Value]) -> Design:
        """A design of which the sampler has not named every choice yet: the others have their first value."""

        def value(choice: Choice) -> Value:
            return row.get(choice.name, choice.values[0])

        return self.space.choose(value)

    def promotions(self, records: Sequence[TrialRecord]) -> list[Proposal]:
        """The stopped trainings that would go on now."""
        tally = self.tally.of(records)
        open_still = {
            number: stopped.epochs
            for number, stopped in tally.stopped.items()
            if number not in tally.gone_on and stopped.digest not in tally.ended
        }
        found = []
        untrained = sorted(number for number, own in open_still.items() if own == 0)[-MOST_WAITING:]
        for epochs in reversed(self.rungs):
            there = tally.at_end(epochs)
            numbers = [number for number, own in open_still.items() if own == epochs and number in there]
            if numbers:
                reduction = self.recipe.guided.reduction
                for number in promotable(numbers, there, self.maximise, reduction, self.logs):
                    found.append(Proposal(tally.records[number].design, "promotion", number))
        return found + [Proposal(tally.records[number].design, "promotion", number) for number in untrained]

    def unfinished(self, records: Sequence[TrialRecord], busy: Collection[str] = ()) -> Proposal | None:
        """The best of the trainings that were stopped, as long as nothing was measured; None where there is none.

        Args:
            records: All trials that ended.
            busy: Digests of designs that are being evaluated.
        """
        tally = self.tally.of(records)
        if len(tally.values):
            return None
        for epochs in reversed(self.rungs):
            numbers = [
                number
                for number, own in tally.stopped.items()
                if own.epochs == epochs and number not in tally.gone_on and own.digest not in {*tally.ended, *busy}
            ]
            there = tally.at_end(epochs)
            if (best := best_of(numbers, there, self.maximise, self.logs)) is not None:
                return Proposal(tally.records[best].design, "promotion", best)
        return None

    @one_thread
    def foresee(self, records: Sequence[TrialRecord], design: Design) -> tuple[Quantity, ...]:
        """What is expected of a design; nothing where nothing can be."""
        known = self.knowledge(records)
        foreseen = () if known is None else known.foresee(design)
        inherited = self.shared.quantity(design) if self.shared is not None else None
        return foreseen if inherited is None else (*foreseen, inherited)

    def hopeless(self, records: Sequence[TrialRecord], record: TrialRecord) -> Reason | None:
        """Why a trial need not be trained, by what is foreseen and known of it: a limit that it breaks, a better trial.

        Args:
            records: All that ended.
            record: The trial, with what was foreseen and counted.
        """
        for constraint in self.recipe.parsed_constraints:
            counted = record.quantity(constraint.quantity.key)
            value = known_cost(record, constraint.quantity, self.recipe)
            # What is read off the untrained network may differ a little from what the trained one will have.
            if value is not None and constraint.violation(value) > (0 if counted is not None else PROXY_MARGIN):
                about = "" if counted is not None else "about "
                return Reason(
                    "constraint", f"{constraint.key}, but it is {about}{display(constraint.quantity.name, value)}"
                )
        known = self.knowledge(records)
        if known is None or not known.screens or not self.recipe.guided.screening:
            return None
        best = known.optimistic(record)
        if (better := known.beaten(best)) is None:
            return None
        words = " at ".join(display(o.name, value) for o, value in zip(self.objectives, best, strict=True))
        return Reason("screened", f"at best {words}, which trial {better} beats")

    def outdone(self, records: Sequence[TrialRecord], record: TrialRecord) -> Reason | None:
        """Why a trial is not trained now: what else could be done is worth more, now that the trial's costs are known.

        A trial that another process asked for, or this one before it was interrupted, is trained: what else there was
        to do is not kept.

        Args:
            records: All that ended.
            record: The trial, proposed by the sampler, with what was found of it before its training.
        """
        known, rival = self.knowledge(records), self._rivals.get(record.design.digest)
        if known is None or rival is None or not self.rungs or self.recipe.budget.minutes is None:
            return None
        costs = [None if o.maximise else known_cost(record, o, self.recipe) for o in self.objectives]
        if all(cost is None for cost in costs):
            return None
        told = np.array([[NAN if cost is None else cost for cost in costs]])
        share = self._share(record.design, None, self.tally.of(records))
        price = known.seconds([record.design], np.array([share]))
        if known.improvement([record.design], told)[0] / price[0] >= rival:
            return None
        words = " and ".join(display(o.name, c) for o, c in zip(self.objectives, costs, strict=True) if c is not None)
        return Reason("rung", f"before its training: at {words} others are worth more")

    def carried(self, records: Sequence[TrialRecord], record: TrialRecord) -> tuple[Quantity, ...]:
        """What was foreseen and found before a training, of the trial that a promotion goes on with."""
        parent = self.tally.of(records).records.get(record.parent) if record.parent is not None else None
        if parent is None:
            return ()
        return tuple(quantity for quantity in parent.quantities if quantity.name != RUNG_ACCURACY)

    def spares(self, number: int) -> bool:
        """Whether this trial is the one in ten that is evaluated although it is screened out."""
        return random.Random(f"spared-{self.recipe.seed}-{number}").randrange(SPARED) == 0

    def may_give_up(self, records: Sequence[TrialRecord], record: TrialRecord) -> bool:
        """Whether a trial may be screened out: what the sampler proposes, unless it insists."""
        return record.origin == "asked" and record.design.digest not in self.tally.of(records).screened

    def foresees(self, records: Sequence[TrialRecord], record: TrialRecord) -> bool:
        """Whether it is worth exporting and timing the untrained network first: trainings are dear enough, and the
        trial is of a new design."""
        if record.origin not in ("asked", "drawn") or record.spared:
            return False
        if self.gathers(records):
            return True  # they are to be compared at the rung
        tally = self.tally.of(records)
        if not tally.trainings:
            return False
        looks, trainings = (float(np.median(seconds)) for seconds in (tally.looks or [0.0], tally.trainings))
        return looks < FORESEEING_SHARE * trainings

    def gates(self, records: Sequence[TrialRecord], record: TrialRecord) -> tuple[int, ...]:
        """The rungs that a trial still has before it: none where its network is trained, or where it is to be kept."""
        tally = self.tally.of(records)
        trained = record.design.architecture_digest in tally.trained
        if record.origin not in ("asked", "drawn", "promotion") or record.spared or trained:
            return ()
        parent = tally.records.get(record.parent) if record.parent is not None else None
        done = (parent.epochs or 0) if record.origin == "promotion" and parent is not None else 0
        return tuple(epochs for epochs in self.rungs if epochs > done)

    def judge(self, records: Sequence[TrialRecord], record: TrialRecord, epochs: int) -> Reason | None:
        """Why a training ends at a rung; None where it goes on.

        Args:
            records: All that ended.
            record: The trial, with its accuracy at the rung.
            epochs: Of the rung.
        """
        accuracy = rung_accuracy(record, epochs)
        own = None if accuracy is None else at_rung(record, accuracy, self.objectives, self.recipe)
        if own is None:
            return None  # a cost is not known, so there is nothing to judge by
        at, of = display("accuracy", accuracy or 0.0), self.recipe.budget.epochs
        if epochs == self.rungs[0] and self.gathers(records):
            return Reason("rung", f"after {epochs} of {of} epochs: accuracy {at}, and others come so far first")
        if self.knowledge(records) is not None:
            return Reason("rung", f"after {epochs} of {of} epochs: accuracy {at}, and others may be worth more")
        there = self.tally.of(records).at_end(epochs, record, own)
        found = standing(record.number, there, self.maximise, self.recipe.guided.reduction, self.logs)
        if found.goes_on:
            return None
        return Reason("rung", f"after {epochs} of {of} epochs: place {found.place} of {found.among}, accuracy {at}")

    def gathers(self, records: Sequence[TrialRecord]) -> bool:
        """Whether trainings still wait for others at the first rung."""
        if not self.rungs or self.knowledge(records) is not None:
            return False
        return self.opening.gathers(records, len(self.tally.of(records).at_rung[self.rungs[0]]))

    def label(self, records: Sequence[TrialRecord], record: TrialRecord) -> str | None:
        """What the training of a trial starts from, as its record says it."""
        begun = self.tally.of(records).begun.get(record.design.architecture_digest)
        if begun is not None:
            return begun.inherits
        if not self.recipe.guided.inheritance and not self.finetunes:
            return None
        return inherited_label(record, records, self.recipe.guided.inheritance, self.finetunes)

    def _share(self, design: Design, parent: int | None, tally: Tally) -> float:
        """How much of its training a design is expected to be given, goes it on from a trial or not."""
        if design.architecture_digest in tally.trained:
            return 0.0
        return self._remaining_share(0 if parent is None else tally.records[parent].epochs or 0)

    def _remaining_share(self, done: int) -> float:
        """The share of a training that is gone through after so many epochs, if of those that come to each further rung
        one in ``reduction`` goes on."""
        ends = [end for end in (*self.rungs, self.recipe.budget.epochs) if end > done]
        steps = np.diff([done, *ends]) / self.recipe.budget.epochs
        return float((steps / self.recipe.guided.reduction ** np.arange(len(steps))).sum())

    def _costs_alike(self, design: Design, tally: Tally) -> list[float]:
        """The costs of a measured file that is shaped as a design's would be; NaN for qualities, and where none is."""
        alike = tally.shapes.get(shape(design))
        return [NAN if alike is None or o.maximise else alike.value(o.key) for o in self.objectives]

    def _costs(self, proposal: Proposal, by_number: Mapping[int, TrialRecord]) -> list[float]:
        """The objectives that are known of a proposal already: the costs of a stopped training; NaN for the others."""
        record = by_number[proposal.parent] if proposal.origin == "promotion" and proposal.parent is not None else None
        costs = []
        for objective in self.objectives:
            known = None if record is None or objective.maximise else known_cost(record, objective, self.recipe)
            costs.append(NAN if known is None else known)
        return costs
