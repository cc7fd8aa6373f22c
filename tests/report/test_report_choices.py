"""The page's parts about choices and about what was not possible, as HTML."""

from __future__ import annotations

import dataclasses
import json
import random
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fakes import LATENCY, make_recipe, make_record
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from neighbours import neighbours

from nas import report
from nas.design import Design
from nas.outcome import Outcome, Reason
from nas.record import TrialRecord
from nas.report.choices import MOST_SHOWN, choice_sections, sections_of, template_values
from nas.space import load_space
from nas.study import Study, StudyFolder

EVIL = "<img src=x onerror=alert(1)>"
PARTIALS = ("partials/choices.html.j2", "partials/not_possible.html.j2")
VOID = {"br", "img", "input", "meta", "link", "hr"}


class Fragment(HTMLParser):
    """A piece of HTML whose tags must nest: its elements, its text, and how often each tag occurs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


def rendered(study: Study) -> Fragment:
    environment = Environment(
        loader=FileSystemLoader(Path(report.__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    values = template_values(study)
    return Fragment("".join(environment.get_template(name).render(**values) for name in PARTIALS))


def study_of(records: list[TrialRecord]) -> Study:
    return Study(StudyFolder(Path("nowhere")), make_recipe(), records)


@pytest.fixture(scope="module")
def study() -> Study:
    """Neighbours in a small space, of which width and convolution decide; and some that fit no network."""
    rng, space = random.Random(0), load_space("convnet-small")
    designs = neighbours(space, 120, rng)
    records = []
    for number, design in enumerate(designs):
        width = design.architecture["stem.width"]
        assert isinstance(width, int)
        faster = 0.6 if design.architecture["stage1.conv"] == "separable" else 1
        latency = 0.01 * width * faster * rng.lognormvariate(0, 0.05)
        records.append(make_record(number, rng.uniform(0.8, 0.9), latency, design=design))
    records += [make_record(len(designs) + n, outcome=Outcome.INFEASIBLE) for n in range(3)]
    return study_of(records)


@pytest.fixture(scope="module")
def fragment(study: Study) -> Fragment:
    return rendered(study)


def test_what_was_found_is_on_the_page(study: Study, fragment: Fragment) -> None:
    sections = sections_of(study)
    assert sections.matched.summary in fragment.text
    for comparison in sections.matched.comparisons:
        assert comparison.what in fragment.text
        assert comparison.effects[0].amount in fragment.text
    for one in sections.importance.objectives:
        assert one.summary in fragment.text
    assert "Of 123 trials: 3 infeasible." in fragment.text


def test_all_comparisons_are_there_but_not_all_open(study: Study, fragment: Fragment) -> None:
    sections = sections_of(study)
    assert len(sections.sure) > MOST_SHOWN
    assert len(sections.sure) + len(sections.unsure) == len(sections.matched.comparisons)
    assert f"{len(sections.sure) - MOST_SHOWN} more" in fragment.text
    assert fragment.text.count(" beside ") == len(sections.matched.comparisons)


def test_every_table_has_a_caption_and_every_heading_a_scope(fragment: Fragment) -> None:
    assert len(fragment.all("caption")) == len(fragment.all("table")) > 3
    assert all(heading.get("scope") in ("row", "col") for heading in fragment.all("th"))
    scrolled = [attributes for attributes in fragment.all("div") if attributes.get("class") == "scroll"]
    assert all(attributes.get("tabindex") == "0" and attributes.get("aria-label") for attributes in scrolled)


def test_ids_are_there_once_and_what_refers_to_them_finds_them(fragment: Fragment) -> None:
    ids = [attributes["id"] for _, attributes in fragment.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["aria-labelledby"] for attributes in fragment.all("section")} <= set(ids)


def test_trials_open_their_cards(fragment: Fragment) -> None:
    buttons = fragment.all("button")
    assert buttons
    assert all(b.get("type") == "button" and str(b.get("data-open")).isdigit() for b in buttons)


def test_what_a_bar_shows_is_also_told(study: Study, fragment: Fragment) -> None:
    bars = [attributes for attributes in fragment.all("span") if str(attributes.get("class")).startswith("bar")]
    assert len(bars) == sum(len(one.choices) for one in sections_of(study).importance.objectives)
    assert all(attributes.get("aria-hidden") == "true" for attributes in bars)


def test_few_trials_say_that_they_are_few() -> None:
    fragment = rendered(study_of([make_record(n) for n in range(3)]))
    assert "needs at least 15 measured trials; 3 trials were measured." in fragment.text
    assert "What was not possible" not in fragment.text


def test_an_empty_study_has_nothing_to_compare() -> None:
    fragment = rendered(study_of([]))
    assert "0 measured trials: nothing to compare." in fragment.text


def test_names_and_messages_with_html_are_escaped() -> None:
    designs = [Design("convnet", {EVIL: f"{EVIL}{n}", "width": w}, {}) for n in range(2) for w in range(10)]
    records = [make_record(n, 0.9 - n / 100, 0.1 + n, design=design) for n, design in enumerate(designs)]
    bad = dataclasses.replace(make_record(50, outcome=Outcome.FAILED), reason=Reason(EVIL, EVIL))
    fragment = rendered(study_of([*records, bad]))
    assert fragment.all("img") == []
    assert EVIL in fragment.text


def test_the_payload_is_json(study: Study) -> None:
    data = json.loads(json.dumps(choice_sections(study), allow_nan=False))
    assert set(data) == {"importance", "matched_pairs", "adjusted", "not_possible", "not_possible_summary"}
    assert data["importance"]["objectives"][1]["key"] == LATENCY
    assert data["not_possible"][0]["count"] == 3


def test_choices_without_enough_pairs_are_adjusted_and_say_so() -> None:
    """Random designs of a large space hardly ever differ in one choice alone."""
    rng, space = random.Random(0), load_space("convnet-small")
    records = []
    for number in range(150):
        design = space.sample(rng)
        width = design.architecture["stem.width"]
        assert isinstance(width, int)
        records.append(make_record(number, rng.uniform(0.8, 0.9), 0.01 * width, design=design))
    study = study_of(records)
    sections, fragment = sections_of(study), rendered(study)
    assert "stem.width" in {row.choice for row in sections.regression.rows}
    assert {row.choice for row in sections.regression.rows}.isdisjoint({row.choice for row in sections.sure})
    assert "Adjusted, where pairs are too few" in fragment.text
    assert sections.regression.summary in fragment.text
    assert len(fragment.all("caption")) == len(fragment.all("table"))
