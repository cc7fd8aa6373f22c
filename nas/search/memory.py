"""Where samplers look: the trials that ended, and the one that is being drafted."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.search.quiet import quiet

NAME = "search"


class Memory(InMemoryStorage):
    """A storage that shows samplers a list of trials, and takes the notes that they leave at the one they work on.

    That one, the draft, stands in no list, so a proposal leaves no trace. What samplers note at the study stays.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        super().__init__()
        with quiet():
            self.create_new_study(directions, NAME)
        self._shown: list[FrozenTrial] = []
        self._draft: FrozenTrial | None = None

    def study(self, shown: list[FrozenTrial], sampler: BaseSampler | None = None) -> optuna.Study:
        """A study of these trials, which stand at the positions of their numbers.

        Optuna's studies keep a list of trials for as long as one is sampled, so every proposal needs one of its own.
        """
        self._shown = shown
        return optuna.load_study(study_name=NAME, storage=self, sampler=sampler)

    @contextmanager
    def drafting(self, draft: FrozenTrial) -> Iterator[None]:
        """What samplers note at a trial is noted at this one meanwhile."""
        self._draft = draft
        try:
            yield
        finally:
            self._draft = None

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = [trial for trial in self._shown if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        assert self._draft is not None, "samplers leave notes at the trial that they work on alone"
        self._draft.system_attrs[key] = value


def blank(number: int) -> FrozenTrial:
    """A trial that starts now, without parameters."""
    return _made(number, TrialState.RUNNING, datetime.now(), None, {})


def lost(number: int) -> FrozenTrial:
    """What stands for a trial of which nothing is known: a failed one without parameters."""
    return _made(number, TrialState.FAIL, datetime.now(), datetime.now(), {})


def remembered(stored: FrozenTrial) -> FrozenTrial:
    """A trial as a storage had it; in memory its id is its number."""
    made = _made(stored.number, stored.state, stored.datetime_start, stored.datetime_complete, stored.system_attrs)
    made.params, made.distributions, made.user_attrs = stored.params, stored.distributions, stored.user_attrs
    made.values = stored.values
    return made


def _made(
    number: int, state: TrialState, start: datetime | None, complete: datetime | None, system_attrs: dict[str, Any]
) -> FrozenTrial:
    return FrozenTrial(number, state, None, start, complete, {}, {}, {}, system_attrs, {}, number)
