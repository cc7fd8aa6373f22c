"""The end of a search: whom the turns bring onto the front is scored and told; should they fail, no score is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_measurer import FakeMeasurer, make_dataset, measured_study, one_hot
from fakes import LATENCY
from search_fakes import Listener

from nas.errors import MeasureError
from nas.record import write_record
from nas.search.confirm import confirm
from nas.study import Study
from nas.target import Target

DATASET = make_dataset()
# In the search trial 4 seemed to take 0.42 ms; its file takes 0.25 ms, and is less accurate than trial 3.
TRIALS = {0: (0.80, 0.5), 1: (0.85, 0.1), 2: (0.90, 0.2), 3: (0.95, 0.4), 4: (0.92, 0.25)}


class Device(FakeMeasurer):
    """Runs models elsewhere, so that nothing here loads them."""

    on_this_machine = False


def right(content: bytes, target: Target, images: np.ndarray) -> np.ndarray:
    return one_hot(DATASET.test.labels)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    study = measured_study(tmp_path / "study", TRIALS)
    study.folder.test_scores.unlink()
    record = study.record(4)
    seen = [
        replace(q, value=0.42, high=None, detail={**q.detail, "unstable": True}) if q.key == LATENCY else q
        for q in record.quantities
    ]
    write_record(study.folder.trials, replace(record, quantities=tuple(seen)))
    return study.folder.path


def confirmed(path: Path, measurer: Device) -> tuple[Study, list[str]]:
    heard = Listener()
    pipeline: Any = SimpleNamespace(store=Study.open(path).store)
    return confirm(path, pipeline, DATASET, measurer, heard), heard.notes


def test_who_joins_by_its_turns_is_told_and_scored_and_nobody_twice(path: Path) -> None:
    measurer = Device(outputs=right)
    study, notes = confirmed(path, measurer)
    assert [record.number for record in study.front] == [1, 2, 4, 3]
    assert notes == ["timed in turns: joined the front: trial 4"]
    assert sorted(study.test_scores) == [0, 1, 2, 3, 4]
    assert sorted(entry[1] for entry in measurer.log if entry[0] == "outputs") == [0, 1, 2, 3, 4]
    assert confirmed(path, Device(outputs=right))[1] == [], "it is there already"


def test_who_leaves_by_its_turns_is_told_and_has_no_score(path: Path) -> None:
    study, notes = confirmed(path, Device(outputs=right, noise={1: (2.1,)}))
    assert notes == ["timed in turns: joined the front: trial 4", "timed in turns: left the front: trial 1"]
    assert sorted(study.test_scores) == [0, 2, 3, 4]
    study, notes = confirmed(path, Device(outputs=right))
    assert notes == ["timed in turns: joined the front: trial 1"]
    assert sorted(study.test_scores) == [0, 1, 2, 3, 4]


def test_turns_that_fail_cost_no_scores(path: Path) -> None:
    class Gone(Device):
        def turns(self, *_: Any, **__: Any) -> Any:
            raise MeasureError("the device is gone", "start it again")

    with pytest.raises(MeasureError, match="gone"):
        confirmed(path, Gone(outputs=right))
    assert sorted(Study.open(path).test_scores) == [0, 1, 2, 3]
