"""One earlier study as a new search sees it: what of its trials can be used, and what they teach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from nas.choice import Choice, same_value
from nas.compression import split_name, value_of
from nas.design import IDENTITY, Design, Value
from nas.errors import StudyError, SurrogateError
from nas.front import pareto_front
from nas.objectives import Objective
from nas.recipe import Recipe
from nas.record import TrialRecord
from nas.space import SearchSpace
from nas.study import Study
from nas.surrogate.encode import Column, Encoding
from nas.surrogate.outlook import Outlook
from nas.wording import listing, plural

# So many designs of earlier fronts are tried first.
FIRST = 5
# With fewer trials than this nothing is learned from a study beside its front.
FEWEST = 5
# So many of the values that are not offered here are named.
NAMED = 4

Row = Mapping[str, Value]
Cues = Callable[[Sequence[Row]], np.ndarray]


class Earlier:
    """One earlier study as this search sees it."""

    def __init__(self, study: Study, name: str, space: SearchSpace, recipe: Recipe) -> None:
        self.study = study
        self.name = name
        self.space = space
        self.recipe = recipe
        self.problems: list[str] = []
        family = study.measured[0].design.family
        if family != space.family:
            raise StudyError(
                f"{name} is of family '{family}', but search space '{space.name}' of '{space.family}': their designs "
                "have nothing in common",
                f"name a study of a '{space.family}' space, or leave it out",
            )
        self.groups = _groups(study.measured)
        shared = [choice for choice in space.choices if self.groups.get(choice.name) == choice.group]
        self.shared = {choice.name: choice for choice in shared}
        used = {r.number: r for r in study.measured if not list(self._not_offered(r.design))}
        self.used = list(used.values())
        if not any(len(choice.values) > 1 for choice in shared):
            raise StudyError(
                f"{name} has no choice in common with search space '{space.name}'",
                f"its choices are {', '.join(self.groups)}; leave it out",
            )

    def first(self) -> list[Design]:
        """Designs of its front as designs of this space, at most ``FIRST``, evenly along it."""
        recipe = self.study.recipe
        front = pareto_front(self.used, recipe.parsed_objectives, recipe.parsed_constraints)
        chosen = sorted({round(place) for place in np.linspace(0, len(front) - 1, min(FIRST, len(front)))})
        return list(dict.fromkeys(self._projected(front[place].design) for place in chosen))

    def cues(self) -> Cues | None:
        """What its trials teach; None where that is nothing."""
        found = {o.key: key for o in self.recipe.parsed_objectives if (key := self._key_of(o)) is not None}
        if missing := [o.key for o in self.recipe.parsed_objectives if o.key not in found]:
            self.problems.append(f"it tells nothing of {listing(missing)}")
        records = [r for r in self.used if all(r.quantity(key) is not None for key in found.values())]
        if not found or len(records) < FEWEST:
            count = plural(len(records), "trial")
            self.problems.append(f"{count} are too few to learn from, so only its front is used")
            return None
        columns = self._columns(records)
        encoding = Encoding(columns)

        def encoded(rows: Iterable[Row]) -> np.ndarray:
            return np.asarray(encoding.encode([self._row(row, columns) for row in rows]))

        values = np.array([[record.value(key) for key in found.values()] for record in records])
        maximise = [Objective.parse(key).maximise for key in found]
        try:
            x = encoded(_flat(record.design) for record in records)
            outlook = Outlook.fit(x, values, maximise, seed=self.recipe.seed)
        except SurrogateError as error:
            self.problems.append(f"no surrogate could be fitted to it ({error.message}), so only its front is used")
            return None

        def predicted(rows: Sequence[Row]) -> np.ndarray:
            return np.asarray(outlook.predict(encoded(rows)).mean) if rows else np.zeros((0, len(found)))

        return predicted

    def words(self) -> str:
        """What was used and what was dropped, in a line."""
        parts = [f"{len(self.used)} of {plural(len(self.study.measured), 'trial')} used"]
        dropped = Counter(words for r in self.study.measured for words in self._not_offered(r.design))
        if dropped:
            parts[0] += f", as this space does not offer {_some(list(dropped))}"
        if theirs := [name for name in self.groups if name not in self.shared and self._varies(name)]:
            parts.append(f"{_some(theirs)} {'is' if len(theirs) == 1 else 'are'} not in this space")
        if ours := [c.name for c in self.space.choices if c.name not in self.shared and len(c.values) > 1]:
            parts.append(f"it tells nothing of {_some(ours)}")
        if taken := self._taken_instead():
            parts.append(f"not offered here: {_some(taken)}")
        return f"{self.name}: {'; '.join([*parts, *self.problems])}"

    def _varies(self, name: str) -> bool:
        """Whether its trials differ in a choice, one that does not have it being unlike the others."""
        return len({repr(_flat(record.design).get(name)) for record in self.study.measured}) > 1

    def _key_of(self, objective: Objective) -> str | None:
        """The key of its quantity of an objective's kind: on the same target, else on the first that it has."""
        keys = [q.key for q in self.used[0].quantities if q.name == objective.name]
        return objective.key if objective.key in keys else next(iter(keys), None)

    def _not_offered(self, design: Design) -> Iterator[str]:
        """The values of a design that this space neither offers nor has a nearest number for."""
        for name, value in _flat(design).items():
            choice = self.shared.get(name)
            if choice is not None and _nearest(choice.values, value) is None:
                yield f"{name} {_shown(value)}"

    def _taken_instead(self) -> list[str]:
        """The numbers that its trials have and this space does not offer, with those that designs of it get here."""
        found: dict[str, None] = {}
        for record in self.used:
            for name, value in _flat(record.design).items():
                if name in self.shared:
                    nearest = _nearest(self.shared[name].values, value)
                    if nearest is not None and not same_value(nearest, value):
                        found[f"{name} {_shown(value)} ({_shown(nearest)} taken)"] = None
        return sorted(found)

    def _projected(self, design: Design) -> Design:
        """The design of this space that is most like another: what it does not say is the baseline's, or left out."""
        given = _flat(design)
        base = {} if self.space.baseline is None else _flat(self.space.baseline)

        def pick(choice: Choice) -> Value:
            wanted = [given[choice.name]] if choice.name in given and choice.name in self.shared else []
            if choice.group == "compression":
                wanted.append(IDENTITY[split_name(choice.name)[1]])
            elif choice.name in base:
                wanted.append(base[choice.name])
            nearest = (_nearest(choice.values, value) for value in wanted)
            return next((value for value in nearest if value is not None), choice.values[0])

        return self.space.choose(pick)

    def _columns(self, records: Sequence[TrialRecord]) -> tuple[Column, ...]:
        """The choices that its surrogate sees, with all values that they have here or there."""
        rows = [self._completed(_flat(record.design)) for record in records]
        columns = []
        for name, group in self.groups.items():
            choice = self.shared.get(name)
            if choice is None and group == "architecture":
                continue
            offered = choice.values if choice is not None else ()
            left_out = (IDENTITY[split_name(name)[1]],) if group == "compression" else ()
            seen = tuple(row[name] for row in rows if name in row)
            values = _distinct([*offered, *left_out, *seen])
            ordered = all(_is_number(value) for value in values)
            may_lack = choice is not None and group == "architecture" and bool(choice.when)
            conditional = may_lack or len(seen) < len(rows)
            if len(values) > 1:
                columns.append(
                    Column(
                        name,
                        values=tuple(sorted(values, key=float)) if ordered else values,
                        ordered=ordered,
                        conditional=conditional,
                    )
                )
        return tuple(columns)

    def _completed(self, values: Row) -> dict[str, Value]:
        """A design's choices with all compression that is open there: what is not named is left out, hence known."""
        row = dict(values)
        for name, group in self.groups.items():
            if group == "compression" and name not in row:
                stage, choice = split_name(name)
                row[name] = value_of(values, choice, stage)
        return row

    def _row(self, values: Row, columns: Sequence[Column]) -> dict[str, Value]:
        """A design's choices as its surrogate sees them; what it has never heard of is told as the nearest number."""
        completed = self._completed(values)
        known = {column.name: _nearest(column.values or (), completed.get(column.name)) for column in columns}
        return {name: value for name, value in known.items() if value is not None}


def _flat(design: Design) -> dict[str, Value]:
    return {**design.architecture, **design.compression}


def _groups(records: Sequence[TrialRecord]) -> dict[str, str]:
    """The choices that trials have, in the order of their names, and their groups."""
    architecture = {name for record in records for name in record.design.architecture}
    compression = {name for record in records for name in record.design.compression}
    return dict.fromkeys(sorted(architecture), "architecture") | dict.fromkeys(sorted(compression), "compression")


def _nearest(values: Sequence[Value], wanted: Value | None) -> Value | None:
    """The spelling that values have of one, else the number among them that is closest to it, else None."""
    for value in values:
        if same_value(value, wanted):
            return value
    if wanted is None or not _is_number(wanted) or not all(_is_number(value) for value in values):
        return None
    return min(values, key=lambda value: abs(float(value) - float(wanted)), default=None)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _distinct(values: Sequence[Value]) -> tuple[Value, ...]:
    """The values without those that mean the same as an earlier one."""
    found: list[Value] = []
    for value in values:
        if not any(same_value(value, other) for other in found):
            found.append(value)
    return tuple(found)


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _some(words: Sequence[str]) -> str:
    """A list in words, shortened where it is long."""
    if len(words) <= NAMED:
        return listing(words)
    return f"{', '.join(words[: NAMED - 1])} and {len(words) - NAMED + 1} more"
