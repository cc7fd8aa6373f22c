"""What a comparison of searches says in words and in numbers; see ``search_efficiency.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from benchmarks.efficiency_analysis import Curve, Reached, mean_time, ratio, time_to
from benchmarks.efficiency_runs import Run

from nas.wording import plural

MOST_PARTS = 6


@dataclass(frozen=True)
class Result:
    """What came of one run.

    Args:
        run: The run.
        scored: Its hypervolume as the search saw it.
        trained: That of its fronts trained again, which takes its time.
        reached: When ``trained`` was at the target.
        searched: When the search had the front for it, training it again not included.
    """

    run: Run
    scored: Curve
    trained: Curve
    reached: Reached
    searched: Reached


def by_variant(found: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each variant, in the order in which variants come first."""
    groups: dict[str, list[Result]] = {}
    for result in found:
        groups.setdefault(result.run.variant, []).append(result)
    return groups


def report(found: Sequence[Result], share: float, aims: Mapping[str, float], levels: Sequence[float] = ()) -> bool:
    """Prints all of it.

    Args:
        found: What came of each run.
        share: Of the best front: the target.
        aims: By plain loop the greatest ratio of our time to its.
        levels: Further hypervolumes to tell the time to, of which nothing is aimed at.

    Returns:
        Whether every ratio that can be had is as aimed at.
    """
    groups = by_variant(found)
    for variant, results in groups.items():
        print(f"\n{variant}: {cost_words(results)}")
        print(
            f"  at the end: hypervolume {median(result.scored.last for result in results):.4f} as scored, "
            f"{median(result.trained.last for result in results):.4f} trained again"
        )
        print(f"  seconds to {share:.0%}: {times_words([result.reached for result in results])}")
        print(f"  without training again: {times_words([result.searched for result in results])}")
    for level in levels:
        print_level(groups, level, list(aims))
    met = True
    for variant in (name for name, results in groups.items() if results[0].run.is_ours):
        for other, aim in aims.items():
            pairs = paired(groups[variant], groups.get(other, []))
            if pairs:
                met = print_ratio(variant, other, pairs, aim) and met
    return met


def print_level(groups: Mapping[str, Sequence[Result]], level: float, others: Sequence[str]) -> None:
    """Prints the times to a hypervolume, training again included, and how many times those of others ours are."""
    print(f"\nseconds to a hypervolume of {level:g}")
    for variant, results in groups.items():
        print(f"  {variant}: {times_words([time_at(result, level) for result in results])}")
    for variant in (name for name, results in groups.items() if results[0].run.is_ours):
        for other in others:
            if pairs := paired(groups[variant], groups.get(other, [])):
                ours, theirs = ([time_at(result, level) for result in side] for side in zip(*pairs, strict=True))
                found = ratio(ours, theirs, np.random.default_rng(0))
                print(f"  time of {variant} / time of {other}: {found.words()}")


def time_at(result: Result, level: float) -> Reached:
    """When a run's fronts trained again had a hypervolume."""
    return time_to(result.trained, level, result.run.horizon())


def cost_words(results: Sequence[Result]) -> str:
    """How many trials the runs of one variant had, what a network cost, and what the time went into."""
    lines = [line for result in results for line in result.run.lines() if line["seconds"] <= result.run.horizon()]
    outcomes = Counter(line.get("outcome", "failed" if "error" in line else "measured") for line in lines)
    measured = sum("accuracy" in line for line in lines)
    searched = sum(result.run.horizon() for result in results)
    parts: Counter[str] = Counter()
    for line in lines:
        parts.update(line["parts"])
    return (
        f"{plural(len(results), 'run')}, {measured / len(results):.0f} networks measured in each, one in "
        f"{searched / max(1, measured):.1f} s; {', '.join(f'{count} {name}' for name, count in outcomes.most_common())}"
        f"\n  time went into {', '.join(f'{n} {s / searched:.0%}' for n, s in parts.most_common(MOST_PARTS))}"
    )


def times_words(times: Sequence[Reached]) -> str:
    """Every time, and their mean."""
    each = ", ".join(f"{'> ' if time.censored else ''}{time.seconds:.0f}" for time in times)
    return f"{each}; geometric mean {mean_time(times, np.random.default_rng(0)).words()}"


def paired(ours: Sequence[Result], others: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Results of one seed each."""
    by_seed = {result.run.seed: result for result in others}
    return [(result, by_seed[result.run.seed]) for result in ours if result.run.seed in by_seed]


def print_ratio(variant: str, other: str, pairs: Sequence[tuple[Result, Result]], aim: float) -> bool:
    """Prints how many times the other's time ours is, with and without training again; whether it is as aimed at."""
    rng = np.random.default_rng(0)
    found = ratio([ours.reached for ours, _ in pairs], [plain.reached for _, plain in pairs], rng)
    alone = ratio([ours.searched for ours, _ in pairs], [plain.searched for _, plain in pairs], rng)
    met = found.bound in ("", "at most") and found.value <= aim
    print(
        f"\ntime of {variant} / time of {other}, {plural(len(pairs), 'seed')}: {found.words()}; aim: at most {aim:g}, "
        f"{'met' if met else 'missed'}\n  without training again: {alone.words()}"
    )
    return met


def as_json(found: Sequence[Result], best: float) -> dict[str, Any]:
    """The numbers behind the picture."""
    return {
        "best": best,
        "runs": [
            {
                "variant": result.run.variant,
                "seed": result.run.seed,
                "reached": result.reached.__dict__,
                "searched": result.searched.__dict__,
                "scored": pairs_of(result.scored),
                "trained": pairs_of(result.trained),
            }
            for result in found
        ],
    }


def pairs_of(curve: Curve) -> list[tuple[float, float]]:
    """Seconds and hypervolume."""
    return list(zip(curve.seconds.tolist(), curve.volumes.tolist(), strict=True))
