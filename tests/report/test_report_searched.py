"""Every table, file and picture of a guided study shows results alone; what was given up is listed and not drawn."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from fakes import LATENCY, TARGET, make_record, write_study
from foresight_fakes import EPOCHS, every_kind, foreseen, guided_study, measured, screened, stopped
from rich.console import Console
from test_report_page import Page, field

from nas.outcome import How, Outcome, Quantity
from nas.proxies import results
from nas.report.files import front_csv, front_json
from nas.report.page import render_page
from nas.report.payload import page_data
from nas.report.picture import View
from nas.report.table import front_table
from nas.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return guided_study(tmp_path_factory.mktemp("searched"))


@pytest.fixture(scope="module")
def page(study: Study) -> Page:
    return Page(render_page(study))


def without_proxies(study: Study, folder: Path) -> Study:
    """The same study, without anything that was known of a trial before its end."""
    records = [dataclasses.replace(record, quantities=results(record)) for record in study.records]
    return write_study(folder / "guided", records, study.recipe)


def test_files_of_the_front_are_as_if_nothing_had_been_foreseen(study: Study, tmp_path: Path) -> None:
    plain = without_proxies(study, tmp_path)
    assert any(quantity.how is How.PROXY for record in study.front for quantity in record.quantities)
    assert front_csv(study) == front_csv(plain)
    assert front_json(study) == front_json(plain)
    assert "predicted" not in front_json(study).replace('"sampler": "predictor"', "")


def test_a_proxy_of_a_real_name_stays_out_of_the_files(tmp_path: Path) -> None:
    lies = (
        Quantity("load_ms", 777.0, "ms", How.PROXY, target=TARGET),
        Quantity("latency_ms", 777.0, "ms", How.PROXY, target="onnxruntime-cpu-2t-b1"),
    )
    study = write_study(tmp_path / "s", [make_record(0, quantities=lies)])
    assert "777" not in front_csv(study)
    assert "777" not in front_json(study)
    assert next(csv.DictReader(io.StringIO(front_csv(study))))[f"load_ms@{TARGET}"] == ""
    assert field(Page(render_page(study)), page_data(study)["trials"][0], "foreseen")[0][1] == "777 ms"


def test_the_terminal_table_is_as_if_nothing_had_been_foreseen(study: Study, tmp_path: Path) -> None:
    printed = []
    for one in (study, without_proxies(study, tmp_path)):
        console = Console(width=80, color_system=None)
        with console.capture() as capture:
            console.print(front_table(one))
        printed.append(capture.get())
    assert printed[0] == printed[1]
    assert max(map(len, printed[0].splitlines())) <= 80


def test_only_measured_trials_are_drawn(study: Study) -> None:
    view = View.of(study)
    assert {record.outcome for record in [*view.shown, *view.barred]} == {Outcome.MEASURED}


def test_the_page_keeps_proxies_apart_and_in_words(study: Study, page: Page) -> None:
    data = page.data
    keys = {kind["key"] for kind in data["quantities"]}
    assert not [key for key in keys if key.startswith(("predicted", "proxy", "rung", "inherited"))]
    for row, record in zip(data["trials"], study.records, strict=True):
        own = results(record)
        shown = [data["quantities"][packed[0]]["key"] for packed in field(page, row, "quantities")]
        assert shown[: len(own)] == [quantity.key for quantity in own]
        apart = field(page, row, "foreseen")
        assert len(apart) == len(record.quantities) - len(own)
        assert all(isinstance(words, str) for _, words, _ in apart)


def facts(page: Page, number: int) -> list[tuple[str, str, str]]:
    row = next(row for row in page.data["trials"] if row[0] == number)
    texts = page.data["texts"]
    return [(texts[title], words, texts[about]) for title, words, about in field(page, row, "foreseen")]


def test_a_card_says_what_was_known_and_where_the_trial_comes_from(study: Study, page: Page) -> None:
    texts = page.data["texts"]
    rows = {row[0]: row for row in page.data["trials"]}
    first, second = [record for record in study.records if record.outcome is Outcome.STOPPED]
    assert ("accuracy after 2 epochs", "81.23 %", "of the float network, at a rung") in facts(page, first.number)
    assert ("file size", "44.4 kB", "of the untrained network") in facts(page, first.number)
    assert texts[field(page, rows[second.number], "epochs")] == f"6 of {EPOCHS} epochs"
    for record in study.records:
        row = rows[record.number]
        assert field(page, row, "parent") == record.parent
        assert field(page, row, "spared") == int(record.spared)
        if record.outcome is not Outcome.STOPPED:
            assert field(page, row, "epochs") is None
    promoted = next(record for record in study.records if record.origin == "promotion")
    assert texts[field(page, rows[promoted.number], "origin")] == "a training that was stopped, and goes on"


def test_what_was_given_up_is_listed_but_is_no_failure(page: Page) -> None:
    text = " ".join(page.text.split())
    failures = text.partition("What was not possible, and why")[2].partition("All trials")[0]
    assert "constraint" in failures
    assert "at best 87.00 %" not in failures
    assert "place 7 of 9" not in failures
    assert "Screened 8" in text
    assert "Stopped 2" in text
    assert "(51 measured, 1 duplicate, 2 infeasible, 8 screened, 2 stopped and 1 failed)" in text


def test_the_page_says_how_well_the_search_foresaw(study: Study, page: Page) -> None:
    text = " ".join(page.text.split())
    assert "How well the search foresaw" in text
    assert "8 trials were screened out, which saved 8 of 59 trainings (14 %)." in text
    assert "over 24 networks (95 % interval" in text
    assert "the front of an earlier study" in text.partition("Where the time went")[2]
    accuracy, latency = page.data["foreseen"]
    assert (accuracy["key"], latency["key"]) == ("accuracy", LATENCY)
    by_number = {record.number: record for record in study.records}
    assert len(accuracy["trials"]) == 46
    for at, number in enumerate(accuracy["trials"]):
        predicted = by_number[number].quantity("predicted_accuracy")
        assert predicted is not None
        assert accuracy["predicted"][at] == pytest.approx(predicted.value, rel=1e-5)
        assert accuracy["low"][at] == pytest.approx(predicted.low, rel=1e-5)
        assert accuracy["high"][at] == pytest.approx(predicted.high, rel=1e-5)
        assert accuracy["spared"][at] == int(by_number[number].spared)


def ids(page: Page) -> set[Any]:
    return {attributes.get("id") for _, attributes in page.elements}


def test_without_predictions_there_is_no_such_section(tmp_path: Path) -> None:
    page = Page(render_page(write_study(tmp_path / "plain", [measured(n, 0.9, 0.1) for n in range(3)])))
    assert not ids(page) & {"foreseen", "foreseen-title"}
    assert page.data["foreseen"] == []
    assert "Where the time went" in page.text
    assert "measured and" not in page.text.partition("sampled by")[0]


def test_what_was_screened_without_a_measured_prediction_has_words_and_no_plot(tmp_path: Path) -> None:
    page = Page(render_page(write_study(tmp_path / "few", [measured(0, 0.9, 0.1), screened(1)])))
    assert "foreseen-title" in ids(page)
    assert "foreseen" not in ids(page)
    assert "None was spared" in page.text


def test_too_few_predictions_are_said_to_be_too_few(tmp_path: Path) -> None:
    records = [measured(n, 0.9, 0.1, quantities=foreseen(0.9, 0.1)) for n in range(9)]
    page = Page(render_page(write_study(tmp_path / "few", records)))
    assert "9 trials with a prediction, too few to tell how good it is (at least 10 are needed)" in page.text


@pytest.mark.parametrize("records", [[screened(0)], [stopped(0, 2)], [screened(0), stopped(1, 6)]])
def test_a_study_of_nothing_but_what_was_given_up(tmp_path: Path, records: list) -> None:
    study = write_study(tmp_path / "none", records)
    page = Page(render_page(study))
    assert "was measured; the list of all trials says why." in page.text
    assert "What was not possible" not in page.text
    assert page.data["front"] == []
    assert json.loads(front_json(study))["trials"]["total"] == len(records)


def test_the_hand_made_study_has_every_origin_of_the_docs() -> None:
    origins = {record.origin for record in every_kind()}
    docs = {"asked", "baseline", "first", "prior", "warm", "drawn", "unseen", "fan", "promotion", "supernet"}
    assert origins == docs
