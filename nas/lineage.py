"""What trainings started from: random weights, a relative's trained network, or the supernet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from nas.design import Design
from nas.errors import StudyError
from nas.networks import Inherits, Relative, Start
from nas.outcome import Outcome
from nas.record import TrialRecord

# What a record says of a training that started from the supernet's weights; else the number of a trial.
SUPERNET = "supernet"


class Giver(Protocol):
    """What gives a design's training its first weights; a supernet does."""

    def inherited(self, design: Design) -> Start: ...


def start_of(record: TrialRecord, records: Sequence[TrialRecord], giver: Giver | None) -> Inherits | None:
    """What the training of a recorded trial starts from; None for random weights.

    Raises:
        StudyError: It is of a supernet, or of a trial, that is not there any more.
    """
    if record.inherits is None:
        return None
    return _start(record, {other.number: other for other in records}, giver)


def _start(record: TrialRecord, by_number: Mapping[int, TrialRecord], giver: Giver | None) -> Inherits | None:
    if record.inherits is None:
        return None
    if record.inherits == SUPERNET:
        if giver is None:
            raise StudyError(f"trial {record.number} started from a supernet, which is not there")
        return giver.inherited(record.design)
    parent = by_number.get(int(record.inherits))
    if parent is None:
        raise StudyError(f"trial {record.number} started from trial {record.inherits}, which is not there")
    return Relative(parent.design, _start(parent, by_number, giver))


def inherited_label(
    record: TrialRecord, records: Sequence[TrialRecord], relatives: bool, finetunes: bool
) -> str | None:
    """What a new trial's training is to start from, as its record says it.

    Args:
        record: The trial.
        records: All that ended.
        relatives: Whether it starts from its nearest relative.
        finetunes: Whether members of the supernet start from its weights.
    """
    architecture = record.design.architecture_digest
    for other in records:
        begun = other.outcome in (Outcome.MEASURED, Outcome.STOPPED)
        if begun and other.design.architecture_digest == architecture:
            return other.inherits  # that network is trained, or begun: it is gone on with
    if finetunes and record.origin == SUPERNET:
        return SUPERNET
    trained = [other for other in records if other.outcome is Outcome.MEASURED]
    if not relatives or not trained:
        return None
    nearest = min(trained, key=lambda r: (_differences(r.design, record.design), -r.value("accuracy"), r.number))
    return str(nearest.number)


def _differences(one: Design, other: Design) -> int:
    """In how many choices two architectures differ; a choice that only one of them makes is a difference."""
    names = one.architecture.keys() | other.architecture.keys()
    return sum(one.architecture.get(name) != other.architecture.get(name) for name in names)
