"""Warm starts: what a search takes from earlier studies, of other data, another target or another space.

Two things are taken. The best designs of an earlier study are among the first that are tried here. And all its measured
trials teach a surrogate, whose predictions are *cues* for the surrogates of this search: a design that was accurate
there is likely to be among the accurate ones here, whatever the numbers; how far that holds is learned from this
study's own trials. No value of an earlier study is ever taken for one of this.

What overlaps counts: choices of the same name in the same group. A compression choice that is open there alone stands
at the value that leaves it out, as that is what designs here do; one of architecture is left out of account. So is any
that is open here alone. Numbers need not be the same, since the surrogate learns their order; other values must be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.design import Design, sha256_of
from nas.recipe import Recipe
from nas.search.earlier import FIRST, Cues, Earlier
from nas.space import SearchSpace
from nas.study import Study


@dataclass(frozen=True)
class Warm:
    """What is taken from earlier studies.

    Args:
        first: Designs of this space to try first, those of the cheapest members of the earlier fronts first.
        cues: Gives N×K predictions for N designs as rows (their active choices); None where nothing was learned.
        notes: What was used and what was dropped, in words.
        digests: Of what was read of each study.
    """

    first: tuple[Design, ...]
    cues: Cues | None
    notes: tuple[str, ...]
    digests: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Of all that was read."""
        return sha256_of(list(self.digests))


def load_warm(paths: Sequence[Path], space: SearchSpace, recipe: Recipe) -> Warm:
    """Reads earlier studies.

    Args:
        paths: Their folders; one that is named twice is read once.
        space: What is to be searched.
        recipe: For what.

    Raises:
        StudyError: There is no study, it is damaged, of another family, or has no choice in common with the space.
    """
    fronts: list[list[Design]] = []
    learned: list[Cues] = []
    notes: list[str] = []
    digests: list[str] = []
    for path in dict.fromkeys(path.resolve() for path in paths):
        study = Study.open(path)
        digests.append(_digest(study))
        name = _name(next(given for given in paths if given.resolve() == path))
        if not study.measured:
            notes.append(f"{name}: nothing was measured there, so nothing is taken from it")
            continue
        earlier = Earlier(study, name, space, recipe)
        if earlier.used:
            fronts.append(earlier.first())
            if (cues := earlier.cues()) is not None:
                learned.append(cues)
        notes.append(earlier.words())
    first = list(dict.fromkeys(design for turn in _turns(fronts) for design in turn))[:FIRST]
    return Warm(tuple(first), _joined(learned), tuple(notes), tuple(digests))


def _turns(fronts: Sequence[Sequence[Design]]) -> Iterator[list[Design]]:
    """A design of each front, then a second of each, …; of one front all that may be needed."""
    for place in range(max(map(len, fronts), default=0)):
        yield [front[place] for front in fronts if place < len(front)]


def _joined(learned: Sequence[Cues]) -> Cues | None:
    if not learned:
        return None
    return lambda rows: np.concatenate([cues(rows) for cues in learned], axis=1)


def _name(path: Path) -> str:
    """The study as messages name it: the end of its path."""
    return "/".join(path.parts[-2:])


def _digest(study: Study) -> str:
    """Of the designs and numbers of a study's measured trials."""
    return sha256_of([[r.number, r.design.digest, {q.key: q.value for q in r.quantities}] for r in study.measured])
