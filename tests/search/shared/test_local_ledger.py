"""The ledger of a study that one process owns: it takes up what was left, and tells nobody twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from search_fakes import fake_recipe, make_space
from shared_searcher import record_of

from nas.errors import StudyError
from nas.record import read_records
from nas.search.ledger import LocalLedger, original_of, with_records
from nas.search.optuna_bridge import Bridge
from nas.study import SHARED_FILE, StudyFolder


def open_ledger(path: Path) -> LocalLedger:
    folder = StudyFolder(path)
    folder.trials.mkdir(parents=True, exist_ok=True)
    ledger = LocalLedger(folder, Bridge(folder.storage, fake_recipe(), make_space()), read_records(folder.trials))
    ledger.start()
    return ledger


def test_a_trial_that_was_begun_is_an_orphan_of_the_next_start(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    assert ledger.orphans() == []
    first, second = (ledger.in_turn(ledger.bridge.ask) for _ in range(2))
    assert ledger.finished(record_of(ledger, first))
    again = open_ledger(tmp_path)
    assert again.orphans() == [second]
    assert again.orphans() == [], "each is given once"
    assert again.records == ledger.records
    assert again.in_turn(again.take_over) is None
    assert again.finished(record_of(again, second))
    assert open_ledger(tmp_path).orphans() == []


def test_a_record_that_the_sampler_has_not_heard_of_is_told(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    asked = ledger.bridge.ask()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ledger.bridge, "tell", lambda *_: None)
        assert ledger.finished(record_of(ledger, asked))
    again = open_ledger(tmp_path)
    assert again.bridge.heard(0)
    assert again.orphans() == []


def test_a_trial_whose_record_is_gone_is_evaluated_again_and_not_told_again(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    asked = ledger.bridge.ask()
    assert ledger.finished(record_of(ledger, asked))
    told = ledger.bridge.trials[0]
    (tmp_path / "trials" / "00000.json").unlink()
    again = open_ledger(tmp_path)
    assert again.orphans() == [asked]
    assert again.bridge.heard(0)
    before = again.bridge.trials[0]
    assert again.finished(record_of(again, asked))
    assert again.bridge.trials[0] is before
    assert before.values == told.values
    assert [record.number for record in again.records] == [0]


def test_a_folder_of_a_shared_study_is_refused(tmp_path: Path) -> None:
    open_ledger(tmp_path)
    (tmp_path / SHARED_FILE).write_text("{}")
    with pytest.raises(StudyError, match=r"several searchers share \(name its database with --storage"):
        open_ledger(tmp_path)


def test_of_two_records_of_a_number_the_later_counts(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    records = []
    for _ in range(3):
        records.append(record_of(ledger, ledger.bridge.ask()))
    assert with_records(records[1:], records[:2]) == records
    assert original_of(records[0], records) is None
