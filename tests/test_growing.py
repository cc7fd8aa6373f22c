"""What is learned from records that come one by one is what all of them together tell."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import make_recipe, make_record
from large_study import large_recipe, make_records

from nas.front import hypervolume_history, pareto_front, reference_from
from nas.growing import Growing
from nas.outcome import Outcome
from nas.record import TrialRecord
from nas.search.asking import Seen
from nas.search.flat import GROWTH, UNSETTLED, Flatness
from nas.search.table import Table
from nas.search.tally import Tally
from nas.study import Standing, StudyFolder

RECIPE = large_recipe(1000)


@pytest.fixture(scope="module")
def records() -> list[TrialRecord]:
    return make_records(400, seed=2)


def learn(seen: list[int], records: Sequence[TrialRecord]) -> None:
    seen += [record.number for record in records]


def test_only_new_records_are_looked_at_wherever_they_stand() -> None:
    records = [make_record(number) for number in range(6)]
    growing: Growing[list[int]] = Growing(list, learn)
    assert growing.of(records[:3]) == [0, 1, 2]
    assert growing.of(records[:3]) == [0, 1, 2]
    assert growing.of([*records[:3], records[4]]) == [0, 1, 2, 4]
    assert growing.of([*records[:5]]) == [0, 1, 2, 4, 3], "3 ended after 4"


def test_it_starts_again_where_records_are_gone_or_are_others() -> None:
    records = [make_record(number) for number in range(4)]
    growing: Growing[list[int]] = Growing(list, learn)
    growing.of(records)
    assert growing.of(records[:2]) == [0, 1]
    assert growing.of([records[0], replace(records[1], notes=("measured anew",))]) == [0, 1]
    assert growing.of([]) == []


def test_what_is_half_learned_is_forgotten() -> None:
    def fragile(seen: list[int], records: Sequence[TrialRecord]) -> None:
        for record in records:
            if record.outcome is Outcome.FAILED:
                raise KeyError(record.number)
            seen.append(record.number)

    growing: Growing[list[int]] = Growing(list, fragile)
    records = [make_record(0), make_record(1, outcome=Outcome.FAILED)]
    with pytest.raises(KeyError):
        growing.of(records)
    assert growing.of(records[:1]) == [0]


def shuffled_a_little(records: Sequence[TrialRecord], seed: int) -> list[list[TrialRecord]]:
    """The lists of records that a search with several workers has, one after the other."""
    rng = random.Random(seed)
    ended = sorted(records, key=lambda record: record.number + rng.uniform(0, 6))
    return [sorted(ended[:count], key=lambda record: record.number) for count in range(1, len(ended) + 1)]


def test_the_order_in_which_trials_end_does_not_matter(records: list[TrialRecord]) -> None:
    seen, tally = Growing(Seen, Seen.learn), Growing(lambda: Tally(RECIPE), Tally.learn)
    for some in shuffled_a_little(records, 1):
        found, told = seen.of(some), tally.of(some)
    whole, all_told = Seen(), Tally(RECIPE)
    whole.learn(records)
    all_told.learn(records)
    assert (found.settled, found.tried, found.given_up) == (whole.settled, whole.tried, whole.given_up)
    assert found.best is whole.best
    for record in records:
        assert found.trials(record.design.digest) == whole.trials(record.design.digest)
    mine, others = vars(told), vars(all_told)
    # Compressions are named by numbers in the order in which they come.
    gains, whole_gains = mine.pop("gains"), others.pop("gains")
    numbers, whole_numbers = mine.pop("compressions"), others.pop("compressions")
    assert numbers.trials.tolist() == whole_numbers.trials.tolist()
    trials = numbers.trials
    for epochs in (*told.at_rung, 1):
        own, other = (
            one.expected(epochs, np.full(len(trials), -2.0), of.rows(trials)[:, 0])
            for one, of in ((gains, numbers), (whole_gains, whole_numbers))
        )
        # Of one architecture made-up trials differ at a rung, and the first counts; real ones do not.
        assert own == pytest.approx(other, abs=0.02, nan_ok=True)
    for name in ("misses", "trainings", "looks"):  # only their quantiles are asked for
        assert sorted_numbers(mine.pop(name)) == sorted_numbers(others.pop(name)), name
    differ = {name for name in mine if repr_of(mine[name]) != repr_of(others[name])}
    assert not differ


def sorted_numbers(numbers: object) -> object:
    if isinstance(numbers, dict):
        return {key: sorted(values) for key, values in numbers.items()}
    assert isinstance(numbers, list)
    return [sorted(part) for part in numbers] if numbers and isinstance(numbers[0], list) else sorted(numbers)


def repr_of(item: object) -> str:
    """A text that tells values apart, in which NaN is NaN, and order does not count."""
    if isinstance(item, Table):
        return repr([(trial, item.rows(np.array([trial])).tolist()) for trial in item.trials.tolist()])
    if isinstance(item, dict):
        return repr(sorted((repr(key), repr_of(value)) for key, value in item.items()))
    return repr(sorted(map(repr, item))) if isinstance(item, set) else repr(item)


def test_the_front_of_a_growing_study_is_that_of_all_trials(records: list[TrialRecord], tmp_path: Path) -> None:
    standing = Standing(StudyFolder(tmp_path), RECIPE)
    for some in shuffled_a_little(records, 2)[::7]:
        whole = pareto_front(some, RECIPE.parsed_objectives, RECIPE.parsed_constraints)
        assert standing.front(some) == whole


def test_flatness_is_found_from_few_trials_as_from_all(records: list[TrialRecord]) -> None:
    assert len(records) > 3 * UNSETTLED
    flatness = Flatness(RECIPE)
    for some in shuffled_a_little(records, 3)[::5]:
        assert flatness.seconds(some) == Flatness(RECIPE).seconds(some)
    assert flatness.seconds(records[:9]) == Flatness(RECIPE).seconds(records[:9]), "fewer than before"


def test_flatness_agrees_with_the_history_of_the_hypervolume(records: list[TrialRecord]) -> None:
    reference = reference_from(records, RECIPE.parsed_objectives)
    assert reference is not None
    grown = elapsed = last = 0.0
    history = hypervolume_history(records, reference, RECIPE.parsed_objectives, RECIPE.parsed_constraints)
    for record, (_, volume) in zip(records, history, strict=True):
        elapsed += record.seconds
        if volume > grown * (1 + GROWTH):
            grown, last = volume, elapsed
    assert Flatness(RECIPE).seconds(records) == elapsed - last
    assert Flatness(make_recipe()).seconds([]) == 0
