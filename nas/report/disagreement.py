"""How far FLOPs, and estimates made from them, order a study's designs as the clock does, and where they do not.

FLOPs have many ties: they are counted before quantisation, so all bit widths of a network share them.

Reads records alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from nas.outcome import How, Quantity
from nas.record import TrialRecord
from nas.report.agreement import FLOPS, LEAST_DESIGNS, Agreement, kendall_tau, signed, within
from nas.report.categories import precision
from nas.report.columns import latency_targets
from nas.report.differences import difference_words, differences
from nas.study import Study
from nas.wording import ESTIMATES, display, listing, percent, plural, significant, times

WORST = 5
MOST_APPEARANCES = 2  # of a trial among the worst, as long as there are others


@dataclass(frozen=True)
class Point:
    """A measured design: its FLOPs, at least 1, and its latency on a target, greater than 0."""

    record: TrialRecord
    flops: float
    latency: Quantity

    @property
    def number(self) -> int:
        return self.record.number

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the latency; its value twice where it has none."""
        low, high = self.latency.low, self.latency.high
        value = self.latency.value
        return min(value, value if low is None else low), max(value, value if high is None else high)


@dataclass(frozen=True)
class Disagreement:
    """Two designs of which the one with fewer FLOPs is slower, by more than both 95 % intervals."""

    fewer: Point
    more: Point

    @property
    def fewer_words(self) -> str:
        """``3.1× fewer FLOPs``; in per cent where that is less than a tenth."""
        ratio = self.more.flops / self.fewer.flops
        return _ratio_words(ratio, "fewer FLOPs", 1 - 1 / ratio)

    @property
    def slower_words(self) -> str:
        """``1.4× slower``; in per cent where that is less than a tenth."""
        ratio = self.fewer.latency.value / self.more.latency.value
        return _ratio_words(ratio, "slower", ratio - 1)

    @property
    def difference(self) -> str:
        """What sets the designs apart: ``sep 5×5 → 32 instead of conv 3×3 → 32``; may be empty."""
        return difference_words(self.fewer.record.design, self.more.record.design)

    @property
    def parts(self) -> tuple[str, str]:
        """What the one with fewer FLOPs has and the other lacks, and the reverse; each may be empty."""
        return differences(self.fewer.record.design, self.more.record.design)

    @property
    def numbers(self) -> str:
        """``1.20 M and 3.70 M FLOPs, 0.0312 and 0.0223 ms``."""
        flops = [display(FLOPS, point.flops) for point in (self.fewer, self.more)]
        latencies = [significant(point.latency.value) for point in (self.fewer, self.more)]
        return f"{' and '.join(flops)} FLOPs, {' and '.join(latencies)} ms"

    @property
    def words(self) -> str:
        """``trial 12 does 3.1× fewer FLOPs than trial 7, but is 1.4× slower: sep 5×5 instead of conv 3×3``."""
        claim = f"trial {self.fewer.number} does {self.fewer_words} than trial {self.more.number}"
        return f"{claim}, but is {self.slower_words}{': ' if self.difference else ''}{self.difference}"


@dataclass(frozen=True)
class Ranking:
    """A study's designs by FLOPs and by latency on one target.

    Args:
        target: What the latency was measured on.
        points: A point for each design, in the order of their trials.
        left_out: How many measured trials lack FLOPs or this latency.
        tau: Kendall's τ-b; None where ``why_not`` says why.
        pairs: How many pairs of designs differ in FLOPs, and in latency by more than both intervals.
        wrong: In how many of those the design with fewer FLOPs is the slower one.
        worst: At most five of those, the worst first.
        by_precision: Kendall's τ-b among designs of one precision, where there are several precisions.
        estimates: The agreement of each estimate that the trials carry.
        why_not: Why there is no τ, in words; empty where there is one.
    """

    target: str
    points: tuple[Point, ...]
    left_out: int
    tau: float | None
    pairs: int
    wrong: int
    worst: tuple[Disagreement, ...]
    by_precision: tuple[tuple[str, Agreement], ...]
    estimates: tuple[Agreement, ...]
    why_not: str = ""

    @property
    def key(self) -> str:
        return f"latency_ms@{self.target}"

    @property
    def agreements(self) -> tuple[Agreement, ...]:
        """FLOPs first, then the estimates."""
        return (Agreement(FLOPS, len(self.points), self.tau), *self.estimates)

    @property
    def summary(self) -> str:
        """One or two sentences: τ, and how many pairs FLOPs put in the wrong order; or why that cannot be said."""
        if self.tau is None:
            return self.why_not
        said = f"Kendall's τ of FLOPs and latency is {signed(self.tau)} over {plural(len(self.points), 'design')}"
        if not self.pairs:
            return f"{said}; no two designs of different FLOPs differ in latency by more than their intervals."
        if not self.wrong:
            return f"{said}: FLOPs put none of {plural(self.pairs, 'pair')} in the wrong order."
        share = percent(self.wrong / self.pairs, 0 if self.wrong >= 0.01 * self.pairs else 2)
        return f"{said}: FLOPs put {self.wrong:,} of {plural(self.pairs, 'pair')} in the wrong order ({share} %)."

    @property
    def short(self) -> list[str]:
        """The summary and the worst disagreement, a line each."""
        return [self.summary, *(f"For example, {pair.words}." for pair in self.worst[:1])]

    @property
    def precision_words(self) -> str:
        """τ among designs of one precision, in a sentence; empty where there is only one, or none with enough."""
        said = [
            f"{name} {signed(one.tau)} ({plural(one.designs, 'design')})"
            for name, one in self.by_precision
            if one.tau is not None
        ]
        return f"τ among designs of one precision, which FLOPs do not see: {listing(said)}." if said else ""

    @property
    def left_out_words(self) -> str:
        """How many measured trials are not compared; empty where all are."""
        return f"Without FLOPs or latency here: {plural(self.left_out, 'measured trial')}." if self.left_out else ""


_RANKINGS: WeakKeyDictionary[Study, list[Ranking]] = WeakKeyDictionary()


def rankings(study: Study) -> list[Ranking]:
    """A ranking for each target that was measured: that of the first latency objective first.

    Of trials of the same design the first counts. Targets of the recipe that no trial was measured on are left out,
    unless there is no other. They are reckoned once for a study that was opened: page, picture and terminal all ask.
    """
    if study not in _RANKINGS:
        _RANKINGS[study] = _rankings(study)
    return _RANKINGS[study]


def _rankings(study: Study) -> list[Ranking]:
    measured = study.measured
    found = [q.target for record in measured for q in record.quantities if q.target and _is_latency(q)]
    asked = latency_targets(study)
    targets = list(dict.fromkeys([*(target for target in asked if target in found), *found])) or asked[:1]
    return [_ranking(measured, target) for target in targets]


def _is_latency(quantity: Quantity) -> bool:
    return quantity.name == "latency_ms" and quantity.how is How.MEASURED and quantity.value > 0


def _ranking(measured: Sequence[TrialRecord], target: str) -> Ranking:
    found = list(_points(measured, f"latency_ms@{target}"))
    first: dict[str, Point] = {}
    for point in found:
        first.setdefault(point.record.design.digest, point)
    points = tuple(first.values())
    flops, latencies = [point.flops for point in points], [point.latency.value for point in points]
    tau = kendall_tau(flops, latencies)
    pairs, wrong = _pairs(points) if tau is not None else (0, [])
    return Ranking(
        target,
        points,
        len(measured) - len(found),
        tau,
        pairs,
        len(wrong),
        tuple(_worst(points, wrong)),
        tuple(_by_precision(points)) if tau is not None else (),
        tuple(_estimates(points, target)),
        _why_not(points),
    )


def _points(records: Iterable[TrialRecord], key: str) -> Iterator[Point]:
    for record in records:
        flops, latency = record.quantity(FLOPS), record.quantity(key)
        if flops is not None and flops.value >= 1 and latency is not None and _is_latency(latency):
            yield Point(record, flops.value, latency)


def _why_not(points: Sequence[Point]) -> str:
    if len(points) < LEAST_DESIGNS:
        needed = f"at least {LEAST_DESIGNS} are needed"
        return f"Too few designs to compare FLOPs with latency: {len(points)} with both, {needed}."
    if len({point.flops for point in points}) == 1:
        same = display(FLOPS, points[0].flops)
        return f"All {len(points)} designs have the same FLOPs ({same}), which therefore cannot rank them."
    if len({point.latency.value for point in points}) == 1:
        return f"All {len(points)} designs have the same latency: there is no order to compare FLOPs with."
    return ""


def _pairs(points: Sequence[Point]) -> tuple[int, list[tuple[int, int]]]:
    """How many pairs differ in FLOPs and clearly in latency, and those in which fewer FLOPs are slower, worst first.

    How wrong a pair is: log(ratio of FLOPs) · log(ratio of latencies), so that both count, whatever their units.

    Returns:
        The number of pairs; positions of the point with fewer FLOPs and of the one with more.
    """
    flops = np.array([point.flops for point in points])
    latency = np.array([point.latency.value for point in points])
    low, high = np.array([point.interval for point in points]).T
    fewer = flops[:, None] < flops[None, :]
    slower = fewer & (low[:, None] > high[None, :])
    faster = fewer & (high[:, None] < low[None, :])
    first, second = np.nonzero(slower)
    badness = np.log(flops[second] / flops[first]) * np.log(latency[first] / latency[second])
    order = np.argsort(-badness, kind="stable")
    wrong = [(int(a), int(b)) for a, b in zip(first[order], second[order], strict=True)]
    return int(slower.sum() + faster.sum()), wrong


def _worst(points: Sequence[Point], wrong: Sequence[tuple[int, int]]) -> list[Disagreement]:
    """The worst pairs, a trial in two of them at most; more of the same trials only where there are no others."""
    chosen: list[tuple[int, int]] = []
    seen: Counter[int] = Counter()
    for pair in wrong:
        if len(chosen) == WORST:
            break
        if all(seen[index] < MOST_APPEARANCES for index in pair):
            chosen.append(pair)
            seen.update(pair)
    others = (pair for pair in wrong if pair not in chosen)
    chosen += [pair for pair, _ in zip(others, range(WORST - len(chosen)), strict=False)]
    return [Disagreement(points[a], points[b]) for a, b in chosen]


def _by_precision(points: Sequence[Point]) -> Iterator[tuple[str, Agreement]]:
    """The agreement within each precision, the most frequent first; nothing where there is only one."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(precision(point.record.design), []).append(point)
    if len(groups) > 1:
        for name, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
            tau = kendall_tau([point.flops for point in group], [point.latency.value for point in group])
            yield name, Agreement(FLOPS, len(group), tau)


def _estimates(points: Sequence[Point], target: str) -> Iterator[Agreement]:
    """The agreement of each estimate with the latency, over the designs that carry it."""
    for name in ESTIMATES:
        found = [(point.record.quantity(f"{name}@{target}"), point.latency.value) for point in points]
        pairs = [(q.value, latency) for q, latency in found if q is not None and q.how is How.ESTIMATED]
        if pairs:
            estimated, measured = zip(*pairs, strict=True)
            yield Agreement(name, len(pairs), kendall_tau(estimated, measured), within(estimated, measured))


def _ratio_words(ratio: float, what: str, share: float) -> str:
    """``3.1× slower``, or in per cent below 1.1: ``4.2 % slower``."""
    if ratio < 1.1:
        return f"{significant(100 * share, 2, zeros=False)} % {what}"
    return times(ratio, what, what, what)
