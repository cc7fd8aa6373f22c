"""Fans: the further compressions of networks that are trained already.

A trained network serves every compression of its architecture, so these cost no training but what the compression
itself trains. Which of them is worth its time is for the surrogates to say; here is what there is.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from nas.choice import combinations
from nas.compression import TRAINED_OTHERWISE, choices_made, split_name
from nas.design import Design, Value
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.space import SearchSpace

# Of an architecture with more compressions than this, so many drawn at random.
MOST_COMPRESSIONS = 400
# So many compressions are remembered at most; those of architectures that nobody asks for go first.
REMEMBERED = 12_000


# An architecture and some of its compression, or what comes of it.
Shape = tuple[str, frozenset[tuple[str, Value | bytes]]]


class Trained:
    """The networks that a study has, pruned and fine-tuned ones too: a design of one of them needs no training if only
    its bits are others.

    Args:
        records: All trials.
    """

    def __init__(self, records: Sequence[TrialRecord]) -> None:
        measured = [record.design for record in records if record.outcome is Outcome.MEASURED]
        self.networks = {_network(design) for design in measured}
        self.networks |= {
            (design.architecture_digest, frozenset()) for design in measured
        }  # what they were pruned from

    def serves(self, design: Design) -> bool:
        """Whether the design costs no training."""
        trains_itself = any(design.everywhere("quantisation_aware")) or design.everywhere("weight_sharing") != ("none",)
        return not trains_itself and _network(design) in self.networks


def _network(design: Design) -> Shape:
    """What the float network depends on that is exported: the architecture, and all compression before that."""
    after = {"weight_bits", "activation_bits", "calibration", "quantisation_aware", "weight_sharing", "codebook_bits"}
    before = {(name, value) for name, value in choices_made(design.compression) if split_name(name)[1] not in after}
    return design.architecture_digest, frozenset(before)


def shape(design: Design) -> Shape:
    """What a design's file is like as far as its costs go: trained otherwise, or pruned as much by another criterion,
    it costs about the same."""
    kept = {(name, v) for name, v in choices_made(design.compression) if split_name(name)[1] not in TRAINED_OTHERWISE}
    return design.architecture_digest, frozenset(kept)


def files(designs: Sequence[Design]) -> list[Shape]:
    """What the files of N designs depend on, as far as choices tell: all of them."""
    return [(design.digest, frozenset()) for design in designs]


class Fans:
    """Compressions of the space, by architecture.

    Args:
        space: What designs are of.
        seed: Of the draws, where there are too many to go through.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space = space
        self.seed = seed
        self._known: OrderedDict[str, list[Design]] = OrderedDict()
        self._count = 0

    def unseen(
        self, records: Sequence[TrialRecord], seen: Collection[str], teacher: bool
    ) -> list[tuple[TrialRecord, Design]]:
        """Every compression of a trained network that is not among the digests seen, with a trial that trained it.

        Args:
            records: All trials.
            seen: Digests of designs that are not asked again.
            teacher: Whether there is somebody to learn from; without, no design that is distilled.
        """
        return list(self._of(_trained_networks(records).values(), seen, teacher))

    def most_promising(
        self,
        trained: Mapping[str, TrialRecord],
        seen: Collection[str],
        teacher: bool,
        most: int,
        best_first: Callable[[], Iterable[TrialRecord]],
    ) -> list[tuple[TrialRecord, Design]]:
        """As ``unseen``, but where there are more than ``most`` only so many, of the first architectures.

        A long study has hundreds of thousands, so those that are left out are not even made.

        Args:
            trained: For every architecture that was trained to its end, by digest, the first trial that did so.
            seen: Digests of designs that are not asked again.
            teacher: Whether there is somebody to learn from.
            most: How many at most.
            best_first: The measured trials from most to least promising.
        """
        if len(trained) * MOST_COMPRESSIONS > most:
            first = list(islice(self._of(_ordered(trained, best_first()), seen, teacher), most + 1))
            if len(first) > most:
                return first[:most]
        in_order = sorted(trained.values(), key=lambda record: record.number)
        return list(self._of(in_order, seen, teacher))

    def _of(
        self, trained: Iterable[TrialRecord], seen: Collection[str], teacher: bool
    ) -> Iterator[tuple[TrialRecord, Design]]:
        for record in trained:
            for design in self._compressions(record.design):
                if design.digest not in seen and (teacher or not design.step("distillation")):
                    yield record, design

    def _compressions(self, design: Design) -> list[Design]:
        key = design.architecture_digest
        if key not in self._known:
            self._known[key] = list(self._enumerated(design))
            self._count += len(self._known[key])
            while self._count > REMEMBERED and len(self._known) > 1:
                self._count -= len(self._known.popitem(last=False)[1])
        self._known.move_to_end(key)
        return self._known[key]

    def _enumerated(self, design: Design) -> Iterator[Design]:
        fixed = [
            replace(choice, values=(design.architecture[choice.name],))
            if choice.name in design.architecture
            else choice
            for choice in self.space.choices
            if choice.group == "compression" or choice.name in design.architecture
        ]
        listed = list(islice(combinations(fixed), MOST_COMPRESSIONS + 1))
        if len(listed) <= MOST_COMPRESSIONS:
            yield from (self.space.design(chosen) for chosen in listed)
            return
        drawn = random.Random(f"{self.seed}-{design.architecture_digest}")
        architecture = dict(design.architecture)
        yield from {
            self.space.choose(lambda choice: architecture.get(choice.name, drawn.choice(choice.values))): None
            for _ in range(MOST_COMPRESSIONS)
        }


def _ordered(trained: Mapping[str, TrialRecord], trials: Iterable[TrialRecord]) -> Iterator[TrialRecord]:
    """The first trial of every architecture, those first whose architecture comes first among some trials."""
    given = set()
    for record in trials:
        if (digest := record.design.architecture_digest) not in given:
            given.add(digest)
            yield trained[digest]


def _trained_networks(records: Sequence[TrialRecord]) -> dict[str, TrialRecord]:
    """For every architecture that was trained to its end, by digest, the first trial that did so."""
    trained: dict[str, TrialRecord] = {}
    for record in records:
        if record.outcome is Outcome.MEASURED:
            trained.setdefault(record.design.architecture_digest, record)
    return trained
