"""Which design comes next: what a study begins with, what the guide finds worth most, what the sampler proposes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from nas.compression import leaves_out
from nas.design import Design, Value
from nas.growing import Growing
from nas.lineage import start_of
from nas.outcome import Outcome
from nas.pipeline import AnyTeacher, Teacher
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.search.guide import Guide
from nas.search.optuna_bridge import Asked, Bridge
from nas.search.samplers import STARTUP_TRIALS
from nas.space import SearchSpace, identities
from nas.teacher.given import GivenTeacher

# After so many designs in a row that were seen before, one that was not is drawn at random.
REPEATS_IN_A_ROW = 5
# Draws until the search for an unseen design in a nearly exhausted space goes through all of it.
RANDOM_DRAWS = 1000
# So many proposals are looked at for one that is new where a choice is not open yet.
PROPOSALS = 5
# How often a design is tried that fails for a cause that is not its own.
TRIED = 3


class Asking:
    """Asks for one search.

    Args:
        bridge: The sampler.
        recipe: Whose seed draws.
        space: Where designs come from.
        starts: Designs to begin with, after the space's own, with their origins.
        guide: Weighs proposals; None where the sampler's is taken as it comes.
        given: The teacher that the recipe names, if any.
    """

    def __init__(
        self,
        bridge: Bridge,
        recipe: Recipe,
        space: SearchSpace,
        starts: Sequence[tuple[Design, str]] = (),
        guide: Guide | None = None,
        given: GivenTeacher | None = None,
    ) -> None:
        self.bridge = bridge
        self.recipe = recipe
        self.space = space
        self.starts = list(starts)
        self.guide = guide
        self.given = given
        self._seen = Growing(Seen, Seen.learn)

    def seen(self, records: Sequence[TrialRecord]) -> Seen:
        """What became of designs in these trials."""
        return self._seen.of(records)

    def next(self, records: Sequence[TrialRecord], pending: Sequence[Design] = ()) -> Asked:
        """The next design, of which a trial is started.

        Args:
            records: All trials that ended.
            pending: What is being evaluated at this moment.
        """
        if (start := self._start(records, pending)) is not None:
            design, origin = start
            return self.bridge.ask(fixed=self.space.flat(design), origin=origin)
        last = records[-REPEATS_IN_A_ROW:]
        repeats = len(last) == REPEATS_IN_A_ROW and all(record.outcome is Outcome.DUPLICATE for record in last)
        if repeats and (unseen := self._unseen(records, pending)) is not None:
            return self.bridge.ask(fixed=self.space.flat(unseen), origin="unseen")
        distils = any(choice.name == "distillation" and len(choice.values) > 1 for choice in self.space.choices)
        # With nobody to learn from yet that choice is not open.
        fixed: dict[str, Value] = {"distillation": False} if distils and self.teacher(records) is None else {}
        if self.guide is None:
            return self.bridge.ask(fixed=fixed or None)
        if self.guide.insight.gathers(records):
            # So that it is networks that are compared.
            fixed |= {name: value for name, value in identities(self.space).items() if leaves_out(name, value)}

        def proposed() -> Design:
            seen = self.seen(records).tried | {design.digest for design in pending}
            passed: list[Design] = []
            for attempt in range(PROPOSALS):
                whole = self.bridge.propose(attempt, passed=passed)
                design = self.space.completed({**self.space.flat(whole), **fixed})
                if not fixed or design.digest not in seen:
                    break
                passed.append(whole)  # with what is fixed it is one that was tried
            return design

        chosen = self.guide.choosing.choose(records, proposed, self.teacher(records) is not None, pending)
        return self.bridge.ask(fixed=self.space.flat(chosen.design), origin=chosen.origin, parent=chosen.parent)

    def teacher(self, records: Sequence[TrialRecord]) -> AnyTeacher | None:
        """The given one; else the trained float network of the most accurate trial so far, the earlier of equals."""
        if self.given is not None:
            return self.given
        if self.guide is not None and self._first_teacher_is_to_come(records):
            return None  # what there is by then is too small to teach
        if (best := self.seen(records).best) is None:
            return None
        giver = self.guide.insight.shared if self.guide is not None else None
        return Teacher(best.number, best.design, start_of(best, records, giver))

    def _first_teacher_is_to_come(self, records: Sequence[TrialRecord]) -> bool:
        """Whether the baseline will be the first good teacher; others teach where it never comes."""
        assert self.guide is not None
        opening = self.guide.insight.opening
        if not opening.baseline_waits(records):
            return False
        measured = sum(record.outcome is Outcome.MEASURED for record in records)
        return not opening.baseline_is_left_out(records) or measured < STARTUP_TRIALS

    def _start(self, records: Sequence[TrialRecord], pending: Sequence[Design]) -> tuple[Design, str] | None:
        """The next of the designs that space, prior and others start with, and its origin; None where all were tried.

        One that a full disk or a killed process ended is tried again.
        """
        busy = {design.digest for design in pending}
        tried = self.seen(records).tried
        waits = self.guide is not None and self.guide.insight.opening.baseline_waits(records)
        own: list[tuple[Design | None, str]] = [
            (None if waits else self.space.baseline, "baseline"),
            *((design, "first") for design in self.space.first),
        ]
        for design, origin in [*own, *self.starts]:
            if design is not None and design.digest not in tried and design.digest not in busy:
                if design.step("distillation") and self.teacher(records) is None:
                    continue
                return design, origin
        return None

    def _unseen(self, records: Sequence[TrialRecord], pending: Sequence[Design]) -> Design | None:
        """A design that no trial had, drawn at random; then one that was given up; None where all were evaluated."""
        busy = {design.digest for design in pending}
        seen = self.seen(records).tried | busy
        draw = random.Random(f"{self.recipe.seed}-{len(records)}")
        taught = self.teacher(records) is not None
        for _ in range(RANDOM_DRAWS):
            design = self.space.sample(draw)
            if design.digest not in seen and (taught or not design.step("distillation")):
                return design
        for passed in (seen, self.seen(records).settled | busy):
            rest = (d for d in self.space.designs() if d.digest not in passed)
            if (left := next((d for d in rest if taught or not d.step("distillation")), None)) is not None:
                return left
        return None


class Seen:
    """What became of designs, by digest; see ``nas.growing``.

    Attributes:
        settled: Designs that were evaluated to the end: not given up untrained, nor failed for no fault of theirs; and
            those that failed so often for causes that seemed not to be theirs that they are let be.
        tried: Designs that need no other try, though they were perhaps only screened out.
        given_up: Those that are let be.
        trials: The trials of a design, in no order.
        best: The most accurate measured trial, the earlier of equals.
    """

    def __init__(self) -> None:
        self.settled: set[str] = set()
        self.tried: set[str] = set()
        self.given_up: set[str] = set()
        self.best: TrialRecord | None = None
        self._failed: Counter[str] = Counter()
        self._trials: dict[str, list[TrialRecord]] = {}

    def learn(self, records: Sequence[TrialRecord]) -> None:
        """Adds records."""
        for record in records:
            self._learn(record)

    def _learn(self, record: TrialRecord) -> None:
        digest = record.design.digest
        self._trials.setdefault(digest, []).append(record)
        if worth_another_try(record):
            self._failed[digest] += 1
            if self._failed[digest] >= TRIED:
                for designs in (self.given_up, self.settled, self.tried):
                    designs.add(digest)
            return
        self.tried.add(digest)
        if record.outcome not in (Outcome.SCREENED, Outcome.STOPPED, Outcome.DUPLICATE):
            self.settled.add(digest)
        if record.outcome is Outcome.MEASURED and record.quantity("accuracy") is not None:
            self.best = record if self.best is None or _better(record, self.best) else self.best

    def trials(self, digest: str) -> list[TrialRecord]:
        """The trials of a design, by number."""
        return sorted(self._trials.get(digest, ()), key=lambda record: record.number)


def _better(record: TrialRecord, other: TrialRecord) -> bool:
    """Whether a measured trial is more accurate, or as accurate and earlier."""
    return (record.value("accuracy"), -record.number) > (other.value("accuracy"), -other.number)


def worth_another_try(record: TrialRecord) -> bool:
    """Whether a trial failed for a cause that is not the design's."""
    return record.reason is not None and record.reason.transient
